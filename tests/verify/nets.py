"""Random integer graphs for property tests: every op with random scales, zero points, weights and biases."""

from __future__ import annotations

import numpy as np

from tinykit.graph import build, ir, windows


def f32(value: float) -> float:
    """The nearest float32."""
    return float(np.float32(value))


class Net:
    """Grows a graph op by op; every method takes tensor names and returns the name of the result."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = ir.Graph({}, [], (), (), {}, f"net{seed}")

    def scale(self, low: float = -2.5, high: float = 0.5) -> float:
        return f32(10 ** self.rng.uniform(low, high))

    def zero_point(self) -> int:
        return int(self.rng.choice([-128, 127, 0, int(self.rng.integers(-128, 128))]))

    def tensor(self, shape, scale=None, zero_point=None, bits=8, qmin=None, **kw) -> ir.Tensor:
        name = f"t{len(self.graph.tensors)}"
        scale = self.scale() if scale is None else f32(scale)
        zero_point = self.zero_point() if zero_point is None else zero_point
        t = ir.Tensor(name, tuple(int(v) for v in shape), scale, zero_point, bits, qmin, **kw)
        self.graph.tensors[name] = t
        return t

    def input(self, shape, **kw) -> str:
        t = self.tensor(shape, **kw)
        self.graph.inputs += (t.name,)
        return t.name

    def constant(self, shape, **kw) -> str:
        t = self.tensor(shape, **kw)
        self.graph.constants[t.name] = self.rng.integers(-128, 128, t.shape).astype(np.int8)
        return t.name

    def __getitem__(self, name: str) -> ir.Tensor:
        return self.graph.tensors[name]

    def put(self, make, inputs, y: ir.Tensor, *args, **kw) -> str:
        self.graph.ops.append(make(f"op{len(self.graph.ops)}", tuple(inputs), y.name, *args, **kw))
        return y.name

    def done(self, *outputs: str) -> ir.Graph:
        self.graph.outputs = outputs or (self.graph.ops[-1].output,)
        self.graph.validate()
        return self.graph

    def samples(self, n: int) -> np.ndarray:
        t = self[self.graph.inputs[0]]
        x = self.rng.integers(t.low, t.high + 1, (n, *t.shape)).astype(np.int8)
        x[0], x[-1] = t.low, t.high
        return x

    # -- multiply-accumulate ---------------------------------------------------------------------------------------------------

    def _weighted(self, x: ir.Tensor, out: int, fan_in: int, per_channel: bool, bits: int, spread: float):
        n = out if per_channel else 1
        ws = np.array([self.scale(-3, -1) for _ in range(n)], np.float32)
        limit = 1 << (bits - 1)
        bias = self.rng.integers(-(1 << 12), 1 << 12, out).astype(np.int32)
        y_scale = f32(x.scale * float(ws.mean()) * np.sqrt(fan_in) * 40 * limit / 128 * spread)
        return ws, limit, bias, y_scale

    def conv(self, name: str, out=5, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), padding="same", act="none", per_channel=True,
             bits=8, spread=1.0, clamp=None, y=None) -> str:  # fmt: skip
        x = self[name]
        h, w, c = x.shape
        ws, limit, bias, ys = self._weighted(x, out, kernel[0] * kernel[1] * c, per_channel, bits, spread)
        pads = self.padding(x, kernel, stride, dilation, padding)
        size = windows.output_size_2d((h, w), kernel, stride, dilation, pads)
        y = y or self.tensor((*size, out), ys)
        weights = self.rng.integers(-limit, limit, (out, *kernel, c)).astype(np.int8)
        m, s = build.weight_multipliers(x, ws, y, out)
        low, high = clamp or build.clamp_range(y, act)
        return self.put(ir.Conv2D, [name], y, weights, bias, m, s, ws, low, high, bits, stride=stride, dilation=dilation, padding=pads)

    def depthwise(self, name: str, mult=1, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), padding="same", act="none", per_channel=True,
                  bits=8, spread=1.0) -> str:  # fmt: skip
        x = self[name]
        h, w, c = x.shape
        ws, limit, bias, ys = self._weighted(x, c * mult, kernel[0] * kernel[1], per_channel, bits, spread)
        pads = self.padding(x, kernel, stride, dilation, padding)
        size = windows.output_size_2d((h, w), kernel, stride, dilation, pads)
        y = self.tensor((*size, c * mult), ys)
        weights = self.rng.integers(-limit, limit, (*kernel, c * mult)).astype(np.int8)
        m, s = build.weight_multipliers(x, ws, y, c * mult)
        low, high = build.clamp_range(y, act)
        return self.put(
            ir.DepthwiseConv2D, [name], y, weights, bias, m, s, ws, low, high, bits,
            stride=stride, dilation=dilation, padding=pads, depth_multiplier=mult,
        )  # fmt: skip

    def dense(self, name: str, out=7, act="none", per_channel=False, bits=8, spread=1.0, shape=None) -> str:
        x = self[name]
        ws, limit, bias, ys = self._weighted(x, out, x.size, per_channel, bits, spread)
        y = self.tensor(shape or (out,), ys)
        weights = self.rng.integers(-limit, limit, (out, x.size)).astype(np.int8)
        m, s = build.weight_multipliers(x, ws, y, out)
        low, high = build.clamp_range(y, act)
        return self.put(ir.FullyConnected, [name], y, weights, bias, m, s, ws, low, high, bits)

    def padding(self, x: ir.Tensor, kernel, stride, dilation, padding):
        if padding == "same":
            return windows.same_padding_2d(x.shape[:2], kernel, stride, dilation)
        return (0, 0, 0, 0) if padding == "valid" else tuple(padding)

    # -- two operands ----------------------------------------------------------------------------------------------------------

    def binary(self, kind: str, a: str, b: str, act="none", spread=1.0) -> str:
        ta, tb = self[a], self[b]
        shape = np.broadcast_shapes(ta.shape, tb.shape)
        if kind == "mul":
            y = self.tensor(shape, ta.scale * tb.scale * 60 * spread)
            m, s = build.mul_parameters(ta, tb, y)
            return self.put(ir.Mul, [a, b], y, m, s, *build.clamp_range(y, act))
        y = self.tensor(shape, max(ta.scale, tb.scale) * 1.5 * spread)
        m, s = build.binary_parameters(ta, tb, y)
        return self.put(ir.Add if kind == "add" else ir.Sub, [a, b], y, m, s, *build.clamp_range(y, act))

    def extremum(self, kind: str, a: str, b: str) -> str:
        ta, tb = self[a], self[b]
        y = self.tensor(np.broadcast_shapes(ta.shape, tb.shape), ta.scale, ta.zero_point)
        return self.put(ir.Minimum if kind == "minimum" else ir.Maximum, [a, b], y)

    # -- one operand -----------------------------------------------------------------------------------------------------------

    def pool(self, kind: str, name: str, window=(2, 2), stride=(2, 2), padding="valid", act="none") -> str:
        x = self[name]
        pads = self.padding(x, window, stride, (1, 1), padding)
        size = windows.output_size_2d(x.shape[:2], window, stride, (1, 1), pads)
        y = self.tensor((*size, x.shape[2]), x.scale, x.zero_point)
        make = ir.AveragePool if kind == "average" else ir.MaxPool
        return self.put(make, [name], y, window, stride, pads, *build.clamp_range(y, act))

    def mean(self, name: str, axes, keep=False, same_scale=False) -> str:
        x = self[name]
        shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
        count = int(np.prod([x.shape[a] for a in axes]))
        y = self.tensor(shape, x.scale, x.zero_point) if same_scale else self.tensor(shape, x.scale * 10 ** self.rng.uniform(-1.5, 0.5))
        return self.put(ir.Mean, [name], y, tuple(axes), keep, *build.mean_parameters(x, y, count))

    def table(self, function: str, name: str, alpha=0.0, same=False) -> str:
        x = self[name]
        fixed = {"logistic": (1 / 256, -128), "tanh": (1 / 128, 0)}.get(function)
        if fixed:
            y = self.tensor(x.shape, *fixed)
        elif same or function == "relu6":
            y = self.tensor(x.shape, x.scale, x.zero_point)
        else:
            low = 0.01 if function == "hard_swish" else -1.5
            y = self.tensor(x.shape, x.scale * 10 ** self.rng.uniform(low, 0.7))
        return self.put(ir.Table, [name], y, function, build.function_table(function, x, y, alpha), alpha)

    def softmax(self, name: str, beta=1.0) -> str:
        x = self[name]
        y = self.tensor(x.shape, 1 / 256, -128)
        return self.put(ir.Softmax, [name], y, *build.softmax_parameters(x, beta), beta)

    def requantize(self, name: str) -> str:
        x = self[name]
        y = self.tensor(x.shape, x.scale * 10 ** self.rng.uniform(-1.5, 1.5))
        return self.put(ir.Requantize, [name], y, *build.requantize_parameters(x, y))

    def quantize(self, name: str) -> str:
        return self.put(ir.Quantize, [name], self.tensor(self[name].shape))

    def dequantize(self, name: str) -> str:
        return self.put(ir.Dequantize, [name], self.tensor(self[name].shape, 1.0, 0, 32, dtype=ir.Dtype.FLOAT))

    def pad(self, name: str, amounts, value=None) -> str:
        x = self[name]
        shape = [d + a + b for d, (a, b) in zip(x.shape, amounts)]
        y = self.tensor(shape, x.scale, x.zero_point)
        return self.put(ir.Pad, [name], y, tuple(amounts), x.zero_point if value is None else value)

    def reshape(self, name: str, shape) -> str:
        x = self[name]
        return self.put(ir.Reshape, [name], self.tensor(shape, x.scale, x.zero_point))

    def transpose(self, name: str, permutation) -> str:
        x = self[name]
        return self.put(ir.Transpose, [name], self.tensor([x.shape[p] for p in permutation], x.scale, x.zero_point), tuple(permutation))

    def concat(self, names, axis: int) -> str:
        x = self[names[0]]
        shape = list(x.shape)
        shape[axis] = sum(self[n].shape[axis] for n in names)
        return self.put(ir.Concat, names, self.tensor(shape, x.scale, x.zero_point), axis)

    def slice(self, name: str, begin, end, step) -> str:
        x = self[name]
        shape = [-(-(e - b) // s) for b, e, s in zip(begin, end, step)]
        return self.put(ir.StridedSlice, [name], self.tensor(shape, x.scale, x.zero_point), tuple(begin), tuple(end), tuple(step))

    def argmax(self, name: str, axis: int) -> str:
        x = self[name]
        return self.put(ir.ArgMax, [name], self.tensor(x.shape[:axis] + x.shape[axis + 1 :], 1.0, 0, 32), axis)
