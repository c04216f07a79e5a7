"""Writes the integer graph as a .tflite from which TFLM's interpreter derives exactly the graph's integers."""

from __future__ import annotations

from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.writefile import File
from tinykit.graph.writeops import WRITERS

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
    "TRANSPOSE": "AddTranspose",
}


def write_tflite(graph: ir.Graph, *, keep_names: bool = False, debug_outputs: bool = False, int4: bool = True) -> bytes:
    """The graph as a .tflite (schema version 3, batch 1, buffers aligned to 16 bytes).

    Args:
        graph: a valid graph.
        keep_names: keep tensor names and full zero-point vectors, as LiteRT needs them. Without: the smallest file that TFLM runs.
        debug_outputs: make the result of every op a graph output, in the order of `graph.ops`.
        int4: write weights of at most 4 bits as INT4 (two a byte) where TFLM supports that; else as int8.

    Padding that is neither SAME nor VALID becomes a PAD in front of a convolution; a clamp that no fused activation gives becomes MAXIMUM
    and
    MINIMUM against a constant, and so do activations of fewer than 8 bits, which ride in int8 tensors.

    Raises:
        ModelError: something that the format cannot say, or an op whose integers are not those that its scales give.
    """
    outputs = [op.output for op in graph.ops] if debug_outputs else list(graph.outputs)
    return _build(graph, keep_names, int4).pack(outputs)


def op_names(graph: ir.Graph, *, int4: bool = True) -> list[str]:
    """The methods of TFLM's MicroMutableOpResolver that the written model needs, sorted, each once."""
    return sorted({RESOLVER_METHODS[kind] for kind, _ in _build(graph, False, int4).codes})


def _build(graph: ir.Graph, keep_names: bool, int4: bool) -> File:
    graph.validate()
    file, problems = File(graph, keep_names, int4), []
    for name in graph.inputs:
        file.tensor(name)
    for op in graph.ops:
        try:
            WRITERS[op.kind](file, op)
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError([f"graph {graph.name!r}: {p}" for p in dict.fromkeys(problems)])
    return file
