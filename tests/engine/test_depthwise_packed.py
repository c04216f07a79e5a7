"""Depthwise layers on planes with weights, inputs and outputs of 4 and 2 bits: their C here, their assembly on emulated boards."""

import dataclasses
import itertools
import shutil
from functools import cache

import numpy as np
import pytest
from bundles import Case, run_on_board, run_on_host
from engine_host import compare, needs_cc, random_inputs, spread_engine, tampered
from narrow_nets import NarrowNet
from narrow_samples import WIDTHS

from tinykit.boards.table import board
from tinykit.engine.generate import build_engine
from tinykit.engine.kernels import depthwise
from tinykit.engine.memory import random_samples
from tinykit.graph import ir
from tinykit.graph.plan.replay import replay_graph

pytestmark = needs_cc
needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
COMBINATIONS = [key for key in itertools.product(WIDTHS, repeat=3) if key != (8, 8, 8)]
"""Bits of weights, input, output."""
SHAPES = [
    # shape, kernel, stride, dilation, padding
    ((5, 7, 13), (3, 3), (1, 1), (1, 1), "same"), ((6, 6, 8), (3, 3), (1, 1), (1, 1), "same"),
    ((9, 8, 6), (3, 3), (2, 2), (1, 1), "same"), ((4, 5, 3), (3, 3), (2, 2), (1, 1), (0, 2, 1, 0)),
    ((3, 3, 1), (3, 3), (1, 1), (1, 1), (2, 2, 2, 2)), ((2, 9, 2), (3, 3), (1, 1), (1, 1), "same"),
    ((7, 4, 12), (3, 3), (1, 1), (1, 1), (1, 0, 2, 1)), ((6, 9, 9), (3, 3), (2, 2), (1, 1), (1, 1, 1, 2)),
    ((1, 2, 5), (3, 3), (1, 1), (1, 1), "same"), ((7, 9, 5), (5, 5), (1, 1), (1, 1), "same"),
    ((8, 7, 4), (5, 5), (2, 2), (1, 1), "same"), ((6, 7, 7), (4, 6), (1, 1), (1, 1), (1, 2, 3, 1)),
    ((25, 5, 8), (10, 4), (1, 1), (1, 1), "same"), ((31, 1, 6), (9, 1), (1, 1), (1, 1), "same"),
    ((31, 1, 13), (3, 1), (2, 1), (1, 1), "same"), ((1, 29, 6), (1, 5), (1, 1), (1, 1), "same"),
    ((9, 9, 3), (3, 3), (1, 1), (2, 2), "same"), ((9, 8, 5), (3, 2), (2, 2), (1, 3), (2, 1, 0, 2)),
    ((9, 3, 8), (3, 3), (4, 4), (1, 1), (1, 1, 0, 0)), ((1, 1, 3), (1, 1), (1, 1), (1, 1), "valid"),
]  # fmt: skip


def layer(seed: int, shape, kernel, stride, dilation, padding, widths: tuple[int, int, int], act: str = "relu") -> ir.Graph:
    """One layer with its extreme weights in the first channel and in the last; odd weights where the seed says so."""
    w, i, o = widths
    net = NarrowNet(seed, i)
    x = net.input(shape)
    net.bits = o
    y = net.depthwise(x, 1, kernel, stride, dilation, padding, act, bits=w)
    odd = w == 2 and seed % 2 == 0
    if odd:
        net.odd(y)
    op = net.graph.ops[0]
    op.weights[..., 0], op.weights[..., -1] = (-3, 3) if odd else (-(1 << w - 1), (1 << w - 1) - 1)
    return net.done()


