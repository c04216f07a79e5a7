"""How a block's columns lie in the buffer, and the C helper that widens bytes into them."""

from __future__ import annotations

from dataclasses import dataclass

from tinykit.engine.call import Routine
from tinykit.engine.ctext import filled

_WIDEN = """\
/* Bytes as quads of int16, each in the order 0, 2, 1, 3, @SAYS@. Gives the place of the next. */
TK_INLINE int8_t *@NAME@(int8_t *quad, const int8_t *source, int32_t quads@TOTAL_P@)
{
#if TK_DSP
    uint32_t a, b@SUM_V@;
    for (; quads >= 4; quads -= 4) {
        __asm__ volatile(
@FOUR@            : "+r"(quad), "+r"(source), "=&r"(a), "=&r"(b)@SUM_O@ :@SUM_I@ : "memory");
    }
    for (; quads > 0; --quads) {
        __asm__ volatile(
@ONE@            : "+r"(quad), "+r"(source), "=&r"(a), "=&r"(b)@SUM_O@ :@SUM_I@ : "memory");
    }
@SUM_S@#else
    for (; quads > 0; --quads, source += 4, quad += @STEP@) {
        const uint32_t bytes = tk_load32(source);
        const uint32_t words[2] = {tk_sxtb16(bytes), tk_sxtb16_ror8(bytes)};
@STORE@    }
#endif
    return quad;
}
"""


_WIDEN_CALL = """\
/* The same as a call, where its code counts for more than its time. */
TK_KERNEL int8_t *@NAME@_call(int8_t *quad, const int8_t *source, int32_t quads@TOTAL_P@)
{
    return @NAME@(quad, source, quads@TOTAL_A@);
}
"""


_GATHER = """\
/* Packed codes of @BITS@ bits from element `first` on, groups of @GROUP@, as int16: each word of two codes that are half a group apart. */
TK_INLINE int8_t *@NAME@(int8_t *quad, const int8_t *packed, int32_t first, int32_t groups@TOTAL_P@)
{
    const int8_t *from = packed + first / @EACH@;
    const int32_t shift = first % @EACH@ * @BITS@;
    for (; groups > 0; --groups, from += 4) {
        uint32_t word = tk_load32(from);
        if (shift) {
            word = word >> shift | (uint32_t)(uint8_t)from[4] << (32 - shift);
        }
        for (int32_t i = 0; i < @GROUP@ / 4; ++i, word >>= 2 * @BITS@, quad += @STEP@) {
            const uint32_t a = word & @MASK@, b = word >> @BITS@ & @MASK@;
            tk_store32(quad, @A@);
            tk_store32(quad + @HALF@, @B@);
@ADD@        }
    }
    return quad;
}
"""

_GATHER_CALL = """\
/* The same as a call, where its code counts for more than its time. */
TK_KERNEL int8_t *@NAME@_call(int8_t *quad, const int8_t *packed, int32_t first, int32_t groups@TOTAL_P@)
{
    return @NAME@(quad, packed, first, groups@TOTAL_A@);
}
"""


