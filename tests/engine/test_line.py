"""Requantisation on a line: accepted only where it agrees with the definition for every accumulator that a layer can have."""

import dataclasses

import numpy as np
import pytest

from tinykit.engine import line
from tinykit.graph import ir


def layer(seed: int) -> tuple[ir.DepthwiseConv2D, ir.Tensor, ir.Tensor]:
    """Twelve channels of one tap, whose accumulators can be counted; ReLU or not, one rounding or two, multipliers at their ends."""
    rng = np.random.default_rng(seed)
    zero = [-128, 127, 0, 40][seed % 4]
    x = ir.Tensor("x", (1, 1, 12), 1.0, int(rng.integers(-128, 128)))
    y = ir.Tensor("y", (1, 1, 12), 1.0, zero)
    base = int(rng.integers(0, 9))
    multiplier = rng.integers(1 << 30, 1 << 31, 12).astype(np.int32)
    multiplier[:4] = [1 << 30, (1 << 31) - 1, 0, 1 << 30]
    low, high = [(zero, 127), (-128, 127), (max(zero, -60), 90), (3, 3)][seed // 4 % 4]
    op = ir.DepthwiseConv2D(
        "op", ("x",), "y", rng.integers(-127, 128, (1, 1, 12)).astype(np.int8), rng.integers(-40000, 40000, 12).astype(np.int32),
        multiplier, (-base - rng.integers(0, 5, 12)).astype(np.int32), np.ones(12, np.float32), min(low, 126), max(high, low), 8,
        list(ir.Rounding)[seed // 16 % 2], stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), depth_multiplier=1,
    )  # fmt: skip
    return op, x, y


def test_agrees_for_every_accumulator(tally) -> None:
    fitted = compared = 0
    for seed in range(96):
        op, x, y = layer(seed)
        found = line.steps(op, x, y)
        assert found is not None
        made = line.fit(found, np.full(12, 8))
        if made is None:
            continue
        fitted += 1
        for channel in range(12):
            acc = np.arange(found.low[channel], found.high[channel] + 1)
            one = line.Line(made.shift, *(getattr(made, name)[channel : channel + 1] for name in ("power", "multiplier", "offset")))
            wanted = line.defined(op, y, acc[:, None], channel)
            assert np.array_equal(one.outputs(acc[:, None], found.clamp), wanted), (seed, channel)
            compared += len(acc)
    tally("requantisation on a line vs definition", 0, compared)
    assert fitted >= 30


def test_what_rounds_away_from_zero_on_both_sides_is_refused() -> None:
    """Two roundings and no clamp: there is no line, and none is made up."""
    op, x, y = layer(6)
    x, weights, shift = dataclasses.replace(x, zero_point=0), np.full_like(op.weights, 127), np.full_like(op.shift, -7)
    op = dataclasses.replace(op, weights=weights, bias=np.zeros_like(op.bias), shift=shift)
    assert op.rounding == ir.Rounding.DOUBLE and op.act_min < y.zero_point < op.act_max
    found = line.steps(op, x, y)
    assert found is not None and line.fit(found, np.full(12, 8)) is None


@pytest.mark.parametrize("field", ["offset", "multiplier", "power"])
def test_a_line_beside_it_disagrees(field) -> None:
    """The intervals are tight: some channel notices a constant that is a little off."""
    wrong = 0
    for seed in range(0, 48, 16):
        op, x, y = layer(seed)
        found = line.steps(op, x, y)
        made = line.fit(found, np.full(12, 8)) if found else None
        assert found and made
        moved = {"offset": made.offset + (1 << made.shift - 3), "multiplier": made.multiplier + (1 << 20), "power": made.power + 1}[field]
        arrays = {name: getattr(made, name) for name in ("power", "multiplier", "offset")} | {field: moved}
        for channel in range(12):
            acc = np.arange(found.low[channel], found.high[channel] + 1)[:, None]
            one = line.Line(made.shift, *(arrays[name][channel : channel + 1] for name in ("power", "multiplier", "offset")))
            wrong += int((one.outputs(acc, found.clamp) != line.defined(op, y, acc, channel)).sum())
    assert wrong > 0
