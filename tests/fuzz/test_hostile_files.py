"""What fuzzing found, one small file each: small files that would ask for much memory or work, and damage that libraries answer with
exceptions of their own."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import readers  # makes the helpers of tests/verify importable
from nets import Net

from tinykit.config.document import MAX_SHOWN, parse_yaml
from tinykit.data.archive import extract
from tinykit.data.audio.wav import read_wav
from tinykit.data.files import read_npz
from tinykit.data.image_folder import decode
from tinykit.engine.lower import plan_problem
from tinykit.errors import LONGEST_PROBLEM, ConfigError, DataError, ModelError, one_line
from tinykit.graph import flatfile, readweighted
from tinykit.graph.plan import order
from tinykit.graph.plan.network import Network, index
from tinykit.graph.reader import read_tflite
from tinykit.graph.schema import IDENTIFIER, schema
from tinykit.graph.simplify import simplify
from tinykit.graph.writer import write_tflite
from tinykit.models.archive import describe_zip

MIB = 1 << 20


def refused(data: bytes, pattern: str) -> list[str]:
    with pytest.raises(ModelError, match=pattern) as caught:
        read_tflite(data, "hostile")
    assert all(problem.startswith(("hostile: ", "  ")) for problem in caught.value.problems), caught.value.problems
    return caught.value.problems


def written(grow) -> bytes:
    net = Net(0)
    grow(net, net.input((4, 6), scale=0.1, zero_point=0))
    return write_tflite(net.done(), keep_names=False)


def edited(data: bytes, change) -> bytes:
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(data, 0))
    change(model.subgraphs[0], model)
    return flatfile.pack(model)


def one_tensor(tensors: int, ops: int, *, scales: int = 1, name: bytes = b"x", operands: int = 1) -> bytes:
    """A file that describes one tensor and one operator, and lists them many times."""
    import flatbuffers

    s, b = schema(), flatbuffers.Builder(1024)

    def vector(offsets):
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return b.EndVector()

    scale, zero = b.CreateNumpyVector(np.ones(scales, np.float32)), b.CreateNumpyVector(np.zeros(1, np.int64))
    s.QuantizationParametersStart(b)
    s.QuantizationParametersAddScale(b, scale)
    s.QuantizationParametersAddZeroPoint(b, zero)
    quantization = s.QuantizationParametersEnd(b)
    shape, text = b.CreateNumpyVector(np.array([1, 4], np.int32)), b.CreateString(name)
    s.TensorStart(b)
    s.TensorAddShape(b, shape)
    s.TensorAddType(b, s.TensorType.INT8)
    s.TensorAddName(b, text)
    s.TensorAddQuantization(b, quantization)
    tensor = s.TensorEnd(b)
    indices = b.CreateNumpyVector(np.zeros(operands, np.int32))
    s.OperatorStart(b)
    s.OperatorAddInputs(b, indices)
    s.OperatorAddOutputs(b, indices)
    op = s.OperatorEnd(b)
    tensor_list, op_list = vector([tensor] * tensors), vector([op] * ops)
    s.SubGraphStart(b)
    s.SubGraphAddTensors(b, tensor_list)
    s.SubGraphAddInputs(b, indices)
    s.SubGraphAddOutputs(b, indices)
    s.SubGraphAddOperators(b, op_list)
    graphs = vector([s.SubGraphEnd(b)])
    s.OperatorCodeStart(b)
    s.OperatorCodeAddBuiltinCode(b, s.BuiltinOperator.RELU)
    codes = vector([s.OperatorCodeEnd(b)])
    s.BufferStart(b)
    buffers = vector([s.BufferEnd(b)])
    s.ModelStart(b)
    s.ModelAddVersion(b, 3)
    s.ModelAddOperatorCodes(b, codes)
    s.ModelAddSubgraphs(b, graphs)
    s.ModelAddBuffers(b, buffers)
    b.Finish(s.ModelEnd(b), IDENTIFIER)
    return bytes(b.Output())


# ---- .tflite: much from little


def test_tensors_that_share_their_scales_are_not_copied():
    """2,000 tensors, each with the same quarter of a megabyte: half a gigabyte in copies."""
    data = one_tensor(2000, 1, scales=flatfile.MAX_SCALES)
    assert len(data) < MIB
    tracemalloc.start()
    try:
        assert len(flatfile.parse(data, "hostile").tensors) == 2000
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


def test_thousands_of_tensors_of_one_name():
    """With a count from 1 for each of them it would be a hundred million comparisons."""
    names = flatfile.parse(one_tensor(flatfile.MAX_ITEMS, 1, name=b"same"), "hostile").names
    assert names[:3] == ("same", "same_2", "same_3") and len(set(names)) == flatfile.MAX_ITEMS


@pytest.mark.parametrize(
    "data, pattern",
    [
        (lambda: one_tensor(1, 1, scales=flatfile.MAX_SCALES + 1), "has 65537 scales and 1 zero points; at most 65536 are read"),
        (lambda: one_tensor(40, 1, name=b"x" * MIB), "the names of its tensors take more than 16777216 bytes"),
        (lambda: one_tensor(1, flatfile.MAX_OPERATORS + 1), "513 operators; at most 512 are read"),
        (lambda: one_tensor(1, 300, operands=1000), "op 131 RELU: with it, there are more than 262144 operands"),
        (lambda: one_tensor(1, 1, operands=1025), "1025 operands in one list; at most 1024 are read"),
        (lambda: _large(1, 1 << 22), "tensor 't0' has 4194304 elements; at most 2097152 are read"),
        (lambda: _large(4, 1 << 21), "its activations have 10485760 elements in all; at most 8388608"),
    ],
)  # fmt: skip
def test_counts_are_bounded(data, pattern):
    refused(data(), pattern)


def _large(ops: int, elements: int) -> bytes:
    net = Net(0)
    x = net.input((elements,), scale=0.1, zero_point=0)
    for _ in range(ops):
        x = net.table("relu6", x, same=True)
    return write_tflite(net.done(), keep_names=False)


def test_long_names_are_shortened():
    assert flatfile.parse(one_tensor(1, 1, name=b"y" * 5000), "hostile").names == ("y" * flatfile.MAX_NAME,)


def test_wrong_indices_are_not_all_listed():
    def change(graph, model):
        graph.operators[0].inputs = np.full(1000, 99, np.int32)

    assert len(refused(edited(written(lambda net, x: net.table("tanh", x)), change), "reads tensor 99")) == flatfile.MAX_SHOWN + 1


def test_too_many_axes_are_counted_not_listed():
    def change(graph, model):
        graph.tensors[1].shape = np.ones(1000, np.int32)

    refused(edited(written(lambda net, x: net.table("tanh", x)), change), "has 1000 axes; at most 8 are read")


def test_weights_count_for_each_operator_that_reads_them(monkeypatch):
    data = written(lambda net, x: net.dense(net.dense(x, 6), 6))
    monkeypatch.setattr(readweighted, "MAX_WEIGHTS", 6 * 24 + 6 * 6)
    read_tflite(data)
    monkeypatch.setattr(readweighted, "MAX_WEIGHTS", 6 * 24 + 6 * 6 - 1)
    refused(data, "op 1 FULLY_CONNECTED: .* there are 180 in all; at most 179 are read")


def test_parameters_of_a_megabyte_are_not_taken_apart():
    def change(graph, model):
        t = graph.tensors[graph.operators[0].inputs[1]]
        t.shape = np.array([1 << 18], np.int32)
        model.buffers[t.buffer].data = np.zeros(MIB, np.uint8)

    refused(edited(written(lambda net, x: net.transpose(x, (1, 0))), change), "holds 1048576 bytes of integers; at most 8192")


def test_shapes_that_double_with_every_operator():
    """Forty operators that join a shape with itself would make one of a terabyte."""

    def change(graph, model):
        s = schema()
        code = s.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.CONCATENATION
        model.operatorCodes.append(code)
        parameter, joins = graph.operators[0].inputs[1], []
        for _ in range(40):
            t, op = s.TensorT(), s.OperatorT()
            t.shape, t.type = np.array([1], np.int32), s.TensorType.INT32
            graph.tensors.append(t)
            op.opcodeIndex, op.inputs = len(model.operatorCodes) - 1, np.array([parameter, parameter], np.int32)
            op.outputs = np.array([len(graph.tensors) - 1], np.int32)
            joins.append(op)
            parameter = op.outputs[0]
        graph.operators = joins + graph.operators

    data = edited(written(lambda net, x: net.transpose(x, (1, 0))), change)
    refused(data, "op 8 CONCATENATION makes a shape of 1536 integers; at most 1024 are read")


# ---- .tflite: work


def test_the_simplifier_applies_a_rule_only_where_something_has_changed(monkeypatch):
    """Every tensor of this network needs a channel of its own; each used to cost a pass over all operations."""
    from tinykit.graph.passes import demand

    net = Net(0)
    x = net.input((3, 3, 2), scale=0.1, zero_point=0)
    for _ in range(60):
        x = net.conv(x, 2, kernel=(1, 1), y=net.tensor((3, 3, 2), 0.1, 0), clamp=(0, 0))
    applied = [0]
    rule = demand._DEMANDS["conv2d"]

    def counted(*args):
        applied[0] += 1
        rule(*args)

    monkeypatch.setitem(demand._DEMANDS, "conv2d", counted)
    simplify(net.done())
    assert applied[0] < 20 * 60


def test_the_planner_tries_fewer_orders_where_they_cost_much(monkeypatch):
    """A network of 900 steps, most of which can follow each other in any order, took minutes and more than a gigabyte."""
    net = Net(0)
    x = net.input((4, 4, 2), scale=0.1, zero_point=0)
    net.concat([net.pad(x, ((0, i % 5 + 1), (0, 0), (0, 0))) for i in range(12)], 0)
    search = order.OrderSearch(index(plan_problem(net.done())))
    found = search.best()
    assert len(list(search.more(found, 1 << 30, 3))) == 3 and search.looked
    monkeypatch.setattr(order, "_WORK", 0)
    assert not list(search.more(found, 1 << 30, 3))
    assert order.OrderSearch(_steps(1000)).beam == order._LEAST_BEAM and order.OrderSearch(_steps(300)).beam == order._BEAM


def _steps(count: int):
    empty = ((),) * count
    return Network(1, (), (), empty, (0,) * count, (0,) * count, {}, (), frozenset(), frozenset())


# ---- data


def test_damaged_exif_in_a_png(tmp_path):
    """Pillow raises struct.error where a TIFF header is cut short."""
    good = readers.KINDS["image"].files()[0]
    body = b"II*\0\1"
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    path = tmp_path / "a.png"
    path.write_bytes(good[:33] + chunk + good[33:])
    with pytest.raises(DataError, match="a.png: cannot be decoded: ") as caught:
        decode(path, (4, 4), False)
    assert len(caught.value.problems) == 1


def test_a_chunk_beyond_the_end_of_a_sound(tmp_path):
    good = readers.KINDS["wav"].files()[2]
    at = good.index(b"LIST")
    path = tmp_path / "a.wav"
    path.write_bytes(good[: at + 4] + struct.pack("<I", 1 << 20) + good[at + 8 :])
    with pytest.raises(DataError, match="a.wav: cannot be read as a WAV file"):
        read_wav(path, 16000)


def test_a_member_without_a_name(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x", b"1")
    data = out.getvalue().replace(b"x1PK", b"\0" + b"1PK")  # the name in the local header
    data = data[:-23] + b"\0" + data[-22:]  # and in the directory: zipfile cuts names at a zero
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(DataError, match="a.zip: member ''"):
        extract(path, tmp_path / "out")


def lzma_member(path, size: int) -> None:
    """A zip file whose member x.npy says that its dictionary has `size` bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", b"1" * 100)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 30 + len("x.npy") + 5, size)
    path.write_bytes(data)


