"""Reads a .tflite, made by anybody's converter, into the integer graph. What cannot be represented exactly is refused, with every offender
listed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tinykit.errors import ModelError
from tinykit.graph import flatfile, ir, lut, readelementwise, readshape, readweighted
from tinykit.graph.flatfile import FlatOp
from tinykit.graph.readcontext import Context

MAX_ACTIVATION = 1 << 21  # elements of one activation: twice the RAM of the largest board
MAX_ACTIVATIONS = 1 << 23  # of all of them

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
    flatfile.DECODE: lut.read,
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
    _expect_integers(flat, label)
    context, problems = Context(flat, label), _Problems()
    try:
        context.graph.inputs = tuple(_graph_input(context, i) for i in flat.inputs)
    except ModelError as error:
        problems.add(error, "")
    for op in flat.ops:
        try:
            _read(context, op)
        except ModelError as error:
            problems.add(error, str(op))
    found = problems.found or list(context.unresolved())
    if found:
        hint = [f"  supported operators are {', '.join(sorted(READERS))}"] if any(p.endswith(" is not supported") for p in found) else []
        raise ModelError([f"{label}: {p}" for p in dict.fromkeys(found)] + hint)
    _expect_moderate(context)
    context.graph.outputs = tuple(flat.names[i] for i in flat.outputs)
    context.graph.validate()
    return context.graph


class _Problems:
    """What is wrong with a file. A bad tensor is told once, though several operators may use it."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._tensors: set[str] = set()

    def add(self, error: ModelError, op: str) -> None:
        """Adds the problems that reading `op` ("" for the graph's inputs) found."""
        for problem in error.problems:
            about = re.match(r"tensor (\d+) ", problem)
            if about is None:
                self.found.append(problem if op in problem else f"{op}: {problem}")
            elif about[1] not in self._tensors:
                self._tensors.add(about[1])
                self.found.append(f"{op}: {problem}" if op else problem)


def _expect_integers(flat: flatfile.FlatModel, label: str) -> None:
    """Refuses a model that was never quantised in one line, instead of one for each of its operators."""
    if flat.ops and all(t.type.startswith("FLOAT") or t.type in ("INT32", "INT64", "BOOL") for t in flat.tensors):
        raise ModelError(
            f"{label}: a {flat.tensors[flat.inputs[0]].type} model: none of its {len(flat.tensors)} tensors holds 8-bit integers; convert "
            "the model with full integer quantisation (int8)"
        )


def _expect_moderate(context: Context) -> None:
    """Refuses activations that no microcontroller could hold, because planning them takes a hundred bytes an element."""
    graph, label = context.graph, context.graph.name
    sizes = {t.name: t.size for t in graph.activations()}
    problems = [
        f"{label}: tensor {name!r} has {size} elements; at most {MAX_ACTIVATION} are read, no board holds more"
        for name, size in sizes.items()
        if size > MAX_ACTIVATION
    ]
    total = sum(sizes.values())
    if not problems and total > MAX_ACTIVATIONS:
        problems = [f"{label}: its activations have {total} elements in all; at most {MAX_ACTIVATIONS} are read"]
    if problems:
        raise ModelError(problems)


def _graph_input(context: Context, index: int) -> str:
    return context.tensor(context.checked(context.flat.tensors[index]), ("INT8", "FLOAT32")).name


def _read(context: Context, op: FlatOp) -> None:
    if readshape.fold(context, op):
        return
    read = READERS.get(op.kind)
    if read is None:
        raise ModelError(f"{op} is not supported")
    read(context, op)
