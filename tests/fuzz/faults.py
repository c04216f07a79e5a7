"""Targets that misbehave, to show that the harness notices: the reader goes by the index of the mutant, which is the file's content."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path


class _Kind:
    """What the worker needs of a kind (see `readers.Kind`), without its imports."""

    suffix = ".txt"

    def __init__(self, target) -> None:
        self._target = target

    def files(self) -> list[bytes]:
        return [b"0"]

    def mutant(self, name: str, seed: int, index: int) -> bytes:
        return str(index).encode()

    def target(self, path: Path) -> None:
        from tinykit.errors import DataError

        index = int(path.read_bytes())
        if index % 10 == 3:
            self._target()
        elif index % 2:
            raise DataError(f"{path}: an odd number")


def wrong() -> None:
    raise ValueError("no TinykitError")


def ends() -> None:
    raise SystemExit(0)


def two_lines() -> None:
    from tinykit.errors import DataError

    raise DataError("first\nsecond")


def endless_message() -> None:
    from tinykit.errors import DataError

    error = DataError("x")
    error.problems = ["x" * 100_000]
    raise error


def segfault() -> None:
    ctypes.string_at(0)


def endless_loop() -> None:
    while True:
        pass


def waits() -> None:
    time.sleep(1e6)


def allocates() -> None:
    bytearray(2 << 30)


def resident() -> None:
    """Below the limit of one allocation, above that of what is resident."""
    held = [bytearray(b"x" * (64 << 20)) for _ in range(6)]
    del held


KINDS = {
    f.__name__: _Kind(f) for f in (wrong, ends, two_lines, endless_message, segfault, endless_loop, waits, allocates, resident)
}  # fmt: skip