@dataclass(frozen=True)
class Layout:
    """How the columns of a block lie side by side in the buffer.

    Attributes:
        pixels: of the block.
        halves: the first halves of all pixels' quads, then the second ones; else quad by quad.
        even: there is an even number of quads, the last of which may hold anything.
        sums: behind the columns lies, for each of these factors, the sum of each pixel's column times it.
        words: of a column that ends in the negative of its sum, the last of an odd number beside those of the other pixels; 0: it has none.
        doubled: elements come twice; not their sum.
    """

    pixels: int
    halves: bool = False
    even: bool = False
    sums: tuple[int, ...] = ()
    words: int = 0
    doubled: bool = False

    @property
    def summed(self) -> bool:
        """Whether the elements of a column are added up."""
        return bool(self.sums) or self.words > 0

    @property
    def single(self) -> bool:
        """Whether the last word lies beside those of the other pixels."""
        return self.words % 2 == 1

    @property
    def name(self) -> str:
        """Of the helper that widens."""
        return f"tk_widen{self.pixels}{'h' * self.halves}{'s' * self.summed}{'d' * self.doubled}"

    @property
    def step(self) -> int:
        """Bytes from a pixel's column to the next one's."""
        return 4 if self.halves else 8

    @property
    def instructions(self) -> float:
        """That a quad takes."""
        return 4.4 + self.halves + 2 * self.summed + 2 * self.doubled

    def quads(self, count: int) -> int:
        """Of a column of `count` quads: those that lie as such in the buffer."""
        return self.words // 2 if self.words else count + count % 2 * self.even

    def bytes(self, count: int) -> int:
        """Of the columns of `count` quads, and of the sums."""
        return self.pixels * (8 * self.quads(count) + 4 * self.single + 4 * len(self.sums))

    def widen(self) -> Routine:
        """The helper that widens."""
        step, half = 8 * self.pixels, 4 * self.pixels
        store = f"str %3, [%0], #{half}\\n str %2, [%0], #{half}" if self.halves else f"strd %3, %2, [%0], #{step}"
        ones = r"\n smlad %4, %3, %5, %4\n smlad %4, %2, %5, %4" * self.summed + r"\n sadd16 %3, %3, %3\n sadd16 %2, %2, %2" * self.doubled
        line = f'            "ldr %2, [%1], #4\\n sxtb16 %3, %2\\n sxtb16 %2, %2, ror #8{ones}\\n {store}\\n"\n'
        first, second = ("tk_sadd16(words[0], words[0])", "tk_sadd16(words[1], words[1])") if self.doubled else ("words[0]", "words[1]")
        apart = half if self.halves else 4
        twin = f"        tk_store32(quad, {first});\n        tk_store32(quad + {apart}, {second});\n"
        if not (self.halves or self.doubled):
            twin = "        memcpy(quad, words, 8);\n"
        added = "        *total = tk_smlad(words[1], 0x10001, tk_smlad(words[0], 0x10001, *total));\n"
        says = f"a pixel's quads {step} bytes apart" + f", its halves {half}" * self.halves
        says += "; their sum is added to total" * self.summed + ", they are doubled" * self.doubled
        values = {
            "FOUR": 4 * line, "ONE": line, "NAME": self.name, "STEP": str(step),
            "SAYS": says,
            "STORE": twin + added * self.summed, **self._summed(),
        }  # fmt: skip
        helpers = ("tk_dsp", "tk_load32", "tk_sxtb16", "tk_sxtb16_ror8", *("tk_smlad",) * self.summed, *("tk_sadd16",) * self.doubled)
        return Routine(self.name, filled(_WIDEN, values), helpers)

    def widen_call(self) -> Routine:
        """The helper as a function that is not copied into its callers."""
        return Routine(f"{self.name}_call", filled(_WIDEN_CALL, {"NAME": self.name, **self._summed()}))

    def gather_name(self, bits: int) -> str:
        """Of the helper that widens packed codes."""
        return f"{self.name}_i{bits}"

    def gather(self, bits: int) -> Routine:
        """The helper that widens packed codes."""
        mask = f"0x{((1 << bits) - 1) * 0x10001:08x}"
        values = {
            "NAME": self.gather_name(bits), "BITS": str(bits), "GROUP": str(32 // bits), "EACH": str(8 // bits), "MASK": mask,
            "STEP": str(8 * self.pixels), "HALF": str(4 * self.pixels if self.halves else 4),
            "ADD": "            *total = tk_smlad(b, 0x10001, tk_smlad(a, 0x10001, *total));\n" * self.summed, **self._summed(),
            "A": "2 * a" if self.doubled else "a", "B": "2 * b" if self.doubled else "b",
        }  # fmt: skip
        return Routine(self.gather_name(bits), filled(_GATHER, values), ("tk_load32", *("tk_smlad",) * self.summed))

    def gather_call(self, bits: int) -> Routine:
        """The helper as a function that is not copied into its callers."""
        name = self.gather_name(bits)
        return Routine(f"{name}_call", filled(_GATHER_CALL, {"NAME": name, **self._summed()}))

    def _summed(self) -> dict[str, str]:
        """What a helper has besides where it adds up."""
        if not self.summed:
            return dict.fromkeys(("TOTAL_P", "TOTAL_A", "SUM_V", "SUM_O", "SUM_I", "SUM_S"), "")
        return {
            "TOTAL_P": ", uint32_t *total", "TOTAL_A": ", total", "SUM_V": ", sum = *total", "SUM_O": ', "+r"(sum)',
            "SUM_I": ' "r"(0x10001)', "SUM_S": "    *total = sum;\n",
        }  # fmt: skip
