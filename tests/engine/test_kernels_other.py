"""Every kernel but the multiply-accumulate ones against the reference executor: every tensor, spread out, in reverse and as planned."""

import dataclasses

import numpy as np
import pytest
from engine_host import compare_all, needs_cc, random_inputs, run_sanitized, sanitizers
from nets import Net

from tinykit.engine.generate import build_engine
from tinykit.graph import ir
from tinykit.graph.plan.replay import replay_graph

pytestmark = [needs_cc, pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")]  # of windows wholly in the padding
SHAPES = [
    ((5, 7, 3), (5, 7, 3)), ((4, 4, 8), (8,)), ((3, 5, 7), (1, 1, 7)), ((3, 5, 7), (1,)), ((3, 5, 7), (3, 5, 1)), ((1, 5, 1), (3, 1, 2)),
    ((5, 1, 3, 1), (4, 1, 2)), ((2, 1, 3, 1, 5), (2, 3, 1, 2, 1)), ((11,), (11,)), ((1, 1, 1), (1, 1, 1)), ((1,), (2, 3, 3)),
]  # fmt: skip


def check(net: Net, tally, *outputs: str, samples: int = 4, seed: int = 0) -> None:
    """Compares the network under every plan, and proves the plan with reads that follow from the graph alone."""
    graph = net.done(*outputs)
    total = compare_all(graph, random_inputs(graph, samples, seed))
    tally("engine's C vs reference, kernels without weights", total.mismatches, total.elements)
    engine = build_engine(graph, "net")
    assert replay_graph(graph, engine.problem, engine.plan) == []


# ---------------------------------------------------------------- element-wise


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["add", "sub", "mul", "minimum", "maximum"])
def test_two_operands(kind, shapes, tally) -> None:
    """Two activations, a constant on either side, and fused activations, in one network."""
    net = Net(SHAPES.index(shapes) * 7 + len(kind))
    extremum = kind in {"minimum", "maximum"}
    a = net.input(shapes[0])
    same = {"scale": net[a].scale, "zero_point": net[a].zero_point} if extremum else {}
    b, left, right = net.input(shapes[1], **same), net.constant(shapes[0], **same), net.constant(shapes[1], **same)
    if extremum:
        outputs = [net.extremum(kind, *pair) for pair in ((a, b), (b, a), (left, b), (a, right))]
    else:
        acts = ["none", "relu", "relu6", "relu_n1_to_1"]
        outputs = [net.binary(kind, x, y, act) for (x, y), act in zip(((a, b), (b, a), (left, b), (a, right)), acts)]
    check(net, tally, *outputs)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