def layers() -> list[ir.Graph]:
    """Every shape at some widths, all widths at some shapes."""
    every = itertools.product(range(len(SHAPES)), range(len(COMBINATIONS)))
    return [layer(7 * n + k, *SHAPES[n], COMBINATIONS[k], ["relu", "none"][(n + k) // 9 % 2]) for n, k in every if (n + k) % 9 == 0]


def extreme(seed: int, widths: tuple[int, int, int]) -> ir.Graph:
    """Multipliers of 2^30 and 2^31 - 1, shifts 0 to 31, biases up to 2^30, dead channels, clamps, zero points at both ends."""
    graph = layer(seed, (5, 6, 8), [(3, 3), (2, 5)][seed % 2], [(1, 1), (2, 2)][seed // 2 % 2], (1, 1), "same", widths)
    op, x, y = graph.ops[0], graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    kinds = [(1 << 30, 3), ((1 << 31) - 1, 4), (1 << 30, 31), ((1 << 31) - 1, 0), (0, 0), (1500000000, 9), (1 << 30, 2), (1234567890, 5)]
    if seed % 3:
        kinds = [(m, 2 + n % 4) for n, (m, _) in enumerate(kinds)]
    bias = op.bias.copy()
    bias[2] = 1 << 30 if seed % 4 == 0 else 77
    middle = (y.low + y.high) // 2
    low, high = [(y.low, y.high), (y.low + 1, y.high - 1), (middle, y.high), (y.low, y.low), (middle, middle)][seed % 5]
    graph.tensors[x.name] = dataclasses.replace(x, zero_point=[x.low, x.high][seed % 2])
    graph.tensors[y.name] = dataclasses.replace(y, zero_point=[y.low, y.high, middle][seed % 3])
    op.weights[..., 2] = -1
    graph.ops[0] = dataclasses.replace(
        op, bias=bias, act_min=low, act_max=high, rounding=list(ir.Rounding)[seed // 4 % 2],
        multiplier=np.array([m for m, _ in kinds], np.int32), shift=np.array([-s for _, s in kinds], np.int32),
    )  # fmt: skip
    graph.validate()
    return graph


@cache
def cases() -> tuple[Case, ...]:
    graphs = [*layers(), *(extreme(n, widths) for n, widths in enumerate(COMBINATIONS) if n % 2)]
    return tuple(Case(build_engine(graph, f"net{n}"), random_samples(graph, 4, n)) for n, graph in enumerate(graphs))


def test_layers(tmp_path, tally) -> None:
    """Planned, some in place; the plan is proved with reads that follow from the graph alone. Under the sanitizers."""
    some = cases()
    functions = [case.engine.calls[0].function for case in some]
    assert sum("_by_" in name or "_s1_" in name or "_s2_" in name for name in functions) > 0.8 * len(functions)
    assert all(replay_graph(case.graph, case.engine.problem, case.engine.plan) == [] for case in some)
    found = run_on_host(some, tmp_path, sanitize=True, optimize="-O1")
    tally("depthwise layers with packed operands vs reference, host ASan + UBSan", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_gcc
@pytest.mark.parametrize("name, toolchain", [("nano33ble", "gcc"), ("nano33ble", "zig"), ("disco_f746ng", "gcc")])
def test_layers_on_a_board(name, toolchain, tmp_path, tally) -> None:
    found = run_on_board(cases(), board(name), tmp_path, toolchain=toolchain)
    tally(f"depthwise layers with packed operands vs reference, emulated {name}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def chain(widths: tuple[int, int, int], shape: tuple[int, int, int], stride: int) -> ir.Graph:
    """A layer between two others, so that its input may die."""
    w, i, o = widths
    net = NarrowNet(shape[0] + w, 8)
    x = net.input((*shape[:2], 3))
    net.bits = i
    x = net.conv(x, shape[2], (1, 1), bits=8, act="relu")
    net.bits = o
    x = net.depthwise(x, stride=(stride, stride), act="relu", bits=w)
    net.conv(x, 3, (1, 1), bits=8)
    return net.done()


@pytest.mark.parametrize("widths, shape, stride", [((4, 4, 4), (24, 24, 8), 1), ((4, 4, 4), (25, 21, 7), 1), ((2, 2, 2), (24, 24, 8), 1)])
def test_works_in_place_by_bands(widths, shape, stride, tally) -> None:
    """Results overwrite what was gathered, bit by bit, while the channels beside them are still to be read."""
    graph = chain(widths, shape, stride)
    engine = build_engine(graph, "net")
    op = graph.ops[1]
    assert "depthwise_3x3_i" in engine.calls[1].function
    assert engine.plan.offsets[op.inputs[0]] == engine.plan.offsets[op.output]
    assert replay_graph(graph, engine.problem, engine.plan) == []
    total = compare(engine, random_inputs(graph, 3))
    tally("depthwise layers with packed operands vs reference, host", total.mismatches, total.elements)
    assert total.mismatches == 0, total.first


def test_different_widths_are_not_in_place() -> None:
    """An element of 2 bits does not lie where the one of 4 bits did that it is made of."""
    for o in (4, 2):
        graph = chain((4, 4, o), (24, 24, 8), 1)
        (found,) = depthwise.variants(graph, graph.ops[1])
        assert found.access.in_place == (frozenset({graph.ops[1].inputs[0]}) if o == 4 else frozenset())


@pytest.mark.parametrize("kernel, most", [((3, 3), {4: 0.84, 2: 0.67}), ((5, 5), {4: 0.7, 2: 0.54})])
def test_records_in_flash_are_smaller(kernel, most) -> None:
    sizes = {w: build_engine(layer(1, (8, 8, 16), kernel, (1, 1), (1, 1), "same", (w, 8, 8)), "net").calls[0].flash for w in WIDTHS}
    assert all(sizes[w] <= part * sizes[8] for w, part in most.items())


FAULTS = [
    ((4, 8, 8), "tk_signed4(two & 0x0f0f0f)", "tk_signed4(two >> 4 & 0x0f0f0f)"), ((2, 8, 8), "tk_signed2(all >> 4", "tk_signed2(all >> 2"),
    ((8, 4, 4), "both >> 4", "both"), ((8, 4, 4), "tk_store16(to + n * size + i, zero);", "tk_store16(to + n * size + i, zero ^ 5);"),
]  # fmt: skip


@pytest.mark.parametrize("widths, old, new", FAULTS)
def test_faults_are_found(widths, old, new) -> None:
    graph = layer(3, (16, 16, 32), (3, 3), (1, 1), (1, 1), "same", widths, "none")
    engine, inputs = spread_engine(graph), random_inputs(graph)
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, old, new), inputs).mismatches > 0
