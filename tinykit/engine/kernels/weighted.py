"""Convolution, depthwise convolution and dense layers in portable C.

Weights are laid out so that the inner loop walks them with one pointer: four output channels side by side ([out/4][tap][in][4], what is
left over as [out % 4][tap][in]) for full convolutions, [out][tap] for depthwise ones. Padded taps read a row of zero points in flash.
Positions are indices, because a pointer must not be stepped beyond its array, not even after the last pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from textwrap import indent

import numpy as np

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function, Place, Records, Table
from tinykit.engine.kernels.common import channels_part, expect_int8, expect_range, integers
from tinykit.engine.kernels.narrow import blocks, narrowed, pad_row, rows, weight_format
from tinykit.engine.memory import is_packed
from tinykit.engine.packing import width_tag
from tinykit.engine.requant import Requant, folded_bias, requant
from tinykit.graph import ir
from tinykit.graph.plan.problem import Access
from tinykit.graph.windows import kernel_of

_INT8 = "const int8_t *"


def _start(tensor: ir.Tensor, element: int, name: str) -> tuple[Place, dict[str, Argument]]:
    """Where a kernel begins: a place in the arena, or for a packed tensor, whose element may lie inside a byte, a number besides."""
    return (Place(tensor.name), {name: element}) if is_packed(tensor) else (Place(tensor.name, element), {})


def _last_pixel(y: ir.Tensor, reverse: bool) -> int:
    """The first element of the pixel that is written first."""
    return y.size - y.channels if reverse else 0


# ---------------------------------------------------------------- sums of four output channels at a time

_FOUR_SUMS = """\
for (int32_t k = 0; k < depth; ++k, w += 4) {
    const int32_t v = SOURCE[k];
    a0 += (uint32_t)(v * w[0]);
    a1 += (uint32_t)(v * w[1]);
    a2 += (uint32_t)(v * w[2]);
    a3 += (uint32_t)(v * w[3]);
}
"""

_ONE_SUM = """\
for (int32_t k = 0; k < depth; ++k) {
    a += (uint32_t)(SOURCE[k] * *w++);
}
"""

_EACH_TAP = """\
for (int32_t t = 0; t < TAPS; ++t) {
    const int8_t *const p = tap[t];
LOOP}
"""

_CHANNELS = """\
            int32_t c = 0;
            for (; c + 4 <= channels; c += 4) {
                uint32_t a0 = (uint32_t)bias[c], a1 = (uint32_t)bias[c + 1], a2 = (uint32_t)bias[c + 2], a3 = (uint32_t)bias[c + 3];
FOUR                result[c] = @a0,c@;
                result[c + 1] = @a1,c + 1@;
                result[c + 2] = @a2,c + 2@;
                result[c + 3] = @a3,c + 3@;
            }
            for (; c < channels; ++c) {
                uint32_t a = (uint32_t)bias[c];
ONE                result[c] = @a,c@;
            }
"""


def _channels(source: str, each_tap: bool) -> str:
    """All output channels of a pixel: sums over the elements of the row `source`, of every tap's row `p` where `each_tap`."""

    def loop(text: str) -> str:
        text = text.replace("SOURCE", source)
        text = _EACH_TAP.replace("LOOP", indent(text, "    ")) if each_tap else text
        return indent(text, " " * 16)

    return _CHANNELS.replace("FOUR", loop(_FOUR_SUMS)).replace("ONE", loop(_ONE_SUM))


# ---------------------------------------------------------------- pointwise convolution and dense

_MATMUL = (
    """\
    for (int32_t y = out_h, from = 0, to = 0; y > 0; --y, from += row_step) {
        for (int32_t x = out_w; x > 0; --x, from += in_step, to += out_step) {
            const int8_t *const pixel = in + from, *w = weights;
            int8_t *const result = out + to;
"""
    + _channels("pixel", each_tap=False)
    + """\
        }
    }
"""
)

# ---------------------------------------------------------------- windows

_WINDOW = """\
    for (int32_t y = 0, row = first_y, to = 0; y < out_h; ++y, row += step_y) {
        for (int32_t x = 0, column = first_x; x < out_w; ++x, column += step_x, to += out_step) {
            int8_t *const result = out + to;
            const int8_t *tap[TAPS];
            for (int32_t i = 0; i < KERNEL_H; ++i) {
                const int32_t r = row + i * dilation_h;
                for (int32_t j = 0; j < KERNEL_W; ++j) {
                    const int32_t s = column + j * dilation_w;
                    const int inside = (uint32_t)r < (uint32_t)in_h && (uint32_t)s < (uint32_t)in_w;
                    tap[i * KERNEL_W + j] = inside ? in + (r * in_w + s) * depth : padding;
                }
            }
@INNER@
        }
    }
"""

