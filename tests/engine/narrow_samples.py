"""Networks that have every combination of widths: 8, 4 and 2 bits of inputs, weights and outputs; sizes that fill no byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from narrow_nets import NarrowNet

from tinykit.graph import ir

WIDTHS = (8, 4, 2)


def combinations(weights: int) -> Iterator[tuple[int, int, bool]]:
    """(bits of the input, bits of the output, odd weights) for weights of some bits."""
    for odd in (False, True) if weights == 2 else (False,):
        for i, o in itertools.product(WIDTHS, repeat=2):
            yield i, o, odd


def _finished(net: NarrowNet, odd: bool, names: list[str]) -> ir.Graph:
    """The graph, with extreme weights in the first channel and in the last one of every layer."""
    for op in net.graph.ops:
        if isinstance(op, ir.Weighted):
            if odd:
                net.odd(op.output)
            least, most = (-3, 3) if odd else (-(1 << op.weight_bits - 1), (1 << op.weight_bits - 1) - 1)
            channels = op.weights if not isinstance(op, ir.DepthwiseConv2D) else op.weights.transpose(2, 0, 1)
            channels[0], channels[-1] = least, most
    return net.done(*names)


def layers(i: int, w: int, o: int, odd: bool = False) -> ir.Graph:
    """Every multiply-accumulate kernel from one input: windows with padding, stride and dilation, pointwise with stride, 1-D, dense."""
    net = NarrowNet(i * 100 + w * 10 + o, i)
    x, z = net.input((5, 7, 13)), net.input((1, 31, 5))
    net.bits = o
    names = [
        net.conv(x, 11, bits=w),
        net.conv(x, 6, stride=(2, 1), padding=(2, 0, 1, 3), bits=w, dilation=(1, 2), per_channel=False),
        net.conv(x, 11, (1, 1), bits=w),
        net.conv(x, 5, (1, 1), (2, 3), bits=w),
        net.depthwise(x, bits=w),
        net.depthwise(x, 3, stride=(2, 2), bits=w, per_channel=False),
        net.dense(x, 11, bits=w),
        net.conv(z, 7, (1, 5), bits=w),
    ]
    return _finished(net, odd, names)


def chain(i: int, w: int, o: int, odd: bool = False) -> ir.Graph:
    """Layers that share memory: to `o` bits and back to `i` bits, wider and narrower, a residual sum, a concatenation, a pool."""
    net = NarrowNet(i * 100 + w * 10 + o + 7, i)
    x = net.input((7, 5, 3))

    def conv(name: str, bits: int, out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> str:
        net.bits = bits
        return net.conv(name, out, kernel, stride, bits=w)

    y = conv(x, o, 11, (1, 1))
    y = conv(y, i, 7, (3, 3))
    net.bits = o
    y = net.depthwise(y, bits=w)
    skip = y
    y = conv(conv(y, i, 9, (1, 1)), o, 7, (1, 1))
    y = net.binary("add", skip, y)
    y = net.pool("max", net.concat([y, net.pad(y, ((0, 0), (0, 0), (0, 2)))], 2), (3, 2), (2, 1))
    y = conv(y, i, 5, (3, 3), (2, 2))
    net.bits = o
    return _finished(net, odd, [net.dense(y, 9, bits=w)])


def two_operands(i: int, j: int, o: int) -> ir.Graph:
    """Sums, differences, products, extrema: the same shape, broadcast, and with a constant."""
    net = NarrowNet(i * 100 + j * 10 + o, i)
    a = net.input((3, 5, 7))
    net.bits = j
    b, channel, constant = net.input((3, 5, 7)), net.input((7,)), net.constant((1, 5, 1))
    net.bits = o
    names = [net.binary("add", a, b), net.binary("sub", channel, a, act="relu"), net.binary("add", a, constant), net.binary("mul", a, b)]
    names += [net.binary("mul", channel, a), net.binary("sub", b, b), net.extremum("maximum", a, a)]
    net.bits = 8
    names += [net.extremum("minimum", a, b), net.extremum("maximum", channel, a)]
    return net.done(*names)


def one_operand(i: int, o: int) -> ir.Graph:
    """Everything else. What only moves elements keeps its `i` bits, or has 8 where `o` is 8."""
    net = NarrowNet(i * 10 + o, i)
    x, y, real = net.input((5, 7, 3)), net.input((4, 4, 8)), net.input((3, 11), scale=1.0, zero_point=0, bits=32, dtype=ir.Dtype.FLOAT)
    net.bits = o
    names = [net.table("any", x), net.requantize(x), net.quantize(real), net.dequantize(x), net.softmax(x), net.argmax(x, 2)]
    names += [net.argmax(y, 0), *(net.mean(x, axes) for axes in ((0, 1), (0, 2), (2,), (1,))), net.mean(y, (0, 1), keep=True)]
    names += [
        net.pool(kind, t, (3, 2), (2, 1), (1, 1, 0, 1), act) for kind in ("average", "max") for t in (x, y) for act in ("none", "relu")
    ]
    names += [net.pad(x, ((1, 0), (0, 2), (1, 1))), net.pad(y, ((1, 1), (0, 3), (0, 0)), 127), net.transpose(x, (2, 0, 1))]
    names += [net.slice(x, (0, 6, 1), (5, -1, 3), (2, -3, 1)), net.slice(y, (1, 0, 0), (4, 4, 8), (1, 2, 1))]
    names += [net.concat([x, x], 2), net.concat([x, net.reshape(x, (5, 7, 3)), x], 0)]
    return net.done(*names)


def mixed_ranges() -> ir.Graph:
    """Elements that move between tensors of different widths and different least integers."""
    net = NarrowNet(3)
    outer = net.tensor((3, 5, 3), 0.1, -120, 4, -128)
    inner = net.tensor((3, 5, 2), 0.1, -120, 2, -121)
    wide = net.tensor((3, 5, 5), 0.1, -120, 4, -128)
    net.graph.inputs = (outer.name, inner.name)
    both = net.put(ir.Concat, [inner.name, outer.name], wide, 2)
    padded = net.put(ir.Pad, [inner.name], net.tensor((5, 5, 2), 0.1, -120, 4, -122), ((1, 1), (0, 0), (0, 0)), -115)
    turned = net.put(ir.Transpose, [inner.name], net.tensor((2, 3, 5), 0.1, -120, 4, -125), (2, 0, 1))
    least = net.put(
        ir.Minimum, [inner.name, net.slice(outer.name, (0, 0, 0), (3, 5, 2), (1, 1, 1))], net.tensor((3, 5, 2), 0.1, -120, 4, -128)
    )
    return net.done(both, padded, turned, least)
