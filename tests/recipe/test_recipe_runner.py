"""The runner with fake steps: order, resume, refusals, clean ends, exit codes, the ledger and metrics.json."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes
import pytest

import tinykit
from tinykit import atomic
from tinykit.errors import ConfigError, DataError, ModelError, ParityError, TinykitError
from tinykit.recipe import rundir
from tinykit.recipe.console import Console
from tinykit.recipe.runner import blank_metrics, run

HERE = Path(__file__).resolve().parent
ROOT = Path(tinykit.__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lines():
    return []


def go(lines, *overrides, services=None, **options):
    return run(fakes.config(*overrides), "w", log=lines.append, services=services or fakes.FakeServices(), **options)


def calls():
    return Path("calls.txt").read_text().splitlines()


def hear_interrupts() -> None:
    """A shell that runs the tests in the background makes its children deaf to SIGINT; undoes that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments):
    command = [sys.executable, str(HERE / "run_fake.py"), *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts)


def finish(process):
    out, error = process.communicate(timeout=30)
    return process.returncode, out, error


def wait_for(file):
    deadline = time.monotonic() + 20
    while not Path(file).exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.02)


GOLDEN = """\
tinykit {version}  fake  seed 0  steps train, add  -> w
budget: flash 10.0 kB, RAM 5.0 kB
data: numbers from made up; train 4, val 4, test 4 samples; split sha256 abababababab  SYNTHETIC: scores mean nothing
step 1/2 train: by=0.25
  adds 0.25
done 1/2 train: test accuracy 37.50 %, 0.0 s
step 2/2 add: by=0.5
  adds 0.5
done 2/2 add: test accuracy 87.50 %, 0.0 s
outputs
step     test accuracy  int8 .tflite  RAM (est.)  MACs    seconds  budget (est.)
1 train  37.50 %        3.8 kB        2.0 kB      1.25 M  0.0      fits
2 add    87.50 %        8.8 kB        2.0 kB      1.25 M  0.0      fits
budget met: flash 8.8 kB (the .tflite alone) of 10.0 kB, RAM 2.0 kB (estimated) of 5.0 kB
done: w/report.html
"""


def test_plain_output(lines):
    go(lines)
    assert "\n".join(lines) + "\n" == GOLDEN.format(version=tinykit.__version__)


