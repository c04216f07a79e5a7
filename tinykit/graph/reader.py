"""Reads a .tflite, made by anybody's converter, into the integer graph. What cannot be represented exactly is refused, with every offender
listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinykit.errors import ModelError
from tinykit.graph import flatfile, ir, readelementwise, readshape, readweighted
from tinykit.graph.flatfile import FlatOp
from tinykit.graph.readcontext import Context

READERS: dict[str, Callable[[Context, FlatOp], None]] = {
    "CONV_2D": readweighted.conv_2d,
    "DEPTHWISE_CONV_2D": readweighted.depthwise_conv_2d,
    "FULLY_CONNECTED": readweighted.fully_connected,
    "ADD": readelementwise.add_sub,
    "SUB": readelementwise.add_sub,
    "MUL": readelementwise.mul,
    "MINIMUM": readelementwise.extremum,
    "MAXIMUM": readelementwise.extremum,
    "AVERAGE_POOL_2D": readelementwise.pool,
    "MAX_POOL_2D": readelementwise.pool,
    "MEAN": readelementwise.mean,
    "SOFTMAX": readelementwise.softmax,
    "LOGISTIC": readelementwise.function,
    "TANH": readelementwise.function,
    "HARD_SWISH": readelementwise.function,
    "LEAKY_RELU": readelementwise.function,
    "RELU": readelementwise.function,
    "RELU6": readelementwise.function,
    "RELU_N1_TO_1": readelementwise.function,
    "QUANTIZE": readelementwise.quantize,
    "DEQUANTIZE": readelementwise.dequantize,
    "ARG_MAX": readelementwise.argmax,
    "CONCATENATION": readshape.concatenation,
    "RESHAPE": readshape.reshape,
    "SQUEEZE": readshape.reshape,
    "EXPAND_DIMS": readshape.reshape,
    "TRANSPOSE": readshape.transpose,
    "PAD": readshape.pad,
    "PADV2": readshape.pad,
    "STRIDED_SLICE": readshape.strided_slice,
}


def read_tflite(data: bytes | Path, name: str | None = None) -> ir.Graph:
    """The integer graph of a .tflite.

    Args:
        data: the file's bytes, or its path. At most 256 MiB.
        name: the graph's name; the file's stem or "model" by default.

    Returns:
        A validated graph. Tensors keep the file's names (made unique); shapes leave the batch of 1 out; SAME padding is explicit.

    Raises:
        ModelError: no .tflite, damaged, or with operators, types or shapes that cannot be represented; all of them are listed.
    """
    label = name or (data.stem if isinstance(data, Path) else "model")
    flat = flatfile.parse(flatfile.load(data, label), label)
    context, problems = Context(flat, label), []
    try:
        context.graph.inputs = tuple(_graph_input(context, i) for i in flat.inputs)
    except ModelError as error:
        problems += error.problems
    for op in flat.ops:
        try:
            _read(context, op)
        except ModelError as error:
            problems += [p if str(op) in p else f"{op}: {p}" for p in error.problems]
    if not problems:
        problems += list(context.unresolved())
    if any("is not supported" in p for p in problems):
        problems.append(f"supported operators are {', '.join(sorted(READERS))}")
    if problems:
        raise ModelError([f"{label}: {p}" for p in dict.fromkeys(problems)])
    context.graph.outputs = tuple(flat.names[i] for i in flat.outputs)
    context.graph.validate()
    return context.graph


def _graph_input(context: Context, index: int) -> str:
    return context.tensor(context.checked(context.flat.tensors[index]), ("INT8", "FLOAT32")).name


def _read(context: Context, op: FlatOp) -> None:
    if readshape.fold(context, op):
        return
    read = READERS.get(op.kind)
    if read is None:
        raise ModelError(f"{op} is not supported")
    read(context, op)
