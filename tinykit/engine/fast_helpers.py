"""C helpers of the kernels for cores with the DSP extension, beside the instructions of `tinykit.engine.dsp`; twins in portable C."""

from __future__ import annotations

_PACK = """\
/* The {halves} halves of two words, b's on top. */
TK_INLINE uint32_t {name}(uint32_t a, uint32_t b)
{{
#if TK_DSP
    uint32_t word;
    __asm__("{instruction}" : "=r"(word) : "r"(a), "r"(b));
    return word;
#else
    return {twin};
#endif
}}
"""


def _extended(text: str, name: str, odd: bool) -> str:
    """`text` for bytes 0 and 2 of a word, or 1 and 3."""
    first, second = (8, 24) if odd else (0, 16)
    words = {"name": f"tk_{name}" + ("_ror8" if odd else ""), "bytes": "1 and 3" if odd else "0 and 2"}
    return text.format(**words, rotation=", ror #8" if odd else "", first=first, second=second)


_SXTAB16 = """\
/* {name}: adds bytes {bytes} of x, extended, to two int16. */
TK_INLINE uint32_t {name}(uint32_t sums, uint32_t x)
{{
#if TK_DSP
    uint32_t pair;
    __asm__("sxtab16 %0, %1, %2{rotation}" : "=r"(pair) : "r"(sums), "r"(x));
    return pair;
#else
    return (uint16_t)(sums + (uint32_t)(int8_t)(x >> {first})) | ((sums >> 16) + (uint32_t)(int8_t)(x >> {second})) << 16;
#endif
}}
"""

_USADA8 = """\
/* acc and the sum of four unsigned bytes. */
TK_INLINE uint32_t tk_usada8(uint32_t x, uint32_t acc)
{
#if TK_DSP
    uint32_t sum;
    __asm__("usada8 %0, %1, %2, %3" : "=r"(sum) : "r"(x), "r"(0), "r"(acc));
    return sum;
#else
    return acc + (x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24);
#endif
}
"""

_SMMLA = """\
/* acc + a * b / 2^32, rounded down. */
TK_INLINE int32_t tk_smmla(int32_t a, int32_t b, int32_t acc)
{
#if TK_DSP
    int32_t sum;
    __asm__("smmla %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
    return sum;
#else
    return acc + (int32_t)(((int64_t)a * b) >> 32);
#endif
}
"""

_LOAD16 = """\
/* Two bytes from any address. */
TK_INLINE uint32_t tk_load16(const void *p)
{
    uint16_t half;
    memcpy(&half, p, 2);
    return half;
}
"""

_STORE16 = """\
/* The lower half of a word to any address. */
TK_INLINE void tk_store16(void *p, int32_t value)
{
    const uint16_t half = (uint16_t)value;
    memcpy(p, &half, 2);
}
"""

_SSAT8_ASR = """\
/* x / 2^{shift}, rounded down, as the nearest int8. */
TK_INLINE int32_t tk_ssat8_asr{shift}(int32_t x)
{{
#if TK_DSP
    int32_t y;
    __asm__("ssat %0, #8, %1, asr #{shift}" : "=r"(y) : "r"(x));
    return y;
#else
    return x >> {shift} < -128 ? -128 : x >> {shift} > 127 ? 127 : x >> {shift};
#endif
}}
"""

_USAT = """\
/* x{divided} within 0..{most}. */
TK_INLINE int32_t {name}(int32_t x)
{{
#if TK_DSP
    int32_t y;
    __asm__("usat %0, #{bits}, %1{shifted}" : "=r"(y) : "r"(x));
    return y;
#else
    return x{by} < 0 ? 0 : x{by} > {most} ? {most} : x{by};
#endif
}}
"""


def _usat(bits: int, shift: int) -> tuple[str, str]:
    """Name and text of a saturation to codes, behind a shift to the right where there is one."""
    name, most = f"tk_usat{bits}" + (f"_asr{shift}" if shift else ""), (1 << bits) - 1
    divided, shifted, by = (f" / 2^{shift}, rounded down,", f", asr #{shift}", f" >> {shift}") if shift else ("", "", "")
    return name, _USAT.format(name=name, bits=bits, most=most, divided=divided, shifted=shifted, by=by)


