"""What would lower the arena, in plain sentences."""

from __future__ import annotations

from tinykit.graph.plan.problem import Plan, Problem, StepMemory

_CLOSE = 0.05  # a gap to the lower bound below this share of the arena is not worth anybody's time
_LONGEST = 40  # characters of a name
_NAMED = 6  # steps that a sentence lists


def _short(name: str) -> str:
    """A name in a sentence, cut as in the report: converters join names with ';', the first tells most; a long one loses its middle."""
    first, half = name.partition(";")[0] or name, _LONGEST // 2
    return first if len(first) <= _LONGEST else f"{first[: half - 3]}...{first[-half:]}"


def advice(problem: Problem, plan: Plan) -> list[str]:
    """Sentences about a plan: which step decides the arena and what is alive there, how far the plan is from what any plan needs, how far
    the arena would fall if that step (and those near it) were halved, and which step would decide then."""
    if not plan.timeline:
        return [f"The network has no steps: its arena of {plan.arena_bytes:,} B holds its inputs and outputs."]
    peak = max(plan.timeline, key=lambda entry: entry.least)
    sentences = [_peak_sentence(problem, plan, peak), _gap_sentence(plan)]
    edge = _edge_bytes(problem)
    if edge >= peak.least:
        return [*sentences, f"The inputs, or the outputs, take {edge:,} B by themselves, so only smaller ones can lower the arena."]
    sentences.append(_next_sentence(plan, peak, edge))
    together = _together_sentence(plan, peak, edge)
    return [*sentences, together] if together else sentences


def _peak_sentence(problem: Problem, plan: Plan, peak: StepMemory) -> str:
    step = next(s for s in problem.steps if s.name == peak.step)
    read, written = {problem.owner(t) for t in step.inputs}, problem.owner(step.output)
    alive = []
    for name, (_, size) in sorted(peak.tensors.items(), key=lambda item: (-item[1][1], item[0])):
        role = "output" if name == written else "input" if name in read else "kept for later"
        alive.append(f"{_short(name)} {size:,} B ({role})")
    if peak.scratch[1]:
        alive.append(f"scratch {peak.scratch[1]:,} B")
    total = sum(size for _, size in peak.tensors.values()) + peak.scratch[1]
    shared = f", of which {total - peak.least:,} B can be shared" if total > peak.least else ""
    step_needs = f"Step {_short(peak.step)} needs the most memory, {peak.least:,} B of the arena's {plan.arena_bytes:,} B"
    return f"{step_needs}: {', '.join(alive)}{shared}."


def _gap_sentence(plan: Plan) -> str:
    gap = plan.arena_bytes - plan.lower_bound
    orders = "any order of the steps" if plan.order_exact else "the orders that were searched"
    if gap == 0:
        return f"No placement in {orders} takes less; only another network can, or kernels that overlap further."
    small = ", too little to matter" if gap < _CLOSE * plan.arena_bytes else ""
    return f"The arena is {gap:,} B above what {orders} must take{small}; placement, not a single step, costs them."


def _next_sentence(plan: Plan, peak: StepMemory, edge: int) -> str:
    """What halving the most demanding step would win."""
    others = [entry for entry in plan.timeline if entry.step != peak.step]
    fall = _fall(plan, [peak], others, edge)
    return f"If {_short(peak.step)} needed half of that (fewer channels, or an input that is smaller or reduced earlier), {fall}."


def _together_sentence(plan: Plan, peak: StepMemory, edge: int) -> str | None:
    """What halving all steps near the peak would win; None where the peak stands alone."""
    near = [entry for entry in plan.timeline if entry.least >= (1 - _CLOSE) * peak.least]
    if len(near) < 2:
        return None
    fall = _fall(plan, near, [entry for entry in plan.timeline if entry not in near], edge)
    names = ", ".join(_short(entry.step) for entry in near[:_NAMED])
    if len(near) > _NAMED:
        names = f"{names} and {len(near) - _NAMED} more"
    return f"{len(near)} steps come within {_CLOSE:.0%} of it ({names}); if each needed half, {fall}."


def _fall(plan: Plan, halved: list[StepMemory], others: list[StepMemory], edge: int) -> str:
    """How far the arena could fall with some steps halved, and what would decide then."""
    half = max((entry.least + 1) // 2 for entry in halved)
    following = max(others, key=lambda entry: entry.least, default=None)
    rest = max(half, edge, following.least if following else 0)
    saved = max(0, plan.lower_bound - rest)
    fall = f"the arena could fall by {saved:,} B to {rest:,} B" if saved else "the arena would not fall"
    if following is not None and following.least == rest:
        return f"{fall}; step {_short(following.step)} would decide then, with {following.least:,} B"
    if edge == rest:
        return f"{fall}; the inputs or outputs, {edge:,} B, would decide then"
    return f"{fall} and would still be decided there"


def _edge_bytes(problem: Problem) -> int:
    """Bytes of all inputs, or of all outputs, whichever is more."""
    edges = ({problem.owner(t) for t in tensors} for tensors in (problem.inputs, problem.outputs))
    return max(sum(problem.sizes[t] for t in edge) for edge in edges)
