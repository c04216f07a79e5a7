"""From a problem to a plan: order of the steps, offsets, directions, and what the memory looks like at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinykit.graph.plan import firstfit, program
from tinykit.graph.plan.layout import Layout, build_layout
from tinykit.graph.plan.network import Network, index
from tinykit.graph.plan.order import Found, Order, OrderSearch, step_bytes
from tinykit.graph.plan.problem import Plan, Problem, StepMemory

_ORDERS = 6  # further orders that first fit tries, of the least peak and then of any that could help
_PROGRAMS = 2  # orders that integer programming tries


def make_plan(problem: Problem) -> Plan:
    """Plans a network's memory: the least arena that was found. The same problem gives the same plan, however busy the machine.

    Raises:
        ModelError: the problem contradicts itself; names the step or tensor.
    """
    network = index(problem)
    search = OrderSearch(network)
    found = search.best()
    placed, bound = _pack(network, search, found)
    return _plan(problem, network, placed, bound, found.exact)


@dataclass(frozen=True)
class _Placed:
    """A placement for one order; no placement of this order takes less than `bound` bytes."""

    order: Order
    bound: int
    layout: Layout
    offsets: Sequence[int]

    @property
    def arena(self) -> int:
        return self.layout.arena(self.offsets)


def _pack(network: Network, search: OrderSearch, found: Found) -> tuple[_Placed, int]:
    """The best placement over several orders, and the least bound of them; more than one is tried only while the bound is not reached.

    An order of a higher peak may be the easier one to place, so orders that could still beat the best follow those of the least peak.
    Where not all orders were searched, one of them may turn out to need less than the first.
    """
    best = _first_fit(network, found.order)
    tried = {found.order: best}
    for least_peak in (True, False):
        if best.arena <= found.bound:
            break
        for order in search.more(found, found.bound if least_peak else best.arena - network.unit, _ORDERS):
            if order not in tried:
                tried[order] = _first_fit(network, order)
                best = min(best, tried[order], key=lambda placed: placed.arena)
            if best.arena <= found.bound:
                break
    bound = min(placed.bound for placed in tried.values())
    for placed in sorted(tried.values(), key=lambda placed: placed.arena)[:_PROGRAMS]:
        if best.arena <= bound:
            break
        offsets = program.solve(placed.layout, placed.bound, best.arena - network.unit)
        best = best if offsets is None else replace(placed, offsets=offsets)
    return best, bound


def _first_fit(network: Network, order: Order) -> _Placed:
    layout, needs = build_layout(network, order), step_bytes(network, order)
    bound = max([*needs, network.edge_bytes()])
    return _Placed(order, bound, layout, firstfit.search(layout, needs, bound))


def _plan(problem: Problem, network: Network, placed: _Placed, bound: int, exact: bool) -> Plan:
    order, layout, offsets = placed.order, placed.layout, placed.offsets
    directions = layout.directions(offsets)
    if directions is None:  # neither first fit nor the checked program gives such offsets
        raise RuntimeError("the placement contradicts its layout")
    at = {network.buffers[item.buffer]: offset for item, offset in zip(layout.items, offsets) if item.buffer >= 0}
    scratch = {item.first: offset for item, offset in zip(layout.items, offsets) if item.buffer < 0}
    return Plan(
        order=tuple(order),
        offsets={t: at[problem.owner(t)] for t in problem.sizes},
        scratch={problem.steps[order[p]].name: offset for p, offset in sorted(scratch.items())},
        reversed=frozenset(problem.steps[order[p]].name for p in directions),
        arena_bytes=placed.arena,
        lower_bound=bound,
        order_exact=exact,
        timeline=_timeline(problem, network, placed),
    )


def _timeline(problem: Problem, network: Network, placed: _Placed) -> tuple[StepMemory, ...]:
    entries = []
    for position, (step, least) in enumerate(zip(placed.order, step_bytes(network, placed.order))):
        tensors: dict[str, tuple[int, int]] = {}
        scratch, footprint = (0, 0), 0
        for item, offset in zip(placed.layout.items, placed.offsets):
            if not item.first <= position <= item.last:
                continue
            footprint = max(footprint, offset + item.size)
            if item.buffer < 0:
                scratch = (offset, problem.steps[step].access.scratch)
            else:
                name = network.buffers[item.buffer]
                tensors[name] = (offset, problem.sizes[name])
        entries.append(StepMemory(problem.steps[step].name, tensors, scratch, footprint, least))
    return tuple(entries)
