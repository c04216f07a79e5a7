"""Random integer networks for the engine: every op, and whatever a graph may hold that a converter seldom makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from narrow_nets import NarrowNet
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import build, costs, ir, windows

MACS, ELEMENTS = 150_000, 4_000
"""Most multiply-accumulates of a network, most elements of a tensor: emulated boards run every network many times."""

_SIDES = (1, 2, 3, 5, 7, 11, 13, 17)
_CHANNELS = (1, 2, 3, 4, 5, 7, 8, 13, 16)
_KERNELS = ((1, 1), (1, 1), (3, 3), (3, 3), (2, 2), (5, 5), (7, 7), (10, 4), (1, 3), (1, 7), (5, 1), (2, 3))
_ACTIVATIONS = ("none", "none", "relu", "relu6", "relu_n1_to_1")
_FUNCTIONS = ("logistic", "tanh", "hard_swish", "leaky_relu", "relu", "relu6")


def random_network(seed: int, narrow: bool = False) -> ir.Graph:
    """The network of a seed: branches, residuals and gates, several inputs and outputs, results that nobody reads.

    Args:
        narrow: tensors and weights of 8, 4 and 2 bits in any mixture; else int8, but for some weights and outputs.
    """
    return _Grower(seed, narrow).grow()


class _Grower:
    """Adds random ops to a growing graph; `_pool` holds the int8 tensors that further ops may read."""

    def __init__(self, seed: int, narrow: bool) -> None:
        self._net = NarrowNet(seed) if narrow else Net(seed)
        self._is_narrow = narrow
        self._rng = self._net.rng
        self._seed = seed
        self._pool: list[str] = []

    def grow(self) -> ir.Graph:
        for _ in range(int(self._rng.choice([1, 1, 1, 2, 3]))):
            self._choose_bits()
            self._input()
        # each seed has some kinds in any case, so that few networks have them all; the others come as chance has it
        kinds = list(self._kinds())
        planned = [kinds[(self._seed * 4 + i) % len(kinds)] for i in range(4)]
        planned += [str(k) for k in self._rng.choice(kinds, int(self._rng.integers(2, 9)))]
        self._rng.shuffle(planned)
        for kind in planned:
            self._try(self._kinds()[kind])
        self._try(self._ends()[self._seed % 4])
        return self._net.done(*self._outputs())

    def _kinds(self) -> dict[str, Callable[[], str]]:
        return {
            "conv2d": self._conv, "depthwise_conv2d": self._depthwise, "fully_connected": self._dense, "add": lambda: self._binary("add"),
            "sub": lambda: self._binary("sub"), "mul": lambda: self._binary("mul"), "minimum": lambda: self._extremum("minimum"),
            "maximum": lambda: self._extremum("maximum"), "average_pool": lambda: self._pooled("average"),
            "max_pool": lambda: self._pooled("max"), "mean": self._mean, "pad": self._pad, "reshape": self._reshape,
            "transpose": self._transpose, "table": self._table, "softmax": lambda: self._net.softmax(self._any()),
            "requantize": lambda: self._net.requantize(self._any()), "concat": self._concat, "strided_slice": self._slice,
            "residual": self._residual, "gate": self._gate,
        }  # fmt: skip

    def _ends(self) -> Sequence[Callable[[], str]]:
        return (self._argmax, self._float_output, lambda: self._net.softmax(self._dense()), self._reshape)

    def _try(self, make: Callable[[], str]) -> None:
        """Adds what `make` makes, or nothing, where its scales cannot be represented or it would be too large."""
        graph = self._net.graph
        before = dict(graph.tensors), list(graph.ops), dict(graph.constants)
        self._choose_bits()
        try:
            name = make()
        except ModelError:
            name = ""
        if not name or self._too_large() or any(self._overflows(op) for op in graph.ops[len(before[1]) :]):
            graph.tensors, graph.ops, graph.constants = before
        elif graph.tensors[name].dtype == ir.Dtype.INT and graph.tensors[name].bits <= 8:
            self._pool.append(name)

    def _choose_bits(self) -> None:
        """Of the tensors that are made next."""
        if isinstance(self._net, NarrowNet):
            self._net.bits = int(self._one_of((8, 4, 4, 2)))

    def _too_large(self) -> bool:
        graph = self._net.graph
        return costs.total_macs(graph) > MACS or any(t.size > ELEMENTS or min(t.shape, default=1) < 1 for t in graph.tensors.values())

    def _overflows(self, op: ir.Op) -> bool:
        """Whether a sum could leave 32 bits when it is shifted left, which the reference executor refuses."""
        if not isinstance(op, ir.Requantize | ir.Mean | ir.Mul):
            return False
        bound = 255 * 255 if isinstance(op, ir.Mul) else 255
        if isinstance(op, ir.Mean):
            bound *= self._net[op.inputs[0]].size // self._net[op.output].size
        return bound << max(op.shift, 0) >= 1 << 31

    def _one_of(self, values: Sequence):
        return values[int(self._rng.integers(len(values)))]

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    # ---- ends of the network ----

    def _input(self) -> None:
        shape = self._one_of([self._image_shape(), self._image_shape(), self._image_shape(), (1, 31, 5), (37,), (3, 10), (2, 3, 5, 2)])
        if not self._chance(0.25):
            self._pool.append(self._net.input(shape))
            return
        name = self._net.input(shape, scale=1.0, zero_point=0, bits=32, dtype=ir.Dtype.FLOAT)
        name = self._moved(name) if self._chance(0.4) else name
        self._pool.append(self._net.quantize(name))

    def _image_shape(self) -> tuple[int, ...]:
        return (int(self._one_of(_SIDES)), int(self._one_of(_SIDES)), int(self._one_of(_CHANNELS)))

    def _argmax(self) -> str:
        x = self._any()
        if not self._net[x].shape:
            return ""
        name = self._net.argmax(x, int(self._rng.integers(len(self._net[x].shape))))
        return self._moved(name) if self._chance(0.3) else name

    def _float_output(self) -> str:
        name = self._net.dequantize(self._any())
        return self._moved(name) if self._chance(0.4) else name

    def _moved(self, name: str) -> str:
        """A tensor of any element type in another shape or order."""
        x, net = self._net[name], self._net
        make = self._one_of(("reshape", "transpose", "concat"))
        if make == "reshape" or not x.shape:
            return net.put(ir.Reshape, [name], self._like(x, self._factors(x.size)))
        if make == "concat":
            return net.put(ir.Concat, [name, name], self._like(x, (2 * x.shape[0], *x.shape[1:])), 0)
        order = tuple(int(v) for v in self._rng.permutation(len(x.shape)))
        return net.put(ir.Transpose, [name], self._like(x, tuple(x.shape[p] for p in order)), order)

    def _like(self, x: ir.Tensor, shape: tuple[int, ...]) -> ir.Tensor:
        y = dataclasses.replace(x, name=f"t{len(self._net.graph.tensors)}", shape=shape)
        self._net.graph.tensors[y.name] = y
        return y

    def _outputs(self) -> list[str]:
        """The last result, most of the others that nobody reads, some inner tensors, seldom an input."""
        graph = self._net.graph
        if not graph.ops:
            return [self._pool[0]]
        read = {t for op in graph.ops for t in op.inputs}
        last = graph.ops[-1].output
        others = [op.output for op in graph.ops[:-1] if self._chance(0.12 if op.output in read else 0.7)]
        inputs = [t for t in graph.inputs if self._chance(0.03)]
        names = [last, *others, *inputs]
        self._rng.shuffle(names)
        return names

    # ---- operands ----

    def _any(self) -> str:
        """An operand: mostly one of the latest."""
        return str(self._one_of(self._pool[-3:] if self._chance(0.75) else self._pool))

    def _image(self) -> str:
        """An operand of three axes."""
        images = [t for t in self._pool if len(self._net[t].shape) == 3]
        if images and self._chance(0.85):
            return str(self._one_of(images[-3:]))
        x = self._any()
        shape = self._factors(self._net[x].size, 3)
        return x if self._net[x].shape == shape else self._net.put(ir.Reshape, [x], self._like(self._net[x], shape))

    def _factors(self, size: int, rank: int = 0) -> tuple[int, ...]:
        """A random shape of `size` elements."""
        shape = [1] * (rank or int(self._rng.integers(1, 5)))
        factor = 2
        while size > 1:
            factor = factor if factor * factor <= size else size
            while size % factor == 0:
                shape[int(self._rng.integers(len(shape)))] *= factor
                size //= factor
            factor += 1
        return tuple(shape)

    def _partner(self, name: str) -> str:
        """A second operand that broadcasts with `name`: another tensor, the same one, or a constant."""
        shape = self._net[name].shape
        fitting = [t for t in self._pool if self._fits(self._net[t].shape, shape)]
        if self._chance(0.65):
            return str(self._one_of(fitting))
        kept = tuple(d if self._chance(0.6) else 1 for d in shape)
        return self._net.constant(kept[int(self._rng.integers(len(kept) + 1)) :] if self._chance(0.4) else kept)

    @staticmethod
    def _fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return all(x == y or 1 in (x, y) for x, y in zip(a[::-1], b[::-1]))

    def _matched(self, name: str, to: str) -> str:
        """A tensor with the scale and zero point of another; constants take them over, others are requantised."""
        net, (x, y) = self._net, (self._net[name], self._net[to])
        if self._is_narrow:
            return self._matched_narrow(x, y)
        if (x.scale, x.zero_point, x.bits) == (y.scale, y.zero_point, 8):
            return name
        if name in net.graph.constants:
            net.graph.tensors[name] = dataclasses.replace(x, scale=y.scale, zero_point=y.zero_point)
            return name
        target = net.tensor(x.shape, y.scale, y.zero_point)
        return net.put(ir.Requantize, [name], target, *build.requantize_parameters(x, target))

    def _matched_narrow(self, x: ir.Tensor, y: ir.Tensor) -> str:
        """The same for tensors of any bits, whose range is the other's in the end."""
        net = self._net
        if (x.scale, x.zero_point, x.low, x.high) == (y.scale, y.zero_point, y.low, y.high):
            return x.name
        if x.name in net.graph.constants:
            net.graph.tensors[x.name] = dataclasses.replace(y, name=x.name, shape=x.shape)
            net.graph.constants[x.name] = np.clip(net.graph.constants[x.name], y.low, y.high)
            return x.name
        target = self._like(y, x.shape)
        return net.put(ir.Requantize, [x.name], target, *build.requantize_parameters(x, target))

    # ---- multiply-accumulate ----

    def _window(self, x: ir.Tensor) -> dict:
        """Kernel, stride, dilation and padding; explicit padding may be wider than the window."""
        kernel = self._one_of(_KERNELS)
        stride = (int(self._one_of((1, 1, 1, 2, 3))), int(self._one_of((1, 1, 1, 2, 3))))
        dilation = (int(self._one_of((1, 2, 3))), int(self._one_of((1, 2)))) if self._chance(0.25) else (1, 1)
        extent = [windows.extent(k, d) for k, d in zip(kernel, dilation)]
        padding: str | tuple[int, ...] = str(self._one_of(("same", "valid", "explicit")))
        if padding == "explicit":
            padding = tuple(int(self._rng.integers(0, extent[i // 2] + 3)) for i in range(4))
            sides = (x.shape[0] + padding[0] + padding[1], x.shape[1] + padding[2] + padding[3])
        else:
            sides = x.shape[:2]
        if padding != "same" and any(side < e for side, e in zip(sides, extent)):
            padding = "same"
        return {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}

    def _quantization(self) -> dict:
        spread = 10 ** self._rng.uniform(-3.5, 1.5) if self._chance(0.4) else 1.0
        bits = int(self._one_of((8, 4, 2) if self._is_narrow else (8, 8, 8, 8, 4, 2)))
        return {"act": self._one_of(_ACTIVATIONS), "per_channel": self._chance(0.7), "bits": bits, "spread": float(spread)}

    def _conv(self) -> str:
        name = self._image()
        window = self._window(self._net[name])
        return self._spoiled(self._net.conv(name, int(self._one_of(_CHANNELS)), **window, **self._quantization()))

    def _depthwise(self) -> str:
        name = self._image()
        window = self._window(self._net[name])
        return self._spoiled(self._net.depthwise(name, int(self._one_of((1, 1, 2, 3))), **window, **self._quantization()))

    def _dense(self) -> str:
        out = int(self._one_of(_CHANNELS))
        shape = (1, 1, out) if self._chance(0.2) else (out,)
        return self._spoiled(self._net.dense(self._any(), out, **self._quantization(), shape=shape))

    def _spoiled(self, name: str) -> str:
        """The op that writes `name`, with what real models have and random ones have not: channels without weights and with huge biases,
        multipliers of 0, another rounding, tight clamps, narrow outputs. Sums stay within 32 bits, also when they are shifted left."""
        op = self._net.graph.producer(name)
        assert isinstance(op, ir.Weighted)
        odd = isinstance(self._net, NarrowNet) and op.weight_bits == 2 and self._chance(0.5)
        if odd:
            self._net.odd(name)
        axis = op.weights.ndim - 1 if isinstance(op, ir.DepthwiseConv2D) else 0
        weights, channels = np.moveaxis(op.weights, axis, 0), len(op.bias)
        if self._chance(0.25) and not odd:  # which has no 0
            dead = self._rng.random(channels) < 0.5
            weights[dead] = 0
            op.bias = np.where(dead, self._rng.integers(-(1 << 30), (1 << 30) + 1, channels), op.bias).astype(np.int32)
            if dead.any() and self._chance(0.5):
                op.bias[int(dead.argmax())] = self._one_of((1 << 30, -(1 << 30)))
        if self._chance(0.2):
            off = self._rng.random(channels) < 0.4
            op.multiplier = np.where(off, 0, op.multiplier).astype(np.int32)
            op.shift = np.where(off, self._rng.integers(-31, 1, channels), op.shift).astype(op.shift.dtype)
        x = self._net[op.inputs[0]]
        reach = max(abs(x.low - x.zero_point), abs(x.high - x.zero_point))
        bound = np.abs(op.bias.astype(np.int64)) + reach * np.abs(weights.astype(np.int64)).reshape(channels, -1).sum(axis=1)
        most = np.floor(30 - np.log2(np.maximum(bound, 1))).astype(np.int64)
        op.shift = np.where(op.shift > 0, np.minimum(op.shift, np.maximum(most, 0)), op.shift).astype(op.shift.dtype)
        if self._chance(0.15):
            op.rounding = ir.Rounding.SINGLE
        if self._chance(0.1):
            self._narrow(op)
        elif self._chance(0.15):
            y = self._net[op.output]
            low, high = sorted(int(v) for v in self._rng.integers(y.low, y.high + 1, 2))
            op.act_min, op.act_max = low, high
        return name

    def _narrow(self, op: ir.Weighted) -> None:
        """Gives the op an output of 2 or 4 bits."""
        bits = int(self._one_of((2, 4)))
        low = int(self._rng.integers(-128, 128 - (1 << bits) + 1))
        y = dataclasses.replace(self._net[op.output], bits=bits, qmin=low, zero_point=low)
        self._net.graph.tensors[y.name] = y
        op.act_min, op.act_max = y.low, y.high

    # ---- two operands ----

    def _binary(self, kind: str, a: str | None = None, b: str | None = None) -> str:
        a = self._any() if a is None else a
        pair = [a, self._partner(a) if b is None else b]
        if self._chance(0.5):
            pair.reverse()
        spread = float(10 ** self._rng.uniform(-1.5, 1)) if self._chance(0.4) else 1.0
        name = self._net.binary(kind, *pair, act=self._one_of(_ACTIVATIONS), spread=spread)
        op = self._net.graph.ops[-1]
        assert isinstance(op, ir.Binary | ir.Mul)
        if self._chance(0.1):
            op.rounding = ir.Rounding.SINGLE
        return name

    def _extremum(self, kind: str) -> str:
        a = self._any()
        return self._net.extremum(kind, a, self._matched(self._partner(a), a))

    def _concat(self) -> str:
        first = self._any()
        shape = self._net[first].shape
        if not shape:
            return ""
        axis = int(self._rng.integers(len(shape)))

        def alike(other: tuple[int, ...]) -> bool:
            return len(other) == len(shape) and all(a == b for i, (a, b) in enumerate(zip(other, shape)) if i != axis)

        names = [first]
        for _ in range(int(self._rng.integers(1, 4))):
            fitting = [t for t in self._pool if alike(self._net[t].shape)]
            if self._chance(0.7):
                names.append(self._matched(str(self._one_of(fitting)), first))
            else:
                wide = (*shape[:axis], int(self._rng.integers(1, 4)), *shape[axis + 1 :])
                names.append(self._matched(self._net.constant(wide), first))
        self._rng.shuffle(names)
        names.sort(key=lambda t: self._net[t].bits, reverse=True)  # the output is as wide as the first operand
        return self._net.concat(names, axis)

    def _residual(self) -> str:
        """An inverted bottleneck with a skip connection."""
        x = self._image()
        channels = self._net[x].shape[2]
        y = self._spoiled(self._net.conv(x, min(3 * channels, 16), (1, 1), act="relu6"))
        y = self._spoiled(self._net.depthwise(y, 1, self._one_of(((3, 3), (5, 5), (1, 3))), act="relu6"))
        y = self._spoiled(self._net.conv(y, channels, (1, 1)))
        return self._binary("add", x, y)

    def _gate(self) -> str:
        """Squeeze and excite."""
        x = self._image()
        channels = self._net[x].shape[2]
        y = self._net.mean(x, (0, 1), keep=True)
        y = self._spoiled(self._net.dense(y, channels, act="relu", shape=(1, 1, channels)))
        return self._binary("mul", x, self._net.table("logistic", self._net.conv(y, channels, (1, 1))))

    # ---- one operand ----

    def _pooled(self, kind: str) -> str:
        name = self._image()
        shape = self._net[name].shape
        window = tuple(int(v) for v in self._rng.integers(1, 6, 2)) if self._chance(0.8) else shape[:2]
        stride = tuple(int(v) for v in self._rng.integers(1, 4, 2))
        padding: str | tuple[int, ...] = str(self._one_of(("same", "valid")))
        if any(w > d for w, d in zip(window, shape)):
            padding = "same"
        elif self._chance(0.2):
            padding = tuple(int(self._rng.integers(0, window[i // 2])) for i in range(4))
        return self._net.pool(kind, name, window, stride, padding, self._one_of(_ACTIVATIONS))

    def _mean(self) -> str:
        name = self._any()
        rank = len(self._net[name].shape)
        axes = [a for a in range(rank) if self._chance(0.6)] or [0]
        return self._net.mean(name, axes, self._chance(0.5), self._chance(0.3)) if rank else ""

    def _pad(self) -> str:
        name = self._any()
        amounts = [tuple(int(v) for v in self._rng.integers(0, 4, 2)) if self._chance(0.6) else (0, 0) for _ in self._net[name].shape]
        return self._net.pad(name, amounts, None if self._chance(0.6) else int(self._rng.integers(-128, 128)))

    def _reshape(self) -> str:
        x = self._net[self._any()]
        return self._net.put(ir.Reshape, [x.name], self._like(x, self._factors(x.size)))

    def _transpose(self) -> str:
        name = self._any()
        return self._net.transpose(name, [int(v) for v in self._rng.permutation(len(self._net[name].shape))])

    def _slice(self) -> str:
        name, bounds = self._any(), []
        for size in self._net[name].shape:
            low = int(self._rng.integers(0, size)) if self._chance(0.6) else 0
            high = int(self._rng.integers(low + 1, size + 1)) if self._chance(0.6) else size
            step = int(self._one_of((1, 1, 2, 3)))
            bounds.append((high - 1, low - 1, -step) if self._chance(0.3) else (low, high, step))
        return self._net.slice(name, *zip(*bounds)) if bounds else ""

    def _table(self) -> str:
        name = self._any()
        if self._chance(0.2):
            values = self._rng.integers(-128, 128, 256)
            y = self._net.tensor(self._net[name].shape)
            values = y.low + (values + 128) % (1 << y.bits)
            return self._net.put(ir.Table, [name], y, "leaky_relu", values.astype(np.int8))
        alpha = float(self._one_of((0.1, 0.3, -0.5, 1.5)))
        return self._net.table(self._one_of(_FUNCTIONS), name, alpha, same=self._chance(0.3))
