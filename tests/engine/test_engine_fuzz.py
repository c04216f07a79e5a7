"""Random networks through the whole engine: on this computer, under sanitizers, on emulated boards and under QEMU, every tensor."""

import dataclasses
import importlib.util
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bundles import Comparison, bundle_sources, make_case, parts, run_on_board, run_on_host, run_on_monitor
from nets import Net
from random_networks import random_network

from tinykit.boards.firmware import build_firmware
from tinykit.boards.host import HostEngine
from tinykit.boards.qemu import machine, qemu_device
from tinykit.boards.table import board
from tinykit.boards.toolchain import BuildError, build_host_program, choose_host
from tinykit.engine.generate import build_engine
from tinykit.errors import ConfigError, ModelError
from tinykit.graph import ir, reference
from tinykit.graph.plan.replay import replay_graph
from tinykit.graph.simplify import simplify

NETWORKS, SAMPLES, FIRST = 20, 4, 1000
GCC = pytest.param("gcc", marks=pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed"))
ZIG = pytest.param("zig", marks=pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed"))
qemu = pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")


@pytest.fixture(scope="module")
def cases():
    return [make_case(random_network(seed), f"n{seed}", SAMPLES, seed) for seed in range(FIRST, FIRST + NETWORKS)]


@cache
def sanitizers() -> bool:
    """Whether the host's compiler can link them, and what comes out runs."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.c")
        empty.write_text("int main(void) { return 0; }\n")
        try:
            subprocess.run([str(build_host_program([empty], Path(folder, "empty")))], check=True, capture_output=True)
        except (BuildError, ConfigError, subprocess.CalledProcessError):
            return False
    return True


def check(found: Comparison, what: str, tally) -> None:
    tally(what, found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def test_the_networks_have_every_op_and_every_rounding(cases):
    ops = [op for case in cases for op in case.graph.ops]
    assert {op.kind for op in ops} == set(ir.OPS)
    weighted = [op for op in ops if isinstance(op, ir.Weighted)]
    assert any((op.multiplier == 0).any() for op in weighted) and any((op.shift >= 0).any() for op in weighted)
    assert any(op.rounding == ir.Rounding.SINGLE for op in weighted) and any(abs(op.bias).max() >= 1 << 28 for op in weighted)
    assert {len(case.graph.inputs) for case in cases} >= {1, 2} and max(len(case.graph.outputs) for case in cases) > 2
    assert any(case.graph.readers(t) for case in cases for t in case.graph.outputs)


def test_plans_hold_what_the_graph_alone_says(cases):
    for case in cases:
        assert replay_graph(case.graph, case.engine.problem, case.engine.plan) == [], case.name


def test_host_library(cases, tally):
    """The way a user of Python runs an engine."""
    for case in cases[::2]:
        wrong = elements = 0
        truth = case.truth
        with HostEngine(case.engine) as engine:

            def look(sample, name, got):
                nonlocal wrong, elements
                wrong, elements = wrong + int((got != truth[name][sample]).sum()), elements + got.size

            outputs = engine.run(case.samples, look)
        for name, got in zip(case.graph.outputs, outputs):
            wrong, elements = wrong + int((got != truth[name]).sum()), elements + got.size
        tally("engine vs reference, random networks, host library", wrong, elements)
        assert wrong == 0, case.name


def test_sanitizers(cases, tally, tmp_path):
    """An access outside the arena or a table, or an undefined operation, ends the program."""
    if not sanitizers():
        pytest.skip("no host compiler that can link ASan and UBSan")
    check(run_on_host(cases, tmp_path, sanitize=True, optimize="-O1"), "engine vs reference, random networks, host ASan + UBSan", tally)


def test_compilers_and_levels_give_the_same_bytes(cases, tally, tmp_path):
    """Every optimisation level of the first compiler, and every other compiler there is."""
    few = cases[:8]
    digests = {}
    for name in ("cc", "clang", "zig"):
        try:
            compiler = choose_host(name)
        except ConfigError:
            continue
        for level in ("-O0", "-Os", "-O2", "-O3") if name == "cc" else ("-O2",):
            found = run_on_host(few, tmp_path / f"{name}{level}", optimize=level, compiler=compiler)
            check(found, "engine vs reference, random networks, host", tally)
            digests[f"{name} {level}"] = found.digest.hexdigest()
    if not digests:
        pytest.skip("no C compiler for this computer")
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize(
    "toolchain, level", [pytest.param(*ZIG.values, "-Os", marks=ZIG.marks), pytest.param(*GCC.values, "-O3", marks=GCC.marks)]
)
@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng"])
def test_emulated(cases, name, toolchain, level, tally, tmp_path):
    for part in parts(cases, 10):
        found = run_on_board(part, board(name), tmp_path, toolchain=toolchain, optimize=level)
        check(found, f"engine vs reference, random networks, emulated {name}, {toolchain}", tally)


def test_the_same_sources_give_the_same_bytes_on_every_board(cases, tally, tmp_path):
    """Every tensor on four boards of three makes; the sources do not know which."""
    few, digests = cases[:3], {}
    for name in ("nano33ble", "disco_f746ng", "nucleo_f446re", "nucleo_l4r5zi"):
        found = run_on_board(few, board(name), tmp_path / name)
        check(found, f"engine vs reference, random networks, emulated {name}", tally)
        digests[name] = found.digest.hexdigest()
    models = [{p.name: p.read_bytes() for p in (tmp_path / name / "firmware" / "model").iterdir()} for name in digests]
    assert all(model == models[0] for model in models)
    assert len(set(digests.values())) == 1, digests


@qemu
@pytest.mark.parametrize("name", ["mps2-an386", "mps2-an500"])
@pytest.mark.parametrize("toolchain", [GCC, ZIG])
def test_qemu(cases, name, toolchain, tally, tmp_path):
    """The monitor image on another emulator's cores, which refuse what Unicorn's let pass."""
    few = cases[:4]
    elf = build_firmware(bundle_sources(few), machine(name), tmp_path, kind="monitor", toolchain=toolchain).elf
    with qemu_device(name, elf) as device:
        assert device.self_test() == 0
        check(run_on_monitor(few, device), f"engine vs reference, random networks, QEMU {name}", tally)


# ---------------------------------------------------------------- what has gone wrong once


def test_a_result_that_nobody_reads_keeps_its_call(tally, tmp_path):
    """A compiler may see that a store is overwritten and leave out the call; then the calls behind it would be taken for other layers."""
    net = Net(3)
    x = net.input((3,))
    y = net.softmax(net.dense(x, 1, shape=(1, 1, 1)))
    z = net.pad(net.dense(x, 1, shape=(1, 1, 1)), [(0, 0), (1, 1), (1, 1)])
    graph = net.done(z)
    assert y not in graph.outputs
    case = make_case(graph, "dead", SAMPLES, 0)
    for level in ("-O2", "-O3"):
        check(run_on_board([case], board("nano33ble"), tmp_path, optimize=level), "engine vs reference, single cases", tally)


def test_one_call_right_behind_another(tally, tmp_path):
    """Where GCC knows that a callee leaves registers alone, the next call follows at once: its address is where the first returns to."""
    case = make_case(random_network(67), "n67", SAMPLES, 67)
    check(run_on_board([case], board("nano33ble"), tmp_path), "engine vs reference, single cases", tally)


def test_scalars(tally, tmp_path):
    """Tensors without axes: padded by nothing, a softmax of one element."""
    net = Net(5)
    scalar = net.mean(net.input((7,)), (0,))
    outputs = [net.pad(scalar, []), net.softmax(scalar), net.transpose(scalar, []), net.table("tanh", scalar)]
    case = make_case(net.done(*outputs), "scalars", SAMPLES, 0)
    assert replay_graph(case.graph, case.engine.problem, case.engine.plan) == []
    check(run_on_host([case], tmp_path), "engine vs reference, single cases", tally)


@pytest.mark.parametrize("zero_point", [-128, 127])
@pytest.mark.parametrize("rounding", list(ir.Rounding))
def test_sums_at_the_ends_of_32_bits(zero_point, rounding, tally, tmp_path):
    """A bias may fill 32 bits, and a ratio of scales be just below one: what comes out and the zero point do not fit one integer."""
    net = Net(1)
    x = net.input((2,), zero_point=0)
    names = []
    for shift, bias in ((0, 1 << 31), (1, 1 << 30), (-31, 1 << 31)):
        y = net.dense(x, 4)
        op = net.graph.ops[-1]
        net.graph.tensors[y] = dataclasses.replace(net[y], zero_point=zero_point)
        op.weights[:], op.rounding = 0, rounding
        op.bias = np.array([bias - 1, -bias, 1, -1], np.int64).astype(np.int32)
        op.multiplier, op.shift = np.full(4, (1 << 31) - 1, np.int32), np.full(4, shift)
        names.append(y)
    case = make_case(net.done(*names), "ends", 2, 0)
    for sanitize in (False, True) if sanitizers() else (False,):
        check(run_on_host([case], tmp_path, sanitize=sanitize), "engine vs reference, single cases", tally)


@pytest.mark.parametrize("seed", [3474, 3826, 317, 2360])
def test_simplified(seed, tally, tmp_path):
    """Constants that alone are left of an operand, and of an output; scalars that are moved."""
    graph = random_network(seed)
    case = make_case(simplify(graph).graph, f"n{seed}", SAMPLES, seed)
    original = reference.run_all(graph, dict(case.samples))
    assert all((original[name] == case.truth[name]).all() for name in graph.outputs)
    assert replay_graph(case.graph, case.engine.problem, case.engine.plan) == []
    check(run_on_host([case], tmp_path), "engine vs reference, single cases", tally)


def test_every_op_that_the_engine_refuses_is_named_at_once():
    net = Net(1)
    a = net.input((5, 5, 3))
    wide = net.conv(a, 4, y=net.tensor((5, 5, 4), bits=16))
    pooled = net.pool("max", wide)
    graph = net.done(net.softmax(net.mean(pooled, (0, 1))))

    class Strange(ir.Op):
        kind = "strange"

    graph.tensors["odd"] = ir.Tensor("odd", (4,))
    graph.ops.append(Strange("op_odd", (graph.outputs[0],), "odd"))
    with pytest.raises(ModelError) as caught:
        build_engine(graph)
    assert [line.split(":")[1].strip() for line in caught.value.problems] == ["op 'op0'", "op 'op1'", "op 'op_odd'"]
    assert "no kernel for strange" in str(caught.value) and "holds integers -32768..32767" in str(caught.value)
