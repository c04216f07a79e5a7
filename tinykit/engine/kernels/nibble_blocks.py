"""The inner routine of fast convolutions with weights of 4 bits: `blocks` with two channels in a byte.

A byte of weights is 16 b + a + 8, for one tap of channels a and b: signed in b, unsigned in a. SXTB16 leaves two of them as int16, whose
SMLAD sums S = A' + 16 B; the same lanes with their lowest 4 bits alone sum A' = A + 8 X, X being the sum of a pixel's column, which all
channels share. So a word is four taps of two channels, and takes two extractions a half. In the column buffer the first halves of all
pixels' quads lie side by side, so that one LDM reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tinykit.engine.call import Routine
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.blocks import Clamp, definition
from tinykit.engine.kernels.widen import Layout

_INPUTS = ("r2", "r3", "r10")
SUM_FACTOR = -16
"""Twice a sum of A is twice that of A' and a pixel's sum times this."""


@dataclass(frozen=True)
class NibbleBlock:
    """A routine's shape.

    Attributes:
        pixels: 1 to 3.
        quads: of a pixel; of a pass.
        stream: there are passes of `quads` quads, of which the first may be entered in its middle (`skip`).
    """

    pixels: int
    quads: int
    stream: bool = False
    clamp: Clamp = Clamp()

    @property
    def layout(self) -> Layout:
        """Of the column buffer."""
        return Layout(self.pixels, halves=True, sums=(SUM_FACTOR,))

    @property
    def name(self) -> str:
        """In C; tells all attributes apart."""
        return f"tk_nibbles_{'stream' if self.stream else 'line'}{self.pixels}x{self.quads}{self.clamp.tag}"

    @property
    def _quad_instructions(self) -> int:
        return 7 + 4 * self.pixels

    def skip(self, quads: int) -> int:
        """Bytes of code to leave out for the first pass, where a stream has `quads` quads; the very first comes before the passes."""
        return (1 - quads) % self.quads * self._quad_instructions * 4 if self.stream else 0

    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""
        passes = 1 + 3 * -(-(quads - 1) // self.quads) if self.stream else 0
        return 2 + quads * self._quad_instructions + passes + self.pixels * (13 + 2 * self.clamp.instructions) + 11

    @property
    def code_bytes(self) -> int:
        """About how many the routine takes."""
        return 4 * self.quads * self._quad_instructions + 250

    def routine(self) -> Routine:
        """The definition."""
        twin = filled(_TWIN, self.clamp.values | {"NAME": self.name, "PIXELS": self.pixels})
        return definition(self.name, self._assembly(), twin)

    # r0 inputs, r1 pairs, r2 r3 r10 input, r4.. sums A', r7.. sums S or B, r11 weights, r12 extracted weights.
    # On the stack: second, third, out, x, x_end, entry.

    def _assembly(self) -> Iterator[str]:
        yield "push {r4-r11, lr}"
        yield "ldm r0, {r2-r8}"
        if self.stream:
            yield "adr r10, 1f; add r7, r7, r10; orr r7, r7, #1"
        yield "push {r2-r8}"
        yield "mov r1, r8"
        yield f"0: ldrd r{3 + self.pixels}, r{6 + self.pixels}, [r1], #8; ldr r0, [sp, #12]"
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
        yield "tst r10, #0x8000; beq 0b"
        yield "add sp, sp, #28"
        yield "pop {r4-r11, pc}"

    def _quad(self, first: bool = False) -> str:
        """Four elements. The first sums of a pair start from the initial ones, which lie where the last pixel's replace them."""
        parts = ["ldr r11, [r1], #4"]
        for half, extract in enumerate(("sxtb16 r12, r11", "sxtb16 r12, r11, ror #8")):
            begin = first and half == 0
            parts += [self._inputs(), extract]
            parts += [self._mac(7 + p, _INPUTS[p], 6 + self.pixels if begin else 7 + p) for p in range(self.pixels)]
            parts.append("and r12, r12, #0x000f000f")
            parts += [self._mac(4 + p, _INPUTS[p], 3 + self.pixels if begin else 4 + p) for p in range(self.pixels)]
        return "; ".join(parts)

    def _inputs(self) -> str:
        return ("ldr r2, [r0], #4", "ldrd r2, r3, [r0], #8", "ldm r0!, {r2, r3, r10}")[self.pixels - 1]

    @staticmethod
    def _mac(to: int, x: str, start: int) -> str:
        return f"smlad r{to}, r12, {x}, r{start}"

    def _epilogue(self) -> Iterator[str]:
        p = range(self.pixels)
        yield "; ".join(f"sub r{7 + i}, r{7 + i}, r{4 + i}" for i in p)
        yield self._inputs()
        yield "; ".join(f"asr r{7 + i}, r{7 + i}, #3" for i in p)  # 2 B
        yield "; ".join(f"add r{4 + i}, {_INPUTS[i]}, r{4 + i}, lsl #1" for i in p)  # 2 A
        yield "ldm r1!, {r2, r3, r10}; asr r12, r10, #16; ubfx r11, r10, #8, #5; lsl r0, r12, r10; lsl r12, r12, r11"
        for i in p:
            yield self.clamp.scaled_twice(f"r{4 + i}", "r2", "r10", "r0")
        for i in p:
            yield self.clamp.scaled_twice(f"r{7 + i}", "r3", "r11", "r12")
        yield "ldm sp, {r2, r3, r11}"
        places = ("[r11], #1", "[r11, r2]", "[r11, r3]")
        yield "; ".join(f"strb r{base + i}, {places[i]}" for base in (4, 7) for i in reversed(p))
        yield "str r11, [sp, #8]"


