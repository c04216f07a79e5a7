"""Writes the integer graph as a .tflite from which TFLM's interpreter derives exactly the graph's integers."""

from __future__ import annotations

from dataclasses import dataclass

from tinykit.errors import ModelError, collected
from tinykit.graph import ir
from tinykit.graph.encodings import Choice, Encoding, choose
from tinykit.graph.flatfile import DECODE
from tinykit.graph.writefile import File, Packed
from tinykit.graph.writeops import WRITERS
from tinykit.graph.writeweighted import encodings

RESOLVER_METHODS = {
    "ADD": "AddAdd",
    "ARG_MAX": "AddArgMax",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "SOFTMAX": "AddSoftmax",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "TANH": "AddTanh",
    DECODE: "AddDecode",
    "TRANSPOSE": "AddTranspose",
}


@dataclass(frozen=True)
class Written:
    """A finished file.

    Attributes:
        tflite: its bytes.
        methods: the methods of TFLM's MicroMutableOpResolver that it needs, sorted, each once.
        encodings: how the weights of each op are written, in order.
    """

    tflite: bytes
    methods: list[str]
    encodings: list[Encoding]


def write(graph: ir.Graph, *, keep_names: bool = False, debug_outputs: bool = False, int4: bool = True, lut: bool | None = None) -> Written:
    """The graph as a .tflite (schema version 3, batch 1, buffers aligned to 16 bytes), and how its weights are encoded.

    Args:
        graph: a valid graph.
        keep_names: keep tensor names and full zero-point vectors, as LiteRT needs them. Without: the smallest file that TFLM runs.
        debug_outputs: make the result of every op a graph output, in the order of `graph.ops`.
        int4: write weights of at most 4 bits as INT4 (two a byte) where TFLM supports that and the file becomes no larger; else as int8.
        lut: write weights of at most 2 bits as indices into a table (four a byte) where that makes the file smaller. TFLM's operator
            DECODE expands them; LiteRT has none, so None stands for `not keep_names`.

    Padding that is neither SAME nor VALID becomes a PAD in front of a convolution; a clamp that no fused activation gives becomes MAXIMUM
    and MINIMUM against a constant, and so do activations of fewer than 8 bits, which ride in int8 tensors.

    Raises:
        ModelError: something that the format cannot say, or an op whose integers are not those that its scales give.
    """
    graph.validate()
    ops = [op for op in graph.ops if isinstance(op, ir.Weighted)]
    options = {op.output: encodings(op, int4, not keep_names if lut is None else lut) for op in ops}

    packed: Packed = {}

    def size(choice: Choice) -> int:
        return len(_build(graph, keep_names, choice, packed).pack(graph.outputs))

    choice, found = choose(ops, options, size)
    file = _build(graph, keep_names, choice, packed)
    outputs = [op.output for op in graph.ops] if debug_outputs else list(graph.outputs)
    return Written(file.pack(outputs), sorted({RESOLVER_METHODS[kind] for kind in file.codes}), found)


def write_tflite(
    graph: ir.Graph, *, keep_names: bool = False, debug_outputs: bool = False, int4: bool = True, lut: bool | None = None
) -> bytes:
    """The bytes of `write`, which see."""
    return write(graph, keep_names=keep_names, debug_outputs=debug_outputs, int4=int4, lut=lut).tflite


def op_names(graph: ir.Graph, *, int4: bool = True, lut: bool | None = None) -> list[str]:
    """The methods of TFLM's MicroMutableOpResolver that the written model needs, sorted, each once."""
    return write(graph, int4=int4, lut=lut).methods


def _build(graph: ir.Graph, keep_names: bool, choice: Choice, packed: Packed | None = None) -> File:
    file = File(graph, keep_names, choice, packed)
    problems: list[str] = []
    for name in graph.inputs:
        file.tensor(name)
    for op in graph.ops:
        with collected(ModelError, problems):
            WRITERS[op.kind](file, op)
    if problems:
        raise ModelError([f"graph {graph.name!r}: {p}" for p in dict.fromkeys(problems)])
    return file
