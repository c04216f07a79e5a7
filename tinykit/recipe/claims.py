"""What steps promise about the models they hand back, and whether later steps keep it.

A step names the claims that it makes (`promises`) and those that it leaves true (`keeps`). An order in which a step would undo a claim is
refused with the configuration; whether a step that says so really keeps it is measured after it has worked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinykit.recipe.ledger import Footprint

if TYPE_CHECKING:
    import numpy as np


def _unknown() -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Evidence:
    """What can be measured of a model after a step.

    Attributes:
        footprint: its size.
        weights: layer -> its weights [products, channels], float or integer; see `tinykit.shrink.kernels.weight_columns`.
        clusters: of a step that shares values: the most a tensor or channel may have.
    """

    footprint: Footprint
    weights: "Callable[[], dict[str, np.ndarray]]" = _unknown
    clusters: int = 0


def _macs(before: Evidence, now: Evidence) -> list[str]:
    """Multiply-accumulates have not grown; what is not known cannot be said."""
    reached, found = before.footprint.macs, now.footprint.macs
    if reached is None or found is None or found <= reached:
        return []
    return [f"{found:,} multiply-accumulates, where {reached:,} were reached"]


def _pairs(before: Evidence, now: Evidence) -> "tuple[list[tuple[str, np.ndarray, np.ndarray]], list[str]]":
    """(layer, its weights before, now) for every layer, and those that are not the same layers any more."""
    reached, found = before.weights(), now.weights()
    lost = [name for name, weights in reached.items() if name not in found or found[name].shape != weights.shape]
    return (
        [(name, weights, found[name]) for name, weights in reached.items() if name not in lost],
        [f"layer {name!r} is not there any more, or has another shape" for name in lost],
    )


def _sparsity(before: Evidence, now: Evidence) -> list[str]:
    """Every weight that was 0 is 0."""
    pairs, problems = _pairs(before, now)
    for name, reached, found in pairs:
        filled = int(((reached == 0) & (found != 0)).sum())
        if filled:
            problems.append(f"layer {name!r}: {filled:,} of {int((reached == 0).sum()):,} weights that were 0 are not")
    return problems


def _clusters(before: Evidence, now: Evidence) -> list[str]:
    """Layers whose weights shared at most `clusters` values, in the tensor or in every channel, share no more."""
    from tinykit.quant.kept import most_values, shares_values

    pairs, problems = _pairs(before, now)
    for name, reached, found in pairs:
        table = shares_values(reached, before.clusters)
        values = dict(zip(("tensor", "channel"), most_values(found), strict=True))
        if table is not None and values[table] > before.clusters:
            problems.append(f"layer {name!r}: {values[table]:,} different weights in a {table}, of {before.clusters} at most")
    return problems


CLAIMS: dict[str, tuple[str, Callable[[Evidence, Evidence], list[str]]]] = {
    "macs": ("the network stays as small as it was made", _macs),
    "sparsity": ("weights that are 0 stay 0", _sparsity),
    "clusters": ("weights that share a value go on sharing one", _clusters),
}
"""Claim -> (what it says, (after the step that promised, now) -> what is broken)."""


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


def broken(promises: tuple[str, ...], before: Evidence, now: Evidence) -> list[str]:
    """What a network does not keep of the claims of a step that left it as `before`."""
    return [problem for claim in promises for problem in CLAIMS[claim][1](before, now)]
