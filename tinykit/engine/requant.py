"""Requantisation of accumulators: which helper is exact for a layer, and the tables that it needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinykit.engine.call import Argument, Table
from tinykit.engine.memory import is_packed
from tinykit.graph import ir


@dataclass(frozen=True)
class Requant:
    """How a layer's accumulators become stored outputs.

    Attributes:
        helper: C function `tk_scale...`.
        per_channel: multipliers and shifts are tables; else two constants.
        parameters: (C type, name) of what the kernel takes for it.
        arguments: their values.
    """

    helper: str
    per_channel: bool
    parameters: tuple[tuple[str, str], ...]
    arguments: dict[str, Argument]

    @property
    def support(self) -> tuple[str, ...]:
        """Helpers that the expression calls."""
        return ("tk_clamp", self.helper)

    @property
    def tag(self) -> str:
        """Distinguishes kernels by their requantisation: part of a function's name."""
        return ("" if self.per_channel else "_pt") + {"tk_scale": "", "tk_scale_any": "_any", "tk_scale_once": "_once"}[self.helper]

    def expression(self, acc: str, channel: str) -> str:
        """C expression of the stored output for accumulator `acc` of output channel `channel`."""
        index = f"[{channel}]" if self.per_channel else ""
        scaled = f"{self.helper}({acc}, multiplier{index}, shift{index})"
        if self.helper == "tk_scale":
            return f"(int8_t)tk_clamp({scaled} + out_zero, act_min, act_max)"
        # may be as large as int32 itself, so the zero point is added when it has been clamped
        return f"(int8_t)(tk_clamp({scaled}, act_min - out_zero, act_max - out_zero) + out_zero)"


def code_base(tensor: ir.Tensor) -> int:
    """What a kernel takes for 0: the least stored integer of a packed tensor, whose codes it reads; 0 where it reads stored integers."""
    return tensor.low if is_packed(tensor) else 0


def _within(op: ir.Weighted) -> tuple[int, ...]:
    """The axes of the weights that belong to one output channel."""
    return tuple(range(op.weights.ndim - 1)) if isinstance(op, ir.DepthwiseConv2D) else tuple(range(1, op.weights.ndim))


def accumulator_range(op: ir.Weighted, x: ir.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest accumulator of each output channel [out], int64, for all inputs that `x` can hold; padded taps add nothing."""
    weights, bias = op.weights.astype(np.int64), op.bias.astype(np.int64)
    positive, negative = (part.sum(axis=_within(op)) for part in (np.maximum(weights, 0), np.minimum(weights, 0)))
    low, high = min(x.low - x.zero_point, 0), max(x.high - x.zero_point, 0)
    return bias + positive * low + negative * high, bias + positive * high + negative * low


def accumulator_bound(op: ir.Weighted, x: ir.Tensor) -> np.ndarray:
    """Largest |accumulator| of each output channel [out], int64: |bias| + sum |w| * max |x - zero point|."""
    reach = max(abs(x.low - x.zero_point), abs(x.high - x.zero_point))
    return np.abs(op.bias.astype(np.int64)) + reach * np.abs(op.weights.astype(np.int64)).sum(axis=_within(op))


def requant(op: ir.Weighted, x: ir.Tensor, y: ir.Tensor) -> Requant:
    """The requantisation of a layer from `x` to `y`: to stored integers, to codes where `y` is packed."""
    multiplier, shift = op.multiplier.astype(np.int32), op.shift.astype(np.int64)
    shift = np.where(multiplier == 0, -1, shift)  # 0 * anything is 0 after any shift
    fast = op.rounding == ir.Rounding.DOUBLE and bool((shift <= -1).all()) and int(accumulator_bound(op, x).max(initial=0)) < 1 << 30
    helper = "tk_scale_once" if op.rounding == ir.Rounding.SINGLE else "tk_scale" if fast else "tk_scale_any"
    stored = -shift if fast else shift
    low = code_base(y)
    clamp: dict[str, Argument] = {"out_zero": y.zero_point - low, "act_min": op.act_min - low, "act_max": op.act_max - low}
    names = tuple(("int32_t", name) for name in clamp)
    if len(multiplier) == 1 or (multiplier == multiplier[0]).all() and (stored == stored[0]).all():
        constants: dict[str, Argument] = {"multiplier": int(multiplier[0]), "shift": int(stored[0])}
        return Requant(helper, False, (("int32_t", "multiplier"), ("int32_t", "shift"), *names), {**constants, **clamp})
    tables: dict[str, Argument] = {"multiplier": Table("q", multiplier), "shift": Table("q", stored.astype(np.int8))}
    pointers = (("const int32_t *", "multiplier"), ("const int8_t *", "shift"))
    return Requant(helper, True, (*pointers, *names), {**tables, **clamp})


def folded_bias(op: ir.Weighted, x: ir.Tensor) -> Table:
    """int32 biases with the input's zero point (of its codes where it is packed) folded in, bias - zero_point * sum(w), modulo 2^32."""
    total = op.bias.astype(np.int64) - (x.zero_point - code_base(x)) * op.weights.astype(np.int64).sum(axis=_within(op))
    return Table("q", (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32))
