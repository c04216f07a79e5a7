"""The fast convolutions, on this computer (the twins in C) and on emulated boards (the assembly), against the reference executor."""

import dataclasses
import importlib.util
import re
import shutil

import numpy as np
import pytest
from bundles import Case, run_on_board
from engine_host import all_engines, compare, compare_all, needs_cc, spread_engine, tampered
from fast_conv_cases import HALF, WHOLE, all_inputs, bounded, clamps, conv, dead, random_conv, roundings, shapes

from tinykit.boards.pipeline import compile_graph, layer_table
from tinykit.boards.table import board
from tinykit.engine import registry
from tinykit.engine.generate import build_engine
from tinykit.engine.goal import BALANCED
from tinykit.engine.kernels import pairs
from tinykit.engine.memory import random_samples
from tinykit.graph import ir
from tinykit.graph.plan.replay import replay_graph

GCC = pytest.param("gcc", marks=pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed"))
ZIG = pytest.param("zig", marks=pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed"))
WHAT = "fast convolutions vs reference"


def routine(graph: ir.Graph) -> str:
    """The routine that a network's only layer runs; empty where the portable kernel does."""
    found = re.search(r"routine = (\w+);", build_engine(graph, "net").files["net.c"])
    return found[1] if found else ""


def cases() -> list[Case]:
    """All graphs of this file, two samples each: both extremes are among the shapes' inputs by turns."""
    graphs = [*shapes(), *clamps(), *(bounded(size, sign) for size in ((1 << 23) - 1, 1 << 23) for sign in (1, -1)), dead()]
    found = []
    for i, graph in enumerate(graphs):
        inputs = dict(random_samples(graph, 8, i))
        chosen = np.array([0, 5 + i % 2])  # noise, an extreme
        found.append(Case(build_engine(graph, f"n{i}"), {name: values[chosen] for name, values in inputs.items()}))
    rounded = [roundings(zero) for zero in (0, -128, 127)]
    found += [Case(build_engine(g, f"r{i}"), {"x": np.concatenate([all_inputs()] * 2)}) for i, g in enumerate(rounded)]
    return found


# ---------------------------------------------------------------- exact


@needs_cc
@pytest.mark.parametrize("graph", [*shapes(), *clamps(), dead()], ids=lambda g: "x".join(map(str, g.ops[0].weights.shape)))
def test_on_this_computer(graph, tally) -> None:
    """Forward, in reverse, and as planned, where input and output overlap."""
    assert routine(graph)
    found = compare_all(graph)
    tally(WHAT + ", host", found.mismatches, found.elements)


@needs_cc
@pytest.mark.parametrize("zero", [-128, 0, 127])
def test_every_rounding(zero, tally) -> None:
    graph = roundings(zero)
    assert routine(graph)
    found = compare_all(graph, {"x": all_inputs()})
    tally(WHAT + ", host", found.mismatches, found.elements)


@pytest.mark.parametrize("toolchain", [GCC, ZIG])
def test_on_an_emulated_board(toolchain, tally, tmp_path) -> None:
    found = run_on_board(cases(), board("nano33ble"), tmp_path, toolchain=toolchain)
    tally(f"{WHAT}, emulated nano33ble, {toolchain}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


# ---------------------------------------------------------------- proofs


@needs_cc
@pytest.mark.parametrize("sign", [1, -1])
def test_channels_share_lanes_up_to_the_proven_bound(sign, tally) -> None:
    """2^23 - 1 is the largest sum that can be told from its neighbour's."""
    inside, outside = bounded((1 << 23) - 1, sign), bounded(1 << 23, sign)
    assert "split" not in routine(inside) and "split" in routine(outside)
    for graph in (inside, outside):
        found = compare_all(graph)
        tally(WHAT + ", host", found.mismatches, found.elements)


@needs_cc
def test_one_more_than_the_bound_would_be_wrong(monkeypatch) -> None:
    """The bound is no more careful than it must be: the output at it differs when channels share lanes beyond it."""
    graph = bounded((1 << 23) + 8, 1)
    monkeypatch.setattr(pairs, "_JOINT", 1 << 30)
    engine = spread_engine(graph)
    x = np.full((1, 3, 3, 8), 127)
    assert "split" not in routine(graph) and compare(engine, {"x": x}).mismatches > 0


def test_weights_of_minus_128_take_a_word_of_their_own() -> None:
    weights = np.array([[-1, 0], [-128, 5]]).reshape(2, 1, 1, 2)
    assert "split" in routine(conv((2, 2, 2), weights))
    weights[0] = 1  # 1 - 256 * 128 fits
    assert "split" not in routine(conv((2, 2, 2), weights))


def test_dead_channels_do_not_matter() -> None:
    graph = dead()
    assert (np.abs(graph.ops[0].bias.astype(np.int64)) >= HALF).any() and routine(graph)


@needs_cc
@pytest.mark.parametrize(
    "given, fast",
    [
        ({"shift": np.array([0, -2, -3])}, False), ({"shift": np.array([1, -1, -2])}, False),
        ({"shift": -31, "bias": HALF + 30, "multiplier": WHOLE}, False), ({"shift": -25, "bias": 1 << 25, "zeros": (0, -128)}, False),
        ({"multiplier": 0, "shift": 0}, True), ({"shift": 0, "bias": 1 << 24}, True), ({"shift": 0}, True), ({"shift": 1}, True),
    ],
)  # fmt: skip
def test_what_is_not_proved_runs_on_the_portable_kernel(given, fast, tally) -> None:
    """Shifts to the left or by nothing in some channels only, sums that would leave 32 bits: exact all the same. In all channels there is
    a line."""
    weights = np.array([[1], [-1], [2]]).reshape(3, 1, 1, 1)
    graph = conv((16, 16, 1), weights, **given)
    assert bool(routine(graph)) == fast
    found = compare_all(graph, {"x": all_inputs()})
    tally(WHAT + ", host", found.mismatches, found.elements)


@needs_cc
@pytest.mark.parametrize("shift", range(-31, 0))
@pytest.mark.parametrize("zero", [-128, 0, 127])
def test_every_shift(shift, zero, tally) -> None:
    """Sums around the point where the output changes, fast or not."""
    edge = min(1 << -shift, (1 << 31) - 1000)
    bias = np.array([0, edge // 2, -edge // 2, edge, -edge, 3 * (edge // 8)])
    weights = np.array([1, 1, -1, 1, 1, -1]).reshape(-1, 1, 1, 1)
    graph = conv((16, 16, 1), weights, bias=bias, multiplier=np.array([HALF, WHOLE] * 3), shift=shift, zeros=(0, zero))
    found = compare(spread_engine(graph), {"x": all_inputs()})
    tally(WHAT + ", host", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def test_accumulator_range_is_reached() -> None:
    """The least and largest sums are those of inputs that exist."""
    graph = random_conv(1, 6, 4, (3, 3), (3, 3), zeros=(5, 0), padding=(0, 0, 0, 0))
    op, x = graph.ops[0], graph.tensors["x"]
    least, largest = pairs.accumulator_range(op, x)
    weights = op.weights.reshape(4, -1).astype(np.int64)
    for signs, wanted in ((weights > 0, largest), (weights < 0, least)):
        inputs = np.where(signs, x.high, x.low) - x.zero_point
        assert (op.bias + (inputs * weights).sum(axis=1) == wanted).all()


# ---------------------------------------------------------------- memory


def test_plans_hold_what_the_graph_alone_says() -> None:
    for graph in shapes():
        engine = build_engine(graph, "net")
        assert replay_graph(graph, engine.problem, engine.plan) == []


@needs_cc
def test_a_buffer_that_is_too_small_is_found() -> None:
    """The test's own eyes: bytes beside a scratch that the engine writes."""
    engine = spread_engine(random_conv(3, 5, 4, (4, 4), (3, 3), padding=(1, 1, 1, 1)))
    (step,) = engine.problem.steps
    smaller = dataclasses.replace(step, access=dataclasses.replace(step.access, scratch=step.access.scratch - 2))
    engine = dataclasses.replace(engine, problem=dataclasses.replace(engine.problem, steps=(smaller,)))
    found = compare(engine, dict(random_samples(engine.graph, 2)))
    assert found.mismatches > 0 and "between" in found.first


@pytest.mark.parametrize("depth, image", [(4, (8, 8)), (64, (4, 4)), (128, (3, 3)), (64, (16, 16)), (200, (1, 1))])
def test_columns_take_no_more_memory_than_they_may(depth, image, monkeypatch) -> None:
    """Where the columns of 3 pixels would be too large, blocks are smaller, or the portable kernel runs."""
    graph = random_conv(7, depth, 8, image, (3, 3), padding=(1, 1, 1, 1))
    arena = build_engine(graph, "net").plan.arena_bytes
    monkeypatch.setattr(registry, "FAST", {})
    assert arena <= build_engine(graph, "net").plan.arena_bytes + BALANCED.spare


@needs_cc
def test_smaller_blocks_are_exact(tally) -> None:
    """Blocks of 2 pixels, of 1, and none."""
    kinds = set()
    for depth in (12, 20, 36, 52, 100, 130):
        graph = random_conv(depth, depth, 7, (3, 5), (3, 3), padding=(1, 1, 1, 1))
        kinds.add(re.sub(r"tk_stream(.)x.*", r"\1", routine(graph)))
        for engine in all_engines(graph).values():
            found = compare(engine, dict(random_samples(graph, 4)))
            tally(WHAT + ", host", found.mismatches, found.elements)
            assert found.mismatches == 0, found.first
    assert kinds == {"3", "2", "1", ""}


# ---------------------------------------------------------------- speed, and tests of the tests


@needs_cc
def test_a_wrong_twin_is_found() -> None:
    graph = random_conv(1, 8, 4, (3, 3), (1, 1), padding=(0, 0, 0, 0))
    for old, new in ((">> 7;", ">> 8;"), ("word >> 16;", "(word >> 16) + 1;"), ("out[place[p] + 1]", "out[place[p]]")):
        assert compare(tampered(spread_engine(graph), old, new), dict(random_samples(graph, 2))).mismatches > 0, old


@pytest.mark.parametrize("toolchain", [GCC])
def test_wrong_assembly_is_found(toolchain, tmp_path) -> None:
    graph = random_conv(1, 8, 4, (3, 3), (1, 1), padding=(0, 0, 0, 0))
    engine = tampered(build_engine(graph, "net"), "asr r8, r8, #7", "asr r8, r8, #8")
    assert run_on_board([Case(engine, random_samples(graph, 2))], board("nano33ble"), tmp_path, toolchain=toolchain).mismatches > 0


@pytest.mark.parametrize("toolchain", [GCC, ZIG])
def test_instructions_a_multiplication(toolchain, tmp_path) -> None:
    """Guards what the kernels are for; the published figures are benchmarks/engine.md's."""
    limits = {(64, 1): 1.0, (16, 3): 0.95, (3, 3): 1.55}
    for (depth, taps), limit in limits.items():
        pad = taps // 2
        graph = random_conv(1, depth, 16, (12, 12), (taps, taps), padding=(pad,) * 4, zeros=(-128, -128))
        compiled = compile_graph(graph, board("nano33ble"), tmp_path / f"{depth}", toolchain=toolchain, samples=1)
        assert compiled.verification.mismatches == 0 and compiled.verification.unprofiled is None
        assert layer_table(compiled)[0]["instructions_per_mac"] < limit * (1.0 if toolchain == "gcc" else 1.15)
