"""The writer: files read back as the same graph, minimal and aligned, and refusals."""

import dataclasses

import numpy as np
import pytest
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import flatfile, ir
from tinykit.graph.reader import read_tflite
from tinykit.graph.schema import schema
from tinykit.graph.writer import RESOLVER_METHODS, op_names, write_tflite


def rich_net(seed: int = 0) -> Net:
    """One op of every kind, in forms that the format says directly."""
    net = Net(seed)
    x = net.quantize(net.input((9, 7, 3), dtype=ir.Dtype.FLOAT, bits=32, scale=1.0, zero_point=0))
    a = net.conv(x, 5, (3, 2), (2, 1), act="relu6")
    a = net.conv(a, 5, (2, 2), dilation=(2, 1), padding="valid", per_channel=False, bits=4)
    b = net.depthwise(a, 2, act="relu")
    c = net.requantize(b)
    d = net.binary("add", b, c, "relu_n1_to_1")
    d = net.binary("sub", d, net.constant((1, 1, 10)))
    d = net.binary("mul", d, net.table("logistic", d))
    d = net.extremum("minimum", d, net.constant((1, 1, 1), scale=net[d].scale, zero_point=net[d].zero_point))
    d = net.extremum("maximum", d, net.constant((1, 1, 10), scale=net[d].scale, zero_point=net[d].zero_point))
    e = net.concat([net.pool("max", d, (2, 3), (1, 1), "same"), net.pool("average", d, (3, 3), (1, 1), "same", "none")], 2)
    e = net.pad(net.pad(e, ((1, 0), (0, 1), (0, 0))), ((0, 0), (0, 0), (2, 0)), 17)
    e = net.slice(net.transpose(e, (2, 0, 1)), (20, 0, 0), (-1, 2, 3), (-3, 1, 2))
    for function, alpha in (("tanh", 0.0), ("hard_swish", 0.0), ("leaky_relu", 0.125), ("relu", 0.0), ("relu6", 0.0)):
        e = net.table(function, e, alpha)
    f = net.mean(e, (0,), keep=True)
    f = net.dense(net.dense(net.reshape(f, (net[f].size,)), 8, per_channel=True), 6, bits=4)
    net.argmax(f, 0)
    net.dequantize(net.softmax(f, 0.5))
    net.done(net.graph.ops[-1].output, net.graph.ops[-3].output)
    return net


def assert_same(a: ir.Graph, b: ir.Graph) -> None:
    """Equal in everything but names."""
    names = dict(zip(a.inputs, b.inputs)) | {x.output: y.output for x, y in zip(a.ops, b.ops)}
    assert [op.kind for op in a.ops] == [op.kind for op in b.ops]
    for x, y in zip(a.ops, b.ops):
        for s, t in zip(x.inputs, y.inputs):
            if s in a.constants:
                assert np.array_equal(a.constants[s], b.constants[t]) and a.constants[s].shape == b.constants[t].shape
                names[s] = t
            assert names[s] == t
        for field in dataclasses.fields(x):
            if field.name in {"name", "inputs", "output"}:
                continue
            left, right = getattr(x, field.name), getattr(y, field.name)
            assert np.array_equal(left, right), (x.name, field.name, left, right)
            if isinstance(left, np.ndarray):
                assert left.dtype == right.dtype, (x.name, field.name)
    for s, t in names.items():
        assert dataclasses.replace(a.tensors[s], name=t) == b.tensors[t]
    assert tuple(names[n] for n in a.outputs) == b.outputs


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("keep_names", [False, True])
def test_reading_back_gives_the_same_graph(seed: int, keep_names: bool) -> None:
    graph = rich_net(seed).graph
    again = read_tflite(write_tflite(graph, keep_names=keep_names), graph.name)
    assert_same(graph, again)
    assert write_tflite(again, keep_names=keep_names) == write_tflite(graph, keep_names=keep_names) or keep_names


def test_rich_net_has_every_kind() -> None:
    assert {op.kind for op in rich_net().graph.ops} == set(ir.OPS)


def test_rich_net_is_exact_in_tflm() -> None:
    pytest.importorskip("tflite_micro")
    from tinykit.verify.compare import compare_tflm

    total = 0
    for seed in range(8):
        net = rich_net(seed)
        x = net.rng.normal(size=(6, 9, 7, 3)).astype(np.float32)
        result = compare_tflm(net.graph, None, x, "all")
        assert result.mismatches == 0, str(result)
        total += result.elements
    print(f"every op in one net: 0 of {total} elements differ")


def test_names_are_kept_or_dropped() -> None:
    graph = rich_net().graph
    kept = read_tflite(write_tflite(graph, keep_names=True))
    assert set(graph.tensors) <= set(kept.tensors)
    assert b"t1\0" not in write_tflite(graph)
    assert len(write_tflite(graph)) < len(write_tflite(graph, keep_names=True))


