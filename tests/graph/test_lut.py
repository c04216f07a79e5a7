"""2-bit weights behind TFLM's DECODE: exact in TFLM, read back, never a larger file; files of others, and damaged ones."""

import dataclasses
import itertools
import struct
import sys

import numpy as np
import pytest
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import encodings, flatfile, ir, lut, reference, writer
from tinykit.graph.reader import read_tflite
from tinykit.graph.schema import schema
from tinykit.graph.writer import op_names, write, write_tflite
from tinykit.graph.writeweighted import encodings as possible

BOOKS = {"range": (-2, -1, 0, 1), "four_levels": (-3, -1, 1, 3)}


class Lively(Net):
    """Networks whose results move, so that a wrong weight is seen."""

    def zero_point(self) -> int:
        return int(self.rng.integers(-20, 21))


def with_book(graph: ir.Graph, book: str = "range") -> ir.Graph:
    """The same network with its 2-bit weights in a book, and biases so small that the weights are seen in the results."""
    graph.ops = [dataclasses.replace(op, bias=op.bias >> 6) if isinstance(op, ir.Weighted) else op for op in graph.ops]
    if book == "four_levels":
        graph.ops = [
            dataclasses.replace(op, weights=(2 * op.weights + 1).astype(np.int8))
            if isinstance(op, ir.Weighted) and op.weight_bits == 2
            else op
            for op in graph.ops
        ]
    graph.validate()
    return graph


def forced(graph: ir.Graph, keep_names: bool = True) -> bytes:
    """Every 2-bit tensor as a table's indices, whatever it costs."""
    choice = {op.output: "LUT2" for op in graph.ops if isinstance(op, ir.Weighted) and op.weight_bits == 2}
    return writer._build(graph, keep_names, choice).pack(graph.outputs)


def layer(kind: str, seed: int) -> Net:
    """One layer of interest, odd sizes, and what TFLM needs around it."""
    net = Lively(seed)
    if kind == "conv1d":
        net.conv(net.input((1, 19, 3)), 7, (1, 3), (1, 2), bits=2, spread=4.0)
        return net
    x = net.input((7, 9, 3))
    if kind == "conv":
        net.conv(x, 5, (3, 2), (2, 1), bits=2, spread=4.0)
    elif kind == "conv, padded":
        net.conv(x, 5, padding=(0, 2, 1, 0), bits=2, spread=4.0)
    elif kind == "conv, one scale":
        net.conv(x, 5, bits=2, spread=4.0, per_channel=False)
    elif kind == "pointwise":
        net.conv(x, 33, (1, 1), bits=2, spread=4.0)
    elif kind == "depthwise":
        net.depthwise(x, 2, bits=2, spread=4.0)
    elif kind == "depthwise, one scale":
        net.depthwise(x, 2, (5, 3), bits=2, spread=4.0, per_channel=False)
    elif kind == "depthwise, one channel":
        net.depthwise(net.conv(x, 1, spread=4.0), 1, (3, 3), bits=2, spread=4.0)
    else:
        net.dense(net.reshape(x, (net[x].size,)), 11, bits=2, spread=4.0, per_channel="channel" in kind)
    return net


KINDS = (
    "conv", "conv, padded", "conv, one scale", "conv1d", "pointwise", "depthwise", "depthwise, one scale", "depthwise, one channel",
    "dense", "dense, a scale a channel",
)  # fmt: skip


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_exact_in_tflm(kind: str, book: str) -> None:
    pytest.importorskip("tflite_micro")
    from tinykit.verify.compare import compare_tflm

    net = layer(kind, 5)
    graph = with_book(net.done(), book)
    file, x = forced(graph), net.samples(8)
    result = compare_tflm(graph, file, x, "all")
    assert result.mismatches == 0, result.first
    assert len(np.unique(reference.run_all(graph, x)[graph.outputs[0]])) > 8, "a constant would hide a difference"
    again = read_tflite(file)
    assert [op.weight_bits for op in again.ops if isinstance(op, ir.Weighted)] == [
        op.weight_bits for op in graph.ops if isinstance(op, ir.Weighted)
    ]
    assert compare_tflm(again, file, x, "all").mismatches == 0


