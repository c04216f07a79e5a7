"""The inner routine of fast convolutions with weights of 2 bits: `blocks` with one multiplication for two channels.

A lane of int16 is a' + 2^14 b, for one tap of channels a and b: a' = a + offset unsigned in its lowest 2 bits, b signed in its highest.
SMLAD sums S = A' + 2^14 B of both, four products an instruction; a word in flash is eight taps, which AND with a mask extracts two by two,
the word being rotated by 0, 4, 8 and 12 bits. As long as A' lies within 14 bits both sums follow. Where a layer's A' may leave them it is
taken out after every pass (`split`), and B with it where it may leave its 18 bits (`wide`). Where B takes a pixel's sum as well, or its
bias does not fit beside it, these are added in the end (`based`). `narrow_pairs` proves which it is.

Weights of a whose fields would sum up to much are negated, twice its sum being multiplied by -1 in the end.

Odd weights are 2 c + 1: the lanes hold c, twice whose sum and the sum of the pixel's column are the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinykit.engine.call import Routine
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.blocks import Clamp, definition
from tinykit.engine.kernels.widen import Layout

_INPUTS = ("r2", "r3", "r9", "r10")
_SUMS = ("r4", "r5", "r6", "r7")
LOW = 14
"""Bits of a lane's lower channel."""