def test_buffers_are_aligned_and_shared() -> None:
    file = write_tflite(rich_net().graph)
    model = schema().Model.GetRootAs(file, 0)
    start = np.frombuffer(file, np.uint8).ctypes.data
    data = [model.Buffers(i) for i in range(model.BuffersLength())]
    offsets = [b.DataAsNumpy().ctypes.data - start for b in data if b.DataLength()]
    assert len(offsets) > 10 and all(o % 16 == 0 for o in offsets)
    contents = [b.DataAsNumpy().tobytes() for b in data if b.DataLength()]
    assert len(set(contents)) == len(contents)


def test_weights_of_four_bits_take_half_a_byte() -> None:
    net = Net(0)
    net.conv(net.input((4, 4, 32)), 32, bits=4)
    graph = net.done()
    packed, wide = write_tflite(graph), write_tflite(graph, int4=False)
    assert len(wide) - len(packed) >= 32 * 32 * 9 // 2 - 64
    assert read_tflite(packed).ops[0].weight_bits == 4 and read_tflite(wide).ops[0].weight_bits == 8
    assert np.array_equal(read_tflite(packed).ops[0].weights, read_tflite(wide).ops[0].weights)


def test_debug_outputs_are_all_results_in_order() -> None:
    graph = rich_net().graph
    flat = flatfile.parse(write_tflite(graph, keep_names=True, debug_outputs=True), "model")
    assert [flat.names[i] for i in flat.outputs] == [op.output for op in graph.ops]


def test_with_all_outputs_shows_every_operator() -> None:
    graph = rich_net().graph
    file, names = flatfile.with_all_outputs(write_tflite(graph, keep_names=True))
    assert list(names) == [op.output for op in graph.ops]
    assert len(flatfile.parse(file, "model").outputs) == len(graph.ops)


def test_op_names_are_the_resolvers_methods() -> None:
    net = Net(0)
    y = net.tensor((4, 4, 2), 0.5, -128, 4, -128)
    net.conv(net.input((4, 4, 3)), 2, padding=(1, 1, 1, 1), y=y, clamp=(y.low, y.high))
    assert op_names(net.done()) == ["AddConv2D", "AddMinimum"]  # 1,1,1,1 is SAME here, and ReLU gives the lower bound
    net = Net(0)
    net.conv(net.input((4, 4, 3)), 2, padding=(0, 2, 2, 0))
    assert op_names(net.done()) == ["AddConv2D", "AddPad"]
    assert set(op_names(rich_net().graph)) <= set(RESOLVER_METHODS.values())


def test_resolver_methods_cover_the_op_table() -> None:
    from tinykit.graph.optable import ROWS

    assert {name for row in ROWS for name in row.writes} <= set(RESOLVER_METHODS)
    assert {row.kind for row in ROWS} == set(ir.OPS)


def refused(graph: ir.Graph, pattern: str) -> None:
    with pytest.raises(ModelError, match=pattern):
        write_tflite(graph)


def test_refusals() -> None:
    net = Net(0)
    x = net.input((6, 6, 2))
    net.pool("average", x, (2, 2), (1, 1), (1, 1, 0, 0))
    refused(net.done(), "padding .* of a pool is neither SAME nor VALID")

    net = Net(0)
    net.conv(net.input((6, 6, 2)), 3)
    graph = net.done()
    graph.ops[0] = dataclasses.replace(graph.ops[0], rounding=ir.Rounding.SINGLE)
    refused(graph, "rounding is 'single'")

    net = Net(0)
    x = net.input((6,), bits=16)
    net.reshape(x, (3, 2))
    refused(net.done(), "an int8 tensor cannot carry it")

    net = Net(0)
    net.softmax(net.input((6,)))
    graph = net.done()
    graph.tensors["t1"] = dataclasses.replace(graph.tensors["t1"], scale=1 / 255)
    refused(graph, "the format prescribes")


def test_all_refusals_are_listed() -> None:
    net = Net(0)
    a = net.conv(net.input((6, 6, 2)), 3)
    net.conv(a, 3)
    graph = net.done()
    graph.ops = [dataclasses.replace(op, multiplier=op.multiplier ^ 1) for op in graph.ops]
    with pytest.raises(ModelError) as caught:
        write_tflite(graph)
    assert len(caught.value.problems) == 2


def test_table_must_be_the_functions_own() -> None:
    net = Net(0)
    net.table("tanh", net.input((4,)))
    graph = net.done()
    graph.ops[0] = dataclasses.replace(graph.ops[0], table=graph.ops[0].table ^ 1)
    refused(graph, "would derive a table of")
