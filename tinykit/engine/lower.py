"""From a graph to the planner's problem (buffers, kernels' accesses, aliases) and to its plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tinykit.engine import compact, storage
from tinykit.engine.access import activations, tensor_bits, tensor_bytes
from tinykit.engine.call import Variant
from tinykit.engine.memory import dtype, is_packed
from tinykit.engine.registry import portable as portable_kernel
from tinykit.engine.select import DEFAULT, Preference, choose, offers, peak, step_needs, with_accesses
from tinykit.errors import ModelError
from tinykit.graph import ir, reference
from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.problem import Access, Plan, Problem, Step


@dataclass(frozen=True)
class Lowered:
    """What an engine is generated from.

    Attributes:
        graph: folded.
        problem, plan: the planner's.
        variants: how each op is executed, by name.
    """

    graph: ir.Graph
    problem: Problem
    plan: Plan
    variants: Mapping[str, Variant]


def planned(graph: ir.Graph, preference: Preference = DEFAULT) -> Lowered:
    """Plans a network. Tables are compact where that saves more flash than the RAM that it costs is worth to the preference's goal.

    Raises:
        ModelError: an op has no kernel, or the graph is malformed.
    """
    graph.validate()
    graph = folded(graph)
    problem, portable = _portable(graph)
    variants = choose(graph, problem, portable, preference)
    limit, price = preference.limit(peak(problem)), preference.goal.flash_per_ram
    problem = with_accesses(problem, variants)
    plan, smaller = make_plan(problem), compact.offer(graph, variants)
    if smaller.variants and price is not None:
        other_problem = with_accesses(problem, smaller.variants)
        other = make_plan(other_problem)
        if price * (other.arena_bytes - plan.arena_bytes) <= smaller.saved:
            problem, plan, variants = other_problem, other, {**variants, **smaller.variants}
    return _stored(Lowered(graph, problem, plan, variants), preference, max(limit, plan.arena_bytes))


def _stored(plain: Lowered, preference: Preference, limit: float) -> Lowered:
    """The network with its weights coded where that pays.

    Args:
        limit: bytes that the arena may take anyway.
    """

    def needs(accesses: Mapping[str, Access]) -> Mapping[str, int]:
        return step_needs(with_accesses(plain.problem, {name: replace(plain.variants[name], access=a) for name, a in accesses.items()}))

    most = max(limit, min((room for room in (preference.room, preference.storage.room) if room is not None), default=math.inf))
    price = None if preference.goal.flash_per_ram is None else preference.storage.price
    room = storage.Room(needs, limit, most, price)
    variants, arena = storage.chosen(plain.graph, plain.variants, preference.storage, room)
    while coded := {name: own for name, variant in variants.items() if (own := variant.storage) is not None and own.calls is not None}:
        problem = with_accesses(plain.problem, variants)
        plan = make_plan(problem)
        if plan.arena_bytes <= arena:
            return replace(plain, problem=problem, plan=plan, variants=variants)
        fullest = max((step for step in plan.timeline if step.step in coded), key=lambda step: step.least).step
        why = f"decoded, the arena would take {plan.arena_bytes:,} bytes"
        variants[fullest] = storage.dense_again(plain.variants[fullest], coded[fullest], why)
    return replace(plain, variants=variants)


def variants_by_rank(graph: ir.Graph) -> tuple[ir.Graph, Problem, dict[str, list[Variant]]]:
    """The folded graph, the problem of its portable kernels, and all variants of each op as `select.offers` lists them.

    Raises:
        ModelError: like `planned`.
    """
    graph.validate()
    graph = folded(graph)
    problem, portable = _portable(graph)
    return graph, problem, offers(graph, portable)


def executed(graph: ir.Graph) -> list[ir.Op]:
    """The ops that cost code: all but reshapes, whose results are other names of the same bytes."""
    return [op for op in graph.ops if not isinstance(op, ir.Reshape)]


def folded(graph: ir.Graph) -> ir.Graph:
    """The graph without integer ops that depend on constants alone: their results are constants, or copies of one where they are outputs.

    Converters fold them, but a simplified graph may have some, where all that is left of a concatenation is a constant operand."""
    result = graph.copy()
    result.ops = []
    for op in graph.ops:
        y = graph.tensors[op.output]
        if not op.inputs or any(t not in result.constants for t in op.inputs) or y.dtype != ir.Dtype.INT:
            result.ops.append(op)
            continue
        alone = ir.Graph(graph.tensors, [op], (), (op.output,), result.constants, graph.name)
        value = reference.run_all(alone, {})[op.output][0].astype(dtype(y))
        if op.output in graph.outputs:
            constant = dataclasses.replace(y, name=f"{y.name} of constants")
            result.tensors[constant.name], result.constants[constant.name] = constant, value
            result.ops.append(ir.Transpose(op.name, (constant.name,), y.name, tuple(range(len(y.shape)))))
        else:
            result.constants[op.output] = value
    return result


def plan_problem(graph: ir.Graph) -> Problem:
    """What the planner needs to know about `graph`; steps have the names of their ops.

    Raises:
        ModelError: a kernel refuses its op, a constant is reshaped or is an output, two ops have one name, there is no input or no output;
            all of them at once.
    """
    problem, portable = _portable(graph)
    return with_accesses(problem, choose(graph, problem, portable))


def chosen_variants(graph: ir.Graph) -> dict[str, Variant]:
    """How each op is executed, by name; the same for equal graphs. Raises ModelError like `plan_problem`."""
    return choose(graph, *_portable(graph))


def _portable(graph: ir.Graph) -> tuple[Problem, dict[str, Variant]]:
    """The problem where every op has its portable kernel, and these kernels by op."""
    problems = [f"it has no {word}" for word, names in (("input", graph.inputs), ("output", graph.outputs)) if not names]
    problems += [f"constant {t!r} is an output" for t in graph.outputs if t in graph.constants]
    aliases, steps, variants = {}, [], {}
    for op in graph.ops:
        if isinstance(op, ir.Reshape):
            problems += _reshape_problems(graph, op)
            aliases[op.output] = op.inputs[0]
        else:
            try:
                variants[op.name] = portable_kernel(graph, op)  # refuses what the kernel cannot do, before any work is spent on a plan
                steps.append(Step(op.name, tuple(activations(graph, op)), op.output, variants[op.name].access))
            except ModelError as problem:
                problems += problem.problems
    names = [step.name for step in steps]
    problems += [f"two ops are called {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise ModelError([f"graph {graph.name!r}: {p}" for p in problems])
    sizes = {t.name: tensor_bytes(t) for t in graph.activations()}
    partial = {t.name: tensor_bits(t) for t in graph.activations() if tensor_bits(t) % 8}
    return Problem(sizes, tuple(steps), graph.inputs, graph.outputs, aliases, bits=partial), variants


def _reshape_problems(graph: ir.Graph, op: ir.Reshape) -> Iterator[str]:
    """Why the result of a reshape is not another name of the same bytes."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if x.name in graph.constants:
        yield f"op {op.name!r} reshapes a constant"
    if tensor_bits(x) != tensor_bits(y) or (is_packed(x) and x.low != y.low):
        yield f"op {op.name!r} reshapes {x.bits} bits from {x.low} to {y.bits} bits from {y.low}, which are not the same bytes"
