"""Which channels must exist.

A channel must exist where somebody reads it. A reader that only ever sees one integer in a channel need not read it when that integer
can be moved into its bias; then the channel's producer need not compute it. Ops that work channel by channel tie the channels of their
operands to those of their output: a residual sum can lose a channel only when all tensors that it ties together can.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinykit.graph import fixedpoint as fp
from tinykit.graph import ir
from tinykit.graph.passes import ranges as rg
from tinykit.graph.passes.ranges import Interval, Ranges

Masks = dict[str, np.ndarray]


def needed_channels(graph: ir.Graph, ranges: Ranges) -> Masks:
    """Which channels (last axis) of each tensor must exist: the least set that the rules of all ops agree with. Graph inputs and outputs
    keep every channel, every other tensor at least one."""
    demand = _Demand(graph, ranges)
    for name in (*graph.inputs, *graph.outputs):
        demand.need(name, True)
    demand.settle()
    least = {op.output: _least_channels(op) for op in reversed(graph.ops)} | {name: 1 for name in graph.constants}
    for name, count in least.items():
        mask = demand.masks[name]
        if mask.sum() < count:
            extra = np.flatnonzero(~mask)[: count - int(mask.sum())]
            demand.need(name, mask | np.isin(np.arange(len(mask)), extra))
            demand.settle()
    return demand.masks


def foldable(graph: ir.Graph, op: ir.Weighted, x: Interval) -> np.ndarray:
    """Input channels whose constant a CONV_2D or FULLY_CONNECTED may take into its bias (bool).

    Padding holds the zero point, not the constant: near an edge fewer taps see the constant than elsewhere, so a padded layer may only
    drop channels that are constantly the zero point."""
    if rg.is_padded(op):
        return x.constant & (x.low == graph.tensors[op.inputs[0]].zero_point)
    return x.constant


class _Demand:
    """Masks of needed channels that only ever grow."""

    def __init__(self, graph: ir.Graph, ranges: Ranges) -> None:
        self.graph, self.ranges = graph, ranges
        self.masks: Masks = {name: np.zeros(t.channels, bool) for name, t in graph.tensors.items()}
        self._touching: dict[str, list[int]] = {name: [] for name in graph.tensors}
        for i, op in enumerate(graph.ops):
            for t in {*op.inputs, op.output}:
                self._touching[t].append(i)
        self._stale = set(range(len(graph.ops)))  # ops with a mask that has changed since their rule was applied

    def need(self, tensor: str, mask: np.ndarray | bool) -> None:
        """These channels must exist."""
        old = self.masks[tensor]
        new = old | mask
        if (new != old).any():
            self.masks[tensor] = new
            self._stale.update(self._touching[tensor])

    def tie(self, a: str, b: str) -> None:
        """The two tensors have the same channels."""
        self.need(a, self.masks[b])
        self.need(b, self.masks[a])

    def settle(self) -> None:
        """Applies every op's rule until nothing changes. A rule whose masks are as they were has nothing to add, so that the time does
        not grow with the square of the number of ops."""
        while self._stale:
            for i in range(len(self.graph.ops) - 1, -1, -1):
                if i in self._stale:
                    self._stale.discard(i)
                    op = self.graph.ops[i]
                    _DEMANDS.get(op.kind, _need_everything)(self, op)


def _least_channels(op: ir.Op) -> int:
    """No tensor may become empty. A dense layer with per-channel scales keeps two rows where it had two, because with one scale
    it would count as per-tensor, whose multiplier TFLM derives in another precision."""
    return 2 if isinstance(op, ir.FullyConnected) and len(op.weight_scale) > 1 else 1


def output_rows(op: ir.Weighted, mask: np.ndarray) -> np.ndarray:
    """The output rows (of the weights) that belong to a mask of output channels."""
    return np.tile(mask, len(op.bias) // len(mask))


def _foldable_within_int32(d: _Demand, op: ir.Weighted, rows: np.ndarray) -> np.ndarray:
    """`foldable` channels, as many (in order) as keep the bias of each row within int32, whichever of them are then really folded."""
    x = d.ranges.get(op.inputs[0])
    if x is None:
        return np.zeros_like(d.masks[op.inputs[0]])
    allowed = foldable(d.graph, op, x).copy()
    shares = np.abs(contributions(d.graph, op, x, allowed)[rows])
    budget = fp.INT32_MAX - np.abs(op.bias[rows].astype(np.int64))
    if (shares.sum(axis=1) <= budget).all():
        return allowed
    for channel in np.flatnonzero(allowed):
        if (shares[:, channel] <= budget).all():
            budget = budget - shares[:, channel]
        else:
            allowed[channel] = False
    return allowed


def contributions(graph: ir.Graph, op: ir.Weighted, x: Interval, channels: np.ndarray) -> np.ndarray:
    """What each constant input channel of the mask adds to each row's accumulator where no padding is read: [row, channel]."""
    centred = np.where(channels, x.low - graph.tensors[op.inputs[0]].zero_point, 0)
    return rg.weight_sums(op, op.weights, len(centred)) * centred


