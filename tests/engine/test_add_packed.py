"""ADD and SUB with packed operands against the reference executor: every pair of codes; sizes and directions on emulated boards too."""

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
from tinykit.graph import ir
from tinykit.graph.plan.replay import replay_graph

pytestmark = needs_cc
needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
COMBINATIONS = [key for key in itertools.product(WIDTHS, repeat=3) if key != (8, 8, 8)]
"""Bits of the operands and of the result."""


def pair(seed: int, size: int, widths: tuple[int, int, int]) -> ir.Graph:
    """ADD or SUB of two inputs, with and without a ReLU."""
    net = NarrowNet(seed, widths[0])
    a = net.input((size,), scale=0.05)
    net.bits = widths[1]
    b = net.input((size,), scale=0.05 * [1.0, 0.5, 3.0, 1.7][seed % 4])
    net.bits = widths[2]
    net.binary(["add", "sub"][seed % 2], a, b, ["none", "relu"][seed // 2 % 2], spread=[0.2, 1.0][seed // 4 % 2])
    return net.done()


def covered(graph: ir.Graph) -> bool:
    return "_asr" in build_engine(graph, "net").calls[0].function


def test_every_pair_of_codes(tmp_path, tally) -> None:
    cases = []
    for seed, widths in enumerate(COMBINATIONS):
        codes = [np.arange(1 << bits) for bits in widths[:2]]
        grid = np.stack(np.meshgrid(*codes, indexing="ij")).reshape(2, -1)
        graph = pair(seed, grid.shape[1], widths)
        given = {t: (values + graph.tensors[t].low)[None] for t, values in zip(graph.inputs, grid)}
        cases.append(Case(spread_engine(graph, bool(seed % 2), f"net{seed}"), given))
    assert sum("_asr" in case.engine.calls[0].function for case in cases) >= 0.8 * len(cases)
    found = run_on_host(cases, tmp_path, sanitize=True, optimize="-O1")
    tally("ADD and SUB with packed operands vs reference, host ASan + UBSan", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def sized() -> list[Case]:
    """1 to 20 elements, forward, in reverse and as planned, where results lie on operands."""
    cases = []
    for seed, widths in enumerate(COMBINATIONS):
        graph = pair(seed, 1 + seed % 20, widths)
        inputs = random_inputs(graph, 4)
        engines = [spread_engine(graph, bool(seed % 2), f"s{seed}"), build_engine(graph, f"p{seed}")]
        assert replay_graph(graph, engines[1].problem, engines[1].plan) == []
        cases += [Case(engine, inputs) for engine in engines]
    return cases


@needs_gcc
@pytest.mark.parametrize("name, toolchain", [("nano33ble", "gcc"), ("nano33ble", "zig"), ("disco_f746ng", "gcc")])
def test_sizes_on_a_board(name, toolchain, tmp_path, tally) -> None:
    found = run_on_board(sized(), board(name), tmp_path, toolchain=toolchain)
    tally(f"ADD and SUB with packed operands vs reference, emulated {name}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def test_sizes(tmp_path, tally) -> None:
    found = run_on_host(sized(), tmp_path, sanitize=True, optimize="-O1")
    tally("ADD and SUB with packed operands vs reference, host ASan + UBSan", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def test_faults_are_found() -> None:
    graph = next(g for g in (pair(seed, 40, (4, 4, 4)) for seed in (0, 4, 8)) if covered(g))
    engine, inputs = spread_engine(graph), random_inputs(graph)
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, "a1 = (int32_t)(a_word >> 4 & 15);", "a1 = (int32_t)(a_word >> 8 & 15);"), inputs).mismatches > 0
