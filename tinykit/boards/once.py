"""A network linked in a folder of its own and run once on the emulated board: what it costs, when nobody keeps the image."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import Build, build_firmware
from tinykit.boards.image import Image
from tinykit.boards.profiling import InferenceRun, run_inference
from tinykit.boards.table import Board
from tinykit.boards.toolchain import Toolchain
from tinykit.engine.generate import Engine


def run_once(
    engine: Engine, sources: Mapping[str, str], board: Board, tools: Toolchain, level: str
) -> tuple[Build, InferenceRun, dict[str, int]]:  # fmt: skip
    """The build, whose ELF is gone; one inference; instructions of each layer's call, by op.

    Raises:
        BudgetError: it does not fit the board.
        StackOverflow: the stack is used to its last word.
    """
    with tempfile.TemporaryDirectory() as folder:
        build = build_firmware(sources, board, Path(folder), toolchain=tools, target="bare", optimize=level)
        run = run_inference(EmulatedBoard(board, Image.load(build.elf)), invoke_symbol=f"{engine.name}_invoke")
    return build, run, {call.op: profile.instructions for call, profile in zip(engine.calls, run.calls, strict=True)}
