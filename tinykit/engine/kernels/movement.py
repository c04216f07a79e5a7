"""Operations that move elements: transpose, strided slice, concatenation, padding.

Every one writes its output byte by byte (a packed one element by element) in order, or in reverse order, each byte from at most one byte
of an input. Where each comes from is found by running the operation on the inputs' element numbers, so that the access is true by
construction.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function, Place, Table
from tinykit.engine.kernels.common import (
    IN,
    OUT,
    collapse,
    expect_copies,
    expect_int8,
    expect_range,
    indented,
    integers,
    nest,
    row_major,
)  # fmt: skip
from tinykit.engine.memory import is_packed
from tinykit.engine.packing import packed_call, same_codes
from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.plan.problem import Access


def _numbers(graph: ir.Graph, tensor: str) -> np.ndarray:
    t = graph.tensors[tensor]
    return np.arange(t.size, dtype=np.int64).reshape(t.shape)


def _width(graph: ir.Graph, op: ir.Op) -> int:
    """Bytes of an element, the same in all operands; elements of fewer than 8 bits and bytes go together."""
    expect_copies(graph, op)
    widths = {access.element_bytes(graph.tensors[t]) for t in (*op.inputs, op.output)}
    if len(widths) > 1:
        raise ModelError(f"op {op.name!r}: operands of {sorted(widths)} bytes an element")
    return widths.pop()


def _expect_shape(graph: ir.Graph, op: ir.Op, source: np.ndarray) -> None:
    if source.size != graph.tensors[op.output].size:
        raise ModelError(f"op {op.name!r}: the result has shape {list(source.shape)}, {op.output!r} {list(graph.tensors[op.output].shape)}")


def _operand(graph: ir.Graph, op: ir.Op, tensor: str) -> Argument:
    """An activation, or the bytes of a constant."""
    if tensor not in graph.constants:
        return Place(tensor)
    t = graph.tensors[tensor]
    dtype = np.float32 if t.dtype == ir.Dtype.FLOAT else {1: np.int8, 2: np.int16, 4: np.int32}[access.element_bytes(t)]
    values = graph.constants[tensor].astype(dtype)
    if not np.array_equal(values, graph.constants[tensor]):
        raise ModelError(f"op {op.name!r}: constant {tensor!r} does not fit {dtype.__name__}")
    return Table("c", np.frombuffer(values.astype(values.dtype.newbyteorder("<")).tobytes(), np.int8))


# ---------------------------------------------------------------- transpose and slice


def _slices(op: ir.StridedSlice) -> tuple[slice, ...]:
    return tuple(slice(b, e if e >= 0 else None, s) for b, e, s in zip(op.begin, op.end, op.step))


def _view(graph: ir.Graph, op: ir.Transpose | ir.StridedSlice) -> np.ndarray:
    """The input's element numbers as the output sees them."""
    numbers = _numbers(graph, op.inputs[0])
    source = numbers.transpose(op.permutation) if isinstance(op, ir.Transpose) else numbers[_slices(op)]
    _expect_shape(graph, op, source)
    return source


def view_access(graph: ir.Graph, op: ir.Transpose | ir.StridedSlice) -> Access:
    """Element by element."""
    return access.copied(graph, op, {op.inputs[0]: _view(graph, op)})


