"""Packed tensors beyond the kernels' values: the bytes themselves, a network's edges, sizes in flash and RAM, refusals."""

import ctypes
import dataclasses

import numpy as np
import pytest
from engine_host import compile_engine, needs_cc, spread_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow_nets import NarrowNet
from narrow_samples import chain, layers

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import build_firmware
from tinykit.boards.image import Image
from tinykit.boards.pipeline import compile_graph, firmware_sources
from tinykit.boards.serial_harness import BoardStream, Device
from tinykit.boards.table import board
from tinykit.engine.estimate import STACK_BYTES, ram_estimate
from tinykit.engine.generate import build_engine
from tinykit.engine.goal import SIZE
from tinykit.engine.kernels.narrow import WeightFormat, blocks
from tinykit.engine.lower import plan_problem
from tinykit.engine.memory import outputs_of, pack, pack_codes, random_samples, unpack
from tinykit.engine.select import Preference
from tinykit.errors import ModelError
from tinykit.graph import costs, ir, reference
from tinykit.graph.simplify import simplify

PORTABLE = Preference(dataclasses.replace(SIZE, flash_per_ram=None))
"""Weights in flash as they are, nothing in the scratch."""


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([2, 4]), st.lists(st.integers(0, 15), min_size=1, max_size=40), st.integers(-128, 112), st.integers(0, 255))
def test_element_i_is_at_bit_i_times_bits(bits: int, values: list[int], low: int, junk: int) -> None:
    """Bytes are little endian, codes start at 0; what lies behind the last element is written as 0 and ignored when read."""
    codes = np.array(values) % (1 << bits)
    tensor = ir.Tensor("t", (len(values),), bits=bits, qmin=low)
    data = pack([tensor], {"t": codes[None] + low}, 0)
    whole = int.from_bytes(data, "little")
    assert len(data) == tensor.nbytes == -(-len(values) * bits // 8)
    assert [whole >> i * bits & (1 << bits) - 1 for i in range(len(values))] == list(codes)
    assert whole >> len(values) * bits == 0
    free = len(data) * 8 - len(values) * bits
    dirty = data[:-1] + bytes([data[-1] | (junk << 8 - free & 255 if free else 0)])
    assert np.array_equal(unpack(tensor, dirty), codes + low) and unpack(tensor, data).dtype == np.int8


def test_values_out_of_range_are_not_packed() -> None:
    tensor = ir.Tensor("t", (3,), bits=4)
    for value in (-9, 8):
        with pytest.raises(ModelError, match="do not fit -8..7"):
            pack([tensor], {"t": np.array([[0, value, 0]])}, 0)


@pytest.mark.parametrize("out, depth", [(4, 3), (5, 3), (7, 5), (3, 4), (8, 1)])
@pytest.mark.parametrize("form", [WeightFormat(4), WeightFormat(2), WeightFormat(2, odd=True)], ids=lambda f: f.tag)
def test_weights_as_they_lie_in_flash(form, out, depth) -> None:
    """A step of four channels is consecutive, lowest bits first; each channel that is left begins at a byte."""
    rng = np.random.default_rng(out * depth)
    weights = rng.integers(-(1 << form.bits - 1), 1 << form.bits - 1, (out, depth))
    weights = weights * 2 + 1 if form.odd else weights
    data, each, at = blocks(weights.astype(np.int8), form).astype(np.uint8), 8 // form.bits, 0

    def field(place: int) -> int:
        code = int(data[place // each]) >> place % each * form.bits & (1 << form.bits) - 1
        code -= (code >> form.bits - 1) << form.bits
        return 2 * code + 1 if form.odd else code

    for block in range(out // 4):
        for k in range(depth):
            for c in range(4):
                assert field(at) == weights[block * 4 + c, k]
                at += 1
    for c in range(out // 4 * 4, out):
        assert [field(at + k) for k in range(depth)] == list(weights[c])
        at += -(-depth // each) * each
    assert len(data) == at // each


# ---------------------------------------------------------------- edges of a network


def edges() -> ir.Graph:
    """A packed input of 35 elements, outputs of 11 and 7."""
    net = NarrowNet(5, 4)
    x = net.input((5, 7))
    net.bits = 2
    y = net.dense(x, 11, bits=2)
    net.bits = 4
    return net.done(y, net.dense(x, 7, bits=4), x)


@needs_cc
def test_load_store_and_check() -> None:
    """What is stored has zeros behind the last element; a check looks at the elements alone, and at each of them."""
    graph = edges()
    engine = spread_engine(graph)
    library, inputs = compile_engine(engine), random_samples(graph, 5)
    x = graph.inputs[0]
    truth = reference.run_all(graph, dict(inputs))
    for i in range(5):
        arena, given, output = np.full(engine.plan.arena_bytes, 0xFF, np.uint8), pack([graph.tensors[x]], inputs, i), np.zeros(25, np.uint8)
        library.net_run(arena.ctypes.data_as(ctypes.c_void_p), given, output.ctypes.data_as(ctypes.c_void_p))
        expected = pack(outputs_of(graph), truth | inputs, i)
        assert output.tobytes() == expected and len(expected) == 3 + 4 + 18

        def wrong(bytes_: bytes) -> int:
            return library.net_check(arena.ctypes.data_as(ctypes.c_void_p), bytes_)

        assert wrong(expected) == 0
        for bit in range(8 * 25):
            changed = bytearray(expected)
            changed[bit // 8] ^= 1 << bit % 8
            behind = 22 <= bit < 24 or 24 + 28 <= bit < 56 or 56 + 140 <= bit
            assert wrong(bytes(changed)) == (not behind), bit


def test_the_header_says_what_is_packed() -> None:
    header = build_engine(edges(), "net").files["net.h"]
    assert "uint8_t *net_input(void *arena);" in header and "const uint8_t *net_output(const void *arena);" in header
    assert "#define NET_INPUT_BITS 4 /* packed */" in header and "element i is the BITS bits from bit i * BITS on" in header
    assert "#define NET_OUTPUT_SIZE 11 /* elements, 11 */" in header and "#define NET_OUTPUT_BYTES 25 /* of all outputs */" in header
    assert "BITS" not in build_engine(layers(8, 4, 8), "net").files["net.h"]


def test_the_whole_pipeline_and_the_monitor(tmp_path, tally) -> None:
    """A packed network as users build it; its monitor prints real values of packed scores."""
    graph, entry = edges(), board("nano33ble")
    compiled = compile_graph(graph, entry, tmp_path / "bench", samples=4)
    found = compiled.verification
    tally("engine vs reference, packed tensors, pipeline", found.mismatches, found.elements)
    assert found.mismatches == 0 and found.unprofiled is None
    elf = build_firmware(firmware_sources(compiled.engine, compiled.vector), entry, tmp_path / "monitor", kind="monitor").elf
    device = Device(BoardStream(EmulatedBoard(entry, Image.load(elf))), timeout=2)
    device.wait_ready()
    inputs, result = random_samples(graph, 3, 4), graph.tensors[graph.outputs[0]]
    truth = reference.run_all(graph, dict(inputs)) | inputs
    for i in range(3):
        device.load(pack([graph.tensors[graph.inputs[0]]], inputs, i))
        scores = device.infer(1).results
        assert device.output() == pack(outputs_of(graph), truth, i)
        wanted = (truth[result.name][i] - result.zero_point) * result.scale
        assert len(scores) == 11 and np.abs(np.array(scores) - wanted).max() <= 0.0006 + result.scale * 1e-5


# ---------------------------------------------------------------- sizes


def test_flash_and_ram_are_counted_packed() -> None:
    sizes = {}
    for bits in (8, 4, 2):
        graph = chain(bits, bits, bits)
        engine = build_engine(graph, preference=PORTABLE)
        sizes[bits] = engine.weight_bytes
        packed = sum(costs.op_weight_bytes(op).weights for op in graph.ops)
        weighted = [op for op in graph.ops if isinstance(op, ir.Weighted)]
        begun = sum(3 + len(op.bias) * isinstance(op, ir.DepthwiseConv2D) for op in weighted)
        assert packed <= engine.weight_bytes <= packed + begun  # left-over channels and depthwise ones begin at a byte
        assert ram_estimate(graph) == build_engine(graph).plan.arena_bytes + STACK_BYTES
        assert engine.plan.arena_bytes >= max(t.nbytes for t in graph.activations())
        assert sum(call.flash for call in engine.calls) >= engine.weight_bytes
    assert sizes[4] <= sizes[8] / 2 + 16 and sizes[2] <= sizes[8] / 4 + 24


def test_the_ledger_counts_packed_bytes() -> None:
    """The rows that reports show, for an operation with weights and for a table."""
    net = NarrowNet(1, 4)
    net.table("any", net.dense(net.input((9,)), 5, bits=2))
    dense, table = costs.layer_rows(net.done())
    assert (dense.weight_bytes, dense.live_bytes, dense.activation_bits) == (12, 5 + 3, 4)
    assert table.quant_bytes == 16 and table.live_bytes == 3 + 3


def test_equal_networks_of_fewer_bits_need_less_memory_at_every_step() -> None:
    arenas = [build_engine(chain(bits, 8, bits), preference=PORTABLE).plan.arena_bytes for bits in (8, 4, 2)]
    assert arenas[0] > 1.8 * arenas[1] and arenas[1] > 1.6 * arenas[2]


# ---------------------------------------------------------------- refusals


def refusal(net: NarrowNet) -> str:
    with pytest.raises(ModelError) as caught:
        plan_problem(net.done())
    return str(caught.value)


def narrow_output(make) -> NarrowNet:
    """A network whose last op writes 4 bits from -8 although `make` meant 8."""
    net = NarrowNet(1)
    make(net, net.input((3, 4, 2)))
    op = net.graph.ops[-1]
    net.graph.tensors[op.output] = dataclasses.replace(net[op.output], bits=4, qmin=None, zero_point=0)
    return net


REFUSED = {
    "a clamp": lambda n, x: n.conv(x),
    "a sum": lambda n, x: n.binary("add", x, x),
    "a product": lambda n, x: n.binary("mul", x, x),
    "a pool": lambda n, x: n.pool("max", x),
    "a copy": lambda n, x: n.transpose(x, (2, 0, 1)),
    "a concatenation": lambda n, x: n.concat([x, x], 0),
    "padding": lambda n, x: n.pad(x, ((1, 0), (0, 0), (0, 0))),
    "an extremum": lambda n, x: n.extremum("minimum", x, x),
    "a table": lambda n, x: n.table("tanh", x),
    "softmax": lambda n, x: n.softmax(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_results_that_do_not_fit_are_refused(name) -> None:
    assert "do not fit the 4 bits of" in refusal(narrow_output(REFUSED[name]))


def test_other_refusals() -> None:
    net = narrow_output(lambda n, x: n.put(ir.Reshape, [x], n.tensor((24,))))
    assert "which are not the same bytes" in refusal(net)
    net = NarrowNet(1, 4)
    x = net.input((3, 4, 2))
    net.graph.tensors[x] = dataclasses.replace(net[x], qmin=-8, zero_point=100)
    net.conv(x)
    assert "pads with zero point 100" in refusal(net)


@pytest.mark.parametrize("values", [[-3, -2], [-3, 0], [2, 0], [3, 1, -2], [-4, -1]])
def test_weights_that_are_in_neither_book(values) -> None:
    net = NarrowNet(1)
    net.dense(net.input((len(values),)), 1, bits=2)
    net.graph.ops[0].weights[0] = values
    with pytest.raises(ModelError, match="too wide for 2 bits; 2 bits hold -2..1, or -3, -1, 1 and 3"):
        net.done()


@pytest.mark.parametrize("values", [[-2, 1, 0], [-3, 3, 1, -1], [-1, 1], [-1, 0, 1]])
def test_weights_that_are_in_a_book(values) -> None:
    net = NarrowNet(1)
    net.dense(net.input((len(values),)), 1, bits=2)
    net.graph.ops[0].weights[0] = values
    assert pack_codes(np.array([1, 2, 3]), 2) == b"\x39"
    assert build_engine(net.done(), preference=PORTABLE).weight_bytes == -(-len(values) // 4)


def test_the_simplifier_leaves_weights_that_have_no_zero() -> None:
    """Rows that can only give one integer lose their weights, but not where the others then fit no book of 2 bits."""
    for act_max, cleared in ((0, 4), (-128, 0)):
        net = NarrowNet(1)
        net.odd(net.dense(net.input((6,)), 4, bits=2))
        op = net.graph.ops[0]
        op.act_max = op.act_min = -128
        if cleared:  # every row: what is left is two's complement
            op.act_max = op.act_min = act_max
        else:
            op.act_max, op.multiplier = 127, np.array([0, *op.multiplier[1:]], np.int32)
        graph = net.done()
        simple = simplify(graph).graph
        left = next((o for o in simple.ops if isinstance(o, ir.Weighted)), None)
        assert left is None or int((left.weights == 0).all(axis=1).sum()) == cleared
        inputs = random_samples(graph, 8)
        assert np.array_equal(*(reference.run_all(g, dict(inputs))[g.outputs[0]] for g in (graph, simple)))
        build_engine(simple)