_MAX8 = """\
/* The larger of each pair of signed bytes. */
TK_INLINE uint32_t tk_max8(uint32_t a, uint32_t b)
{
#if TK_DSP
    uint32_t largest;
    __asm__("ssub8 %0, %1, %2\\n    sel %0, %1, %2" : "=&r"(largest) : "r"(a), "r"(b) : "cc");
    return largest;
#else
    uint32_t largest = 0;
    for (int32_t i = 0; i < 32; i += 8) {
        largest |= (uint32_t)(uint8_t)((int8_t)(a >> i) > (int8_t)(b >> i) ? a >> i : b >> i) << i;
    }
    return largest;
#endif
}
"""

_FIELDS = """\
/* 8 or 16 bits from any bit on; only bytes that hold some of them are read. What is above them is something else. */
TK_INLINE uint32_t tk_take8(const int8_t *p, int32_t bit)
{
    const int32_t in = bit & 7;
    p += bit >> 3;
    return ((uint32_t)(uint8_t)p[0] | (uint32_t)(uint8_t)p[in > 0] << 8) >> in;
}

TK_INLINE uint32_t tk_take16(const int8_t *p, int32_t bit)
{
    const int32_t in = bit & 7, more = in > 0;
    p += bit >> 3;
    return (tk_load16(p) | (uint32_t)(uint8_t)p[1 + more] << (8 + 8 * more)) >> in;
}

/* Writes the lower 8 or 16 bits of a value from any bit on; the others in their bytes stay. */
TK_INLINE void tk_give8(int8_t *p, int32_t bit, uint32_t value)
{
    const int32_t in = bit & 7;
    p += bit >> 3;
    if (in) {
        tk_store16(p, (int32_t)((tk_load16(p) & ~(0xffu << in)) | (value & 0xff) << in));
    } else {
        *p = (int8_t)value;
    }
}

TK_INLINE void tk_give16(int8_t *p, int32_t bit, uint32_t value)
{
    const int32_t in = bit & 7;
    p += bit >> 3;
    if (in) {
        p[2] = (int8_t)(((uint8_t)p[2] & ~((1u << in) - 1)) | (value & 0xffff) >> (16 - in));
        tk_store16(p, (int32_t)(((uint8_t)p[0] & ((1u << in) - 1)) | value << in));
    } else {
        tk_store16(p, (int32_t)value);
    }
}
"""

_REST = """\
/* {group} packed codes of {bits} bits from element i on, which may begin inside a byte; only bytes that hold some of them are read. */
TK_INLINE uint32_t tk_word{bits}(const int8_t *packed, int32_t i)
{{
    const int8_t *const from = packed + i / {each};
    const int32_t shift = i % {each} * {bits};
    const uint32_t word = tk_load32(from);
    return shift ? word >> shift | (uint32_t)(uint8_t)from[4] << (32 - shift) : word;
}}

/* The last `rest` codes of `count`, 16 bits or more, from element i on. What is above them is something else. */
TK_INLINE uint32_t tk_rest{bits}(const int8_t *packed, int32_t i, int32_t count, int32_t rest)
{{
    if (count >= {group}) {{
        return tk_word{bits}(packed, i + count - {group}) >> ({group} - rest) * {bits};
    }}
    return (tk_take16(packed, i * {bits}) & 0xffff) | tk_take16(packed, (i + count) * {bits} - 16) << (count * {bits} - 16);
}}
"""

_COPY_WORDS = """\
/* Words from one place to another before it, both aligned to 4. */
TK_INLINE void tk_copy_words(int8_t *to, const int8_t *from, int32_t words)
{
#if TK_DSP
    for (; words >= 4; words -= 4) {
        __asm__ volatile("ldm %1!, {r2, r3, r12, lr}\\n    stm %0!, {r2, r3, r12, lr}"
                         : "+r"(to), "+r"(from) : : "r2", "r3", "r12", "lr", "memory");
    }
#endif
    for (; words > 0; --words, to += 4, from += 4) {
        memcpy(to, from, 4);
    }
}
"""

_COPY_BYTES = """\
/* Bytes from one place to another; neither needs to be aligned. */
TK_KERNEL void tk_copy_bytes(int8_t *to, const int8_t *from, int32_t count)
{
#if TK_DSP
    uint32_t word;
    for (; count >= 4; count -= 4) {
        __asm__ volatile("ldr %2, [%1], #4\\n    str %2, [%0], #4" : "+r"(to), "+r"(from), "=&r"(word) : : "memory");
    }
    for (; count > 0; --count) {
        __asm__ volatile("ldrb %2, [%1], #1\\n    strb %2, [%0], #1" : "+r"(to), "+r"(from), "=&r"(word) : : "memory");
    }
#else
    memcpy(to, from, (size_t)count);
#endif
}
"""

