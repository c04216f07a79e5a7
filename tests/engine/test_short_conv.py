"""Fast convolutions with weights of 2 bits over short columns, whose sum is a tap: here, on emulated boards, and their proofs."""

import dataclasses

import numpy as np
import pytest
from bundles import Case, run_on_board, run_on_host
from engine_host import compare, compare_all, needs_cc, sanitizers, spread_engine, tampered
from fast_conv_cases import HALF, WHOLE, all_inputs, clamps, conv, dead, random_conv
from narrow_conv_cases import counted, high_sum, narrowed, packed, single
from test_fast_conv import GCC, ZIG, routine

from tinykit.boards.table import board
from tinykit.engine import registry
from tinykit.engine.generate import build_engine
from tinykit.engine.kernels import fastconv, narrow_pairs, pairs, short_blocks
from tinykit.engine.kernels.finish import Finish
from tinykit.engine.memory import random_samples
from tinykit.graph import ir

WHAT = "short convolutions, 2 bits vs reference"
PLAIN = {"padding": (0, 0, 0, 0)}
KINDS = ("ternary", "levels", "odd")
BOARDS = ("nano33ble", "nucleo_h743zi")  # a Cortex-M4, a Cortex-M7
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def cheap_code(monkeypatch) -> None:
    """Code of a layer's own costs nothing, so that small layers with columns of up to 32 taps are short too."""
    monkeypatch.setattr(fastconv, "_WORTH", 0)


def is_short(graph: ir.Graph) -> bool:
    """Whether a network's only layer runs on the routines that are tested here."""
    return routine(graph).startswith("tk_short_")


def graphs(kind: str) -> list[ir.Graph]:
    """1 to 17 taps and more, 2 to 9 channels, 1 to 9 pixels, windows at the edges, clamps behind which there is a line and others."""
    found = [random_conv(900 + n, n, 2 + n % 8, (1, 1 + n % 9), (1, 1), **PLAIN) for n in (*range(1, 18), 20, 21)]
    found += [random_conv(930 + depth, depth, 3 + depth, (4, 5), (3, 3), padding=(1, 1, 1, 1)) for depth in (1, 2)]
    found += [random_conv(940, 3, 5, (4, 3), (2, 3), stride=(2, 1)), random_conv(941, 5, 4, (3, 4), (1, 3), dilation=(1, 2))]
    found += [random_conv(950 + n, 4 + n, 3 + n, (2, 3), (1, 1), zeros=(5, -128), **PLAIN) for n in range(5)]
    return [narrowed(graph, kind) for graph in [*found, *clamps()[::2]]] + [narrowed(dead(), kind)] * (kind != "odd")


def roundings(zero: int, shift: int) -> ir.Graph:
    """Single taps: with every input, all sums and all roundings about large and small numbers, multipliers at both ends."""
    multiplier = np.array([HALF, WHOLE, HALF + 1, 3 << 29, WHOLE, HALF, WHOLE - 1, 1234567890, HALF])
    bias = np.array([0, 1, -90, 100, 7, -7, 99, -100, 3]) << max(0, -shift - 2)
    weights = np.array([1, -1, -2, 1, 0, 1, -1, 1, -2]).reshape(-1, 1, 1, 1)
    graph = conv((16, 16, 1), weights, bias=np.clip(bias, -100_000, 100_000), multiplier=multiplier, shift=shift, zeros=(0, zero))
    return dataclasses.replace(graph, ops=[dataclasses.replace(graph.ops[0], weight_bits=2)])