_CONV_INNER = "            const int8_t *w = weights;\n" + _channels("p", each_tap=True).removesuffix("\n")

_DEPTHWISE_INNER = """\
            const int8_t *w = weights;
            for (int32_t c = 0; c < depth; ++c, w += TAPS) {
                uint32_t a = (uint32_t)bias[c];
                for (int32_t t = 0; t < TAPS; ++t) {
                    a += (uint32_t)(tap[t][c] * w[t]);
                }
                result[c] = @a,c@;
            }"""

_MULTIPLIED_INNER = """\
            const int8_t *w = weights;
            int32_t o = 0;
            for (int32_t c = 0; c < depth; ++c) {
                for (int32_t m = 0; m < depth_multiplier; ++m, ++o, w += TAPS) {
                    uint32_t a = (uint32_t)bias[o];
                    for (int32_t t = 0; t < TAPS; ++t) {
                        a += (uint32_t)(tap[t][c] * w[t]);
                    }
                    result[o] = @a,o@;
                }
            }"""


def _fill(text: str, scale: Requant) -> str:
    """Replaces @accumulator,channel@ by the requantised output."""
    parts = text.split("@")
    for i in range(1, len(parts), 2):
        parts[i] = scale.expression(*parts[i].split(","))
    return "".join(parts)


def _common(op: ir.Weighted, x: ir.Tensor, scale: Requant, weights: np.ndarray, places: dict[str, Argument]) -> dict[str, Argument]:
    four = Records(4 * op.weights[0].size, 4) if op.weight_bits == 8 and not isinstance(op, ir.DepthwiseConv2D) else None
    return {**places, "weights": Table("w", weights, four), "bias": folded_bias(op, x), **scale.arguments}


def part(graph: ir.Graph, op: ir.Op) -> Callable[[Call, int, int], Call] | None:
    """What computes some output channels alone, see `Variant.part`."""
    dense = isinstance(op, ir.Conv2D | ir.FullyConnected)
    return channels_part if dense and not is_packed(graph.tensors[op.output]) else None


def again(graph: ir.Graph, op: ir.Op) -> float:
    """Instructions for an output's pixels that do not depend on its channels, see `Variant.again`: about ten a tap."""
    if not isinstance(op, ir.Conv2D):
        return 20
    taps = kernel_of(op)[0] * kernel_of(op)[1]
    return 10.0 * (taps + 1) * graph.tensors[op.output].size / max(len(op.weights), 1)


def _function(graph: ir.Graph, op: ir.Weighted, name: str, parameters: Iterable[tuple[str, str]], text: str, scale: Requant) -> Function:
    """A kernel for the widths of the op's operands."""
    x, y, form = graph.tensors[op.inputs[0]], graph.tensors[op.output], weight_format(op)
    text, support = narrowed(text, x, form, y)
    tag = width_tag(graph, op, form.tag) if support else ""
    return Function(f"{name}{tag}{scale.tag}", tuple(parameters), _fill(text, scale), (*scale.support, *support))


_POINTERS = ((_INT8, "in"), ("int8_t *", "out"), (_INT8, "weights"), ("const int32_t *", "bias"))


def matmul_call(graph: ir.Graph, op: ir.Conv2D | ir.FullyConnected, reverse: bool) -> Call:
    """A dense layer, or a convolution with a window of one element and no padding."""
    x, y, scale = _operands(graph, op)
    channels, depth = len(op.weights), op.weights[0].size
    if isinstance(op, ir.Conv2D):
        out_h, out_w, _ = y.shape
        pixel, line = op.stride[1] * depth, op.stride[0] * x.shape[1] * depth
    else:
        out_h = out_w = 1
        pixel, line = depth, depth
    row = line - out_w * pixel
    if row == 0:
        out_h, out_w = 1, out_h * out_w
    start = (out_h - 1) * line + (out_w - 1) * pixel if reverse and row else (out_h * out_w - 1) * pixel if reverse else 0
    sign = -1 if reverse else 1
    values: dict[str, Argument] = {
        "out_h": out_h, "out_w": out_w, "depth": depth, "channels": channels,
        "in_step": sign * pixel, "row_step": sign * row if out_h > 1 else 0, "out_step": sign * channels,
    }  # fmt: skip
    (source, first), (target, to) = _start(x, start, "from_first"), _start(y, _last_pixel(y, reverse), "to_first")
    values |= first | to
    arguments = {**_common(op, x, scale, blocks(op.weights, weight_format(op)), {"in": source, "out": target}), **values}
    parameters = (*_POINTERS, *scale.parameters, *integers(values))
    return Call(_function(graph, op, "matmul", parameters, _MATMUL, scale), arguments)


