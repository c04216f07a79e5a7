"""Readers of the element-wise operators, of pooling, MEAN, SOFTMAX and the conversions between number formats."""

from __future__ import annotations

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import build, ir
from tinykit.graph.flatfile import FlatOp
from tinykit.graph.readcontext import Context
from tinykit.graph.readweighted import explicit_padding, image_input, window_options


def _pair(c: Context, op: FlatOp) -> tuple[ir.Tensor, ir.Tensor, ir.Tensor]:
    y = c.output(op)
    a, b = c.broadcast_input(op, 0, len(y.shape)), c.broadcast_input(op, 1, len(y.shape))
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ModelError(f"{op}: shapes {list(a.shape)} and {list(b.shape)} do not broadcast") from None
    c.expect_shape(op, y, tuple(shape))
    return a, b, y


def add_sub(c: Context, op: FlatOp) -> None:
    """ADD and SUB."""
    a, b, y = _pair(c, op)
    multipliers, shifts = build.binary_parameters(a, b, y)
    low, high = build.clamp_range(y, c.activation(op))
    make = ir.Add if op.kind == "ADD" else ir.Sub
    c.graph.ops.append(make(c.op_name(op), (a.name, b.name), y.name, multipliers, shifts, low, high))


def mul(c: Context, op: FlatOp) -> None:
    """MUL."""
    a, b, y = _pair(c, op)
    multiplier, shift = build.mul_parameters(a, b, y)
    low, high = build.clamp_range(y, c.activation(op))
    c.graph.ops.append(ir.Mul(c.op_name(op), (a.name, b.name), y.name, multiplier, shift, low, high))


def extremum(c: Context, op: FlatOp) -> None:
    """MINIMUM and MAXIMUM."""
    a, b, y = _pair(c, op)
    c.expect_same_quantization(op, a, b, y)
    make = ir.Minimum if op.kind == "MINIMUM" else ir.Maximum
    c.graph.ops.append(make(c.op_name(op), (a.name, b.name), y.name))


def pool(c: Context, op: FlatOp) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    x, y = image_input(c, op), c.output(op)
    window = (c.option(op, "FilterHeight"), c.option(op, "FilterWidth"))
    if not all(1 <= w <= 1 << 15 for w in window):
        raise ModelError(f"{op}: window {window}")
    padding, stride = window_options(c, op)
    pads = explicit_padding(c, op, x, y, padding, (window, stride, (1, 1)), x.channels)
    c.expect_same_quantization(op, x, y)
    low, high = build.clamp_range(y, c.activation(op))
    make = ir.AveragePool if op.kind == "AVERAGE_POOL_2D" else ir.MaxPool
    c.graph.ops.append(make(c.op_name(op), (x.name,), y.name, window, stride, pads, low, high))


def mean(c: Context, op: FlatOp) -> None:
    """MEAN over axes of the sample."""
    x, y = c.input(op), c.output(op)
    axes = tuple(sorted({c.axis(op, a, len(x.shape)) for a in c.integers(op, 1)}))
    if not axes:
        raise ModelError(f"{op}: no axis to reduce")
    keep = bool(c.option(op, "KeepDims"))
    kept = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    c.expect_shape(op, y, tuple(kept))
    multiplier, shift = build.mean_parameters(x, y, int(np.prod([x.shape[a] for a in axes])))
    c.graph.ops.append(ir.Mean(c.op_name(op), (x.name,), y.name, axes, keep, multiplier, shift))


def softmax(c: Context, op: FlatOp) -> None:
    """SOFTMAX over the last axis."""
    x, y = c.input(op), c.output(op)
    c.expect_shape(op, y, x.shape)
    if not x.shape:
        raise ModelError(f"{op}: a softmax over the batch is not supported")
    build.expect_fixed_output(str(op), y, "softmax")
    beta = c.number(op, "Beta")
    multiplier, shift, diff_min = build.softmax_parameters(x, beta)
    c.graph.ops.append(ir.Softmax(c.op_name(op), (x.name,), y.name, multiplier, shift, diff_min, beta))


def function(c: Context, op: FlatOp) -> None:
    """LOGISTIC, TANH, HARD_SWISH, LEAKY_RELU and the ReLU family become a table."""
    x, y, name = c.input(op), c.output(op), op.kind.lower()
    c.expect_shape(op, y, x.shape)
    build.expect_fixed_output(str(op), y, name)
    if op.kind == "RELU6":
        c.expect_same_quantization(op, x, y)  # TFLM's kernel ignores the output's scale
    alpha = float(c.number(op, "Alpha")) if op.kind == "LEAKY_RELU" else 0.0
    c.graph.ops.append(ir.Table(c.op_name(op), (x.name,), y.name, name, build.function_table(name, x, y, alpha), alpha))


def quantize(c: Context, op: FlatOp) -> None:
    """QUANTIZE: float32 to int8, or int8 to int8 of another scale."""
    x, y = c.input(op, 0, ("FLOAT32", "INT8")), c.output(op)
    c.expect_shape(op, y, x.shape)
    if x.dtype == ir.Dtype.FLOAT:
        c.graph.ops.append(ir.Quantize(c.op_name(op), (x.name,), y.name))
        return
    multiplier, shift = build.requantize_parameters(x, y)
    c.graph.ops.append(ir.Requantize(c.op_name(op), (x.name,), y.name, multiplier, shift))


def dequantize(c: Context, op: FlatOp) -> None:
    """DEQUANTIZE: int8 to float32."""
    x, y = c.input(op), c.output(op, ("FLOAT32",))
    c.expect_shape(op, y, x.shape)
    c.graph.ops.append(ir.Dequantize(c.op_name(op), (x.name,), y.name))


def argmax(c: Context, op: FlatOp) -> None:
    """ARG_MAX along one axis of the sample, to int32."""
    x, y = c.input(op), c.output(op, ("INT32",))
    axes = c.integers(op, 1)
    if len(axes) != 1:
        raise ModelError(f"{op}: {len(axes)} axes, expected 1")
    axis = c.axis(op, axes[0], len(x.shape))
    c.expect_shape(op, y, x.shape[:axis] + x.shape[axis + 1 :])
    c.graph.ops.append(ir.ArgMax(c.op_name(op), (x.name,), y.name, axis))
