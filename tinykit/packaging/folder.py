"""Writes a package into a folder that may hold an earlier one, and what its user changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tinykit import atomic
from tinykit.errors import ConfigError
from tinykit.packaging.archive import zip_bytes

MANIFEST = ".tinykit-deploy.json"
"""SHA-256 of every file as it was written, by path: what differs from it has been edited."""


@dataclass
class Written:
    """What became of a package's files.

    Attributes:
        content: of every file of the package as it lies in the folder now.
        edited: paths that somebody changed and that were left as they are.
        saved: path -> backup of an edited file that gave way.
        removed: files of an earlier package that this one has not.
    """

    content: dict[str, bytes] = field(default_factory=dict)
    edited: list[str] = field(default_factory=list)
    saved: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)


def write_folder(out: Path, files: Mapping[str, bytes], *, archive: str | None = None, force: bool = False) -> Written:
    """Writes `files` below `out`. Files that were edited since an earlier deploy, or were never ours, stay and are named.

    Each file appears complete or not at all. A deploy that was interrupted is finished by the next.

    Args:
        files: content by path, '/' between folders.
        archive: a folder of `files` that also becomes <archive>.zip, as it lies there then, with what its user edited.
        force: edited files are kept as <name>.bak, <name>.bak2 and so on, and written anew.

    Raises:
        ConfigError: the folder cannot be written to, or its manifest is damaged.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        known = _read_manifest(out / MANIFEST)
        written = Written()
        for path, data in sorted(files.items()):
            _write(out, path, data, known.get(path), force, written)
        if archive is not None:
            inside = {path: data for path, data in written.content.items() if path.startswith(f"{archive}/")}
            _write(out, f"{archive}.zip", zip_bytes(inside), known.get(f"{archive}.zip"), force, written)
        _remove_old(out, set(known) - set(written.content), known, written)
        hashes = {path: known[path] for path in written.edited if path in known and path in written.content}
        hashes |= {path: _sha256(data) for path, data in written.content.items() if path not in written.edited}
        atomic.write_json(out / MANIFEST, {"files": dict(sorted(hashes.items()))})
    except OSError as problem:
        raise ConfigError(f"--out {out}: expected a folder that can be written to: {problem.strerror or problem}") from None
    return written


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_manifest(path: Path) -> dict[str, str]:
    """Hashes by path; none where there is no manifest. Paths that lead out of the folder are a damage like any other."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["files"]
        good = all(isinstance(v, str) and _stays_inside(k) for k, v in found.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        good = False
    if not good:
        raise ConfigError(f"{path}: is damaged; delete it: every file that differs from what would be written then counts as edited")
    return dict(found)


def _stays_inside(path: str) -> bool:
    return ".." not in PurePosixPath(path).parts and not PurePosixPath(path).is_absolute() and "\0" not in path


def _write(out: Path, path: str, data: bytes, known: str | None, force: bool, written: Written) -> None:
    file = out / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder; a file of that name is to be written; move it away, or choose another --out")
    there = file.read_bytes() if file.exists() else None
    if there not in (None, data) and _sha256(there or b"") != known:
        if not force:
            written.edited.append(path)
            written.content[path] = there or b""
            return
        backup = _free_name(file)
        atomic.write_bytes(backup, there or b"")
        written.saved[path] = str(PurePosixPath(path).with_name(backup.name))
    if there != data:
        atomic.write_bytes(file, data)
    written.content[path] = data


def _free_name(file: Path) -> Path:
    """<name>.bak, or the first <name>.bak2, .bak3, ... that does not exist."""
    number = 1
    while True:
        candidate = file.with_name(f"{file.name}.bak{'' if number == 1 else number}")
        if not candidate.exists():
            return candidate
        number += 1


def _remove_old(out: Path, paths: set[str], known: Mapping[str, str], written: Written) -> None:
    """Removes files of an earlier package that nobody edited; an edited one stays, and is nobody's from now on."""
    for path in sorted(paths):
        file = out / path
        if not file.is_file():
            continue
        if _sha256(file.read_bytes()) != known[path]:
            written.edited.append(path)
            continue
        file.unlink()
        written.removed.append(path)
        for parent in file.parents:
            if parent == out or any(parent.iterdir()):
                break
            parent.rmdir()
