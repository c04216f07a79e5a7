"""The run directory: its layout, its lock, and what makes a second run in it a resume or an error."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import tinykit
from tinykit import atomic
from tinykit.config.document import describe
from tinykit.config.loading import ResolvedConfig, read_document
from tinykit.errors import ConfigError
from tinykit.locking import hold
from tinykit.recipe.step import CHECKPOINT

SEARCH = "search"
"""Folder of what tinykit.search keeps."""

_PACKAGES = ("tensorflow", "keras", "numpy", "tflite-micro", "pydantic")


def flatten(value: Any, path: tuple[str | int, ...] = ()) -> dict[str, Any]:
    """{'a': {'b': [1]}} -> {'a.b[0]': 1}; empty containers are values."""
    if isinstance(value, Mapping) and value:
        return {key: leaf for part, inner in value.items() for key, leaf in flatten(inner, (*path, part)).items()}
    if isinstance(value, list) and value:
        return {key: leaf for part, inner in enumerate(value) for key, leaf in flatten(inner, (*path, part)).items()}
    return {describe(path): value}


def differences(before: Any, now: Any) -> list[str]:
    """One line for each value that differs: `steps.train.epochs: 3 before, 5 now`."""
    old, new = flatten(before), flatten(now)
    lines = []
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            lines.append(f"{key}: {old[key]!r} before, not given now")
        elif key not in old:
            lines.append(f"{key}: not given before, {new[key]!r} now")
        elif old[key] != new[key]:
            lines.append(f"{key}: {old[key]!r} before, {new[key]!r} now")
    return lines


def environment(config_file: str) -> dict[str, Any]:
    """Versions and machine, for env.json; what cannot be found out is None. Imports none of the packages."""
    versions: dict[str, str | None] = {"tinykit": tinykit.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": _usable_cores(),
        "git": _git_revision(Path(config_file).absolute().parent),
    }


def _usable_cores() -> int | None:
    """Cores that this process may use: TensorFlow shares its sums among as many threads, and their order decides the last bit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _git_revision(folder: Path) -> str | None:
    """The commit of the tree that `folder` lies in, with '+changes' if there are uncommitted ones; None if no tree."""
    git = shutil.which("git")
    if git is None:
        return None
    answers = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run([git, "-C", str(folder), *command], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        answers.append(done.stdout.strip())
    return answers[0] + ("+changes" if answers[1] else "")


class RunDir:
    """One run's directory, locked while open. Use as a context manager.

    Layout: command.txt, config.resolved.yaml, env.json, inputs.json, metrics.json, metrics.jsonl, tensorboard/, model.keras,
    steps/01_train/{model.keras, report.json, DONE}, and what the outputs add. DONE is always written last.

    Args:
        path: made if absent.
        inner: a folder in it that holds run directories of their own, whose unfinished files may be somebody's work in progress.
    """

    def __init__(self, path: Path, inner: str | None = None) -> None:
        self.path = path
        self._inner = None if inner is None else path / inner
        self._lock: IO[str] | None = None

    def __enter__(self) -> "RunDir":
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise ConfigError(f"--workdir {self.path}: cannot be used: {error}; choose a folder that can be written to") from None
        if not hold(self._lock):
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            self._lock.close()
            self._lock = None
            raise ConfigError(f"--workdir {self.path}: in use by another run (process {owner}); wait for it, or choose another")
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()
        atomic.remove_unfinished(self.path, self._inner)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock is not None:
            self._lock.truncate(0)  # nobody's any more
            self._lock.close()
            self._lock = None

    def begin(self, config: ResolvedConfig, command: str, quicktest: bool) -> list[str]:
        """Starts or resumes: compares the configuration with the one that the directory was made with.

        Returns:
            Remarks for the user, such as versions that changed since the run began.

        A directory in which nothing was computed yet, because the data or the model could not be read, takes the new configuration.

        Raises:
            ConfigError: another configuration; shows every difference.
        """
        marker = self.path / "QUICKTEST"
        resolved = self.path / "config.resolved.yaml"
        if resolved.exists():
            changes = differences(self._configuration(resolved), config.to_dict())
            if marker.exists() != quicktest:
                changes.append(f"--quicktest: {marker.exists()} before, {quicktest} now")
            if changes and not self._has_work():
                resolved.unlink()
            elif changes:
                raise ConfigError(
                    [f"--workdir {self.path}: was made with another configuration; choose another --workdir or delete it"]
                    + [f"  {change}" for change in changes]
                )
        elif self._has_work():
            raise ConfigError(
                f"--workdir {self.path}: holds metrics.json or steps/, but no config.resolved.yaml: it is not, or no longer, a run "
                "directory; choose another --workdir"
            )
        if not resolved.exists():  # nothing began here, or another run that was killed before it had written what it is
            for file in (marker, self.path / "env.json", self.path / "inputs.json"):
                file.unlink(missing_ok=True)
        remarks = self._environment(config)
        if quicktest and not marker.exists():
            atomic.write_text(marker, "Made with --quicktest: a few samples, one epoch. No number here is a result.\n")
        if not resolved.exists():
            atomic.write_text(self.path / "command.txt", command + "\n")
            atomic.write_text(resolved, config.to_yaml())
        return remarks

    def _configuration(self, resolved: Path) -> Any:
        """What the run was made with. Raises ConfigError where its record is damaged."""
        try:
            return read_document(resolved).data
        except ConfigError as error:
            raise ConfigError(f"{error.problems[0]}; this run's record is damaged: choose another --workdir, or delete it") from None

    def _has_work(self) -> bool:
        """Whether a step or a search left anything here that a run with another configuration must not go on with."""
        left = (file for folder in ("steps", SEARCH) for file in (self.path / folder).rglob("*"))
        return (self.path / "metrics.json").exists() or any(file.is_file() for file in left)

    def _environment(self, config: ResolvedConfig) -> list[str]:
        now = environment(config.source)
        file = self.path / "env.json"
        before = self._read_json(file)
        if before is None:
            atomic.write_json(file, now)
            return []
        remarks = [f"since this run began, versions changed: {line}" for line in differences(before.get("versions"), now["versions"])]
        cores = before.get("cpu_count"), now["cpu_count"]
        if None not in cores and cores[0] != cores[1]:
            remarks.append(
                f"this run began with {cores[0]} cores and has {cores[1]} now: sums are shared out otherwise, and weights may differ in"
                " their last bits from those of a run without interruption"
            )
        return remarks

    def check_inputs(self, inputs: Mapping[str, str | None]) -> None:
        """Compares the hashes of data and model file with those that the run began with.

        Raises:
            ConfigError: they changed, so that finished steps would not belong to them.
        """
        file = self.path / "inputs.json"
        before = self._read_json(file)
        if before is None:
            atomic.write_json(file, dict(inputs))
            return
        known = {key: value for key, value in inputs.items() if key in before}  # an older version wrote fewer
        changes = differences(before, known)
        if not changes or not self._has_work():
            if before != dict(inputs):
                atomic.write_json(file, dict(inputs))
        else:
            raise ConfigError(
                [f"--workdir {self.path}: was made with other inputs; choose another --workdir or delete it"]
                + [f"  {change}" for change in changes]
            )

    def step_folder(self, index: int, label: str) -> Path:
        """steps/01_train for index 0; made if absent."""
        folder = self.path / "steps" / f"{index + 1:02d}_{label}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def step_report(self, index: int, label: str) -> dict[str, Any] | None:
        """The report of a finished step; None if it is not finished."""
        folder = self.path / "steps" / f"{index + 1:02d}_{label}"
        if not (folder / "DONE").exists():
            return None
        return self._read_json(folder / "report.json")

    def finish_step(self, index: int, label: str, report: Mapping[str, Any]) -> None:
        """Writes the step's report, then DONE; then what only a resume of the step would have needed goes."""
        folder = self.step_folder(index, label)
        atomic.write_json(folder / "report.json", dict(report))
        atomic.write_text(folder / "DONE", "")
        self.tidy_step(index, label)

    def tidy_step(self, index: int, label: str) -> None:
        """Removes the checkpoint of a finished step."""
        shutil.rmtree(self.path / "steps" / f"{index + 1:02d}_{label}" / CHECKPOINT, ignore_errors=True)

    def finished_metrics(self) -> dict[str, Any] | None:
        """metrics.json of a run that is complete; None if it is not."""
        return self._read_json(self.path / "metrics.json") if (self.path / "DONE").exists() else None

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Writes metrics.json."""
        atomic.write_json(self.path / "metrics.json", dict(metrics))

    def finish(self) -> None:
        """Marks the run as complete; the last file of a run."""
        atomic.write_text(self.path / "DONE", "")

    def read(self, name: str) -> dict[str, Any]:
        """The content of a JSON file of this directory, such as 'env.json'; empty if it is absent."""
        return self._read_json(self.path / name) or {}

    def _read_json(self, file: Path) -> dict[str, Any] | None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read: {error}; delete it to go on") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{file}: is not what tinykit writes there; delete it to go on, or choose another --workdir")
        return content
