"""Single convolutions for the fast kernels: odd shapes, sums at the ends of what is proved, every clamp."""

from __future__ import annotations

import itertools

import numpy as np

from tinykit.graph import ir, windows

HALF, WHOLE = 1 << 30, (1 << 31) - 1
"""The least and the largest multiplier."""


def conv(
    shape: tuple[int, int, int],
    weights: np.ndarray,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    bias: np.ndarray | int = 0,
    multiplier: np.ndarray | int = HALF,
    shift: np.ndarray | int = -7,
    zeros: tuple[int, int] = (0, 0),
    clamp: tuple[int, int] = (-128, 127),
) -> ir.Graph:
    """One layer; `zeros` are the zero points of input and output, `weights` [out, height, width, in]."""
    out = len(weights)
    size = windows.output_size_2d(shape[:2], weights.shape[1:3], stride, dilation, padding)
    tensors = {"x": ir.Tensor("x", shape, 0.5, zeros[0]), "y": ir.Tensor("y", (*size, out), 0.5, zeros[1])}
    columns = [np.broadcast_to(np.asarray(v), out).astype(np.int32) for v in (bias, multiplier, shift)]
    op = ir.Conv2D(
        "conv", ("x",), "y", weights.astype(np.int8), *columns, np.full(out, 0.01, np.float32), *clamp,
        stride=stride, dilation=dilation, padding=padding,
    )  # fmt: skip
    graph = ir.Graph(tensors, [op], ("x",), ("y",), {}, "conv")
    graph.validate()
    return graph


def random_conv(seed: int, depth: int, out: int, image: tuple[int, int], kernel: tuple[int, int], **given: object) -> ir.Graph:
    """Random weights, biases and multipliers, outputs over the whole range; padding at random where none is given."""
    rng = np.random.default_rng(seed)
    taps = depth * kernel[0] * kernel[1]
    low = -128 if seed % 5 == 0 else -127  # -128 cannot share a lane with another channel's weight
    shift = -np.maximum(1, int(np.log2(np.sqrt(taps) * 90)) + rng.integers(-1, 2, out))
    values = {
        "bias": rng.integers(-2000, 2000, out), "multiplier": rng.integers(HALF, WHOLE, out, endpoint=True), "shift": shift,
        "zeros": tuple(int(v) for v in rng.choice([-128, -128, 127, 0, 5], 2)),
        "padding": _padding(rng, image, kernel, given.get("dilation", (1, 1))),
    }  # fmt: skip
    return conv((*image, depth), rng.integers(low, 128, (out, *kernel, depth)), **{**values, **given})


def _padding(rng: np.random.Generator, image: tuple[int, int], kernel: tuple[int, int], dilation: object) -> tuple[int, ...]:
    """Some on every side, enough for the window to fit."""
    found: list[int] = []
    for size, taps, apart in zip(image, kernel, dilation):  # type: ignore[call-overload]
        reach = (taps - 1) * apart
        before, after = int(rng.integers(0, reach + 1)), int(rng.integers(0, reach + 1))
        found += [before, max(after, reach + 1 - size - before)]
    return tuple(found)


def shapes() -> list[ir.Graph]:
    """1 to 9 channels in, 2 to 9 out, 1 to 9 pixels and more, windows of all kinds."""
    graphs = []
    for depth, out in zip(range(1, 10), (9, 2, 8, 3, 7, 4, 6, 5, 2)):
        graphs.append(random_conv(depth, depth, out, (1, depth), (1, 1), padding=(0, 0, 0, 0)))
        graphs.append(random_conv(10 + depth, depth, out, (4, depth), (3, 3)))
    for seed, (kernel, stride, dilation) in enumerate(
        [
            ((1, 1), (2, 2), (1, 1)), ((1, 1), (1, 3), (1, 1)), ((3, 3), (2, 2), (1, 1)), ((3, 3), (1, 2), (1, 1)),
            ((2, 3), (1, 1), (2, 1)), ((3, 2), (1, 1), (1, 2)), ((3, 3), (1, 1), (2, 2)), ((5, 5), (1, 1), (1, 1)),
            ((1, 7), (1, 1), (1, 1)), ((7, 1), (2, 1), (1, 1)),
            ((10, 4), (2, 2), (1, 1)), ((1, 3), (1, 1), (1, 3)), ((4, 1), (1, 1), (3, 1)),
        ]
    ):  # fmt: skip
        for depth in (3, 4, 6, 8):
            given = {"padding": (0, 0, 0, 0)} if kernel == (1, 1) else {}
            graphs.append(
                random_conv(
                    100 + 10 * seed + depth, depth, 2 + (seed + depth) % 6, (7, 5), kernel, stride=stride, dilation=dilation, **given
                )
            )
    for depth in (16, 20, 64, 67, 68, 72, 130):  # every way into the passes
        graphs.append(random_conv(300 + depth, depth, 5, (2, 2), (1, 1), padding=(0, 0, 0, 0)))
    for depth in (5, 6, 8):  # windows that lie outside
        graphs.append(random_conv(400 + depth, depth, 3, (2, 3), (2, 3), padding=(3, 2, 4, 5), stride=(2, 1)))
    return graphs


def all_inputs() -> np.ndarray:
    """Every int8 once: [1, 16, 16, 1]."""
    return np.arange(-128, 128).reshape(1, 16, 16, 1)


def roundings(zero: int) -> ir.Graph:
    """Sums -128..127 and about large numbers, one by one: ties of both roundings, negative ones too."""
    settings = list(itertools.product((HALF, HALF + 1, 3 << 29, WHOLE), (-1, -2, -5, -13), (0, 1, -40_000, 99_000)))
    multiplier, shift, bias = (np.array(column) for column in zip(*settings))
    base = np.where(shift == -13, bias * 64, np.where(shift == -5, np.clip(bias, -3000, 3000), np.clip(bias, -200, 200)))
    weights = np.where(np.arange(len(settings)) % 3 == 2, -1, 1)
    return conv((16, 16, 1), weights.reshape(-1, 1, 1, 1), bias=base, multiplier=multiplier, shift=shift, zeros=(0, zero))


def clamps() -> list[ir.Graph]:
    """Every kind of range, and zero points at both ends."""
    ranges = [(-128, 127), (-128, 126), (-127, 127), (-1, 1), (0, 127), (-128, 0), (127, 127), (-128, -128), (5, 5)]
    return [
        random_conv(400 + 3 * i + j, 6, 4, (3, 3), (1, 1), padding=(0, 0, 0, 0), clamp=clamp, zeros=zeros)
        for i, clamp in enumerate(ranges)
        for j, zeros in enumerate([(-128, -128), (127, 127)])
    ]


def bounded(joint: int, sign: int) -> ir.Graph:
    """Two channels, the second of which reaches exactly `joint` times `sign`, with inputs of 255 above the zero point."""
    weights = np.full((2, 1, 1, 8), 127 * sign)
    weights[0] = -127 * sign
    most = 127 * 255 * 8
    return conv((3, 3, 8), weights, bias=np.array([0, sign * (joint - most)]), multiplier=WHOLE, shift=-17, zeros=(-128, 3))


def dead() -> ir.Graph:
    """Channels that are constant whatever their biases, beside others."""
    weights = np.random.default_rng(5).integers(-127, 128, (7, 1, 1, 5))
    weights[[1, 2, 4, 6]] = 0
    bias = np.array([100, HALF, -HALF, -7, WHOLE, 50, -WHOLE])
    return conv((4, 3, 5), weights, bias=bias, multiplier=WHOLE, shift=np.array([-9, -1, -3, -8, -9, -10, -2]), zeros=(-3, 4))
