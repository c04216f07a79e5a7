"""A convolution's channels in pairs, as the routines of `blocks` read them, and the proofs that what these compute is exact.

A pair is the two initial sums A and S, the weights, and what makes outputs. Rounded twice: the two multipliers, and a word with the shifts
less one in bytes 0 and 1, a mark of the last pair in bit 15, twice the output's zero point plus one in the upper half. On a line: the two
multipliers, the first offset, and twice the second one, with the mark in bit 0. An odd last channel is paired with the one before it, which
is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tinykit.engine import line
from tinykit.engine.call import Records
from tinykit.engine.kernels.blocks import POWER, Block
from tinykit.engine.kernels.finish import Finish
from tinykit.engine.kernels.frame import STREAM
from tinykit.engine.requant import accumulator_range, code_base
from tinykit.graph import ir
from tinykit.graph.fixedpoint import multiply_by_quantized_multiplier

_WRAPS = 1 << 31
_JOINT = 1 << 23  # |B| below it: S - A = 256 B does not leave 32 bits
_HALF = 1 << 30
LAST = 1 << 15
"""In the last word of a pair that is rounded twice: it is the last one."""
LAST_ON_LINE = 1
"""The same on a line."""
_USUAL = 12  # shift of lines, which layers with weights of 8 bits share
_APART = (0, -2, 2, -4, 4, -6, 6, -1, 1, -3, 3, -5)  # from the usual one
_OWN = 4096  # pairs of channels times pixels: a layer of fewer is not worth code of its own


@dataclass(frozen=True)
class Channels:
    """What a layer's routines compute with, proved exact.

    Attributes:
        weights: int64 [out, taps], 0 in channels whose output is constant.
        bias: with the input's zero point folded in, int64 modulo 2^32.
        multiplier: 2^30..2^31 - 1.
        shift: to the right, less one, 0..30.
        least, largest: accumulator, for all inputs.
        zero: the output's zero point.
        twice: rounding twice, by multiplier and shift, is exact.
        steps: of the outputs, in terms of stored integers; None: there can be no line.
        base: what a stored integer is 0 for.
        pixels: of the output.
        narrower: bits that the output has less than the input.
    """

    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    least: np.ndarray
    largest: np.ndarray
    zero: int
    twice: bool
    steps: line.Steps | None
    base: int
    pixels: int
    narrower: int

    @property
    def size(self) -> np.ndarray:
        """Largest |accumulator|."""
        return np.maximum(np.abs(self.least), np.abs(self.largest))

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

    @property
    def marks(self) -> np.ndarray:
        """bool [pairs]: on the last pair and, where that overlaps, on the one before."""
        count = len(self.sides[0])
        return np.arange(count) >= count - 1 - len(self.bias) % 2

    def line(self, powers: tuple[int, int], usual: int = _USUAL) -> Line | None:
        """The line for sums of first and second channels times 2 to these powers; None where it takes code that is not worth it.

        Args:
            usual: shift, where input and output have as many bits.
        """
        if self.steps is None:
            return None
        sides, count = np.concatenate(self.sides), len(self.sides[0])
        apart = _APART[:1] if self.twice and count * self.pixels < _OWN else _APART
        shifts = [usual + self.narrower + by for by in apart if 1 <= usual + self.narrower + by <= 30]
        found = line.fit_at(self.steps.taken(sides), np.repeat(powers, count), shifts)
        if found is None:
            return None
        offset = found.offset - (self.base << found.shift)
        if (np.abs(offset) >= _HALF).any():
            return None
        first, second = offset[:count], 2 * offset[count:] + self.marks * LAST_ON_LINE
        return Line(found.shift, (found.multiplier[:count], found.multiplier[count:], first, second))

    def parameters(self, on_line: Line | None, factor: tuple[int, int] = (1, 1)) -> tuple[np.ndarray, ...]:
        """Columns [pairs]: what makes outputs of a pair's sums.

        Args:
            factor: of multipliers where sums are rounded twice.
        """
        if on_line is not None:
            return on_line.columns
        first, second = self.sides
        shifts = self.shift[first] | self.shift[second] << 8
        word = shifts | self.marks * LAST | (2 * self.zero + 1) << 16
        return self.multiplier[first] * factor[0], self.multiplier[second] * factor[1], word


@dataclass(frozen=True)
class Line:
    """A line on which the outputs of all pairs lie.

    Attributes:
        shift: see `tinykit.engine.line`.
        columns: int64 [pairs]: multipliers, the first offset, twice the second with the mark.
    """

    shift: int
    columns: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def table(columns: list[np.ndarray]) -> np.ndarray:
    """int32 words, pair by pair, from columns of int64 [pairs] modulo 2^32."""
    return (np.stack(columns, axis=1).ravel() & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def prove(op: ir.Weighted, x: ir.Tensor, y: ir.Tensor, zeros: bool = True) -> Channels | None:
    """The channels of a layer with weights [out, ...]; None for a single channel, or where a sum may leave 32 bits.

    A channel whose output is the same at both ends of its accumulator's range is constant, since requantisation is monotone: it becomes
    a sum that gives that constant, so that dead channels with any bias are no obstacle.

    Args:
        zeros: weights may be 0.
    """
    out = len(op.weights)
    least, largest = accumulator_range(op, x)
    if out < 2 or max(-int(least.min()), int(largest.max())) >= _WRAPS:
        return None
    multiplier, shift = (np.broadcast_to(v, out).astype(np.int64) for v in (op.multiplier, op.shift))
    base = code_base(y)
    zero = y.zero_point - base
    weights = op.weights.reshape(out, -1).astype(np.int64)
    bias = op.bias.astype(np.int64) - (x.zero_point - code_base(x)) * weights.sum(axis=1)
    steps, pixels, narrower = line.steps(op, x, y), y.size // y.channels, x.bits - y.bits
    covered = op.rounding == ir.Rounding.DOUBLE and int(op.shift.max()) <= 0 and int(op.shift.min()) >= -31
    if not covered:
        common = zero, False, steps, base, pixels, narrower
        return None if steps is None else Channels(weights, bias, multiplier, shift, least, largest, *common)
    ends = [
        np.clip(multiply_by_quantized_multiplier(v, multiplier, shift) + zero, op.act_min - base, op.act_max - base)
        for v in (least, largest)
    ]
    constant = (ends[0] == ends[1]) & zeros
    scaled = (np.maximum(np.abs(least), np.abs(largest)) * multiplier >> 31) + 2
    rounding = np.abs(2 * zero + 1) << np.clip(-shift - 1, 0, 30)
    fits = (multiplier >= _HALF) & (shift <= -1) & (scaled + rounding < _WRAPS)
    # twice half of a value, multiplied by a half of 2^31: 2 (v - zero), which the last shift halves
    bias = np.where(constant, 4 * (ends[0] - zero), bias)
    weights = np.where(constant[:, None], 0, weights)
    least, largest = (np.where(constant, bias, end) for end in (least, largest))
    multiplier, right = np.where(constant, _HALF, multiplier), np.where(constant, 0, -shift - 1)
    twice = bool((fits | constant).all())
    return Channels(weights, bias, multiplier, right, least, largest, zero, twice, steps, base, pixels, narrower)


def pair_channels(count: int) -> list[tuple[int, int]]:
    """The pairs of `count` >= 2 channels."""
    return [(c, c + 1) for c in range(0, count - 1, 2)] + ([(count - 2, count - 1)] if count % 2 else [])


@dataclass(frozen=True)
class Bytes:
    """Weights of 8 bits for the routines of `blocks`.

    Attributes:
        split: the two channels of a pair need words of their own.
        finish, on_line: how sums become outputs.
    """

    channels: Channels
    split: bool
    finish: Finish
    on_line: Line | None

    counts = (3, 2, 1)
    tag = ""

    def line(self, pixels: int, quads: int) -> Block | None:
        """The routine without passes."""
        return Block(pixels, quads, False, self.finish, self.split)

    def stream(self, pixels: int, quads: int) -> Block:
        """The routine for columns of any length."""
        return Block(pixels, STREAM, True, self.finish, self.split)

    @property
    def last(self) -> int:
        """What marks the last pair, in its last word."""
        return LAST if self.on_line is None else LAST_ON_LINE

    def layout(self, words: int) -> Records:
        """Where weights lie in the records of a pair, which have so many words."""
        odd = bool(len(self.channels.bias) % 2)
        return Records(words, 2, before=2, after=3 if self.on_line is None else 4, joined=not self.split, apart=odd)

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
        return table([channels.bias[first], joint, *weights.T, *channels.parameters(self.on_line, (2, 1 + self.split))])


def bytes_form(channels: Channels, finish: Finish) -> Bytes | None:
    """The channels of a layer with weights of 8 bits; None where what makes its outputs is not proved."""
    first, second = channels.sides
    lanes = channels.weights[first] + 256 * channels.weights[second]
    split = bool((channels.size[second] >= _JOINT).any() or (lanes < -(1 << 15)).any() or (lanes >= 1 << 15).any())
    found = channels.line((POWER, POWER))
    if found is None:
        return Bytes(channels, split, finish, None) if channels.twice else None
    return Bytes(channels, split, replace(finish, line=found.shift), found)
