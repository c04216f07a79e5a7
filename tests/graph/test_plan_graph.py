"""Reads that follow from the graph: against what the reference executor depends on, and on plans with false accesses."""

import dataclasses

import numpy as np
import pytest
from plan_samples import in_bits, pixels, whole
from simplify_graphs import OPS, Net, inputs_for, random_graph

from tinykit.graph import ir, reference
from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.problem import Access, Problem, Step
from tinykit.graph.plan.reads import graph_reads
from tinykit.graph.plan.replay import replay, replay_graph


def dependencies(graph: ir.Graph, op: ir.Op, position: int) -> np.ndarray:
    """bool [output elements, input elements] from graph_reads."""
    matrix = np.zeros((graph.tensors[op.output].size, graph.tensors[op.inputs[position]].size), bool)
    for part in graph_reads(graph, op, position):
        for (o0, o1), (i0, i1) in zip(part.outputs, part.inputs):
            matrix[o0:o1, i0:i1] = True
    return matrix


def access_of(graph: ir.Graph, op: ir.Op, units: int, buffered: bool, reversible: bool) -> Access:
    """The tightest access with `units` units of about equal output."""
    size = graph.tensors[op.output].size
    edges = np.arange(units + 1) * size // units
    hulls: dict[str, np.ndarray] = {}
    for position, tensor in enumerate(op.inputs):
        if tensor not in graph.constants:
            matrix = dependencies(graph, op, position)
            used = [np.flatnonzero(matrix[a:b].any(axis=0)) for a, b in zip(edges, edges[1:])]
            ranges = np.array([[u[0], u[-1] + 1] if u.size else [0, 0] for u in used])
            if tensor in hulls:  # an operand twice: the hull of both
                other = hulls[tensor]
                empty = ranges[:, 1] == 0
                both = np.stack([np.minimum(ranges[:, 0], other[:, 0]), np.maximum(ranges[:, 1], other[:, 1])], 1)
                ranges = np.where(empty[:, None], other, np.where((other[:, 1] == 0)[:, None], ranges, both))
            hulls[tensor] = ranges
    return in_bits(Access(hulls, np.stack([edges[:-1], edges[1:]], 1), buffered, reversible))


