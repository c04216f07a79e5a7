"""Depthwise convolution with a 3x3 window and stride 1 or 2 for cores with SMLAD, and the same algorithm in portable C.

Channel by channel on planes, see `depthwise_plane`. Stride 1 makes 2 x 2 outputs at a time from four rows; with w = (w0, w1, w2) a row has
the words (w0, w1) and (w1, w2), which serve the left and the right output. Stride 2 makes two outputs of a row, and keeps the word that the
next two begin with.

A record of a channel is six words: sum that is begun with, multiplier, offset, and a row of three weights each, beside which lie j
(see `tinykit.engine.line`) and the shift of the requantisation that rounds twice. In use weights are int16, times 2^j. Where weights have
fewer bits, the record in flash is shorter (see `depthwise_weights`).
"""

from __future__ import annotations

from functools import partial

from tinykit.engine.call import Argument, Call, Function, Place, Table, Variant
from tinykit.engine.ctext import filled, inserted
from tinykit.engine.kernels import depthwise_plane
from tinykit.engine.kernels import fast_depthwise_asm as asm
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
from tinykit.engine.kernels.depthwise_weights import record_text, records
from tinykit.engine.kernels.narrow import weight_format
from tinykit.engine.kernels.plane_fields import edges, keeps_padding
from tinykit.engine.memory import is_packed
from tinykit.graph import ir

_LEAST_PITCH = 16
"""Bytes from row to row of a plane; layers up to six columns wide share code."""
_MOST_PITCH = 340
"""Three rows of it, in which an LDRD reaches."""
_START = 90
"""Instructions that a band of a channel begins with, about."""
_RATE = 2.5
"""Instructions a product, about."""


def variant(graph: ir.Graph, op: ir.DepthwiseConv2D, x: ir.Tensor, y: ir.Tensor, scale: Scaling) -> Variant | None:
    """The kernel for a layer, None where it does not cover its geometry."""
    window = op.weights.shape[:2] == (3, 3) and op.dilation == (1, 1) and op.stride in ((1, 1), (2, 2)) and op.depth_multiplier == 1
    if not window or y.shape[1] < 2 or max(op.padding) > 2 or _pitch(op, y) > _MOST_PITCH:
        return None
    if is_packed(y) and not keeps_padding(y.shape[1], op.padding[2], min(x.shape[1], _columns(op, y) - op.padding[2])):
        return None
    layer = Layer(op, x, y, weight_format(op), scale, *_cut(graph, op, x, y))
    return depthwise_plane.variant(graph, layer, partial(_call, layer), _RATE)


