"""Depthwise convolution with any window, stride, dilation, padding and multiplier, for cores with SMLAD, and the same in portable C.

Channel by channel on planes, see `depthwise_plane`. Weights lie in flash as int8; those of a channel are widened to pairs of int16 in the
scratch before its first row. A row of the window is given twice there where the stride is 1: as pairs (w0, w1), (w2, w3) ... for outputs in
even columns, and, in turns with these, as (0, w0), (w1, w2) ... for those in odd ones, so that four outputs share aligned words of the
plane. With another stride outputs are made one by one, with a dilation tap by tap.

Where images and windows are one column wide, as those of 1-D convolutions are, rows and columns change places: the bytes are the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tinykit.engine.call import Argument, Call, Function, Place, Table, Variant
from tinykit.engine.ctext import inserted
from tinykit.engine.kernels import depthwise_plane
from tinykit.engine.kernels.common import IN, OUT, integers
from tinykit.engine.kernels.depthwise_plane import (
    BODY,
    BODY_SUPPORT,
    Bands,
    Layer,
    Scaling,
    Window,
    bands,
    rates,
    room_of,
)  # fmt: skip
from tinykit.engine.kernels.depthwise_weights import SLACK, channel_bytes, planar, widening
from tinykit.engine.kernels.narrow import WeightFormat, weight_format
from tinykit.engine.kernels.plane_fields import edges, keeps_padding
from tinykit.engine.memory import is_packed
from tinykit.graph import ir

_WIDEST = 12
"""Columns of a window, all of which are written out."""
_RATE = 4.0
"""Instructions a product, about."""


@dataclass(frozen=True)
class _Row:
    """What of the layer lies along a row.

    Attributes:
        taps: columns of the window.
        height: rows of the window.
        stride, dilation, dilation_h, pad: columns; `dilation_h` rows.
    """

    taps: int
    height: int
    stride: int
    dilation: int
    dilation_h: int
    pad: int

    @property
    def pairs(self) -> int:
        """Words that a row of the window has for an output in an even column."""
        return (self.taps + 1) // 2

    @property
    def shifted(self) -> int:
        """Words that a row has for an output in an odd column, 0 where there are none."""
        return (self.taps + 2) // 2 if self.fours else 0

    @property
    def words(self) -> int:
        """Words that a row of the window takes in the scratch."""
        return 2 * self.shifted or self.pairs

    @property
    def fours(self) -> bool:
        """Whether four outputs are made at a time."""
        return self.stride == 1 and self.dilation == 1


def _cut(graph: ir.Graph, op: ir.DepthwiseConv2D, x: ir.Tensor, y: ir.Tensor, form: WeightFormat) -> tuple[_Row, Window, Bands]:
    (in_h, in_w, channels), (out_h, out_w, _) = x.shape, y.shape
    kernel, stride, dilation, pads = op.weights.shape[:2], op.stride, op.dilation, (op.padding[0], op.padding[2])
    if in_w == out_w == kernel[1] == 1:
        in_h, in_w, out_h, out_w = in_w, in_h, out_w, out_h
        kernel, stride, dilation, pads = kernel[::-1], stride[::-1], dilation[::-1], pads[::-1]
    row = _Row(kernel[1], kernel[0], stride[1], dilation[1], dilation[0], pads[1])
    columns = (out_w - 1) * row.stride + max((row.taps - 1) * row.dilation + 2, 2 * max(row.pairs, row.shifted))
    reach = (row.height - 1) * row.dilation_h + 1
    window = Window(
        in_h, in_w, channels, out_h, out_w, stride[0], reach, pads[0], 0, 1, -(-columns // 2) * 4, 90 + 15 * row.height * row.words
    )
    own = _widened(row) + _bytes(row, form)
    cut = bands(window, room_of(graph, op) - own, rates(x.bits, y.bits))
    return row, window, replace(cut, in_place=cut.in_place and op.depth_multiplier == 1, scratch=cut.scratch + own)


def _widened(row: _Row) -> int:
    """Bytes of a channel's weights in the scratch."""
    return 4 * row.height * row.words


