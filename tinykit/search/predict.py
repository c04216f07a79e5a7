"""What an architecture will take on the board: its untrained twin is planned, linked and run once on the emulated board."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinykit.boards.pipeline import Compiled, compile_graph
from tinykit.boards.table import Board, Budget
from tinykit.engine.goal import Goal
from tinykit.errors import BudgetError
from tinykit.graph import ir
from tinykit.quant.allocation.network import Bits, eight_bits

if TYPE_CHECKING:
    from tinykit.fit.preview import Preview


@dataclass(frozen=True)
class Prediction:
    """Figures of an untrained twin.

    Attributes:
        flash: bytes of the linked image; None: it cannot be linked into the board's memory.
        ram: bytes of arena, static data and stack.
        instructions, cycles: of one inference, emulated.
        problems: why it does not fit the budget; empty where it does.
        arena: bytes that the planner gives to activations, of `ram`.
    """

    flash: int | None
    ram: int | None
    instructions: int | None
    cycles: int | None
    problems: tuple[str, ...] = ()
    arena: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the problems."""
        return {name: value for name, value in asdict(self).items() if name != "problems"}


def twin(model: Any, weight_bits: int = 8) -> ir.Graph:
    """The integer graph of an untrained float Keras model: right in shapes and bits, not in values."""
    found, bits = _twin(model, weight_bits)
    return found.with_bits(bits)


def _twin(model: Any, weight_bits: int) -> tuple[Preview, Bits]:
    from tinykit.fit.preview import preview
    from tinykit.quant.fuse import fuse

    found = preview(fuse(model))
    bits = eight_bits(found.network)
    return found, replace(bits, weights=(weight_bits,) * len(bits.weights))


@dataclass(frozen=True)
class Target:
    """What networks are built for.

    Attributes:
        board: linked and emulated for.
        budget: what a network may take.
        goal: what the engine is made best for.
        weight_bits: of every layer.
    """

    board: Board
    budget: Budget
    goal: Goal
    weight_bits: int = 8


def with_dropout(options: Mapping[str, Any], dropout: float) -> dict[str, Any]:
    """Options of the family `staged` with dropout besides."""
    return {**options, **({"dropout": dropout} if dropout else {})}


def predict(options: Mapping[str, Any], input_shape: Sequence[int], classes: int, target: Target) -> Prediction:
    """Figures of the network of family `staged` with these options.

    Raises:
        ConfigError: there is no compiler.
        ParityError: the twin's image and its reference disagree.
    """
    return predict_graph(twin(_untrained(options, input_shape, classes), target.weight_bits), target)


def predict_graph(graph: ir.Graph, target: Target) -> Prediction:
    """Figures of an untrained network: linked, and run once on the emulated board.

    Raises:
        ConfigError: there is no compiler.
        ParityError: the image and the reference disagree.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            compiled = compile_graph(graph, target.board, Path(folder), goal=target.goal, budget=target.budget, samples=1)
        except BudgetError as error:
            return Prediction(None, None, None, None, tuple(error.problems))
    return figures(compiled, target)


def estimate(options: Mapping[str, Any], input_shape: Sequence[int], classes: int, target: Target) -> dict[str, int]:
    """flash and ram of the network of family `staged` with these options, in bytes, without an image.

    The arena is planned and the constants are those of the generated engine; code and stack are estimated, by about the same too little in
    all architectures of one space.
    """
    from tinykit.fit.meter import EngineMeter

    found, bits = _twin(_untrained(options, input_shape, classes), target.weight_bits)
    meter = EngineMeter(found, None, goal=target.goal)
    return {"flash": meter.linked(bits).flash, "ram": meter.planned(bits).ram}


def _untrained(options: Mapping[str, Any], input_shape: Sequence[int], classes: int) -> Any:
    import keras

    from tinykit.models.registry import build_model

    keras.utils.set_random_seed(0)  # how compact tables can be depends a little on what is in them
    return build_model("staged", input_shape, classes, options)


def figures(compiled: Compiled, target: Target) -> Prediction:
    """What an image and its first inference take, and what of that is too much."""
    run = compiled.verification.run
    instructions = None if run is None else run.instructions
    problems = compiled.problems()
    limit = target.budget.instructions
    if limit is not None and instructions is not None and instructions > limit:
        problems.append(f"time: {instructions:,} instructions of {limit:,}")
    cycles = None if run is None else run.cycles
    return Prediction(compiled.build.sizes.total, compiled.ram, instructions, cycles, tuple(problems), compiled.build.sizes.arena)