def _columns(op: ir.DepthwiseConv2D, y: ir.Tensor) -> int:
    """Columns of a plane that are read."""
    return 2 * -(-y.shape[1] // 2) + 2 if op.stride[0] == 1 else 2 * y.shape[1] + 2


def _pitch(op: ir.DepthwiseConv2D, y: ir.Tensor) -> int:
    return max(-(-_columns(op, y) // 2) * 4, _LEAST_PITCH)


def _cut(graph: ir.Graph, op: ir.DepthwiseConv2D, x: ir.Tensor, y: ir.Tensor) -> tuple[Window, Bands]:
    (in_h, in_w, channels), (out_h, out_w, _) = x.shape, y.shape
    single = op.stride[0] == 1
    begin = -(out_h % 2) if single else 0
    window = Window(in_h, in_w, channels, out_h, out_w, op.stride[0], 3, op.padding[0], begin, 2 if single else 1, _pitch(op, y), _START)
    return window, bands(window, room_of(graph, op), rates(x.bits, y.bits))


# ---------------------------------------------------------------- text

_CHANNEL = """\
int8_t *result = @RESULT@;
"""

# Pairs of output rows; the first row of all may be one that does not exist, whose results the second then overwrites.
_PAIRS = """\
int32_t lone = y < 0;
for (int32_t left = count / 2, part = lone ? 1 : left; left > 0; left -= part, part = left, lone = 0) {
    const int32_t next = lone ? 0 : LINE, shape[5] = {STEP, next, out_w / 2 * 4, next + LINE - out_w * STEP, part};
#if TK_DSP
    @ASM@
#else
    @WIDEN@
    for (int32_t i = 0; i < 2 * shape[4]; ++i, plane += PITCH) {
        if (i || !lone) {
            @TWIN@
            result += LINE;
        }
    }
#endif
}
"""

_ROWS = """\
const int32_t shape[4] = {STEP, out_w / 2 * 8, LINE - out_w * STEP, count};
#if TK_DSP
@ASM@
#else
@WIDEN@
for (int32_t i = 0; i < shape[3]; ++i, plane += 2 * PITCH, result += LINE) {
    @TWIN@
}
#endif
"""

_WIDEN = """\
const int32_t scaled = 1 << (record[3] >> 24);
uint32_t pairs[3], thirds[3];
for (int32_t t = 0; t < 3; ++t) {
    const int32_t row = record[3 + t];
    pairs[t] = tk_pkhbt((uint32_t)((int8_t)row * scaled), (uint32_t)((int8_t)(row >> 8) * scaled));
    thirds[t] = (uint32_t)((int8_t)(row >> 16) * scaled);
}
"""

_TWIN = """\
const int8_t *p = plane;
for (int32_t x = 0; x < out_w; ++x, p += 2 * STRIDE) {
    uint32_t sum = (uint32_t)record[0];
    for (int32_t t = 0; t < 3; ++t) {
        sum = tk_smlad(pairs[t], tk_load32(p + t * PITCH), sum);
        sum = tk_smlabb(thirds[t], tk_load16(p + t * PITCH + 4), sum);
    }
    @FINISH@
}
"""

_LINE = """\
const int32_t value = tk_smmla((int32_t)sum, record[1], record[2]) >> @SHIFT@;
result[x * STEP] = (int8_t)tk_clamp(value, @LOW@, @HIGH@);
"""

_TWICE = """\
const int32_t high = tk_smmulr((int32_t)sum, record[1]), value = (high + (high >> 31) + record[2]) >> (record[4] >> 24);
result[x * STEP] = (int8_t)tk_clamp(value, @LOW@, @HIGH@);
"""

_TWIN_SUPPORT = ("tk_clamp", "tk_smlad", "tk_smlabb", "tk_load16", "tk_load32")


def _text(layer: Layer) -> tuple[str, tuple[str, ...]]:
    """The function's text and the helpers that it calls."""
    window, together, scale = layer.window, layer.cut.together, layer.scale
    clamp, single = (layer.op.act_min, layer.op.act_max), window.stride == 1
    make = asm.stride_1 if single else asm.stride_2
    record, decoding = record_text(layer)
    twin = (*_TWIN_SUPPORT, "tk_smmulr" if scale.shift is None else "tk_smmla")
    # compilers complain about helpers that only the other branch calls
    statement = asm.statement(make(window.pitch, scale.shift, clamp, bool(window.out_w % 2)))
    assembly = "".join(f"(void){name};\n" for name in twin) + statement
    text = f"    enum {{ PITCH = {window.pitch}, STRIDE = {window.stride}, REACH = 3, TOGETHER = {together} }};\n" + BODY
    text = inserted(text, "ROWS", record + _CHANNEL + (_PAIRS if single else _ROWS))
    text, moving = edges(text, layer)
    packed = is_packed(layer.y)
    text = text.replace("@RESULT@", "scratch + n * size" if packed else "out + (y > 0 ? y : 0) * line + first + n")
    text = inserted(inserted(inserted(text, "ASM", assembly), "WIDEN", _WIDEN), "TWIN", _TWIN)
    text = inserted(text, "FINISH", _TWICE if scale.shift is None else _LINE)
    text = text.replace("STEP", "1" if packed else "channels").replace("LINE", "PITCH" if packed else "line")
    text = filled(text, {"WIDTH": "channels", "SHIFT": scale.shift, "LOW": clamp[0], "HIGH": clamp[1]})
    return text, tuple(dict.fromkeys((*twin, *decoding, *moving, *BODY_SUPPORT)))


def _call(layer: Layer) -> Call:
    op, x, y, window, cut = layer.op, layer.x, layer.y, layer.window, layer.cut
    text, support = _text(layer)
    values: dict[str, Argument] = {
        "in_h": window.in_h, "in_w": window.in_w, "channels": window.channels, "out_h": window.out_h, "out_w": window.out_w,
        "pad_top": op.padding[0], "pad_left": op.padding[2], "zero": x.zero_point,
        "taken": min(window.in_w, _columns(op, y) - op.padding[2]),
        "begin": window.begin, "band": cut.band, "rows": cut.rows, "moving": int(is_packed(y) or cut.band < window.out_h - window.begin),
    }  # fmt: skip
    name = f"depthwise_3x3_{layer.tag}s{window.stride}_{'odd' if window.out_w % 2 else 'even'}_{window.pitch}_{cut.together}"
    pointers = ((IN, "in"), (OUT, "out"), ("const int32_t *", "records"), (OUT, "scratch"))
    places: dict[str, Argument] = {"in": Place(x.name), "out": Place(y.name), "records": Table("w", records(layer)), "scratch": Place(None)}
    return Call(Function(name, (*pointers, *integers(values)), text, support), {**places, **values})