@dataclass(frozen=True)
class LaneBlock:
    """A routine's shape.

    Attributes:
        pixels: 1, 2 or 4.
        steps: of 8 taps; of a pixel, of a pass.
        stream: there are passes of `steps` steps, of which the first may be entered in its middle (`skip`).
        split: A' is taken out after every pass.
        based: a pixel's second sum, and its bias, are added to B.
        wide: B is taken out where A' is; `split` and `based` besides.
        odd: what the lanes sum is half of what the weights do.
        signed: the 14 bits of A' are signed.
        factors: of a pixel's sum, for twice a sum of a, and of b where it is `based`.
    """

    pixels: int
    steps: int
    stream: bool
    split: bool
    based: bool
    wide: bool
    odd: bool
    signed: bool
    factors: tuple[int, ...]
    clamp: Clamp = Clamp()

    @property
    def layout(self) -> Layout:
        """Of the column buffer."""
        return Layout(self.pixels, even=True, sums=self.factors)

    @property
    def name(self) -> str:
        """In C; tells all attributes apart."""
        flags = (
            "_split" * self.split
            + "_wide" * self.wide
            + "_based" * (self.based and not self.wide)
            + "_odd" * self.odd
            + "_codes" * (not self.signed)
        )
        return f"tk_lanes_{'stream' if self.stream else 'line'}{self.pixels}x{self.steps}{flags}{self.clamp.tag}"

    @property
    def _step_instructions(self) -> int:
        return (0, 11, 15, 0, 25)[self.pixels]

    @property
    def _totals(self) -> int:
        """Bytes of the stack for what has been taken out."""
        return 4 * self.pixels * (self.split + self.wide)

    def skip(self, quads: int) -> int:
        """Bytes of code to leave out for the first pass, where a stream has `quads` quads; the very first step comes before the passes."""
        return (1 - (quads + 1) // 2) % self.steps * self._step_instructions * 4 if self.stream else 0

    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""
        steps = (quads + 1) // 2
        passes = -(-(steps - 1) // self.steps)
        out = 2 + 3 * self.pixels + self.wide * (3 + 2 * self.pixels)
        count = 6 + steps * self._step_instructions + self.stream * (1 + 3 * passes) + out * (passes if self.split else 1)
        return count + self.pixels * (12 + 2 * self.based + 2 * self.clamp.instructions) + 14 + self.split * (3 + 3 * self.wide)

    @property
    def code_bytes(self) -> int:
        """About how many the routine takes."""
        return 4 * self.steps * self._step_instructions + 350

    def routine(self) -> Routine:
        """The definition."""
        values = {
            "NAME": self.name, "PIXELS": self.pixels, "STEPS": self.steps, "STEP_BYTES": 4 * self._step_instructions,
            "SPLIT": int(self.split), "BASED": int(self.based), "WIDE": int(self.wide), "ODD": int(self.odd),
            "LOW": "(int32_t)(s[p] << 18) >> 18" if self.signed else "(int32_t)(s[p] & 0x3fff)",
        }  # fmt: skip
        return definition(self.name, self._assembly(), filled(_TWIN, self.clamp.values | values))

    # r0 inputs, r1 pairs, r2 r3 r9 r10 input, r4.. sums, r8 mask, r11 weights, r12 lr lanes.
    # On the stack: what has been taken out of A', of B; then second, third, out, fourth, x, mask, x_end, entry.

    def _assembly(self) -> Iterator[str]:
        at, x = self._totals, _INPUTS[: self.pixels]
        yield "push {r4-r11, lr}"
        yield "ldm r0, {r2-r9}"
        if self.stream:
            yield "adr r10, 1f; add r7, r7, r10; orr r7, r7, #1"
        yield "mov r1, r8; mov r8, r7; mov r7, r6; movw r6, #0xc003; movt r6, #0xc003"
        yield "push {r5-r8}"
        yield "mov r5, r9; push {r2-r5}"
        if self.split:
            yield f"sub sp, sp, #{at}"
        yield f"0: ldr {_SUMS[self.pixels - 1]}, [r1], #4"
        if self.split:
            yield f"ldr r0, [sp, #{at + 24}]; {_multiple('ldm', 'r0', x, True)}; {_multiple('stm', 'sp', x)}"
            if self.wide:
                yield f"{_multiple('ldm', 'r0', x)}; add r12, sp, #{4 * self.pixels}; {_multiple('stm', 'r12', x)}"
        yield f"ldrd r0, r8, [sp, #{at + 16}]"
        yield self._step(first=True)
        if self.stream:
            yield f"ldr pc, [sp, #{at + 28}]"
            yield ".balign 4"
            yield "1:"
        yield f".rept {self.steps if self.stream else self.steps - 1}"
        yield self._step()
        yield ".endr"
        if self.split:
            yield from self._taken_out()
        if self.stream:
            yield f"ldr r12, [sp, #{at + 24}]; cmp r0, r12; bne 1b"
        yield from self._epilogue()
        yield "tst r12, #0x8000; beq 0b"
        yield f"add sp, sp, #{at + 32}"
        yield "pop {r4-r11, pc}"

    def _step(self, first: bool = False) -> str:
        """Eight elements. The first sums of a pair start from the initial one, which lies where the last pixel's replaces it."""
        parts = ["ldr r11, [r1], #4"]
        for quad in range(2):
            parts += [f"and {to}, r8, r11{f', ror #{turn}' if turn else ''}" for to, turn in (("r12", 8 * quad), ("lr", 8 * quad + 4))]
            for p, to in enumerate(_SUMS[: self.pixels]):
                if p % 2 == 0:
                    parts.append("ldrd r2, r3, [r0], #8" if self.pixels == 1 else "ldm r0!, {r2, r3, r9, r10}")
                low, high = _INPUTS[p % 2 * 2 :][:2]
                start = _SUMS[self.pixels - 1] if first and quad == 0 else to
                parts += [f"smlad {to}, r12, {low}, {start}", f"smlad {to}, lr, {high}, {to}"]
        return "; ".join(parts)

    def _lower(self) -> Iterator[str]:
        """A' taken out of the sums and added to the inputs' registers; what is left is 2^14 B."""
        extract = "sbfx" if self.signed else "ubfx"
        for to, s in zip(_INPUTS, _SUMS[: self.pixels]):
            yield f"{extract} r12, {s}, #0, #{LOW}; sub {s}, {s}, r12; add {to}, {to}, r12, lsl #{1 + self.odd}"

    def _taken_out(self) -> Iterator[str]:
        x, s = _INPUTS[: self.pixels], _SUMS[: self.pixels]
        yield _multiple("ldm", "sp", x)
        yield from self._lower()
        yield _multiple("stm", "sp", x)
        if self.wide:
            yield f"add r12, sp, #{4 * self.pixels}; {_multiple('ldm', 'r12', x)}"
            yield "; ".join(f"add {to}, {to}, {of}, asr #{LOW - 1 - self.odd}; mov.w {of}, #0" for to, of in zip(x, s))
            yield _multiple("stm", "r12", x)

    def _epilogue(self) -> Iterator[str]:
        """Twice the sums of a and b, then outputs."""
        at, a, b = self._totals, _INPUTS[: self.pixels], _SUMS[: self.pixels]
        if self.split and self.wide:
            a, b = b, a
            yield _multiple("ldm", "sp", a)
        elif not self.split:
            yield _multiple("ldm", "r0", a, True)
            yield from self._lower()
        if self.based:
            if not self.wide:
                sums = [4 * (i + self.split * self.pixels) for i in range(self.pixels)]
                shift = LOW - 1 - self.odd
                yield "; ".join(f"ldr r12, [r0, #{place}]; add {r}, r12, {r}, asr #{shift}" for r, place in zip(b, sums))
            yield "ldm r1!, {r0, r8, lr}"
            yield "; ".join(f"add {r}, {r}, r8" for r in b)
            signed = "; ".join(f"mla {r}, {r}, lr, r0" for r in a)
            yield f"{signed}; ldm r1!, {{r8, r11, r12}}"
        else:
            yield "; ".join(f"asr {r}, {r}, #{LOW - 1}" for r in b)
            yield "ldm r1!, {r0, r8, r11, r12, lr}"
            yield "; ".join(f"mla {r}, {r}, lr, r0" for r in a)
        yield "asr r0, r12, #16; lsl r0, r0, r12"
        for r in a:
            yield self.clamp.scaled_twice(r, "r8", "r12", "r0")
        yield "ubfx r8, r12, #8, #5; asr r0, r12, #16; lsl r0, r0, r8"
        for r in b:
            yield self.clamp.scaled_twice(r, "r11", "r8", "r0")
        yield f"add r0, sp, #{at}; ldm r0, {{r0, r8, r11, lr}}"
        places = ("[r11], #1", "[r11, r0]", "[r11, r8]", "[r11, lr]")
        yield "; ".join(f"strb {rs[i]}, {places[i]}" for rs in (a, b) for i in reversed(range(self.pixels)))
        yield f"str r11, [sp, #{at + 8}]"


def _multiple(what: str, base: str, registers: Sequence[str], step: bool = False) -> str:
    """LDM or STM; of one register LDR or STR."""
    if len(registers) == 1:
        return f"{what[:-1]}r {registers[0]}, [{base}]" + ", #4" * step
    return f"{what} {base}{'!' * step}, {{{', '.join(registers)}}}"


_TWIN = """\
static void @NAME@(const tk_block *block)
{
    enum { PIXELS = @PIXELS@, STEPS = @STEPS@, SPLIT = @SPLIT@, BASED = @BASED@, WIDE = @WIDE@, ODD = @ODD@ };
    const int32_t *w = block->pairs;
    const int32_t place[4] = {0, block->second, block->third, block->fourth};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t s[PIXELS], a[PIXELS], b[PIXELS]; /* a and b: twice the sums */
        for (int32_t p = 0; p < PIXELS; ++p) {
            s[p] = (uint32_t)*w;
            a[p] = tk_load32(block->x_end + 4 * p);
            b[p] = BASED ? tk_load32(block->x_end + 4 * (PIXELS + p)) : 0;
        }
        ++w;
        const int8_t *x = block->x;
        int32_t left = SPLIT ? 1 + STEPS - block->skip / @STEP_BYTES@ : (int32_t)(block->x_end - x) / (16 * PIXELS);
        do {
            for (; left > 0; --left, ++w) {
                for (int32_t quad = 0; quad < 2; ++quad) {
                    const uint32_t word = tk_load32(w), first = quad ? word >> 8 | word << 24 : word;
                    const uint32_t lanes[2] = {first & 0xc003c003, (first >> 4 | first << 28) & 0xc003c003};
                    for (int32_t p = 0; p < PIXELS; ++p, x += 8) {
                        s[p] = tk_smlad(lanes[1], tk_load32(x + 4), tk_smlad(lanes[0], tk_load32(x), s[p]));
                    }
                }
            }
            for (int32_t p = 0; p < PIXELS; ++p) {
                const int32_t low = @LOW@;
                s[p] -= (uint32_t)low;
                a[p] += (uint32_t)low << (1 + ODD);
                if (WIDE) {
                    b[p] += (uint32_t)((int32_t)s[p] >> (13 - ODD));
                    s[p] = 0;
                }
            }
            left = STEPS;
        } while (x != block->x_end);
        for (int32_t p = 0; p < PIXELS; ++p) {
            if (!WIDE) {
                b[p] += (uint32_t)((int32_t)s[p] >> (13 - ODD));
            }
            a[p] = (uint32_t)w[0] + a[p] * (uint32_t)w[BASED ? 2 : 4];
            b[p] += BASED ? (uint32_t)w[1] : 0;
        }
        w += BASED ? 3 : 1;
        const int32_t word = w[2], shift_a = word & 31, shift_b = word >> 8 & 31, rounding = word >> 16;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            /* the sign of what is rounded is that of the sum wherever it decides */
            const int32_t twice_a = (int32_t)a[p], twice_b = (int32_t)b[p];
            const int32_t added_a = (int32_t)((uint32_t)rounding << shift_a), added_b = (int32_t)((uint32_t)rounding << shift_b);
            const int32_t high_a = tk_smmlar(twice_a, w[0], added_a + (twice_a >> 31)) >> shift_a;
            const int32_t high_b = tk_smmlar(twice_b, w[1], added_b + (twice_b >> 31)) >> shift_b;
            out[place[p]] = (int8_t)tk_clamp(high_a >> 1, @MIN@, @MAX@);
            out[place[p] + 1] = (int8_t)tk_clamp(high_b >> 1, @MIN@, @MAX@);
        }
        w += BASED ? 3 : 4;
        if (word & 0x8000) {
            return;
        }
    }
}
"""
