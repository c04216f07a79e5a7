"""The fast depthwise kernel against the reference executor, on this computer (its C) and on an emulated board (its assembly)."""

import dataclasses
import shutil

import numpy as np
import pytest
from bundles import Case, run_on_board
from engine_host import compare, compare_all, needs_cc, random_inputs, run_sanitized, sanitizers, spread_engine, tampered
from nets import Net

from tinykit.boards.table import board
from tinykit.engine.generate import build_engine
from tinykit.graph import ir, reference
from tinykit.graph.plan.replay import replay_graph

pytestmark = needs_cc
needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
PADS = ["same", "valid", (1, 0, 2, 1), (0, 2, 1, 0), (2, 2, 2, 2)]


def net_of(seed: int, shape, stride, padding, act="relu", **kw) -> ir.Graph | None:
    """One layer; None where the window does not fit."""
    net = Net(seed)
    if act != "none":
        net.zero_point = lambda: [-128, -100, 0][seed % 3]  # a ReLU from 127 on would leave nothing
    x = net.input(shape)
    pads = net.padding(net[x], (3, 3), (stride, stride), (1, 1), padding)
    if shape[0] + pads[0] + pads[1] < 3 or shape[1] + pads[2] + pads[3] < 3:
        return None
    net.depthwise(x, stride=(stride, stride), padding=padding, act=act, **kw)
    return net.done()


def small_graphs(stride: int) -> list[ir.Graph]:
    """1 to 9 rows, columns and channels in every padding, with and without a ReLU."""
    made = []
    for n, (h, w) in enumerate([(1, 2), (2, 3), (3, 3), (4, 5), (5, 4), (6, 6), (7, 9), (8, 2), (9, 7), (2, 9), (9, 8)]):
        for k, padding in enumerate(PADS):
            graph = net_of(31 * n + k, (h, w, 1 + (n + 4 * k) % 9), stride, padding, ["relu", "none", "relu6"][(n + k) % 3])
            made += [graph] if graph else []
    return made


def fast(graph: ir.Graph) -> bool:
    return all("_s" in call.function for call in build_engine(graph, "net").calls if "depthwise" in call.function)


@pytest.mark.parametrize("stride", [1, 2])
def test_shapes(stride, tally) -> None:
    """In a place of its own and in place; the plan is proved with reads that follow from the graph alone."""
    graphs = small_graphs(stride)
    assert sum(map(fast, graphs)) > 30
    for graph in graphs:
        total = compare_all(graph, random_inputs(graph, 3))
        tally("fast depthwise vs reference, host", total.mismatches, total.elements)
        engine = build_engine(graph, "net")
        assert replay_graph(graph, engine.problem, engine.plan) == []


def board_total(graphs: list[ir.Graph], folder, toolchain: str, samples: int = 3) -> tuple[int, int, str | None]:
    cases = [Case(build_engine(graph, f"net{i}"), random_inputs(graph, samples)) for i, graph in enumerate(graphs)]
    found = run_on_board(cases, board("nano33ble"), folder, toolchain=toolchain)
    return found.mismatches, found.elements, found.first


@needs_gcc
@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("stride", [1, 2])
def test_shapes_on_a_board(stride, toolchain, tmp_path, tally) -> None:
    mismatches, elements, first = board_total(small_graphs(stride), tmp_path, toolchain)
    tally("fast depthwise vs reference, emulated nano33ble", mismatches, elements)
    assert mismatches == 0, first


# ---------------------------------------------------------------- numbers at their limits


