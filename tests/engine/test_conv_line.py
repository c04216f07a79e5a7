"""Requantisation on a line in the fast convolutions: exact where it is taken, and taken only where it is proved."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from bundles import Case, run_on_board
from engine_host import compare, compare_all, needs_cc, spread_engine, tampered
from fast_conv_cases import HALF, WHOLE, all_inputs, conv, random_conv, roundings
from narrow_conv_cases import KINDS, narrowed, packed
from test_fast_conv import GCC, ZIG, routine

from tinykit.boards.pipeline import compile_graph, layer_table
from tinykit.boards.table import board
from tinykit.engine import line, registry
from tinykit.engine.generate import build_engine
from tinykit.engine.kernels import pairs
from tinykit.engine.memory import random_samples
from tinykit.graph import ir

WHAT = "requantisation on a line in convolutions"
each_kind = pytest.mark.parametrize("kind", ["bytes", *KINDS])
PLAIN = {"padding": (0, 0, 0, 0)}


def on_line(graph: ir.Graph) -> bool:
    """Whether a network's only layer lies on a line."""
    return bool(re.search(r"_asr\d+$", routine(graph)))


def rectified(kind: str) -> Iterator[ir.Graph]:
    """Layers behind whose clamp nothing is negative: 2 to 9 channels and more, 1 to 9 pixels, both ends of zero points, all clamps."""
    for n in range(1, 10):
        given = {"zeros": (-128 if n % 2 else 127, -128), **PLAIN}
        yield _of(kind, random_conv(800 + n, 3 * n, 10 - n if n < 9 else 2, (1, n), (1, 1), **given))
    for i, clamp in enumerate([(-128, 127), (-128, 90), (-3, 127), (-3, 100), (0, 127), (0, 15), (0, 99), (126, 127)]):
        given = {"zeros": (5, clamp[0]), "clamp": clamp, "padding": (1, 1, 1, 1)}
        yield _of(kind, random_conv(820 + i, 5 + i, 3 + i % 4, (4, 5), (3, 3), **given))
    for depth, size in ((33, (3, 3)), (72, (1, 1)), (130, (1, 1))):  # passes
        yield _of(kind, random_conv(840 + depth, depth, 7, (2, 5), size, zeros=(-7, -128)))


def _of(kind: str, graph: ir.Graph) -> ir.Graph:
    return graph if kind == "bytes" else narrowed(graph, kind)


@needs_cc
@each_kind
def test_on_this_computer(kind, tally) -> None:
    graphs = list(rectified(kind))
    lines = 0
    for graph in graphs:
        lines += on_line(graph)
        found = compare_all(graph)
        tally(WHAT + ", host", found.mismatches, found.elements)
    assert lines >= len(graphs) * 3 // 4


