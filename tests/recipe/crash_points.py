"""Kills a run of fakes before every single removal or renaming and in every single writing of a file, and runs it again:
python crash_points.py FOLDER

Each run is a forked process; no TensorFlow is imported, so that forking is safe. Prints one line a crash point that did not end as a run
without a crash does, and how many there were.
"""

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))

import run_directories  # noqa: E402

from tinykit import atomic  # noqa: E402
from tinykit.boards.firmware import _staging  # noqa: E402
from tinykit.recipe.runner import run  # noqa: E402
from tinykit.recipe.step import CHECKPOINT, StepResult  # noqa: E402
from tinykit.steps.fitting import Checkpoint  # noqa: E402

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
CONFIG = fakes.CONFIG.replace("  - train: {by: 0.25}\n", "  - fits: {by: 0.25}\n  - train: {by: 0.25}\n")


class Weights:
    """What a checkpoint takes of a Keras model."""

    optimizer = SimpleNamespace(build=lambda variables: None)
    trainable_variables = ()

    def __init__(self, value: float) -> None:
        self.value = value

    def save_weights(self, path: Path) -> None:
        path.write_text(json.dumps(self.value))

    def load_weights(self, path: Path) -> None:
        self.value = json.loads(path.read_text())


class Fits(fakes.Add):
    """Four epochs with the checkpoints of a real training; the third is the best."""

    name = "fits"

    def run(self, model: Any, options: Any, context: Any) -> StepResult:
        weights, checkpoint = Weights(model.value), Checkpoint(context.folder / CHECKPOINT)
        checkpoint.resume(weights)
        for epoch in range(checkpoint.epoch, 4):
            weights.value += options.by * (epoch + 1)
            context.metrics(step=epoch, epoch=epoch + 1, loss=weights.value)
            checkpoint.save(weights, epoch, [-abs(epoch - 2)], True, {"loss": weights.value})
        checkpoint.load_best(weights)
        return StepResult(fakes.FakeModel(weights.value), {"last_epoch": checkpoint.values, "kept": checkpoint.best_epoch})


class Services(fakes.FakeServices):
    """Outputs as a real run makes them: files one by one, and a folder that is built aside."""

    def finish(self, model: Any, context: Any, rundir: Any, *, rows: Any, budget: Any) -> Any:
        with _staging(rundir.path, "firmware") as folder:
            (folder / "linker.ld").write_text("MEMORY")
            (folder / "firmware.elf").write_text(str(model.value))
        atomic.write_text(rundir.path / "model.tflite", str(model.value))
        return SimpleNamespace(metrics={"accuracy": {"integer": model.value}}, report={}, problems=[])


def one(folder: Path, crash: int | None) -> int:
    """A run in a forked process that is killed at its `crash`-th operation on files. Returns how the process ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 9
    try:
        os.chdir(folder)
        os.fsync = lambda handle: None  # a killed process loses nothing that it has written
        config = fakes.config(text=CONFIG)
        left = [crash]

        def count(event: str, arguments: tuple) -> None:
            opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if left[0] is not None and (opens or event in EVENTS):
                left[0] -= 1
                if left[0] == 0:
                    left[0] = None
                    if opens:  # killed in the middle of writing
                        os.write(os.open(arguments[0], arguments[2], 0o644), b'{"torn')
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        with contextlib.redirect_stdout(io.StringIO()):
            run(config, "w", command="fake", log=lambda line: None, services=Services())
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    base = Path(sys.argv[1])
    fakes.STEPS["fits"] = Fits
    (base / "whole").mkdir()
    wrong = [] if one(base / "whole", None) == 0 else ["the whole run failed"]
    for crash in range(1, 10_000):
        folder = base / f"{crash:04d}"
        folder.mkdir()
        if one(folder, crash) == 0:
            break
        code = one(folder, None)
        files = run_directories.differing(base / "whole/w", folder / "w") if code == 0 else []
        left = [str(p) for p in (folder / "w").rglob("*") if p.name.startswith(atomic.PREFIX) or p.name == CHECKPOINT]
        if code or files or left:
            wrong.append(f"crash point {crash}: exit code {code}, differing {files}, left behind {left}")
    print(json.dumps({"points": crash - 1, "wrong": wrong}))


if __name__ == "__main__":
    main()
