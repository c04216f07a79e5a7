"""Links a package's network for its board and runs every golden vector of it there, emulated, before anybody flashes it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import Build, build_firmware
from tinykit.boards.image import Image
from tinykit.boards.pipeline import LEVELS
from tinykit.boards.profiling import run_inference, with_enough_stack
from tinykit.boards.table import Board
from tinykit.boards.toolchain import choose
from tinykit.engine.memory import inputs_of, outputs_of
from tinykit.engine.selftest import firmware_header, selftest_header, selftest_source
from tinykit.errors import ParityError
from tinykit.packaging.network import Network


@dataclass(frozen=True)
class Measured:
    """What a network takes of a board, from a linked image and its emulated run.

    Attributes:
        flash, arena, static, stack: bytes; flash without the golden vectors, stack as far as it was used.
        instructions: of one inference.
        vectors: golden vectors that the emulated board answered, each byte right.
        compiler, level: version line and optimisation level of the build.
    """

    flash: int
    arena: int
    static: int
    stack: int
    instructions: int
    vectors: int
    compiler: str
    level: str

    @property
    def ram(self) -> int:
        """Bytes of arena, static data and stack."""
        return self.arena + self.static + self.stack


def measure(network: Network, board: Board, reserve: str) -> Measured:
    """Builds the bench image and runs all golden vectors.

    Args:
        reserve: whose bootloader and core are on the board: a key of its reserves.

    Raises:
        BudgetError: it does not fit.
        ParityError: the emulated board answers another byte.
    """
    tools, sources = choose(), _sources(network)
    level = LEVELS["balanced"][tools.name]
    with tempfile.TemporaryDirectory(prefix="tinykit-deploy-") as folder:

        def attempt(stack: int) -> tuple[Build, int, int]:
            build = build_firmware(sources, board, Path(folder), toolchain=tools, target=reserve, optimize=level, stack_bytes=stack)
            return build, *_run(network, EmulatedBoard(board, Image.load(build.elf)))

        build, used, instructions = with_enough_stack(attempt, board)
    sizes = build.sizes
    return Measured(sizes.total, sizes.arena, sizes.static, used, instructions, len(network.vectors), build.compiler, build.flags[-1])


def _sources(network: Network) -> dict[str, str]:
    given, expected = network.vectors[0]
    return {
        **network.files,
        "tk_model.h": firmware_header(network.name, inputs_of(network.graph)[0], outputs_of(network.graph)[0]),
        "tk_selftest.h": selftest_header("tk", given, expected),
        "tk_selftest.c": selftest_source("tk", given, expected),
    }


def _run(network: Network, board: EmulatedBoard) -> tuple[int, int]:
    """(bytes of stack, instructions of the first inference). Raises ParityError at the first wrong byte."""
    places = [board.image.symbol(f"tk_selftest_{kind}").address for kind in ("input", "output")]
    stack = instructions = 0
    for number, vector in enumerate(network.vectors):
        for place, data in zip(places, vector):
            board.write(place, data)
        run = run_inference(board)
        stack, instructions = max(stack, run.stack), instructions or run.instructions
        board.run_to("tk_done")
        wrong = int(np.frombuffer(board.read(board.image.symbol("tk_selftest_differences").address, 4), "<u4")[0])
        if wrong:
            raise ParityError(f"{network.name}: golden vector {number + 1}: {wrong} output bytes differ on the emulated {board.board.name}")
    return stack, instructions
