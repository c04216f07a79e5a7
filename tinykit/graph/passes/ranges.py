"""Which stored integers can each channel hold? Interval analysis over an integer graph, one interval a channel (the last axis).

Every op of the graph is monotone in each operand once the sign of a weight or of a multiplier is known, so evaluating it at the ends of
its operands' intervals gives the ends of its result. The analysis is sound for every input within the input tensors' stored ranges.
Where a bound would leave int32, a device's arithmetic is undefined: the channel is then taken to hold anything that the clamp lets through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.graph import fixedpoint as fp
from tinykit.graph import ir


@dataclass(frozen=True)
class Interval:
    """Least and largest stored integer of every channel: two int64 arrays of one length."""

    low: np.ndarray
    high: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Channels that hold one integer whatever the input (bool)."""
        return self.low == self.high

    def outside_int32(self) -> np.ndarray:
        """Channels with a bound beyond int32 (bool)."""
        return (self.low < fp.INT32_MIN) | (self.high > fp.INT32_MAX)


Ranges = dict[str, Interval]


def value_ranges(graph: ir.Graph) -> Ranges:
    """The interval of every channel of every integer tensor, constants included; float tensors are absent."""
    ranges: Ranges = {name: _stored(graph.tensors[name]) for name in graph.inputs if graph.tensors[name].dtype == ir.Dtype.INT}
    for name, data in graph.constants.items():
        rows = data.reshape(-1, graph.tensors[name].channels).astype(np.int64)
        ranges[name] = Interval(rows.min(axis=0), rows.max(axis=0))
    for op in graph.ops:
        y = graph.tensors[op.output]
        if y.dtype == ir.Dtype.FLOAT:
            continue
        rule = _RULES.get(op.kind)
        if rule is None or any(t not in ranges for t in op.inputs):
            ranges[op.output] = _stored(y)
        else:
            ranges[op.output] = rule(graph, op, [ranges[t] for t in op.inputs])
    return ranges


def weight_sums(op: ir.Weighted, weights: np.ndarray, channels: int) -> np.ndarray:
    """Weights of a CONV_2D or FULLY_CONNECTED summed over taps and positions: int64 [output row, input channel].

    `weights` has the shape of `op.weights`. A dense layer reads its input flat, so that feature f belongs to channel f mod `channels`."""
    rows = weights.shape[0]
    return weights.astype(np.int64).reshape(rows, -1, channels).sum(axis=1)


def accumulator_interval(graph: ir.Graph, op: ir.Weighted, x: Interval) -> Interval:
    """Interval of bias plus products of every output row, anywhere in the plane. Padding adds 0 to a channel's centred interval."""
    zero_point = graph.tensors[op.inputs[0]].zero_point
    low, high = x.low - zero_point, x.high - zero_point
    if is_padded(op):
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    positive, negative = np.maximum(op.weights, 0), np.minimum(op.weights, 0)
    bias = op.bias.astype(np.int64)
    if isinstance(op, ir.DepthwiseConv2D):
        low, high = np.repeat(low, op.depth_multiplier), np.repeat(high, op.depth_multiplier)
        p, n = positive.sum(axis=(0, 1), dtype=np.int64), negative.sum(axis=(0, 1), dtype=np.int64)
        return Interval(bias + p * low + n * high, bias + p * high + n * low)
    p, n = weight_sums(op, positive, len(low)), weight_sums(op, negative, len(low))
    return Interval(bias + p @ low + n @ high, bias + p @ high + n @ low)


def row_interval(graph: ir.Graph, op: ir.Weighted, accumulator: Interval) -> Interval:
    """Stored outputs of every output row for an interval of accumulators."""
    return _requantised(graph, op, accumulator, op.multiplier, op.shift, op.rounding, (op.act_min, op.act_max))


def is_padded(op: ir.Op) -> bool:
    """True where a CONV_2D or DEPTHWISE_CONV_2D may read padding."""
    return isinstance(op, (ir.Conv2D, ir.DepthwiseConv2D)) and any(op.padding)


