"""Which variant of its kernel runs each op: the quickest that the goal and the memory have room for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tinykit.engine.call import Variant
from tinykit.engine.goal import BALANCED, Goal
from tinykit.engine.registry import fast
from tinykit.engine.storage import StorageWish
from tinykit.graph import ir
from tinykit.graph.plan.network import index
from tinykit.graph.plan.order import step_bytes
from tinykit.graph.plan.problem import Problem


@dataclass(frozen=True)
class Preference:
    """What decides between variants.

    Attributes:
        goal: what the engine is made best for.
        room: bytes that the arena may take on the board; counts where the goal has no limit of its own. None: any number.
        measured: op -> instructions that each of its variants executed, in the order of `offers`, NaN where one did not run. Where an op is
            missing, the kernels' own estimates decide.
        storage: how weights may lie in flash.
    """

    goal: Goal = BALANCED
    room: int | None = None
    measured: Mapping[str, Sequence[float]] = field(default_factory=dict)
    storage: StorageWish = field(default_factory=StorageWish)

    def limit(self, portable: int) -> float:
        """Bytes that a step may need, where portable kernels need `portable`."""
        if self.goal.spare is not None:
            return portable + self.goal.spare
        return math.inf if self.room is None else max(portable, self.room)


DEFAULT = Preference()
"""Estimates, balanced."""


def offers(graph: ir.Graph, portable: Mapping[str, Variant]) -> dict[str, list[Variant]]:
    """All variants of each op, the quickest by their own estimates first, the portable one last."""
    return {op.name: [*fast(graph, op), portable[op.name]] for op in graph.ops if op.name in portable}


def choose(graph: ir.Graph, problem: Problem, portable: Mapping[str, Variant], preference: Preference = DEFAULT) -> dict[str, Variant]:
    """The variants to run.

    A fast kernel's buffers count only where the arena is at its largest. What each step needs, whatever is alive beside it included, is
    known for the order in which the graph lists them: there the quickest variant is taken that stays within the limit of the preference.
    The planner may still find a better order.

    Args:
        problem: of the portable kernels.
        portable: by op.
    """
    if not preference.goal.fast:
        return dict(portable)
    ranked = {name: _ranked(found, preference.measured.get(name)) for name, found in offers(graph, portable).items()}
    limit = preference.limit(peak(problem))
    chosen = dict(portable)
    for rank in reversed(range(max(map(len, ranked.values()), default=0))):
        tried = {name: found[rank] for name, found in ranked.items() if rank < len(found)}
        needs = step_needs(with_accesses(problem, tried))
        chosen |= {name: variant for name, variant in tried.items() if needs[name] <= limit}
    return chosen


def _ranked(found: Sequence[Variant], measured: Sequence[float] | None) -> list[Variant]:
    """Variants that are worth trying instead of the portable one, which is the last of `found`; the quickest first."""
    if measured is None or len(measured) != len(found):
        return list(found[:-1])
    order = sorted((cost, i) for i, cost in enumerate(measured) if not math.isnan(cost))
    quicker = [i for cost, i in order if math.isnan(measured[-1]) or cost < measured[-1]]
    return [found[i] for i in quicker if i != len(found) - 1]


def with_accesses(problem: Problem, variants: Mapping[str, Variant]) -> Problem:
    """The problem with what these variants touch."""
    return replace(problem, steps=tuple(replace(s, access=variants[s.name].access) if s.name in variants else s for s in problem.steps))


def step_needs(problem: Problem) -> dict[str, int]:
    """Bytes that each step needs in the given order."""
    names = [step.name for step in problem.steps]
    return dict(zip(names, step_bytes(index(problem), range(len(names)))))


def peak(problem: Problem) -> int:
    """Bytes of the largest step, of the inputs or of the outputs."""
    return max([*step_needs(problem).values(), index(problem).edge_bytes()])