def _bytes(row: _Row, form: WeightFormat) -> int:
    """Bytes that packed weights of a channel take as bytes, behind those."""
    return 0 if form.bits == 8 else -(-(row.taps * row.height + SLACK) // 4) * 4


@dataclass(frozen=True)
class _Layer(Layer):
    """A layer, and what lies along its rows."""

    row: _Row


def variant(graph: ir.Graph, op: ir.DepthwiseConv2D, x: ir.Tensor, y: ir.Tensor, scale: Scaling) -> Variant | None:
    """The kernel for a layer, None where it does not cover its geometry, or takes more memory than it is worth."""
    form = weight_format(op)
    row, window, cut = _cut(graph, op, x, y, form)
    if row.taps > _WIDEST or row.pad >= window.in_w + row.taps * row.dilation or cut.scratch > 2 * room_of(graph, op):
        return None
    if _taken(row, window) <= 0:
        return None
    if is_packed(y) and (op.depth_multiplier > 1 or not keeps_padding(window.out_w, row.pad, _taken(row, window))):
        return None  # results lie in planes, which other results of a channel would need
    layer = _Layer(op, x, y, form, scale, window, cut, row)
    return depthwise_plane.variant(graph, layer, partial(_call, layer), _RATE)


def _taken(row: _Row, window: Window) -> int:
    """Columns of the input that the plane has room for."""
    return min(window.in_w, window.pitch // 2 - row.pad)


# ---------------------------------------------------------------- text

_CHANNEL = """\
for (int32_t m = 0; m < multiplier; ++m) {
    const int32_t c = (first + n) * multiplier + m;
    const int32_t start = records[3 * c], factor = records[3 * c + 1], offset = records[3 * c + 2];
    @FACTOR@
@SOURCE@
    TK_ROLLED
    for (int32_t i = 0, t = 0; i < KERNEL_H; ++i, source += KERNEL_W) {
        TK_ROLLED
        for (int32_t k = 0; t < 4 * WORDS * (i + 1); t += 4, k += !FOURS ? 2 : k & 1 ? 3 : -1) {
            const int32_t low = (uint32_t)k < KERNEL_W ? source[k] * scaled : 0, high = k + 1 < KERNEL_W ? source[k + 1] * scaled : 0;
            tk_store32(words + t, tk_pkhbt((uint32_t)low, (uint32_t)high));
        }
    }
    @RESULT@
    for (int32_t i = 0; i < count; ++i) {
        const int8_t *p = plane + i * STRIDE * PITCH;
        @ROW@
        int32_t left = out_w;
        @FOURS@
        for (; left > 0; --left, p += 2 * STRIDE_W, result += WIDTH) {
            uint32_t a0 = (uint32_t)start;
            const int8_t *q = p, *w = words;
            for (int32_t r = 0; r < KERNEL_H; ++r, q += DILATION_H * PITCH, w += 4 * WORDS) {
                @ONE@
#if defined(__GNUC__)
                __asm__ volatile("" : : : "memory"); /* or all rows' words are loaded first, more than there are registers */
#endif
            }
            @FINISH 0 0@
        }
    }
}
"""

_RESULT = """\
int8_t *result = out + y * line + c;
"""

_PACKED_RESULT = """\
int8_t *result = scratch + n * size + i * PITCH;
"""

_SOURCE = """\
    const int8_t *source = weights + c * KERNEL_H * KERNEL_W;
    int8_t *const words = scratch + TOGETHER * size;
"""

_SOURCE_PACKED = """\
    int8_t *const words = scratch + TOGETHER * size;
    const int8_t *source = words + 4 * KERNEL_H * WORDS;
    @WIDEN@(words + 4 * KERNEL_H * WORDS, weights + c * PACKED, PACKED);
"""

_FOURS = """\
for (; left >= 4; left -= 4, p += 8, result += 4 * WIDTH) {
#if TK_DSP
    uint32_t sums[4] = {KERNEL_H, (uint32_t)start, (uint32_t)(DILATION_H * PITCH), 0};
    {
        register const int8_t *r0 __asm__("r0") = p;
        register const int8_t *r1 __asm__("r1") = words;
        register uint32_t *r3 __asm__("r3") = sums;
        __asm__ volatile(
            @ASM@
            : "+r"(r0), "+r"(r1), "+r"(r3) : : "r2", "r12", "lr", "cc", "memory");
    }
    const uint32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3];
#else
    uint32_t a0 = (uint32_t)start, a1 = a0, a2 = a0, a3 = a0;
    const int8_t *q = p, *w = words;
    for (int32_t r = 0; r < KERNEL_H; ++r, q += DILATION_H * PITCH, w += 4 * WORDS) {
        @FOUR@
    }
#endif
    @FINISH 0 0@
    @FINISH 1 WIDTH@
    @FINISH 2 2 * WIDTH@
    @FINISH 3 3 * WIDTH@
}
"""

_LINE = """\
const int32_t value@N@ = @SATURATE@(tk_smmla((int32_t)a@N@, factor, offset));
"""

_TWICE = """\
const int32_t high@N@ = tk_smmulr((int32_t)a@N@, factor), value@N@ = @SATURATE@((high@N@ + (high@N@ >> 31) + offset) >> right);
"""


def _one(row: _Row) -> str:
    """A row of the window for one output, from `q`."""
    lines, step = [], 8 if row.fours else 4
    for k in range(row.pairs):
        if row.dilation == 1:
            lines.append(f"a0 = tk_smlad(tk_load32(w + {step * k}), tk_load32(q + {4 * k}), a0);")
            continue
        lines.append(f"a0 = tk_smlabb(tk_load32(w + {step * k}), tk_load16(q + {4 * k} * DILATION_W), a0);")
        if 2 * k + 1 < row.taps:
            lines.append(f"a0 = tk_smlatb(tk_load32(w + {step * k}), tk_load16(q + {4 * k + 2} * DILATION_W), a0);")
    return "\n".join(lines) + "\n"


def _four(row: _Row) -> str:
    """The same for four outputs: words of the plane one after the other, each to the outputs that need it."""
    lines = []
    for k in range(row.shifted + 1):
        lines.append(f"const uint32_t x{k} = tk_load32(q + {4 * k});")
        for n, count in enumerate((row.pairs, row.shifted)):
            if k < count:
                lines.append(f"a{n} = tk_smlad(tk_load32(w + {8 * k + 4 * n}), x{k}, a{n});")
            if 0 < k <= count:
                lines.append(f"a{n + 2} = tk_smlad(tk_load32(w + {8 * k + 4 * n - 8}), x{k}, a{n + 2});")
    return "\n".join(lines) + "\n"


def _four_assembly(row: _Row) -> str:
    """The same in assembly: r0 the plane, r1 the words, r2 rows that are left, lr from row to row; sums in r4 to r7, which go to where r3
    points; words of the plane in r8 and r9, of the window in two pairs of registers in turns."""
    lines = ["push {r3-r11}", "ldm r3, {r2, r4, lr}", "mov r5, r4", "mov r6, r4", "mov r7, r4", "1:"]
    turns = (("r10", "r11"), ("r12", "r3"))
    for k in range(row.shifted + 1):
        if k % 2 == 0:
            lines.append(f"ldrd r8, r9, [r0, #{4 * k}]" if k < row.shifted else f"ldr r8, [r0, #{4 * k}]")
        x, now, before = f"r{8 + k % 2}", turns[k % 2], turns[1 - k % 2]
        if k < row.shifted:
            lines.append(f"ldrd {now[0]}, {now[1]}, [r1], #8")
        for n, count in enumerate((row.pairs, row.shifted)):
            if k < count:
                lines.append(f"smlad r{4 + n}, {now[n]}, {x}, r{4 + n}")
            if 0 < k <= count:
                lines.append(f"smlad r{6 + n}, {before[n]}, {x}, r{6 + n}")
    lines += ["add r0, r0, lr", "subs r2, r2, #1", "bne 1b", "ldr r3, [sp]", "stm r3, {r4-r7}", "pop {r3-r11}"]
    return "".join(f'"{line}\\n"\n' for line in lines)


def _limited(scale: Scaling, clamp: tuple[int, int]) -> tuple[str, bool]:
    """The helper that limits results, and whether they must be clamped besides."""
    shift = "" if scale.shift is None else f"_asr{scale.shift}"
    for bits in (4, 2):
        if clamp == (0, (1 << bits) - 1):
            return f"tk_usat{bits}{shift}", False
    return f"tk_ssat8{shift}", clamp != (-128, 127)


def _finish(scale: Scaling, clamp: tuple[int, int], number: str, place: str) -> str:
    text = _TWICE if scale.shift is None else _LINE
    saturate, clamped = _limited(scale, clamp)
    text = text.replace("@SATURATE@", saturate)
    value = f"value{number}" if not clamped else f"tk_clamp(value{number}, {clamp[0]}, {clamp[1]})"
    return text.replace("@N@", number) + f"result[{place}] = (int8_t){value};\n"


def _text(layer: _Layer) -> tuple[str, tuple[str, ...]]:
    """The function's text and the helpers that it calls."""
    row, together, scale, clamp = layer.row, layer.cut.together, layer.scale, (layer.op.act_min, layer.op.act_max)
    sizes = {"KERNEL_H": row.height, "KERNEL_W": row.taps, "WORDS": row.words, "FOURS": int(row.fours), "STRIDE_W": row.stride}
    sizes |= {"DILATION_W": row.dilation, "DILATION_H": row.dilation_h, "TOGETHER": together}
    factor = "const int32_t scaled = 1 << shifts[c];\n" if scale.shift else "const int32_t scaled = 2, right = shifts[c];\n"
    if layer.form.bits < 8:
        sizes["PACKED"] = channel_bytes(row.height * row.taps, layer.form)
    packed = is_packed(layer.y)
    source = _SOURCE if layer.form.bits == 8 else _SOURCE_PACKED.replace("@WIDEN@", widening(layer.form).name)
    text = "    enum { " + ", ".join(f"{name} = {value}" for name, value in sizes.items()) + " };\n" + BODY
    text = inserted(inserted(text, "ROWS", _CHANNEL.replace("@SOURCE@\n", source)), "RESULT", "" if packed else _RESULT)
    text, moving = edges(inserted(text, "ROW", _PACKED_RESULT if packed else ""), layer)
    text = inserted(inserted(text, "FOURS", _FOURS if row.fours else ""), "FACTOR", factor)
    text = inserted(inserted(inserted(text, "ONE", _one(row)), "FOUR", _four(row)), "ASM", _four_assembly(row))
    for number, place in (("0", "0"), ("1", "WIDTH"), ("2", "2 * WIDTH"), ("3", "3 * WIDTH")):
        text = inserted(text, f"FINISH {number} {place}", _finish(scale, clamp, number, place))
    text = text.replace("@WIDTH@", "WIDTH")
    if packed:
        text = re.sub(r"\bWIDTH\b(?! \* out_w)", "1", text)
    helpers = ["tk_load32", "tk_smlad"] if row.dilation == 1 else ["tk_load32", "tk_load16", "tk_smlabb", "tk_smlatb"]
    saturate, clamped = _limited(scale, clamp)
    helpers += ["tk_smmulr" if scale.shift is None else "tk_smmla", saturate, *(["tk_clamp"] if clamped else [])]
    return text, tuple(dict.fromkeys((*helpers, *moving, *BODY_SUPPORT)))


def _call(layer: _Layer) -> Call:
    op, x, y, scale, row, window, cut = layer.op, layer.x, layer.y, layer.scale, layer.row, layer.window, layer.cut
    text, support = _text(layer)
    weights = op.weights.astype(np.int64).reshape(-1, op.weights.shape[-1])
    start = (op.bias.astype(np.int64) - x.zero_point * weights.sum(axis=0)) << scale.power
    records = np.stack([start, scale.multiplier, scale.offset], axis=1) & 0xFFFFFFFF
    values: dict[str, Argument] = {
        "in_h": window.in_h, "in_w": window.in_w, "channels": window.channels, "out_h": window.out_h, "out_w": window.out_w,
        "WIDTH": len(op.bias), "multiplier": op.depth_multiplier, "PITCH": window.pitch, "STRIDE": window.stride, "REACH": window.reach,
        "pad_top": window.pad_top, "pad_left": row.pad, "zero": x.zero_point, "taken": _taken(row, window),
        "begin": 0, "band": cut.band, "rows": cut.rows, "moving": int(is_packed(y) or cut.band < window.out_h),
    }  # fmt: skip
    pointers = ((IN, "in"), (OUT, "out"), (IN, "weights"), ("const int32_t *", "records"), (IN, "shifts"), (OUT, "scratch"))
    places: dict[str, Argument] = {
        "in": Place(x.name), "out": Place(y.name), "scratch": Place(None), "weights": Table("w", planar(weights.T, layer.form)),
        "records": Table("q", records.astype(np.uint32).view(np.int32).ravel()),
        "shifts": Table("q", (scale.right if scale.shift is None else scale.power).astype(np.int8)),
    }  # fmt: skip
    name = f"depthwise_{row.height}x{row.taps}_{layer.tag}by_{cut.together}"
    routines = () if layer.form.bits == 8 else (widening(layer.form),)
    return Call(Function(name, (*pointers, *integers(values)), text, support), {**places, **values}, routines)
