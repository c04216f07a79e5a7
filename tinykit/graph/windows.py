"""Geometry of sliding windows: output sizes and padding as TensorFlow Lite defines them (kernels/padding.h)."""

from __future__ import annotations

from tinykit.graph import ir


def extent(window: int, dilation: int = 1) -> int:
    """Input elements that a dilated window spans."""
    return (window - 1) * dilation + 1


def output_size(size: int, window: int, stride: int, dilation: int = 1, before: int = 0, after: int = 0) -> int:
    """Number of positions of a window; 0 or less where it does not fit."""
    return (size + before + after - extent(window, dilation)) // stride + 1


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """(before, after) of SAME padding; the odd element goes after."""
    out = -(-size // stride)
    total = max((out - 1) * stride + extent(window, dilation) - size, 0)
    return total // 2, total - total // 2


def same_padding_2d(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> tuple[int, int, int, int]:
    """SAME padding of an image as (top, bottom, left, right)."""
    return (
        *same_padding(size[0], window[0], stride[0], dilation[0]),
        *same_padding(size[1], window[1], stride[1], dilation[1]),
    )


def output_size_2d(
    size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> tuple[int, int]:
    """(height, width) of the output for explicit padding (top, bottom, left, right)."""
    return (
        output_size(size[0], window[0], stride[0], dilation[0], padding[0], padding[1]),
        output_size(size[1], window[1], stride[1], dilation[1], padding[2], padding[3]),
    )


def kernel_of(op: ir.Conv2D | ir.DepthwiseConv2D) -> tuple[int, int]:
    """(height, width) of the weights' window."""
    w = op.weights.shape
    return (w[1], w[2]) if isinstance(op, ir.Conv2D) else (w[0], w[1])
