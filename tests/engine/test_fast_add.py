"""The fast ADD and SUB against the reference executor: every pair of operands, on this computer and on an emulated board."""

import dataclasses
import shutil

import numpy as np
import pytest
from bundles import Case, run_on_board
from engine_host import compare, compare_all, needs_cc, random_inputs, spread_engine, tampered
from nets import Net

from tinykit.boards.table import board
from tinykit.engine import plane
from tinykit.engine.generate import build_engine
from tinykit.graph import ir

pytestmark = needs_cc
needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
RATIOS = [1.0, 0.5, 64.0, 1e-3, 0.37, 1.7, 1 / 4096, 3.0]
ALL = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")).reshape(2, -1)


def pair(seed: int, size: int, kind: str, act: str = "none") -> ir.Graph:
    """Zero points at both ends, scales that are equal or far apart, outputs that saturate."""
    net = Net(seed)
    a = net.input((size,), scale=0.05, zero_point=[-128, 127, 0][seed % 3])
    b = net.input((size,), scale=0.05 * RATIOS[seed % 8], zero_point=[127, -128, 5][seed // 2 % 3])
    net.binary(kind, a, b, act, spread=[0.1, 1.0, 4.0][seed % 3])
    return net.done()


@pytest.mark.parametrize("kind", ["add", "sub"])
def test_every_pair(kind, tally) -> None:
    """All 65536 pairs, of scales and zero points of every kind."""
    covered = 0
    for seed in range(16):
        graph = pair(seed, 65536, kind, ["none", "relu6"][seed // 8])
        covered += plane.fit(graph, graph.ops[0]) is not None
        total = compare(spread_engine(graph), {t: values[None] for t, values in zip(graph.inputs, ALL)})
        tally("fast ADD and SUB vs reference, host", total.mismatches, total.elements)
        assert total.mismatches == 0, total.first
    assert covered >= 12


def test_sizes_in_both_directions(tally) -> None:
    covered = 0
    for size in range(1, 10):
        graph = pair(size, size, ["add", "sub"][size % 2], ["none", "relu"][size // 2 % 2])
        covered += any("asr" in call.function for call in build_engine(graph, "net").calls)
        total = compare_all(graph, random_inputs(graph, 5))
        tally("fast ADD and SUB vs reference, host", total.mismatches, total.elements)
    assert covered >= 6


@needs_gcc
@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
def test_on_a_board(toolchain, tmp_path, tally) -> None:
    graphs = [pair(n, n, ["add", "sub"][n % 2], ["none", "relu6"][n // 2 % 2]) for n in range(1, 10)]
    cases = [Case(build_engine(g, f"net{i}"), random_inputs(g, 4)) for i, g in enumerate(graphs)]
    cases += [Case(spread_engine(g, True, f"back{i}"), random_inputs(g, 4)) for i, g in enumerate(graphs)]
    found = run_on_board(cases, board("nano33ble"), tmp_path, toolchain=toolchain)
    tally("fast ADD and SUB vs reference, emulated nano33ble", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def test_what_no_plane_has_is_left_to_the_general_kernel(tally) -> None:
    """One tensor twice, operands of two shapes, multipliers that are far too large."""
    net = Net(3)
    a, b = net.input((3, 4)), net.input((4,))
    graph = net.done(net.binary("add", a, a), net.binary("sub", a, b))
    op = graph.ops[0]
    graph.ops[0] = dataclasses.replace(op, multipliers=(1500000000, 1 << 30, 1100000001), shifts=(0, 1, -3))
    assert not any("asr" in call.function for call in build_engine(graph, "net").calls)
    total = compare_all(graph, random_inputs(graph, 4))
    tally("fast ADD and SUB vs reference, host", total.mismatches, total.elements)


def test_faults_are_found() -> None:
    """A slope that is off by a thousandth of an output a unit."""
    net = Net(1)
    a, b = net.input((65536,), scale=0.05, zero_point=3), net.input((65536,), scale=0.03, zero_point=-5)
    net.zero_point = lambda: 0
    net.binary("add", a, b)
    graph = net.done()
    found = plane.fit(graph, graph.ops[0])
    assert found is not None
    engine, inputs = spread_engine(graph), {t: values[None] for t, values in zip(graph.inputs, ALL)}
    slope = f"a_slope = {found.slopes[0]}"
    assert compare(tampered(engine, slope, f"a_slope = {found.slopes[0] + (1 << found.shift - 10)}"), inputs).mismatches > 0