def test_a_member_that_asks_for_gigabytes_before_its_first_byte(tmp_path):
    path, large = tmp_path / "a.zip", (1 << 32) - 1
    lzma_member(path, large)
    with pytest.raises(DataError, match="a.zip: member 'x.npy': asks for an LZMA dictionary of 4294967295 bytes, more than"):
        extract(path, tmp_path / "out")
    with pytest.raises(DataError, match="a.zip, array 'x': asks for an LZMA dictionary of 4294967295 bytes, more than"):
        read_npz(path, ("x",))
    lzma_member(path, 1 << 26)
    assert (extract(path, tmp_path / "out") / "x.npy").read_bytes() == b"1" * 100


def test_a_keras_archive_is_stored_or_deflated(tmp_path):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelError, match="member 'config.json' is compressed by method 14, which Keras does not write"):
        describe_zip(path)


def test_a_message_does_not_repeat_a_file(tmp_path):
    """zipfile quotes both names of a member where they differ, whatever their length."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", b"1" * 3000)
        archive.writestr("y.npy", b"1")
    data = bytearray(out.getvalue())
    struct.pack_into("<H", data, 26, 2500)  # length of the first name
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_npz(path, ("x",))
    assert all(len(problem) < 1000 and problem.isprintable() for problem in caught.value.problems)


@pytest.mark.parametrize("text", ["[" + "1," * 490_000 + "]", "? a\n" * 240_000, "- &a [1, 1]\n" + "- *a\n" * 160_000])
def test_a_megabyte_of_yaml_values_is_given_up_early(text, monkeypatch):
    """Half a million values took twenty seconds to compose before they were counted."""
    monkeypatch.setattr("yaml.compose", lambda *args, **kwargs: pytest.fail("composed"))
    with pytest.raises(ConfigError, match=r"^a.yaml:\d+: more than 20000 values$"):
        parse_yaml(text, "a.yaml")


def test_thousands_of_wrong_keys_are_not_all_listed():
    with pytest.raises(ConfigError) as caught:
        parse_yaml("? a\n" * 1000, "a.yaml")
    assert len(caught.value.problems) == MAX_SHOWN + 1 and caught.value.problems[-1] == "a.yaml: and 899 more such problems"


def test_members_of_a_keras_archive_are_counted(tmp_path, monkeypatch):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(30):
            archive.writestr(f"{i}.txt", "")
        archive.writestr("config.json", "{}")
    monkeypatch.setattr("tinykit.models.archive.MAX_HDF5_OBJECTS", 30)
    with pytest.raises(ModelError, match="a.keras: 31 members, more than the limit of 30"):
        describe_zip(path)


def test_messages_are_short_lines():
    problem = DataError("a.yaml:1: got " + "x" * 100_000 + "; expected y").problems[0]
    assert len(problem) <= LONGEST_PROBLEM and problem.startswith("a.yaml:1: got x") and problem.endswith("; expected y")
    assert one_line("a\n b\x1b[31m\tc" + "d" * 1000) == "a b?[31m c" + "d" * 287 + "..."
