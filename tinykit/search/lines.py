"""Rows of JSON in a file that loses none: a row is on the disk before the next begins, and one that a kill cut off is removed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinykit.errors import ConfigError

MAX_BYTES = 64_000_000


def read_lines(path: Path, what: str) -> Iterator[tuple[str, Any]]:
    """(place, value) of every row; nothing where there is no file. Removes a last line without its end.

    Args:
        what: what the rows are, in messages.

    Raises:
        ConfigError: the file is too large, or a line is no JSON.
    """
    if not path.exists():
        return
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; no list of {what}s")
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as stream:
            stream.truncate(len(whole))
    for number, line in enumerate(whole.splitlines(), 1):
        place = f"{path}:{number}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise damaged(place, what, error) from None


def damaged(place: str, what: str, error: object) -> ConfigError:
    """What is said of a row that is none."""
    return ConfigError(f"{place}: no {what}: {error}; delete the line to have it tried again")


def append_line(path: Path, values: Any) -> None:
    """Adds a row and waits until it is on the disk."""
    line = json.dumps(values, allow_nan=False) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
