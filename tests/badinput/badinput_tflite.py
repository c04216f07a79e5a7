"""`.tflite` files that are damaged, or hold what cannot be represented, for compile, bench and profile; and the other inputs of these."""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from badinput_kind import kind

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "verify"))

import nets  # noqa: E402

from tinykit.graph import flatfile  # noqa: E402
from tinykit.graph.schema import schema  # noqa: E402
from tinykit.graph.writer import write_tflite  # noqa: E402

TFLITE = ".tflite files"
BOARD = "boards and builds"
ARGUMENTS = {
    "compile": ["--model=m.tflite", "--out=out"],
    "bench": ["--model=m.tflite", "--out=out"],
    "profile": ["--model=m.tflite", "--json=p.json"],
}


@functools.cache
def good(size: int = 9, channels: int = 4) -> bytes:
    """A small network."""
    net = nets.Net(3)
    x = net.conv(net.input((size, size, 3)), out=channels, stride=(2, 2), act="relu")
    x = net.pool("average", net.binary("add", x, net.depthwise(x)))
    net.dense(x, out=5)
    return write_tflite(net.done(), keep_names=True)


def edited(change: Callable[[Any, Any, Any], object]) -> bytes:
    """The small network after `change(model, subgraph, schema)`."""
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(good(), 0))
    change(model, model.subgraphs[0], s)
    return flatfile.pack(model)


def file(name: str, content: Callable[[], bytes], *says: str, program: str = "profile", **more: Any) -> None:
    """A file that is wrong."""

    def make(folder: Path) -> Sequence[str]:
        (folder / "m.tflite").write_bytes(content())
        return ARGUMENTS[program]

    kind(TFLITE, name, *says, program=program, **more)(make)


def change(name: str, edit: Callable[[Any, Any, Any], object], *says: str, **more: Any) -> None:
    """The small network with one thing changed."""
    file(name, lambda: edited(edit), *says, **more)


def weights(model: Any, graph: Any) -> Any:
    """The tensor of the first operator's weights."""
    return graph.tensors[graph.operators[0].inputs[1]]


def quantization(graph: Any, operator: int = 0) -> Any:
    """Of an operator's output."""
    return graph.tensors[graph.operators[operator].outputs[0]].quantization


def operands(operator: Any, first: int) -> None:
    """Gives an operator another first operand."""
    operator.inputs = np.array([first, *operator.inputs[1:]], np.int32)


def custom(model: Any, graph: Any, s: Any) -> None:
    """Makes the first operator one of somebody's own."""
    code = model.operatorCodes[graph.operators[0].opcodeIndex]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = s.BuiltinOperator.CUSTOM, s.BuiltinOperator.CUSTOM, b"Mine"


