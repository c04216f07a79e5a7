"""Readers of the operators that move bytes, and of the integer chains that compute a shape for RESHAPE."""

from __future__ import annotations

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.flatfile import MAX_OPERANDS, FlatOp
from tinykit.graph.readcontext import Context


def concatenation(c: Context, op: FlatOp) -> None:
    """CONCATENATION along an axis of the sample."""
    y = c.output(op)
    parts = [c.input(op, i) for i in range(len(op.inputs))]
    if not parts:
        raise ModelError(f"{op}: no inputs")
    axis = c.axis(op, c.option(op, "Axis"), len(y.shape))
    if c.activation(op) != "none":
        raise ModelError(f"{op}: a fused activation is not supported here")
    c.expect_same_quantization(op, y, *parts)
    for p in parts:
        if len(p.shape) != len(y.shape) or any(a != b for i, (a, b) in enumerate(zip(p.shape, y.shape)) if i != axis):
            raise ModelError(f"{op}: {p.name!r} of shape {list(p.shape)} does not fit into {list(y.shape)} along axis {axis}")
    c.expect_shape(op, y, (*y.shape[:axis], sum(p.shape[axis] for p in parts), *y.shape[axis + 1 :]))
    c.graph.ops.append(ir.Concat(c.op_name(op), tuple(p.name for p in parts), y.name, axis))


def reshape(c: Context, op: FlatOp) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the file's own output shape counts; a known shape operand must agree with it."""
    x, y = c.input(op), c.output(op)
    if x.size != y.size:
        raise ModelError(f"{op}: {list(x.shape)} has {x.size} elements a sample, {list(y.shape)} has {y.size}")
    c.expect_same_quantization(op, x, y)
    if op.kind == "RESHAPE" and len(op.inputs) > 1:
        wanted = c.integers(op, 1)
        full = (1, *y.shape)
        if len(wanted) != len(full) or any(w not in (-1, d) for w, d in zip(wanted, full)):
            raise ModelError(f"{op}: the shape operand is {wanted}, the output has {list(full)}")
    c.graph.ops.append(ir.Reshape(c.op_name(op), (x.name,), y.name))


def transpose(c: Context, op: FlatOp) -> None:
    """TRANSPOSE that leaves the batch in front."""
    x, y = c.input(op), c.output(op)
    order = c.integers(op, 1)
    if sorted(order) != list(range(len(x.shape) + 1)):
        raise ModelError(f"{op}: {order} is no permutation of {len(x.shape) + 1} axes")
    if order[0] != 0:
        raise ModelError(f"{op}: the permutation {order} moves the batch, which is not supported")
    permutation = tuple(p - 1 for p in order[1:])
    c.expect_shape(op, y, tuple(x.shape[p] for p in permutation))
    c.expect_same_quantization(op, x, y)
    c.graph.ops.append(ir.Transpose(c.op_name(op), (x.name,), y.name, permutation))


def pad(c: Context, op: FlatOp) -> None:
    """PAD with the zero point, PADV2 with a given stored integer."""
    x, y = c.input(op), c.output(op)
    flat = c.integers(op, 1)
    if len(flat) != 2 * (len(x.shape) + 1) or not all(0 <= f <= 1 << 20 for f in flat):
        raise ModelError(f"{op}: paddings {flat} do not fit {len(x.shape) + 1} axes")
    if flat[0] or flat[1]:
        raise ModelError(f"{op}: padding of the batch is not supported")
    amounts = tuple(zip(flat[2::2], flat[3::2]))
    c.expect_shape(op, y, tuple(d + before + after for d, (before, after) in zip(x.shape, amounts)))
    c.expect_same_quantization(op, x, y)
    value = y.zero_point
    if op.kind == "PADV2":
        t = c.operand(op, 2)
        filler = c.describe(t, (), ("INT8",))
        c.expect_same_quantization(op, y, filler)
        values = c.values(t).reshape(-1)
        if len(values) != 1:
            raise ModelError(f"{op}: {len(values)} values to pad with, expected 1")
        value = int(values[0])
    c.graph.ops.append(ir.Pad(c.op_name(op), (x.name,), y.name, amounts, value))