def test_the_run_directory(lines):
    go(lines, command="python -m tinykit.train --config fake")
    names = {str(p.relative_to("w")) for p in Path("w").rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    assert names == {
        "DONE", "command.txt", "config.resolved.yaml", "env.json", "inputs.json", "lock", "metrics.json", "metrics.jsonl",
        "model.keras", "report.html", "steps/01_train/DONE", "steps/01_train/model.keras", "steps/01_train/report.json",
        "steps/02_add/DONE", "steps/02_add/model.keras", "steps/02_add/report.json",
    }  # fmt: skip
    assert Path("w/command.txt").read_text() == "python -m tinykit.train --config fake\n"
    environment = json.loads(Path("w/env.json").read_text())
    assert set(environment) == {"versions", "platform", "machine", "cpu_count", "git"}
    assert environment["versions"]["tinykit"] == tinykit.__version__
    report = json.loads(Path("w/steps/02_add/report.json").read_text())
    assert report["report"] == {"by": 0.5}
    assert report["accuracy"] == 0.875
    records = [json.loads(line) for line in Path("w/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == ["train", "train", "add", "add"]
    assert records[0]["loss"] == 0.5
    assert records[0]["bad"] is None


def test_metrics_have_exactly_the_documented_keys(lines):
    metrics = go(lines, services=fakes.FakeServices(finish={"accuracy": {"integer": 0.875}, "parity": {"samples": 4}}))
    assert metrics == json.loads(Path("w/metrics.json").read_text())
    assert list(metrics) == list(blank_metrics())
    assert list(metrics) == [
        "task", "data", "accuracy", "parity", "flash", "ram", "macs", "instructions", "cycles", "board", "budget_met",
        "tflite_bytes", "seconds", "seed",
    ]  # fmt: skip
    assert metrics["data"] == {"source": "made up", "synthetic": True, "test_samples": 4}
    assert metrics["accuracy"] == {"float": 0.375, "integer": 0.875, "metric": "top1"}
    assert metrics["parity"]["tflm_vs_reference"] is None
    assert metrics["flash"] == {"total": None, "weights": None, "tables": None, "code": None}
    assert (metrics["macs"], metrics["tflite_bytes"], metrics["budget_met"]) == (1_250_000, 8750, True)
    assert set(metrics["seconds"]) == {"total", "train", "add", "outputs"}


def test_float_model_is_the_one_after_train(lines):
    go(lines)
    assert [line.split("float=")[1].split()[0] for line in calls()] == ["None", "0.375", "0.375"]


def test_a_model_file_is_the_float_model_from_the_start(lines):
    Path("m.keras").write_text("0.5")
    go(lines, "model.path=m.keras", "recipe=[add]")
    assert calls()[0].startswith("add seed=")
    assert [line.split("float=")[1].split()[0] for line in calls()] == ["0.5", "0.5"]
    assert json.loads(Path("w/metrics.json").read_text())["accuracy"]["float"] == 0.5
    assert any(line.startswith("note: model.path=m.keras") for line in lines)


def test_a_finished_run_is_not_run_again(lines):
    first = go(lines)
    before = calls()
    lines.clear()
    assert go(lines) == first
    assert calls() == before
    assert lines[-2] == "nothing to do: this run is complete (to make its outputs again, delete w/DONE)"
    assert lines[-1] == "done: w/report.html"
    assert lines[-4].startswith("1 train (done before)  37.50 %")


def test_a_finished_step_is_not_run_again(lines):
    with pytest.raises(ParityError):
        go(lines, services=fakes.FakeServices(parity="1 element differs"))
    Path("w/steps/02_add/DONE").unlink()
    Path("calls.txt").unlink()
    lines.clear()
    metrics = go(lines)
    assert [line.split()[0] for line in calls()] == ["add", "finish"]
    assert "resuming: train done before" in lines
    assert metrics["accuracy"]["float"] == 0.375
    assert calls()[0].split("float=")[1].startswith("0.375")


def test_steps_have_their_own_seeds_whether_resumed_or_not(lines):
    go(lines)
    whole = calls()
    Path("w/DONE").unlink()
    Path("w/steps/02_add/DONE").unlink()
    Path("calls.txt").unlink()
    go(lines)
    assert calls() == whole[1:]
    assert len({line.split("seed=")[1].split()[0] for line in whole[:2]}) == 2


def test_killed_between_and_inside_steps():
    arguments = ("w", "ok", "recipe=[{train: {}}, {dies: {}}, {add: {}}]")
    assert finish(start(*arguments))[0] == -signal.SIGKILL
    assert Path("w/steps/01_train/DONE").exists()
    assert not Path("w/steps/02_dies/DONE").exists()
    assert not Path("w/metrics.json").exists()
    code, out, error = finish(start(*arguments))
    assert (code, error) == (0, "")
    assert "resuming: train done before" in out
    assert [line.split()[0] for line in calls()] == ["train", "dies", "add", "finish"]
    assert not list(Path("w").rglob(".tmp-*"))


def test_another_configuration_is_refused_with_the_difference(lines):
    go(lines)
    with pytest.raises(ConfigError) as caught:
        go(lines, "steps.add.by=0.75", "seed=3", "recipe=[{train: {by: 0.25}}, {add: {}}, train]")
    assert caught.value.exit_code == 2
    assert caught.value.problems == [
        "--workdir w: was made with another configuration; choose another --workdir or delete it",
        "  seed: 0 before, 3 now",
        "  recipe[1].add.by: 0.5 before, 0.75 now",
        "  recipe[2].train.by: not given before, 0.25 now",
    ]


def test_a_directory_in_which_nothing_was_computed_takes_another_configuration(lines):
    class NoData(fakes.FakeServices):
        def load_dataset(self, *arguments, **options):
            raise DataError("no such file")

    with pytest.raises(DataError):
        go(lines, services=NoData(), quicktest=True)
    assert Path("w/QUICKTEST").exists()
    assert go(lines, "seed=3")["seed"] == 3
    assert not Path("w/QUICKTEST").exists()
    assert "seed: 3" in Path("w/config.resolved.yaml").read_text()


def test_other_data_are_taken_where_nothing_was_computed(lines):
    class NoModel(fakes.FakeServices):
        def build_model(self, *arguments):
            raise ModelError("does not fit the data")

    with pytest.raises(ModelError):
        go(lines, services=NoModel())
    go(lines, services=fakes.FakeServices(sha="cd" * 32))
    assert json.loads(Path("w/inputs.json").read_text())["data_sha256"] == "cd" * 32


def test_inputs_of_an_older_version_are_completed(lines):
    go(lines)
    Path("w/DONE").unlink()
    Path("w/inputs.json").write_text(json.dumps({"split_sha256": "ab" * 32, "model_sha256": None}))
    go(lines)
    assert json.loads(Path("w/inputs.json").read_text())["data_sha256"] == "ab" * 32


def test_text_that_the_terminal_cannot_show_does_not_end_the_run(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Console().line("runs/é")
    assert raw.getvalue() == b"runs/\\xe9\n"


def test_a_damaged_report_of_a_step_is_told(lines):
    go(lines)
    Path("w/DONE").unlink()
    Path("w/steps/02_add/report.json").write_text("{}")
    with pytest.raises(ConfigError, match="delete w/steps/02_add to run the step again"):
        go(lines)


def test_steps_are_asked_whether_the_model_suits_the_data(lines, monkeypatch):
    def check_task(self, model, options, context):
        raise ModelError(f"{context.label}: by {options.by}, {len(context.dataset.class_names)} classes")

    monkeypatch.setattr(fakes.Add, "check_task", check_task, raising=False)
    with pytest.raises(ModelError) as caught:
        go(lines)
    assert caught.value.problems == ["train: by 0.25, 2 classes", "add: by 0.5, 2 classes"]
    assert not Path("calls.txt").exists()


def test_quicktest_and_real_runs_do_not_mix(lines):
    metrics = go(lines, quicktest=True)
    assert metrics["quicktest"] is True
    assert Path("w/QUICKTEST").exists()
    assert lines[0].startswith("QUICKTEST")
    assert sum("QUICKTEST: a few samples" in line for line in lines) == 2
    assert "quicktest=True" in calls()[0]
    with pytest.raises(ConfigError, match="--quicktest: True before, False now"):
        go(lines)


def test_other_data_is_refused(lines):
    go(lines)
    Path("w/DONE").unlink()
    with pytest.raises(ConfigError, match="split_sha256: 'abab"):
        go(lines, services=fakes.FakeServices(sha="cd" * 32))


def test_another_model_file_is_refused(lines):
    Path("m.keras").write_text("0.5")
    go(lines, "model.path=m.keras")
    Path("m.keras").write_text("0.25")
    Path("w/DONE").unlink()
    with pytest.raises(ConfigError, match="model_sha256"):
        go(lines, "model.path=m.keras")


def test_a_second_run_in_one_directory_is_refused_at_once():
    first = start("w", "ok", "recipe=[slow]")
    try:
        wait_for("slow.txt")
        begun = time.monotonic()
        code, _, error = finish(start("w", "ok", "recipe=[slow]"))
        assert time.monotonic() - begun < 10
        assert code == 2
        assert error.startswith(f"error: --workdir w: in use by another run (process {first.pid})")
    finally:
        first.kill()
        first.communicate()
    with rundir.RunDir(Path("w")):
        pass


def test_sigterm_ends_with_143_and_the_same_command_resumes():
    process = start("w", "ok", "recipe=[train, slow]")
    wait_for("slow.txt")
    process.terminate()
    code, _, error = finish(process)
    assert (code, error) == (143, "error: ended by SIGTERM; the same command resumes\n")
    assert Path("w/steps/01_train/DONE").exists()
    assert not Path("w/metrics.json").exists()


def test_interrupt_ends_with_130():
    process = start("w", "ok", "recipe=[slow]")
    wait_for("slow.txt")
    process.send_signal(signal.SIGINT)
    code, _, error = finish(process)
    assert (code, error) == (130, "interrupted; the same command resumes\n")


def test_budget_not_met_is_3_and_everything_is_written():
    code, out, error = finish(start("w", "ok", "budget.flash=8kB"))
    assert code == 3
    assert error == "error: the budget is not met; see the lines above and w/metrics.json\n"
    assert "budget NOT met: flash 8.8 kB (the .tflite alone) of 8.0 kB" in out
    assert "flash 750 B over" in out
    assert json.loads(Path("w/metrics.json").read_text())["budget_met"] is False
    assert Path("w/DONE").exists()
    assert finish(start("w", "ok", "budget.flash=8kB"))[0] == 3


def test_parity_failure_is_4_and_the_run_is_not_complete():
    code, _, error = finish(start("w", "parity"))
    assert (code, error) == (4, "error: 3 elements differ\n")
    assert Path("w/metrics.json").exists()
    assert not Path("w/DONE").exists()


def test_parity_in_the_metrics_is_judged(lines):
    wrong = {"parity": {"tflm_vs_reference": 2, "keras_vs_reference": 0, "samples": 4}}
    with pytest.raises(ParityError, match="tflm_vs_reference: 2 elements differ over 4 samples"):
        go(lines, services=fakes.FakeServices(finish=wrong))
    assert json.loads(Path("w/metrics.json").read_text())["parity"]["tflm_vs_reference"] == 2


def test_measured_sizes_are_judged_before_estimates(lines):
    metrics = go(lines, services=fakes.FakeServices(finish={"flash": {"total": 20_000}, "ram": {"total": 3_000}}))
    assert metrics["budget_met"] is False
    assert "budget NOT met: flash 20.0 kB of 10.0 kB, RAM 3.0 kB of 5.0 kB" in lines


def test_without_a_budget_nothing_is_judged(lines):
    text = fakes.CONFIG.replace("budget: {flash: 10kB, ram: 5kB}\n", "")
    metrics = run(fakes.config(text=text), "w", log=lines.append, services=fakes.FakeServices())
    assert metrics["budget_met"] is None
    assert not [line for line in lines if line.startswith("budget")]


def test_a_size_that_cannot_be_known_does_not_stop_the_run(lines):
    class Services(fakes.FakeServices):
        def footprint(self, model, *, simplified):
            raise TinykitError("layer 'x' has no integer form")

    metrics = go(lines, services=Services())
    assert (metrics["tflite_bytes"], metrics["budget_met"]) == (None, None)
    assert "note: size not known: layer 'x' has no integer form" in lines


def test_what_a_step_cannot_handle_is_told_before_any_step_works(lines):
    with pytest.raises(ModelError) as caught:
        go(lines, "recipe=[train, picky, {picky: {by: 1.0}}]")
    assert caught.value.problems == ["layer 'a' has no integer form", "layer 'b' has no integer form"]
    assert not Path("calls.txt").exists()


def test_a_workdir_that_is_a_file(lines):
    Path("w").write_text("")
    with pytest.raises(ConfigError, match="--workdir w: cannot be used"):
        go(lines)


def test_a_line_that_a_kill_cut_off_is_dropped(lines):
    Path("w").mkdir()
    Path("w/metrics.jsonl").write_text('{"a": 1}\n{"b": ')
    go(lines)
    assert [json.loads(line) for line in Path("w/metrics.jsonl").read_text().splitlines()][0] == {"a": 1}


def test_atomic_writes_leave_the_old_file_when_they_fail():
    file = Path("x.json")
    atomic.write_json(file, {"a": 1})
    with pytest.raises(ValueError):
        atomic.write_json(file, {"a": float("nan")})
    with pytest.raises(RuntimeError), atomic.replacing(file) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(file.read_text()) == {"a": 1}
    assert [p.name for p in Path().iterdir()] == ["x.json"]


def test_differences_of_lists_and_empty_values():
    assert rundir.differences({"a": [], "b": [1, 2]}, {"a": [], "b": [1]}) == ["b[1]: 2 before, not given now"]
    assert rundir.differences({"a": {}}, {"a": {"x": 1}}) == ["a: {} before, not given now", "a.x: not given before, 1 now"]


def test_a_reader_that_goes_away_does_not_end_the_run():
    process = start("w", "ok", "recipe=[train, add]")
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    assert Path("w/DONE").exists()
