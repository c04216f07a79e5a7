"""Statements of what kernels read and write, for the planner."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.plan.problem import Access


def element_bytes(tensor: ir.Tensor) -> int:
    """Bytes of one element on its own, in a variable or a constant: packed elements take a byte there."""
    return max(8, element_bits(tensor)) // 8


def element_bits(tensor: ir.Tensor) -> int:
    """Bits of one element in the arena, where those of 4 and 2 bits are packed. Float tensors and indices of ARG_MAX are 32 bits wide."""
    return 32 if tensor.dtype == ir.Dtype.FLOAT else tensor.bits


def tensor_bits(tensor: ir.Tensor) -> int:
    """Bits of a tensor that carry something; those behind them in its last byte do not."""
    return tensor.size * element_bits(tensor)


def tensor_bytes(tensor: ir.Tensor) -> int:
    """Bytes of a tensor in the arena."""
    return (tensor_bits(tensor) + 7) // 8


def activations(graph: ir.Graph, op: ir.Op) -> list[str]:
    """The op's inputs that lie in the arena, each once."""
    return [t for t in dict.fromkeys(op.inputs) if t not in graph.constants]


def rows(count: int, bits: int) -> np.ndarray:
    """int64 [count, 2]: consecutive ranges of `bits` bits."""
    starts = np.arange(count, dtype=np.int64) * bits
    return np.stack([starts, starts + bits], axis=1)


def whole(graph: ir.Graph, op: ir.Op) -> Access:
    """One unit that reads everything while it writes everything: nothing may overlap."""
    reads = {t: rows(1, tensor_bits(graph.tensors[t])) for t in activations(graph, op)}
    return Access(reads, rows(1, tensor_bits(graph.tensors[op.output])))


def elementwise(graph: ir.Graph, op: ir.Op) -> Access:
    """Element i of the output needs one element of every input, and is written after they were read. Either direction.

    An operand that is broadcast is read again and again."""
    y = graph.tensors[op.output]
    shapes = [graph.tensors[t].shape for t in op.inputs]
    shape = np.broadcast_shapes(*shapes)
    if int(np.prod(shape, dtype=np.int64)) != y.size:
        raise ModelError(f"op {op.name!r}: operands of shape {shapes} do not make an output of shape {list(y.shape)}")
    reads = {}
    for t in activations(graph, op):
        x = graph.tensors[t]
        element = np.broadcast_to(np.arange(x.size, dtype=np.int64).reshape(x.shape), shape).ravel()
        reads[t] = np.stack([element, element + 1], axis=1) * element_bits(x)
    return Access(reads, rows(y.size, element_bits(y)), buffered=True, reversible=True)


def copied(graph: ir.Graph, op: ir.Op, sources: Mapping[str, np.ndarray]) -> Access:
    """Every element of the output is a copy of one element of an input, in either direction.

    A wide element is copied byte by byte; since tensors are aligned to the widest element, its source is the very place or another.

    Args:
        sources: input -> for each element of the output the input's element that is copied, -1 for none. Constants lie in flash.
    """
    y, reads = graph.tensors[op.output], {}
    for tensor in activations(graph, op):
        source, width = sources[tensor], element_bits(graph.tensors[tensor])
        first = source.ravel() * width
        reads[tensor] = np.where((first < 0)[:, None], 0, np.stack([first, first + width], axis=1))
    return Access(reads, rows(y.size, element_bits(y)), buffered=True, reversible=True)


def pixels(graph: ir.Graph, op: ir.Op, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Access:
    """One unit an output pixel, whose channels are written while its window is still read. Either direction."""
    height, width, channels = graph.tensors[op.inputs[0]].shape
    out_h, out_w, out_c = graph.tensors[op.output].shape
    top, _, left, _ = op.padding  # type: ignore[attr-defined]
    r0, r1 = _span(out_h, kernel[0], stride[0], dilation[0], top, height)
    c0, c1 = _span(out_w, kernel[1], stride[1], dilation[1], left, width)
    pixel = channels * element_bits(graph.tensors[op.inputs[0]])
    first = ((r0[:, None] * width + c0[None, :]) * pixel).ravel()
    last = ((r1[:, None] * width + c1[None, :] + 1) * pixel).ravel()
    empty = ((r1 < r0)[:, None] | (c1 < c0)[None, :]).ravel()
    first[empty] = last[empty] = 0
    writes = rows(out_h * out_w, out_c * element_bits(graph.tensors[op.output]))
    return Access({op.inputs[0]: np.stack([first, last], axis=1)}, writes, reversible=True)


def grouped(single: Access, size: int, scratch: int = 0) -> Access:
    """`size` consecutive units as one, the last may have fewer, that reads everything before it writes."""
    starts = np.arange(0, len(single.writes), size)
    ends = np.append(starts[1:], len(single.writes)) - 1
    writes = np.stack([single.writes[starts, 0], single.writes[ends, 1]], axis=1)
    reads = {tensor: _hulls(ranges, starts) for tensor, ranges in single.reads.items()}
    return Access(reads, writes, buffered=True, reversible=single.reversible, scratch=scratch)


def _hulls(ranges: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The hull of each run of ranges, empty ones left out."""
    empty = ranges[:, 1] <= ranges[:, 0]
    least = np.minimum.reduceat(np.where(empty, np.iinfo(np.int64).max, ranges[:, 0]), starts)
    largest = np.maximum.reduceat(np.where(empty, 0, ranges[:, 1]), starts)
    return np.stack([np.where(largest > 0, least, 0), largest], axis=1)


def _span(count: int, taps: int, stride: int, dilation: int, before: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last input index under the window at each output position, padding left out; last < first where all taps are padding."""
    start = np.arange(count, dtype=np.int64) * stride - before
    skip = np.maximum(0, -(start // dilation))  # taps before index 0
    first = start + skip * dilation
    reach = np.minimum(taps - 1, (size - 1 - start) // dilation)
    return first, start + reach * dilation