def _operands(graph: ir.Graph, op: ir.Weighted) -> tuple[ir.Tensor, ir.Tensor, Requant]:
    """Input, output and what is between sums and outputs, checked."""
    expect_int8(graph, op)
    expect_range(graph, op, op.act_min, op.act_max)
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    return x, y, requant(op, x, y)


def _window_call(graph: ir.Graph, op: ir.Conv2D | ir.DepthwiseConv2D, reverse: bool, kind: str, inner: str, weights: np.ndarray,
                 extra: dict[str, Argument]) -> Call:  # fmt: skip
    x, y, scale = _operands(graph, op)
    (kernel_h, kernel_w), (in_h, in_w, depth), (out_h, out_w, channels) = kernel_of(op), x.shape, y.shape
    first_y, first_x = -op.padding[0], -op.padding[2]
    sign = -1 if reverse else 1
    if reverse:
        first_y, first_x = first_y + (out_h - 1) * op.stride[0], first_x + (out_w - 1) * op.stride[1]
    values: dict[str, Argument] = {
        "in_h": in_h, "in_w": in_w, "depth": depth, "out_h": out_h, "out_w": out_w,
        "first_y": first_y, "first_x": first_x, "step_y": sign * op.stride[0], "step_x": sign * op.stride[1], "out_step": sign * channels,
        "dilation_h": op.dilation[0], "dilation_w": op.dilation[1], **extra,
    }  # fmt: skip
    target, to = _start(y, _last_pixel(y, reverse), "to_first")
    values |= to
    places: dict[str, Argument] = {"in": Place(x.name), "out": target, "padding": pad_row(op, x, depth)}
    arguments = {**_common(op, x, scale, weights, places), **values}
    parameters = (*_POINTERS, *scale.parameters, (_INT8, "padding"), *integers(values))
    window = f"    enum {{ KERNEL_H = {kernel_h}, KERNEL_W = {kernel_w}, TAPS = {kernel_h * kernel_w} }};\n"
    body = window + _WINDOW.replace("@INNER@\n", inner + "\n")
    return Call(_function(graph, op, f"{kind}_{kernel_h}x{kernel_w}", parameters, body, scale), arguments)


def conv_call(graph: ir.Graph, op: ir.Conv2D, reverse: bool) -> Call:
    """A convolution with any window, stride, dilation and padding."""
    if is_pointwise(op):
        return matmul_call(graph, op, reverse)
    return _window_call(graph, op, reverse, "conv2d", _CONV_INNER, blocks(op.weights, weight_format(op)), {"channels": len(op.weights)})


def depthwise_call(graph: ir.Graph, op: ir.DepthwiseConv2D, reverse: bool) -> Call:
    """A depthwise convolution; output channel o reads input channel o // depth_multiplier."""
    weights = rows(op.weights.reshape(-1, op.weights.shape[-1]).T, weight_format(op))
    if op.depth_multiplier == 1:
        return _window_call(graph, op, reverse, "depthwise", _DEPTHWISE_INNER, weights, {})
    extra: dict[str, Argument] = {"depth_multiplier": op.depth_multiplier}
    return _window_call(graph, op, reverse, "depthwise_multiplied", _MULTIPLIED_INNER, weights, extra)


def is_pointwise(op: ir.Conv2D) -> bool:
    """Whether every output pixel reads exactly one input pixel."""
    return kernel_of(op) == (1, 1) and not any(op.padding)


def conv_access(graph: ir.Graph, op: ir.Conv2D | ir.DepthwiseConv2D) -> Access:
    """Pixel by pixel, in either direction."""
    return access.pixels(graph, op, kernel_of(op), op.stride, op.dilation)
