"""The fast dense kernel against the reference executor, on this computer (its C) and on an emulated board (its assembly)."""

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

pytestmark = needs_cc
needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
SIZES = [(1, 1), (3, 2), (4, 4), (5, 1), (7, 9), (8, 3), (15, 4), (16, 5), (17, 6), (31, 7), (64, 8), (75, 10), (130, 12)]


def layer(seed: int, depth: int, out: int, *, lowest: int = -127, act: str = "none", per_channel: bool = False) -> ir.Graph:
    """A dense layer whose least weight is `lowest`, in all channels."""
    net = Net(seed)
    net.dense(net.input((depth,)), out=out, act=act, per_channel=per_channel)
    op = net.graph.ops[0]
    weights = np.maximum(op.weights, lowest)
    weights[:, 0] = lowest
    net.graph.ops[0] = dataclasses.replace(op, weights=weights)
    return net.done()


def layers() -> list[ir.Graph]:
    """All sizes, with pairs of weights that share a halfword and such that cannot."""
    made = [layer(n, *size, lowest=-127 - n % 2, act=["none", "relu"][n // 2 % 2], per_channel=n % 3 == 0) for n, size in enumerate(SIZES)]
    return made + [extreme(seed) for seed in range(12)]


def extreme(seed: int) -> ir.Graph:
    """Multipliers of 2^30 and 2^31 - 1, shifts 0 to 31, sums near 2^30 and beyond, clamps, zero points at both ends, one rounding."""
    net = Net(seed)
    rng = np.random.default_rng(seed)
    x = net.input((37,), zero_point=[-128, 127, 0][seed % 3])
    net.dense(x, out=6)
    op = net.graph.ops[0]
    weights = rng.integers(-127, 128, op.weights.shape).astype(np.int8)
    weights[0], weights[1], weights[4] = 127, -127, 0
    bias = rng.integers(-(1 << 18), 1 << 18, 6).astype(np.int32)
    bias[[2, 3]] = [(1 << 30) - 1 - 127 * 255 * 37, -(1 << 30)][:: 1 - 2 * (seed % 2)]
    multiplier, shift = [(1 << 30, -9), ((1 << 31) - 1, -8), (1 << 30, 0), ((1 << 31) - 1, -31), (1999999999, -10), (0, 0)][seed // 2]
    low, high = [(-128, 127), (-100, 90), (5, 5)][seed % 3]
    net.graph.ops[0] = dataclasses.replace(
        op, weights=weights, bias=bias, act_min=low, act_max=high, rounding=list(ir.Rounding)[seed // 3 % 2],
        multiplier=np.array([multiplier], np.int32).repeat(len(op.multiplier)), shift=np.array([shift], np.int32).repeat(len(op.shift)),
    )  # fmt: skip
    return net.done()


def test_layers(tally) -> None:
    graphs = layers()
    names = {call.function for graph in graphs for call in build_engine(graph, "net").calls}
    assert {
        "tk_dense_pt",
        "tk_dense",
        "tk_dense_apart_pt",
        "tk_dense_pt_clamped",
        "tk_dense_pt_any",
        "tk_dense_pt_once",
        "tk_matmul_pt",
    } <= names
    for graph in graphs:
        total = compare_all(graph, random_inputs(graph, 4))
        tally("fast dense vs reference, host", total.mismatches, total.elements)


@needs_gcc
@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
def test_layers_on_a_board(toolchain, tmp_path, tally) -> None:
    cases = [Case(build_engine(graph, f"net{i}"), random_inputs(graph, 4)) for i, graph in enumerate(layers())]
    found = run_on_board(cases, board("nano33ble"), tmp_path, toolchain=toolchain)
    tally("fast dense vs reference, emulated nano33ble", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@pytest.mark.parametrize("size, shared", [(512, True), (517, False)])
def test_sums_that_share_a_word_at_their_bound(size, shared, tally) -> None:
    """Two channels share words while no sum reaches 2^23: 512 times -128 times 127 does not, 517 times does."""
    graph = layer(size, size, 4)
    op = graph.ops[0]
    graph.ops[0] = dataclasses.replace(op, weights=np.full(op.weights.shape, 127, np.int8) * np.array([[1], [-1], [-1], [1]], np.int8))
    engine = build_engine(graph, "net")
    assert [call.function for call in engine.calls] == ["tk_dense_pt" if shared else "tk_dense_apart_pt"]
    total = compare_all(graph, random_inputs(graph, 4))
    tally("fast dense vs reference, host", total.mismatches, total.elements)


@pytest.mark.skipif(not sanitizers(), reason="the compiler has no sanitizers")
@pytest.mark.parametrize("depth", [5, 18, 43])
def test_sanitizers(depth, tmp_path) -> None:
    """No byte behind the input is read where it fills no word."""
    graph = layer(depth, depth, 5)
    assert run_sanitized(build_engine(graph, "net"), random_inputs(graph, 4), tmp_path).mismatches == 0


def test_faults_are_found() -> None:
    graph = layer(3, 43, 6)
    engine, inputs = spread_engine(graph), random_inputs(graph)
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, "(int32_t)(sums[1] - sums[0]) >> 8", "(int32_t)(sums[1] + sums[0]) >> 8"), inputs).mismatches > 0
    assert compare(tampered(engine, "memcpy(&rest, x, depth % 4)", "memcpy(&rest, x, 2)"), inputs).mismatches > 0
