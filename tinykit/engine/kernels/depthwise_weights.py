"""Weights of depthwise layers as they lie in flash, and C text that brings those of 4 and 2 bits into the form that the kernels read.

A channel's weights are decoded once for each band of rows, which is little beside the rows themselves: a word of fields becomes bytes of
two's complement by a mask, a product and a sum (`tk_signed4`).
"""

from __future__ import annotations

import numpy as np

from tinykit.engine.call import Routine
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.depthwise_plane import Layer
from tinykit.engine.kernels.narrow import WeightFormat
from tinykit.engine.memory import pack_codes

# ---------------------------------------------------------------- 3x3: words of a record

_RECORD = """\
const int32_t *const record = records + 6 * (first + n);
"""

_RECORD_4 = """\
const int32_t *const packed = records + 5 * (first + n);
const uint32_t two = (uint32_t)packed[3], third = (uint32_t)packed[4], beside = third & 0xff000000;
const int32_t record[6] = {packed[0], packed[1], packed[2], (int32_t)(tk_signed4(two & 0x0f0f0f) | @FIRST@),
                           (int32_t)(tk_signed4(two >> 4 & 0x0f0f0f) | beside), (int32_t)tk_signed4(third & 0x0f0f0f)};
"""

_RECORD_2 = """\
const int32_t *const packed = records + 4 * (first + n);
const uint32_t all = (uint32_t)packed[3], beside = all & 0xff000000;
const int32_t record[6] = {packed[0], packed[1], packed[2], (int32_t)((tk_signed@FORM@(all & 0x030303) & 0xffffff) | @FIRST@),
                           (int32_t)((tk_signed@FORM@(all >> 2 & 0x030303) & 0xffffff) | beside),
                           (int32_t)tk_signed@FORM@(all >> 4 & 0x030303)};
"""


def record_text(layer: Layer) -> tuple[str, tuple[str, ...]]:
    """C that makes `record`, six words of channel `first + n`, of the array `records`; the helpers that it calls."""
    form = layer.form
    if form.bits == 8:
        return _RECORD, ()
    text = (_RECORD_4 if form.bits == 4 else _RECORD_2).replace("@FORM@", _tag(form))
    # beside the first row lies j, which is 1 where sums are rounded twice, beside the second the shift that only those have
    return text.replace("@FIRST@", "beside" if layer.scale.shift is not None else "0x01000000"), (f"tk_signed{_tag(form)}",)


def records(layer: Layer) -> np.ndarray:
    """int32 [channels, 4 to 6], flat: sum that is begun with, multiplier, offset; rows of three weights in bytes 0 to 2.

    Rows of 8 bits take a word each, of 4 bits two share a word and one lies in the next, of 2 bits all lie in one.
    """
    op, scale, form = layer.op, layer.scale, layer.form
    weights = op.weights.astype(np.int64).reshape(3, 3, -1)
    total = (op.bias.astype(np.int64) - layer.x.zero_point * weights.sum(axis=(0, 1))) << scale.power
    codes = (weights >> 1 if form.odd else weights) & (1 << form.bits) - 1
    rows = [row[0] | row[1] << 8 | row[2] << 16 for row in codes]
    beside = scale.right if scale.shift is None else scale.power
    if form.bits == 8:
        rows = [rows[0] | scale.power << 24, rows[1] | scale.right << 24, rows[2]]
    elif form.bits == 4:
        rows = [rows[0] | rows[1] << 4, rows[2] | beside << 24]
    else:
        rows = [rows[0] | rows[1] << 2 | rows[2] << 4 | beside << 24]
    words = np.stack([total, scale.multiplier, scale.offset, *rows], axis=1)
    return (words & 0xFFFFFFFF).astype(np.uint32).view(np.int32).ravel()


# ---------------------------------------------------------------- other windows: bytes

_WIDEN = """\
/* Packed weights as bytes. May read 3 bytes behind the last that are packed, and write as many behind those that it makes. */
TK_KERNEL void @NAME@(int8_t *to, const int8_t *from, int32_t bytes)
{
    for (; bytes > 0; bytes -= 4, from += 4) {
        uint32_t fields = tk_load32(from);
        for (int32_t i = 0, step = bytes < 4 ? bytes : 4; i < @EACH@; ++i, fields >>= @BITS@, to += step) {
            tk_store32(to, tk_signed@FORM@(fields & 0x@MASK@));
        }
    }
}
"""
SLACK = 7
"""Bytes behind a channel's weights that `widening` may write, and those of a last byte that are no weights."""


def widening(form: WeightFormat) -> Routine:
    """The C function that makes bytes of a channel's packed weights: (to, from, bytes)."""
    name, mask = f"tk_widen{_tag(form)}", 4 * {4: "0f", 2: "03"}[form.bits]
    text = filled(_WIDEN, {"NAME": name, "EACH": 8 // form.bits, "BITS": form.bits, "FORM": _tag(form), "MASK": mask})
    return Routine(name, text, ("tk_load32", f"tk_signed{_tag(form)}"))


def channel_bytes(taps: int, form: WeightFormat) -> int:
    """Bytes of a channel's weights in flash."""
    return -(-taps * form.bits // 8)


def planar(weights: np.ndarray, form: WeightFormat) -> np.ndarray:
    """[channels, taps] -> flat int8, channel by channel.

    A group of up to 4 bytes holds as many weights in the lowest bits of its bytes, the next ones in the bits above them, and so on. Behind
    the last channel lie 3 bytes that may be read.
    """
    if form.bits == 8:
        return weights.astype(np.int8).ravel()
    codes = (weights >> 1 if form.odd else weights).astype(np.int64) & (1 << form.bits) - 1
    found, (channels, taps), each, at = [], weights.shape, 8 // form.bits, 0
    for left in range(channel_bytes(taps, form), 0, -4):
        count = min(left, 4)
        group = np.zeros((channels, each * count), np.int64)
        part = codes[:, at : at + each * count]
        group[:, : part.shape[1]] = part
        found.append(group.reshape(channels, each, count).transpose(0, 2, 1))
        at += each * count
    fields = np.concatenate(found, axis=1).ravel()
    return np.frombuffer(pack_codes(fields, form.bits) + bytes(3), np.int8)


def _tag(form: WeightFormat) -> str:
    return f"{form.bits}{'odd' if form.odd else ''}"
