"""Computed features kept in an .npz file, so that a large set of recordings is read once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinykit.atomic import replacing
from tinykit.data.dataset import Split
from tinykit.data.files import read_npz
from tinykit.errors import DataError

SPLITS = ("train", "val", "test")
VERSION = 1  # to be raised when the same files and settings give other features than before


def digest(settings: Any, files: Sequence[Path]) -> str:
    """SHA-256 (hex) of settings (anything JSON can hold) and of path, size and time of the last change of every file."""
    states = [(path, path.stat()) for path in files]
    entries = [[str(path), state.st_size, state.st_mtime_ns] for path, state in states]
    return hashlib.sha256(json.dumps([VERSION, settings, entries]).encode()).hexdigest()


def read_arrays(path: Path, wanted: str, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """The arrays that `write_arrays` put there with the digest `wanted`, None where the file is absent or of another digest.

    Raises:
        DataError: the file is damaged, or no cache.
    """
    if not path.exists():
        return None
    try:
        arrays = read_npz(path, ["digest", *names])
    except DataError as error:
        raise DataError([f"cache: {problem}; delete it, it will be made anew" for problem in error.problems]) from error
    return arrays if arrays["digest"].tobytes() == bytes.fromhex(wanted) else None


def read(path: Path, wanted: str) -> list[Split] | None:
    """The splits that `write` put there with the digest `wanted`, None where the file is absent or of another digest.

    Raises:
        DataError: the file is damaged, or no cache.
    """
    arrays = read_arrays(path, wanted, [f"{part}_{split}" for split in SPLITS for part in "xy"])
    return None if arrays is None else [Split(arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in SPLITS]


def write(path: Path, made: str, splits: Sequence[Split]) -> None:
    """Stores train, val and test with their digest `made`, in one step.

    Raises:
        DataError: the file cannot be written.
    """
    write_arrays(path, made, {f"{part}_{name}": getattr(split, part) for name, split in zip(SPLITS, splits) for part in "xy"})


def write_arrays(path: Path, made: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Stores arrays (none of them named `digest`) with their digest `made`, in one step.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            stored: dict[str, Any] = {"digest": np.frombuffer(bytes.fromhex(made), np.uint8), **arrays}
            np.savez(stream, **stored)
    except OSError as error:
        raise DataError(f"cache: {path} cannot be written: {error}; name another file, or leave the option out") from error
