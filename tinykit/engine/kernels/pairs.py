"""A convolution's channels in pairs, as the routines of `blocks` read them, and the proofs that what these compute is exact.

A pair is the two initial sums A and S, the weights, the two multipliers, and a word with the shifts less one in bytes 0 and 1, a mark of
the last pair in bit 15, twice the output's zero point plus one in the upper half. An odd last channel is paired with the one before it,
which is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinykit.engine.call import Records
from tinykit.engine.kernels.blocks import STREAM, Block, Clamp
from tinykit.engine.requant import accumulator_range, code_base
from tinykit.graph import ir
from tinykit.graph.fixedpoint import multiply_by_quantized_multiplier

_WRAPS = 1 << 31
_JOINT = 1 << 23  # |B| below it: S - A = 256 B does not leave 32 bits
_HALF = 1 << 30
LAST = 1 << 15
"""In a pair's last word: it is the last one."""


@dataclass(frozen=True)
class Channels:
    """What a layer's routines compute with, proved exact.

    Attributes:
        weights: int64 [out, taps], 0 in channels whose output is constant.
        bias: with the input's zero point folded in, int64 modulo 2^32.
        multiplier: 2^30..2^31 - 1.
        shift: to the right, less one, 0..30.
        size: largest |accumulator|.
        zero: the output's zero point.
    """

    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    size: np.ndarray
    zero: int

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and the second channel of each pair."""
        first, second = (np.array(list(side)) for side in zip(*pair_channels(len(self.bias))))
        return first, second

    def ordered(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of each pair's first and second channels, int64 [pairs, *order], 0 where `order` is -1."""
        first, second = self.sides
        taps = np.concatenate([self.weights, np.zeros((len(self.weights), 1), np.int64)], axis=1)[:, order]
        return taps[first], taps[second]

    def words(self) -> np.ndarray:
        """The last word of each pair. The mark is on the last pair and, where that overlaps, on the one before."""
        first, second = self.sides
        marks = np.arange(len(first)) >= len(first) - 1 - len(self.bias) % 2
        return self.shift[first] | self.shift[second] << 8 | marks * LAST | (2 * self.zero + 1) << 16


def table(columns: list[np.ndarray]) -> np.ndarray:
    """int32 words, pair by pair, from columns of int64 [pairs] modulo 2^32."""
    return (np.stack(columns, axis=1).ravel() & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def prove(op: ir.Weighted, x: ir.Tensor, y: ir.Tensor, zeros: bool = True) -> Channels | None:
    """The channels of a layer with weights [out, ...], or None where exactness cannot be proved for one of them.

    A channel whose output is the same at both ends of its accumulator's range is constant, since requantisation is monotone: it becomes
    a sum that gives that constant, so that dead channels with any bias are no obstacle.

    Args:
        zeros: weights may be 0.
    """
    out = len(op.weights)
    least, largest = accumulator_range(op, x)
    sums = max(-int(least.min()), int(largest.max()))
    if out < 2 or op.rounding != ir.Rounding.DOUBLE or sums >= _WRAPS or int(op.shift.max()) > 0 or int(op.shift.min()) < -31:
        return None
    multiplier, shift = (np.broadcast_to(v, out).astype(np.int64) for v in (op.multiplier, op.shift))
    base = code_base(y)
    zero = y.zero_point - base
    weights = op.weights.reshape(out, -1).astype(np.int64)
    bias = op.bias.astype(np.int64) - (x.zero_point - code_base(x)) * weights.sum(axis=1)
    ends = [
        np.clip(multiply_by_quantized_multiplier(v, multiplier, shift) + zero, op.act_min - base, op.act_max - base)
        for v in (least, largest)
    ]
    constant = (ends[0] == ends[1]) & zeros
    size = np.maximum(np.abs(least), np.abs(largest))
    scaled = (size * multiplier >> 31) + 2
    rounding = np.abs(2 * zero + 1) << np.clip(-shift - 1, 0, 30)
    fits = (multiplier >= _HALF) & (shift <= -1) & (scaled + rounding < _WRAPS)
    if not (fits | constant).all():
        return None
    # twice half of a value, multiplied by a half of 2^31: 2 (v - zero), which the last shift halves
    bias = np.where(constant, 4 * (ends[0] - zero), bias)
    weights = np.where(constant[:, None], 0, weights)
    size = np.where(constant, np.abs(bias), size)
    return Channels(weights, bias, np.where(constant, _HALF, multiplier), np.where(constant, 0, -shift - 1), size, zero)


def pair_channels(count: int) -> list[tuple[int, int]]:
    """The pairs of `count` >= 2 channels."""
    return [(c, c + 1) for c in range(0, count - 1, 2)] + ([(count - 2, count - 1)] if count % 2 else [])


@dataclass(frozen=True)
class Bytes:
    """Weights of 8 bits for the routines of `blocks`.

    Attributes:
        split: the two channels of a pair need words of their own.
    """

    channels: Channels
    split: bool
    clamp: Clamp

    counts = (3, 2, 1)
    tag = ""

    def line(self, pixels: int, quads: int) -> Block | None:
        """The routine without passes."""
        return Block(pixels, quads, False, self.split, self.clamp)

    def stream(self, pixels: int, quads: int) -> Block:
        """The routine for columns of any length."""
        return Block(pixels, STREAM, True, self.split, self.clamp)

    def layout(self, words: int) -> Records:
        """Where weights lie in the records of a pair, which have so many words."""
        odd = bool(len(self.channels.bias) % 2)
        return Records(words, 2, before=2, after=3, joined=not self.split, apart=odd)

    def pack(self, order: np.ndarray) -> np.ndarray:
        """int32 words, pair by pair.

        Args:
            order: [quads, 4] which tap each element of the column is, -1 for none.
        """
        channels, (first, second) = self.channels, self.channels.sides
        a, b = channels.ordered(order[:, [0, 2, 1, 3]])
        lanes = (a & 255) | (b & 255) << 8 if self.split else a + 256 * b
        weights = (lanes & 0xFFFF).astype("<u2").reshape(len(first), -1).view("<u4").astype(np.int64)
        joint = channels.bias[second] if self.split else channels.bias[first] + 256 * channels.bias[second]
        multiplier = 2 * channels.multiplier[first], channels.multiplier[second] * (1 + self.split)
        return table([channels.bias[first], joint, *weights.T, *multiplier, channels.words()])


def bytes_form(channels: Channels, clamp: Clamp) -> Bytes:
    """The channels of a layer with weights of 8 bits."""
    first, second = channels.sides
    lanes = channels.weights[first] + 256 * channels.weights[second]
    split = bool((channels.size[second] >= _JOINT).any() or (lanes < -(1 << 15)).any() or (lanes >= 1 << 15).any())
    return Bytes(channels, split, clamp)
