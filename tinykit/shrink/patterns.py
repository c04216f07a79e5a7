"""Which weights become zero: single weights, blocks along the input channels, two of every four."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tinykit.shrink.kernels import Kernel

Pattern = Literal["weights", "blocks", "2of4"]


def lamp(magnitudes: np.ndarray) -> np.ndarray:
    """Scores that can be compared between layers: w^2 over the sum of the squares of this and all larger ones of the layer (LAMP, Lee et
    al. 2021, arXiv:2010.07611). The largest has 1, so that no layer loses all.

    Args:
        magnitudes: never negative, any shape.
    """
    flat = magnitudes.astype(np.float64).ravel() ** 2
    order = np.argsort(flat, kind="stable")[::-1]
    behind = np.cumsum(flat[order])
    scores = np.empty_like(flat)
    scores[order] = np.divide(flat[order], behind, out=np.zeros_like(flat), where=behind > 0)
    return scores.reshape(magnitudes.shape).astype(np.float32)


def blocks(kernel: Kernel, values: np.ndarray, length: int) -> np.ndarray:
    """Mean magnitude of each block of `length` input channels, [rows, blocks]; the last block of a row may be shorter."""
    runs = np.abs(kernel.runs(values))
    starts = np.arange(0, runs.shape[1], length)
    sizes = np.diff([*starts, runs.shape[1]])
    means: np.ndarray = np.add.reduceat(runs, starts, axis=1) / sizes
    return means


def from_blocks(kernel: Kernel, mask: np.ndarray, length: int) -> np.ndarray:
    """A mask of `blocks` as one of the kernel's shape."""
    return kernel.from_runs(np.repeat(mask, length, axis=1)[:, : kernel.inputs])


def scores(kernel: Kernel, pattern: Pattern, length: int) -> np.ndarray:
    """Magnitudes of what stays or goes as one: the weights, or blocks of them."""
    values = kernel.values()
    return blocks(kernel, values, length) if pattern == "blocks" else np.abs(values)


def refused(kernel: Kernel, pattern: Pattern, length: int) -> str | None:
    """Why a kernel cannot have a pattern, None where it can."""
    if pattern == "weights":
        return None
    if kernel.depthwise:
        return "a depthwise layer does not sum over input channels"
    if pattern == "2of4" and kernel.inputs % 4:
        return f"{kernel.inputs} input channels are no multiple of 4"
    if pattern == "blocks" and kernel.inputs < length:
        return f"{kernel.inputs} input channels are fewer than a block of {length}"
    return None


def zeros_of(kernel: Kernel, values: np.ndarray, pattern: Pattern, length: int) -> int:
    """How many of values (of the kernel's shape) are 0 as a pattern has it: all zeros; those in blocks of nothing else; of every four
    two."""
    if pattern == "weights":
        return int((values == 0).sum())
    zero = kernel.runs(values) == 0
    if pattern == "2of4":
        return int(np.minimum(zero.reshape(len(zero), -1, 4).sum(axis=-1), 2).sum())
    starts = np.arange(0, zero.shape[1], length)
    sizes = np.diff([*starts, zero.shape[1]])
    counts = np.add.reduceat(zero.astype(int), starts, axis=1)
    return int(np.where(counts == sizes, counts, 0).sum())
