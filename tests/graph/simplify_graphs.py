"""Graphs for the simplifier's tests: a small builder, a random generator, and the comparison of every tensor that is left."""

from __future__ import annotations

import dataclasses

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import fixedpoint as fp
from tinykit.graph import ir, reference
from tinykit.graph.simplify import SimplifyResult, simplify


class Net:
    """Adds ops one by one; each method returns the name of its output."""

    def __init__(self, shape: tuple[int, ...], zero_point: int = 0, bits: int = 8, qmin: int | None = None) -> None:
        self.tensors = {"x": ir.Tensor("x", shape, 0.5, zero_point, bits, qmin)}
        self.ops: list[ir.Op] = []
        self.constants: dict[str, np.ndarray] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def constant(self, values: np.ndarray, zero_point: int = 0) -> str:
        name = f"c{len(self.constants)}"
        self.tensors[name] = ir.Tensor(name, values.shape, 0.5, zero_point)
        self.constants[name] = values.astype(np.int8)
        return name

    def emit(self, kind: type[ir.Op], inputs: tuple[str, ...], shape: tuple[int, ...], zero_point: int | None = None, **fields) -> str:
        """An op whose output has the zero point of the first input unless given."""
        name = f"t{len(self.ops)}_{kind.kind}"
        zp = self.tensors[inputs[0]].zero_point if zero_point is None else zero_point
        self.tensors[name] = ir.Tensor(name, tuple(shape), 0.5, zp)
        self.ops.append(kind(f"op_{name}", inputs, name, **fields))
        return name

    def weighted(self, kind, x, weights, shape, bias=None, real=0.02, zero_point=0, multiplier=None, per_channel=True, **fields) -> str:
        rows = weights.shape[-1] if kind is ir.DepthwiseConv2D else weights.shape[0]
        m, s = fp.quantize_multipliers(np.broadcast_to(np.asarray(real, np.float64), (rows,)))
        m = m if multiplier is None else np.where(multiplier, m, 0).astype(np.int32)
        return self.emit(
            kind, (x,), shape, zero_point,
            weights=np.asarray(weights, np.int8), bias=np.zeros(rows, np.int32) if bias is None else np.asarray(bias, np.int32),
            multiplier=m, shift=s, weight_scale=np.full(rows if per_channel else 1, 0.02, np.float32), **fields,
        )  # fmt: skip

    def plane(self, x, kernel, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1)) -> tuple[int, int]:
        h, w, _ = self.shape(x)
        top, bottom, left, right = padding
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
        return (h + top + bottom - spans[0]) // stride[0] + 1, (w + left + right - spans[1]) // stride[1] + 1

    def conv(self, x, weights, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), **fields) -> str:
        weights = np.asarray(weights)
        out = self.plane(x, weights.shape[1:3], stride, padding, dilation)
        return self.weighted(
            ir.Conv2D, x, weights, (*out, len(weights)), stride=stride, padding=padding, dilation=dilation, **fields
        )  # fmt: skip

    def depthwise(self, x, weights, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), **fields) -> str:
        weights = np.asarray(weights)
        out = self.plane(x, weights.shape[:2], stride, padding, dilation)
        return self.weighted(
            ir.DepthwiseConv2D, x, weights, (*out, weights.shape[-1]), stride=stride, padding=padding, dilation=dilation,
            depth_multiplier=weights.shape[-1] // self.shape(x)[-1], **fields,
        )  # fmt: skip

    def dense(self, x, weights, **fields) -> str:
        weights = np.asarray(weights)
        return self.weighted(ir.FullyConnected, x, weights, (len(weights),), **fields)

    def add(self, a, b, zero_point=0, kind=ir.Add, **fields) -> str:
        shape = np.broadcast_shapes(self.shape(a), self.shape(b))
        (m1, s1), (m3, s3) = fp.quantize_multiplier(0.5), fp.quantize_multiplier(0.6 * 2.0**-19)
        return self.emit(kind, (a, b), shape, zero_point, multipliers=(m1, m1, m3), shifts=(s1, s1, s3), **fields)

    def reshape(self, x, shape) -> str:
        return self.emit(ir.Reshape, (x,), shape)

    def pool(self, kind, x, window, stride=(1, 1), padding=(0, 0, 0, 0), **fields) -> str:
        out = self.plane(x, window, stride, padding)
        return self.emit(kind, (x,), (*out, self.shape(x)[-1]), window=window, stride=stride, padding=padding, **fields)

    def graph(self, *outputs: str) -> ir.Graph:
        result = ir.Graph(dict(self.tensors), list(self.ops), ("x",), outputs, dict(self.constants), "test")
        result.validate()
        return result


