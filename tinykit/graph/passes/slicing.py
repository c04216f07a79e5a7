"""Weights of constant rows, and a graph without the channels that nobody needs. Every channel that stays keeps the values it had."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tinykit.graph import ir
from tinykit.graph.passes import ranges as rg
from tinykit.graph.passes.demand import Masks, channel_slice, contributions, joins_channels, output_rows
from tinykit.graph.passes.ranges import Ranges


def clear_constant_rows(graph: ir.Graph, ranges: Ranges) -> int:
    """Weights of output rows that can only give one integer become 0, with a bias that gives it: such a row reads nothing.

    Changes `graph`; returns the number of rows that changed."""
    changed = 0
    for op in graph.ops:
        if not isinstance(op, ir.Weighted) or op.inputs[0] not in ranges:
            continue
        accumulator = rg.accumulator_interval(graph, op, ranges[op.inputs[0]])
        rows = rg.row_interval(graph, op, accumulator).constant
        by_row = np.moveaxis(op.weights, -1, 0) if isinstance(op, ir.DepthwiseConv2D) else op.weights
        rows &= by_row.reshape(len(rows), -1).any(axis=1)
        if not rows.any():
            continue
        cleared = np.where(rows.reshape(-1, *[1] * (by_row.ndim - 1)), 0, by_row).astype(np.int8)
        if not ir.weights_fit(cleared, op.weight_bits):  # 2 bits without a 0
            continue
        # Any accumulator of the interval gives the same output; a clamp that lets one integer through gives it for all of int32.
        bias = np.zeros(len(rows)) if op.act_min == op.act_max else np.clip(0, accumulator.low, accumulator.high)
        op.bias = np.where(rows, bias, op.bias).astype(np.int32)
        op.weights = np.moveaxis(cleared, 0, -1) if isinstance(op, ir.DepthwiseConv2D) else cleared
        changed += int(rows.sum())
    return changed


def keep_channels(graph: ir.Graph, masks: Masks, ranges: Ranges) -> ir.Graph:
    """The graph with only the channels in `masks` (from `needed_channels`): weights and their per-channel arrays are sliced, constant
    channels that go are folded into the biases of their readers."""
    result = graph.copy()
    result.ops = [_SLICE.get(op.kind, _unchanged)(graph, op, masks, ranges) for op in graph.ops]
    for name, mask in masks.items():
        tensor = graph.tensors[name]
        if tensor.shape:
            result.tensors[name] = dataclasses.replace(tensor, shape=(*tensor.shape[:-1], int(mask.sum())))
        if name in graph.constants and tensor.shape:
            result.constants[name] = graph.constants[name][..., mask]
    return result


def _features(op: ir.Weighted, mask: np.ndarray) -> np.ndarray:
    """The last axis of the weights of a CONV_2D or FULLY_CONNECTED that belongs to a mask of input channels."""
    return np.tile(mask, op.weights.shape[-1] // len(mask))


def _unchanged(graph: ir.Graph, op: ir.Op, masks: Masks, ranges: Ranges) -> ir.Op:
    return dataclasses.replace(op)


def _slice_rows(op: ir.Weighted, rows: np.ndarray) -> None:
    """Leaves the rows of the mask in the per-row arrays."""
    op.bias, op.multiplier, op.shift = op.bias[rows], op.multiplier[rows], op.shift[rows]
    if len(op.weight_scale) > 1:
        op.weight_scale = op.weight_scale[rows]


def _slice_dense(graph: ir.Graph, op: ir.Weighted, masks: Masks, ranges: Ranges) -> ir.Op:
    result = dataclasses.replace(op)
    kept, rows = masks[op.inputs[0]], output_rows(op, masks[op.output])
    if op.inputs[0] in ranges:
        x = ranges[op.inputs[0]]
        folded = contributions(graph, op, x, x.constant & ~kept).sum(axis=1)
        result.bias = np.where(rows, op.bias + folded, op.bias).astype(np.int32)
    result.weights = op.weights[rows][..., _features(op, kept)]
    _slice_rows(result, rows)
    return result


def _slice_depthwise(graph: ir.Graph, op: ir.DepthwiseConv2D, masks: Masks, ranges: Ranges) -> ir.Op:
    result = dataclasses.replace(op)
    result.weights = op.weights[..., masks[op.output]]
    _slice_rows(result, masks[op.output])
    return result


def _slice_concat(graph: ir.Graph, op: ir.Concat, masks: Masks, ranges: Ranges) -> ir.Op:
    if not joins_channels(graph, op):
        return dataclasses.replace(op)
    inputs, start = [], 0
    for x in op.inputs:
        stop = start + len(masks[x])
        if masks[op.output][start:stop].any():
            inputs.append(x)
        start = stop
    return dataclasses.replace(op, inputs=tuple(inputs))


def _slice_pad(graph: ir.Graph, op: ir.Pad, masks: Masks, ranges: Ranges) -> ir.Op:
    if not op.amounts:  # a scalar
        return dataclasses.replace(op)
    mask, before = masks[op.output], op.amounts[-1][0]
    after = before + len(masks[op.inputs[0]])
    return dataclasses.replace(op, amounts=(*op.amounts[:-1], (int(mask[:before].sum()), int(mask[after:].sum()))))


def _slice_strided_slice(graph: ir.Graph, op: ir.StridedSlice, masks: Masks, ranges: Ranges) -> ir.Op:
    part = channel_slice(graph, op)
    if part is None:
        return dataclasses.replace(op)
    begin = int(masks[op.inputs[0]][: part.start].sum())
    end = begin + int(masks[op.output].sum())
    return dataclasses.replace(op, begin=(*op.begin[:-1], begin), end=(*op.end[:-1], end))


_SLICE: dict[str, Callable[..., ir.Op]] = {
    "conv2d": _slice_dense,
    "fully_connected": _slice_dense,
    "depthwise_conv2d": _slice_depthwise,
    "concat": _slice_concat,
    "pad": _slice_pad,
    "strided_slice": _slice_strided_slice,
}
