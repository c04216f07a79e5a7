"""Packed tensors in depthwise layers that work on planes: how channels are gathered from them, and results brought back.

Fields of up to four channels of a pixel are taken, or written, as one byte or one halfword. Where a pixel begins inside a byte so may they;
then the bits beside them stay as they are. Results lie in the planes first, as bytes from the left of those rows that no later output
reads: an output at row i and column x needs nothing left of column x or above row i.
"""

from __future__ import annotations

from tinykit.engine.ctext import filled, inserted
from tinykit.engine.kernels.depthwise_plane import GATHER, GATHER_SUPPORT, Layer
from tinykit.engine.memory import is_packed

# ---------------------------------------------------------------- both


def edges(text: str, layer: Layer) -> tuple[str, tuple[str, ...]]:
    """The text of a kernel with what gathers its input and what stores packed results, and the helpers of both."""
    together = layer.cut.together
    taking, support = gather(layer) if is_packed(layer.x) else (GATHER[together], GATHER_SUPPORT[together])
    text = inserted(text, "GATHER", taking)
    if not is_packed(layer.y):
        return inserted(inserted(text, "PADDING", ""), "ENCODE", ""), support
    giving, helpers = encode(layer)
    return inserted(inserted(text, "PADDING", _PADDING), "ENCODE", giving), (*support, *helpers, "tk_store16")


def keeps_padding(out_w: int, pad: int, taken: int) -> bool:
    """Whether results that lie in a row of a plane leave the padding on its right as it is."""
    return out_w <= 2 * (pad + taken)


# ---------------------------------------------------------------- gathering

_SINGLE = """\
for (int32_t n = 0; n < TOGETHER; ++n) {
    tk_store16(at + n * size, tk_get@BITS@(in, from + n));
}
"""

_GATHER = """\
int32_t from = row * in_w * channels + first;
if (pad_left & 1) {
    @SINGLE@
    from += channels, at += 2, --x;
}
@POINTER@
for (; x >= 2; x -= 2, from += 2 * channels, at += 4@STEP@) {
    const uint32_t both = tk_pkhbt(@FIRST@, @SECOND@)@SHIFT@;
    @STORES@
}
if (x) {
    @SINGLE@
}
"""


def gather(layer: Layer) -> tuple[str, tuple[str, ...]]:
    """C that gathers a row of TOGETHER channels from a packed tensor, and its helpers."""
    bits, together, channels = layer.x.bits, layer.cut.together, layer.window.channels
    each, mask = 8 // bits, f"0x{(1 << bits) - 1:04x}{(1 << bits) - 1:04x}"
    stores = [f"tk_store32(at{f' + {n} * size' if n else ''}, both{f' >> {n * bits}' if n else ''} & {mask});" for n in range(together)]
    parts = {"STORES": "\n".join(stores) + "\n", "SINGLE": _SINGLE, "POINTER": ""}
    support: tuple[str, ...] = (f"tk_get{bits}", "tk_store16", "tk_store32", "tk_pkhbt")
    step = shift = ""
    if channels % each == 0:
        parts["POINTER"] = f"const int8_t *p = in + from / {each};\n"
        step, half = f", p += 2 * (channels / {each})", together * bits > 8
        loads = [f"tk_load16({p})" if half else f"(uint8_t)*({p})" for p in ("p", f"p + channels / {each}")]
        shift = "" if together % each == 0 else f" >> first % {each} * {bits}"
        support += ("tk_load16",) if half else ()
    elif together * bits >= 8:
        helper = "tk_take16" if together * bits > 8 else "tk_take8"
        loads = [f"{helper}(in, {bits} * {i})" for i in ("from", "(from + channels)")]
        support += (helper,)
    else:  # single channels, or two of 2 bits
        loads = [
            " | ".join(f"(uint32_t)tk_get{bits}(in, {i} + {n}) << {n * bits}" for n in range(together)) for i in ("from", "from + channels")
        ]
    text = _GATHER
    for name, part in parts.items():
        text = inserted(text, name, part)
    return filled(text, {"STEP": step, "FIRST": loads[0], "SECOND": loads[1], "SHIFT": shift, "BITS": bits}), support


# ---------------------------------------------------------------- results

_PADDING = """\
(void)line;
for (int32_t i = 0; i < 2 * pad_left; i += 2) { /* where results were */
    for (int32_t n = 0; n < TOGETHER; ++n) {
        tk_store16(to + n * size + i, zero);
    }
}
"""

_ENCODE = """\
for (int32_t i = 0, made = y < 0 ? count - 1 : count; i < made; ++i) {
    const int8_t *codes = scratch + i * PITCH;
    int32_t k = ((y > 0 ? y : 0) + i) * out_w * channels + first;
    @TOGETHER@
    for (int32_t x = 0; x < out_w; ++x, k += channels) {
        for (int32_t n = done - first; n < TOGETHER; ++n) {
            tk_put@BITS@(out, k + n, codes[n * size + x]);
        }
    }
}
"""

_TOGETHER = """\
if (done == first) {
    @POINTER@
    int32_t x = out_w;
    for (; x >= 4; x -= 4, codes += 4) {
        @FIELDS@
        @PUT even@
        @PUT odd@
        @PUT even >> 16@
        @PUT odd >> 16@
    }
    if (x > 0) {
        @FIELDS@
        @PUT even@
        if (x > 1) {
            @PUT odd@
        }
        if (x > 2) {
            @PUT even >> 16@
        }
    }
    continue;
}
"""

_FIELDS_16 = """\
const uint32_t low = tk_load32(codes) | tk_load32(codes + size) << 4;
const uint32_t high = tk_load32(codes + 2 * size) | tk_load32(codes + 3 * size) << 4;
const uint32_t even = (low & 0xff00ff) | (high & 0xff00ff) << 8, odd = (low >> 8 & 0xff00ff) | (high & 0xff00ff00);
"""


def encode(layer: Layer) -> tuple[str, tuple[str, ...]]:
    """C that writes a band of results of TOGETHER channels to a packed tensor, and its helpers."""
    bits, together = layer.y.bits, layer.cut.together
    each, width = 8 // bits, together * bits
    text = _ENCODE
    support: tuple[str, ...] = (f"tk_put{bits}", "tk_load32")
    if width >= 8:
        text = inserted(text, "TOGETHER", _TOGETHER)
        words = [f"tk_load32(codes{f' + {n} * size' if n else ''}){f' << {n * bits}' if n else ''}" for n in range(together)]
        plain = f"const uint32_t even = {' | '.join(words)}, odd = even >> 8;\n"
        text = inserted(text, "FIELDS", _FIELDS_16 if width == 16 else plain)
        aligned = layer.window.channels % each == 0
        text = inserted(text, "POINTER", f"int8_t *to = out + k / {each};\n" if aligned else "")
        for value in ("even", "odd", "even >> 16", "odd >> 16"):
            if aligned:
                put = f"tk_store16(to, (int32_t)({value}));\n" if width == 16 else f"*to = (int8_t)({value});\n"
                put += f"to += channels / {each};\n"
            else:
                put = f"tk_give{width}(out, {bits} * k, {value});\nk += channels;\n"
            text = inserted(text, f"PUT {value}", put)
        support += (("tk_store16",) if width == 16 else ()) if aligned else (f"tk_give{width}",)
    return inserted(text, "TOGETHER", "").replace("@BITS@", str(bits)), support