def test_scales_and_zero_points(kind, seed, tally) -> None:
    """Operands whose scales are equal, a power of two or anything apart; outputs that saturate; zero points at both ends."""
    net = Net(seed)
    ratio = [1.0, 1.0, 0.5, 0.25, 2.0, 64.0, 1e-3, 1e3, 0.3, 1.7, 1 / 4096, 3.0][seed]
    a = net.input((3, 7, 5), scale=0.05, zero_point=[-128, 127, 0][seed % 3])
    b = net.input((3, 7, 5), scale=0.05 * ratio, zero_point=[127, -128, 5][seed // 2 % 3])
    check(net, tally, net.binary(kind, a, b, spread=[0.1, 1.0, 4.0][seed % 3]), seed=seed)


def test_an_operand_twice(tally) -> None:
    net = Net(1)
    a = net.input((4, 5, 3))
    check(net, tally, *(net.binary(kind, a, a) for kind in ("add", "sub", "mul")))


@pytest.mark.parametrize("rounding", list(ir.Rounding))
def test_other_roundings_and_shifts(rounding, tally) -> None:
    """Single rounding, and sums that are not scaled as TFLM's Prepare scales them."""
    net = Net(2)
    a, b = net.input((3, 5, 4), zero_point=3), net.input((3, 5, 4), zero_point=-7)
    outputs = [net.binary("add", a, b), net.binary("sub", a, b), net.binary("mul", a, b), net.requantize(a), net.mean(a, (0, 1))]
    outputs += [net.binary("add", a, b), net.binary("sub", a, b), net.binary("mul", a, b), net.requantize(a), net.mean(a, (0, 2))]
    graph = net.graph
    for i, op in enumerate(graph.ops):
        if i < 5:
            graph.ops[i] = dataclasses.replace(op, rounding=rounding)
        elif isinstance(op, ir.Binary):
            graph.ops[i] = dataclasses.replace(op, multipliers=(1500000000, 1 << 30, 1100000001), shifts=(0, 1, -17), rounding=rounding)
        else:
            graph.ops[i] = dataclasses.replace(op, multiplier=1300000000, shift=i - 7, rounding=rounding)
    check(net, tally, *outputs, samples=6)


@pytest.mark.parametrize("seed", range(6))
def test_one_operand(seed, tally) -> None:
    net = Net(seed)
    a = net.input((5, 7, 3))
    outputs = [net.table(f, a, 0.1) for f in ("logistic", "tanh", "hard_swish", "leaky_relu", "relu", "relu6")]
    outputs += [net.requantize(a), net.requantize(a), net.dequantize(a)]
    outputs.append(net.table("tanh", net.requantize(net.table("logistic", a))))
    check(net, tally, *outputs, seed=seed)


@pytest.mark.parametrize("scale, zero_point", [(1.0, 0), (0.37, -128), (2.0**-9, 127), (3e5, 3), (1.1e-30, 0)])
def test_quantize(scale, zero_point, tally) -> None:
    """Ties, neighbours of ties, numbers far outside; the way back gives the same float32."""
    net = Net(3)
    x = net.input((401,), dtype=ir.Dtype.FLOAT, bits=32, scale=1.0, zero_point=0)
    y = net.put(ir.Quantize, [x], net.tensor((401,), scale, zero_point))
    net.done(net.dequantize(y))
    ties = (np.arange(401) / 2 - 100).astype(np.float32)
    rows = [
        ties,
        np.nextafter(ties, np.float32(1e9)),
        np.nextafter(ties, np.float32(-1e9)),
        ties * np.float32(1000.5),
        ties * np.float32(1e-7),
    ]
    inputs = {x: np.stack([row * np.float32(scale) for row in rows])}
    total = compare_all(net.graph, inputs)
    tally("engine's C vs reference, kernels without weights", total.mismatches, total.elements)


@pytest.mark.skipif(not sanitizers(), reason="the compiler has no sanitizers")
def test_numbers_without_an_integer(tmp_path) -> None:
    """Infinities saturate; NaN becomes the least integer; neither is undefined behaviour."""
    net = Net(3)
    x = net.input((5,), dtype=ir.Dtype.FLOAT, bits=32, scale=1.0, zero_point=0)
    net.done(net.put(ir.Quantize, [x], net.tensor((5,), 1e-3, 7)))
    stand_in = np.array([[1e9, -1e9, -1e9, 1e9, -1e9]], np.float32)  # what has the same integers
    special = np.array([[np.inf, -np.inf, np.nan, 3e38, -3e38]], np.float32)
    engine = build_engine(net.graph, "net")
    assert run_sanitized(engine, {x: special}, tmp_path, like={x: stand_in}).mismatches == 0


# ---------------------------------------------------------------- windows, means


@pytest.mark.parametrize("padding", ["same", "valid", (1, 0, 2, 1), (0, 2, 1, 0)], ids=str)
@pytest.mark.parametrize("window, stride", [((1, 1), (1, 1)), ((2, 2), (2, 2)), ((3, 3), (1, 1)), ((3, 2), (2, 3)), ((5, 4), (1, 2))])
def test_pools(window, stride, padding, tally) -> None:
    net = Net(window[0] * 10 + stride[1])
    wide, narrow = net.input((7, 6, 9)), net.input((5, 8, 4))
    outputs = [
        net.pool(kind, x, window, stride, padding, act) for kind in ("average", "max") for x, act in ((wide, "none"), (narrow, "relu6"))
    ]
    check(net, tally, *outputs)


def test_large_windows(tally) -> None:
    """Global pools, and a window wholly in the padding, which gives what the reference gives."""
    net = Net(5)
    a = net.input((25, 5, 6), zero_point=0, scale=0.1)
    outputs = [net.pool(kind, a, (25, 5), (25, 5)) for kind in ("average", "max")]
    check(net, tally, *outputs, net.pool("max", a, (2, 2), (2, 2), (3, 0, 4, 3)))


def test_windows_in_the_padding(tally) -> None:
    net = Net(6)
    check(net, tally, net.pool("average", net.input((4, 5, 5)), (2, 2), (2, 2), (3, 3, 4, 3)))


MEANS = [
    ((5, 7, 9), (0, 1)), ((4, 4, 8), (0, 1)), ((5, 7, 9), (2,)), ((5, 7, 9), (0,)), ((5, 7, 9), (1,)), ((5, 7, 9), (1, 2)),
    ((5, 7, 9), (0, 2)), ((5, 7, 9), (0, 1, 2)), ((5, 2, 7, 3), (0, 2)), ((5, 2, 7, 3), (1, 3)), ((3, 2, 2, 3, 4), (0, 2, 4)),
    ((5, 1, 9), (0, 2)), ((1, 1, 6), (0, 1)), ((1, 1, 1), (0, 2)), ((13,), (0,)),
]  # fmt: skip


@pytest.mark.parametrize("shape, axes", MEANS, ids=str)
def test_means(shape, axes, tally) -> None:
    net = Net(len(shape) * 10 + len(axes))
    a = net.input(shape)
    check(net, tally, net.mean(a, axes), net.mean(a, axes, keep=True), net.mean(a, axes, same_scale=True))


@pytest.mark.parametrize("shape, axis", [((5, 7, 9), 0), ((5, 7, 9), 1), ((5, 7, 9), 2), ((13,), 0), ((3, 1, 2), 1)])
def test_argmax(shape, axis, tally) -> None:
    """The first of equal elements counts; the indices can be moved on."""
    net = Net(axis)
    a = net.input(shape)
    index = net.argmax(a, axis)
    rest = net[index].shape
    if rest:
        moved = net.put(ir.Transpose, [index], net.tensor(rest[::-1], 1.0, 0, 32), tuple(range(len(rest)))[::-1])
        net.put(ir.Concat, [moved, moved], net.tensor((2 * rest[-1], *rest[::-1][1:]), 1.0, 0, 32), 0)
    graph = net.done()
    inputs = random_inputs(graph, 6)
    inputs[a][1:4] //= 40  # many ties
    total = compare_all(graph, inputs)
    tally("engine's C vs reference, kernels without weights", total.mismatches, total.elements)


@pytest.mark.parametrize("shape", [(10,), (3, 11), (2, 3, 5), (7, 1), (2, 700)], ids=str)
@pytest.mark.parametrize("scale, beta", [(0.1, 1.0), (2e-8, 1.0), (1e-3, 1.0), (1.7, 0.5), (40.0, 3.0)])
def test_softmax(shape, scale, beta, tally) -> None:
    """Rows of one element, of equal elements (the reciprocal's ends), of hundreds, at scales from nearly flat to nearly a step."""
    net = Net(len(shape))
    check(net, tally, net.softmax(net.input(shape, scale=scale), beta), samples=8)


def test_long_tail_of_softmax(tally) -> None:
    """Thousands of small terms, each of which is rounded up: together they show in the largest output."""
    net = Net(1)
    a = net.input((4095,), scale=0.1)
    rows = np.full((4, 4095), -11)
    rows[1], rows[2, ::2], rows[3, :2000] = -12, -20, 126
    rows[:, 77] = 127
    graph = net.done(net.softmax(a))
    total = compare_all(graph, {a: rows})
    tally("engine's C vs reference, kernels without weights", total.mismatches, total.elements)


# ---------------------------------------------------------------- movement


@pytest.mark.parametrize(
    "amounts", [((1, 2), (3, 0), (0, 0)), ((0, 0), (1, 1), (2, 0)), ((2, 0), (0, 0), (0, 3)), ((0, 0),) * 3, ((3, 3),) * 3]
)
def test_pad(amounts, tally) -> None:
    net = Net(7)
    a = net.input((4, 5, 3))
    check(net, tally, net.pad(a, amounts), net.pad(a, amounts, -128), net.pad(net.pad(a, amounts, 127), amounts))


@pytest.mark.parametrize("permutation", [(2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0), (0, 1, 2)])
def test_transpose(permutation, tally) -> None:
    net = Net(8)
    a = net.transpose(net.input((4, 5, 3)), permutation)
    real = net.dequantize(a)
    x, shape = net[real], [net[real].shape[p] for p in permutation]
    net.put(ir.Transpose, [real], net.tensor(shape, 1.0, 0, 32, dtype=ir.Dtype.FLOAT), permutation)
    check(net, tally, a, net.graph.ops[-1].output if x.shape else real)


SLICES = [
    ((0, 0, 0), (6, 7, 4), (1, 1, 1)), ((1, 2, 0), (5, 6, 4), (1, 1, 1)), ((0, 1, 1), (6, 7, 4), (2, 3, 2)),
    ((5, 6, 3), (-1, -1, -1), (-1, -1, -1)),
    ((5, 0, 3), (0, 7, -1), (-2, 2, -3)), ((2, 3, 1), (3, 4, 2), (1, 1, 1)), ((0, 6, 0), (6, 1, 4), (1, -4, 1)),
]  # fmt: skip


@pytest.mark.parametrize("begin, end, step", SLICES, ids=str)
def test_strided_slice(begin, end, step, tally) -> None:
    net = Net(9)
    check(net, tally, net.slice(net.input((6, 7, 4)), begin, end, step))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(axis, tally) -> None:
    """Two to four operands, a constant among them, one tensor twice."""
    net = Net(10 + axis)
    shapes = [[3, 4, 5] for _ in range(3)]
    for i, shape in enumerate(shapes):
        shape[axis] = i + 1
    a = net.input(shapes[0])
    same = {"scale": net[a].scale, "zero_point": net[a].zero_point}
    b, c = net.input(shapes[1], **same), net.constant(shapes[2], **same)
    check(net, tally, *(net.concat(parts, axis) for parts in ([a, b], [b, a], [c, a, b], [a, b, a, c], [a, a])))


def test_a_tensor_of_few_bits(tally) -> None:
    """Two 4-bit values a byte, from whatever value they start at."""
    net = Net(11)
    a, b = (net.tensor((3, 5, 4), 0.1, z, 4, q) for z, q in ((3, -8), (-120, -128)))
    net.graph.inputs = (a.name, b.name)
    y = net.tensor((3, 5, 4), 0.2, 100, 4, 90)
    base = net.binary("add", a.name, b.name)
    add = net.graph.ops[-1]
    net.put(ir.Add, [a.name, b.name], y, add.multipliers, add.shifts, y.low, y.high)
    check(net, tally, base, y.name, net.mean(y.name, (0, 1)), net.pool("max", y.name))
