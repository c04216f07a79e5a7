"""Puts an image into a board's flash with pyOCD, or says what else would."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tinykit import atomic
from tinykit.boards.image import Image
from tinykit.boards.table import Board
from tinykit.errors import ConfigError, TinykitError, one_line

_SECONDS = 300
_ERASED = 0xFF
_LARGEST_GAP = 1 << 20


class FlashError(TinykitError):
    """An image could not be flashed."""


@dataclass(frozen=True)
class FlashPlan:
    """How a board is flashed.

    Attributes:
        command: pyOCD's.
        prepare: what pyOCD needs once before, None where it needs nothing.
        probe: hardware that is needed besides the board, None where nothing is.
        other: a way without pyOCD, in words.
    """

    command: tuple[str, ...]
    prepare: str | None
    probe: str | None
    other: str

    def lines(self) -> list[str]:
        """The plan for a reader, one thing a line."""
        return [
            *([f"needs: {self.probe}"] if self.probe else []),
            *([f"once: {self.prepare}"] if self.prepare else []),
            f"flash: {shlex.join(self.command)}",
            f"or: {self.other}",
        ]


def flash_plan(board: Board, elf: Path) -> FlashPlan:
    """How `elf` gets onto `board`. Raises ConfigError: the board table does not say how."""
    programmer = board.programmer
    if programmer is None:
        raise ConfigError(f"board {board.name!r}: the board table names no way to flash it")
    prepare = None if programmer.pack is None else f"pyocd pack install {programmer.pack}"
    other = programmer.other.replace("{bin}", shlex.quote(str(elf.with_suffix(".bin"))))
    return FlashPlan(("pyocd", "load", "-t", programmer.pyocd, str(elf)), prepare, programmer.probe, other)


def flash(board: Board, elf: Path, *, dry_run: bool = False, log: Callable[[str], None] = print) -> None:
    """Flashes `elf` with pyOCD, and leaves the flat binary that other tools want beside it.

    Args:
        dry_run: only says what would be done.

    Raises:
        FlashError: pyOCD is not installed, or it failed; the message has its last words and the other way.
        ConfigError: the board table does not say how.
    """
    plan = flash_plan(board, elf)
    atomic.write_bytes(elf.with_suffix(".bin"), flat_binary(Image.load(elf)))
    if dry_run:
        for line in plan.lines():
            log(line)
        return
    program = shutil.which("pyocd")
    if program is None:
        raise FlashError([f"--flash: pyOCD is not installed; install it: `pip install pyocd`. For {board.name}:", *indented(plan)])
    log(f"flash: {shlex.join(plan.command)}")
    try:
        done = subprocess.run([program, *plan.command[1:]], capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise FlashError([f"--flash: pyOCD did not end within {_SECONDS} s. For {board.name}:", *indented(plan)]) from None
    if done.returncode:
        words = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        raise FlashError(
            [
                f"--flash: pyOCD failed: {one_line(words[-1] if words else f'exit code {done.returncode}')}. For {board.name}:",
                *indented(plan),
            ]
        )


def indented(plan: FlashPlan) -> list[str]:
    """The plan's lines as parts of an error message."""
    return [f"  {line}" for line in plan.lines()]


def flat_binary(image: Image) -> bytes:
    """What lies in flash, from its first byte to its last, gaps erased: for tools that take no ELF.

    Raises:
        FlashError: the image has nothing in flash, or pieces that are far apart.
    """
    pieces = sorted((address, data) for address, data in image.segments if data)
    if not pieces:
        raise FlashError(f"{image.path}: nothing to flash")
    start = pieces[0][0]
    flat = bytearray()
    for address, data in pieces:
        gap = address - start - len(flat)
        if not 0 <= gap <= _LARGEST_GAP:
            raise FlashError(f"{image.path}: pieces at 0x{start:08x} and 0x{address:08x} make no flat binary")
        flat += bytes([_ERASED]) * gap + data
    return bytes(flat)
