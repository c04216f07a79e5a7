"""monitor.elf: the image that talks over the UART, of the same network as firmware.elf beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinykit.boards.firmware import KINDS, Build, build_firmware
from tinykit.boards.linker import STACK_BYTES
from tinykit.boards.table import Board
from tinykit.boards.toolchain import Toolchain
from tinykit.errors import BudgetError

_FRAMES = 512
"""Bytes of stack that the monitor's own functions may take below an inference."""


@dataclass(frozen=True)
class Monitor:
    """What became of monitor.elf.

    Attributes:
        build: the linked image, None where it does not fit: it needs a buffer for the input besides the arena.
        problem: what does not fit.
    """

    build: Build | None
    problem: str | None = None


def build_monitor(
    sources: Mapping[str, str], board: Board, out: Path, *, toolchain: Toolchain, optimize: str, stack: int = 0
) -> Monitor:  # fmt: skip
    """Builds `out`/monitor.elf; one that an earlier build left there is gone where this one does not fit.

    It is linked for the board's first target, so that flashing it leaves a bootloader where it is.

    Args:
        sources: those of firmware.elf.
        stack: bytes that inferences were seen to take.
    """
    (out / f"{KINDS['monitor']}.elf").unlink(missing_ok=True)
    reserved = max(STACK_BYTES, (stack + _FRAMES + 7) // 8 * 8)
    try:
        build = build_firmware(sources, board, out, kind="monitor", toolchain=toolchain, optimize=optimize, stack_bytes=reserved)
    except BudgetError as error:
        return Monitor(None, "; ".join(error.problems))
    return Monitor(build)


def monitor_json(monitor: Monitor | None) -> dict[str, Any] | None:
    """The key `monitor` of report.json: bytes of the whole image, self-test vector and monitor included, or why there is none."""
    if monitor is None:
        return None
    if monitor.build is None:
        return {"elf": None, "why": monitor.problem}
    sizes = monitor.build.sizes
    return {
        "elf": monitor.build.elf.name,
        "target": monitor.build.target,
        "flash": sizes.image,
        "ram": sizes.arena + sizes.static + monitor.build.stack_bytes,
    }
