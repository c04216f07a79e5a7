"""Ops that change no byte, and ops that nobody reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import fixedpoint as fp
from tinykit.graph import ir
from tinykit.graph.passes.ranges import Ranges

_MOST_VALUES = 1 << 16  # a function of one integer is compared with the identity value by value, up to a 16-bit range


def remove_noops(graph: ir.Graph, ranges: Ranges) -> bool:
    """Bypasses ops whose output has the bytes of an input, merges reshapes, drops dead ops. Changes `graph`; True where it did.

    `ranges` says which values reach an op: a requantisation or a table need only be the identity on these."""
    changed = _remove_dead(graph)
    while any(_simplify_op(graph, op, ranges) for op in graph.ops):
        changed = True
    return _remove_dead(graph) or changed


def _remove_dead(graph: ir.Graph) -> bool:
    live, ops = set(graph.outputs), []
    for op in reversed(graph.ops):
        if op.output in live:
            live.update(op.inputs)
            ops.append(op)
    changed = len(ops) < len(graph.ops)
    live.update(graph.inputs)
    graph.ops = ops[::-1]
    graph.tensors = {name: t for name, t in graph.tensors.items() if name in live}
    graph.constants = {name: data for name, data in graph.constants.items() if name in live}
    return changed


def _simplify_op(graph: ir.Graph, op: ir.Op, ranges: Ranges) -> bool:
    """One change at `op`, if there is one to make."""
    if isinstance(op, ir.Reshape):
        producer = graph.producer(op.inputs[0])
        if isinstance(producer, ir.Reshape):
            op.inputs = producer.inputs
            return True
    test = _SAME_BYTES.get(op.kind)
    if test is None:
        return False
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    same_meaning = dataclasses.replace(x, name=y.name, shape=y.shape) == y
    if not same_meaning or x.size != y.size or not test(graph, op, ranges):
        return False
    if x.shape == y.shape:
        return _bypass(graph, op)
    if isinstance(op, ir.Reshape):
        return False
    relayout = ir.Reshape(op.name, op.inputs[:1], op.output)
    graph.ops = [relayout if other is op else other for other in graph.ops]
    return True


def _bypass(graph: ir.Graph, op: ir.Op) -> bool:
    """Drops `op`: its readers read its input. A graph output keeps its name, so there the input's producer takes the name over."""
    x, y = op.inputs[0], op.output
    if y not in graph.outputs:
        old, new = y, x
    elif x in graph.outputs or graph.producer(x) is None:
        return False
    else:
        old, new = x, y
    graph.ops = [other for other in graph.ops if other is not op]
    for other in graph.ops:
        other.inputs = tuple(new if t == old else t for t in other.inputs)
        other.output = new if other.output == old else other.output
    del graph.tensors[old]
    return True


def _always(graph: ir.Graph, op: ir.Op, ranges: Ranges) -> bool:
    return True


def _transpose(graph: ir.Graph, op: ir.Transpose, ranges: Ranges) -> bool:
    """Moving axes of length 1 about moves no byte."""
    shape = graph.tensors[op.inputs[0]].shape
    moved = [axis for axis in op.permutation if shape[axis] > 1]
    return moved == sorted(moved)


def _pad(graph: ir.Graph, op: ir.Pad, ranges: Ranges) -> bool:
    return not any(before or after for before, after in op.amounts)


def _concat(graph: ir.Graph, op: ir.Concat, ranges: Ranges) -> bool:
    return len(op.inputs) == 1


def _strided_slice(graph: ir.Graph, op: ir.StridedSlice, ranges: Ranges) -> bool:
    """Of as many elements as there were: backwards is the only way to move them."""
    shape = graph.tensors[op.inputs[0]].shape
    return all(step > 0 or length == 1 for step, length in zip(op.step, shape))


def _pool(graph: ir.Graph, op: ir.Pool, ranges: Ranges) -> bool:
    """Windows of one element, and no clamp that bites."""
    x = graph.tensors[op.inputs[0]]
    values = ranges.get(x.name)
    if values is None or int(values.low.min()) < op.act_min or int(values.high.max()) > op.act_max:
        return False
    if op.window == (1, 1):
        return op.stride == (1, 1) and not any(op.padding)
    top, _, left, _ = op.padding
    return x.shape[:2] == (1, 1) and top < op.window[0] and left < op.window[1]


def _mean(graph: ir.Graph, op: ir.Mean, ranges: Ranges) -> bool:
    shape = graph.tensors[op.inputs[0]].shape
    return math.prod(shape[a] for a in op.axes) == 1 and _requantize(graph, op, ranges)


def _requantize(graph: ir.Graph, op: ir.Requantize | ir.Mean, ranges: Ranges) -> bool:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]

    def function(values: np.ndarray) -> np.ndarray:
        scaled = fp.multiply_by_quantized_multiplier(values - x.zero_point, op.multiplier, op.shift, op.rounding)
        return np.clip(scaled + y.zero_point, y.low, y.high)

    return _is_identity(function, ranges, x.name)


def _table(graph: ir.Graph, op: ir.Table, ranges: Ranges) -> bool:
    return _is_identity(lambda values: op.table.astype(np.int64)[values + 128], ranges, op.inputs[0])


def _is_identity(function: Callable[[np.ndarray], np.ndarray], ranges: Ranges, tensor: str) -> bool:
    """Compares every value that the tensor can hold with what the function makes of it."""
    if tensor not in ranges:
        return False
    low, high = int(ranges[tensor].low.min()), int(ranges[tensor].high.max())
    if high - low >= _MOST_VALUES:
        return False
    values = np.arange(low, high + 1, dtype=np.int64)
    try:
        return bool((function(values) == values).all())
    except ModelError:  # the multiplier overflows for a value that never comes in practice: not ours to decide
        return False


_SAME_BYTES: dict[str, Callable[..., bool]] = {
    "reshape": _always,
    "transpose": _transpose,
    "pad": _pad,
    "concat": _concat,
    "strided_slice": _strided_slice,
    "average_pool": _pool,
    "max_pool": _pool,
    "mean": _mean,
    "requantize": _requantize,
    "table": _table,
}