_TWIN = """\
static void @NAME@(const tk_block *block)
{
    enum { PIXELS = @PIXELS@ };
    const int32_t *w = block->pairs;
    const int32_t place[3] = {0, block->second, block->third};
    for (int8_t *out = block->out;; out += 2, w += 3) {
        uint32_t a[PIXELS], s[PIXELS];
        for (int32_t p = 0; p < PIXELS; ++p) {
            a[p] = (uint32_t)w[0];
            s[p] = (uint32_t)w[1];
        }
        w += 2;
        for (const int8_t *x = block->x; x != block->x_end; ++w) {
            const uint32_t bytes = tk_load32(w), lanes[2] = {tk_sxtb16(bytes), tk_sxtb16_ror8(bytes)};
            for (int32_t half = 0; half < 2; ++half) {
                for (int32_t p = 0; p < PIXELS; ++p, x += 4) {
                    s[p] = tk_smlad(lanes[half], tk_load32(x), s[p]);
                    a[p] = tk_smlad(lanes[half] & 0x000f000f, tk_load32(x), a[p]);
                }
            }
        }
        const int32_t word = w[2], shift_a = word & 31, shift_b = word >> 8 & 31, rounding = word >> 16;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            /* twice the sums; the sign of what is rounded is that of the sum wherever it decides */
            const int32_t twice_a = (int32_t)(2 * a[p] + tk_load32(block->x_end + 4 * p)), twice_b = (int32_t)(s[p] - a[p]) >> 3;
            const int32_t added_a = (int32_t)((uint32_t)rounding << shift_a), added_b = (int32_t)((uint32_t)rounding << shift_b);
            const int32_t high_a = tk_smmlar(twice_a, w[0], added_a + (twice_a >> 31)) >> shift_a;
            const int32_t high_b = tk_smmlar(twice_b, w[1], added_b + (twice_b >> 31)) >> shift_b;
            out[place[p]] = (int8_t)tk_clamp(high_a >> 1, @MIN@, @MAX@);
            out[place[p] + 1] = (int8_t)tk_clamp(high_b >> 1, @MIN@, @MAX@);
        }
        if (word & 0x8000) {
            return;
        }
    }
}
"""
