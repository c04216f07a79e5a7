"""Resuming in detail: what a kill must not cost, what a second run is told and how soon, and that a wrong resume would be seen."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fakes
import numpy as np
import pytest
import test_train_step as training

import tinykit
from tinykit import atomic
from tinykit.errors import ConfigError, Terminated
from tinykit.recipe import rundir
from tinykit.recipe.interrupt import StopFlag
from tinykit.recipe.runner import run
from tinykit.recipe.services import Services
from tinykit.steps import fitting
from tinykit.steps.train import Train

HERE = Path(__file__).resolve().parent
ROOT = Path(tinykit.__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def go(*overrides, services=None, **options):
    lines = []
    run(fakes.config(*overrides), "w", log=lines.append, services=services or fakes.FakeServices(), **options)
    return lines


def cli(*arguments):
    """tinykit.train where importing TensorFlow or Keras fails: what is told is told before."""
    for package in ("tensorflow", "keras"):
        Path("block", package).mkdir(parents=True, exist_ok=True)
        Path("block", package, "__init__.py").write_text("raise RuntimeError('imported too early')\n")
    env = {**os.environ, "PYTHONPATH": f"{Path('block').absolute()}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tinykit.train", "--config", "digits", "--workdir", "w", *arguments]
    begun = time.monotonic()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done, time.monotonic() - begun


def test_a_second_run_is_refused_before_tensorflow_is_imported():
    with rundir.RunDir(Path("w")):
        done, seconds = cli()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --workdir w: in use by another run (process {os.getpid()}); wait for it, or choose another\n"
    assert seconds < 20, "about a second on an idle machine"


def test_another_configuration_is_refused_before_tensorflow_is_imported():
    from tinykit.config.loading import load_config

    with rundir.RunDir(Path("w")) as held:
        held.begin(load_config("digits"), "command", quicktest=False)
        held.finish_step(0, "train", {"step": "train"})
    done, _ = cli("--set", "steps.train.epochs=5", "--seed=3")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --workdir w: was made with another configuration; choose another --workdir or delete it",
        "  seed: 0 before, 3 now",
        "  recipe[0].train.epochs: 60 before, 5 now",
    ]


def test_a_finished_run_is_shown_without_tensorflow():
    from tinykit.config.loading import load_config

    with rundir.RunDir(Path("w")) as held:
        held.begin(load_config("digits"), "command", quicktest=False)
        held.write_metrics({"budget_met": True})
        held.finish()
    done, _ = cli()
    assert done.returncode == 0 and "nothing to do: this run is complete" in done.stdout


def test_the_lock_names_its_holder_and_is_empty_afterwards():
    with rundir.RunDir(Path("w")):
        assert Path("w/lock").read_text() == f"{os.getpid()}\n"
    assert Path("w/lock").read_text() == ""


def test_unfinished_folders_go_with_unfinished_files():
    Path("w/engine/.tmp-7-abc").mkdir(parents=True)
    Path("w/engine/.tmp-7-abc/model.c").write_text("half")
    Path("w/.tmp-7-metrics.json").write_text("half")
    Path("w/kept").write_text("")
    atomic.remove_unfinished(Path("w"))
    assert sorted(str(p) for p in Path("w").rglob("*")) == ["w/engine", "w/kept"]


def test_unfinished_files_of_run_directories_inside_are_left_to_them():
    for file in ("w/search/trials/one/.tmp-8-model.keras", "w/search/.tmp-7-pareto.csv"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("half")
    with rundir.RunDir(Path("w"), inner="search/trials"):
        assert Path("w/search/trials/one/.tmp-8-model.keras").exists() and not Path("w/search/.tmp-7-pareto.csv").exists()


def test_a_quicktest_that_was_killed_at_once_does_not_mark_a_real_run():
    Path("w").mkdir()
    Path("w/QUICKTEST").write_text("")
    Path("w/env.json").write_text(json.dumps({"versions": {}}))
    assert not any("since this run began" in line for line in go())
    assert not Path("w/QUICKTEST").exists()
    go()


def test_another_number_of_cores_is_told(monkeypatch):
    class Stops(fakes.FakeServices):
        def finish(self, *arguments, **options):
            raise KeyboardInterrupt

    monkeypatch.setattr(rundir, "_usable_cores", lambda: 64)
    with pytest.raises(KeyboardInterrupt):
        go(services=Stops())
    monkeypatch.setattr(rundir, "_usable_cores", lambda: 2)
    assert any(line.startswith("note: this run began with 64 cores and has 2 now: ") for line in go())


def test_a_tool_that_the_same_sigterm_ended_is_no_error():
    stop = StopFlag()

    class Compiles(fakes.FakeServices):
        def finish(self, *arguments, **options):
            stop.ask()
            raise ConfigError("gcc failed with exit code -15")

    with pytest.raises(Terminated, match="ended by SIGTERM; the same command resumes"):
        go(services=Compiles(), stop=stop)


def test_missing_tools_are_told_before_the_first_step(monkeypatch):
    class NoCompiler(fakes.FakeServices):
        def check_tools(self):
            raise ConfigError("no compiler")

    go(services=NoCompiler())
    assert Path("calls.txt").exists(), "none of the steps makes an integer network: none is needed"
    Path("calls.txt").unlink()
    monkeypatch.setattr(fakes.Add, "makes_integers", True, raising=False)
    with pytest.raises(ConfigError, match="no compiler"):
        run(fakes.config(), "other", log=lambda line: None, services=NoCompiler())
    assert not Path("calls.txt").exists()


def test_equal_models_give_equal_keras_files(monkeypatch):
    keras = training.keras
    model = training.build()
    Services().save_step_model(model, Path("a.keras"))
    later = time.localtime(time.time() + 100_000)
    monkeypatch.setattr(time, "localtime", lambda *_: later)
    Services().save_step_model(model, Path("b.keras"))
    assert Path("a.keras").read_bytes() == Path("b.keras").read_bytes()
    x = np.random.default_rng(0).random((4, *model.input_shape[1:])).astype(np.float32)
    assert np.array_equal(keras.saving.load_model("a.keras").predict(x, verbose=0), model.predict(x, verbose=0))
    assert sorted(p.name for p in Path().iterdir()) == ["a.keras", "b.keras"]


def interrupted(folder, after=1):
    """A training that was stopped after an epoch, and what lets it go on: (model, options, context) -> its result as a file's bytes."""
    made, _ = training.context(folder)
    state = Path(folder, "checkpoint/state.json")
    made.show_progress = lambda *_, **__: made.stop.ask() if state.exists() and json.loads(state.read_text())["epoch"] >= after else None
    training.keras.backend.clear_session()  # names of layers begin anew, as in another process
    training.keras.utils.set_random_seed(9)
    with pytest.raises(Terminated):
        Train().run(training.build(), training.options(keep="last"), made)


