"""Sizes of the engine that a float network would become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinykit.boards.table import Board
from tinykit.engine.estimate import code_estimate
from tinykit.engine.goal import BALANCED, Goal
from tinykit.engine.storage import AS_IT_PAYS, StorageWish
from tinykit.fit.meter import EngineMeter
from tinykit.fit.preview import preview
from tinykit.quant.allocation.network import eight_bits
from tinykit.quant.fuse import fuse
from tinykit.shrink.costs import Sizes


def engine_sizes(board: Board | None, goal: Goal = BALANCED, storage: StorageWish = AS_IT_PAYS) -> Callable[[Any], Sizes]:
    """A function from a float Keras model to the sizes of its int8 engine; they do not depend on the values of the weights.

    Args:
        board: the emulated board that counts instructions and cycles; None: they are not counted.
        goal: what the engine is made best for.
        storage: how its weights may lie in flash.

    The function raises ModelError for layers without an exact integer counterpart, ConfigError where a board is to count and there is no
    compiler or the image cannot be linked.
    """

    def sizes(model: Any) -> Sizes:
        found = preview(fuse(model))
        eight = eight_bits(found.network)
        meter = EngineMeter(found, board, goal=goal, storage=storage)
        engine = meter.engine(eight)
        fullest = max(engine.plan.timeline, key=lambda step: step.least)
        executed = meter.executed(eight) if board is not None else None
        return Sizes(
            meter.constants(eight) + code_estimate(engine),
            meter.planned(eight).ram,
            {name: size for name, (_, size) in fullest.tensors.items()},
            executed.cycles if executed else {},
            executed.layers if executed else {},
        )

    return sizes
