"""Allocations for an engine of quick kernels where one fits, else for the smallest engine."""

from __future__ import annotations

from collections.abc import Callable

from tinykit.boards.table import Board
from tinykit.engine.goal import SIZE, Goal
from tinykit.engine.storage import AS_IT_PAYS, StorageWish
from tinykit.fit.meter import EngineMeter, Meter
from tinykit.fit.preview import Preview
from tinykit.fit.search import Fitted


def fit_engine(
    network: Preview,
    board: Board | None,
    wanted: Goal,
    attempt: Callable[[Meter], Fitted],
    log: Callable[[str], None],
    storage: StorageWish = AS_IT_PAYS,
) -> tuple[Fitted, EngineMeter]:
    """What `attempt` finds, and the meter that it was found with.

    Quick kernels are code, and keep wider tables: where no choice of bits fits with them, one may fit with the portable ones.

    Args:
        board: what is linked for; None: code is estimated.
        wanted: what the engine is to be made best for.
        storage: how its weights may lie in flash.
    """
    for goal in dict.fromkeys((wanted, SIZE)):
        meter = EngineMeter(network, board, log, goal, storage)
        fitted = attempt(meter)
        if fitted.outcome.feasible:
            break
        if goal is not SIZE:
            log(f"no choice of bits fits with the kernels of optimize: {goal.name}; those of optimize: {SIZE.name} are tried")
    return fitted, meter