def units_of(graph: ir.Graph, op: ir.Op, random: np.random.Generator) -> int:
    """Pixels, rows, elements or everything."""
    shape, size = graph.tensors[op.output].shape, graph.tensors[op.output].size
    return int(random.choice([size // shape[-1] if shape else 1, shape[0] if shape else 1, size, 1]))


def lower(graph: ir.Graph, seed: int = 0) -> Problem:
    """A problem with true accesses: one byte an element, reshapes as aliases."""
    random = np.random.default_rng(seed)
    aliases = {op.output: op.inputs[0] for op in graph.ops if isinstance(op, ir.Reshape)}
    steps = []
    for op in graph.ops:
        if not isinstance(op, ir.Reshape):
            access = access_of(graph, op, units_of(graph, op, random), bool(random.random() < 0.4), bool(random.random() < 0.7))
            steps.append(Step(op.name, tuple(access.reads), op.output, access))
    return Problem({t.name: t.size for t in graph.activations()}, tuple(steps), graph.inputs, graph.outputs, aliases)


def some_graphs(kinds: int, seeds: range) -> list[tuple[int, ir.Graph]]:
    found = []
    for seed in seeds:
        graph = random_graph([str(k) for k in np.random.default_rng(seed).choice(OPS, kinds)], seed)
        if graph is not None:
            found.append((seed, graph))
    return found


@pytest.mark.parametrize("kind", sorted(set(OPS)))
def test_reads_cover_what_the_executor_depends_on(kind: str) -> None:
    """Every op alone: one input element changed at a time; each output element that changes must list it."""
    seen = changed = 0
    for seed in range(12):
        graph = random_graph([kind], seed)
        for op in graph.ops if graph is not None else []:
            for position, tensor in enumerate(op.inputs):
                if tensor not in graph.constants:
                    seen += 1
                    changed += _check_op(graph, op, position, seed)
    assert kind == "noop" or (seen and changed)


def _check_op(graph: ir.Graph, op: ir.Op, position: int, seed: int) -> int:
    random = np.random.default_rng(seed)
    inputs = tuple(dict.fromkeys(t for t in op.inputs if t not in graph.constants))
    alone = ir.Graph(graph.tensors, [op], inputs, (op.output,), graph.constants)
    base = {t: random.integers(graph.tensors[t].low, graph.tensors[t].high + 1, graph.tensors[t].shape) for t in inputs}
    count = graph.tensors[op.inputs[position]].size
    batch = {t: np.repeat(v[None], count, axis=0) for t, v in base.items()}
    flat = batch[op.inputs[position]].reshape(count, count)
    flat[np.arange(count), np.arange(count)] = random.integers(
        graph.tensors[op.inputs[position]].low, graph.tensors[op.inputs[position]].high + 1, count
    )
    batch[op.inputs[position]] = flat.reshape(count, *graph.tensors[op.inputs[position]].shape)
    before = reference.run_all(alone, {t: v[None] for t, v in base.items()})[op.output].reshape(-1)
    after = reference.run_all(alone, batch)[op.output].reshape(count, -1)
    depends = (after != before).T
    listed = dependencies(graph, op, position)
    for other, tensor in enumerate(op.inputs):  # an operand twice
        if tensor == op.inputs[position]:
            listed = listed | dependencies(graph, op, other)
    assert (listed | ~depends).all(), f"{op.kind}: an output depends on an input that is not listed"
    return int(depends.sum())


def test_window_reads_by_hand() -> None:
    """3 x 2 kernel, stride 2 x 1, dilation 1 x 2, padding on three sides of 5 x 4 pixels of 3 channels."""
    net = Net((5, 4, 3))
    y = net.conv("x", np.ones((2, 3, 2, 3)), stride=(2, 1), padding=(1, 0, 1, 1), dilation=(1, 2))
    graph = net.graph(y)
    rows, columns, _ = graph.tensors[y].shape
    expected = np.zeros((rows * columns * 2, 60), bool)
    for oy in range(rows):
        for ox in range(columns):
            for ky in range(3):
                for kx in range(2):
                    iy, ix = oy * 2 - 1 + ky, ox - 1 + 2 * kx
                    if 0 <= iy < 5 and 0 <= ix < 4:
                        out, at = (oy * columns + ox) * 2, (iy * 4 + ix) * 3
                        expected[out : out + 2, at : at + 3] = True
    assert np.array_equal(dependencies(graph, graph.ops[0], 0), expected)


def test_unknown_ops_read_everything() -> None:
    net = Net((2, 2, 3))
    graph = net.graph(net.dense("x", np.ones((4, 12))))
    assert dependencies(graph, graph.ops[0], 0).all()


def test_plans_of_random_graphs() -> None:
    """True accesses in units of pixels, rows, elements or everything: every plan passes both replays."""
    found = some_graphs(7, range(60))
    assert len(found) > 30
    for seed, graph in found:
        problem = lower(graph, seed)
        plan = make_plan(problem)
        assert replay(problem, plan) == [], seed
        assert replay_graph(graph, problem, plan) == [], seed


def test_catches_false_accesses() -> None:
    """Accesses that claim to read later or less than the op does: the plain replay believes them, the graph does not."""
    believed = caught = 0
    for seed, graph in some_graphs(7, range(60)):
        problem = lower(graph, seed)
        steps = tuple(dataclasses.replace(s, access=_false(s.access)) for s in problem.steps)
        false = dataclasses.replace(problem, steps=steps)
        plan = make_plan(false)
        believed += replay(false, plan) == []
        caught += replay_graph(graph, false, plan) != []
        assert (replay(problem, plan) == []) or replay_graph(graph, problem, plan) is not None
    assert believed > 30
    assert caught > believed // 2


def _false(access: Access) -> Access:
    """Each unit claims to read only the last byte of what it reads."""
    reads = {t: np.stack([np.maximum(r[:, 1] - 8, 0), r[:, 1]], 1) for t, r in access.reads.items()}
    return dataclasses.replace(access, reads=reads)


def convolution() -> tuple[ir.Graph, Problem]:
    """One 3 x 3 convolution over 8 x 8 pixels of 4 channels, in units of pixels."""
    net = Net((8, 8, 4))
    graph = net.graph(net.conv("x", np.ones((4, 3, 3, 4)), padding=(1, 1, 1, 1)))
    op = graph.ops[0]
    step = Step(op.name, ("x",), op.output, access_of(graph, op, 64, False, True))
    return graph, Problem({t.name: t.nbytes for t in graph.activations()}, (step,), graph.inputs, graph.outputs)


def test_catches_a_window_without_its_row_above() -> None:
    """The classic mistake: the hull starts at the window's own row."""
    graph, problem = convolution()
    plan = make_plan(problem)
    assert replay_graph(graph, problem, plan) == []
    step = problem.steps[0]
    wrong = dataclasses.replace(step.access, reads={"x": np.maximum(step.access.reads["x"], step.access.writes)})
    false = dataclasses.replace(problem, steps=(dataclasses.replace(step, access=wrong),))
    plan = make_plan(false)
    assert replay(false, plan) == []
    assert replay_graph(graph, false, plan)[0].startswith(f"step {step.name!r}: unit ")


def test_catches_writes_that_do_not_join() -> None:
    """Where it is not known which unit writes an element, every unit is taken to read everything."""
    graph, problem = convolution()
    step = problem.steps[0]
    hole = dataclasses.replace(step.access, writes=step.access.writes - [0, 8])
    false = dataclasses.replace(problem, steps=(dataclasses.replace(step, access=hole),))
    assert replay_graph(graph, false, make_plan(false))


def test_steps_that_are_no_ops_read_everything() -> None:
    """A step before the graph's, say one that scales the image: in place by elements is not believed, disjoint is."""
    graph, problem = convolution()
    for access, believed in ((pixels({"image": 1}, 1, 256, buffered=True), False), (whole({"image": 256}, 256), True)):
        steps = (Step("scale", ("image",), "x", access), *problem.steps)
        longer = dataclasses.replace(problem, sizes={"image": 256, **problem.sizes}, steps=steps, inputs=("image",))
        plan = make_plan(longer)
        assert replay(longer, plan) == []
        assert (replay_graph(graph, longer, plan) == []) == believed
    assert replay_graph(graph, dataclasses.replace(problem, steps=()), make_plan(problem)) == ["op 'op_t0_conv2d' is executed by no step"]


def test_reports_what_the_problem_leaves_out() -> None:
    graph, problem = convolution()
    plan = make_plan(problem)
    sizes = {t: n for t, n in problem.sizes.items() if t != "x"}
    assert "tensor 'x' of the graph is not in the plan" in replay_graph(graph, dataclasses.replace(problem, sizes=sizes), plan)
    none = replay_graph(graph, dataclasses.replace(problem, outputs=()), plan)
    assert none == [f"output {graph.outputs[0]!r} of the graph is none of the plan"]


def test_graphs_of_the_simplifier_tests_are_computed_alike() -> None:
    """The graphs above are real: the reference executes them."""
    for seed, graph in some_graphs(4, range(5)):
        assert reference.run_all(graph, inputs_for(graph, seed, 1))
