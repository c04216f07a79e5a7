"""Files and folders in the way, of another run, in use, or on a disk that is full or read-only."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from badinput_config import CONFIG, GOOD, wrote
from badinput_data import samples
from badinput_kind import kind
from badinput_tflite import good
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipe"))

import fakes  # noqa: E402

from tinykit.config.loading import load_config  # noqa: E402
from tinykit.recipe.runner import run  # noqa: E402
from tinykit.recipe.services import Services  # noqa: E402

PLACES = "files and folders"
SHORT = "data: {name: npz, options: {path: data.npz}}\nmodel: {name: cnn, options: {filters: [2]}}\nrecipe: float\n"
AGAIN = ("--config=c.yaml", "--workdir=w", "--set=steps.train.epochs=1")
"""The command of `finished`."""
HELD: list[Any] = []


def place(
    name: str, prepare: Callable[[Path], object], *says: str, text: str = GOOD, arguments: Sequence[str] = CONFIG, **more: Any
) -> None:
    """A run whose surroundings `prepare` spoils."""

    def make(folder: Path) -> Sequence[str]:
        wrote(folder, text)
        prepare(folder)
        return arguments

    kind(PLACES, name, *says, **more)(make)


class _Quick(fakes.FakeServices):
    """Reads the data as a true run does, and trains nothing."""

    load_dataset = Services.load_dataset
    parse_chain = Services.parse_chain

    def step_class(self, name: str) -> Any:
        """A step with any options."""

        class Options(BaseModel):
            by: float = 0.25

        return type("Train", (fakes.Add,), {"name": name, "Options": Options})


def finished(folder: Path) -> None:
    """Makes a run that was finished, with its configuration and data."""
    np.savez(folder / "data.npz", **samples())
    wrote(folder, SHORT)
    with contextlib.chdir(folder):
        run(load_config("c.yaml", ["steps.train.epochs=1"]), "w", services=_Quick(), log=lambda line: None, command="made by a test")
        Path("calls.txt").unlink()


def again(name: str, change: Callable[[Path], object], *says: str, arguments: Sequence[str] = AGAIN, **more: Any) -> None:
    """The command of a finished run once more, after `change` of its folder."""

    def prepare(folder: Path) -> None:
        finished(folder)
        change(folder)

    place(name, prepare, *says, workdir="w", arguments=arguments, text=SHORT, **more)


def unfinished(folder: Path) -> None:
    """The run had still to write its outputs, and other data lie there now."""
    (folder / "w" / "DONE").unlink()
    np.savez(folder / "data.npz", **samples(count=48))


def hold(folder: Path) -> None:
    """Another process is using the run directory."""
    (folder / "w").mkdir()
    lock = (folder / "w" / "lock").open("w")
    lock.write("4711\n")
    lock.flush()
    fcntl.flock(lock, fcntl.LOCK_EX)
    HELD.append(lock)


def hold_folder(folder: Path) -> None:
    """Another process is compiling into the folder."""
    (folder / "m.tflite").write_bytes(good())
    (folder / "out").mkdir()
    handle = os.open(folder / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    HELD.append(handle)


place("--workdir that is a file", lambda folder: (folder / "w").write_text("mine"), "--workdir w: cannot be used", "File exists")
place(
    "--workdir below a file",
    lambda folder: (folder / "w").write_text("mine"),
    "--workdir w/x: cannot be used",
    "Not a directory",
    arguments=("--config=c.yaml", "--workdir=w/x"),
)
place(
    "--workdir whose lock is a folder",
    lambda folder: (folder / "w/lock").mkdir(parents=True),
    "--workdir w: cannot be used",
    "Is a directory",
)
place("--workdir that another run is using", hold, "--workdir w: in use by another run (process 4711)", "choose another", workdir="w")
place(
    "--workdir with a name no file can have",
    lambda folder: None,
    "--workdir xxx",
    "cannot be used",
    arguments=("--config=c.yaml", "--workdir=" + "x" * 300),
)
again(
    "a finished run, with another configuration",
    lambda folder: None,
    "--workdir w: was made with another configuration",
    "choose another --workdir or delete it",
    "recipe[0].train.epochs: 1 before, 7 now",
    details=True,
    arguments=(*CONFIG, "--set=steps.train.epochs=7"),
)
again(
    "a finished run, with another seed and --quicktest",
    lambda folder: None,
    "seed: 0 before, 5 now",
    "--quicktest: False before, True now",
    details=True,
    arguments=(*AGAIN, "--seed=5", "--quicktest"),
)
again(
    "an unfinished run, with other data",
    unfinished,
    "--workdir w: was made with other inputs",
    "choose another --workdir or delete it",
    "data_sha256: ",
    details=True,
)
again(
    "a run whose metrics.json is damaged",
    lambda folder: (folder / "w/metrics.json").write_text("{"),
    "w/metrics.json: cannot be read",
    "delete it to go on",
)
again(
    "a run whose config.resolved.yaml is damaged",
    lambda folder: (folder / "w/config.resolved.yaml").write_text("a: ["),
    "w/config.resolved.yaml:1",
    "not valid YAML",
    "choose another --workdir",
)
again(
    "a run whose config.resolved.yaml is no text",
    lambda folder: (folder / "w/config.resolved.yaml").write_bytes(b"\xff\xfe\0"),
    "w/config.resolved.yaml:1",
    "no UTF-8 text",
    "choose another --workdir",
)
again(
    "a run whose step's report is damaged",
    lambda folder: [(folder / "w/DONE").unlink(), (folder / "w/steps/01_train/report.json").write_text("{}")],
    "w/steps/01_train/report.json: damaged",
    "to run the step again",
    heavy=True,
)
place(
    "a run whose env.json is a folder",
    lambda folder: (folder / "w/env.json").mkdir(parents=True),
    "'w/env.json'",
    "Is a directory",
    workdir="w",
)
place(
    "a run directory in which steps is a file",
    lambda folder: [np.savez(folder / "data.npz", **samples()), (folder / "w").mkdir(), (folder / "w/steps").write_text("mine")],
    "w/steps",
    "Not a directory",
    text=SHORT,
    workdir="w",
    heavy=True,
)
place(
    "a run in a folder of other things",
    lambda folder: [(folder / "w").mkdir(), (folder / "w/DONE").write_text("mine"), (folder / "w/metrics.json").write_text("[1]")],
    "--workdir w: holds metrics.json",
    "choose another --workdir",
    workdir="w",
)
place(
    "names with spaces, letters of any script and quotation marks",
    lambda folder: (folder / "größe 'ж' 数.yaml").write_text("data: {name: x}"),
    "größe 'ж' 数.yaml:1",
    "unknown dataset 'x'",
    "model: give exactly one",
    arguments=("--config=größe 'ж' 数.yaml",),
    problems=2,
)
place(
    "a name with a newline and control characters",
    lambda folder: (folder / "a\nerror: b\x1b[2J.yaml").write_text(GOOD + "sed: 1\n"),
    "a\\nerror: b\\x1b[2J.yaml:4",
    "did you mean 'seed'?",
    arguments=("--config=a\nerror: b\x1b[2J.yaml",),
)
place(
    "--out of compile that another is using",
    hold_folder,
    "out: in use by another run",
    "choose another folder",
    program="compile",
    arguments=("--model=m.tflite", "--out=out"),
)


# ---- disks that are full or read-only


TRAINING = ("metrics.jsonl", "tensorboard*", "steps*")
"""What a training that began may leave in its run directory: whole lines, and folders; files of a step that is not done, whole ones."""
RESUMES = ("nothing is lost that was finished", "the same command resumes")


def training(folder: Path) -> Sequence[str]:
    """A short training."""
    np.savez(folder / "data.npz", **samples())
    return [*wrote(folder, SHORT), "--set=steps.train.epochs=1"]


def compiling(folder: Path) -> Sequence[str]:
    """A compilation."""
    (folder / "m.tflite").write_bytes(good())
    return ["--model=m.tflite", "--out=out", "--samples=1"]


kind(PLACES, "no room for the first file of a run", "File too large", *RESUMES, file_limit=600, workdir="w")(training)
kind(
    PLACES,
    "no room for the model that was trained",
    "File too large",
    *RESUMES,
    file_limit=12_000,
    workdir="w",
    heavy=True,
    leaves=TRAINING,
)(training)
kind(PLACES, "no room for the firmware", "out", "File too large", file_limit=4000, program="compile")(compiling)


def mounted(options: str) -> Callable[[Path], Sequence[str]]:
    """A training in a file system of its own."""

    def make(folder: Path) -> Sequence[str]:
        (folder / "w").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder / "w")], check=True, capture_output=True)
        return training(folder)

    return make


def unmount(folder: Path) -> None:
    """Takes it away again."""
    subprocess.run(["umount", "-l", str(folder / "w")], check=False, capture_output=True)


def no_mount() -> str:
    """Why no file system can be mounted here, "" where it can."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        subprocess.run(["umount", "-l", folder], capture_output=True, check=False)
    return "no file system can be mounted here" if tried.returncode else ""


