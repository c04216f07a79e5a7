"""Channels in pairs whose weights have 4 or 2 bits, as the routines of `nibble_blocks`, `lane_blocks` and `short_blocks` read them, and the
proofs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tinykit.engine.kernels import lane_blocks, nibble_blocks, short_blocks
from tinykit.engine.kernels.finish import Finish
from tinykit.engine.kernels.frame import STREAM
from tinykit.engine.kernels.lane_blocks import LOW, LaneBlock
from tinykit.engine.kernels.nibble_blocks import NibbleBlock
from tinykit.engine.kernels.pairs import Channels, Line, table
from tinykit.engine.kernels.short_blocks import ShortBlock

_DOUBLED = 1 << 30  # sums below it may be doubled
_HIGH = 1 << 31 - LOW  # what is above the lower channel's bits holds sums below it
_SPREAD = 1 << LOW  # the lower channel's bits hold what is below it
_LANE = 1 << 15  # a lane holds what is below it
_USUAL = 8  # shift of lines, which layers share
_PASSES = (8, 6, 4, 2, 1)  # steps of a pass after which A' is taken out; the longest that is proved


@dataclass(frozen=True)
class Nibbles:
    """Weights of 4 bits; `finish` and `on_line` say how sums become outputs."""

    channels: Channels
    finish: Finish
    on_line: Line | None

    counts = (3, 2, 1)
    tag = "_w4"

    def line(self, pixels: int, quads: int) -> NibbleBlock | None:
        """The routine without passes."""
        return NibbleBlock(pixels, quads, False, self.finish)

    def stream(self, pixels: int, quads: int) -> NibbleBlock:
        """The routine for columns of any length."""
        return NibbleBlock(pixels, STREAM, True, self.finish)

    def layout(self, words: int) -> None:
        """Weights of fewer than 8 bits have been packed; nothing is known of bytes."""

    def pack(self, order: np.ndarray) -> np.ndarray:
        """int32 words, pair by pair: the initial sums, 4 taps a word, the multipliers, shifts and zero point.

        Args:
            order: [quads, 4] which tap each element of the column is, -1 for none, which adds nothing to either sum.
        """
        channels, (first, second) = self.channels, self.channels.sides
        a, b = channels.ordered(order)
        taps = np.where(order < 0, 0, 16 * b + a + 8) & 255
        weights = (taps << np.arange(0, 32, 8)).sum(axis=-1)
        initial = channels.bias[first], channels.bias[first] + 16 * channels.bias[second]
        return table([*initial, *weights.T, *channels.parameters(self.on_line)])


def nibbles(channels: Channels, finish: Finish) -> Nibbles | None:
    """The channels of a layer with weights of 4 bits; None where a sum may be too large, or what makes its outputs is not proved."""
    first, second = channels.sides
    if (channels.size[first] >= _DOUBLED).any() or (channels.size[second] >= 1 << 27).any():
        return None
    found = channels.line((nibble_blocks.POWER, nibble_blocks.POWER), _USUAL)
    if found is None:
        return Nibbles(channels, finish, None) if channels.twice else None
    return Nibbles(channels, replace(finish, line=found.shift), found)


@dataclass(frozen=True)
class Lanes:
    """Weights of 2 bits.

    Attributes:
        low, high: least and largest element of a column.
        odd: weights are 2 c + 1.
        order: [quads, 4] which tap each element of the column is; an even number of quads.
        finish, on_line: how sums become outputs.
    """

    channels: Channels
    low: int
    high: int
    odd: bool
    order: np.ndarray
    finish: Finish
    on_line: Line | None = None

    counts = (4, 2, 1)
    tag = "_w2"

    @property
    def _offset(self) -> int:
        return _offset(self.channels, self.odd)

    @property
    def _signs(self) -> np.ndarray:
        """int64 [pairs]: -1 where the first channel's weights are negated, so that its fields are small; not in -2..1."""
        symmetric = self.odd or self._offset == 1
        return np.where(symmetric & (self.channels.weights[self.channels.sides[0]].sum(axis=1) > 0), -1, 1)

    @property
    def _fields(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [pairs, quads, 4]: unsigned fields of the first channels, signed ones of the second; none where there is no tap."""
        first, second = self.channels.ordered(self.order)
        return _fields(first * self._signs[:, None, None], second, self.order >= 0, self._offset, self.odd)

    def _fits(self, starts: np.ndarray) -> bool:
        """Whether A' stays within its bits from each of these quads to the next."""
        sums = np.add.reduceat(self._fields[0].sum(axis=-1), starts, axis=1).max(initial=0)
        least, most = (-(1 << LOW - 1), (1 << LOW - 1) - 1) if self._signed else (0, (1 << LOW) - 1)
        return bool(sums * self.low >= least and sums * self.high <= most)

    @property
    def _signed(self) -> bool:
        return self.low < 0

    @property
    def based(self) -> bool:
        """Whether B, with its bias, may leave its bits, or needs a pixel's sum."""
        return self.odd or bool((self.channels.size[self.channels.sides[1]] >= _HIGH).any())

    def _stays(self) -> bool:
        """Whether B, without its bias, stays within its bits to the end."""
        return int(np.abs(self._fields[1]).sum(axis=(1, 2)).max(initial=0)) * max(-self.low, self.high) < _HIGH

    def _whole(self) -> bool:
        """Whether both sums stay within their bits to the end."""
        return self._fits(np.array([0])) and self._stays()

    def _block(self, pixels: int, steps: int, stream: bool, split: bool) -> LaneBlock:
        wide = split and self.based and not self._stays()
        return LaneBlock(pixels, steps, stream, self.finish, split, self.based, wide, self.odd, self._signed, self._offset)

    def line(self, pixels: int, quads: int) -> LaneBlock | None:
        """The routine without passes, where sums can stay to the end."""
        return self._block(pixels, (quads + 1) // 2, False, False) if self._whole() else None

    def stream(self, pixels: int, quads: int) -> LaneBlock:
        """The routine for columns of any length."""
        steps = (quads + 1) // 2
        if self._whole():
            return self._block(pixels, STREAM // 2, True, False)
        for size in _PASSES:
            first = 1 + size - (1 - steps) % size
            if self._fits(2 * np.array([0, *range(first, steps, size)])):
                return self._block(pixels, size, True, True)
        raise AssertionError("16 taps of 3 are always within 14 bits")

    def layout(self, words: int) -> None:
        """Weights of fewer than 8 bits have been packed; nothing is known of bytes."""

    def pack(self, order: np.ndarray) -> np.ndarray:
        """int32 words, pair by pair: the initial sum, 8 taps a word, the first bias, the second where B is taken out, the first channel's
        sign; the biases and the sign times what their sums are, and are to be."""
        channels, (first, second) = self.channels, self.channels.sides
        a, b = (_in_words(field) for field in self._fields)
        weights = _in_flash(a, b)
        power = 1 if self.on_line is None else lane_blocks.POWER
        bias, sign = channels.bias << power, self._signs << power - 1
        rest = sign, *channels.parameters(self.on_line)
        if self.based:
            return table([np.zeros_like(first), *weights.T, bias[first], bias[second], *rest])
        return table([channels.bias[second] << LOW, *weights.T, bias[first], *rest])


def _offset(channels: Channels, odd: bool) -> int:
    """What makes the first channels' fields unsigned: the least that does."""
    return 2 if odd else max(0, -int(channels.weights.min()))


def _fields(first: np.ndarray, second: np.ndarray, tap: np.ndarray, offset: int, odd: bool) -> tuple[np.ndarray, np.ndarray]:
    """Unsigned fields of weights of a first channel, signed ones of a second, of shape [pairs, ...]; 0 where there is no `tap` [...]."""
    a, b = ((weights - odd) >> odd for weights in (first, second))
    return np.where(tap, a + offset, 0), np.where(tap, b, 0)


def _in_words(quads: np.ndarray) -> np.ndarray:
    """[..., quads, 4] as words of two lanes [..., 2 quads, 2]: elements 0 and 2 of a quad, 1 and 3."""
    return np.swapaxes(quads.reshape(*quads.shape[:-1], 2, 2), -1, -2).reshape(*quads.shape[:-2], -1, 2)


def _in_flash(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """int64 [pairs, words / 4]: eight taps a word, from fields [pairs, words, 2] of both channels."""
    lanes = (a | b << LOW) & 0xFFFF
    words = lanes[..., 0] | lanes[..., 1] << 16
    words = np.pad(words, ((0, 0), (0, -words.shape[1] % 4)))
    return np.sum([_turned(words[:, i::4], 4 * i) for i in range(4)], axis=0)


def _turned(words: np.ndarray, bits: int) -> np.ndarray:
    """Rotated to the left."""
    return (words << bits | words >> 32 - bits) & 0xFFFFFFFF


def lanes(channels: Channels, finish: Finish, limits: tuple[int, int], odd: bool, order: np.ndarray) -> Lanes | None:
    """The channels of a layer with weights of 2 bits, columns within `limits`; None where a sum may be too large, or what makes its
    outputs is not proved."""
    if not (channels.size < _DOUBLED).all():
        return None
    even = np.concatenate([order, np.full((len(order) % 2, 4), -1)])
    twice = Lanes(channels, *limits, odd, even, finish)
    found = channels.line((lane_blocks.POWER, lane_blocks.POWER if twice.based else LOW), _USUAL)
    if found is None:
        return twice if channels.twice else None
    return replace(twice, finish=replace(finish, line=found.shift), on_line=found)


_SUM = -2  # of a column, in the place of a tap's number


@dataclass(frozen=True)
class ShortLanes:
    """Weights of 2 bits for columns that end in the negative of their sum.

    Attributes:
        odd: weights are 2 c + 1.
        order: [quads, 4] which tap each element of the column is, -1 for none, which come last.
        finish, on_line: how sums become outputs.
    """

    channels: Channels
    odd: bool
    order: np.ndarray
    finish: Finish
    on_line: Line | None = None

    counts = (4, 2, 1)
    tag = "_w2s"

    @property
    def full(self) -> bool:
        """Whether the first channels' sums, less the least, take all of their bits."""
        spread = self.channels.largest - self.channels.least
        return self.on_line is None and bool((spread[self.channels.sides[0]] >= short_blocks.SPARE).any())

    @property
    def _places(self) -> np.ndarray:
        """[words, 2]: which tap each lane is, -1 for none, `_SUM`: the column's sum."""
        taps = int((self.order >= 0).sum())
        quads = np.concatenate([self.order, np.full((1, 4), -1)])
        places = _in_words(quads)[: taps // 2 + 1].copy()
        places[-1, 1] = _SUM
        return places

    def line(self, pixels: int, quads: int) -> ShortBlock:
        """The routine."""
        return ShortBlock(pixels, len(self._places), False, self.finish, self.full, self.odd)

    def layout(self, words: int) -> None:
        """Weights of fewer than 8 bits have been packed; nothing is known of bytes."""

    def pack(self, order: np.ndarray) -> np.ndarray:
        """int32 words, pair by pair: the initial sum, 8 taps a word, what makes outputs, and with it the first channel's least sum, times
        what it is to be."""
        channels, (first, second), places = self.channels, self.channels.sides, self._places
        offset = _offset(channels, self.odd)
        a, b = _fields(*channels.ordered(np.maximum(places, -1)), places >= 0, offset, self.odd)
        a, b = np.where(places == _SUM, offset + self.odd, a), np.where(places == _SUM, -int(self.odd), b)
        least = channels.least[first]
        initial = channels.bias[first] - least + (channels.bias[second] << LOW)
        parameters = channels.parameters(self.on_line)
        rest = (2 * least, *parameters) if self.on_line is None else (*parameters, least << short_blocks.POWERS[0])
        return table([initial, *_in_flash(a, b).T, *rest])


def short_lanes(channels: Channels, finish: Finish, limits: tuple[int, int], odd: bool, order: np.ndarray) -> ShortLanes | None:
    """The same for short columns; None where a sum needs more than its bits, or what makes the outputs is not proved."""
    if not (channels.size < _DOUBLED).all():
        return None
    first, second = channels.sides
    spread = (channels.largest - channels.least)[first]
    column = int((order >= 0).sum()) * max(-limits[0], limits[1])
    if (spread >= _SPREAD).any() or (channels.size[second] >= _HIGH).any() or column >= _LANE:
        return None
    twice = ShortLanes(channels, odd, order, finish)
    found = channels.line(short_blocks.POWERS, _USUAL)
    if found is None:
        return twice if channels.twice else None
    return replace(twice, finish=replace(finish, line=found.shift), on_line=found)
