"""Small C helpers that kernels call; only those that are used are emitted."""

from __future__ import annotations

from collections.abc import Iterable

from tinykit.engine import dsp, fast_helpers
from tinykit.engine.ctext import filled

# Accumulators are unsigned: sums wrap modulo 2^32 by definition of C, so that a folded bias may pass outside int32 on the way.
_SCALE = """\
/* acc * multiplier / 2^(31 + shift), rounded twice as gemmlowp does; 1 <= shift <= 31, |acc| < 2^30. */
TK_INLINE int32_t tk_scale(uint32_t acc, int32_t multiplier, int32_t shift)
{
    /* twice the sum, so that the high word of the product is the result and no word is put together from two */
    const int32_t high = (int32_t)(((int64_t)(int32_t)(acc * 2) * multiplier + ((int64_t)1 << 31)) >> 32);
    return (high + (high >> 31) + (1 << (shift - 1))) >> shift;
}
"""

_SCALE_ANY = """\
/* acc * multiplier * 2^(shift - 31), rounded twice as gemmlowp does; any shift, positive to the left: modulo 2^32, as the sum itself. */
TK_INLINE int32_t tk_scale_any(uint32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t left = (int32_t)(acc << (shift > 0 ? shift : 0));
    const int64_t high = ((int64_t)left * multiplier + (1 << 30)) >> 31;
    if (shift >= 0) {
        return (int32_t)high;
    }
    return (int32_t)((high + (high >> 63) + ((int64_t)1 << (-shift - 1))) >> -shift);
}
"""

_SCALE_ONCE = """\
/* acc * multiplier * 2^(shift - 31), rounded once. */
TK_INLINE int32_t tk_scale_once(uint32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t total = 31 - shift;
    return (int32_t)(((int64_t)(int32_t)acc * multiplier + ((int64_t)1 << (total - 1))) >> total);
}
"""

_CLAMP = """\
TK_INLINE int32_t tk_clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}
"""

_HIGH = """\
/* a * b / 2^31, rounded, ties upwards; not both -2^31. */
TK_INLINE int32_t tk_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}
"""

_ROLLED = """\
/* Before a loop that runs too seldom to be worth the flash of its copies: compilers unroll loops of a known length. */
#if defined(__clang__)
#define TK_ROLLED _Pragma("clang loop unroll(disable)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define TK_ROLLED _Pragma("GCC unroll 1")
#else
#define TK_ROLLED
#endif
"""

_EXP = """\
/* x / 2^shift, rounded half away from zero. */
TK_INLINE int32_t tk_round_shift(int32_t x, int32_t shift)
{
    return (x + (x >> 31) + (1 << (shift - 1))) >> shift;
}

/* exp(a) in Q0.31 for a <= 0 in Q5.26, as gemmlowp takes it: a polynomial for the part below 1/4, a factor for each bit above. */
TK_KERNEL int32_t tk_exp(int32_t a)
{
    static const int32_t factor[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    if (a == 0) {
        return 2147483647;
    }
    const int32_t part = (a & 0xffffff) - (1 << 24), x = part * 32 + (1 << 28);
    const int32_t x2 = tk_high(x, x), x3 = tk_high(x2, x), x4 = tk_high(x2, x2);
    const int32_t tail = tk_round_shift(tk_high(tk_round_shift(x4, 2) + x3, 715827883) + x2, 1);
    int32_t result = 1895147668 + tk_high(x + tail, 1895147668);
    TK_ROLLED
    for (int32_t i = 0, rest = (part - a) >> 24; rest > 0; ++i, rest >>= 1) {
        if (rest & 1) {
            result = tk_high(result, factor[i]);
        }
    }
    return result;
}
"""

_RECIPROCAL = """\
/* 1 / d in Q0.31 for d = x / 2^31 in [1, 2): three Newton-Raphson steps from 48/17 - 32/17 * d/2, as gemmlowp takes them. */
TK_INLINE int32_t tk_reciprocal(uint32_t x)
{
    const int32_t half = (int32_t)(x >> 1);
    int32_t estimate = 1515870810 + tk_high(half, -1010580540);
    TK_ROLLED
    for (int32_t i = 0; i < 3; ++i) {
        estimate += 4 * tk_high(estimate, (1 << 29) - tk_high(half, estimate));
    }
    return estimate >= 1 << 30 ? 2147483647 : 2 * estimate;
}
"""

# Packed elements: the lowest bits of a byte come first. Reading and writing touch the element's own byte and no other.
_GET = """\
/* Element i of packed codes of @BITS@ bits. */
TK_INLINE int32_t tk_get@BITS@(const int8_t *packed, int32_t i)
{
    return ((uint8_t)packed[i >> @LOG@] >> ((i & @LAST@) * @BITS@)) & @MASK@;
}
"""

_PUT = """\
/* Writes element i of packed codes of @BITS@ bits; the others in its byte stay. */
TK_INLINE void tk_put@BITS@(int8_t *packed, int32_t i, int32_t code)
{
    uint8_t *const byte = (uint8_t *)packed + (i >> @LOG@);
    const int32_t shift = (i & @LAST@) * @BITS@;
    *byte = (uint8_t)((*byte & ~(@MASK@ << shift)) | (code << shift));
}
"""

