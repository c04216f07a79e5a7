"""Steps that several recipes begin with: done once, and taken over by every run that begins alike."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinykit import atomic
from tinykit.config.loading import ResolvedConfig, read_document
from tinykit.errors import ConfigError
from tinykit.recipe.rundir import RunDir
from tinykit.recipe.step import CHECKPOINT

_INPUTS = "inputs.json"
_RECORDS = "metrics.jsonl"


def beginnings(configuration: Mapping[str, Any], inputs: Mapping[str, Any], quicktest: bool) -> list[str]:
    """One hash a step, of all that decides what the step leaves: the configuration, the data, and the steps up to it with their options.

    Runs whose first hashes are equal begin with the same steps; a step knows nothing of those that follow.

    Args:
        configuration: content of config.resolved.yaml.
        inputs: content of inputs.json: hashes of the data and of a model file.
    """
    common = {key: value for key, value in configuration.items() if key != "recipe"}
    digest = hashlib.sha256(json.dumps([common, dict(inputs), quicktest], sort_keys=True).encode())
    found = []
    for step in configuration.get("recipe", []):
        digest.update(json.dumps(step, sort_keys=True).encode())
        found.append(digest.hexdigest())
    return found


def adopt(rundir: RunDir, config: ResolvedConfig, others: Sequence[Path], quicktest: bool) -> list[str]:
    """Copies the finished steps that another run has begun with as this one does, and that are not finished here.

    Args:
        rundir: of this run, which has begun.
        others: run directories of other recipes; what is no run directory is passed over.

    Returns:
        One line for each step that was taken.
    """
    own = beginnings(config.to_dict(), rundir.read(_INPUTS), quicktest)
    lines = []
    for index, step in enumerate(config.steps):
        if rundir.step_report(index, step.label) is not None:
            continue
        source = next((other for other in others if _has(other, index, step.label, own, quicktest)), None)
        if source is None:
            break
        folder = rundir.step_folder(index, step.label)
        _take_records(source / _RECORDS, rundir.path / _RECORDS, step.label)
        _copy(source / "steps" / folder.name, folder)
        lines.append(f"{step.label} is that of {source.name}, which begins alike: not run again")
    return lines


def _has(other: Path, index: int, label: str, own: Sequence[str], quicktest: bool) -> bool:
    """Whether a run has finished the step `index`, and has come to it as this one comes."""
    resolved = other / "config.resolved.yaml"
    if not resolved.is_file() or not (other / "steps" / f"{index + 1:02d}_{label}" / "DONE").is_file():
        return False
    if (other / "QUICKTEST").exists() != quicktest:
        return False
    try:
        inputs = json.loads((other / _INPUTS).read_text(encoding="utf-8"))
        theirs = beginnings(read_document(resolved).data, inputs, quicktest)
    except (OSError, ValueError, AttributeError, ConfigError):
        return False  # damaged: its own run will tell
    return theirs[: index + 1] == own[: index + 1]


def _copy(source: Path, folder: Path) -> None:
    """Copies what a step left, DONE last, so that a kill in between leaves a step that is not finished."""
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    for where, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name != CHECKPOINT]  # whoever has finished the step may be removing it just now
        for name in files:
            inner = (Path(where) / name).relative_to(source)
            if inner.parts[0] != "DONE" and not name.startswith(atomic.PREFIX):
                (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                atomic.write_bytes(folder / inner, (source / inner).read_bytes())
    atomic.write_text(folder / "DONE", "")


def _take_records(source: Path, target: Path, label: str) -> None:
    """Adds the lines of metrics.jsonl about a step, for the report's curves, where there are none yet."""
    if not source.is_file() or _about(target, label):
        return
    before = target.read_text(encoding="utf-8") if target.is_file() else ""
    whole = before[: before.rfind("\n") + 1]
    atomic.write_text(target, whole + "".join(f"{line}\n" for line in _about(source, label)))


def _about(file: Path, label: str) -> list[str]:
    """The lines of metrics.jsonl about a step; one that a kill cut off is passed over."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("step") == label:
            found.append(line)
    return found