_SIGNED = """\
/* Bytes whose lower {bits} bits are two's complement, the others 0: the numbers themselves. */
TK_INLINE uint32_t tk_signed{bits}(uint32_t x)
{{
    return x + (x & 0x{top}) * {rest};
}}
"""

_SIGNED_ODD = """\
/* Bytes whose lower 2 bits are a two's complement c, the others 0: the numbers 2 c + 1. */
TK_INLINE uint32_t tk_signed2odd(uint32_t x)
{
    return (tk_signed2(x) << 1 & 0xfefefefe) | 0x01010101;
}
"""

_DENSE_STEP = """\
/* Four elements of a dense layer times four channels, whose weights lie as in `fast_dense`. */
TK_INLINE void {name}(uint32_t *sums, uint32_t x, const int32_t *weights)
{{
    const uint32_t even = tk_sxtb16(x), odd = tk_sxtb16_ror8(x);
    for (int32_t n = 0; n < 4; n += 2) {{
        const uint32_t first = (uint32_t)weights[n], second = (uint32_t)weights[n + 1];
        sums[n] = tk_smlad(tk_sxtb16(first), even, tk_smlad(tk_sxtb16(second), odd, sums[n]));
        sums[n + 1] = tk_smlad({first}, even, tk_smlad({second}, odd, sums[n + 1]));
    }}
}}
"""

_DENSE_OUT = """\
/* acc * multiplier / 2^(31 + shift), rounded twice as tk_scale does, saturated; offset is what rounds and the zero point, 2^shift times. */
TK_INLINE int32_t tk_dense_out(uint32_t acc, int32_t multiplier, int32_t shift, int32_t offset)
{
    const int32_t high = tk_smmulr((int32_t)(acc * 2), multiplier);
    return tk_ssat8((high + (high >> 31) + offset) >> shift);
}
"""


FAST_HELPERS: dict[str, str] = {
    "tk_sxtab16": _extended(_SXTAB16, "sxtab16", False),
    "tk_sxtab16_ror8": _extended(_SXTAB16, "sxtab16", True),
    "tk_usada8": _USADA8,
    "tk_smmla": _SMMLA,
    "tk_pkhtb": _PACK.format(name="tk_pkhtb", halves="upper", instruction="pkhtb %0, %2, %1, asr #16", twin="(b & 0xffff0000) | a >> 16"),
    "tk_load16": _LOAD16,
    "tk_store16": _STORE16,
    **{f"tk_ssat8_asr{shift}": _SSAT8_ASR.format(shift=shift) for shift in range(1, 32)},
    "tk_fields": _FIELDS,
    **dict(_usat(bits, shift) for bits in (4, 2) for shift in range(32)),
    **{f"tk_rest{bits}": _REST.format(bits=bits, group=32 // bits, each=8 // bits) for bits in (4, 2)},
    "tk_max8": _MAX8,
    "tk_copy_words": _COPY_WORDS,
    "tk_copy_bytes": _COPY_BYTES,
    "tk_signed4": _SIGNED.format(bits=4, top="08080808", rest=30),
    "tk_signed2": _SIGNED.format(bits=2, top="02020202", rest=126),
    "tk_signed2odd": _SIGNED_ODD,
    "tk_dense_step": _DENSE_STEP.format(name="tk_dense_step", first="first", second="second"),
    "tk_dense_step_apart": _DENSE_STEP.format(name="tk_dense_step_apart", first="tk_sxtb16_ror8(first)", second="tk_sxtb16_ror8(second)"),
    "tk_dense_out": _DENSE_OUT,
}
"""Text by name, as in `tinykit.engine.support`; emitted behind those of `dsp`."""

NEEDS: dict[str, tuple[str, ...]] = {
    **{name: ("tk_dsp",) for name in FAST_HELPERS},
    "tk_store32": ("tk_load32",),  # which is defined with it
    **{f"tk_dense_step{tag}": ("tk_smlad", "tk_sxtb16", "tk_sxtb16_ror8") for tag in ("", "_apart")},
    "tk_dense_out": ("tk_smmulr", "tk_ssat8"),
    **{f"tk_{verb}{bits}": ("tk_fields",) for verb in ("take", "give") for bits in (8, 16)},  # which are defined together
    "tk_fields": ("tk_load16", "tk_store16"),
    **{f"tk_rest{bits}": ("tk_load32", "tk_fields") for bits in (4, 2)},
    "tk_signed2odd": ("tk_dsp", "tk_signed2"),
}
"""Helper -> helpers that its text uses."""
