"""Requantisation as one straight line a channel: output = clamp((c + (acc * 2^j * M >> 32)) >> S).

On a core with SMMLA and SSAT that is three instructions an output with the store, since S is the same for all channels and j is in the
weights. What a network asks for is rounded twice, half away from zero, which is no line; but its outputs are integers of 8 bits, so only
the accumulators count at which the output steps up, 255 at most. Both sides grow with the accumulator. So if they agree on each of these
accumulators and on its lower neighbour, they agree on all; that is checked here, channel by channel, from the real weights and biases.
It holds wherever negative results are clamped, as behind a ReLU, and hardly ever elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from tinykit.engine.requant import accumulator_range
from tinykit.graph import fixedpoint, ir

_MOST = (1 << 31) - 1
_POWERS = 3  # values of j that are tried for a channel
_SHIFTS = (10, 8, 12, 6, 14, 4, 16, 18)  # values of S, usual ones first: layers with one S share code
_STEEPER = (24, 20, 17, 14, 11, 8, 6)  # a multiplier is changed by 2^-n of itself: a channel with few levels has room for another slope


@dataclass(frozen=True)
class Line:
    """Constants of a layer: `shift` is S; arrays [out] of int64 hold j, M and c."""

    shift: int
    power: np.ndarray
    multiplier: np.ndarray
    offset: np.ndarray

    def outputs(self, acc: np.ndarray, clamp: tuple[int, int]) -> np.ndarray:
        """What a kernel makes of accumulators [n, out]."""
        return np.clip((self.offset + (((acc << self.power) * self.multiplier) >> 32)) >> self.shift, *clamp)


@dataclass(frozen=True)
class Steps:
    """Where a layer's outputs step up, level by level.

    Attributes:
        multiplier, right: int64 [out], of the definition: acc * multiplier / 2^(31 + right).
        clamp: least and largest stored output.
        level: int64 [levels, 1], all stored outputs but the least.
        first: int64 [levels, out], the least accumulator whose output is not below the level.
        reached: bool [levels, out], the level is reached, but not by all accumulators.
        low, high: int64 [out], the range of accumulators.
        least, most: int64 [out], outputs at its ends.
    """

    multiplier: np.ndarray
    right: np.ndarray
    clamp: tuple[int, int]
    level: np.ndarray
    first: np.ndarray
    reached: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    most: np.ndarray

    def taken(self, channels: np.ndarray) -> Steps:
        """The steps of some channels."""
        arrays = {f.name: getattr(self, f.name)[..., channels] for f in fields(self) if f.name not in ("clamp", "level")}
        return replace(self, **arrays)


def steps(op: ir.Weighted, x: ir.Tensor, y: ir.Tensor) -> Steps | None:
    """The steps of a layer; None where an accumulator may leave 32 bits, or does when it is shifted."""
    low, high = accumulator_range(op, x)
    left = max(0, int(op.shift.max()))
    if int(low.min()) << left < -_MOST or int(high.max()) << left > _MOST:
        return None

    def output(acc: np.ndarray) -> np.ndarray:
        scaled = fixedpoint.multiply_by_quantized_multiplier(acc, op.multiplier, op.shift, op.rounding)
        return np.clip(scaled + y.zero_point, op.act_min, op.act_max)

    level = np.arange(op.act_min + 1, op.act_max + 1, dtype=np.int64)[:, None]
    least, most = output(low[None])[0], output(high[None])[0]
    multiplier, right = (np.broadcast_to(v, low.shape).astype(np.int64) for v in (op.multiplier, -op.shift.astype(np.int64)))
    first, reached = _search(output, level, low, high), (least < level) & (level <= most)
    return Steps(multiplier, right, (op.act_min, op.act_max), level, first, reached, low, high, least, most)


def _search(output: Callable[[np.ndarray], np.ndarray], level: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Least accumulator in [low, high] whose output is not below the level, by bisection; `high` where there is none."""
    first, last = np.broadcast_to(low, (len(level), len(low))).copy(), np.broadcast_to(high, (len(level), len(low))).copy()
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (first + last) >> 1
        enough = output(middle) >= level
        last = np.where(enough, middle, last)
        first = np.where(enough, first, np.minimum(middle + 1, last))
    return last


def fit(found: Steps, most_power: np.ndarray) -> Line | None:
    """A line for every channel, all with one S; None where there is none.

    Args:
        most_power: int64 [out], the largest j that the kernel's weights allow.
    """
    return _first(found, _SHIFTS, lambda shift: _with_powers(found, shift, most_power))


