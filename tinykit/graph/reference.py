"""The reference executor: defines what an integer graph means.

NumPy only. Multiply-accumulate sums are formed by floating-point matrix products in float64, which hold integers exactly below 2^53: an
int8 network stays far below (K * 255 * 128 with K < 2^38), and everything after the sum is 64-bit integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import fixedpoint as fp
from tinykit.graph import ir

Values = dict[str, np.ndarray]


def run_all(graph: ir.Graph, x: np.ndarray | dict[str, np.ndarray]) -> Values:
    """Every tensor of the graph for a batch of inputs.

    Args:
        x: stored integers (float32 where the graph's input is float) of shape [N, *input shape]; a dict by input name for several inputs.

    Returns:
        tensor name -> int64 array [N, *shape] of stored integers (float32 for a float tensor). Constants are left out.

    Raises:
        ModelError: an input of the wrong shape or range.
    """
    values = _inputs(graph, x)
    for op in graph.ops:
        arguments = [values[t] if t in values else graph.constants[t][None].astype(np.int64) for t in op.inputs]
        values[op.output] = _EXECUTE[op.kind](graph, op, arguments)
    return values


def run(graph: ir.Graph, x: np.ndarray, batch: int = 64) -> np.ndarray:
    """The graph's first output for inputs [N, ...], in batches of bounded memory. int8 array [N, *shape] (int64 or float32 where it is not
    8-bit)."""
    name = graph.outputs[0]
    parts = [run_all(graph, x[i : i + batch])[name] for i in range(0, len(x), batch)]
    y = np.concatenate(parts)
    return y.astype(np.int8) if graph.tensors[name].bits <= 8 else y


def quantize_input(graph: ir.Graph, x: np.ndarray) -> np.ndarray:
    """Float32 samples [N, ...] -> stored integers of the graph's input: floor(x / scale + 1/2) + zero point in float64, clamped.

    Float64 because the quotient must not depend on how a compiler arranges float32 arithmetic. Returns int8 (or x where the input is
    float). Raises ModelError where a sample is NaN."""
    t = graph.tensors[graph.inputs[0]]
    if t.dtype == ir.Dtype.FLOAT:
        return x.astype(np.float32)
    samples = x.astype(np.float32)
    if np.isnan(samples).any():
        raise ModelError(f"graph {graph.name!r}: samples contain NaN, which has no integer")
    q = np.floor(samples.astype(np.float64) * (1.0 / np.float64(np.float32(t.scale))) + 0.5) + t.zero_point
    return np.clip(q, t.low, t.high).astype(np.int8)


def batches(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """x in slices of at most `size` samples."""
    for i in range(0, len(x), size):
        yield x[i : i + size]


def _inputs(graph: ir.Graph, x: np.ndarray | dict[str, np.ndarray]) -> Values:
    given = x if isinstance(x, dict) else {graph.inputs[0]: x}
    values: Values = {}
    for name in graph.inputs:
        t = graph.tensors[name]
        if name not in given or tuple(given[name].shape[1:]) != t.shape:
            got = given[name].shape if name in given else "nothing"
            raise ModelError(f"graph {graph.name!r}: input {name!r} expects [N, {', '.join(map(str, t.shape))}], got {got}")
        data = np.asarray(given[name])
        if t.dtype == ir.Dtype.FLOAT:
            values[name] = data.astype(np.float32)
            continue
        if data.dtype.kind not in "iu":
            raise ModelError(f"graph {graph.name!r}: input {name!r} expects integers, got {data.dtype}; see quantize_input")
        values[name] = data.astype(np.int64)
        if data.size and (values[name].min() < t.low or values[name].max() > t.high):
            raise ModelError(f"graph {graph.name!r}: input {name!r} must lie in {t.low}..{t.high}")
    return values


def _finish(graph: ir.Graph, op: ir.Weighted, acc: np.ndarray) -> np.ndarray:
    """Bias, requantisation, zero point, clamp of a float64 accumulator that holds integers."""
    total = acc.astype(np.int64) + op.bias.astype(np.int64)
    if total.size and (total.max() > fp.INT32_MAX or total.min() < fp.INT32_MIN):
        raise ModelError(f"op {op.name!r}: an accumulator leaves 32 bits")
    y = fp.multiply_by_quantized_multiplier(total, op.multiplier, op.shift, op.rounding)
    return np.clip(y + graph.tensors[op.output].zero_point, op.act_min, op.act_max)


def _centred(graph: ir.Graph, name: str, x: np.ndarray) -> np.ndarray:
    return x - graph.tensors[name].zero_point


def _taps(
    x: np.ndarray, op: ir.Conv2D | ir.DepthwiseConv2D, kernel: tuple[int, int], out: tuple[int, int]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """The strided input plane under each kernel tap: (row, column, [N, oh, ow, C]). x is centred, so padding is 0."""
    top, bottom, left, right = op.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (sh, sw), (dh, dw), (oh, ow) = op.stride, op.dilation, out
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield i, j, padded[:, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]


def _conv2d(graph: ir.Graph, op: ir.Conv2D, args: list[np.ndarray]) -> np.ndarray:
    x = _centred(graph, op.inputs[0], args[0]).astype(np.float64)
    w = op.weights.astype(np.float64)
    oh, ow, oc = graph.tensors[op.output].shape
    acc = np.zeros((len(x), oh, ow, oc))
    for i, j, plane in _taps(x, op, (w.shape[1], w.shape[2]), (oh, ow)):
        acc += plane @ w[:, i, j].T
    return _finish(graph, op, acc)


def _depthwise(graph: ir.Graph, op: ir.DepthwiseConv2D, args: list[np.ndarray]) -> np.ndarray:
    x = _centred(graph, op.inputs[0], args[0]).astype(np.float64)
    if op.depth_multiplier > 1:
        x = np.repeat(x, op.depth_multiplier, axis=-1)
    w = op.weights.astype(np.float64)
    oh, ow, oc = graph.tensors[op.output].shape
    acc = np.zeros((len(x), oh, ow, oc))
    for i, j, plane in _taps(x, op, (w.shape[0], w.shape[1]), (oh, ow)):
        acc += plane * w[i, j]
    return _finish(graph, op, acc)


def _fully_connected(graph: ir.Graph, op: ir.FullyConnected, args: list[np.ndarray]) -> np.ndarray:
    x = _centred(graph, op.inputs[0], args[0]).reshape(len(args[0]), -1).astype(np.float64)
    y = _finish(graph, op, x @ op.weights.T.astype(np.float64))
    return y.reshape(len(y), *graph.tensors[op.output].shape)


def _aligned(args: list[np.ndarray]) -> list[np.ndarray]:
    """Operands of one rank: axes of 1 behind the batch, so that samples broadcast and the batch stays in front."""
    rank = max(a.ndim for a in args)
    return [a.reshape(len(a), *(1,) * (rank - a.ndim), *a.shape[1:]) for a in args]


def _scaled_pair(graph: ir.Graph, op: ir.Binary, args: list[np.ndarray]) -> list[np.ndarray]:
    return [
        fp.multiply_by_quantized_multiplier(
            _centred(graph, op.inputs[i], args[i]) << op.left_shift, op.multipliers[i], op.shifts[i], op.rounding
        )
        for i in range(2)
    ]


def _binary(graph: ir.Graph, op: ir.Binary, args: list[np.ndarray]) -> np.ndarray:
    a, b = _scaled_pair(graph, op, _aligned(args))
    total = a - b if isinstance(op, ir.Sub) else a + b
    y = fp.multiply_by_quantized_multiplier(total, op.multipliers[2], op.shifts[2], op.rounding)
    return np.clip(y + graph.tensors[op.output].zero_point, op.act_min, op.act_max)


def _mul(graph: ir.Graph, op: ir.Mul, args: list[np.ndarray]) -> np.ndarray:
    a, b = _aligned(args)
    product = _centred(graph, op.inputs[0], a) * _centred(graph, op.inputs[1], b)
    y = fp.multiply_by_quantized_multiplier(product, op.multiplier, op.shift, op.rounding)
    return np.clip(y + graph.tensors[op.output].zero_point, op.act_min, op.act_max)


def _concat(graph: ir.Graph, op: ir.Concat, args: list[np.ndarray]) -> np.ndarray:
    n = max(len(a) for a in args)
    return np.concatenate([np.broadcast_to(a, (n, *a.shape[1:])) for a in args], axis=op.axis + 1)


def _windows(x: np.ndarray, op: ir.Pool, out: tuple[int, ...], fill: int) -> Iterator[np.ndarray]:
    top, bottom, left, right = op.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    (sh, sw), (oh, ow) = op.stride, out[:2]
    for i in range(op.window[0]):
        for j in range(op.window[1]):
            yield padded[:, i : i + (oh - 1) * sh + 1 : sh, j : j + (ow - 1) * sw + 1 : sw]


def _average_pool(graph: ir.Graph, op: ir.AveragePool, args: list[np.ndarray]) -> np.ndarray:
    out = graph.tensors[op.output].shape[:2]
    total = np.add.reduce(list(_windows(args[0], op, out, 0)))
    count = np.add.reduce(list(_windows(np.ones_like(args[0][:1]), op, out, 0)))
    half = count // 2
    mean = np.where(total > 0, (total + half) // count, -((half - total) // count))
    return np.clip(mean, op.act_min, op.act_max)


def _max_pool(graph: ir.Graph, op: ir.MaxPool, args: list[np.ndarray]) -> np.ndarray:
    out = graph.tensors[op.output].shape[:2]
    windows = list(_windows(args[0], op, out, -(1 << 31)))
    return np.clip(np.maximum.reduce(windows), op.act_min, op.act_max)


def _mean(graph: ir.Graph, op: ir.Mean, args: list[np.ndarray]) -> np.ndarray:
    y = graph.tensors[op.output]
    total = _centred(graph, op.inputs[0], args[0]).sum(axis=tuple(a + 1 for a in op.axes))
    scaled = fp.multiply_by_quantized_multiplier(total, op.multiplier, op.shift, op.rounding)
    return np.clip(scaled + y.zero_point, y.low, y.high).reshape(len(args[0]), *y.shape)


def _pad(graph: ir.Graph, op: ir.Pad, args: list[np.ndarray]) -> np.ndarray:
    return np.pad(args[0], ((0, 0), *op.amounts), constant_values=op.value)


def _reshape(graph: ir.Graph, op: ir.Reshape, args: list[np.ndarray]) -> np.ndarray:
    return args[0].reshape(len(args[0]), *graph.tensors[op.output].shape)


def _transpose(graph: ir.Graph, op: ir.Transpose, args: list[np.ndarray]) -> np.ndarray:
    return args[0].transpose(0, *(p + 1 for p in op.permutation))


def _table(graph: ir.Graph, op: ir.Table, args: list[np.ndarray]) -> np.ndarray:
    return op.table.astype(np.int64)[args[0] + 128]


def softmax_integers(x: np.ndarray, multiplier: int, left_shift: int, diff_min: int) -> np.ndarray:
    """Softmax over the last axis of stored int8 values in fixed point (TFLM reference_ops::Softmax, int8 to int8): stored outputs
    -128..127, scale 1/256."""
    diff = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    kept = diff >= diff_min
    rescaled = fp.rounding_doubling_high_multiply(np.where(kept, diff, 0) << left_shift, multiplier)
    e = np.where(kept, fp.exp_on_negative_values(rescaled, 5), 0)
    total = fp.rounding_divide_by_pot(e, 12).sum(axis=-1, keepdims=True)
    scale, bits_over_unit = fp.reciprocal(total, 12)
    product = fp.rounding_doubling_high_multiply(scale, e)
    return np.where(kept, np.clip(fp.rounding_divide_by_pot(product, bits_over_unit + 23) - 128, -128, 127), -128)


def _softmax(graph: ir.Graph, op: ir.Softmax, args: list[np.ndarray]) -> np.ndarray:
    rows = args[0] if args[0].ndim > 1 else args[0][:, None]  # a scalar is a row of its own, not an element of the batch
    return softmax_integers(rows, op.multiplier, op.left_shift, op.diff_min).reshape(args[0].shape)


def _minimum(graph: ir.Graph, op: ir.Minimum, args: list[np.ndarray]) -> np.ndarray:
    return np.minimum(*_aligned(args))


def _maximum(graph: ir.Graph, op: ir.Maximum, args: list[np.ndarray]) -> np.ndarray:
    return np.maximum(*_aligned(args))


def _requantize(graph: ir.Graph, op: ir.Requantize, args: list[np.ndarray]) -> np.ndarray:
    y = graph.tensors[op.output]
    scaled = fp.multiply_by_quantized_multiplier(_centred(graph, op.inputs[0], args[0]), op.multiplier, op.shift, op.rounding)
    return np.clip(scaled + y.zero_point, y.low, y.high)


def _quantize(graph: ir.Graph, op: ir.Quantize, args: list[np.ndarray]) -> np.ndarray:
    y = graph.tensors[op.output]
    q = args[0].astype(np.float32) / np.float32(y.scale)
    rounded = np.sign(q) * np.floor(np.abs(q).astype(np.float64) + 0.5)
    return np.clip(rounded.astype(np.int64) + y.zero_point, y.low, y.high)


def _dequantize(graph: ir.Graph, op: ir.Dequantize, args: list[np.ndarray]) -> np.ndarray:
    x = graph.tensors[op.inputs[0]]
    return ((args[0] - x.zero_point).astype(np.float64) * np.float64(np.float32(x.scale))).astype(np.float32)


def _strided_slice(graph: ir.Graph, op: ir.StridedSlice, args: list[np.ndarray]) -> np.ndarray:
    bounds = (slice(b, e if e >= 0 else None, s) for b, e, s in zip(op.begin, op.end, op.step))
    return args[0][(slice(None), *bounds)]


def _argmax(graph: ir.Graph, op: ir.ArgMax, args: list[np.ndarray]) -> np.ndarray:
    return args[0].argmax(axis=op.axis + 1).reshape(len(args[0]), *graph.tensors[op.output].shape)


_EXECUTE: dict[str, Callable[..., np.ndarray]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "fully_connected": _fully_connected,
    "add": _binary,
    "sub": _binary,
    "mul": _mul,
    "concat": _concat,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "mean": _mean,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _transpose,
    "table": _table,
    "softmax": _softmax,
    "minimum": _minimum,
    "maximum": _maximum,
    "requantize": _requantize,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "strided_slice": _strided_slice,
    "argmax": _argmax,
}