def inputs_for(graph: ir.Graph, seed: int = 0, count: int = 6) -> np.ndarray:
    """Random samples over the whole range of the input, then its extremes: all low, all high, and a random mixture of the two."""
    t = graph.tensors[graph.inputs[0]]
    r = np.random.default_rng(seed)
    anything = r.integers(t.low, t.high + 1, (count, *t.shape))
    low, high = np.full((1, *t.shape), t.low), np.full((1, *t.shape), t.high)
    return np.concatenate([anything, low, high, r.choice([t.low, t.high], (2, *t.shape))])


def mismatches(graph: ir.Graph, result: SimplifyResult, x: np.ndarray) -> tuple[list[str], int]:
    """(tensors that differ between the two graphs, number of elements compared), all outputs and all kept inner tensors."""
    before, after = reference.run_all(graph, x), reference.run_all(result.graph, x)
    wrong = [name for name, kept in result.kept.items() if not _equal(before[name], kept, after[name])]
    wrong += [name for name in graph.outputs if not np.array_equal(before[name], after[name])]
    return wrong, sum(after[name].size for name in result.kept)


def _equal(before: np.ndarray, kept: np.ndarray, after: np.ndarray) -> bool:
    expected = before[..., kept] if before.ndim > 1 else before
    return expected.shape == after.shape and bool((expected == after).all())


def check(graph: ir.Graph, seed: int = 0) -> SimplifyResult:
    """Simplifies, demands equality everywhere and that a second pass finds nothing."""
    result = simplify(graph)
    wrong, compared = mismatches(graph, result, inputs_for(graph, seed))
    assert not wrong
    assert compared
    again = simplify(result.graph)
    assert not again.removed.ops
    assert not again.removed.channels
    return result


OPS = (
    "conv", "conv", "padded_conv", "padded_conv", "depthwise", "padded_depthwise", "dense", "add", "add", "sub", "mul", "concat",
    "concat_rows", "average_pool", "max_pool", "pad", "pad_channels", "table", "mean", "requantize", "minimum", "maximum", "slice",
    "reshape", "transpose", "softmax", "constant_add", "noop",
)  # fmt: skip
_PRIMES = (1, 2, 3, 5, 7)


