"""The fast dense kernels for packed operands against the reference executor: their C here, their assembly on emulated boards."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
from bundles import Case, run_on_board, run_on_host
from engine_host import compare, needs_cc, random_inputs, spread_engine, tampered
from narrow_nets import NarrowNet
from narrow_samples import WIDTHS

from tinykit.boards.table import board
from tinykit.engine.generate import build_engine
from tinykit.engine.memory import random_samples
from tinykit.graph import ir

pytestmark = needs_cc
needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
SIZES = [(1, 1), (2, 5), (3, 2), (5, 7), (7, 4), (8, 3), (13, 9), (16, 6), (17, 8), (32, 4), (37, 10), (75, 3)]
"""Elements, channels."""
COMBINATIONS = [key for key in itertools.product(WIDTHS, repeat=3) if key != (8, 8, 8)]
"""Bits of weights, input, output."""


def layer(seed: int, size: tuple[int, int], w: int, i: int, o: int, *, odd: bool = False, per_channel: bool = False) -> ir.Graph:
    """A dense layer with its extreme weights in the first channel and in the last."""
    net = NarrowNet(seed, i)
    x = net.input((size[0],))
    net.bits = o
    y = net.dense(x, size[1], bits=w, per_channel=per_channel)
    if odd:
        net.odd(y)
    op = net.graph.ops[0]
    op.weights[0], op.weights[-1] = (-3, 3) if odd else (-(1 << w - 1), (1 << w - 1) - 1)
    return net.done()


def layers() -> list[ir.Graph]:
    """All widths; each size with each of the weights' forms."""
    made = []
    for n, ((w, i, o), part) in enumerate(itertools.product(COMBINATIONS, range(3))):
        size = SIZES[(n + part * 5) % len(SIZES)]
        made.append(layer(n, size, w, i, o, odd=w == 2 and part == 1, per_channel=part == 2))
    return made


def extremes() -> list[ir.Graph]:
    """Multipliers of 2^30 and 2^31 - 1, shifts 0 to 31, clamps, zero points at both ends, one rounding."""
    made = []
    for seed, (w, i, o) in enumerate(COMBINATIONS):
        graph = layer(seed, (37, 6), w, i, o, odd=w == 2 and seed % 2 == 0)
        op, x, y = graph.ops[0], graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
        multiplier, shift = [(1 << 30, -9), ((1 << 31) - 1, -5), (1 << 30, 0), ((1 << 31) - 1, -31), (1999999999, -3), (0, 0)][seed % 6]
        middle = (y.low + y.high) // 2
        low, high = [(y.low, y.high), (y.low + 1, y.high - 1), (middle, middle), (middle, y.high)][seed % 4]
        graph.tensors[x.name] = dataclasses.replace(x, zero_point=[x.low, x.high][seed % 2])
        graph.tensors[y.name] = dataclasses.replace(y, zero_point=[y.low, y.high, middle][seed % 3])
        graph.ops[0] = dataclasses.replace(
            op, act_min=low, act_max=high, rounding=list(ir.Rounding)[seed // 3 % 2],
            multiplier=np.full_like(op.multiplier, multiplier), shift=np.full_like(op.shift, shift),
        )  # fmt: skip
        graph.validate()
        made.append(graph)
    return made


def cases() -> list[Case]:
    return [Case(build_engine(graph, f"net{n}"), random_samples(graph, 6, n)) for n, graph in enumerate([*layers(), *extremes(), *large()])]


def large() -> list[ir.Graph]:
    """Sums at the ends of what shares a word: inputs of one sign, weights too; and beyond."""
    made = []
    for n, (w, i, depth) in enumerate([(4, 8, 511), (4, 8, 520), (2, 8, 700), (4, 4, 600), (8, 4, 1100), (8, 4, 4600), (2, 2, 700)]):
        graph = layer(n, (depth, 4), w, i, 8)
        op = graph.ops[0]
        graph.ops[0] = dataclasses.replace(op, weights=np.full(op.weights.shape, -127 if w == 8 else -(1 << w - 1), np.int8))
        made.append(graph)
    return made


def test_layers(tmp_path, tally) -> None:
    """Every width, every form, sums at their bounds; under the sanitizers where there are some."""
    some = cases()
    names = {call.function.removeprefix("tk_dense_") for case in some for call in case.engine.calls}
    assert not any("matmul" in name for name in names)
    assert {part for name in names for part in name.split("_")} >= {"8", "16", "apart", "ones", "i8w2oddo4", "i4w8o2", "clamped", "any"}
    found = run_on_host(some, tmp_path, sanitize=True, optimize="-O1")
    tally("dense layers with packed operands vs reference, host ASan + UBSan", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_gcc
@pytest.mark.parametrize("name, toolchain", [("nano33ble", "gcc"), ("nano33ble", "zig"), ("disco_f746ng", "gcc")])
def test_layers_on_a_board(name, toolchain, tmp_path, tally) -> None:
    found = run_on_board(cases(), board(name), tmp_path, toolchain=toolchain)
    tally(f"dense layers with packed operands vs reference, emulated {name}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@pytest.mark.parametrize("depth, apart", [(511, False), (520, True)])
def test_four_channels_share_a_word_while_their_sums_fit(depth, apart) -> None:
    """4096 times 128 times 8 a weight: 2^31 is reached by 512."""
    graph = next(g for g in large() if g.tensors[g.inputs[0]].size == depth)
    assert ("apart" in build_engine(graph, "net").calls[0].function) == apart


@pytest.mark.parametrize("w, i, most", [(4, 8, 0.6), (2, 8, 0.35), (4, 4, 0.6)])
def test_weights_stay_packed_in_flash(w, i, most) -> None:
    wide, packed = (build_engine(layer(1, (64, 12), bits, i, 8), "net") for bits in (8, w))
    assert packed.weight_bytes <= most * wide.weight_bytes


FAULTS = [
    ((4, 8, 8), ">> 12", ">> 11"), ((2, 8, 8), "const uint32_t word = (uint32_t)w[pair / 4", "const uint32_t word = (uint32_t)w[pair / 2"),
    ((4, 8, 8), "total = sums[3];", "total = sums[2];"),
]  # fmt: skip


@pytest.mark.parametrize("widths, old, new", FAULTS)
def test_faults_are_found(widths, old, new) -> None:
    graph = layer(3, (43, 6), *widths)
    engine, inputs = spread_engine(graph), random_inputs(graph)
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, old, new), inputs).mismatches > 0
