"""The inner routine of fast convolutions with weights of 4 bits: `blocks` with two channels in a byte.

A byte of weights is 16 b + a + 8, for one tap of channels a and b: signed in b, unsigned in a. SXTB16 leaves two of them as int16, whose
SMLAD sums S = A' + 16 B; the same lanes with their lowest 4 bits alone sum A' = A + 8 X, X being the sum of a pixel's column, which all
channels share. So a word is four taps of two channels, and takes two extractions a half. In the column buffer the first halves of all
pixels' quads lie side by side, so that one LDM reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tinykit.engine.kernels.finish import LINE, TWICE
from tinykit.engine.kernels.frame import Frame
from tinykit.engine.kernels.widen import Layout

_INPUTS = ("r2", "r3", "r10")
POWER = 8
"""Sums on a line come times 2^8, others twice."""


class NibbleBlock(Frame):
    """A routine."""

    QUADS = 1
    KIND = "nibbles_"

    @property
    def _power(self) -> int:
        return 1 if self.finish.line is None else POWER

    @property
    def layout(self) -> Layout:
        """Of the column buffer. A is A' and a pixel's sum times -8."""
        return Layout(self.pixels, halves=True, sums=(-8 << self._power,))

    @property
    def step_instructions(self) -> int:
        """That a quad takes."""
        return 7 + 4 * self.pixels

    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""
        return 3 + self.frame_instructions(quads) + 3 * self.pixels + self.finish_instructions

    # r2 r3 r10 input, r4.. sums A', r7.. sums S or B, r11 weights, r12 extracted weights.

    @property
    def _registers(self) -> tuple[Sequence[str], Sequence[str]]:
        p = range(self.pixels)
        return [f"r{4 + i}" for i in p], [f"r{7 + i}" for i in p]

    def _begin(self) -> Iterator[str]:
        yield f"0: ldrd r{3 + self.pixels}, r{6 + self.pixels}, [r1], #8; ldr r0, [sp, #{self._at('x')}]"

    def _step(self, first: bool = False) -> str:
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

    def _sums(self) -> Iterator[str]:
        a, b = self._registers
        yield "; ".join(f"sub {s}, {s}, {r}" for r, s in zip(a, b))  # 16 B
        yield self._inputs()
        yield "; ".join(f"lsl {s}, {s}, #{POWER - 4}" if self._power > 4 else f"asr {s}, {s}, #3" for s in b)
        yield "; ".join(f"add {r}, {x}, {r}, lsl #{self._power}" for r, x in zip(a, _INPUTS))

    def _twin(self) -> str:
        lifted = f"(s[p] - a[p]) << {POWER - 4}" if self._power > 4 else "(uint32_t)((int32_t)(s[p] - a[p]) >> 3)"
        end = TWICE if self.finish.line is None else LINE
        return self.filled(_TWIN, end, {"LIFTED": lifted, "POWER": self._power})


_TWIN = """\
static void @NAME@(const tk_block *block)
{
    enum { PIXELS = @PIXELS@ };
    const int32_t *w = block->pairs;
    const int32_t place[3] = {0, block->second, block->third};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t a[PIXELS], s[PIXELS], b[PIXELS];
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
        for (int32_t p = 0; p < PIXELS; ++p) {
            b[p] = @LIFTED@;
            a[p] = (a[p] << @POWER@) + tk_load32(block->x_end + 4 * p);
        }
@END@    }
}
"""