def strided_slice(c: Context, op: FlatOp) -> None:
    """STRIDED_SLICE; dropped axes become a reshape behind it."""
    x, y = c.input(op), c.output(op)
    full = (1, *x.shape)
    begin, end, step, shrink = slice_bounds(c, op, full)
    if (begin[0], end[0], step[0], shrink[0]) != (0, 1, 1, False):
        raise ModelError(f"{op}: slicing the batch is not supported")
    c.expect_same_quantization(op, x, y)
    shape = tuple(max(-(-(e - b) // s), 0) for b, e, s in zip(begin[1:], end[1:], step[1:]))
    c.expect_shape(op, y, tuple(d for d, s in zip(shape, shrink[1:]) if not s))
    name, target = c.op_name(op), y.name
    if any(shrink):
        target = c.fresh(f"{y.name}_slice")
        c.graph.tensors[target] = ir.Tensor(target, shape, y.scale, y.zero_point)
    c.graph.ops.append(ir.StridedSlice(name, (x.name,), target, tuple(begin[1:]), tuple(end[1:]), tuple(step[1:])))
    if any(shrink):
        c.graph.ops.append(ir.Reshape(f"{name}_drop", (target,), y.name))


def slice_bounds(c: Context, op: FlatOp, shape: tuple[int, ...]) -> tuple[list[int], list[int], list[int], list[bool]]:
    """(begin, end, step, dropped) of every axis, resolved: begin within the axis, end -1 for "down to the first element"."""
    lists = [c.integers(op, i) for i in (1, 2, 3)]
    if any(len(v) != len(shape) for v in lists):
        raise ModelError(f"{op}: begin, end and strides {lists} do not fit {len(shape)} axes")
    if c.option(op, "EllipsisMask") or c.option(op, "NewAxisMask"):
        raise ModelError(f"{op}: ellipsis and new axes are not supported")
    masks = [c.option(op, f"{m}Mask") for m in ("Begin", "End", "ShrinkAxis")]
    bounds: list[tuple[int, int, int, bool]] = []
    for i, (n, b, e, s) in enumerate(zip(shape, *lists)):
        if s == 0 or n == 0:
            raise ModelError(f"{op}: axis {i} of {n} elements with stride {s}")
        drop = bool(masks[2] >> i & 1)
        lo, hi, st = slice(None if masks[0] >> i & 1 else b, None if masks[1] >> i & 1 else e, s).indices(n)
        if drop:
            lo, hi, st = (b + n if b < 0 else b), 0, 1
            if not 0 <= lo < n:
                raise ModelError(f"{op}: index {b} is outside of axis {i} of {n} elements")
            hi = lo + 1
        if (hi - lo) * st <= 0:
            raise ModelError(f"{op}: axis {i} of {n} elements, {lo}:{hi}:{st} selects nothing")
        bounds.append((lo, hi, st, drop))
    begin, end, step, shrink = (list(column) for column in zip(*bounds))
    return begin, end, step, shrink


def fold(c: Context, op: FlatOp) -> bool:
    """Evaluates SHAPE and integer arithmetic on shapes at reading time. False where the operator is something else."""
    if op.kind == "SHAPE":
        c.known[op.outputs[0]] = np.array(c.operand(op, 0).shape, np.int64)
        return True
    if op.kind in _OPEN_BATCH:
        raise ModelError(f"{op} computes a shape from an open batch; convert the model with a fixed one: keras.Input(..., batch_size=1)")
    run = _FOLD.get(op.kind)
    if run is None or c.result(op).type not in {"INT32", "INT64"}:
        return False
    value = run(c, op)
    if value.size > MAX_OPERANDS:  # each of a chain of joins may double it
        raise ModelError(f"{op} makes a shape of {value.size} integers; at most {MAX_OPERANDS} are read")
    c.known[op.outputs[0]] = value
    return True


def _fold_slice(c: Context, op: FlatOp) -> np.ndarray:
    values = np.array(c.integers(op, 0), np.int64)
    begin, end, step, shrink = slice_bounds(c, op, (len(values),))
    part = values[begin[0] : end[0] if end[0] >= 0 else None : step[0]]
    return part.reshape(()) if shrink[0] else part


def _fold_join(c: Context, op: FlatOp) -> np.ndarray:
    return np.array([v for i in range(len(op.inputs)) for v in c.integers(op, i)], np.int64)


_OPEN_BATCH = {"GATHER", "REDUCE_PROD"}  # TFLM cannot run these chains either: the shapes in the file are not the real ones
_FOLD = {"STRIDED_SLICE": _fold_slice, "PACK": _fold_join, "CONCATENATION": _fold_join}
