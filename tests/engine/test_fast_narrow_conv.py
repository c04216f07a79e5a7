"""Fast convolutions with weights of 4 and 2 bits, on this computer and on emulated boards, against the reference executor."""

import numpy as np
import pytest
from bundles import Case, run_on_board
from engine_host import compare, compare_all, needs_cc, run_sanitized, sanitizers, spread_engine, tampered
from fast_conv_cases import clamps, dead, random_conv, shapes
from narrow_conv_cases import KINDS, counted, high_sum, narrowed, packed, single, taps_of_three
from test_fast_conv import GCC, ZIG, routine

from tinykit.boards.table import board
from tinykit.engine.generate import build_engine
from tinykit.engine.kernels import narrow_pairs
from tinykit.engine.memory import random_samples
from tinykit.engine.select import Preference
from tinykit.graph import ir
from tinykit.graph.plan.replay import replay_graph

WHAT = "fast convolutions, 4 and 2 bits vs reference"
PADDED = {"padding": (1, 1, 1, 1)}
PACKED = [(i, w, o) for i in (8, 4, 2) for w in (8, 4, 2) for o in (8, 4, 2) if min(i, o) < 8]
"""Bits of inputs, weights and outputs."""
each_kind = pytest.mark.parametrize("kind", KINDS)


def graphs(kind: str) -> list[ir.Graph]:
    """Odd shapes, clamps, and columns long enough for several passes."""
    found = [*shapes(), *clamps(), random_conv(61, 33, 5, (3, 4), (3, 3), **PADDED), random_conv(62, 130, 6, (2, 3), (3, 3), **PADDED)]
    return [narrowed(graph, kind) for graph in found] + [narrowed(dead(), kind)] * (kind != "odd")


def extremes(graph: ir.Graph) -> np.ndarray:
    """All least, all largest, and by turns."""
    x = graph.tensors["x"]
    turns = np.where(np.arange(x.size).reshape(x.shape) % 2, x.low, x.high)
    return np.stack([np.full(x.shape, x.low), np.full(x.shape, x.high), turns])


# ---------------------------------------------------------------- exact


@needs_cc
@each_kind
def test_on_this_computer(kind, tally) -> None:
    """Forward, in reverse, and as planned, where input and output overlap."""
    fast = 0
    some = graphs(kind)[KINDS.index(kind) :: 8]
    for graph in some:
        fast += bool(routine(graph))
        found = compare_all(graph)
        tally(WHAT + ", host", found.mismatches, found.elements)
    assert fast >= len(some) - 1  # columns of 130 channels take more memory than there is


