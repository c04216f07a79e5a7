"""The inner routine of fast convolutions: all output channels of a few pixels, two channels at a time.

Pixels lie in a column buffer as int16, four elements (a quad) in the order 0, 2, 1, 3, as SXTB16 leaves them. Weights of two channels a
and b lie as int16 lanes of a + 256 b, in the order of the buffer: SMLAD on a word of them as it is gives the sum S = A + 256 B, on its
SXTB16 the sum A, so that one extraction serves two channels, and B = (S - A) / 256 exactly where |B| < 2^23 is proved. Where it is not,
both channels are extracted (`split`).

Requantisation is gemmlowp's doubled high product and rounding shift: SMMLAR(acc, 2 m - 2^32, acc) is the rounded acc * m / 2^31; what is
added before the last place is shifted out holds a half and the output's zero point; SSAT shifts and clamps. `pairs` proves that it fits.

The assembly and its twin in C do the same, word for word; the host's tests run the twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinykit.engine.call import Routine
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.widen import Layout

BLOCK = Routine(
    "tk_block",
    """\
/* Some output pixels: their inputs from `x` on, passes until `x_end`; outputs at `out`, `out + second` and so on. `skip`: bytes of code
   that the first pass leaves out. `pairs`: of channels; the initial sums, the weights, the parameters of each. */
typedef struct {
    int32_t second, third;
    int8_t *out;
    const int8_t *x, *x_end;
    int32_t skip;
    const int32_t *pairs;
    int32_t fourth;
} tk_block;

typedef void tk_routine(const tk_block *block);

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8
#define TK_ASSEMBLY static __attribute__((naked, noinline, noipa, unused))
#else
#define TK_ASSEMBLY static __attribute__((naked, noinline, unused))
#endif
""",
    ("tk_dsp",),
)

STREAM = 16
"""Quads of a pass of the routines for columns of any length."""
HELPERS = ("tk_dsp", "tk_load32", "tk_smlad", "tk_sxtb16", "tk_sxtb16_ror8", "tk_smmlar", "tk_clamp")


def definition(name: str, assembly: Iterator[str], twin: str) -> Routine:
    """A routine in assembly, and in C where that does not run."""
    lines = "".join(f'        "{line}\\n"\n' for line in assembly)
    clobbers = '"r0", "r1", "r2", "r3", "r12", "cc", "memory"'
    text = (
        f"#if TK_DSP\nTK_ASSEMBLY void {name}(const tk_block *block __attribute__((unused)))\n{{\n    __asm__ volatile(\n{lines}"
        f"        : : : {clobbers});\n}}\n#else\n{twin}#endif\n"
    )
    return Routine(name, text, HELPERS)


@dataclass(frozen=True)
class Clamp:
    """Least and largest output, within int8."""

    act_min: int = -128
    act_max: int = 127

    @property
    def tag(self) -> str:
        """Part of a routine's name; empty for int8."""
        return f"_{self.act_min}_{self.act_max}".replace("-", "m") if (self.act_min, self.act_max) != (-128, 127) else ""

    @property
    def narrower(self) -> bool:
        """Than int8, so that flags are lost."""
        return self._codes == 0 and (self.act_min, self.act_max) != (-128, 127)

    @property
    def _codes(self) -> int:
        """The bits of 0..2^bits - 1, which one instruction clamps to; 0 for other ranges."""
        bits = (self.act_max + 1).bit_length() - 1
        return bits if self.act_min == 0 and self.act_max > 0 and self.act_max + 1 == 1 << bits else 0

    @property
    def instructions(self) -> int:
        """Besides SSAT."""
        return 0 if self._codes else 3 * ((self.act_min > -128) + (self.act_max < 127))

    def after(self, r: str) -> str:
        """The last place of `r` shifted out, and the clamp."""
        if self._codes:
            return f"usat {r}, #{self._codes}, {r}, asr #1"
        text = f"ssat {r}, #8, {r}, asr #1"
        if self.act_min > -128:
            text += f"; cmp {r}, #{self.act_min}; it lt; movlt {r}, #{self.act_min}"
        if self.act_max < 127:
            text += f"; cmp {r}, #{self.act_max}; it gt; movgt {r}, #{self.act_max}"
        return text

    def scaled_twice(self, r: str, multiplier: str, shift: str, added: str) -> str:
        """Twice a sum to an output: sign and what is added (shifted to the left already) go into the product. Overwrites lr."""
        return f"add lr, {added}, {r}, asr #31; smmlar {r}, {r}, {multiplier}, lr; asr {r}, {r}, {shift}; {self.after(r)}"

    @property
    def values(self) -> dict[str, object]:
        """Of a twin's marks."""
        return {"MIN": self.act_min, "MAX": self.act_max}