def mixed(seed: int) -> Net:
    """Weights of 8, 4 and 2 bits; some 2-bit tensors are too small for a table."""
    net = Lively(seed)
    a = net.conv(net.input((9, 7, 3)), 24, bits=2, spread=4.0, act="relu")
    a = net.depthwise(a, 1, bits=2, spread=4.0)
    b = net.conv(a, 24, (1, 1), bits=4, spread=4.0)
    a = net.binary("add", a, net.conv(b, 24, bits=2, spread=4.0, padding=(2, 0, 1, 1), per_channel=False))
    a = net.conv(a, 3, (1, 1), bits=2, spread=4.0)
    net.dense(net.dense(net.reshape(a, (net[a].size,)), 31, bits=2, spread=4.0), 5, bits=8, spread=4.0)
    return net


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("seed", range(3))
def test_mixed_networks_are_exact_and_smaller(seed: int, book: str) -> None:
    pytest.importorskip("tflite_micro")
    from tinykit.verify.compare import compare_tflm

    net = mixed(seed)
    graph = with_book(net.done(), book)
    found, x = write(graph), net.samples(6)
    for plain in (write_tflite(graph, lut=False), write_tflite(graph, lut=False, int4=False)):
        assert len(found.tflite) < len(plain)
    kinds = {e.encoding for e in found.encodings}
    assert kinds == {"int8", "INT4", "LUT2"}
    assert "AddDecode" in found.methods and found.methods == op_names(graph)
    assert compare_tflm(graph, found.tflite, x).mismatches == 0
    assert compare_tflm(graph, None, x, "all").mismatches == 0
    values = reference.run_all(graph, x)
    assert min(len(np.unique(values[op.output])) for op in graph.ops) > 8, "a constant would hide a difference"
    again = read_tflite(write_tflite(graph, keep_names=True, lut=True))
    assert compare_tflm(again, None, x, "all").mismatches == 0
    for ours, theirs in zip(
        (op for op in graph.ops if isinstance(op, ir.Weighted)), (op for op in again.ops if isinstance(op, ir.Weighted))
    ):
        assert np.array_equal(ours.weights.reshape(-1), theirs.weights.reshape(-1)) and np.array_equal(
            ours.weight_scale, theirs.weight_scale
        )


@pytest.mark.parametrize("seed", range(4))
def test_no_other_choice_gives_a_smaller_file(seed: int) -> None:
    net = Net(seed)
    sizes = net.rng.integers(1, 40, 5)
    a = net.input((3, 3, 4))
    for i, n in enumerate(sizes):
        a = net.conv(a, int(n), (1, 1), bits=(2, 2, 4, 2, 8)[i])
    graph = net.done()
    options = [possible(op, True, True) for op in graph.ops]
    every = [
        len(writer._build(graph, False, {op.output: e for op, e in zip(graph.ops, choice)}).pack(graph.outputs))
        for choice in itertools.product(*options)
    ]
    found = write(graph)
    assert len(found.tflite) == min(every) and len(every) == 3 * 3 * 2 * 3
    assert found == write(graph), "the choice is not deterministic"


def test_what_is_recorded_is_true() -> None:
    graph = mixed(0).done()
    found = write(graph)
    names = {value: key for key, value in encodings.NAMES.items()}
    choice = {op.output: names[e.encoding] for op, e in zip((o for o in graph.ops if isinstance(o, ir.Weighted)), found.encodings)}
    for op, e in zip((o for o in graph.ops if isinstance(o, ir.Weighted)), found.encodings):
        wide = writer._build(graph, False, choice | {op.output: "INT8"}).pack(graph.outputs)
        assert (e.op, e.bytes_before, e.bytes_after) == (op.name, len(wide), len(found.tflite))
        assert e.bytes_after <= e.bytes_before
        assert e.scratch == (op.weights.size if e.encoding == "LUT2" else 0)
        assert ("bytes larger" in e.reason or "of the same size" in e.reason) if op.weight_bits < 8 else e.reason == "8-bit weights"
    note = encodings.note(found.encodings)
    assert f"up to {max(e.scratch for e in found.encodings):,} bytes of RAM" in note and "LUT2" in note
    assert encodings.note([]) == "" == encodings.note(write(graph, int4=False, lut=False).encodings)