@pytest.mark.parametrize("toolchain", [GCC, ZIG])
@each_kind
def test_on_an_emulated_board(kind, toolchain, tally, tmp_path) -> None:
    cases = []
    for i, graph in enumerate(graphs(kind)[KINDS.index(kind) % 2 :: 2 if toolchain == "gcc" else 8]):
        inputs = dict(random_samples(graph, 8, i))
        chosen = np.array([0, 5 + i % 2])  # noise, an extreme
        cases.append(Case(build_engine(graph, f"n{i}"), {name: values[chosen] for name, values in inputs.items()}))
    found = run_on_board(cases, board("nano33ble"), tmp_path, toolchain=toolchain)
    tally(f"{WHAT}, emulated nano33ble, {toolchain}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_cc
@pytest.mark.skipif(not sanitizers(), reason="the compiler has no sanitizers")
@each_kind
def test_under_sanitizers(kind, tmp_path) -> None:
    """No byte beside the arena is touched: blocks that are not full, columns of an odd number of quads, what is left of runs."""
    for i, (depth, out, kernel) in enumerate([(13, 11, (3, 3)), (5, 2, (1, 1)), (12, 3, (1, 3))]):
        graph = narrowed(random_conv(40 + i, depth, out, (5, 3), kernel, padding=(kernel[0] // 2,) * 2 + (kernel[1] // 2,) * 2), kind)
        folder = tmp_path / str(i)
        folder.mkdir()
        assert run_sanitized(build_engine(graph, "net"), dict(random_samples(graph, 3)), folder).mismatches == 0


# ---------------------------------------------------------------- packed operands


def packed_graphs(inputs: int, weights: int, outputs: int) -> list[ir.Graph]:
    """Pixels that begin inside a byte, whole words a pixel, windows at the edges; each into and out of packed tensors."""
    found = []
    for seed, (depth, out, kernel, given) in enumerate(
        [
            (3, 5, (1, 1), {}), (13, 4, (1, 1), {"stride": (2, 1)}), (16, 7, (1, 1), {}), (5, 3, (3, 3), PADDED), (8, 6, (3, 3), PADDED),
            (16, 9, (3, 3), PADDED), (32, 2, (1, 3), {"padding": (0, 0, 1, 1), "dilation": (1, 2)}), (24, 5, (3, 2), PADDED),
        ]
    ):  # fmt: skip
        graph = random_conv(700 + seed, depth, out, (3, 5), kernel, **{"padding": (0, 0, 0, 0), **given})
        kind = {8: "", 4: "nibbles", 2: ("ternary", "levels", "odd")[seed % 3]}[weights]
        graph = narrowed(graph, kind) if kind else graph
        found.append(packed(graph, inputs, outputs, seed))
    return found


@needs_cc
@pytest.mark.parametrize("inputs, weights, outputs", PACKED)
def test_packed_operands_on_this_computer(inputs, weights, outputs, tally) -> None:
    for graph in packed_graphs(inputs, weights, outputs):
        assert routine(graph)
        found = compare_all(graph)
        tally(WHAT + ", packed, host", found.mismatches, found.elements)


@pytest.mark.parametrize("toolchain", [GCC])
@pytest.mark.parametrize("weights", [8, 4, 2])
def test_packed_operands_on_an_emulated_board(weights, toolchain, tally, tmp_path) -> None:
    graphs = [graph for i, w, o in PACKED if w == weights for graph in packed_graphs(i, w, o)]
    cases = [Case(build_engine(graph, f"n{i}"), random_samples(graph, 2, i)) for i, graph in enumerate(graphs)]
    found = run_on_board(cases, board("nano33ble"), tmp_path, toolchain=toolchain)
    tally(f"{WHAT}, packed, emulated nano33ble, {toolchain}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_cc
@pytest.mark.skipif(not sanitizers(), reason="the compiler has no sanitizers")
@pytest.mark.parametrize("inputs, weights, outputs", PACKED[::3])
def test_packed_operands_under_sanitizers(inputs, weights, outputs, tmp_path) -> None:
    for i, graph in enumerate(packed_graphs(inputs, weights, outputs)[::3]):
        folder = tmp_path / str(i)
        folder.mkdir()
        assert run_sanitized(build_engine(graph, "net"), dict(random_samples(graph, 3)), folder).mismatches == 0


@needs_cc
def test_a_wrong_packing_is_found() -> None:
    graph = packed(narrowed(random_conv(9, 9, 5, (3, 3), (1, 1), padding=(0, 0, 0, 0)), "nibbles"), 4, 2, 0)
    changes = [("word = word >> shift |", "word = word |"), ("word >> 12", "word >> 11"), ("word >>= 2 * 4", "word >>= 4")]
    for old, new in [*changes, ("(8 - rest) * 4", "(7 - rest) * 4")]:
        assert compare(tampered(spread_engine(graph), old, new), dict(random_samples(graph, 3))).mismatches > 0, old


# ---------------------------------------------------------------- proofs


@needs_cc
def test_lower_channels_are_taken_out_before_they_leave_their_bits(tally) -> None:
    """Fields of 3 by inputs of -128: 21 taps stay within 14 bits, 22 do not; passes are as long as the proof allows."""
    for taps, split in ((21, False), (22, True)):
        graph = taps_of_three(taps, 19)
        assert ("split" in routine(graph)) == split
        found = compare_all(graph, {"x": extremes(graph)})
        tally(WHAT + ", host", found.mismatches, found.elements)
    passes = [routine(taps_of_three(n, 208 - n)).partition("x")[2].partition("_asr")[0] for n in (21, 37, 38)]
    assert passes == ["8", "8_split", "2_split"]


@needs_cc
def test_one_tap_more_would_be_wrong(monkeypatch) -> None:
    graph = taps_of_three(22, 18)
    monkeypatch.setattr(narrow_pairs.Lanes, "_fits", lambda self, starts: True)
    assert "split" not in routine(graph) and compare(spread_engine(graph), {"x": extremes(graph)}).mismatches > 0


@needs_cc
@pytest.mark.parametrize("most", [(1 << 17) - 1, 1 << 17])
def test_higher_channels_stay_within_their_bits(most, monkeypatch, tally) -> None:
    """2^17 - 1 is the largest sum beside the lower channel's; a larger one is kept elsewhere, without which it would be wrong."""
    graph = high_sum(most)
    assert ("based" in routine(graph)) == (most == 1 << 17)
    found = compare_all(graph, {"x": extremes(graph)})
    tally(WHAT + ", host", found.mismatches, found.elements)
    if most == 1 << 17:
        monkeypatch.setattr(narrow_pairs, "_HIGH", 1 << 30)
        assert "based" not in routine(graph) and compare(spread_engine(graph), {"x": extremes(graph)}).mismatches > 0


@pytest.mark.parametrize("toolchain", [GCC])
@pytest.mark.parametrize("kind", ["levels", "odd"])
def test_both_channels_are_taken_out_of_long_columns(kind, toolchain, monkeypatch, tally, tmp_path) -> None:
    """Where the higher channel leaves its bits before the end."""
    monkeypatch.setattr(Preference, "limit", lambda self, portable: portable + 30_000)
    graph = narrowed(random_conv(5, 1400, 5, (2, 3), (1, 1), padding=(0, 0, 0, 0), zeros=(0, 3)), kind)
    graph.ops[0].shift -= 7  # outputs that are not clamped
    assert "wide" in routine(graph)
    found = compare_all(graph, {"x": extremes(graph)})
    tally(WHAT + ", host", found.mismatches, found.elements)
    case = Case(build_engine(graph, "net"), {"x": np.concatenate([extremes(graph), random_samples(graph, 2)["x"]])})
    on_board = run_on_board([case], board("nano33ble"), tmp_path, toolchain=toolchain)
    tally(f"{WHAT}, emulated nano33ble, {toolchain}", on_board.mismatches, on_board.elements)
    assert on_board.mismatches == 0, on_board.first
    monkeypatch.setattr(narrow_pairs.Lanes, "_stays", lambda self: True)
    assert "wide" not in routine(graph) and compare(spread_engine(graph), {"x": extremes(graph)}).mismatches > 0


@needs_cc
@pytest.mark.parametrize("bits", [4, 2])
def test_sums_that_cannot_be_doubled_run_on_the_portable_kernel(bits, tally) -> None:
    weights = np.ones((3, 4), int)
    edge = 33 * (1 << 55) // ((1 << 30) - 500)  # the first channel's output changes within its range
    bias = np.array([(1 << 30) - 4 * 255 - 1, 0, 5])
    graph = single(weights, bits, bias=bias, multiplier=np.array([edge, 1 << 30, 1 << 30]), shift=-25, zeros=(-128, 0))
    assert routine(graph)
    graph.ops[0].bias[0] += 1
    assert not routine(graph)
    found = compare_all(graph)
    tally(WHAT + ", host", found.mismatches, found.elements)


def test_zeros_are_no_odd_weights() -> None:
    """A dead channel of odd weights keeps them; where its bias is too large the portable kernel runs."""
    weights = np.array([[1, -1, 3], [1, 1, 1], [3, 3, -3]])
    assert "tk_widen4sd(" in build_engine(single(weights, 2), "net").files["net.c"]
    assert not routine(single(weights, 2, bias=np.array([0, 1 << 30, 0]), shift=-1))


# ---------------------------------------------------------------- memory


@each_kind
def test_plans_hold_what_the_graph_alone_says(kind) -> None:
    for graph in graphs(kind)[::3]:
        engine = build_engine(graph, "net")
        assert replay_graph(graph, engine.problem, engine.plan) == []


@each_kind
def test_flash(kind) -> None:
    """Weights take the bits that they have: half a byte or a quarter a weight, and 28 bytes a pair of channels at most."""
    graph = narrowed(random_conv(3, 64, 32, (4, 4), (1, 1), padding=(0, 0, 0, 0)), kind)
    assert routine(graph)
    weights = 64 * 32 * graph.ops[0].weight_bits // 8
    assert weights < build_engine(graph, "net").weight_bytes <= weights + 16 * 28


# ---------------------------------------------------------------- speed, and tests of the tests


@needs_cc
@each_kind
def test_a_wrong_twin_is_found(kind) -> None:
    graph = narrowed(random_conv(1, 40, 4, (3, 3), (1, 1), padding=(0, 0, 0, 0), zeros=(-128, 0)), kind)
    changes = (
        [("tk_load32(block->x_end + 4 * p)", "0"), (">> 3);", ">> 4);"), ("[half] & 0x000f000f", "[half] & 0x000f0007")]
        if kind == "nibbles"
        else [("word >> 8 | word << 24", "word >> 8"), ("0xc003c003, ", "0xc001c003, "), ("a[p] = (uint32_t)w[0] + ", "a[p] = ")]
    )
    for old, new in changes:
        assert compare(tampered(spread_engine(graph), old, new), dict(random_samples(graph, 2))).mismatches > 0, old


@pytest.mark.parametrize("toolchain", [GCC])
@pytest.mark.parametrize("kind, old, new", [("nibbles", "asr r7, r7, #3", "asr r7, r7, #4"), ("odd", "lsl #2", "lsl #1")])
def test_wrong_assembly_is_found(kind, old, new, toolchain, tmp_path) -> None:
    graph = narrowed(random_conv(1, 24, 4, (3, 3), (1, 1), padding=(0, 0, 0, 0)), kind)
    source = build_engine(graph, "net").files["net.c"]
    line = next(line for line in source.splitlines() if old in line)
    engine = tampered(build_engine(graph, "net"), line, line.replace(old, new, 1))
    assert run_on_board([Case(engine, random_samples(graph, 2))], board("nano33ble"), tmp_path, toolchain=toolchain).mismatches > 0


@pytest.mark.parametrize("toolchain", [GCC])
@pytest.mark.parametrize("kind, limit", [("nibbles", 1.12), ("ternary", 0.8), ("odd", 0.9)])
def test_instructions_against_int8(kind, limit, toolchain, tmp_path) -> None:
    """Guards what the kernels are for; the published figures are benchmarks/narrow.md's."""
    graph = random_conv(1, 16, 32, (12, 12), (3, 3), **PADDED, zeros=(-128, -128))
    wide, narrow = counted(graph, kind, tmp_path, toolchain)
    assert narrow < limit * wide