def union_by_class(x: Interval, classes: int, channels: int) -> Interval:
    """Channel d of the result holds what any channel c of `x` with c = d (mod `classes`) holds; `classes` divides both channel counts."""
    low = x.low.reshape(-1, classes).min(axis=0)
    high = x.high.reshape(-1, classes).max(axis=0)
    return Interval(np.tile(low, channels // classes), np.tile(high, channels // classes))


def _stored(tensor: ir.Tensor) -> Interval:
    """Anything that the tensor can hold."""
    return Interval(np.full(tensor.channels, tensor.low, np.int64), np.full(tensor.channels, tensor.high, np.int64))


def _scaled(x: Interval, multiplier: np.ndarray | int, shift: np.ndarray | int, rounding: ir.Rounding) -> tuple[Interval, np.ndarray]:
    """(x * multiplier * 2^(shift - 31), channels where that stays within int32 at every step). Unknown channels hold rubbish."""
    known = ~x.outside_int32()
    low, high = np.where(known, x.low, 0), np.where(known, x.high, 0)
    if rounding == ir.Rounding.DOUBLE:
        left = np.maximum(np.asarray(shift, np.int64), 0)
        known = known & ~Interval(low << left, high << left).outside_int32()
        low, high = np.where(known, low, 0), np.where(known, high, 0)
    ends = [fp.multiply_by_quantized_multiplier(end, multiplier, shift, rounding) for end in (low, high)]
    return Interval(np.minimum(*ends), np.maximum(*ends)), known


def _requantised(
    graph: ir.Graph,
    op: ir.Op,
    x: Interval,
    multiplier: np.ndarray | int,
    shift: np.ndarray | int,
    rounding: ir.Rounding,
    clamp: tuple[int, int],
    known: np.ndarray | bool = True,
) -> Interval:
    """Scaled, moved to the output's zero point, clamped; the whole clamp where a bound leaves int32 or `known` is false."""
    scaled, inside = _scaled(x, multiplier, shift, rounding)
    zero_point = graph.tensors[op.output].zero_point
    low, high = np.clip(scaled.low + zero_point, *clamp), np.clip(scaled.high + zero_point, *clamp)
    inside = inside & known
    return Interval(np.where(inside, low, clamp[0]), np.where(inside, high, clamp[1]))


def _weighted(graph: ir.Graph, op: ir.Weighted, args: Sequence[Interval]) -> Interval:
    rows = row_interval(graph, op, accumulator_interval(graph, op, args[0]))
    channels = graph.tensors[op.output].channels
    return union_by_class(rows, channels, channels)


def _centred(graph: ir.Graph, op: ir.Op, args: Sequence[Interval], index: int = 0) -> Interval:
    """An operand minus its zero point, spread over the output's channels where it is broadcast."""
    x, zero_point = args[index], graph.tensors[op.inputs[index]].zero_point
    channels = max(len(a.low) for a in args)
    return Interval(np.broadcast_to(x.low - zero_point, channels), np.broadcast_to(x.high - zero_point, channels))


def _binary(graph: ir.Graph, op: ir.Binary, args: Sequence[Interval]) -> Interval:
    operands = [_centred(graph, op, args, i) for i in range(2)]
    shifted = [Interval(x.low << op.left_shift, x.high << op.left_shift) for x in operands]
    (a, a_known), (b, b_known) = (_scaled(shifted[i], op.multipliers[i], op.shifts[i], op.rounding) for i in range(2))
    if isinstance(op, ir.Sub):
        b = Interval(-b.high, -b.low)
    total = Interval(a.low + b.low, a.high + b.high)
    clamp = (op.act_min, op.act_max)
    return _requantised(graph, op, total, op.multipliers[2], op.shifts[2], op.rounding, clamp, known=a_known & b_known)


def _mul(graph: ir.Graph, op: ir.Mul, args: Sequence[Interval]) -> Interval:
    a, b = (_centred(graph, op, args, i) for i in range(2))
    corners = np.stack([a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high])
    product = Interval(corners.min(axis=0), corners.max(axis=0))
    return _requantised(graph, op, product, op.multiplier, op.shift, op.rounding, (op.act_min, op.act_max))


def _concat(graph: ir.Graph, op: ir.Concat, args: Sequence[Interval]) -> Interval:
    if op.axis == len(graph.tensors[op.output].shape) - 1:
        return Interval(np.concatenate([a.low for a in args]), np.concatenate([a.high for a in args]))
    return Interval(np.minimum.reduce([a.low for a in args]), np.maximum.reduce([a.high for a in args]))


def _pool(graph: ir.Graph, op: ir.Pool, args: Sequence[Interval]) -> Interval:
    """A rounded mean, like a maximum, lies between the least and the largest element; padding takes no part in it."""
    return Interval(np.clip(args[0].low, op.act_min, op.act_max), np.clip(args[0].high, op.act_min, op.act_max))


def _mean(graph: ir.Graph, op: ir.Mean, args: Sequence[Interval]) -> Interval:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    centred = _centred(graph, op, args)
    count = math.prod(x.shape[a] for a in op.axes)
    if mean_keeps_channels(graph, op):
        total = Interval(centred.low * count, centred.high * count)
    else:
        low = np.full(y.channels, centred.low.min() * count, np.int64)
        total = Interval(low, np.full(y.channels, centred.high.max() * count, np.int64))
    return _requantised(graph, op, total, op.multiplier, op.shift, op.rounding, (y.low, y.high))


def mean_keeps_channels(graph: ir.Graph, op: ir.Mean) -> bool:
    """True where MEAN leaves the last axis as it is."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    return bool(x.shape) and len(x.shape) - 1 not in op.axes and y.channels == x.channels


def _pad(graph: ir.Graph, op: ir.Pad, args: Sequence[Interval]) -> Interval:
    low, high = args[0].low, args[0].high
    if any(before or after for before, after in op.amounts[:-1]):
        low, high = np.minimum(low, op.value), np.maximum(high, op.value)
    ends = op.amounts[-1] if op.amounts else (0, 0)  # a scalar has one channel and nothing to pad
    return Interval(*(np.pad(end, ends, constant_values=op.value) for end in (low, high)))


def _reshape(graph: ir.Graph, op: ir.Reshape, args: Sequence[Interval]) -> Interval:
    """Flat element i is in channel i mod C before and i mod D after: what both sides share is i mod gcd(C, D)."""
    channels = graph.tensors[op.output].channels
    return union_by_class(args[0], math.gcd(len(args[0].low), channels), channels)


def _transpose(graph: ir.Graph, op: ir.Transpose, args: Sequence[Interval]) -> Interval:
    if not op.permutation or op.permutation[-1] == len(op.permutation) - 1:
        return args[0]
    return union_by_class(args[0], 1, graph.tensors[op.output].channels)


def _table(graph: ir.Graph, op: ir.Table, args: Sequence[Interval]) -> Interval:
    entries = op.table.astype(np.int64)
    slices = [entries[low + 128 : high + 129] for low, high in zip(args[0].low, args[0].high)]
    return Interval(np.array([s.min() for s in slices]), np.array([s.max() for s in slices]))


def _minimum(graph: ir.Graph, op: ir.Minimum, args: Sequence[Interval]) -> Interval:
    return Interval(np.minimum(args[0].low, args[1].low), np.minimum(args[0].high, args[1].high))


def _maximum(graph: ir.Graph, op: ir.Maximum, args: Sequence[Interval]) -> Interval:
    return Interval(np.maximum(args[0].low, args[1].low), np.maximum(args[0].high, args[1].high))


def _requantize(graph: ir.Graph, op: ir.Requantize, args: Sequence[Interval]) -> Interval:
    y = graph.tensors[op.output]
    return _requantised(graph, op, _centred(graph, op, args), op.multiplier, op.shift, op.rounding, (y.low, y.high))


def _strided_slice(graph: ir.Graph, op: ir.StridedSlice, args: Sequence[Interval]) -> Interval:
    channels = sliced_channels(op, len(args[0].low))
    return Interval(args[0].low[channels], args[0].high[channels])


def sliced_channels(op: ir.StridedSlice, channels: int) -> range:
    """The channels that a STRIDED_SLICE reads, in its order. A negative end lies before the first (the executor's rule)."""
    end = op.end[-1] if op.end[-1] >= 0 else None
    return range(*slice(op.begin[-1], end, op.step[-1]).indices(channels))


# Ops without a rule (softmax, argmax, quantize) may give anything that their output holds.
_RULES: dict[str, Callable[..., Interval]] = {
    "conv2d": _weighted,
    "depthwise_conv2d": _weighted,
    "fully_connected": _weighted,
    "add": _binary,
    "sub": _binary,
    "mul": _mul,
    "concat": _concat,
    "average_pool": _pool,
    "max_pool": _pool,
    "mean": _mean,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _transpose,
    "table": _table,
    "minimum": _minimum,
    "maximum": _maximum,
    "requantize": _requantize,
    "strided_slice": _strided_slice,
}