def view_call(graph: ir.Graph, op: ir.Transpose | ir.StridedSlice, reverse: bool) -> Call:
    """out[k] = in[i], where i walks along the output's axes in the strides of the view."""
    view, width = _view(graph, op), _width(graph, op)
    strides = [s // view.itemsize * width for s in view.strides]
    shape = (*view.shape, width)
    sizes, walks = collapse(shape, {"i": [*strides, 1], "k": row_major(shape)})
    loops = nest(sizes, walks, reverse)
    begin = int(view.flat[0]) * width
    # the walk starts at the view's first element, wherever that lies in the input
    first = loops.values["i_first"]
    values: dict[str, Argument] = {**loops.values, "i_first": begin + (first if isinstance(first, int) else 0)}
    body = indented("out[k] = in[i];", len(sizes) + 1)
    # volatile: compilers turn the strided loop into words put together from single bytes, ten times the code
    out = OUT if is_packed(graph.tensors[op.output]) else "volatile int8_t *"
    function = Function(
        "copy" if len(sizes) == 1 else f"copy_{len(sizes)}d",
        ((IN, "in"), (out, "out"), *loops.parameters),
        loops.text.replace("@BODY@", body),
    )
    call = Call(function, {"in": _operand(graph, op, op.inputs[0]), "out": Place(op.output), **values})
    return packed_call(graph, op, call, {"in": op.inputs[0], "out": op.output}, same_codes(graph, op))


# ---------------------------------------------------------------- concatenation


def concat_access(graph: ir.Graph, op: ir.Concat) -> Access:
    """Element by element."""
    parts = [_numbers(graph, t) for t in op.inputs]
    sources: dict[str, np.ndarray] = {}
    for i, tensor in enumerate(op.inputs):
        alone = [part if j == i else np.full_like(part, -1) for j, part in enumerate(parts)]
        source = np.concatenate(alone, axis=op.axis)
        _expect_shape(graph, op, source)
        # a tensor that is joined to itself is read at either place
        sources[tensor] = np.maximum(sources[tensor], source) if tensor in sources else source
    return access.copied(graph, op, sources)


def concat_call(graph: ir.Graph, op: ir.Concat, reverse: bool) -> Call:
    """A run of each input in turn; in reverse from the last input's last byte."""
    width = _width(graph, op)
    inputs = op.inputs[::-1] if reverse else op.inputs
    places: dict[str, Argument] = {f"in_{n}": _operand(graph, op, t) for n, t in enumerate(inputs)}
    values: dict[str, Argument] = {
        "outer": int(np.prod(graph.tensors[op.output].shape[: op.axis], dtype=np.int64)),
        "step": 1 - 2 * reverse,
    }
    for n, t in enumerate(inputs):
        shape = graph.tensors[t].shape
        values[f"run_{n}"] = int(np.prod(shape[op.axis :], dtype=np.int64)) * width
        values[f"first_{n}"] = graph.tensors[t].size * width - 1 if reverse else 0
    values["first"] = graph.tensors[op.output].size * width - 1 if reverse else 0
    lines = [
        "int32_t k = first, " + ", ".join(f"i{n} = first_{n}" for n in range(len(inputs))) + ";",
        "for (int32_t n = outer; n > 0; --n) {",
    ]
    for n in range(len(inputs)):
        lines += [f"    for (int32_t m = run_{n}; m > 0; --m, i{n} += step, k += step) {{", f"        out[k] = in_{n}[i{n}];", "    }"]
    function = Function(
        f"concat_{len(inputs)}",
        (*((IN, name) for name in places), (OUT, "out"), *integers(values)),
        indented("\n".join([*lines, "}"]), 1),
    )
    call = Call(function, {**places, "out": Place(op.output), **values})
    return packed_call(graph, op, call, dict(zip(places, inputs)) | {"out": op.output}, same_codes(graph, op))


# ---------------------------------------------------------------- padding


def pad_access(graph: ir.Graph, op: ir.Pad) -> Access:
    """Element by element; padding reads nothing."""
    numbers = _numbers(graph, op.inputs[0])
    source = np.pad(numbers, op.amounts, constant_values=-1) if op.amounts else numbers  # NumPy pads no scalar
    _expect_shape(graph, op, source)
    return access.copied(graph, op, {op.inputs[0]: source})


def _pad_levels(shape: tuple[int, ...], amounts: tuple[tuple[int, int], ...]) -> list[tuple[int, int, int]]:
    """(elements, before, after) of each axis, outermost first; axes that are not padded are part of the one before them."""
    levels: list[tuple[int, int, int]] = []
    for size, (before, after) in zip(shape, amounts):
        if levels and not before and not after:
            n, b, a = levels[-1]
            levels[-1] = n * size, b * size, a * size
        else:
            levels.append((size, before, after))
    return levels or [(1, 0, 0)]


def pad_call(graph: ir.Graph, op: ir.Pad, reverse: bool) -> Call:
    """Fills and copies in the order of the output."""
    expect_int8(graph, op)
    if not -128 <= op.value <= 127:
        raise ModelError(f"op {op.name!r}: {op.value} does not fit int8")
    expect_copies(graph, op)
    expect_range(graph, op, op.value, op.value)
    codes = same_codes(graph, op)
    levels = _pad_levels(graph.tensors[op.inputs[0]].shape, op.amounts)
    values: dict[str, Argument] = {"value": op.value - graph.tensors[op.output].low * codes, "step": 1 - 2 * reverse}
    values["i_first"] = graph.tensors[op.inputs[0]].size - 1 if reverse else 0
    values["k_first"] = graph.tensors[op.output].size - 1 if reverse else 0
    row, text = 1, ""
    for level, (size, before, after) in enumerate(reversed(levels)):
        ends = (after, before) if reverse else (before, after)
        values |= {f"count_{level}": size, f"before_{level}": ends[0] * row, f"after_{level}": ends[1] * row}
        row *= size + before + after
        text = _pad_level(level, text)
    function = Function(
        f"pad_{len(levels)}d",
        ((IN, "in"), (OUT, "out"), *integers(values)),
        indented("int32_t i = i_first, k = k_first;\n" + text, 1),
    )
    places: Mapping[str, Argument] = {"in": _operand(graph, op, op.inputs[0]), "out": Place(op.output)}
    return packed_call(graph, op, Call(function, {**places, **values}), {"in": op.inputs[0], "out": op.output}, codes)


def _pad_level(level: int, inner: str) -> str:
    """Fill, the axis, fill: the innermost axis copies bytes, the others hold the next level."""

    def fill(amount: str) -> str:
        return f"for (int32_t m = {amount}_{level}; m > 0; --m, k += step) {{\n    out[k] = (int8_t)value;\n}}\n"

    if level == 0:
        middle = "for (int32_t m = count_0; m > 0; --m, i += step, k += step) {\n    out[k] = in[i];\n}\n"
    else:
        middle = f"for (int32_t n{level} = count_{level}; n{level} > 0; --n{level}) {{\n{indented(inner, 1)}}}\n"
    return fill("before") + middle + fill("after")
