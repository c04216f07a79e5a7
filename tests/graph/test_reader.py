"""The reader: what it refuses and says, and that damaged files never give anything but ModelError."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import flatfile, ir, reference
from tinykit.graph.reader import READERS, read_tflite
from tinykit.graph.schema import schema
from tinykit.graph.writer import write_tflite


def sample_file(keep_names: bool = True) -> bytes:
    net = Net(7)
    a = net.conv(net.input((7, 5, 3), scale=0.1, zero_point=3), 5, act="relu", bits=4)
    b = net.depthwise(a, padding=(1, 0, 2, 0))
    c = net.binary("mul", net.table("logistic", b), net.constant((1, 1, 5)))
    d = net.concat([net.pool("max", c), net.pool("average", c)], 2)
    e = net.slice(net.transpose(net.mean(d, (1,)), (1, 0)), (8, 0), (-1, 2), (-2, 1))
    f = net.dense(net.pad(e, ((0, 1), (1, 0))), 6)
    net.softmax(net.requantize(f))
    net.argmax(f, 0)
    net.done(net.graph.ops[-2].output, net.graph.ops[-1].output)
    return write_tflite(net.graph, keep_names=keep_names)


def edited(change, file: bytes | None = None) -> bytes:
    """The sample file after `change(model, subgraph, schema)`."""
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(file or sample_file(), 0))
    change(model, model.subgraphs[0], s)
    return flatfile.pack(model)


def refused(file: bytes, pattern: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_tflite(file)
    assert re.search(pattern, str(caught.value)), str(caught.value)
    return caught.value


def test_reads_bytes_and_paths_alike(tmp_path: Path) -> None:
    file = sample_file()
    path = tmp_path / "some_model.tflite"
    path.write_bytes(file)
    graph = read_tflite(path)
    assert graph.name == "some_model"
    assert list(read_tflite(file).tensors) == list(graph.tensors)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0\0\0\0TFL2" + bytes(64), bytes(1000), b"\x1c\0\0\0TFL3" + bytes(64)])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_tflite(data)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_tflite(tmp_path / "none.tflite")


def test_too_large_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatfile, "MAX_BYTES", 100)
    refused(sample_file(), "at most 100 are read")


def test_old_files_with_only_the_deprecated_code() -> None:
    def old(model, graph, s) -> None:
        for code in model.operatorCodes:
            code.builtinCode = 0

    file, x = sample_file(), np.zeros((2, 7, 5, 3), np.int8)
    assert np.array_equal(reference.run(read_tflite(edited(old)), x), reference.run(read_tflite(file), x))


def test_every_unsupported_op_is_listed_once_with_its_index() -> None:
    def change(model, graph, s) -> None:
        for code in model.operatorCodes:
            if code.builtinCode in (s.BuiltinOperator.SOFTMAX, s.BuiltinOperator.MUL):
                code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.ELU

    error = refused(edited(change), "op 4 ELU is not supported")
    assert sum("ELU is not supported" in p for p in error.problems) == 2
    assert "supported operators are ADD" in error.problems[-1]


def test_duplicate_and_missing_names_become_unique() -> None:
    def change(model, graph, s) -> None:
        for i, t in enumerate(graph.tensors):
            t.name = "same" if i % 2 else ""

    file = edited(change)
    names = flatfile.parse(file, "model").names
    assert "same" in names and "same_2" in names and len(set(names)) == len(names)
    graph = read_tflite(file)
    assert set(graph.tensors) <= set(names) and graph.inputs == ("t0",)


def tensor_of(graph, op: int, position: int):
    return graph.tensors[graph.operators[op].inputs[position]]


def set_shape(op: int, position: int, shape: list[int]):
    def change(model, graph, s) -> None:
        tensor_of(graph, op, position).shape = np.array(shape, np.int32)

    return change


def set_type(op: int, position: int, kind: str):
    def change(model, graph, s) -> None:
        tensor_of(graph, op, position).type = getattr(s.TensorType, kind)

    return change


def set_quantization(op: int, position: int, **fields):
    def change(model, graph, s) -> None:
        for name, value in fields.items():
            setattr(tensor_of(graph, op, position).quantization, name, np.array(value))

    return change


@pytest.mark.parametrize(
    "change, pattern",
    [
        (set_shape(0, 0, [2, 7, 5, 3]), "first axis is the batch and must be 1"),
        (set_shape(0, 0, [1, 7, 5, 0]), "which is empty"),
        (set_shape(0, 0, [1, 7, 6, 3]), "output .* has shape"),
        (set_shape(0, 0, [1, 7, 105]), "expected height, width, channels"),
        (set_shape(0, 1, [5, 3, 3, 4]), "needs 90 bytes"),
        (set_shape(0, 1, [5, 3, 9, 1]), "grouped convolution is not supported"),
        (set_shape(0, 1, [1 << 30, 1 << 30, 1 << 30, 3]), "has shape"),
        (set_shape(0, 2, [4]), "needs 16 bytes"),
        (set_type(0, 0, "UINT8"), "is UINT8, expected INT8 or FLOAT32; UINT8 activations are not supported"),
        (set_type(0, 0, "INT16"), "is INT16"),
        (set_type(0, 0, "FLOAT32"), "full integer quantisation"),
        (set_type(0, 1, "INT2"), "expected INT8 or INT4"),
        (set_type(0, 2, "INT64"), "expected INT32"),
        (set_quantization(0, 0, scale=np.array([], np.float32)), "0 scales and 1 zero points"),
        (set_quantization(0, 0, scale=np.array([0.0], np.float32)), "expected a positive number"),
        (set_quantization(0, 0, scale=np.array([np.nan], np.float32)), "expected a positive number"),
        (set_quantization(0, 0, zeroPoint=[300]), "zero point 300"),
        (set_quantization(0, 1, zeroPoint=[0, 0, 1, 0, 0]), "only symmetric weights"),
        (set_quantization(0, 1, scale=np.ones(3, np.float32)), "3 scales, expected 1 or 5"),
        (set_quantization(0, 1, quantizedDimension=2), "quantised along axis 2, expected 0"),
        (set_quantization(0, 1, scale=np.full(5, np.inf, np.float32)), "negative or not finite"),
    ],
)
def test_refusals_say_what_and_where(change, pattern: str) -> None:
    refused(edited(change), pattern)


def test_all_problems_are_listed_at_once() -> None:
    def change(model, graph, s) -> None:
        set_type(0, 1, "INT2")(model, graph, s)
        set_quantization(0, 0, zeroPoint=[300])(model, graph, s)
        for code in model.operatorCodes:
            if code.builtinCode == s.BuiltinOperator.SOFTMAX:
                code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.ELU

    assert len(refused(edited(change), "zero point 300").problems) >= 3


def test_structure_that_is_not_supported() -> None:
    def second_graph(model, graph, s) -> None:
        model.subgraphs.append(graph)

    def variable(model, graph, s) -> None:
        graph.tensors[0].isVariable = True

    def sparse(model, graph, s) -> None:
        tensor_of(graph, 0, 1).sparsity = s.SparsityParametersT()

    def dangling(model, graph, s) -> None:
        graph.operators[0].inputs = np.array([9999, 1, 2], np.int32)

    def cycle(model, graph, s) -> None:
        graph.operators = graph.operators[::-1]

    def custom(model, graph, s) -> None:
        model.operatorCodes[0].builtinCode, model.operatorCodes[0].deprecatedBuiltinCode = 32, 32
        model.operatorCodes[0].customCode = "MyOp"

    for change, pattern in (
        (second_graph, "2 subgraphs"), (variable, "is a variable"), (sparse, "is sparse"), (dangling, "reads tensor 9999"),
        (cycle, "before it is written"), (custom, "CUSTOM 'MyOp' is not supported"),
    ):  # fmt: skip
        refused(edited(change), pattern)


def test_relu6_of_two_scales_is_refused() -> None:
    net = Net(1)
    net.table("relu6", net.input((4,), scale=0.1))
    file = write_tflite(net.done())
    refused(edited(lambda m, g, s: setattr(g.tensors[1].quantization, "scale", np.array([0.2], np.float32)), file), "must share scale")


def test_shrunk_axes_become_a_reshape() -> None:
    net = Net(1)
    x = net.input((5, 4, 3))
    net.slice(x, (2, 0, 0), (3, 4, 3), (1, 1, 1))

    def shrink(model, graph, s) -> None:
        graph.operators[0].builtinOptions.shrinkAxisMask = 2
        graph.tensors[graph.operators[0].outputs[0]].shape = np.array([1, 4, 3], np.int32)

    graph = read_tflite(edited(shrink, write_tflite(net.done())))
    assert [op.kind for op in graph.ops] == ["strided_slice", "reshape"]
    x = net.samples(3)
    assert np.array_equal(reference.run(graph, x), x[:, 2])


@pytest.mark.parametrize("shape", [(7, 6), (5, 7, 6)])
def test_dense_on_many_positions_is_a_pointwise_convolution(shape: tuple[int, ...]) -> None:
    pytest.importorskip("tflite_micro")
    from tinykit.verify.compare import compare_tflm

    total = 0
    for seed in range(20):
        net = Net(seed)
        y = net.dense(net.input((6,)), 4)
        net.done()
        t = net[y]

        def widen(model, graph, s, shape=shape) -> None:
            graph.operators[0].builtinOptions.keepNumDims = True
            graph.tensors[0].shape = np.array((1, *shape), np.int32)
            graph.tensors[graph.operators[0].outputs[0]].shape = np.array((1, *shape[:-1], 4), np.int32)

        file = edited(widen, write_tflite(net.graph))
        graph = read_tflite(file)
        assert "conv2d" in [op.kind for op in graph.ops] and graph.tensors[graph.outputs[0]].shape == (*shape[:-1], 4)
        assert t.scale == graph.tensors[graph.outputs[0]].scale
        x = net.rng.integers(-128, 128, (6, *shape)).astype(np.int8)
        for result in (compare_tflm(graph, file, x), compare_tflm(graph, None, x, "all")):
            assert result.mismatches == 0, str(result)
            total += result.elements
    print(f"dense on positions: 0 of {total} elements differ")


# -- damage ---------------------------------------------------------------------------------------------------------------------------


def survives(data: bytes) -> bool:
    """True if the file is read; False if it is refused properly. Anything else fails the test."""
    try:
        graph = read_tflite(data)
    except ModelError:
        return False
    assert isinstance(graph, ir.Graph)
    return True


@pytest.mark.parametrize("keep_names", [False, True])
def test_truncated_files_are_refused(keep_names: bool) -> None:
    file = sample_file(keep_names)
    assert survives(file)
    assert not any(survives(file[:n]) for n in range(0, len(file) - 1, 7) if n < len(file) * 0.9)


def test_flipped_bits_give_a_graph_or_a_model_error() -> None:
    file, rng, read = sample_file(False), random.Random(1), 0
    for _ in range(1500):
        data = bytearray(file)
        for _ in range(rng.choice([1, 1, 1, 3, 20])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        read += survives(bytes(data))
    assert 0 < read < 1500


def test_absurd_numbers_give_a_model_error() -> None:
    """32-bit words overwritten by extremes, at every aligned place of the file."""
    file = sample_file(False)
    for at in range(8, len(file) - 4, 8):
        for word in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\0\0"):
            survives(file[:at] + word + file[at + 4 :])


def test_every_reader_is_in_the_op_table() -> None:
    from tinykit.graph.optable import ROWS

    assert set(READERS) == {name for row in ROWS for name in row.reads}
