"""The inner routine of fast convolutions with weights of 2 bits and short columns: `lane_blocks` with the pixel's sum as one tap more.

A lane is a' + 2^14 b as there. A column ends in the negative of its sum, -X, whose weight takes out what the others are offset by: a' is
that offset there. So SMLAD sums A + 2^14 B itself, whatever the lanes sum up to on the way. The initial sum has both biases, less the
least A that there is: what is in the 14 bits is not negative, so that B is what is above them. Where it stays within 13 bits a shift by 13
gives twice B; else (`full`), and on a line, its bits are cleared first.

Of odd weights 2 c + 1 the lanes hold c; the elements are doubled, the last tap is 3 for a, -1 for b.

A step is a word of lanes; a column has as many words as it needs, an odd one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinykit.engine.kernels.finish import LINE, TWICE
from tinykit.engine.kernels.lane_blocks import INPUTS, LOW, SUMS, LaneFrame
from tinykit.engine.kernels.widen import Layout

POWERS = (32 - LOW, LOW)
"""Sums of a and of b on a line come times 2 to these powers, others twice."""
SPARE = 1 << LOW - 1
"""What is in the 14 bits stays below it, or they are `full`."""


@dataclass(frozen=True)
class ShortBlock(LaneFrame):
    """A routine's shape.

    Attributes:
        full: see above; never on a line.
        odd: weights are odd, which is the column's affair and not the routine's.
    """

    full: bool
    odd: bool

    KIND = "short_"

    @property
    def layout(self) -> Layout:
        """Of the column buffer."""
        return Layout(self.pixels, words=self.steps, doubled=self.odd)

    @property
    def _flags(self) -> str:
        return "_full" * self.full

    @property
    def step_instructions(self) -> int:
        """That a word takes, about."""
        return 2 + self.pixels

    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""
        words, single = self.steps, self.steps % 2
        loads = -(-words // 4) + (words - single) // (1 if self.pixels == 4 else 2) + single
        sums = 2 if self.finish.line is not None else 3 + self.full
        columns = words * (1 + self.pixels) + loads
        return 2 + columns + self.pixels * sums + self.frame_instructions(0) + self.finish_instructions

    @property
    def _registers(self) -> tuple[Sequence[str], Sequence[str]]:
        return INPUTS[: self.pixels], SUMS[: self.pixels]

    def _begin(self) -> Iterator[str]:
        yield f"0: ldr {SUMS[self.pixels - 1]}, [r1], #4"
        yield f"ldrd r0, r8, [sp, #{self._at('x')}]"

    def _columns(self) -> Iterator[str]:
        for word in range(0, self.steps, 4):
            yield self._step(word == 0, min(4, self.steps - word))

    def _sums(self) -> Iterator[str]:
        a, b = self._registers
        if self.finish.line is not None:
            yield "ldm r1!, {r0, r8, r11, r12, lr}"
            yield "; ".join(f"add {x}, lr, {s}, lsl #{POWERS[0]}" for x, s in zip(a, b))
        else:
            yield "ldm r1!, {r0, r8, r11, r12}"
            yield "; ".join(f"ubfx {x}, {s}, #0, #{LOW - 1 + self.full}; add {x}, r0, {x}, lsl #1" for x, s in zip(a, b))
        if self.full or self.finish.line is not None:
            yield "; ".join(f"bfc {s}, #0, #{LOW}" for s in b)
        if self.finish.line is None:
            yield "; ".join(f"asr {s}, {s}, #{LOW - 1}" for s in b)

    def _load(self, registers: str) -> str:
        return ""

    def _twin(self) -> str:
        upper = "s & ~0x3fffu" if self.full or self.finish.line is not None else "s"
        if self.finish.line is None:
            sums, end = _TWICE_SUMS, TWICE
        else:
            sums, end = _LINE_SUMS, LINE + "        ++w;\n"
        mask = "0x3fff" if self.full else "0x1fff"
        return self.filled(_TWIN.replace("@SUMS@", sums), end, {"WORDS": self.steps, "UPPER": upper, "MASK": mask})


_TWIN = """\
static void @NAME@(const tk_block *block)
{
    enum { PIXELS = @PIXELS@, WORDS = @WORDS@ };
    const int32_t *w = block->pairs;
    const int32_t place[4] = {0, block->second, block->third, block->fourth};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t a[PIXELS], b[PIXELS];
        const uint32_t initial = (uint32_t)*w++;
        for (int32_t p = 0; p < PIXELS; ++p) {
            uint32_t s = initial;
            for (int32_t i = 0; i < WORDS; ++i) {
                const int32_t turn = 4 * (i % 4), alone = i == WORDS - 1 && i % 2 == 0;
                const uint32_t word = tk_load32(w + i / 4), lanes = word >> turn | word << (32 - turn) % 32;
                const int8_t *const x = block->x + 8 * PIXELS * (i / 2) + (alone ? 4 : 8) * p + 4 * (i % 2);
                s = tk_smlad(lanes & 0xc003c003, tk_load32(x), s);
            }
            b[p] = s;
        }
        w += (WORDS + 3) / 4;
@SUMS@@END@    }
}
"""

_TWICE_SUMS = """\
        const uint32_t least = (uint32_t)*w++; /* twice */
        for (int32_t p = 0; p < PIXELS; ++p) {
            const uint32_t s = b[p];
            a[p] = least + 2 * (s & @MASK@);
            b[p] = (uint32_t)((int32_t)(@UPPER@) >> 13);
        }
"""
_LINE_SUMS = """\
        const uint32_t least = (uint32_t)w[4]; /* times 2^18 */
        for (int32_t p = 0; p < PIXELS; ++p) {
            const uint32_t s = b[p];
            a[p] = least + (s << 18);
            b[p] = @UPPER@;
        }
"""