def unsupported(model: Any, graph: Any, s: Any) -> None:
    """Makes the first operator a transposed convolution."""
    code = model.operatorCodes[graph.operators[0].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.TRANSPOSE_CONV


def floats(model: Any, graph: Any, s: Any) -> None:
    """A model that was never quantised."""
    for tensor in graph.tensors:
        tensor.type, tensor.quantization = s.TensorType.FLOAT32, None


def cycle(model: Any, graph: Any, s: Any) -> None:
    """The second operator reads what the third writes."""
    operands(graph.operators[1], int(graph.operators[2].outputs[0]))


def dynamic(model: Any, graph: Any, s: Any) -> None:
    """A height that is not known before."""
    tensor = graph.tensors[graph.inputs[0]]
    tensor.shape = np.array([1, -1, 9, 3], np.int32)


def batch(model: Any, graph: Any, s: Any) -> None:
    """Two samples at a time."""
    tensor = graph.tensors[graph.inputs[0]]
    tensor.shape = np.array([2, 9, 9, 3], np.int32)


def huge(model: Any, graph: Any, s: Any) -> None:
    """A tensor of more elements than there is memory."""
    graph.tensors[graph.inputs[0]].shape = np.array([1, 1 << 30, 1 << 30, 3], np.int32)


def named(model: Any, graph: Any, s: Any) -> None:
    """A tensor whose name would break the line and steer a terminal, and that is wrong."""
    weights(model, graph).name = b"w\n\x1b[2Jerror: all is well"
    weights(model, graph).type = s.TensorType.FLOAT32


def truncated(part: float) -> Callable[[], bytes]:
    """The first part of the file."""
    return lambda: good()[: int(len(good()) * part)]


def root_outside() -> bytes:
    """A file whose first offset leads out of it."""
    return (0x7FFFFFF0).to_bytes(4, "little") + good()[4:]


for number, program in enumerate(("compile", "bench", "profile")):
    file(
        f"a truncated file, for {program}",
        truncated(0.5),
        "m.tflite",
        "damaged or truncated",
        "copy or convert it again",
        program=program,
        alone=program == "compile",
    )
    file(f"an empty file, for {program}", lambda: b"", "m.tflite", "no .tflite file", "'TFL3' is missing", program=program)
    file(f"a float model, for {program}", lambda: edited(floats), "m.tflite", "FLOAT32", "full integer quantisation", program=program)
file("text", lambda: b"hello, this is a model\n" * 9, "m.tflite", "no .tflite file", "'TFL3' is missing at byte 4")
file("an ONNX or a zip file under this name", lambda: b"PK\x03\x04" + bytes(99), "m.tflite", "no .tflite file", "'TFL3'")
file("an identifier and nothing behind it", lambda: b"\x1c\0\0\0TFL3", "m.tflite", "damaged or truncated", "copy or convert it again")
file("an offset outside of the file", root_outside, "m.tflite", "damaged or truncated", "copy or convert it again")
change("a version that nobody knows", lambda m, g, s: setattr(m, "version", 9), "m.tflite", "schema version 9, expected 3")
change("two subgraphs", lambda m, g, s: m.subgraphs.append(g), "m.tflite", "2 subgraphs", "exactly one is supported")
change("no subgraph", lambda m, g, s: m.subgraphs.clear(), "m.tflite", "0 subgraphs", "exactly one is supported")
change("no operators", lambda m, g, s: g.operators.clear(), "m.tflite", "0 operators", "expected one or more")
change("an operand's index beyond the tensors", lambda m, g, s: operands(g.operators[1], 999), "m.tflite", "999")
change("an operand's index below -1", lambda m, g, s: operands(g.operators[1], -7), "m.tflite", "-7")
change("an output's index beyond the tensors", lambda m, g, s: setattr(g, "outputs", np.array([999], np.int32)), "m.tflite", "999")
change("an operator code's index beyond the codes", lambda m, g, s: setattr(g.operators[0], "opcodeIndex", 99), "m.tflite", "99")
change("a buffer's index beyond the buffers", lambda m, g, s: setattr(weights(m, g), "buffer", 999), "m.tflite", "names buffer 999 of")
change("operators in a circle", cycle, "m.tflite", "before it is written")
change(
    "an operator of somebody's own",
    custom,
    "m.tflite",
    "op 0 CUSTOM 'Mine' is not supported",
    "supported operators are ADD, ",
    details=True,
)
change(
    "an operator that is not supported",
    unsupported,
    "m.tflite",
    "op 0 TRANSPOSE_CONV is not supported",
    "supported operators are ADD, ",
    details=True,
)
change("a dynamic shape", dynamic, "m.tflite", "tensor 0", "[1, -1, 9, 3]", "expected fixed sizes")
change("a batch of two", batch, "m.tflite", "batch", "[2, 9, 9, 3]")
change("a shape of 2^61 elements", huge, "m.tflite", "more than 2147483648 elements")
change(
    "a buffer smaller than its tensor",
    lambda m, g, s: setattr(m.buffers[weights(m, g).buffer], "data", np.zeros(5, np.uint8)),
    "m.tflite",
    "needs 108 bytes, the file holds 5",
)
change(
    "uint8 activations",
    lambda m, g, s: [setattr(g.tensors[i], "type", s.TensorType.UINT8) for i in g.inputs],
    "m.tflite",
    "UINT8",
    "convert with int8",
)
change("a scale that is NaN", lambda m, g, s: setattr(quantization(g), "scale", np.array([np.nan], np.float32)), "m.tflite", "scale")
change("a scale of 0", lambda m, g, s: setattr(quantization(g), "scale", np.array([0], np.float32)), "m.tflite", "scale")
change(
    "a zero point beyond int8", lambda m, g, s: setattr(quantization(g), "zeroPoint", np.array([999], np.int64)), "m.tflite", "zero point"
)
change(
    "a tensor without quantisation",
    lambda m, g, s: setattr(g.tensors[g.operators[0].outputs[0]], "quantization", None),
    "m.tflite",
    "0 scales",
    "an activation needs one of each",
)
change(
    "a stride of 0",
    lambda m, g, s: setattr(g.operators[0].builtinOptions, "strideH", 0),
    "m.tflite",
    "op 0 CONV_2D",
    "stride (0, 2)",
    "expected 1 or more",
)
change("a tensor's name with newlines", named, "m.tflite", "w\\n\\x1b[2Jerror: all is well")


# ---- the other inputs of compile, bench and profile


def build(
    name: str,
    program: str,
    arguments: Sequence[str],
    *says: str,
    prepare: Callable[[Path], object] = lambda folder: None,
    content: Callable[[], bytes] = good,
    **more: Any,
) -> None:
    """A good file (m.tflite) and arguments that are wrong."""

    def make(folder: Path) -> Sequence[str]:
        (folder / "m.tflite").write_bytes(content())
        prepare(folder)
        return arguments

    kind(BOARD, name, *says, program=program, **more)(make)


def compare(name: str, report: str, layers: str, says: str) -> None:
    """bench --compare with a folder of these files."""

    def prepare(folder: Path) -> None:
        (folder / "old").mkdir()
        (folder / "old/report.json").write_text(report)
        (folder / "old/layers.csv").write_text(layers)

    build(f"--compare with {name}", "bench", ["--model=m.tflite", "--compare=old"], "old", says, prepare=prepare)


def out(name: str, program: str, place: str) -> None:
    """--out in the way of somebody's file."""
    told = (place, "expected a folder that can be written to")
    build(name, program, ["--model=m.tflite", f"--out={place}"], *told, prepare=lambda folder: (folder / "taken").write_text("mine"))


build("--model that is not there", "compile", ["--model=n.tflite", "--out=out"], "n.tflite", "no such file")
build(
    "--model that is a folder",
    "profile",
    ["--model=sub"],
    "sub",
    "a folder; expected a .tflite file",
    prepare=lambda folder: (folder / "sub").mkdir(),
)
build("--model that never ends", "profile", ["--model=/dev/zero"], "/dev/zero", "no plain file")
build(
    "--model larger than 64 MB",
    "profile",
    ["--model=large.tflite"],
    "large.tflite",
    "at most 67,108,864 are read",
    prepare=lambda folder: (folder / "large.tflite").write_bytes(good() + bytes(64 << 20)),
)
build(
    "--board that is not known",
    "compile",
    ["--model=m.tflite", "--out=out", "--board=nano33"],
    "unknown board 'nano33'",
    "did you mean 'nano33ble'?",
)
build(
    "--board that runs no firmware", "compile", ["--model=m.tflite", "--out=out", "--board=host"], "board 'host'", "microcontroller boards"
)
build(
    "--board of bench: the second is not known",
    "bench",
    ["--model=m.tflite", "--out=out", "--board=nano33ble", "--board=x"],
    "unknown board 'x'",
    "known: ",
)
build("--name that is no C name", "compile", ["--model=m.tflite", "--out=out", "--name=9 lives"], "'9 lives'", "letters")
build(
    "--compiler_level that is no level", "compile", ["--model=m.tflite", "--out=out", "--compiler_level=-O9"], "-O9", "expected one of -O0"
)
out("--out that is a file", "compile", "taken")
out("--out below a file", "compile", "taken/out")
out("--out of bench that is a file", "bench", "taken")
build("--compare with a folder that is not there", "bench", ["--model=m.tflite", "--compare=nowhere"], "nowhere", "expected report.json")
compare("a damaged report", "{", "", "expected report.json")
compare("a report of other things", '{"ram": {}, "flash": {}}', "a,b\n1,2\n", "is not what")
compare("a report of text", '{"ram": {"total": "much"}, "flash": {}}', "name,instructions\na,2\n", "is not what")
build(
    "--json that is a folder",
    "profile",
    ["--model=m.tflite", "--json=sub"],
    "--json sub",
    "expected the name of a file",
    prepare=lambda folder: (folder / "sub").mkdir(),
)
build(
    "--json in a folder that is not there",
    "profile",
    ["--model=m.tflite", "--json=sub/p.json"],
    "--json sub/p.json",
    "there is no folder sub; make it first",
)
for program, name in (("compile", ""), ("bench", ", for bench")):
    build(
        f"a network too large for the board's RAM{name}",
        program,
        ["--model=m.tflite", "--out=out", "--board=nucleo_f401re"],
        "RAM: ",
        "nucleo_f401re has 98,304",
        "bytes too many",
        content=lambda: good(500, 4),
        code=3,
        details=True,
        why="bad input it is not: it does not fit",
    )


def earlier(folder: Path) -> None:
    """An earlier result, of which no byte may change."""
    for name in ("report.json", "layers.csv", "firmware.elf", "engine/m.c"):
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_text("{}")


build(
    "a damaged file beside an earlier result",
    "compile",
    ["--model=m.tflite", "--out=out"],
    "m.tflite",
    "damaged or truncated",
    prepare=earlier,
    content=truncated(0.5),
)
build(
    "a compiler that is not installed, beside an earlier result",
    "compile",
    ["--model=m.tflite", "--out=out", "--toolchain=gcc"],
    "toolchain 'gcc': arm-none-eabi-gcc is not on the PATH",
    "install it: ",
    prepare=earlier,
    environment={"PATH": "/nonexistent"},
)
build(
    "--board of bench that is not known, beside an earlier result",
    "bench",
    ["--model=m.tflite", "--out=out", "--board=nano33bel"],
    "unknown board 'nano33bel'",
    "did you mean 'nano33ble'?",
    prepare=earlier,
)