def packed_graphs() -> list[ir.Graph]:
    """Into and out of tensors of fewer bits: pixels that begin inside a byte, whole words, windows at the edges."""
    found = []
    for seed, (inputs, outputs) in enumerate([(4, 4), (2, 2), (8, 4), (4, 8), (2, 8), (8, 2)]):
        for kind, (depth, kernel) in zip(KINDS, ((13, (1, 1)), (16, (1, 1)), (2, (3, 3)))):
            graph = random_conv(960 + seed, depth, 3 + seed, (3, 5), kernel, padding=(kernel[0] // 2,) * 4)
            found.append(packed(narrowed(graph, kind), inputs, outputs, seed))
    return found


def cases() -> list[Case]:
    """Two samples each: noise, and both extremes by turns."""
    found = []
    for i, graph in enumerate([g for kind in KINDS for g in graphs(kind)] + packed_graphs()):
        chosen = np.array([0, 5 + i % 2])
        inputs = {name: values[chosen] for name, values in random_samples(graph, 8, i).items()}
        found.append(Case(build_engine(graph, f"s{i}"), inputs))
    rounded = [roundings(zero, shift) for zero, shift in ((0, -1), (-128, -2), (127, -3), (5, -7), (-128, -31), (0, -31), (127, -17))]
    return found + [Case(build_engine(g, f"r{i}"), {"x": np.concatenate([all_inputs()] * 2)}) for i, g in enumerate(rounded)]


# ---------------------------------------------------------------- exact


def test_what_is_tested_is_short(cheap_code) -> None:
    """Sums of odd weights leave their bits beyond some 20 taps."""
    found = [is_short(graph) for kind in KINDS for graph in graphs(kind)]
    assert sum(found) >= 0.9 * len(found)
    assert all(is_short(roundings(zero, -3)) for zero in (-128, 0, 127))
    assert sum(map(is_short, packed_graphs())) >= 12


@needs_cc
def test_on_this_computer(cheap_code, tally, tmp_path) -> None:
    found = run_on_host(cases(), tmp_path, sanitize=bool(sanitizers()), optimize="-O1")
    tally(WHAT + ", host", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_cc
@each_kind
def test_in_reverse_and_in_place(kind, tally) -> None:
    """As planned, where input and output overlap."""
    graph = narrowed(random_conv(981, 13, 11, (3, 3), (1, 1), **PLAIN), kind)
    assert is_short(graph)
    found = compare_all(graph)
    tally(WHAT + ", host", found.mismatches, found.elements)


@pytest.mark.parametrize("toolchain", [GCC, ZIG])
@pytest.mark.parametrize("name", BOARDS)
def test_on_an_emulated_board(name, toolchain, cheap_code, tally, tmp_path) -> None:
    some = cases()[:: 1 if (toolchain, name) == ("gcc", BOARDS[0]) else 5]
    found = run_on_board(some, board(name), tmp_path, toolchain=toolchain)
    tally(f"{WHAT}, emulated {name}, {toolchain}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


# ---------------------------------------------------------------- proofs


def of_size(sizes: list[int]) -> ir.Graph:
    """Pairs of channels with weights of these sizes, negative ones and others; outputs are not clamped."""
    first = np.array(sizes) * np.where(np.arange(len(sizes)) % 2, 1, -1)
    return single(np.stack([first, np.roll(first, 1)] * 8), 2, multiplier=1999999999, shift=-5, zeros=(-128, 3))


def ends(graph: ir.Graph) -> np.ndarray:
    """The inputs with the least and the largest sum of the first channel, and of the second."""
    weights = graph.ops[0].weights.reshape(16, -1)
    pixels = [np.where(sign * weights[c] > 0, 127, -128) for c in (0, 1) for sign in (1, -1)]
    return np.stack([np.broadcast_to(p, (3, 3, len(p))) for p in pixels])


@needs_cc
@pytest.mark.parametrize(
    "sizes, flags", [([3] * 10 + [1, 1], ""), ([3] * 11, "_full"), ([3] * 21 + [1], "_full"), ([3] * 21 + [1, 1], None)]
)
def test_first_channels_stay_within_their_bits(sizes, flags, cheap_code, monkeypatch, tally) -> None:
    """Sizes of 32 and 64 by 255 are the largest that fit 13 and 14 bits; with one more outputs would be wrong."""
    graph = of_size(sizes)
    found = compare_all(graph, {"x": ends(graph)})
    tally(WHAT + ", host", found.mismatches, found.elements)
    assert is_short(graph) == (flags is not None) and ("_full" in routine(graph)) == (flags == "_full")
    if sum(sizes) in (33, 65):
        monkeypatch.setattr(*((short_blocks, "SPARE", 1 << 30) if flags else (narrow_pairs, "_SPREAD", 1 << 30)))
        assert is_short(graph) and compare(spread_engine(graph), {"x": ends(graph)}).mismatches > 0


@needs_cc
def test_second_channels_stay_within_theirs(monkeypatch) -> None:
    inside, outside = high_sum((1 << 17) - 1), high_sum(1 << 17)
    x = {"x": np.full((1, 3, 3, 8), 127)}
    assert is_short(inside) and not is_short(outside) and compare(spread_engine(inside), x).mismatches == 0
    monkeypatch.setattr(narrow_pairs, "_HIGH", 1 << 30)
    assert is_short(outside) and compare(spread_engine(outside), x).mismatches > 0


def test_a_column_whose_sum_leaves_its_lane_is_not_short() -> None:
    for taps, wanted in ((255, True), (256, False)):
        weights = np.zeros((2, taps), int)
        weights[:, :5] = 1
        graph = single(weights, 2)
        op, x, y = graph.ops[0], graph.tensors["x"], graph.tensors["y"]
        order = np.append(np.arange(taps), np.full(-taps % 4, -1)).reshape(-1, 4)
        channels = pairs.prove(op, x, y)
        assert channels is not None
        assert (narrow_pairs.short_lanes(channels, Finish(), (-128, 127), False, order) is not None) == wanted


# ---------------------------------------------------------------- choice, speed, and tests of the tests


def test_long_columns_run_on_the_other_routines() -> None:
    graph = narrowed(random_conv(3, 64, 8, (4, 4), (1, 1), **PLAIN), "ternary")
    assert routine(graph).startswith("tk_lanes_")


@pytest.mark.parametrize("toolchain", [GCC])
@pytest.mark.parametrize("kind, limit", [("ternary", 0.75), ("levels", 0.75), ("odd", 0.78)])
def test_instructions_against_int8(kind, limit, toolchain, tmp_path) -> None:
    """Guards what the routines are for; and what the choice is based on is near the count."""
    graph = random_conv(1, 13, 11, (5, 7), (1, 1), **PLAIN, zeros=(-128, -125))
    wide, narrow = counted(graph, kind, tmp_path, toolchain)
    assert narrow < limit * wide
    each = narrowed(graph, kind)
    estimate = min(variant.instructions for variant in registry.fast(each, each.ops[0]))
    assert 0.9 < estimate / narrow < 1.1


@needs_cc
@pytest.mark.parametrize("kind, zero", [("odd", -125), ("ternary", -128)])
def test_a_wrong_twin_is_found(kind, zero) -> None:
    graph = narrowed(random_conv(1, 13, 11, (3, 3), (1, 1), **PLAIN, zeros=(-128, zero)), kind)
    assert is_short(graph) and ("_asr" in routine(graph)) == (zero == -128)
    changes = [
        ("(alone ? 4 : 8)", "(alone ? 6 : 8)"),
        ("word << (32 - turn)", "word << (31 - turn)"),
        ("a[p] = least + ", "a[p] = least - "),
    ]
    for old, new in [*changes, ("0 - total - ", "0 - total + "), *[("2 * last", "last")] * (kind == "odd")]:
        assert compare(tampered(spread_engine(graph), old, new), dict(random_samples(graph, 2))).mismatches > 0, old


@pytest.mark.parametrize("toolchain", [GCC])
@pytest.mark.parametrize("zero, old, new", [(-125, "asr r4, r4, #13;", "asr r4, r4, #12;"), (-128, "lr, r4, lsl #18", "lr, r4, lsl #17")])
def test_wrong_assembly_is_found(zero, old, new, toolchain, tmp_path) -> None:
    graph = narrowed(random_conv(1, 13, 5, (3, 3), (1, 1), **PLAIN, zeros=(-128, zero)), "ternary")
    engine = tampered(build_engine(graph, "net"), old, new)
    assert run_on_board([Case(engine, random_samples(graph, 2))], board("nano33ble"), tmp_path, toolchain=toolchain).mismatches > 0
