"""The fixed-point helpers in C against their definitions, value by value: outputs of 8 bits would hide a wrong low bit."""

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from engine_host import CC, STRICT, needs_cc, run_cc

from tinykit.engine.compact import Codes, table_space
from tinykit.engine.support import HELPERS
from tinykit.graph import fixedpoint as fp
from tinykit.graph.ir import Rounding

pytestmark = needs_cc
N = 200_000

_EACH = """
void each_{name}(const int32_t *a, const int32_t *b, const int32_t *c, int32_t *out, int32_t count)
{{
    for (int32_t i = 0; i < count; ++i) {{
        (void)b;
        (void)c;
        out[i] = {call};
    }}
}}
"""

_TABLES = """
void tables(int8_t *space, const void *biases, const void *codes, int32_t count, int32_t wide, uint64_t rate, int32_t base);
void tables(int8_t *space, const void *biases, const void *codes, int32_t count, int32_t wide, uint64_t rate, int32_t base)
{
    tk_tables(space, biases, codes, count, wide, rate, base);
}
"""

CALLS = {
    "scale": "tk_scale((uint32_t)a[i], b[i], c[i])",
    "scale_any": "tk_scale_any((uint32_t)a[i], b[i], c[i])",
    "scale_once": "tk_scale_once((uint32_t)a[i], b[i], c[i])",
    "high": "tk_high(a[i], b[i])",
    "round_shift": "tk_round_shift(a[i], c[i])",
    "exp": "tk_exp(a[i])",
    "reciprocal": "tk_reciprocal((uint32_t)a[i] + 0x80000000u)",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    """All helpers."""
    folder = tmp_path_factory.mktemp("helpers")
    text = "#include <stdint.h>\n#include <string.h>\n#define TK_KERNEL static __attribute__((unused))\n"
    text += "#define TK_INLINE static inline __attribute__((unused))\n"
    text += "\n".join(HELPERS.values())
    text += "\nint32_t use_clamp(int32_t v);\nint32_t use_clamp(int32_t v) { return tk_clamp(v, 0, 1); }\n"
    text += _TABLES
    for name, call in CALLS.items():
        text += _EACH.format(name=name, call=call)
    (folder / "helpers.c").write_text(text)
    run_cc([*STRICT, "-O2", "-shared", "-fPIC", str(folder / "helpers.c"), "-o", str(folder / "helpers.so")])
    assert CC
    return ctypes.CDLL(str(folder / "helpers.so"))


@pytest.fixture(scope="module")
def each(library) -> Callable[..., np.ndarray]:
    """each(name, a, b, c): the helper for every row of three int32 columns."""

    def run(name: str, *columns: np.ndarray) -> np.ndarray:
        arrays = [np.ascontiguousarray(np.broadcast_to(c, (N,)), dtype=np.int32) for c in columns]
        arrays += [arrays[0]] * (3 - len(arrays)) + [np.zeros(N, np.int32)]
        getattr(library, f"each_{name}")(*(a.ctypes.data_as(ctypes.c_void_p) for a in arrays), N)
        return arrays[-1].astype(np.int64)

    return run


def compared(tally, got: np.ndarray, expected: np.ndarray) -> None:
    tally("engine's fixed-point helpers vs definition", int((got != expected).sum()), N)
    np.testing.assert_array_equal(got, expected)


def mixed(rng: np.random.Generator, bits: int) -> np.ndarray:
    """Signed integers of all magnitudes below 2^bits, ends included."""
    values = rng.integers(-(1 << bits) + 1, 1 << bits, N) >> rng.integers(0, bits, N)
    values[:4] = [0, -1, (1 << bits) - 1, -(1 << bits) + 1]
    return values


def test_scale(each, tally) -> None:
    rng = np.random.default_rng(1)
    x, m, shift = mixed(rng, 30), rng.integers(1 << 30, 1 << 31, N), rng.integers(1, 32, N)
    x[4:2004] = (x[4:2004] >> 8) << 8  # with many zeros at the end: ties
    m[4:2004] = 1 << 30
    compared(tally, each("scale", x, m, shift), fp.multiply_by_quantized_multiplier(x, m, -shift))


def test_scale_any(each, tally) -> None:
    rng = np.random.default_rng(2)
    m, shift = rng.integers(0, 1 << 31, N), rng.integers(-31, 31, N)
    x = mixed(rng, 31) >> np.maximum(shift, 0)
    expected = fp.multiply_by_quantized_multiplier(x, m, shift)
    compared(tally, each("scale_any", x, m, shift), expected)


def test_sums_that_are_shifted_out_of_32_bits_wrap(each, tally) -> None:
    """The reference refuses them; on a device they are what TFLM's int32 makes of them, not undefined."""
    rng = np.random.default_rng(7)
    x, m, shift = mixed(rng, 31), rng.integers(1 << 30, 1 << 31, N), rng.integers(1, 31, N)
    wrapped = (x << shift).astype(np.int32).astype(np.int64)
    compared(tally, each("scale_any", x, m, shift), fp.multiply_by_quantized_multiplier(wrapped, m, 0))


def test_scale_once(each, tally) -> None:
    rng = np.random.default_rng(3)
    m, shift = rng.integers(0, 1 << 31, N), rng.integers(-31, 31, N)
    x = mixed(rng, 31) >> np.maximum(shift, 0)
    compared(tally, each("scale_once", x, m, shift), fp.multiply_by_quantized_multiplier(x, m, shift, Rounding.SINGLE))


def test_high(each, tally) -> None:
    rng = np.random.default_rng(4)
    a, b = mixed(rng, 31), mixed(rng, 31)
    compared(tally, each("high", a, b), fp.rounding_doubling_high_multiply(a, b))


def test_round_shift(each, tally) -> None:
    rng = np.random.default_rng(5)
    a, shift = mixed(rng, 30), rng.integers(1, 30, N)
    compared(tally, each("round_shift", a, a, shift), fp.rounding_divide_by_pot(a, shift))


def test_exp(each, tally) -> None:
    """From 0 down to -31 in Q5.26, near the end of every quarter too."""
    rng = np.random.default_rng(6)
    a = -rng.integers(0, 31 << 26, N) >> rng.integers(0, 25, N)
    a[:64] = -np.arange(64)
    a[64:564] = -(rng.integers(0, 124, 500) << 24) + rng.integers(-2, 1, 500)
    compared(tally, each("exp", a), fp.exp_on_negative_values(a, 5))


def test_reciprocal(each, tally) -> None:
    """From 1 to just below 2, where the result saturates at one end."""
    rng = np.random.default_rng(7)
    a = rng.integers(0, 1 << 31, N) >> rng.integers(0, 31, N)
    a[:32], a[32:64] = np.arange(32), (1 << 31) - 1 - np.arange(32)
    compared(tally, each("reciprocal", a), fp.one_over_one_plus_x(a))


@pytest.mark.parametrize("code", [np.uint8, np.uint16])
@pytest.mark.parametrize("bias", [np.int16, np.int32])
def test_tables(library, bias, code, tally) -> None:
    """Every code, at rates from end to end, against the decoder in Python; biases at both ends of their type."""
    codes, wrong = np.arange(256 if code is np.uint8 else 1024, dtype=code), 0
    biases = np.resize(np.array([np.iinfo(bias).min, -1, 0, np.iinfo(bias).max], bias), codes.size)
    for rate in (1 << 57, (1 << 57) + 12_345_678_901, 3 << 56, (1 << 58) - (1 << 33)):
        space = np.zeros(table_space(codes.size), np.int8)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (space, biases, codes)]
        library.tables(*pointers, codes.size, int(bias is np.int32) + 2 * int(code is np.uint16), ctypes.c_uint64(rate), 7)
        multiplier, shift = Codes(codes, rate, 7).decoded()
        words = space[: 8 * codes.size].view(np.int32).reshape(2, -1)
        wrong += int((words[0] != biases).sum() + (words[1] != multiplier).sum() + (space[8 * codes.size :] != shift).sum())
    tally("widened tables, C against Python", wrong, 4 * 3 * codes.size)
    assert wrong == 0
