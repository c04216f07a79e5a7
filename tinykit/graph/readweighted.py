"""Readers of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import build, ir, windows
from tinykit.graph.flatfile import FlatOp
from tinykit.graph.readcontext import SAME, VALID, Context

MAX_WEIGHTS = 1 << 24  # of a whole network, counted for each operator that reads them


def window_options(c: Context, op: FlatOp) -> tuple[int, tuple[int, int]]:
    """(padding kind, stride) of a convolution or a pool."""
    padding, stride = c.option(op, "Padding"), (c.option(op, "StrideH"), c.option(op, "StrideW"))
    if padding not in (SAME, VALID):
        raise ModelError(f"{op}: padding {padding}, expected 0 (SAME) or 1 (VALID)")
    if not all(1 <= s <= 1 << 15 for s in stride):
        raise ModelError(f"{op}: stride {stride}, expected 1 or more")
    return padding, stride


def explicit_padding(
    c: Context,
    op: FlatOp,
    x: ir.Tensor,
    y: ir.Tensor,
    padding: int,
    geometry: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    channels: int,
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) for (window, stride, dilation); refuses an output shape that does not follow from it."""
    window, stride, dilation = geometry
    size = (x.shape[0], x.shape[1])
    pads = windows.same_padding_2d(size, window, stride, dilation) if padding == SAME else (0, 0, 0, 0)
    c.expect_shape(op, y, (*windows.output_size_2d(size, window, stride, dilation, pads), channels))
    return pads


def image_input(c: Context, op: FlatOp) -> ir.Tensor:
    """Input 0 as (height, width, channels)."""
    x = c.input(op)
    if len(x.shape) != 3:
        raise ModelError(f"{op}: input {x.name!r} has shape {list(x.shape)} a sample, expected height, width, channels")
    return x


def _weights(c: Context, op: FlatOp, rank: int) -> tuple[np.ndarray, int]:
    """(int8 weights, bits). Symmetric only."""
    t = c.operand(op, 1)
    if t.type not in {"INT8", "INT4"}:
        raise ModelError(f"{op}: weights {t} are {t.type}, expected INT8 or INT4")
    if len(t.shape) != rank or 0 in t.shape:
        raise ModelError(f"{op}: weights {t} have shape {list(t.shape)}, expected {rank} axes")
    if t.zero_point.any():
        raise ModelError(f"{op}: weights {t} have zero points other than 0; only symmetric weights are supported")
    c.weights += math.prod(t.shape)
    if c.weights > MAX_WEIGHTS:
        raise ModelError(f"{op}: with weights {t} there are {c.weights} in all; at most {MAX_WEIGHTS} are read, no board holds more")
    return c.values(t).astype(np.int8, copy=False), c.bits.get(t.index, 4 if t.type == "INT4" else 8)


def _weight_scale(c: Context, op: FlatOp, out: int, axis: int) -> np.ndarray:
    t = c.operand(op, 1)
    n = len(t.scale)
    if n not in {1, out}:
        raise ModelError(f"{op}: weights {t} have {n} scales, expected 1 or {out}")
    if n > 1 and t.axis != axis:
        raise ModelError(f"{op}: weights {t} are quantised along axis {t.axis}, expected {axis}")
    if not np.isfinite(t.scale).all() or (t.scale < 0).any():
        raise ModelError(f"{op}: weights {t} have a scale that is negative or not finite")
    return t.scale.astype(np.float32)


def _bias(c: Context, op: FlatOp, out: int) -> np.ndarray:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(out, np.int32)
    t = c.operand(op, 2)
    if t.type != "INT32":
        raise ModelError(f"{op}: bias {t} is {t.type}, expected INT32")
    values = c.values(t).reshape(-1)
    if len(values) != out:
        raise ModelError(f"{op}: bias {t} has {len(values)} elements, expected {out}")
    return values.astype(np.int32)


def _dilation(c: Context, op: FlatOp) -> tuple[int, int]:
    dilation = (c.option(op, "DilationHFactor"), c.option(op, "DilationWFactor"))
    if not all(1 <= d <= 1 << 15 for d in dilation):
        raise ModelError(f"{op}: dilation {dilation}")
    return dilation


def _window(c: Context, op: FlatOp, x: ir.Tensor, y: ir.Tensor, window: tuple[int, int], out: int) -> dict[str, Any]:
    """Stride, dilation and padding of a convolution with `out` output channels, as an op's fields."""
    padding, stride = window_options(c, op)
    dilation = _dilation(c, op)
    pads = explicit_padding(c, op, x, y, padding, (window, stride, dilation), out)
    return {"stride": stride, "dilation": dilation, "padding": pads}


