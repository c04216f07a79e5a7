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

from tinykit.engine.kernels.finish import LINE, TWICE
from tinykit.engine.kernels.frame import Frame
from tinykit.engine.kernels.widen import Layout

INPUTS = ("r2", "r3", "r9", "r10")
SUMS = ("r4", "r5", "r6", "r7")
"""Registers of up to four pixels."""
LOW = 14
"""Bits of a lane's lower channel."""
POWER = 10
"""Sums on a line come times 2^10, others twice; those of b that lie in their lanes to the end times 2^14."""


class LaneFrame(Frame):
    """What routines of such lanes share: r2 r3 r9 r10 input, r4.. sums, r8 mask, r11 weights, r12 lr lanes."""

    QUADS = 2
    PLACES = {"out": 8, "x": 16, "end": 24, "entry": 28, "bytes": 32}
    MULTIPLIERS = ("r0", "r8")
    STRIDES = ("r0", "r8", "lr")

    # On the stack: second, third, out, fourth, x, mask, x_end, entry.

    def _enter(self) -> Iterator[str]:
        yield "ldm r0, {r2-r9}"
        if self.stream:
            yield "adr r10, 1f; add r7, r7, r10; orr r7, r7, #1"
        yield "mov r1, r8; mov r8, r7; mov r7, r6; movw r6, #0xc003; movt r6, #0xc003"
        yield "push {r5-r8}"
        yield "mov r5, r9; push {r2-r5}"

    def _step(self, first: bool = False, words: int = 4) -> str:
        """The taps of a word in flash: so many words of lanes, two a quad, of an odd number the last of each pixel side by side. The first
        sums of a pair start from the initial one, which lies where the last pixel's replaces it."""
        parts = ["ldr r11, [r1], #4"]
        for quad in range(0, words, 2):
            lanes = ("r12", "lr")[: words - quad]
            parts += [f"and {to}, r8, r11{f', ror #{4 * (quad + i)}' * (quad + i > 0)}" for i, to in enumerate(lanes)]
            at_once = 4 // len(lanes)
            for p, to in enumerate(SUMS[: self.pixels]):
                if p % at_once == 0:
                    parts.append(_inputs(min(self.pixels, at_once) * len(lanes)))
                inputs = INPUTS[p % at_once * len(lanes) :]
                start = SUMS[self.pixels - 1] if first and quad == 0 else to
                parts += [f"smlad {to}, {lane}, {x}, {to if i else start}" for i, (lane, x) in enumerate(zip(lanes, inputs))]
        return "; ".join(parts)


def _inputs(words: int) -> str:
    """Reads 1, 2 or 4 words of inputs."""
    return {1: "ldr r2, [r0], #4", 2: "ldrd r2, r3, [r0], #8", 4: "ldm r0!, {r2, r3, r9, r10}"}[words]


