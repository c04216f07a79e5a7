"""Single instructions of ARMv7E-M as C functions, with twins in portable C that give the same results for every operand.

Kernels are written over these, so that one text is fast where the instructions exist and right everywhere else; tables and the arena are
the same in both. A lane is a half of a word: two int16, the lower one first. Words in memory are little endian.
"""

from __future__ import annotations

_TARGET = """\
/* TK_DSP: a core with the instructions of ARMv7E-M and loads of words at any address, a compiler that takes GCC's assembly. Elsewhere twins
   in C give the same results. */
#if defined(__GNUC__) && defined(__thumb2__) && defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_UNALIGNED)
#define TK_DSP 1
#else
#define TK_DSP 0
#endif
#if defined(__BYTE_ORDER__) && defined(__ORDER_LITTLE_ENDIAN__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels and tables are for little-endian machines"
#endif
"""

_LANES = """\
/* The two int16 of a word. */
TK_INLINE int32_t tk_low(uint32_t x)
{
    return (int16_t)(x & 0xffff);
}

TK_INLINE int32_t tk_high16(uint32_t x)
{
    return (int16_t)(x >> 16);
}
"""

_MEMORY = """\
/* Words at any address. */
TK_INLINE uint32_t tk_load32(const void *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

TK_INLINE void tk_load32x2(const void *p, uint32_t *first, uint32_t *second)
{
    *first = tk_load32(p);
    *second = tk_load32((const char *)p + 4);
}

TK_INLINE void tk_store32(void *p, uint32_t x)
{
    memcpy(p, &x, 4);
}
"""


def _instruction(name: str, operands: str, twin: str, says: str, assembly: str | None = None, result: str = "uint32_t") -> str:
    """An instruction with register operands and its twin.

    Args:
        operands: C parameters after the type of each, e.g. `uint32_t a, uint32_t b`.
        twin: C expression.
        assembly: mnemonic and operands, `%0` the result; default: `name %0, %1, ...`.
    """
    names = [part.split()[-1] for part in operands.split(", ")]
    assembly = assembly or ", ".join([f"{name} %0", *(f"%{i + 1}" for i in range(len(names)))])
    taken = ", ".join(f'"r"({n})' for n in names)
    return (
        f"/* {says} */\nTK_INLINE {result} tk_{name}({operands})\n{{\n#if TK_DSP\n    {result} r;\n"
        f'    __asm__("{assembly}" : "=r"(r) : {taken});\n    return r;\n#else\n    return {twin};\n#endif\n}}\n'
    )


def _product(a: str, b: str) -> str:
    return f"(uint32_t)(tk_{a}(a) * tk_{b}(b)) + acc"


_THREE = "uint32_t a, uint32_t b, uint32_t acc"
_SMLAD = _instruction(
    "smlad", _THREE, "(uint32_t)(tk_low(a) * tk_low(b)) + (uint32_t)(tk_high16(a) * tk_high16(b)) + acc",
    "acc + low a * low b + high a * high b, modulo 2^32.",
)  # fmt: skip
_SMLABB = _instruction("smlabb", _THREE, _product("low", "low"), "acc + low a * low b, modulo 2^32.")
_SMLABT = _instruction("smlabt", _THREE, _product("low", "high16"), "acc + low a * high b, modulo 2^32.")
_SMLATB = _instruction("smlatb", _THREE, _product("high16", "low"), "acc + high a * low b, modulo 2^32.")
_SMLATT = _instruction("smlatt", _THREE, _product("high16", "high16"), "acc + high a * high b, modulo 2^32.")
_SADD16 = _instruction(
    "sadd16", "uint32_t a, uint32_t b", "((a + b) & 0xffff) | (((a >> 16) + (b >> 16)) << 16)", "Lane by lane a + b, modulo 2^16."
)
_SMMULR = _instruction(
    "smmulr", "int32_t a, int32_t b", "(int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32)", "a * b / 2^32, rounded, ties upwards.",
    result="int32_t",
)  # fmt: skip
_SMMLAR = _instruction(
    "smmlar", "int32_t a, int32_t b, int32_t acc", "(int32_t)((uint32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32) + (uint32_t)acc)",
    "acc + a * b / 2^32, rounded, ties upwards.", result="int32_t",
)  # fmt: skip
_PKHBT = """\
/* The low half of a, and the low half of b above it. */
TK_INLINE uint32_t tk_pkhbt(uint32_t a, uint32_t b)
{
#if TK_DSP
    uint32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
#else
    return (a & 0xffff) | b << 16;
#endif
}
"""
_SSAT8 = _instruction(
    "ssat8", "int32_t x", "x < -128 ? -128 : x > 127 ? 127 : x", "x within -128..127.", "ssat %0, #8, %1", result="int32_t"
)


def _extended(source: str) -> str:
    """C expression: the bytes 0 and 2 of `source` as signed lanes."""
    return f"(uint32_t)(uint16_t)(int8_t)({source} & 0xff) | (uint32_t)(uint16_t)(int8_t)({source} >> 16 & 0xff) << 16"


HELPERS: dict[str, str] = {
    "tk_dsp": _TARGET,
    "tk_lanes": _LANES,
    "tk_load32": _MEMORY,
    "tk_smlad": _SMLAD,
    "tk_smlabb": _SMLABB,
    "tk_smlabt": _SMLABT,
    "tk_smlatb": _SMLATB,
    "tk_smlatt": _SMLATT,
    "tk_sxtb16": _instruction("sxtb16", "uint32_t x", _extended("x"), "Bytes 0 and 2 as lanes."),
    "tk_sxtb16_ror8": _instruction("sxtb16_ror8", "uint32_t x", _extended("(x >> 8)"), "Bytes 1 and 3 as lanes.", "sxtb16 %0, %1, ror #8"),
    "tk_sadd16": _SADD16,
    "tk_smmulr": _SMMULR,
    "tk_smmlar": _SMMLAR,
    "tk_pkhbt": _PKHBT,
    "tk_ssat8": _SSAT8,
}
"""Name -> text, in the order in which they must be emitted."""

_LANED = ("tk_smlad", "tk_smlabb", "tk_smlabt", "tk_smlatb", "tk_smlatt")
NEEDS: dict[str, tuple[str, ...]] = {
    **{name: ("tk_dsp",) for name in HELPERS if name != "tk_dsp"},
    **{name: ("tk_dsp", "tk_lanes") for name in _LANED},
}
"""Helper -> helpers that its text uses."""
