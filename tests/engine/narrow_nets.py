"""Random networks whose tensors and weights have 8, 4 or 2 bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from nets import Net

from tinykit.graph import ir


class NarrowNet(Net):
    """Grows a network of packed tensors: what is made next has `bits` bits, starting at any stored integer.

    Operations that only choose or move elements keep the range of their widest operand, or give 8 bits where `bits` is 8.
    """

    def __init__(self, seed: int, bits: int = 8) -> None:
        super().__init__(seed)
        self.bits = bits
        self._factor = 1.0
        self._like: ir.Tensor | None = None

    def tensor(self, shape, scale=None, zero_point=None, bits=None, qmin=None, **kw) -> ir.Tensor:
        like, bits = self._like, self.bits if bits is None else bits
        if kw or bits > 8 or qmin is not None:
            return super().tensor(shape, scale, zero_point, bits, qmin, **kw)
        if like is not None:
            wide = self.bits == 8 and like.bits < 8
            return super().tensor(shape, scale, zero_point, *((8, None) if wide else (like.bits, like.qmin)))
        scale = scale if scale is None else scale * self._factor
        if bits == 8:
            return super().tensor(shape, scale, zero_point)
        low = int(self.rng.choice([-128, -(1 << bits - 1), 128 - (1 << bits), int(self.rng.integers(-128, 129 - (1 << bits)))]))
        if zero_point is None or not low <= zero_point < low + (1 << bits):
            zero_point = low + int(self.rng.integers(1 << bits))
        return super().tensor(shape, scale, zero_point, bits, low)

    def constant(self, shape, **kw) -> str:
        t = self.tensor(shape, **kw)
        self.graph.constants[t.name] = self.rng.integers(t.low, t.high + 1, t.shape).astype(np.int8)
        return t.name

    def odd(self, name: str) -> str:
        """The op that writes `name`, with the other 2-bit book: -3, -1, 1, 3."""
        op = self.graph.producer(name)
        assert isinstance(op, ir.Weighted) and op.weight_bits == 2
        op.weights = (2 * self.rng.integers(-2, 2, op.weights.shape) + 1).astype(np.int8)
        op.weights.flat[0] = 3  # tells the books apart
        return name

    def table(self, function: str, name: str, alpha=0.0, same=False) -> str:
        """Any function."""
        y = self.tensor(self[name].shape)
        return self.put(ir.Table, [name], y, "leaky_relu", self.rng.integers(y.low, y.high + 1, 256).astype(np.int8), 0.1)

    def reshape(self, name: str, shape) -> str:
        y = dataclasses.replace(self[name], name=f"t{len(self.graph.tensors)}", shape=tuple(shape))
        self.graph.tensors[y.name] = y
        return self.put(ir.Reshape, [name], y)

    def softmax(self, name: str, beta=1.0) -> str:
        before, self.bits = self.bits, 8
        name = super().softmax(name, beta)
        self.bits = before
        return name

    def pad(self, name: str, amounts, value=None) -> str:
        x = self[name]
        value = x.zero_point if value is None else min(max(value, x.low), x.high)
        return _ranged(Net.pad)(self, name, amounts, value)


def _named(net: NarrowNet, arguments: tuple) -> list[ir.Tensor]:
    """The tensors among a method's arguments."""
    found = []
    for value in arguments:
        names = value if isinstance(value, list) else [value]
        found += [net[n] for n in names if isinstance(n, str) and n in net.graph.tensors]
    return found


def _ranged(method: Callable) -> Callable:
    """The result has the range of the widest operand."""

    def made(self: NarrowNet, *arguments, **kw) -> str:
        self._like = max(_named(self, arguments), key=lambda t: t.bits)
        try:
            return method(self, *arguments, **kw)
        finally:
            self._like = None

    return made


def _scaled(method: Callable) -> Callable:
    """The result's step grows where its range is smaller than the operands'."""

    def made(self: NarrowNet, *arguments, **kw) -> str:
        self._factor = 2.0 ** (max(t.bits for t in _named(self, arguments)) - self.bits)
        try:
            return method(self, *arguments, **kw)
        finally:
            self._factor = 1.0

    return made


for _name in ("pool", "transpose", "concat", "slice", "extremum"):
    setattr(NarrowNet, _name, _ranged(getattr(Net, _name)))
for _name in ("conv", "depthwise", "dense", "binary", "mean", "requantize"):
    setattr(NarrowNet, _name, _scaled(getattr(Net, _name)))
