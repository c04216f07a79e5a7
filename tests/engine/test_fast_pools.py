"""Pools and means on an emulated board, where four channels are taken as a word; this computer's C is tested in `test_kernels_other`."""

import shutil

import numpy as np
import pytest
from bundles import Case, run_on_board
from engine_host import random_inputs
from nets import Net

from tinykit.boards.table import board
from tinykit.engine.generate import build_engine
from tinykit.graph import ir

needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
WINDOWS = [((3, 3), (1, 1), "same"), ((2, 3), (2, 1), "valid"), ((5, 4), (1, 2), (1, 0, 2, 1)), ((1, 1), (1, 1), "valid")]


def nets() -> list[Net]:
    """1 to 9 channels, windows and means of as many elements as a pair of sums holds and of one more, all of them -128 or 127 too."""
    made = []
    for channels in range(1, 10):
        net = Net(channels)
        x = net.input((7, 6, channels))
        outputs = [net.pool(kind, x, *w, act) for w in WINDOWS for kind in ("average", "max") for act in ("none", "relu6")]
        net.done(*outputs, net.mean(x, (0, 1)), net.mean(x, (1,)), net.mean(x, (0, 2)))
        made.append(net)
    for size in ((17, 15), (16, 16)):
        net = Net(size[0])
        x = net.input((*size, 6), scale=0.1, zero_point=size[0])
        net.done(
            net.pool("average", x, size, size), net.pool("max", x, size, size), net.mean(x, (0, 1)), net.mean(x, (0, 1), same_scale=True)
        )
        made.append(net)
    return made


def inputs_of(graph: ir.Graph) -> dict[str, np.ndarray]:
    inputs = random_inputs(graph, 4)
    for values in inputs.values():
        values[1] = np.where(values[1] > 0, 127, -128)
    return inputs


@needs_gcc
@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
def test_on_a_board(toolchain, tmp_path, tally) -> None:
    cases = [Case(build_engine(net.graph, f"net{i}"), inputs_of(net.graph)) for i, net in enumerate(nets())]
    names = {call.function for case in cases for call in case.engine.calls}
    assert {"tk_average_pool", "tk_average_pool_wide", "tk_max_pool", "tk_mean", "tk_mean_wide"} <= names
    found = run_on_board(cases, board("nano33ble"), tmp_path, toolchain=toolchain)
    tally("pools and means vs reference, emulated nano33ble", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_gcc
def test_faults_are_found(tmp_path) -> None:
    net = Net(3)
    x = net.input((4, 4, 8), scale=0.1)
    graph = net.done(net.pool("average", x, (4, 4), (4, 4)))
    engine = build_engine(graph, "net")
    text = engine.files["net.c"]
    assert text.count("even = tk_sxtab16(even, word);") == 1
    engine.files["net.c"] = text.replace("even = tk_sxtab16(even, word);", "even = tk_sxtab16(even, word >> 8);")  # type: ignore[index]
    assert run_on_board([Case(engine, random_inputs(graph, 3))], board("nano33ble"), tmp_path).mismatches > 0
