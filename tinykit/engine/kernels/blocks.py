"""The inner routine of fast convolutions with weights of 8 bits.

Pixels lie in a column buffer as int16, four elements (a quad) in the order 0, 2, 1, 3, as SXTB16 leaves them. Weights of two channels a
and b lie as int16 lanes of a + 256 b, in the order of the buffer: SMLAD on a word of them as it is gives the sum S = A + 256 B, on its
SXTB16 the sum A, so that one extraction serves two channels, and B = (S - A) / 256 exactly where |B| < 2^23 is proved. Where it is not,
both channels are extracted (`split`).

A sum that is not doubled is rounded twice by SMMLAR(acc, 2 m - 2^32, acc), the rounded acc * m / 2^31. On a line S - A is 2^8 B as it is,
and A is shifted by as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinykit.engine.kernels.finish import LINE
from tinykit.engine.kernels.frame import Frame
from tinykit.engine.kernels.widen import Layout

POWER = 8
"""Sums on a line come times 2^8."""


@dataclass(frozen=True)
class Block(Frame):
    """A routine's shape. The quads of its pixels lie side by side.

    Attributes:
        split: channels have words of their own: bytes a and b, not a + 256 b.
    """

    split: bool = False

    QUADS = 1
    KIND = ""

    @property
    def layout(self) -> Layout:
        """Of the column buffer."""
        return Layout(self.pixels)

    @property
    def _flags(self) -> str:
        return "_split" * self.split

    @property
    def step_instructions(self) -> int:
        """That a quad takes."""
        return 3 + 5 * self.pixels + 2 * self.split

    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""
        if self.finish.line is not None:
            return 2 + self.frame_instructions(quads) + 2 * self.pixels + self.finish_instructions
        sums = self.pixels * (10 if self.split else 11) + 2 * self.pixels * self.finish.instructions + 3 + (not self.split)
        return 2 + self.frame_instructions(quads) + sums

    # r2 r3 input, r4.. sums A, r7.. sums S or B, r10 r11 weights, r12 lr extracted weights.

    @property
    def _registers(self) -> tuple[Sequence[str], Sequence[str]]:
        p = range(self.pixels)
        return [f"r{4 + i}" for i in p], [f"r{7 + i}" for i in p]

    def _begin(self) -> Iterator[str]:
        yield f"0: ldrd r4, r7, [r1], #8; ldr r0, [sp, #{self._at('x')}]"

    def _step(self, first: bool = False) -> str:
        """Four elements. The first sums of a pair start from the initial ones in r4 and r7, which the first pixel's replace last."""
        order = list(range(self.pixels))[:: -1 if first else 1]
        parts = ["ldrd r10, r11, [r1], #8", self._input(order[0], first), "sxtb16 r12, r10", "sxtb16 lr, r11"]
        if self.split:
            parts += ["sxtb16 r10, r10, ror #8", "sxtb16 r11, r11, ror #8"]
        for i, p in enumerate(order):
            if i:
                parts.append(self._input(p, first))
            a, s = f"r{4 + p}", f"r{7 + p}"
            parts += [f"smlad {a}, r12, r2, {'r4' if first else a}", f"smlad {s}, r10, r2, {'r7' if first else s}"]
            parts += [f"smlad {a}, lr, r3, {a}", f"smlad {s}, r11, r3, {s}"]
        return "; ".join(parts)

    def _input(self, pixel: int, first: bool) -> str:
        if not first:
            return "ldrd r2, r3, [r0], #8"
        return f"ldrd r2, r3, [r0, #{8 * pixel}]" if pixel else f"ldrd r2, r3, [r0], #{8 * self.pixels}"

    def _sums(self) -> Iterator[str]:
        a, b = self._registers
        if not self.split:
            yield "; ".join(f"sub {s}, {s}, {r}" for r, s in zip(a, b))
        if self.finish.line is not None:
            yield "; ".join(f"lsl {r}, {r}, #{POWER}" for r in ([*a, *b] if self.split else a))
        elif not self.split:
            yield "; ".join(f"asr {s}, {s}, #7" for s in b)  # 2 B

    def _twice(self, a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
        yield "ldm r1!, {r2, r3, r12}; asrs r10, r12, #16; ubfx r11, r12, #8, #5"
        for r in a:
            yield self._scaled(r, "r2", "r12")
        if not self.split:
            yield "lsl r10, r10, r11"
        for r in b:
            yield self._scaled(r, "r3", "r11") if self.split else self.finish.twice(r, "r3", "r11", "r10")

    def _scaled(self, r: str, multiplier: str, shift: str) -> str:
        """A sum to an output: the high product, its sign for the ties, the shift, what is added; r10 is twice the zero point plus one."""
        text = f"smmlar {r}, {r}, {multiplier}, {r}; add {r}, {r}, {r}, asr #31; asr {r}, {r}, {shift}; add {r}, {r}, r10"
        return f"{text}; {self.finish.after(r)}"

    def _twin(self) -> str:
        values: dict[str, object] = {
            "B": _SPLIT if self.split else _JOINT,
            "OTHER0": "tk_sxtb16_ror8(w0)" if self.split else "w0", "OTHER1": "tk_sxtb16_ror8(w1)" if self.split else "w1",
            "POWER": POWER, "LIFTED": f"s[p] << {POWER}" if self.split else "s[p] - a[p]",
        }  # fmt: skip
        return self.filled(_TWIN, _END if self.finish.line is None else _LINE_END, values)


_JOINT = """\
            /* twice b's sum; the sign of what is rounded is that of the sum wherever it decides */
            const int32_t twice = (int32_t)(s[p] - a[p]) >> 7;
            const int32_t b = tk_smmlar(twice, w[1], (int32_t)((uint32_t)rounding << shift_b) + (twice >> 31)) >> shift_b;
"""

_SPLIT = """\
            const int32_t high = tk_smmlar((int32_t)s[p], w[1], (int32_t)s[p]), b = ((high + (high >> 31)) >> shift_b) + rounding;
"""

_TWIN = """\
static void @NAME@(const tk_block *block)
{
    enum { PIXELS = @PIXELS@ };
    const int32_t *w = block->pairs;
    const int32_t place[3] = {0, block->second, block->third};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t a[PIXELS], s[PIXELS];
        for (int32_t p = 0; p < PIXELS; ++p) {
            a[p] = (uint32_t)w[0];
            s[p] = (uint32_t)w[1];
        }
        w += 2;
        for (const int8_t *x = block->x; x != block->x_end; w += 2) {
            const uint32_t w0 = tk_load32(w), w1 = tk_load32(w + 1);
            for (int32_t p = 0; p < PIXELS; ++p, x += 8) {
                const uint32_t x0 = tk_load32(x), x1 = tk_load32(x + 4);
                a[p] = tk_smlad(tk_sxtb16(w1), x1, tk_smlad(tk_sxtb16(w0), x0, a[p]));
                s[p] = tk_smlad(@OTHER1@, x1, tk_smlad(@OTHER0@, x0, s[p]));
            }
        }
@END@    }
}
"""

_END = """\
        const int32_t word = w[2], shift = word & 31, shift_b = word >> 8 & 31, rounding = word >> 16;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            const int32_t high = tk_smmlar((int32_t)a[p], w[0], (int32_t)a[p]);
            out[place[p]] = (int8_t)tk_clamp((((high + (high >> 31)) >> shift) + rounding) >> 1, @MIN@, @MAX@);
        }
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
@B@            out[place[p] + 1] = (int8_t)tk_clamp(b >> 1, @MIN@, @MAX@);
        }
        w += 3;
        if (word & 0x8000) {
            return;
        }
"""

_LINE_END = (
    """\
        uint32_t b[PIXELS];
        for (int32_t p = 0; p < PIXELS; ++p) {
            b[p] = @LIFTED@;
            a[p] <<= @POWER@;
        }
"""
    + LINE
)
