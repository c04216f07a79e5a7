"""What steps promise about the models they hand back, and whether later steps keep it.

A step names the claims that it makes (`promises`) and those that it leaves true (`keeps`). An order in which a step would undo a claim is
refused with the configuration; whether a step that says so really keeps it is measured after it has worked.
"""

from collections.abc import Callable
from typing import Any

from tinykit.recipe.ledger import Footprint


def _macs(before: Footprint, now: Footprint) -> list[str]:
    """Multiply-accumulates have not grown; what is not known cannot be said."""
    if before.macs is None or now.macs is None or now.macs <= before.macs:
        return []
    return [f"{now.macs:,} multiply-accumulates, where {before.macs:,} were reached"]


CLAIMS: dict[str, tuple[str, Callable[[Footprint, Footprint], list[str]]]] = {
    "macs": ("the network stays as small as it was made", _macs),
}
"""Claim -> (what it says, (size after the step that promised, size now) -> what is broken)."""


def conflicts(steps: list[tuple[str, Any]]) -> list[tuple[int, str]]:
    """(index, message) of each step of a recipe that would undo what a step before it promises.

    Args:
        steps: (name, step class) in order.
    """
    found = []
    promised: dict[str, str] = {}
    for index, (name, step) in enumerate(steps):
        undone = [claim for claim in promised if claim not in getattr(step, "keeps", ())]
        for claim in undone:
            what = f"step {name!r} would undo what {promised[claim]!r} before it has done: {CLAIMS[claim][0]}; put it before"
            found.append((index, what))
        promised |= {claim: name for claim in getattr(step, "promises", ())}
    return found


def broken(promises: tuple[str, ...], before: Footprint, now: Footprint) -> list[str]:
    """What a network does not keep of the claims of a step that left it with the size `before`."""
    return [problem for claim in promises for problem in CLAIMS[claim][1](before, now)]
