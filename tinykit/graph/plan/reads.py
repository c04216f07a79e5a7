"""Which input elements each output element of an op depends on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinykit.graph import ir, windows

_ELEMENTWISE = (ir.Binary, ir.Mul, ir.Extremum, ir.Table, ir.Requantize, ir.Quantize, ir.Dequantize)


@dataclass(frozen=True)
class ElementReads:
    """The output elements outputs[n] = [first, last) depend on the input elements inputs[n] = [first, last); both int64 [entries, 2]."""

    outputs: np.ndarray
    inputs: np.ndarray


def graph_reads(graph: ir.Graph, op: ir.Op, position: int) -> Iterator[ElementReads]:
    """The reads of an op's input number `position`, in elements of the flat tensors; several parts add up.

    Of a window every valid tap is listed, a tap being all channels of a pixel; padding is not read. An op of unknown kind reads
    everything for each output element.
    """
    if isinstance(op, (ir.Conv2D, ir.DepthwiseConv2D, ir.Pool)):
        yield from _window(graph, op)
        return
    shape, result = graph.tensors[op.inputs[position]].shape, graph.tensors[op.output].shape
    numbers = np.arange(graph.tensors[op.inputs[position]].size).reshape(shape)
    if isinstance(op, (ir.Mean, ir.ArgMax)):
        axes = {a % len(shape) for a in (op.axes if isinstance(op, ir.Mean) else (op.axis,))}
        reduced = [1 if axis in axes else n for axis, n in enumerate(shape)]
        targets = np.broadcast_to(np.arange(int(np.prod(reduced))).reshape(reduced), shape)
        yield _single(targets.ravel(), numbers.ravel())
    elif isinstance(op, ir.Softmax):
        row = graph.tensors[op.inputs[position]].channels
        rows = np.arange(0, numbers.size, row)[:, None] + [0, row]
        yield ElementReads(rows, rows)
    else:
        sources = _sources(graph, op, position, numbers, result)
        if sources is None:
            yield ElementReads(np.array([[0, graph.tensors[op.output].size]]), np.array([[0, numbers.size]]))
        else:
            targets = np.flatnonzero(sources.ravel() >= 0)
            yield _single(targets, sources.ravel()[targets])


def _single(targets: np.ndarray, sources: np.ndarray) -> ElementReads:
    return ElementReads(np.stack([targets, targets + 1], 1), np.stack([sources, sources + 1], 1))


def _sources(graph: ir.Graph, op: ir.Op, position: int, numbers: np.ndarray, result: tuple[int, ...]) -> np.ndarray | None:
    """For ops that read one element of this input for an output element at most: its number, -1 for none. None for other ops."""
    if isinstance(op, _ELEMENTWISE):
        return np.broadcast_to(numbers, result)
    if isinstance(op, ir.Reshape):
        return numbers
    if isinstance(op, ir.Pad):
        return np.pad(numbers, op.amounts, constant_values=-1) if op.amounts else numbers  # NumPy pads no scalar
    if isinstance(op, ir.Transpose):
        return numbers.transpose(op.permutation)
    if isinstance(op, ir.StridedSlice):
        return numbers[tuple(slice(b, e if e >= 0 else None, s) for b, e, s in zip(op.begin, op.end, op.step))].reshape(result)
    if isinstance(op, ir.Concat):
        parts = [np.full(graph.tensors[t].shape, -1) for t in op.inputs]
        parts[position] = numbers
        return np.concatenate(parts, axis=op.axis)
    return None


def _window(graph: ir.Graph, op: ir.Conv2D | ir.DepthwiseConv2D | ir.Pool) -> Iterator[ElementReads]:
    """One part a tap: the pixels of the output at which it lies inside the input."""
    height, width, channels = graph.tensors[op.inputs[0]].shape
    rows, columns, depth = graph.tensors[op.output].shape
    if isinstance(op, ir.Pool):
        kernel, dilation = op.window, (1, 1)
    else:
        kernel, dilation = windows.kernel_of(op), op.dilation
    top, _, left, _ = op.padding
    y, x = (grid.ravel() for grid in np.mgrid[:rows, :columns])
    for ky, kx in itertools.product(range(kernel[0]), range(kernel[1])):
        row, column = y * op.stride[0] - top + ky * dilation[0], x * op.stride[1] - left + kx * dilation[1]
        valid = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        outputs = (y * columns + x)[valid, None] * depth + [0, depth]
        inputs = (row * width + column)[valid, None] * channels + [0, channels]
        yield ElementReads(outputs, inputs)