def extreme(seed: int, stride: int) -> ir.Graph:
    """Multipliers of 2^30 and 2^31 - 1, shifts 0 to 31, biases up to 2^30, dead channels, weights of -128, zero points at both ends, and
    clamps of every kind."""
    rng = np.random.default_rng(seed)
    net = Net(seed)
    x = net.input((5, 6, 8), zero_point=[-128, 127, 0, 3][seed % 4])
    net.depthwise(x, stride=(stride, stride))
    op = net.graph.ops[0]
    y = net[op.output]
    low, high = [(-128, 127), (-100, 90), (y.zero_point, 127), (-128, -128), (17, 17)][seed % 5]
    kinds = [(1 << 30, 8), ((1 << 31) - 1, 7), (1 << 30, 31), ((1 << 31) - 1, 0), (0, 0), (1500000000, 16), (1 << 30, 9), (1234567890, 10)]
    if seed % 3:
        kinds = [(m, 6 + i % 4) for i, (m, _) in enumerate(kinds)]
    weights = rng.integers(-128, 128, op.weights.shape).astype(np.int8)
    weights[..., 2], weights[..., 5], weights[..., 6] = 0, rng.integers(-2, 3, (3, 3)), -128
    bias = rng.integers(-(1 << 17), 1 << 17, 8).astype(np.int32)
    bias[2] = (1 << 30) if seed % 3 == 0 else 77
    zero_point = [-128, 127, 5][seed // 5 % 3]
    net.graph.tensors[op.output] = dataclasses.replace(y, zero_point=zero_point)
    if seed % 5 == 2:
        low = zero_point if zero_point < 127 else 126
    net.graph.ops[0] = dataclasses.replace(
        op, weights=weights, bias=bias, act_min=low, act_max=high, rounding=list(ir.Rounding)[seed // 4 % 2],
        multiplier=np.array([m for m, _ in kinds], np.int32), shift=np.array([-s for _, s in kinds], np.int32),
    )  # fmt: skip
    return net.done()


@pytest.mark.parametrize("seed", range(15))
def test_extremes(seed, tally) -> None:
    for stride in (1, 2):
        graph = extreme(seed, stride)
        total = compare_all(graph, random_inputs(graph, 5))
        tally("fast depthwise vs reference, host", total.mismatches, total.elements)


@needs_gcc
def test_extremes_on_a_board(tmp_path, tally) -> None:
    graphs = [extreme(seed, stride) for seed in range(15) for stride in (1, 2)]
    assert sum(map(fast, graphs)) > 12
    mismatches, elements, first = board_total(graphs, tmp_path, "gcc", 5)
    tally("fast depthwise vs reference, emulated nano33ble", mismatches, elements)
    assert mismatches == 0, first


def touching(bound: int, stride: int) -> ir.Graph:
    """A channel whose accumulator reaches `bound` in both directions exactly, requantised twice."""
    net = Net(3)
    x = net.input((4, 4, 2), zero_point=0)
    net.depthwise(x, stride=(stride, stride), act="none")
    op = net.graph.ops[0]
    weights = np.full(op.weights.shape, 127, np.int8)
    bias = np.array([bound - 128 * 127 * 9, -(bound - 128 * 127 * 9)], np.int32)
    shifts = np.array([-22, -22], np.int32)
    net.graph.ops[0] = dataclasses.replace(
        op, weights=weights, bias=bias, multiplier=np.array([1 << 30, (1 << 31) - 1], np.int32), shift=shifts
    )
    return net.done()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bound", [(1 << 30) - 1, 1 << 30, (1 << 30) + 1])
def test_sums_at_the_proven_bound(bound, stride, tally) -> None:
    graph = touching(bound, stride)
    total = compare_all(graph, random_inputs(graph, 5))
    tally("fast depthwise vs reference, host", total.mismatches, total.elements)


# ---------------------------------------------------------------- memory


def chain(width: int, channels: int, stride: int) -> ir.Graph:
    """A layer between two others, so that its input may die."""
    net = Net(width)
    net.zero_point = lambda: -128
    x = net.conv(net.input((width, width, 3)), out=channels, kernel=(1, 1), act="relu")
    x = net.depthwise(x, stride=(stride, stride), act="relu")
    net.conv(x, out=channels, kernel=(1, 1), act="relu")
    return net.done()


@pytest.mark.parametrize("width, channels, stride", [(48, 8, 1), (48, 16, 2), (25, 7, 1), (31, 5, 2), (6, 106, 1)])
def test_works_in_place_by_bands(width, channels, stride, tally) -> None:
    """A scratch far below the tensor, whose rows come and go while results overwrite what was gathered."""
    graph = chain(width, channels, stride)
    engine = build_engine(graph, "net")
    call = next(call for call in engine.calls if "depthwise" in call.function)
    op = next(op for op in graph.ops if op.name == call.op)
    assert engine.plan.offsets[op.inputs[0]] == engine.plan.offsets[op.output]
    largest = max(engine.where(t)[1] for t in (op.inputs[0], op.output))
    assert engine.plan.arena_bytes <= largest + 1000 + 64
    inputs = random_inputs(graph, 3)
    total = compare(engine, inputs)
    tally("fast depthwise vs reference, host", total.mismatches, total.elements)
    assert total.mismatches == 0, total.first
    assert all(len(np.unique(value)) > 20 for value in reference.run_all(graph, inputs).values())
    assert replay_graph(graph, engine.problem, engine.plan) == []


@needs_gcc
def test_works_in_place_on_a_board(tmp_path, tally) -> None:
    graphs = [chain(*case) for case in ((24, 9, 1), (25, 6, 2), (13, 5, 1), (31, 5, 2))]
    mismatches, elements, first = board_total(graphs, tmp_path, "gcc")
    tally("fast depthwise vs reference, emulated nano33ble", mismatches, elements)
    assert mismatches == 0, first


@pytest.mark.skipif(not sanitizers(), reason="the compiler has no sanitizers")
@pytest.mark.parametrize("width, channels, stride", [(5, 1, 1), (9, 3, 2), (20, 6, 1), (6, 5, 2)])
def test_sanitizers(width, channels, stride, tmp_path) -> None:
    graph = chain(width, channels, stride)
    assert run_sanitized(build_engine(graph, "net"), random_inputs(graph, 4), tmp_path).mismatches == 0


def test_faults_are_found() -> None:
    """A wrong tap, and rows that are gathered after they were overwritten."""
    graph = net_of(5, (9, 8, 6), 1, "same", "none")
    assert graph
    engine = spread_engine(graph)
    inputs = random_inputs(graph)
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, "t * PITCH + 4", "t * PITCH + 2"), inputs).mismatches > 0
    graph = chain(48, 16, 2)
    engine = build_engine(graph, "net")
    inputs = random_inputs(graph, 4)
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, "kept = REACH - STRIDE;", "kept = REACH - STRIDE - 1;"), inputs).mismatches > 0