class RandomNet:
    """Networks with everything that the simplifier looks for: zero weights, unread channels, zero multipliers, saturating biases."""

    def __init__(self, seed: int) -> None:
        self.r = np.random.default_rng(seed)
        shape = tuple(int(v) for v in self.r.choice(_PRIMES[1:], 3))
        narrow = self.r.random() < 0.2
        self.net = Net(shape, int(self.r.integers(-8, 8)), bits=4 if narrow else 8, qmin=-8 if narrow else None)
        self.planes = ["x"]

    def build(self, kinds: list[str]) -> ir.Graph:
        for kind in kinds:
            x = self.planes[int(self.r.integers(max(0, len(self.planes) - 3), len(self.planes)))]
            y = getattr(self, f"_{kind}")(x)
            if y is not None:
                self.planes.append(y)
        last = self.planes[-1]
        if self.r.random() < 0.7 and last != "x":  # a dense layer at the end, so that most channels are not graph outputs
            last = self._dense(last, reshape=False)
        extra = [t for t in self.planes[1:] if t != last and self.r.random() < 0.1]
        return self.net.graph(last, *extra)

    def _int(self, low: int, high: int) -> int:
        return int(self.r.integers(low, high + 1))

    def _weights(self, shape: tuple[int, ...], row_axis: int, column_axis: int | None) -> np.ndarray:
        w = self.r.integers(-60, 61, shape)
        for axis, share in ((row_axis, 0.3), (column_axis, 0.3)):
            if axis is not None:
                dead = self.r.random(shape[axis]) < share * (self.r.random() < 0.7)
                w[(slice(None),) * (axis % len(shape)) + (dead,)] = 0
        return w

    def _quantisation(self, rows: int) -> dict:
        bias = self.r.integers(-3000, 3001, rows)
        if self.r.random() < 0.5:
            bias = np.where(self.r.random(rows) < 0.3, self.r.choice([-(1 << 30), 1 << 30, (1 << 31) - 5, -200_000], rows), bias)
        low = self._int(-128, 100) if self.r.random() < 0.5 else -128
        return {
            "bias": bias,
            "real": self.r.choice([0.002, 0.02, 0.7, 1.7], rows, p=[0.5, 0.3, 0.15, 0.05]),
            "multiplier": self.r.random(rows) > 0.1,
            "zero_point": self._int(-128, 127),
            "act_min": low,
            "act_max": self._int(low, 127) if self.r.random() < 0.3 else 127,
            "rounding": ir.Rounding.SINGLE if self.r.random() < 0.2 else ir.Rounding.DOUBLE,
            "per_channel": self.r.random() < 0.7,
        }

    def _window(self, x: str, padded: bool) -> dict:
        h, w, _ = self.net.shape(x)
        padding = tuple(self._int(0, 1) for _ in range(4)) if padded else (0, 0, 0, 0)
        limits = (min(3, h + padding[0] + padding[1]), min(3, w + padding[2] + padding[3]))
        return {"padding": padding, "stride": (self._int(1, 2), self._int(1, 2)), "kernel": tuple(self._int(1, k) for k in limits)}

    def _padded_conv(self, x: str, padded: bool = True) -> str:
        c, out = self.net.shape(x)[-1], int(self.r.choice(_PRIMES))
        window = self._window(x, padded)
        weights = self._weights((out, *window.pop("kernel"), c), 0, -1)
        return self.net.conv(x, weights, **window, **self._quantisation(out))

    def _conv(self, x: str) -> str:
        return self._padded_conv(x, padded=False)

    def _padded_depthwise(self, x: str, padded: bool = True) -> str:
        out = self.net.shape(x)[-1] * self._int(1, 2)
        window = self._window(x, padded)
        weights = self._weights((*window.pop("kernel"), out), -1, None)
        return self.net.depthwise(x, weights, **window, **self._quantisation(out))

    def _depthwise(self, x: str) -> str:
        return self._padded_depthwise(x, padded=False)

    def _dense(self, x: str, reshape: bool = True) -> str:
        out, shape = int(self.r.choice(_PRIMES)), self.net.shape(x)
        weights = self._weights((out, *shape), 0, -1).reshape(out, -1)
        y = self.net.dense(x, weights, **self._quantisation(out))
        return self.net.reshape(y, (1, 1, out)) if reshape else y

    def _partner(self, x: str) -> str:
        same = [t for t in self.planes if self.net.shape(t) == self.net.shape(x)]
        return same[self._int(0, len(same) - 1)]

    def _add(self, x: str, kind: type[ir.Binary] = ir.Add) -> str:
        low = self._int(-128, 127) if self.r.random() < 0.3 else -128
        return self.net.add(x, self._partner(x), zero_point=self._int(-128, 127), kind=kind, act_min=low)

    def _sub(self, x: str) -> str:
        return self._add(x, ir.Sub)

    def _constant_of(self, x: str) -> str:
        channels = self.net.shape(x)[-1] if self.r.random() < 0.7 else 1
        return self.net.constant(self.r.integers(-128, 128, (1, 1, channels)), self.net.tensors[x].zero_point)

    def _constant_add(self, x: str) -> str:
        return self.net.add(x, self._constant_of(x), zero_point=self._int(-20, 20))

    def _mul(self, x: str) -> str:
        other = self._constant_of(x) if self.r.random() < 0.5 else self._partner(x)
        m, s = fp.quantize_multiplier(0.01)
        return self.net.emit(ir.Mul, (x, other), self.net.shape(x), self._int(-128, 127), multiplier=m, shift=s)

    def _extremum(self, x: str, kind: type[ir.Extremum]) -> str:
        return self.net.emit(kind, (x, self._constant_of(x) if self.r.random() < 0.6 else self._partner(x)), self.net.shape(x))

    def _minimum(self, x: str) -> str:
        return self._extremum(x, ir.Minimum)

    def _maximum(self, x: str) -> str:
        return self._extremum(x, ir.Maximum)

    def _concat(self, x: str) -> str:
        h, w, _ = self.net.shape(x)
        same = [t for t in self.planes if self.net.shape(t)[:2] == (h, w)]
        parts = [x, *(same[self._int(0, len(same) - 1)] for _ in range(self._int(0, 2)))]
        return self.net.emit(ir.Concat, tuple(parts), (h, w, sum(self.net.shape(t)[-1] for t in parts)), axis=2)

    def _concat_rows(self, x: str) -> str:
        h, w, c = self.net.shape(x)
        return self.net.emit(ir.Concat, (x, self._partner(x)), (2 * h, w, c), axis=0)

    def _pool(self, x: str, kind: type[ir.Pool]) -> str:
        window = self._window(x, padded=self.r.random() < 0.5)
        kernel = tuple(max(2, k) if any(window["padding"]) else k for k in window.pop("kernel"))
        if min(self.net.plane(x, kernel, window["stride"], window["padding"])) < 1:
            return self.net.pool(kind, x, (1, 1))
        return self.net.pool(kind, x, kernel, **window, act_min=self._int(-128, 0), act_max=self._int(0, 127))

    def _average_pool(self, x: str) -> str:
        return self._pool(x, ir.AveragePool)

    def _max_pool(self, x: str) -> str:
        return self._pool(x, ir.MaxPool)

    def _pad(self, x: str, channels: tuple[int, int] = (0, 0)) -> str:
        amounts = ((self._int(0, 1), self._int(0, 1)), (0, self._int(0, 1)), channels)
        shape = tuple(n + a + b for n, (a, b) in zip(self.net.shape(x), amounts))
        value = self.net.tensors[x].zero_point if self.r.random() < 0.7 else self._int(-128, 127)
        return self.net.emit(ir.Pad, (x,), shape, amounts=amounts, value=value)

    def _pad_channels(self, x: str) -> str:
        return self._pad(x, (self._int(0, 2), self._int(0, 2)))

    def _table(self, x: str) -> str:
        table = np.arange(-128, 128) if self.r.random() < 0.3 else self.r.integers(-128, 128, 256)
        if self.r.random() < 0.4:
            table = np.maximum(table, self._int(-128, 127))
        return self.net.emit(ir.Table, (x,), self.net.shape(x), function="relu", table=table.astype(np.int8))

    def _mean(self, x: str) -> str:
        h, w, c = self.net.shape(x)
        axes = ((0, 1), (0,), (2,), (0, 1, 2))[self._int(0, 3)]
        shape = tuple(1 if i in axes else n for i, n in enumerate((h, w, c)))
        m, s = fp.quantize_multiplier(1.0 / np.prod([(h, w, c)[a] for a in axes]))
        if axes == (0, 1) and self.r.random() < 0.5:
            flat = self.net.emit(ir.Mean, (x,), (c,), axes=axes, keep_dims=False, multiplier=m, shift=s)
            return self.net.reshape(flat, (1, 1, c))
        return self.net.emit(ir.Mean, (x,), shape, axes=axes, keep_dims=True, multiplier=m, shift=s)

    def _requantize(self, x: str) -> str:
        same = self.r.random() < 0.5
        m, s = fp.quantize_multiplier(1.0 if same else 0.37)
        zero_point = None if same else self._int(-128, 127)
        return self.net.emit(ir.Requantize, (x,), self.net.shape(x), zero_point, multiplier=m, shift=s)

    def _slice(self, x: str) -> str:
        shape = self.net.shape(x)
        begin = tuple(self._int(0, n - 1) if self.r.random() < 0.5 else 0 for n in shape)
        end = tuple(self._int(b + 1, n) for b, n in zip(begin, shape))
        step = tuple(self._int(1, 2) if self.r.random() < 0.3 else 1 for _ in shape)
        out = tuple(len(range(b, e, s)) for b, e, s in zip(begin, end, step))
        return self.net.emit(ir.StridedSlice, (x,), out, begin=begin, end=end, step=step)

    def _reshape(self, x: str) -> str:
        h, w, c = self.net.shape(x)
        targets = ((1, 1, h * w * c), (h, 1, w * c), (w, h, c), (1, h * w, c), (c, w, h), (h * c, w, 1), (h, w, c))
        return self.net.reshape(x, targets[self._int(0, len(targets) - 1)])

    def _transpose(self, x: str) -> str:
        permutation = ((1, 0, 2), (0, 1, 2), (2, 0, 1), (0, 2, 1))[self._int(0, 3)]
        shape = tuple(self.net.shape(x)[p] for p in permutation)
        return self.net.emit(ir.Transpose, (x,), shape, permutation=permutation)

    def _softmax(self, x: str) -> str:
        m, s = fp.quantize_multiplier(0.1 * (1 << 26))
        return self.net.emit(
            ir.Softmax, (x,), self.net.shape(x), -128, multiplier=m, left_shift=s, diff_min=-fp.input_radius(5, s)
        )  # fmt: skip

    def _noop(self, x: str) -> str:
        kind = self._int(0, 2)
        if kind == 0:
            return self.net.pool(ir.MaxPool, x, (1, 1))
        if kind == 1:
            return self.net.emit(ir.Pad, (x,), self.net.shape(x), amounts=((0, 0),) * 3, value=3)
        return self.net.emit(ir.Concat, (x,), self.net.shape(x), axis=1)


def random_graph(kinds: list[str], seed: int) -> ir.Graph | None:
    """A random graph that the reference executes for the test inputs, None where a multiplier overflows (a device would be undefined)."""
    graph = RandomNet(seed).build(kinds)
    try:
        reference.run_all(graph, inputs_for(graph, seed))
    except ModelError:
        return None
    return graph


def with_output(graph: ir.Graph, name: str) -> ir.Graph:
    """The graph cut off at an inner tensor: what is behind it is dead."""
    return dataclasses.replace(graph.copy(), outputs=(name,))
