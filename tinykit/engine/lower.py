"""From a graph to the planner's problem: buffers, kernels' accesses, aliases."""

from __future__ import annotations

from tinykit.engine.access import activations, tensor_bytes
from tinykit.engine.registry import kernel
from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.plan.problem import Problem, Step


def executed(graph: ir.Graph) -> list[ir.Op]:
    """The ops that cost code: all but reshapes, whose results are other names of the same bytes."""
    return [op for op in graph.ops if not isinstance(op, ir.Reshape)]


def plan_problem(graph: ir.Graph) -> Problem:
    """What the planner needs to know about `graph`; steps have the names of their ops.

    Raises:
        ModelError: a kernel refuses its op, a constant is reshaped or is an output, two ops have one name; all of them at once.
    """
    problems = [f"constant {t!r} is an output" for t in graph.outputs if t in graph.constants]
    aliases, steps = {}, []
    for op in graph.ops:
        if isinstance(op, ir.Reshape):
            if op.inputs[0] in graph.constants:
                problems.append(f"op {op.name!r} reshapes a constant")
            aliases[op.output] = op.inputs[0]
        else:
            try:
                chosen = kernel(op)
                chosen.call(graph, op, False)  # refuses what the kernel cannot do, before any work is spent on a plan
                steps.append(Step(op.name, tuple(activations(graph, op)), op.output, chosen.access(graph, op)))
            except ModelError as problem:
                problems += problem.problems
    names = [step.name for step in steps]
    problems += [f"two ops are called {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise ModelError([f"graph {graph.name!r}: {p}" for p in problems])
    sizes = {t.name: tensor_bytes(t) for t in graph.activations()}
    return Problem(sizes, tuple(steps), graph.inputs, graph.outputs, aliases)