def _dense(d: _Demand, op: ir.Weighted) -> None:
    x = op.inputs[0]
    rows = output_rows(op, d.masks[op.output])
    read = np.asarray(op.weights[rows].reshape(-1, len(d.masks[x])).any(axis=0))
    d.need(x, read & ~_foldable_within_int32(d, op, rows))


def _depthwise(d: _Demand, op: ir.DepthwiseConv2D) -> None:
    x, y = op.inputs[0], op.output
    d.need(y, np.repeat(d.masks[x], op.depth_multiplier))
    d.need(x, np.asarray(d.masks[y].reshape(-1, op.depth_multiplier).any(axis=1)))


def _elementwise(d: _Demand, op: ir.Op) -> None:
    for x in op.inputs:
        if len(d.masks[x]) == len(d.masks[op.output]):
            d.tie(x, op.output)
        else:  # one channel, broadcast
            d.need(x, True)


def _mean(d: _Demand, op: ir.Mean) -> None:
    if rg.mean_keeps_channels(d.graph, op):
        d.tie(op.inputs[0], op.output)
    else:
        _need_everything(d, op)


def _transpose(d: _Demand, op: ir.Transpose) -> None:
    if not op.permutation or op.permutation[-1] == len(op.permutation) - 1:
        d.tie(op.inputs[0], op.output)
    else:
        _need_everything(d, op)


def _reshape(d: _Demand, op: ir.Reshape) -> None:
    """Flat element i must go on both sides or on none, so the masks repeat with the greatest common divisor of the channel counts."""
    x, y = op.inputs[0], op.output
    classes = math.gcd(len(d.masks[x]), len(d.masks[y]))
    either = d.masks[x].reshape(-1, classes).any(axis=0) | d.masks[y].reshape(-1, classes).any(axis=0)
    for t in (x, y):
        d.need(t, np.tile(either, len(d.masks[t]) // classes))


def joins_channels(graph: ir.Graph, op: ir.Concat) -> bool:
    return op.axis == len(graph.tensors[op.output].shape) - 1


def _concat(d: _Demand, op: ir.Concat) -> None:
    """An input of which the output needs nothing is not read at all; the others share their part of the output's channels."""
    if not joins_channels(d.graph, op):
        for x in op.inputs:
            d.tie(x, op.output)
        return
    start = 0
    for x in op.inputs:
        part = slice(start, start + len(d.masks[x]))
        start = part.stop
        if d.masks[op.output][part].any():
            _share(d, x, op.output, part)


def _share(d: _Demand, whole: str, other: str, part: slice) -> None:
    """All channels of `whole` are the channels `part` of `other`."""
    d.need(whole, d.masks[other][part])
    mask = np.zeros_like(d.masks[other])
    mask[part] = d.masks[whole]
    d.need(other, mask)


def _pad(d: _Demand, op: ir.Pad) -> None:
    before = op.amounts[-1][0] if op.amounts else 0
    _share(d, op.inputs[0], op.output, slice(before, before + len(d.masks[op.inputs[0]])))


def channel_slice(graph: ir.Graph, op: ir.StridedSlice) -> slice | None:
    """The contiguous channels that a STRIDED_SLICE reads, None where it skips or reverses channels."""
    channels = rg.sliced_channels(op, graph.tensors[op.inputs[0]].channels)
    return slice(channels.start, channels.stop) if channels.step == 1 else None


def _strided_slice(d: _Demand, op: ir.StridedSlice) -> None:
    part = channel_slice(d.graph, op)
    if part is None:
        _need_everything(d, op)
    else:
        _share(d, op.output, op.inputs[0], part)


def _need_everything(d: _Demand, op: ir.Op) -> None:
    for t in (*op.inputs, op.output):
        d.need(t, True)


_DEMANDS: dict[str, Callable[..., None]] = {
    "conv2d": _dense,
    "fully_connected": _dense,
    "depthwise_conv2d": _depthwise,
    **{k: _elementwise for k in ("add", "sub", "mul", "minimum", "maximum", "table", "requantize", "quantize", "dequantize")},
    "average_pool": _elementwise,
    "max_pool": _elementwise,
    "mean": _mean,
    "transpose": _transpose,
    "reshape": _reshape,
    "concat": _concat,
    "pad": _pad,
    "strided_slice": _strided_slice,
}