_PACK = """\
/* Writes `count` codes of a byte each to packed codes of @BITS@ bits, from element `first` on; the others in their bytes stay. */
TK_KERNEL void tk_pack@BITS@(int8_t *packed, int32_t first, const int8_t *codes, int32_t count)
{
    for (; count > 0 && first & @LAST@; --count) {
        tk_put@BITS@(packed, first++, *codes++);
    }
    for (; count >= 4; count -= 4, first += 4, codes += 4) {
        uint32_t word = tk_load32(codes);
@JOIN@    }
    for (; count > 0; --count) {
        tk_put@BITS@(packed, first++, *codes++);
    }
}
"""

# Four codes side by side.
_JOIN = {
    4: """\
        word = (word | word >> 4) & 0x00ff00ff;
        packed[first / 2] = (int8_t)(word & 0xff);
        packed[first / 2 + 1] = (int8_t)(word >> 16);
""",
    2: """\
        word |= word >> 6;
        packed[first / 4] = (int8_t)((word | word >> 12) & 0xff);
""",
}

_WEIGHT = """\
/* Weight i of packed two's complement integers of @BITS@ bits. */
TK_INLINE int32_t tk_weight@BITS@(const int8_t *packed, int32_t i)
{
    return (int32_t)((uint32_t)packed[i >> @LOG@] << (@TOP@ - (i & @LAST@) * @BITS@)) >> @TOP@;
}
"""

_ODD = """\
/* Weight i of packed odd integers, -3, -1, 1 or 3: 2 c + 1 for a two's complement c of 2 bits. */
TK_INLINE int32_t tk_odd2(const int8_t *packed, int32_t i)
{
    return 2 * tk_weight2(packed, i) + 1;
}
"""


_TABLES = """\
/* Widens a layer's tables: biases of 16 bits (of 32 where wide has bit 0), then a multiplier and a right shift for each code of 8 bits (of
   16 where wide has bit 1), exponent << 5 | (mantissa - 32); rate is what the channels' multipliers share. */
TK_KERNEL void tk_tables(int8_t *space, const void *biases, const void *codes, int32_t count, int32_t wide, uint64_t rate, int32_t base)
{
    int32_t *const bias = (int32_t *)(void *)space, *const multiplier = bias + count;
    int8_t *const shift = (int8_t *)(multiplier + count);
    TK_ROLLED
    for (int32_t i = 0; i < count; ++i) {
        const uint32_t code = wide & 2 ? ((const uint16_t *)codes)[i] : ((const uint8_t *)codes)[i];
        const uint64_t product = ((code & 31) + 32) * rate;
        const int32_t up = (int32_t)(product >> 63);
        bias[i] = wide & 1 ? ((const int32_t *)biases)[i] : ((const int16_t *)biases)[i];
        multiplier[i] = (int32_t)((product + ((uint64_t)1 << (31 + up))) >> (32 + up));
        shift[i] = (int8_t)(base + (int32_t)(code >> 5) - up);
    }
}
"""


def _packed(text: str, bits: int) -> str:
    """A helper for elements of `bits` bits."""
    each = 8 // bits
    values = {"BITS": bits, "LOG": each.bit_length() - 1, "LAST": each - 1, "MASK": (1 << bits) - 1, "TOP": 32 - bits}
    return filled(text, values)


HELPERS: dict[str, str] = {
    **dsp.HELPERS,
    "tk_clamp": _CLAMP,
    "tk_scale": _SCALE,
    "tk_scale_any": _SCALE_ANY,
    "tk_scale_once": _SCALE_ONCE,
    "tk_high": _HIGH,
    "tk_rolled": _ROLLED,
    "tk_exp": _EXP,
    "tk_reciprocal": _RECIPROCAL,
    "tk_tables": _TABLES,
    "tk_get4": _packed(_GET, 4),
    "tk_get2": _packed(_GET, 2),
    "tk_put4": _packed(_PUT, 4),
    "tk_put2": _packed(_PUT, 2),
    "tk_pack4": _packed(_PACK.replace("@JOIN@", _JOIN[4]), 4),
    "tk_pack2": _packed(_PACK.replace("@JOIN@", _JOIN[2]), 2),
    "tk_weight4": _packed(_WEIGHT, 4),
    "tk_weight2": _packed(_WEIGHT, 2),
    "tk_odd2": _ODD,
    **fast_helpers.FAST_HELPERS,
}


_PACK_NEEDS = {f"tk_pack{bits}": ("tk_load32", f"tk_put{bits}") for bits in (4, 2)}


def with_needs(helpers: Iterable[str]) -> set[str]:
    """Helpers, and those that they call."""
    found: set[str] = set()
    pending = list(helpers)
    while pending:
        helper = pending.pop()
        if helper not in found:
            found.add(helper)
            pending += _PACK_NEEDS.get(helper, ())
            pending += (*dsp.NEEDS.get(helper, ()), *fast_helpers.NEEDS.get(helper, ()))
    return found
