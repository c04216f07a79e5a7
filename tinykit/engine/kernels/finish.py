"""How the inner routines of fast convolutions make outputs of sums, in assembly and in C, in one of two ways:

* rounded twice, by the definition: SMMLAR(2 acc, m, added) is the rounded acc * m / 2^31 and what is added, which holds the sign for
  ties, a half and the output's zero point; then a shift, and SSAT shifts the last place out and clamps. `pairs` proves that it fits.
* on a line (`tinykit.engine.line`), where all channels have one: SMMLA and an SSAT whose shift is part of the code.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finish:
    """How sums become outputs.

    Attributes:
        act_min, act_max: least and largest output, within int8.
        line: the shift of the line on which they lie, see `tinykit.engine.line`; None: rounded twice.
    """

    act_min: int = -128
    act_max: int = 127
    line: int | None = None

    @property
    def tag(self) -> str:
        """Part of a routine's name; empty for int8, rounded twice."""
        clamp = f"_{self.act_min}_{self.act_max}".replace("-", "m") if (self.act_min, self.act_max) != (-128, 127) else ""
        return clamp + ("" if self.line is None else f"_asr{self.line}")

    @property
    def narrower(self) -> bool:
        """Than what one instruction clamps to, so that flags are lost."""
        return self._codes == 0 and (self.act_min, self.act_max) != (-128, 127)

    @property
    def _codes(self) -> int:
        """The bits of 0..2^bits - 1, which one instruction clamps to; 0 for other ranges."""
        bits = (self.act_max + 1).bit_length() - 1
        return bits if self.act_min == 0 and self.act_max > 0 and self.act_max + 1 == 1 << bits else 0

    @property
    def instructions(self) -> int:
        """That clamping takes besides SSAT."""
        return 0 if self._codes else 3 * ((self.act_min > -128) + (self.act_max < 127))

    def after(self, r: str) -> str:
        """The last places of `r` shifted out, and the clamp."""
        shift = 1 if self.line is None else self.line
        if self._codes:
            return f"usat {r}, #{self._codes}, {r}, asr #{shift}"
        text = f"ssat {r}, #8, {r}, asr #{shift}"
        if self.act_min > -128:
            text += f"; cmp {r}, #{self.act_min}; it lt; movlt {r}, #{self.act_min}"
        if self.act_max < 127:
            text += f"; cmp {r}, #{self.act_max}; it gt; movgt {r}, #{self.act_max}"
        return text

    def twice(self, r: str, multiplier: str, shift: str, added: str) -> str:
        """Twice a sum to an output: sign and what is added (shifted to the left already) go into the product. Overwrites lr."""
        return f"add lr, {added}, {r}, asr #31; smmlar {r}, {r}, {multiplier}, lr; asr {r}, {r}, {shift}; {self.after(r)}"

    def on_line(self, r: str, multiplier: str, offset: str) -> str:
        """A sum times a power of two to an output."""
        return f"smmla {r}, {r}, {multiplier}, {offset}; {self.after(r)}"

    @property
    def values(self) -> dict[str, object]:
        """Of a twin's marks."""
        return {"MIN": self.act_min, "MAX": self.act_max, "LINE": self.line}


# How the twins end a pair: from a[p] and b[p], what the assembly hands over, and the parameters at `w`.
TWICE = """\
        const int32_t word = w[2], shift_a = word & 31, shift_b = word >> 8 & 31, rounding = word >> 16;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            /* twice the sums; the sign of what is rounded is that of the sum wherever it decides */
            const int32_t twice_a = (int32_t)a[p], twice_b = (int32_t)b[p];
            const int32_t added_a = (int32_t)((uint32_t)rounding << shift_a), added_b = (int32_t)((uint32_t)rounding << shift_b);
            const int32_t high_a = tk_smmlar(twice_a, w[0], added_a + (twice_a >> 31)) >> shift_a;
            const int32_t high_b = tk_smmlar(twice_b, w[1], added_b + (twice_b >> 31)) >> shift_b;
            out[place[p]] = (int8_t)tk_clamp(high_a >> 1, @MIN@, @MAX@);
            out[place[p] + 1] = (int8_t)tk_clamp(high_b >> 1, @MIN@, @MAX@);
        }
        w += 3;
        if (word & 0x8000) {
            return;
        }
"""
LINE = """\
        const int32_t offset_a = w[2], offset_b = w[3] >> 1, last = w[3] & 1;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            out[place[p]] = (int8_t)tk_clamp(tk_smmla((int32_t)a[p], w[0], offset_a) >> @LINE@, @MIN@, @MAX@);
            out[place[p] + 1] = (int8_t)tk_clamp(tk_smmla((int32_t)b[p], w[1], offset_b) >> @LINE@, @MIN@, @MAX@);
        }
        w += 4;
        if (last) {
            return;
        }
"""