def test_small_and_wide_weights_have_no_table() -> None:
    net = Net(0)
    net.conv(net.conv(net.input((4, 4, 3)), 4, (1, 1), bits=2), 40, bits=8)
    found = write(net.done())
    assert [e.encoding for e in found.encodings] == ["INT4", "int8"] and "AddDecode" not in found.methods
    assert "LUT2" in found.encodings[0].reason and "larger" in found.encodings[0].reason


def test_files_with_names_have_no_decode_because_litert_has_none() -> None:
    pytest.importorskip("ai_edge_litert")
    from tinykit.verify.litert import LiteRtRunner

    net = Net(2)
    net.conv(net.input((5, 5, 8)), 40, bits=2)
    graph = net.done()
    assert b"TFLM_DECODE" in write_tflite(graph) and b"TFLM_DECODE" not in write_tflite(graph, keep_names=True)
    LiteRtRunner(write_tflite(graph, keep_names=True)).run(net.samples(2))


@pytest.mark.parametrize("book", BOOKS)
def test_rewriting_a_file_gives_the_same_bytes(book: str) -> None:
    net = Net(1)
    a = net.conv(net.input((6, 5, 8)), 40, bits=2)
    net.conv(net.conv(a, 4, (1, 1), bits=4), 40, bits=2)
    file = write_tflite(with_book(net.done(), book))
    assert file.count(b"TFLM_DECODE") == 1 and write_tflite(read_tflite(file)) == file


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 1001])
@pytest.mark.parametrize("book", BOOKS)
def test_decoding_inverts_encoding(count: int, book: str) -> None:
    values = np.random.default_rng(count).choice(BOOKS[book], count).astype(np.int8)
    packed, table = lut.encode(values)
    assert len(packed) == -(-count // 4) and len(table) == 20
    assert np.array_equal(lut.decode(flat(packed), flat(table), flat(None, (count,), "INT8")), values)
    assert lut.width(values) == 2


def test_values_outside_of_a_book_are_refused() -> None:
    with pytest.raises(ModelError, match=r"2-bit weights reach -3\.\.2"):
        lut.encode(np.array([-3, 2], np.int8))


def flat(data: np.ndarray | None, shape=None, kind: str = "UINT8", scales: int = 1, axis: int = 0) -> flatfile.FlatTensor:
    shape = data.shape if shape is None else shape
    return flatfile.FlatTensor(0, "w", shape, kind, data, np.ones(scales, np.float32), np.zeros(1, np.int64), axis, "")


def header(bits: int, axis: int, step: int, tables: np.ndarray) -> flatfile.FlatTensor:
    return flat(np.concatenate([np.array([0, 1, 0, 0, 1, axis << 4 | bits, step, *[0] * 9], np.uint8), tables.view(np.uint8).reshape(-1)]))


@pytest.mark.parametrize("bits", range(1, 8))
def test_tables_of_others(bits: int) -> None:
    """Tables a channel by the axis in the header, and by the scales, as older files have them; biases."""
    rng = np.random.default_rng(bits)
    index = rng.integers(0, 1 << bits, (5, 3, 2, 7))
    text = "".join(f"{i:0{bits}b}" for i in index.reshape(-1))
    packed = flat(np.packbits(np.array([int(c) for c in text], np.uint8)))
    for axis, wanted in ((0, (5, 1, 1, 1)), (3, (1, 1, 1, 7))):
        n = index.shape[axis]
        tables = rng.integers(-128, 128, (n, 1 << bits)).astype(np.int8)
        truth = tables[np.arange(n).reshape(wanted), index].reshape(-1)
        result = flat(None, index.shape, "INT8", n, axis)
        for named in (axis, 0):
            assert np.array_equal(lut.decode(packed, header(bits, named, 1 << bits, tables), result), truth)
    table = rng.integers(-(1 << 31), 1 << 31, 1 << bits).astype(np.int32)
    for axis, step, scales in ((15, 1 << bits, 5), (0, 1 << bits, 1), (0, 0, 5)):
        got = lut.decode(packed, header(bits, axis, step, table), flat(None, index.shape, "INT32", scales))
        assert np.array_equal(got, table[index].reshape(-1))


@pytest.mark.filterwarnings("ignore:Compression of tensor")
def test_files_of_tflite_micros_own_tool() -> None:
    """One DECODE for several tensors, a table a channel."""
    pytest.importorskip("tflite_micro.tensorflow.lite.micro.compression")
    from tflite_micro.tensorflow.lite.micro.compression import compress as tool
    from tflite_micro.tensorflow.lite.micro.compression import spec

    from tinykit.verify.compare import compare_tflm

    module = sys.modules[tool.__module__] if callable(tool) else tool
    net = Net(7)
    net.dense(net.reshape(net.depthwise(net.conv(net.input((6, 7, 5)), 9, bits=2), 1, bits=4), (6 * 7 * 9,)), 6, bits=2)
    graph = net.done()
    plain = write_tflite(graph, keep_names=True, int4=False)
    parsed = flatfile.parse(plain, "model")
    modes = {
        "CONV_2D": (2, spec.PerChannel(axis=0)),
        "DEPTHWISE_CONV_2D": (4, spec.PerChannel(axis=3)),
        "FULLY_CONNECTED": (2, spec.PerTensor()),
    }
    wanted = [spec.Tensor(0, op.inputs[1], [spec.LookUpTableCompression(*modes[op.kind])]) for op in parsed.ops if op.kind in modes]
    file = bytes(module.compress(plain, wanted))
    again = read_tflite(file)
    assert [op.weight_bits for op in again.ops if isinstance(op, ir.Weighted)] == [2, 4, 2]
    result = compare_tflm(again, file, net.samples(5), "all")
    assert result.mismatches == 0, result.first
    for ours, theirs in zip(
        (op for op in graph.ops if isinstance(op, ir.Weighted)), (op for op in again.ops if isinstance(op, ir.Weighted))
    ):
        assert np.array_equal(ours.weights, theirs.weights)


def test_the_check_sees_a_wrong_table_entry() -> None:
    pytest.importorskip("tflite_micro")
    from tinykit.verify.compare import compare_tflm

    net = layer("conv", 5)
    graph, x = with_book(net.done()), net.samples(4)
    file = forced(graph)
    at = file.index(struct.pack("4b", -2, -1, 0, 1))
    for entry in range(4):
        wrong = bytearray(file)
        wrong[at + entry] ^= 4
        assert compare_tflm(graph, bytes(wrong), x).mismatches > 0, entry
        assert not np.array_equal(read_tflite(bytes(wrong)).ops[0].weights, graph.ops[0].weights)


def damaged(change) -> bytes:
    """A file with one DECODE after `change(model, indices, table, decode)` (tensors and operator as the format's classes)."""
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(forced(layer("conv", 5).done()), 0))
    graph = model.subgraphs[0]
    decode = graph.operators[0]
    indices, table = (graph.tensors[i] for i in decode.inputs)
    for t in (indices, table):
        model.buffers[t.buffer].data = np.array(model.buffers[t.buffer].data, np.uint8)
    change(model, indices, table, decode)
    return flatfile.pack(model)