def _fields(
    c: Context, op: FlatOp, x: ir.Tensor, y: ir.Tensor, weights: tuple[np.ndarray, int], out: int, axis: int = 0
) -> tuple[Any, ...]:
    """The fields of an `ir.Weighted` op from its weights on; `axis`: of the weights in the file, along which they have scales."""
    scale = _weight_scale(c, op, out, axis)
    multiplier, shift = build.weight_multipliers(x, scale, y, out)
    low, high = build.clamp_range(y, c.activation(op))
    return (weights[0], _bias(c, op, out), multiplier, shift, scale, low, high, weights[1])


def conv_2d(c: Context, op: FlatOp) -> None:
    """weights [out, kh, kw, in]."""
    x, y = image_input(c, op), c.output(op)
    weights, bits = _weights(c, op, 4)
    out, kh, kw, channels = weights.shape
    if channels != x.channels:
        raise ModelError(
            f"{op}: weights for {channels} input channels, input {x.name!r} has {x.channels} (grouped convolution is not supported)"
        )
    window = _window(c, op, x, y, (kh, kw), out)
    fields = _fields(c, op, x, y, (weights, bits), out)
    c.graph.ops.append(ir.Conv2D(c.op_name(op), (x.name,), y.name, *fields, **window))


def depthwise_conv_2d(c: Context, op: FlatOp) -> None:
    """weights [1, kh, kw, in * multiplier]. The multiplier follows from the shapes, as TFLM takes it."""
    x, y = image_input(c, op), c.output(op)
    weights, bits = _weights(c, op, 4)
    one, kh, kw, out = weights.shape
    if one != 1 or out % x.channels:
        raise ModelError(f"{op}: weights of shape {list(weights.shape)} do not fit {x.channels} input channels")
    window = {**_window(c, op, x, y, (kh, kw), out), "depth_multiplier": out // x.channels}
    fields = _fields(c, op, x, y, (weights[0], bits), out, 3)
    c.graph.ops.append(ir.DepthwiseConv2D(c.op_name(op), (x.name,), y.name, *fields, **window))


def fully_connected(c: Context, op: FlatOp) -> None:
    """weights [out, in]. On a sample of several axes whose last one is `in` it acts on each position: a 1x1 convolution."""
    x, y = c.input(op), c.output(op)
    weights, bits = _weights(c, op, 2)
    out, count = weights.shape
    if c.option(op, "WeightsFormat"):
        raise ModelError(f"{op}: shuffled weights are not supported")
    fields = _fields(c, op, x, y, (weights, bits), out)
    if x.size == count:
        if y.size != out:
            raise ModelError(f"{op}: output {y.name!r} has shape {list(y.shape)} a sample, expected {out} elements")
        c.graph.ops.append(ir.FullyConnected(c.op_name(op), (x.name,), y.name, *fields))
        return
    if len(x.shape) < 2 or x.channels != count or y.channels != out or x.size // count != y.size // out:
        raise ModelError(f"{op}: weights of shape {list(weights.shape)} do not fit a sample of shape {list(x.shape)}")
    _pointwise(c, op, x, y, (weights.reshape(out, 1, 1, count), *fields[1:]))


def _pointwise(c: Context, op: FlatOp, x: ir.Tensor, y: ir.Tensor, rest: tuple) -> None:
    """A convolution on (rows, columns, channels), between reshapes where the sample has another rank."""
    name, source, target = c.op_name(op), x.name, y.name
    rows = x.shape[0] if len(x.shape) == 3 else 1
    columns = x.size // x.channels // rows
    if len(x.shape) != 3:
        source = c.fresh(f"{x.name}_image")
        c.graph.tensors[source] = ir.Tensor(source, (rows, columns, x.channels), x.scale, x.zero_point)
        c.graph.ops.append(ir.Reshape(f"{name}_before", (x.name,), source))
    if y.shape != (rows, columns, y.channels):
        target = c.fresh(f"{y.name}_image")
        c.graph.tensors[target] = ir.Tensor(target, (rows, columns, y.channels), y.scale, y.zero_point)
    c.graph.ops.append(ir.Conv2D(name, (source,), target, *rest))
    if target != y.name:
        c.graph.ops.append(ir.Reshape(f"{name}_after", (target,), y.name))