def resumed(folder):
    training.keras.backend.clear_session()  # names of layers begin anew, as in another process
    training.keras.utils.set_random_seed(9)
    made, lines = training.context(folder)
    result = Train().run(training.build(), training.options(keep="last"), made)
    Services().save_step_model(result.model, Path(f"{folder}.keras"))
    return Path(f"{folder}.keras").read_bytes(), result.report, lines


def test_a_wrong_resume_is_seen(monkeypatch):
    """The comparison of the files is sharp enough: one weight that is off by its last bit, or other random numbers, and they differ."""
    whole, report, _ = resumed("whole")
    interrupted("right")
    assert resumed("right")[:2] == (whole, report)
    interrupted("weights")
    weights = next(Path("weights/checkpoint").glob("last-*.weights.h5"))
    h5py = pytest.importorskip("h5py")
    with h5py.File(weights, "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) and item.dtype == np.float32 else None)
        kernel = max((item for item in found if item.name.startswith("/layers")), key=lambda item: item.size)
        values = kernel[...]
        largest = np.abs(values).argmax()  # so that no update takes the last bit away again
        values.flat[largest] = np.nextafter(values.flat[largest], np.float32(9), dtype=np.float32)
        kernel[...] = values
    assert resumed("weights")[0] != whole
    interrupted("random")
    monkeypatch.setattr(fitting, "reseed", lambda model, seed, epoch: None)
    assert resumed("random")[0] != whole


def test_a_kill_after_the_last_epoch_does_not_cost_the_training():
    """Until the step's DONE is written, its last checkpoint stays: what it says of the training is what was said the first time."""
    whole, report, _ = resumed("s")
    again, second, lines = resumed("s")
    assert lines[0] == "goes on after epoch 3/3" and not [line for line in lines if line.startswith("epoch ")]
    assert (again, second) == (whole, report) and set(report["last_epoch"]) >= {"loss", "val_loss"}