def poke(at: int, value: int):
    def change(model, indices, table, decode) -> None:
        model.buffers[table.buffer].data[at] = value

    return change


def resize(which: str, size: int):
    def change(model, indices, table, decode) -> None:
        b = model.buffers[{"indices": indices, "table": table}[which].buffer]
        b.data = np.resize(b.data, size) if size else None

    return change


def both(*changes):
    def change(*where) -> None:
        for c in changes:
            c(*where)

    return change


def set_inputs(count: int):
    def change(model, indices, table, decode) -> None:
        decode.inputs = np.resize(decode.inputs, count)

    return change


def huge(model, indices, table, decode) -> None:
    model.subgraphs[0].tensors[decode.outputs[0]].shape = np.array([1 << 12, 1 << 6, 1 << 6, 2], np.int32)


def twice(model, indices, table, decode) -> None:
    decode.inputs, decode.outputs = np.tile(decode.inputs, 2), np.tile(decode.outputs, 2)


def of_type(kind: str):
    def change(model, indices, table, decode) -> None:
        model.subgraphs[0].tensors[decode.outputs[0]].type = getattr(schema().TensorType, kind)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (poke(0, 1), "Huffman tables"),
        (poke(0, 200), "table.*decode type 200"),
        (poke(1, 2), "table.*version 2 of DECODE"),
        (poke(4, 0), "table.*0 of its tables"),
        (poke(5, 0xF0), "table.*indices of 0 bits"),
        (poke(5, 0xF8), "table.*indices of 8 bits"),
        (poke(5, 0xF3), "indices.*needs 34 bytes for 90 indices of 3 bits, the file holds 23"),
        (both(poke(5, 0x92), poke(6, 4)), "table.*has tables along axis 9 of .*weights.*, which has 4 axes"),
        (both(poke(5, 0x32), poke(6, 4)), "table.*4 entries in tables of 4, which fit neither"),
        (poke(6, 3), "table.*4 entries in tables of 3, which fit neither"),
        (poke(6, 255), "table.*4 entries in tables of 255"),
        (resize("table", 0), "table.*must be constant"),
        (resize("table", 15), "table.*holds 15 bytes; the header of a DECODE has 16"),
        (resize("table", 16), "table.*holds 0 bytes of tables"),
        (resize("table", 18), "indices.*has index 3, the table in .* has 2 entries"),
        (resize("indices", 0), "indices.*must be constant"),
        (resize("indices", 22), "indices.*needs 23 bytes for 90 indices of 2 bits, the file holds 22"),
        (set_inputs(1), "1 inputs and 1 outputs; expected two inputs for each output"),
        (set_inputs(0), "0 inputs and 1 outputs"),
        (twice, "weights.*has values already"),
        (huge, "weights.*33554432 decoded elements; at most 16777216 are read"),
        (of_type("INT16"), "weights.*INT16.*INT8 or INT32 is decoded"),
        (of_type("INT32"), "table.*holds 4 bytes of tables|weights.*are INT32|index"),
    ],
)
def test_damaged_files_are_refused_with_the_tensors_name(change, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_tflite(damaged(change))


def test_an_undamaged_copy_is_read() -> None:
    assert read_tflite(damaged(lambda *_: None)).ops[0].weight_bits == 2


def test_many_decodes_of_the_same_bytes_are_bounded() -> None:
    s = schema()

    def change(model, indices, table, decode) -> None:
        graph, n = model.subgraphs[0], 1 << 22
        model.buffers[indices.buffer].data = np.zeros(n // 4, np.uint8)
        for _ in range(200):
            t = s.TensorT()
            t.shape, t.type, t.buffer = np.array([n], np.int32), s.TensorType.INT8, 0
            graph.tensors.append(t)
            op = s.OperatorT()
            op.opcodeIndex, op.inputs, op.outputs = decode.opcodeIndex, decode.inputs, np.array([len(graph.tensors) - 1], np.int32)
            graph.operators.insert(0, op)

    with pytest.raises(ModelError, match="decoded elements; at most 16777216"):
        read_tflite(damaged(change))


def test_the_report_names_the_encoding_of_narrow_weights() -> None:
    from tinykit.report.sections import layer_rows

    rows = layer_rows([{"weight_bits": bits, "activation_bits": 8, "encoding": e} for bits, e in ((2, "LUT2"), (4, "int8"), (8, "int8"))])
    assert [row["bits"] for row in rows] == ["2 / 8, LUT2", "4 / 8, int8", "8 / 8"]
