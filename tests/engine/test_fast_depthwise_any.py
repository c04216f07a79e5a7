"""The general fast depthwise kernel against the reference executor, on this computer and on an emulated board."""

import dataclasses
import shutil

import numpy as np
import pytest
from bundles import Case, run_on_board
from engine_host import compare, compare_all, needs_cc, random_inputs, run_sanitized, sanitizers, spread_engine, tampered
from nets import Net

from tinykit.boards.table import board
from tinykit.engine.generate import build_engine
from tinykit.graph import ir
from tinykit.graph.plan.replay import replay_graph

pytestmark = needs_cc
needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
CASES = [
    # shape, multiplier, kernel, stride, dilation, padding
    ((7, 9, 5), 1, (5, 5), (1, 1), (1, 1), "same"), ((9, 8, 3), 1, (7, 7), (1, 1), (1, 1), "same"),
    ((8, 7, 4), 1, (5, 5), (2, 2), (1, 1), "same"), ((6, 9, 2), 1, (2, 4), (1, 1), (1, 1), "same"),
    ((6, 7, 7), 1, (4, 6), (1, 1), (1, 1), (1, 2, 3, 1)), ((5, 5, 1), 1, (1, 1), (1, 1), (1, 1), "valid"),
    ((5, 6, 9), 1, (1, 2), (1, 1), (1, 1), "valid"), ((9, 9, 2), 1, (3, 3), (2, 1), (1, 1), "same"),
    ((9, 9, 6), 1, (3, 3), (1, 3), (1, 1), "same"), ((9, 9, 3), 1, (3, 3), (1, 1), (2, 2), "same"),
    ((9, 8, 4), 1, (2, 3), (1, 1), (3, 1), "same"), ((9, 8, 5), 1, (3, 2), (2, 2), (1, 3), (2, 1, 0, 2)),
    ((5, 6, 3), 2, (3, 3), (1, 1), (1, 1), "same"), ((5, 6, 1), 8, (3, 3), (2, 2), (1, 1), "same"),
    ((6, 5, 4), 3, (2, 2), (1, 1), (2, 1), "valid"), ((31, 1, 6), 1, (9, 1), (1, 1), (1, 1), "same"),
    ((31, 1, 5), 1, (4, 1), (2, 1), (1, 1), "same"), ((30, 1, 4), 2, (3, 1), (1, 1), (4, 1), "same"),
    ((1, 29, 6), 1, (1, 5), (1, 1), (1, 1), "same"), ((9, 3, 5), 1, (3, 3), (4, 4), (1, 1), (1, 1, 0, 0)),
    ((3, 3, 2), 1, (3, 3), (1, 1), (1, 1), "valid"), ((2, 2, 3), 1, (3, 3), (1, 1), (1, 1), (2, 2, 2, 2)),
    ((4, 3, 3), 1, (2, 2), (1, 1), (1, 1), (3, 3, 3, 3)), ((40, 31, 2), 1, (3, 3), (1, 2), (1, 1), "same"),
]  # fmt: skip


def layer(n: int, act: str) -> ir.Graph:
    shape, mult, kernel, stride, dilation, padding = CASES[n]
    net = Net(n)
    if act != "none":
        net.zero_point = lambda: [-128, -100, 0][n % 3]  # a ReLU from 127 on would leave nothing
    net.depthwise(net.input(shape), mult, kernel, stride, dilation, padding, act)
    return net.done()


def graphs() -> list[ir.Graph]:
    return [layer(n, act) for n in range(len(CASES)) for act in ("relu", "none")] + [extreme(seed) for seed in range(12)]


def extreme(seed: int) -> ir.Graph:
    """Multipliers of 2^30 and 2^31 - 1, shifts to 31, dead channels, biases up to 2^30, clamps, zero points at both ends, one rounding."""
    rng = np.random.default_rng(seed)
    net = Net(seed)
    x = net.input((5, 6, 6), zero_point=[-128, 127, 0][seed % 3])
    net.depthwise(x, kernel=[(2, 5), (4, 3)][seed % 2], dilation=(1, 1 + seed // 6))
    op = net.graph.ops[0]
    weights = rng.integers(-128, 128, op.weights.shape).astype(np.int8)
    weights[..., 2], weights[..., 4] = 0, -128
    bias = rng.integers(-(1 << 17), 1 << 17, 6).astype(np.int32)
    bias[2] = (1 << 30) if seed % 4 == 0 else -77
    scales = [(1 << 30, 8), ((1 << 31) - 1, 7), (1 << 30, 9 + 22 * (seed % 4 == 1)), (1999999999, 10), (1 << 30, 9), (0, 0)]
    y = dataclasses.replace(net[op.output], zero_point=[-128, 127, 5, 0][seed // 3])
    net.graph.tensors[op.output] = y
    low, high = [(-128, 127), (-100, 90), (min(y.zero_point, 126), 127), (17, 17)][seed % 4]
    net.graph.ops[0] = dataclasses.replace(
        op, weights=weights, bias=bias, act_min=low, act_max=high, rounding=list(ir.Rounding)[seed // 5 % 2],
        multiplier=np.array([m for m, _ in scales], np.int32), shift=np.array([-s for _, s in scales], np.int32),
    )  # fmt: skip
    return net.done()


def test_layers(tally) -> None:
    """In a place of its own and in place; the plan is proved with reads that follow from the graph alone."""
    covered = 0
    for graph in graphs():
        engine = build_engine(graph, "net")
        covered += "_by_" in engine.calls[0].function
        total = compare_all(graph, random_inputs(graph, 4))
        tally("general fast depthwise vs reference, host", total.mismatches, total.elements)
        assert replay_graph(graph, engine.problem, engine.plan) == []
    assert covered >= 56


@needs_gcc
@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
def test_layers_on_a_board(toolchain, tmp_path, tally) -> None:
    cases = [Case(build_engine(graph, f"net{i}"), random_inputs(graph, 3)) for i, graph in enumerate(graphs())]
    found = run_on_board(cases, board("nano33ble"), tmp_path, toolchain=toolchain)
    tally("general fast depthwise vs reference, emulated nano33ble", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@pytest.mark.skipif(not sanitizers(), reason="the compiler has no sanitizers")
@pytest.mark.parametrize("n", [0, 2, 4, 9, 12, 15, 22, 23])
def test_sanitizers(n, tmp_path) -> None:
    graph = layer(n, "relu")
    assert run_sanitized(build_engine(graph, "net"), random_inputs(graph, 4), tmp_path).mismatches == 0


def test_faults_are_found() -> None:
    graph = layer(0, "none")
    engine, inputs = spread_engine(graph), random_inputs(graph)
    assert "_by_" in engine.calls[0].function
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, "tk_smlad(tk_load32(w + 20), x3, a3)", "tk_smlad(tk_load32(w + 20), x2, a3)"), inputs).mismatches > 0
    assert compare(tampered(engine, "kept = REACH - STRIDE", "kept = REACH - STRIDE - 1"), inputs).mismatches > 0
