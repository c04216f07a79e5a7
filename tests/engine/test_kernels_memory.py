"""The kernels without weights, beyond their values: memory that they share, functions that layers share, sanitizers, refusals."""

import shutil
import subprocess

import pytest
from engine_host import compare, needs_cc, random_inputs, run_sanitized, sanitizers, spread_engine, tampered, write_files
from nets import Net

from tinykit.boards.firmware import template_folder
from tinykit.engine.generate import build_engine
from tinykit.engine.lower import plan_problem
from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.replay import replay

pytestmark = needs_cc

IN_PLACE = {
    "add": (lambda n: n.binary("add", n.input((4, 5, 8)), n.input((4, 5, 8))), 320),
    "mul by channel": (lambda n: n.binary("mul", n.input((4, 5, 8)), n.input((8,))), 168),
    "table": (lambda n: n.table("tanh", n.input((4, 5, 8))), 160),
    "dequantize": (lambda n: n.dequantize(n.input((4, 5, 8))), 640),
    "quantize": (lambda n: n.quantize(n.input((4, 5, 8), dtype=ir.Dtype.FLOAT, bits=32)), 640),
    "softmax": (lambda n: n.softmax(n.input((3, 20), scale=0.1)), 60),
    "pad": (lambda n: n.pad(n.input((4, 5, 8)), ((1, 1), (1, 1), (0, 0))), 6 * 7 * 8),
    "slice": (lambda n: n.slice(n.input((4, 5, 8)), (1, 0, 0), (4, 5, 8), (1, 2, 1)), 160),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_memory_that_overlap_saves(name) -> None:
    """The arena is as small as the larger side; a kernel whose access became stricter would show here."""
    make, expected = IN_PLACE[name]
    net = Net(1)
    make(net)
    assert build_engine(net.done(), "net").plan.arena_bytes == expected


def zoo() -> Net:
    """Every op that has a kernel here."""
    net = Net(4)
    a, b = net.input((6, 7, 9), scale=0.1), net.input((6, 7, 9), scale=0.07)
    total = net.binary("sub", net.binary("add", a, b), net.constant((9,)))
    x = net.extremum("minimum", net.binary("mul", total, net.constant((1,))), net.graph.ops[-1].output)
    x = net.extremum("maximum", x, x)
    x = net.pad(net.table("tanh", x), ((1, 0), (0, 2), (0, 0)))
    x = net.pool("max", net.pool("average", x, (3, 2), (1, 2), "same"), (2, 3), (2, 1), "same")
    x = net.transpose(net.concat([x, x], 2), (2, 0, 1))
    x = net.requantize(net.slice(x, (17, 0, 1), (-1, 3, 5), (-2, 1, 3)))
    soft = net.softmax(net.quantize(net.dequantize(net.requantize(x))))
    net.done(net.mean(x, (0, 1)), net.mean(x, (0, 2)), net.argmax(soft, 1), net.dequantize(soft))
    return net


def test_zoo_is_complete() -> None:
    weighted = {"conv2d", "depthwise_conv2d", "fully_connected", "reshape"}
    assert {op.kind for op in zoo().graph.ops} == set(ir.OPS) - weighted


@pytest.mark.skipif(not sanitizers(), reason="the compiler has no sanitizers")
@pytest.mark.parametrize("plan", ["forward", "reverse", "planned"])
def test_sanitizers(plan, tmp_path, tally) -> None:
    """No undefined behaviour, no byte outside the arena or a table."""
    graph = zoo().graph
    engine = build_engine(graph, "net") if plan == "planned" else spread_engine(graph, plan == "reverse")
    result = run_sanitized(engine, random_inputs(graph, 12), tmp_path)
    tally("engine's C under sanitizers vs reference", result.mismatches, result.elements)
    assert result.mismatches == 0, result.first


CONSTANTS = {
    "argmax": lambda n, k: n.argmax(k, 1),
    "argmax, reshaped": lambda n, k: n.reshape(n.argmax(k, 1), (2, 1)),
    "table": lambda n, k: n.table("tanh", k),
    "mean": lambda n, k: n.mean(k, (1,)),
    "softmax": lambda n, k: n.softmax(k),
    "transpose": lambda n, k: n.transpose(k, (1, 0)),
    "pad": lambda n, k: n.pad(k, ((1, 0), (0, 2))),
    "slice": lambda n, k: n.slice(k, (0, 1), (2, 3), (1, 1)),
    "concat": lambda n, k: n.concat([k, k], 0),
    "dequantize": lambda n, k: n.dequantize(k),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_outputs_that_follow_from_constants(name, tally) -> None:
    net = Net(4)
    x, k = net.input((2, 3)), net.constant((2, 3), scale=0.1)
    graph = net.done(CONSTANTS[name](net, k), net.table("tanh", x))
    engine = build_engine(graph, "net")
    result = compare(engine, random_inputs(graph))
    tally("engine's C vs reference, kernels without weights", result.mismatches, result.elements)
    assert result.mismatches == 0, result.first


@pytest.mark.parametrize("name", [name for name in CONSTANTS if "reshaped" not in name])
def test_kernels_take_constants(name) -> None:
    """Where an op was not folded its kernel reads the constant in flash."""
    net = Net(4)
    x, k = net.input((2, 3)), net.constant((2, 3), scale=0.1)
    graph = net.done(CONSTANTS[name](net, k), net.table("tanh", x))
    assert compare(spread_engine(graph), random_inputs(graph)).mismatches == 0


@pytest.mark.parametrize("widths", [(4, 4, 8), (8, 4), (2, 2, 2, 2, 6)], ids=str)
def test_concatenation_reaches_its_bound(widths) -> None:
    """Only one of the inputs that are interleaved can share the output's end; the bound knows, so that no search goes on for more."""
    net = Net(2)
    x = net.input((16, 16, 2))
    y = net.concat([net.conv(x, out=width, kernel=(1, 1)) for width in widths], 2)
    problem = plan_problem(net.done(y))
    plan = make_plan(problem)
    assert plan.arena_bytes - plan.lower_bound <= 4 * len(widths)
    assert replay(problem, plan) == []


def test_one_function_for_activations_and_constants() -> None:
    """A constant operand in the first call must not become a constant of the function that later calls share."""
    net = Net(12)
    a = net.input((4, 3))
    outputs = [net.binary("mul", net.constant((4, 3), scale=net[a].scale * 2), a), net.binary("mul", a, a)]
    engine = spread_engine(net.done(*outputs))
    assert len({call.function for call in engine.calls}) == 1
    assert compare(engine, random_inputs(net.graph)).mismatches == 0


def test_families_share_functions() -> None:
    """Sums and differences of one shift are one function, whatever their scales; pools of any window too."""
    net = Net(13)
    a, b, c = (net.input((8, 8, 4), scale=s) for s in (0.1, 0.2, 0.37))
    outputs = [net.binary("add", a, b), net.binary("sub", b, c), net.binary("sub", c, b), net.binary("add", a, a)]
    outputs += [net.pool("max", a, w, s, "same") for w, s in (((2, 2), (2, 2)), ((3, 3), (1, 2)))]
    names = [call.function for call in spread_engine(net.done(*outputs)).calls]
    assert {name.split("_asr")[0] for name in names} == {"tk_add", "tk_max_pool"} and len(set(names)) <= 4


def test_comparison_finds_a_planted_fault() -> None:
    net = Net(4)
    a = net.input((6, 7, 9))
    engine = spread_engine(net.done(net.pool("average", a, (3, 3), (1, 1), "same")))
    inputs = random_inputs(net.graph)
    assert compare(engine, inputs).mismatches == 0
    wrong = compare(tampered(engine, "half = count / 2", "half = count / 3"), inputs)
    assert wrong.mismatches > 0 and "average_pool" in wrong.first
    net = Net(5)
    engine = spread_engine(net.done(net.softmax(net.input((3, 20), scale=0.1))))
    assert compare(tampered(engine, "1515870810", "1515870010"), random_inputs(net.graph, 40)).mismatches == 0  # Newton forgives
    assert compare(tampered(engine, "790015084", "798015084"), random_inputs(net.graph, 40)).mismatches > 0


@pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
def test_a_softmax_of_known_length_is_not_unrolled(tmp_path) -> None:
    """At -O3 its loops over ten classes would take 1.6 kB of flash, for a layer that runs once."""
    net = Net(5)
    write_files(build_engine(net.done(net.softmax(net.input((10,), scale=0.1))), "net"), tmp_path)
    headers = template_folder() / "runtime"  # the firmware's own: Debian's compiler comes without a C library
    arm = ["arm-none-eabi-gcc", "-std=c99", "-mcpu=cortex-m4", "-mthumb", "-O3", "-Werror", "-Wall", "-ffreestanding", f"-I{headers}"]
    subprocess.run([*arm, "-c", "net.c", "-o", "net.o"], cwd=tmp_path, check=True)
    listing = subprocess.run(["arm-none-eabi-nm", "-S", "net.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    sizes = {line.split()[-1]: int(line.split()[1], 16) for line in listing.splitlines() if len(line.split()) == 4}
    assert sizes["tk_softmax"] + sizes["tk_exp"] < 800


# ---------------------------------------------------------------- refusals


def refusal(net: Net) -> str:
    with pytest.raises(ModelError) as error:
        graph = net.done()
        plan_problem(graph)
        spread_engine(graph)
    return str(error.value)


def test_unsigned_tensors_are_refused() -> None:
    net = Net(1)
    a = net.input((4,), qmin=0, zero_point=3)
    net.binary("add", a, a)
    assert "op 'op0'" in refusal(net) and "'t0' holds integers 0..255" in refusal(net)


def test_long_softmax_is_refused() -> None:
    net = Net(1)
    net.softmax(net.input((4096,), scale=0.1))
    assert "4096" in refusal(net)


def test_networks_without_inputs_or_outputs_are_refused() -> None:
    net = Net(1)
    net.table("tanh", net.constant((4,)))
    with pytest.raises(ModelError, match="it has no input"):
        build_engine(net.done())
    net.graph.outputs = ()
    with pytest.raises(ModelError, match="it has no output"):
        build_engine(net.graph)


def test_narrow_indices_are_refused() -> None:
    net = Net(1)
    net.put(ir.ArgMax, [net.input((3, 4))], net.tensor((3,)), 1)
    assert "makes int32" in refusal(net)


def test_scales_beyond_32_bits_are_refused() -> None:
    net = Net(1)
    a = net.input((3, 4))
    net.put(ir.Mul, [a, a], net.tensor((3, 4)), 1 << 30, 25)
    assert "leaves 32 bits" in refusal(net)
