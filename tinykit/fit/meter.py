"""What the engine takes with a choice of bits: planned RAM, and flash linked for a board or estimated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tinykit.boards.pipeline import LEVELS, firmware_sources
from tinykit.boards.table import Board
from tinykit.boards.toolchain import Toolchain, choose
from tinykit.engine import lower
from tinykit.engine.estimate import code_estimate, ram_bytes
from tinykit.engine.generate import Engine, c_identifier, generate
from tinykit.engine.goal import BALANCED, Goal
from tinykit.engine.memory import random_samples
from tinykit.engine.select import Preference
from tinykit.engine.storage import AS_IT_PAYS, StorageWish
from tinykit.errors import BudgetError, ConfigError
from tinykit.fit.preview import Preview
from tinykit.quant.allocation.network import Bits

if TYPE_CHECKING:
    from tinykit.boards.firmware import Build
    from tinykit.graph import ir


LINKED = "linked image"


@dataclass(frozen=True)
class Planned:
    """An engine's RAM.

    Attributes:
        ram: bytes: the planned arena and an estimate of the stack.
        peak: the steps at which the arena is full, by name, the fullest first.
    """

    ram: int
    peak: tuple[str, ...]


@dataclass(frozen=True)
class Linked:
    """An engine's flash.

    Attributes:
        flash: bytes of weights, tables, code and runtime.
        source: `LINKED` or 'code estimated'.
    """

    flash: int
    source: str


@dataclass(frozen=True)
class Executed:
    """What one inference executes on the emulated board.

    Attributes:
        total: instructions, from input to output.
        layers: instructions of each layer's call, by name.
        cycles: the model's cycles of each layer's call, by name (tinykit.boards.cycles).
    """

    total: int
    layers: Mapping[str, int]
    cycles: Mapping[str, int] = field(default_factory=dict)


class Meter(Protocol):
    """Measures allocations."""

    def planned(self, bits: Bits) -> Planned:
        """RAM with these bits."""

    def linked(self, bits: Bits) -> Linked:
        """Flash with these bits, of a linked image where there is a compiler and it fits the board."""

    def executed(self, bits: Bits) -> Executed:
        """Time with these bits.

        Raises:
            ConfigError: there is no compiler or no board to run on, or the image cannot be built.
        """


class EngineMeter:
    """Measures allocations of a network with the planner, the generator and the linker; remembers what it has measured.

    Args:
        board: what is linked for; None: code is estimated.
        log: takes a line of progress.
        goal: what its engines are made best for.
        storage: how their weights may lie in flash.
    """

    def __init__(
        self,
        network: Preview,
        board: Board | None,
        log: Callable[[str], None] = lambda line: None,
        goal: Goal = BALANCED,
        storage: StorageWish = AS_IT_PAYS,
    ) -> None:
        self.network, self.board, self.log, self.goal, self.storage = network, board, log, goal, storage
        self._plans: dict[Bits, lower.Lowered] = {}  # the last one only, as of engines: weights take memory
        self._engines: dict[Bits, Engine] = {}
        self._linked: dict[Bits, Linked] = {}
        self._executed: dict[Bits, Executed] = {}

    def _plan(self, bits: Bits) -> lower.Lowered:
        if bits not in self._plans:
            self._plans = {bits: lower.planned(self.network.with_bits(bits), Preference(self.goal, storage=self.storage))}
        return self._plans[bits]

    def engine(self, bits: Bits) -> Engine:
        """The generated engine with these bits."""
        if bits not in self._engines:
            self._engines = {bits: _generated(self._plan(bits))}
        return self._engines[bits]

    def of_graph(self, graph: ir.Graph) -> Linked:
        """Flash of an integer network, such as one that is calibrated: what its values are decides some kernels."""
        return self._flash(_generated(lower.planned(graph, Preference(self.goal, storage=self.storage))))

    def planned(self, bits: Bits) -> Planned:
        plan = self._plan(bits).plan
        fullest = sorted(plan.timeline, key=lambda step: -step.least)
        return Planned(ram_bytes(plan), tuple(step.step for step in fullest))

    def constants(self, bits: Bits) -> int:
        """Bytes of weights and tables with these bits."""
        return self.engine(bits).weight_bytes + self.engine(bits).table_bytes

    def linked(self, bits: Bits) -> Linked:
        if bits not in self._linked:
            self._linked[bits] = self._link(bits)
        return self._linked[bits]

    def executed(self, bits: Bits) -> Executed:
        if bits not in self._executed:
            self._executed[bits] = self._run(bits)
        return self._executed[bits]

    def _run(self, bits: Bits) -> Executed:
        from tinykit.boards.emulator import EmulatedBoard
        from tinykit.boards.image import Image
        from tinykit.boards.profiling import run_inference

        if self.board is None:
            raise ConfigError("budget.instructions: name the board that counts them, in budget.board")
        engine = self.engine(bits)
        with tempfile.TemporaryDirectory() as folder:
            try:
                image = Image.load(self._build(engine, self.board, choose(None), Path(folder)).elf)
            except BudgetError as error:
                raise ConfigError(
                    [f"budget.instructions: counted on images, and this one cannot be linked: {p}" for p in error.problems]
                ) from None
            run = run_inference(EmulatedBoard(self.board, image), invoke_symbol=f"{engine.name}_invoke")
        calls = [(call.op, profile) for call, profile in zip(engine.calls, run.calls, strict=True)]
        layers = {op: profile.instructions for op, profile in calls}
        return Executed(run.instructions, layers, {op: profile.cycles for op, profile in calls})

    def _build(self, engine: Engine, board: Board, tools: Toolchain, folder: Path) -> Build:
        from tinykit.boards.firmware import build_firmware

        sources = firmware_sources(engine, random_samples(engine.graph, 1))
        return build_firmware(sources, board, folder, toolchain=tools, target="bare", optimize=LEVELS[self.goal.name][tools.name])

    def _link(self, bits: Bits) -> Linked:
        return self._flash(self.engine(bits))

    def _flash(self, engine: Engine) -> Linked:
        estimate = Linked(engine.weight_bytes + engine.table_bytes + code_estimate(engine), "code estimated")
        if self.board is None:
            return estimate
        try:
            tools = choose(None)
        except ConfigError as error:
            self.log(f"flash is estimated: {error.problems[0]}")
            return estimate
        with tempfile.TemporaryDirectory() as folder:
            try:
                return Linked(self._build(engine, self.board, tools, Path(folder)).sizes.total, LINKED)
            except BudgetError:  # it does not fit the board at all: the estimate will do
                return estimate


def _generated(lowered: lower.Lowered) -> Engine:
    return generate(lowered.graph, lowered.problem, lowered.plan, c_identifier(lowered.graph.name), lowered.variants)
