"""Multiply-accumulate kernels for packed inputs, weights and outputs, made from the texts of the int8 kernels in `weighted`.

Weights keep their order: a step of a block of four channels is four neighbouring fields, 2 bytes or 1; the channels that are left, and
those of depthwise layers, begin at a byte each. Weights of 2 bits are two's complement, or odd (-3, -1, 1, 3).
Positions in a packed tensor are element numbers, because a pixel may begin inside a byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tinykit.engine.call import PadRow
from tinykit.engine.memory import is_packed, pack_codes
from tinykit.engine.packing import load, store
from tinykit.engine.requant import code_base
from tinykit.errors import ModelError
from tinykit.graph import ir

BLOCK = 4


@dataclass(frozen=True)
class WeightFormat:
    """How weights lie in flash: two's complement of `bits` bits, or c in two's complement for an odd weight 2 c + 1."""

    bits: int
    odd: bool = False

    @property
    def helper(self) -> str:
        """C function that reads one."""
        return "tk_odd2" if self.odd else f"tk_weight{self.bits}"

    @property
    def support(self) -> tuple[str, ...]:
        """Helpers that reading needs."""
        return () if self.bits == 8 else ("tk_weight2", "tk_odd2") if self.odd else (self.helper,)

    @property
    def tag(self) -> str:
        """Part of a function's name."""
        return f"w{self.bits}" + ("odd" if self.odd else "")

    def pack(self, weights: np.ndarray) -> bytes:
        """Consecutive weights from a byte on."""
        codes = weights.ravel().astype(np.int64)
        return pack_codes((codes >> 1 if self.odd else codes) & (1 << self.bits) - 1, self.bits)


def weight_format(op: ir.Weighted) -> WeightFormat:
    """The format of a layer's weights."""
    odd = op.weight_bits == 2 and bool(op.weights.size) and (int(op.weights.min()) < -2 or int(op.weights.max()) > 1)
    return WeightFormat(op.weight_bits, odd)


def blocks(weights: np.ndarray, form: WeightFormat) -> np.ndarray:
    """[out, ...] -> flat int8: blocks of four output channels side by side, then the channels that are left, one after the other."""
    flat = weights.reshape(len(weights), -1)
    whole = len(flat) // BLOCK * BLOCK
    sided = flat[:whole].reshape(-1, BLOCK, flat.shape[1]).transpose(0, 2, 1)
    if form.bits == 8:
        return np.concatenate([sided.ravel(), flat[whole:].ravel()]).astype(np.int8)
    return np.concatenate([np.frombuffer(form.pack(sided), np.int8), rows(flat[whole:], form)])


def rows(weights: np.ndarray, form: WeightFormat) -> np.ndarray:
    """[out, taps] -> flat int8: one channel after the other."""
    if form.bits == 8:
        return weights.astype(np.int8).ravel()
    return np.frombuffer(b"".join(form.pack(row) for row in weights), np.int8)


def pad_row(op: ir.Op, x: ir.Tensor, length: int) -> PadRow:
    """What padded taps read: `length` zero points, in whichever place of a byte they begin."""
    if not is_packed(x):
        return PadRow(x.zero_point, length)
    code, each = x.zero_point - code_base(x), 8 // x.bits
    if not 0 <= code < 1 << x.bits:
        raise ModelError(f"op {op.name!r}: pads with zero point {x.zero_point}, which is none of the {x.bits} bits of {x.name!r}")
    byte = np.frombuffer(pack_codes(np.full(each, code), x.bits), np.int8)
    return PadRow(int(byte[0]), -(-(length + each - 1) // each))


# ---------------------------------------------------------------- texts


def narrowed(text: str, x: ir.Tensor, form: WeightFormat, y: ir.Tensor) -> tuple[str, tuple[str, ...]]:
    """A kernel's text for the widths of its operands, and the helpers that it calls besides."""
    support: tuple[str, ...] = ()
    if is_packed(x):
        text, support = _packed_input(text, x), (f"tk_get{x.bits}",)
    if form.bits < 8:
        text, support = _packed_weights(text, form), (*support, *form.support)
    if is_packed(y):
        text = text.replace(" to = 0", " to = to_first").replace("            int8_t *const result = out + to;\n", "")
        text = re.sub(r"\bresult\[(.+?)\] = (.+);", lambda m: store(y, "out", f"to + {m[1]}", m[2]), text)
        support = (*support, f"tk_put{y.bits}")
    return text, support


# A tap of a packed input is the byte in which its pixel begins, and the element of that byte.
_TAP = """\
                    const int32_t pixel = (r * in_w + s) * depth, begins = pixel & @LAST@;
                    tap[i * KERNEL_W + j] = inside ? in + (pixel >> @LOG@) : padding;
                    at[i * KERNEL_W + j] = (uint8_t)(inside ? begins : 0);
"""
_PLAIN_TAP = "                    tap[i * KERNEL_W + j] = inside ? in + (r * in_w + s) * depth : padding;\n"


def _packed_input(text: str, x: ir.Tensor) -> str:
    each = 8 // x.bits
    tap = _TAP.replace("@LAST@", str(each - 1)).replace("@LOG@", str(each.bit_length() - 1))
    text = text.replace(_PLAIN_TAP, tap).replace("const int8_t *tap[TAPS];", "const int8_t *tap[TAPS];\n            uint8_t at[TAPS];")
    text = re.sub(r"( +)const int8_t \*const p = tap\[t\];", r"\g<0>\n\1const int32_t begins = at[t];", text)
    text = text.replace("tap[t][c]", load(x, "tap[t]", "at[t] + c")).replace("p[k]", load(x, "p", "begins + k"))
    text = text.replace("const int8_t *const pixel = in + from, *w", "const int8_t *w").replace("pixel[k]", load(x, "in", "from + k"))
    return text.replace(" from = 0", " from = from_first")


def _packed_weights(text: str, form: WeightFormat) -> str:
    each = 8 // form.bits
    if form.odd:
        text = _odd_blocks(text)
    text = re.sub(r"\bw\[([0-3])\]", rf"{form.helper}(w, \1)", text).replace("w += 4)", f"w += {BLOCK // each})")
    if "*w++" in text:  # the channels that are left, each from a byte on
        text = text.replace("*w++", f"{form.helper}(w, n++)").replace("uint32_t a = ", "int32_t n = 0;\n                uint32_t a = ")
        last = "                result[c] = @a,c@;\n            }\n"
        rest = f"                w += (n + {each - 1}) >> {each.bit_length() - 1};\n"
        return _once(text, last, last.replace("            }", rest + "            }"))
    return text.replace("w += TAPS)", f"w += (TAPS + {each - 1}) / {each})").replace("w[t]", f"{form.helper}(w, t)")


def _odd_blocks(text: str) -> str:
    """Sums of v (2 c + 1) in blocks of four channels as twice the sum of v c and, once for all four, the sum of v."""
    text = re.sub(r"\(v \* w\[([0-3])\]\);", r"(v * tk_weight2(w, \1));", text)
    text = re.sub(r"( +)const int32_t v = .+;\n", r"\g<0>\1total += (uint32_t)v;\n", text)
    text = re.sub(r"uint32_t a0 = .+;\n", "uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, total = 0;\n", text)
    return re.sub(r"@(a[0-3]),(.+?)@", r"@(uint32_t)bias[\2] + 2 * \1 + total,\2@", text)


def _once(text: str, old: str, new: str) -> str:
    """The last occurrence replaced."""
    head, found, tail = text.rpartition(old)
    if not found:
        raise ValueError(f"the kernel's text has no {old!r}")
    return head + new + tail
