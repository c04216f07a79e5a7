"""Which variant of its kernel runs each op: the quickest that the memory has room for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tinykit.engine.call import Variant
from tinykit.engine.registry import fast
from tinykit.graph import ir
from tinykit.graph.plan.network import index
from tinykit.graph.plan.order import step_bytes
from tinykit.graph.plan.problem import Problem

SPARE = 1000
"""Bytes of the arena that fast kernels may take beyond what the portable ones need."""


def choose(graph: ir.Graph, problem: Problem, portable: Mapping[str, Variant]) -> dict[str, Variant]:
    """The variants to run.

    A fast kernel's buffers count only where the arena is at its largest. What each step needs, whatever is alive beside it included, is
    known for the order in which the graph lists them: there the quickest variant is taken that stays within the largest need of the
    portable kernels and `SPARE` bytes. The planner may still find a better order.

    Args:
        problem: of the portable kernels.
        portable: by op.
    """
    offers = {op.name: fast(graph, op) for op in graph.ops if op.name in portable}
    limit = _peak(problem) + SPARE
    chosen = dict(portable)
    for rank in reversed(range(max(map(len, offers.values()), default=0))):
        ranked = {name: found[rank] for name, found in offers.items() if rank < len(found)}
        needs = _needs(with_accesses(problem, ranked))
        chosen |= {name: variant for name, variant in ranked.items() if needs[name] <= limit}
    return chosen


def with_accesses(problem: Problem, variants: Mapping[str, Variant]) -> Problem:
    """The problem with what these variants touch."""
    return replace(problem, steps=tuple(replace(s, access=variants[s.name].access) if s.name in variants else s for s in problem.steps))


def _needs(problem: Problem) -> dict[str, int]:
    """Bytes that each step needs in the given order."""
    names = [step.name for step in problem.steps]
    return dict(zip(names, step_bytes(index(problem), range(len(names)))))


def _peak(problem: Problem) -> int:
    """Bytes of the largest step, of the inputs or of the outputs."""
    return max([*_needs(problem).values(), index(problem).edge_bytes()])