@dataclass(frozen=True)
class Block:
    """A routine's shape. The quads of its pixels lie side by side.

    Attributes:
        pixels: 1 to 3.
        quads: of a pixel; of a pass.
        stream: there are passes of `quads` quads, of which the first may be entered in its middle (`skip`).
        split: channels have words of their own: bytes a and b, not a + 256 b.
    """

    pixels: int
    quads: int
    stream: bool = False
    split: bool = False
    clamp: Clamp = Clamp()

    @property
    def layout(self) -> Layout:
        """Of the column buffer."""
        return Layout(self.pixels)

    @property
    def name(self) -> str:
        """In C; tells all attributes apart."""
        return f"tk_{'stream' if self.stream else 'line'}{self.pixels}x{self.quads}{'_split' if self.split else ''}{self.clamp.tag}"

    @property
    def _quad_instructions(self) -> int:
        return 3 + 5 * self.pixels + 2 * self.split

    def skip(self, quads: int) -> int:
        """Bytes of code to leave out for the first pass, where a stream has `quads` quads; the very first comes before the passes."""
        return (1 - quads) % self.quads * self._quad_instructions * 4 if self.stream else 0

    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""
        outputs = self.pixels * (10 if self.split else 11) + 2 * self.pixels * (1 + self.clamp.instructions)
        passes = 1 + 3 * -(-(quads - 1) // self.quads) if self.stream else 0
        return 2 + quads * self._quad_instructions + passes + outputs + 7 - self.split

    @property
    def code_bytes(self) -> int:
        """About how many the routine takes."""
        return 4 * self.quads * self._quad_instructions + 230

    def routine(self) -> Routine:
        """The definition."""
        return definition(self.name, self._assembly(), self._twin())

    # ------------------------------------------------------------ assembly
    # r0 inputs, r1 pairs, r2 r3 input, r4.. sums A, r7.. sums S or B, r10 r11 weights, r12 lr extracted weights.
    # On the stack: second, third, out, x, x_end, entry.

    def _assembly(self) -> Iterator[str]:
        yield "push {r4-r11, lr}"
        yield "ldm r0, {r2-r8}"
        if self.stream:
            yield "adr r10, 1f; add r7, r7, r10; orr r7, r7, #1"
        yield "push {r2-r8}"
        yield "mov r1, r8"
        yield "0: ldrd r4, r7, [r1], #8; ldr r0, [sp, #12]"
        yield self._quad(first=True)
        if self.stream:
            yield "ldr pc, [sp, #20]"
            yield ".balign 4"
            yield "1:"
        yield f".rept {self.quads if self.stream else self.quads - 1}"
        yield self._quad()
        yield ".endr"
        if self.stream:
            yield "ldr r2, [sp, #16]; cmp r0, r2; bne 1b"
        yield from self._epilogue()
        yield "bcc 0b" if not self.clamp.narrower else "tst r10, #0x8000; beq 0b"
        yield "add sp, sp, #28"
        yield "pop {r4-r11, pc}"

    def _quad(self, first: bool = False) -> str:
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

    def _epilogue(self) -> Iterator[str]:
        p = range(self.pixels)
        if not self.split:
            yield "; ".join(f"sub r{7 + i}, r{7 + i}, r{4 + i}" for i in p)
            yield "; ".join(f"asr r{7 + i}, r{7 + i}, #7" for i in p)  # 2 B
        yield "ldm r1!, {r2, r3, r10}; asrs r12, r10, #16; ubfx r11, r10, #8, #5"
        for i in p:
            yield self._scaled(4 + i, "r2", "r10")
        if not self.split:
            yield "lsl r12, r12, r11"
        for i in p:
            yield self._scaled(7 + i, "r3", "r11") if self.split else self.clamp.scaled_twice(f"r{7 + i}", "r3", "r11", "r12")
        yield "ldm sp, {r2, r3, r11}"
        places = ("[r11], #1", "[r11, r2]", "[r11, r3]")
        yield "; ".join(f"strb r{base + i}, {places[i]}" for base in (4, 7) for i in reversed(p))
        yield "str r11, [sp, #8]"

    def _scaled(self, register: int, multiplier: str, shift: str) -> str:
        """A sum to an output: the high product, its sign for the ties, the shift, what is added; r12 is twice the zero point plus one."""
        r = f"r{register}"
        text = f"smmlar {r}, {r}, {multiplier}, {r}; add {r}, {r}, {r}, asr #31; asr {r}, {r}, {shift}; add {r}, {r}, r12"
        return f"{text}; {self.clamp.after(r)}"

    # ------------------------------------------------------------ the twin

    def _twin(self) -> str:
        values = {
            "NAME": self.name, "PIXELS": self.pixels, "B": _SPLIT if self.split else _JOINT,
            "OTHER0": "tk_sxtb16_ror8(w0)" if self.split else "w0", "OTHER1": "tk_sxtb16_ror8(w1)" if self.split else "w1",
        }  # fmt: skip
        return filled(_TWIN, self.clamp.values | values)


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
    const int32_t *w = block->pairs;
    const int32_t place[3] = {0, block->second, block->third};
    for (int8_t *out = block->out;; out += 2, w += 3) {
        uint32_t a[@PIXELS@], s[@PIXELS@];
        for (int32_t p = 0; p < @PIXELS@; ++p) {
            a[p] = (uint32_t)w[0];
            s[p] = (uint32_t)w[1];
        }
        w += 2;
        for (const int8_t *x = block->x; x != block->x_end; w += 2) {
            const uint32_t w0 = tk_load32(w), w1 = tk_load32(w + 1);
            for (int32_t p = 0; p < @PIXELS@; ++p, x += 8) {
                const uint32_t x0 = tk_load32(x), x1 = tk_load32(x + 4);
                a[p] = tk_smlad(tk_sxtb16(w1), x1, tk_smlad(tk_sxtb16(w0), x0, a[p]));
                s[p] = tk_smlad(@OTHER1@, x1, tk_smlad(@OTHER0@, x0, s[p]));
            }
        }
        const int32_t word = w[2], shift = word & 31, shift_b = word >> 8 & 31, rounding = word >> 16;
        for (int32_t p = @PIXELS@ - 1; p >= 0; --p) {
            const int32_t high = tk_smmlar((int32_t)a[p], w[0], (int32_t)a[p]);
            out[place[p]] = (int8_t)tk_clamp((((high + (high >> 31)) >> shift) + rounding) >> 1, @MIN@, @MAX@);
        }
        for (int32_t p = @PIXELS@ - 1; p >= 0; --p) {
@B@            out[place[p] + 1] = (int8_t)tk_clamp(b >> 1, @MIN@, @MAX@);
        }
        if (word & 0x8000) {
            return;
        }
    }
}
"""