def fit_at(found: Steps, power: np.ndarray, shifts: Sequence[int]) -> Line | None:
    """A line for every channel, all with one S; None where there is none.

    Args:
        power: int64 [out], the j that the kernel has.
        shifts: values of S, the first that fits is taken.
    """
    return _first(found, shifts, lambda shift: _at_power(found, shift, power))


_Try = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Arrays [out]: whether it is allowed, j, M."""


def _first(found: Steps, shifts: Sequence[int], tries: Callable[[int], Iterator[_Try]]) -> Line | None:
    return next((line for shift in shifts if (line := _settled(found, shift, tries(shift))) is not None), None)


def _with_powers(found: Steps, shift: int, most_power: np.ndarray) -> Iterator[_Try]:
    """Powers from the least on that M has room for."""
    right = np.where(found.multiplier == 0, shift + 1, found.right)
    first = np.maximum(shift + 1 - right, 0)
    for power in (first + i for i in range(_POWERS)):
        allowed = power <= np.minimum(_room(found), most_power)
        safe = np.where(allowed, power, 0)
        yield allowed, safe, _multiplier(found, safe - (shift + 1 - right))


def _at_power(found: Steps, shift: int, power: np.ndarray) -> Iterator[_Try]:
    """The multiplier that the power gives and others beside it, which may fit where its last bits are lost, or c is too coarse; 0 where the
    output never changes, so that it does not matter what a kernel sums."""
    none = np.zeros(len(power), np.int64)
    yield found.least == found.most, none, none
    lost = power - (shift + 1 - found.right)
    allowed, safe = (lost >= 0) & (power <= _room(found)), np.minimum(power, _room(found))
    multiplier = _multiplier(found, lost)
    one = np.ones_like(multiplier)
    for beside in (0 * one, one, -one, *(sign * (multiplier >> n) for n in _STEEPER for sign in (1, -1))):
        yield allowed, safe, np.clip(multiplier + beside, 0, _MOST)


def _room(found: Steps) -> np.ndarray:
    """The largest j that 32 bits leave."""
    reach = np.maximum(np.maximum(np.abs(found.low), np.abs(found.high)), 1)
    return np.floor(np.log2(_MOST / reach)).astype(np.int64)


def _multiplier(found: Steps, lost: np.ndarray) -> np.ndarray:
    """M, with so many of its last bits rounded off."""
    rounded = (found.multiplier + ((1 << np.clip(lost, 1, 40)) >> 1)) >> np.clip(lost, 0, 40)
    return np.minimum(np.where(lost > 0, rounded, found.multiplier), _MOST)


def _settled(found: Steps, shift: int, tries: Iterator[_Try]) -> Line | None:
    """The first of the tries that fits each channel."""
    done = np.zeros(len(found.low), bool)
    result = [np.zeros(len(found.low), np.int64) for _ in range(3)]
    for allowed, power, multiplier in tries:
        low, high = _offsets(found, power, multiplier, shift)
        fits = ~done & allowed & (low <= high)
        for array, value in zip(result, (power, multiplier, low + (high - low) // 2)):
            array[fits] = value[fits]
        done |= fits
        if done.all():
            return Line(shift, *result)
    return None


def _offsets(found: Steps, power: np.ndarray, multiplier: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest c of each channel with which the line has these steps; least > largest where there is none."""

    def high_word(acc: np.ndarray) -> np.ndarray:
        return ((acc << power) * multiplier) >> 32

    limit = 1 << 30
    edge = found.level << shift
    least = np.where(found.reached, edge - high_word(found.first), -limit).max(axis=0, initial=-limit)
    most = np.where(found.reached, edge - high_word(found.first - 1) - 1, limit).min(axis=0, initial=limit)
    bottom, top = found.least > found.clamp[0], found.most < found.clamp[1]
    least = np.maximum(least, np.where(bottom, (found.least << shift) - high_word(found.low), -limit))
    most = np.minimum(most, np.where(top, ((found.most + 1) << shift) - high_word(found.high) - 1, limit))
    # the sum with the high word must stay within 32 bits at both ends
    return np.maximum(least, -_MOST - high_word(found.low)), np.minimum(most, _MOST - high_word(found.high))


def defined(op: ir.Weighted, y: ir.Tensor, acc: np.ndarray, channel: int) -> np.ndarray:
    """The definition, for accumulators of one channel: what a line is measured by."""
    one = slice(channel, channel + 1)
    scaled = fixedpoint.multiply_by_quantized_multiplier(acc, op.multiplier[one], op.shift[one], op.rounding)
    return np.clip(scaled + y.zero_point, op.act_min, op.act_max)