@pytest.mark.parametrize("toolchain", [GCC, ZIG])
@each_kind
def test_on_an_emulated_board(kind, toolchain, tally, tmp_path) -> None:
    graphs = list(rectified(kind))[:: 1 if toolchain == "gcc" else 4]
    cases = [Case(build_engine(graph, f"n{i}"), random_samples(graph, 2, i)) for i, graph in enumerate(graphs)]
    found = run_on_board(cases, board("nano33ble"), tmp_path, toolchain=toolchain)
    tally(f"{WHAT}, emulated nano33ble, {toolchain}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_cc
@pytest.mark.parametrize("bits", [4, 2])
def test_packed_outputs(bits, tally) -> None:
    """Codes: the least stored output is the code 0."""
    lines = 0
    for seed, kind in enumerate(("bytes", *KINDS)):
        graph = packed(_of(kind, random_conv(860 + seed, 9, 5, (3, 4), (1, 1), **PLAIN)), 8, bits, 4 * seed)
        lines += on_line(graph)
        found = compare_all(graph)
        tally(WHAT + ", host", found.mismatches, found.elements)
    assert lines


# ---------------------------------------------------------------- proofs


@needs_cc
@pytest.mark.parametrize("shift", [1, 0, -1, -3, -6])
def test_every_accumulator(shift, tally, monkeypatch) -> None:
    """Single taps and every input; shifts to the left, by nothing and to the right, behind a clamp."""
    monkeypatch.setattr(pairs, "_OWN", 0)
    weights = np.array([1, -1, 3, -5, 64, -64, 0, 2])
    bias = np.array([0, 0, 50, -40, 7, -7, 99, -300]) << max(0, -shift - 1)
    graph = conv(
        (16, 16, 1), weights.reshape(-1, 1, 1, 1), bias=bias, shift=shift, zeros=(-7, -128),
        multiplier=np.array([HALF, WHOLE, HALF + 1, 3 << 29, WHOLE, HALF, WHOLE - 1, 1234567890]),
    )  # fmt: skip
    assert on_line(graph)
    found = compare_all(graph, {"x": all_inputs()})
    tally(WHAT + ", host", found.mismatches, found.elements)


@needs_cc
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_up_to_the_proven_bound(sign, tally, monkeypatch) -> None:
    """2^23 - 1 is the largest sum that leaves room for its power; with one more a layer is rounded twice."""
    monkeypatch.setattr(pairs, "_OWN", 0)
    for edge, wanted in (((1 << 23) - 1, True), (1 << 23, False)):
        weights = np.full((3, 1, 1, 8), 127 * sign)
        bias = sign * (edge - 127 * 255 * 8) * np.array([1, 0, 0])
        shift, zero = np.array([-15, -11, -11]), -128 if sign > 0 else 127
        graph = conv((3, 3, 8), weights, bias=bias, multiplier=HALF + 9, shift=shift, zeros=(-128, zero))
        assert on_line(graph) == wanted
        x = np.stack([np.full((3, 3, 8), 127), np.full((3, 3, 8), -128), np.arange(72).reshape(3, 3, 8)])
        found = compare_all(graph, {"x": x})
        tally(WHAT + ", host", found.mismatches, found.elements)


@needs_cc
@pytest.mark.parametrize("zero", [-60, 0, 60])
def test_what_lies_on_no_line_is_rounded_twice(zero, tally) -> None:
    """Ties away from zero on both of its sides."""
    graph = roundings(zero)
    assert routine(graph) and not on_line(graph)
    found = compare_all(graph, {"x": all_inputs()})
    tally(WHAT + ", host", found.mismatches, found.elements)


@needs_cc
@each_kind
def test_one_channel_refuses_for_all(kind, tally) -> None:
    """A layer in which only some channels lie on a line is rounded twice."""
    graph = _of(kind, random_conv(871, 16, 6, (3, 4), (1, 1), zeros=(0, 0), **PLAIN))
    assert routine(graph) and not on_line(graph)
    found = compare_all(graph)
    tally(WHAT + ", host", found.mismatches, found.elements)


@needs_cc
@each_kind
def test_what_is_not_checked_would_be_wrong(kind, monkeypatch) -> None:
    """The test's own eyes: with a check that accepts everything, outputs differ."""
    graph = _of(kind, random_conv(871, 16, 6, (3, 4), (1, 1), zeros=(0, 0), **PLAIN))
    offsets = line._offsets

    def accepting(*given: object) -> tuple[np.ndarray, np.ndarray]:
        least, most = offsets(*given)
        return np.minimum(least, most), np.minimum(least, most)

    monkeypatch.setattr(line, "_offsets", accepting)
    x = np.concatenate([random_samples(graph, 4, seed)["x"] for seed in range(8)])
    assert on_line(graph) and compare(spread_engine(graph), {"x": x}).mismatches > 0


@needs_cc
@each_kind
def test_a_wrong_twin_is_found(kind) -> None:
    graph = _of(kind, random_conv(1, 8, 4, (3, 3), (1, 1), zeros=(-128, -128), **PLAIN))
    assert on_line(graph)
    for old, new in (("offset_a = w[2]", "offset_a = 2 * w[2]"), ("last = w[3] & 1", "last = 1"), ("w[1], offset_b", "w[0], offset_b")):
        assert compare(tampered(spread_engine(graph), old, new), dict(random_samples(graph, 2))).mismatches > 0, old


@pytest.mark.parametrize("toolchain", [GCC])
@each_kind
def test_wrong_assembly_is_found(kind, toolchain, tmp_path) -> None:
    graph = _of(kind, random_conv(1, 8, 4, (3, 3), (1, 1), zeros=(-128, -128), **PLAIN))
    engine = tampered(build_engine(graph, "net"), "asrs lr, r12, #1", "asrs lr, r12, #2")
    assert run_on_board([Case(engine, random_samples(graph, 2))], board("nano33ble"), tmp_path, toolchain=toolchain).mismatches > 0


@pytest.mark.parametrize("toolchain", [GCC])
@each_kind
def test_estimates_are_near_the_counts(kind, toolchain, tmp_path) -> None:
    """What the choice between kernels is based on, with a line and without."""
    for zero in (-128, 0):
        graph = _of(kind, random_conv(3, 64, 32, (6, 6), (1, 1), zeros=(0, zero), **PLAIN))
        assert on_line(graph) <= (zero == -128)
        compiled = compile_graph(graph, board("nano33ble"), tmp_path / f"{zero}", toolchain=toolchain, samples=1)
        estimate = min(variant.instructions for variant in registry.fast(graph, graph.ops[0]))
        assert 0.95 < estimate / layer_table(compiled)[0]["instructions"] < 1.05


def test_a_pair_on_a_line_takes_fewer_instructions() -> None:
    """What the choice between routines is based on."""
    for pixels in (1, 2, 3):
        graph = random_conv(3, 16, 6, (3, 4), (1, 1), zeros=(0, -128), **PLAIN)
        op, x, y = graph.ops[0], graph.tensors["x"], graph.tensors["y"]
        channels = pairs.prove(op, x, y)
        form = pairs.bytes_form(channels, pairs.Finish())
        assert form.on_line is not None
        twice = pairs.Bytes(channels, form.split, pairs.Finish(), None)
        assert form.stream(pixels, 4).pair_instructions(4) <= twice.stream(pixels, 4).pair_instructions(4) - 5 * pixels