def no_full() -> str:
    """Why there is no device that is always full, "" where there is."""
    return "" if Path("/dev/full").exists() else "no /dev/full here"


def no_permissions() -> str:
    """Why permissions do not bind, "" where they do."""
    return "root may write to every folder" if os.geteuid() == 0 else ""


def closed(folder: Path) -> Sequence[str]:
    """A folder that may not be written to."""
    (folder / "w").mkdir(mode=0o555)
    return training(folder)


kind(PLACES, "standard output on a full disk", "No space left on device", "error: ", program="profile", out="/dev/full", skip=no_full)(
    lambda folder: [*compiling(folder)][:1]
)
kind(PLACES, "a full disk before the run", "No space left on device", *RESUMES, workdir="w", undo=unmount, skip=no_mount)(
    mounted("size=4k")
)
kind(
    PLACES,
    "a disk that is full when the model is to be saved",
    "No space left on device",
    *RESUMES,
    workdir="w",
    heavy=True,
    undo=unmount,
    skip=no_mount,
    leaves=TRAINING,
)(mounted("size=28k"))
kind(PLACES, "a read-only file system", "--workdir w: cannot be used", "Read-only file system", workdir="w", undo=unmount, skip=no_mount)(
    mounted("ro")
)
kind(PLACES, "a folder without permission to write", "--workdir w: cannot be used", "Permission denied", workdir="w", skip=no_permissions)(
    closed
)