@dataclass(frozen=True)
class LaneBlock(LaneFrame):
    """A routine's shape.

    Attributes:
        split: A' is taken out after every pass.
        based: a pixel's second sum, and its bias, are added to B.
        wide: B is taken out where A' is; `split` and `based` besides.
        odd: what the lanes sum is half of what the weights do.
        signed: the 14 bits of A' are signed.
        offset: what is added to the first channels' fields.
    """

    split: bool
    based: bool
    wide: bool
    odd: bool
    signed: bool
    offset: int

    KIND = "lanes_"

    @property
    def power(self) -> int:
        """Sums of b that are based come times 2 to this power."""
        return 1 if self.finish.line is None else POWER

    @property
    def layout(self) -> Layout:
        """Of the column buffer. Behind it pixels' sums, for twice A, and for B where it is `based`."""
        first = -6 if self.odd else -2 * self.offset
        return Layout(self.pixels, even=True, sums=(first, self.odd << self.power) if self.based else (first,))

    @property
    def _flags(self) -> str:
        based = "_wide" * self.wide + "_based" * (self.based and not self.wide)
        return "_split" * self.split + based + "_odd" * self.odd + "_codes" * (not self.signed)

    @property
    def step_instructions(self) -> int:
        """That eight taps take."""
        return (0, 11, 15, 0, 25)[self.pixels]

    @property
    def _below(self) -> int:
        """Bytes of the stack for what has been taken out."""
        return 4 * self.pixels * (self.split + self.wide)

    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""
        steps, each = (quads + 1) // 2, 1 if self.wide or not self.based else 2
        passes = -(-(steps - 1) // self.steps) if self.split else 1
        taken = passes * (1 + self.split + 3 * self.pixels + self.wide * (3 + 2 * self.pixels)) + self.split * (3 + 4 * self.wide)
        each = 0 if not self.based and self.finish.line is not None else each
        taken += (1 + self.split) * (self.based and not self.wide)
        return 3 + self.frame_instructions(steps) + taken + self.pixels * (1 + each) + self.finish_instructions

    # On the stack below all else: what has been taken out of A', of B.

    @property
    def _registers(self) -> tuple[Sequence[str], Sequence[str]]:
        a, b = INPUTS[: self.pixels], SUMS[: self.pixels]
        return (b, a) if self.wide else (a, b)

    def _enter(self) -> Iterator[str]:
        yield from super()._enter()
        if self.split:
            yield f"sub sp, sp, #{self._below}"

    def _begin(self) -> Iterator[str]:
        x = INPUTS[: self.pixels]
        yield f"0: ldr {SUMS[self.pixels - 1]}, [r1], #4"
        if self.split:
            yield f"ldr r0, [sp, #{self._at('end')}]; {_multiple('ldm', 'r0', x, True)}; {_multiple('stm', 'sp', x)}"
            if self.wide:
                yield f"{_multiple('ldm', 'r0', x)}; add r12, sp, #{4 * self.pixels}; {_multiple('stm', 'r12', x)}"
        yield f"ldrd r0, r8, [sp, #{self._at('x')}]"

    def _lower(self) -> Iterator[str]:
        """A' taken out of the sums and added to the inputs' registers; what is left is 2^14 B."""
        extract = "sbfx" if self.signed else "ubfx"
        for to, s in zip(INPUTS, SUMS[: self.pixels]):
            yield f"{extract} r12, {s}, #0, #{LOW}; sub {s}, {s}, r12; add {to}, {to}, r12, lsl #{1 + self.odd}"

    def _pass_end(self) -> Iterator[str]:
        """A' to the stack, and B where it is `wide`."""
        if not self.split:
            return
        x, s = INPUTS[: self.pixels], SUMS[: self.pixels]
        yield _multiple("ldm", "sp", x)
        yield from self._lower()
        yield _multiple("stm", "sp", x)
        if self.wide:
            yield f"add r12, sp, #{4 * self.pixels}; {_multiple('ldm', 'r12', x)}"
            yield "; ".join(f"add {to}, {to}, {of}, {self._from_lane}; mov.w {of}, #0" for to, of in zip(x, s))
            yield _multiple("stm", "r12", x)

    def _sums(self) -> Iterator[str]:
        a, b = self._registers
        if self.wide:
            yield _multiple("ldm", "sp", a)
        elif not self.split:
            yield _multiple("ldm", "r0", a, True)
            yield from self._lower()
        if self.based and not self.wide:
            if self.split:
                yield f"add r0, r0, #{4 * self.pixels}"
            sums = ("r8", "r11", "r12", "lr")[: self.pixels]
            yield _multiple("ldm", "r0", sums)
            yield "; ".join(f"add {r}, {x}, {r}, {self._from_lane}" for r, x in zip(b, sums))
        if self.based:
            yield "ldm r1!, {r0, r8, lr}"
            yield "; ".join(f"add {r}, {r}, r8" for r in b)
        else:
            yield "ldm r1!, {r0, lr}"
            if self.finish.line is None:
                yield "; ".join(f"asr {r}, {r}, #{LOW - 1}" for r in b)
        yield "; ".join(f"mla {r}, {r}, lr, r0" for r in a)

    @property
    def _from_lane(self) -> str:
        """How 2^14 B, or half of it, becomes 2^power B."""
        return f"asr #{LOW - self.power - self.odd}"

    def _twin(self) -> str:
        values: dict[str, object] = {
            "STEPS": self.steps, "STEP_BYTES": 4 * self.step_instructions, "POWER": self.power,
            "SPLIT": int(self.split), "BASED": int(self.based), "WIDE": int(self.wide), "ODD": int(self.odd),
            "LOW": "(int32_t)(s[p] << 18) >> 18" if self.signed else "(int32_t)(s[p] & 0x3fff)",
            "B": "s[p]" if self.finish.line is not None and not self.based else f"(uint32_t)((int32_t)s[p] >> ({LOW} - POWER - ODD))",
        }  # fmt: skip
        return self.filled(_TWIN, TWICE if self.finish.line is None else LINE, values)


def _multiple(what: str, base: str, registers: Sequence[str], step: bool = False) -> str:
    """LDM or STM; of one register LDR or STR."""
    if len(registers) == 1:
        return f"{what[:-1]}r {registers[0]}, [{base}]" + ", #4" * step
    return f"{what} {base}{'!' * step}, {{{', '.join(registers)}}}"


_TWIN = """\
static void @NAME@(const tk_block *block)
{
    enum { PIXELS = @PIXELS@, STEPS = @STEPS@, SPLIT = @SPLIT@, BASED = @BASED@, WIDE = @WIDE@, ODD = @ODD@, POWER = @POWER@ };
    const int32_t *w = block->pairs;
    const int32_t place[4] = {0, block->second, block->third, block->fourth};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t s[PIXELS], a[PIXELS], b[PIXELS]; /* a: twice the sum; b: times 2^POWER */
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
                    b[p] += @B@;
                    s[p] = 0;
                }
            }
            left = STEPS;
        } while (x != block->x_end);
        for (int32_t p = 0; p < PIXELS; ++p) {
            if (!WIDE) {
                b[p] += @B@;
            }
            a[p] = (uint32_t)w[0] + a[p] * (uint32_t)w[BASED ? 2 : 1];
            b[p] += BASED ? (uint32_t)w[1] : 0;
        }
        w += BASED ? 3 : 2;
@END@    }
}
"""
