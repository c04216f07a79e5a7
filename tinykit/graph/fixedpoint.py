"""The integer arithmetic of TensorFlow Lite Micro, in NumPy 64-bit integers.

Formulas: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018), and the
fixed-point definitions of gemmlowp that TFLM's reference kernels use. Every function takes and returns int64 arrays unless said otherwise.
"""

from __future__ import annotations

import math

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph.ir import Rounding

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def quantize_multiplier(real: float, largest_shift: int = 30) -> tuple[int, int]:
    """A non-negative real multiplier as (m, shift) with real ~ m * 2^(shift - 31), 2^30 <= m < 2^31, or (0, 0) where it is below 2^-32.

    Raises ModelError for a negative or non-finite multiplier, and for one of 2^largest_shift or more.
    """
    if not math.isfinite(real) or real < 0:
        raise ModelError(f"a scale ratio must be finite and not negative, got {real}")
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    m = math.floor(fraction * (1 << 31) + 0.5)
    if m == 1 << 31:
        m, shift = m // 2, shift + 1
    if shift < -31:
        return 0, 0
    if shift > largest_shift:
        raise ModelError(f"a scale ratio of {real} cannot be represented (2^{largest_shift} is the limit)")
    return m, shift


def quantize_multipliers(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`quantize_multiplier` of each element: (int32 multipliers, int32 shifts)."""
    pairs = [quantize_multiplier(float(r)) for r in real]
    return np.array([p[0] for p in pairs], np.int32), np.array([p[1] for p in pairs], np.int32)


def rounding_doubling_high_multiply(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """round(a * b / 2^31), ties upwards; a and b within int32. The one overflow, (-2^31)^2, saturates."""
    result = (a.astype(np.int64) * b + (1 << 30)) >> 31
    return np.minimum(result, INT32_MAX)


def rounding_divide_by_pot(x: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """x / 2^exponent, rounded half away from zero; exponent >= 0."""
    mask = (np.int64(1) << exponent) - 1
    remainder = x & mask
    return (x >> exponent) + (remainder > (mask >> 1) + (x < 0))


def multiply_by_quantized_multiplier(
    x: np.ndarray, multiplier: np.ndarray | int, shift: np.ndarray | int, rounding: Rounding = Rounding.DOUBLE
) -> np.ndarray:
    """x * multiplier * 2^(shift - 31) in integers; multiplier and shift broadcast along the last axis.

    Raises ModelError where x shifted to the left leaves int32: what a device would do then is undefined.
    """
    m, s = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    x = x.astype(np.int64)
    if rounding == Rounding.SINGLE:
        total = 31 - s
        return (x * m + (np.int64(1) << (total - 1))) >> total
    left, right = np.maximum(s, 0), np.maximum(-s, 0)
    if left.any():
        x = x << left
        if x.size and (x.max() > INT32_MAX or x.min() < INT32_MIN):
            raise ModelError("an accumulator leaves 32 bits when it is shifted left; the output scale is too small for this layer")
    return rounding_divide_by_pot(rounding_doubling_high_multiply(x, m), right)


def saturating_shift_left(x: np.ndarray, exponent: int, bits: int) -> np.ndarray:
    """x * 2^exponent, clamped to a signed integer of `bits` bits."""
    return np.clip(x << exponent, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def input_radius(integer_bits: int, left_shift: int, total_bits: int = 31) -> int:
    """Largest |input| that a fixed-point function with `integer_bits` accepts after `left_shift`."""
    largest = ((1 << integer_bits) - 1) * float(1 << (total_bits - integer_bits)) / 2.0**left_shift
    return math.floor(largest)


# Fixed point numbers Qm.n below are int32 raw values with m integer bits and n = 31 - m fractional bits.


def _rescale(x: np.ndarray, exponent: int) -> np.ndarray:
    """Multiplies a raw value by 2^exponent: saturating to the left, rounding to the right."""
    if exponent > 0:
        return saturating_shift_left(x, exponent, 32)
    return rounding_divide_by_pot(x, -exponent)


def _half_sum(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """(a + b) / 2, rounded half away from zero."""
    total = a + b
    return np.where(total >= 0, (total + 1) >> 1, -((1 - total) >> 1))


def _exp_on_quarter_interval(a: np.ndarray) -> np.ndarray:
    """exp(a) for a in [-1/4, 0), Q0.31 in and out: Taylor polynomial of degree 4 around -1/8."""
    constant_term, third = 1895147668, 715827883  # exp(-1/8) and 1/3 in Q0.31
    x = a + (1 << 28)
    x2 = rounding_doubling_high_multiply(x, x)
    x3 = rounding_doubling_high_multiply(x2, x)
    x4 = rounding_doubling_high_multiply(x2, x2)
    x4_over_4 = _rescale(x4, -2)
    tail = _rescale(rounding_doubling_high_multiply(x4_over_4 + x3, third) + x2, -1)
    return constant_term + rounding_doubling_high_multiply(x + tail, constant_term)


# exp(-2^k) in Q0.31 for k = -2 .. 4
_EXP_FACTORS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}


def exp_on_negative_values(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """exp(a) in Q0.31 for a <= 0 given as raw Q`integer_bits`. exp(0) is 2^31 - 1."""
    a = a.astype(np.int64)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    modulo = (a & (quarter - 1)) - quarter
    result = _exp_on_quarter_interval(_rescale(modulo, integer_bits))
    remainder = modulo - a
    for exponent, factor in _EXP_FACTORS.items():
        if integer_bits > exponent:
            bit = 1 << (fraction_bits + exponent)
            result = np.where(remainder & bit, rounding_doubling_high_multiply(result, factor), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (fraction_bits + 5)), 0, result)
    return np.where(a == 0, INT32_MAX, result)


def _reciprocal_of_mean(x: np.ndarray) -> np.ndarray:
    """2 / (1 + x) for x in [0, 1), raw Q0.31 in, raw Q2.29 out: three Newton-Raphson steps from 48/17 - 32/17 d, d = (1 + x) / 2."""
    half_denominator = _half_sum(x, INT32_MAX)
    estimate = 1515870810 + rounding_doubling_high_multiply(half_denominator, -1010580540)  # 48/17 and -32/17 in Q2.29
    for _ in range(3):
        error = (1 << 29) - rounding_doubling_high_multiply(half_denominator, estimate)
        estimate = estimate + _rescale(rounding_doubling_high_multiply(estimate, error), 2)
    return estimate


def one_over_one_plus_x(x: np.ndarray) -> np.ndarray:
    """1 / (1 + x) for x in [0, 1), Q0.31 in and out."""
    return _rescale(_reciprocal_of_mean(x), 1)


def one_minus_x_over_one_plus_x(x: np.ndarray) -> np.ndarray:
    """(1 - x) / (1 + x) for x in [0, 1), Q0.31 in and out."""
    return _rescale(_reciprocal_of_mean(x) - (1 << 29), 2)


def logistic(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """1 / (1 + exp(-a)) in Q0.31, a as raw Q`integer_bits`."""
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    result = np.where(a > 0, positive, INT32_MAX - positive)
    return np.where(a == 0, 1 << 30, result)


def tanh(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """tanh(a) in Q0.31, a as raw Q`integer_bits`."""
    positive = one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits + 1))  # the same raw value means 2a
    result = np.where(a > 0, positive, -positive)
    return np.where(a == 0, 0, result)


def reciprocal(x: np.ndarray, integer_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """1 / x for x > 0 given as raw Q`integer_bits`: (raw Q0.31 of the normalised reciprocal, number of bits over 1)."""
    x = x.astype(np.int64)
    headroom = 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)  # leading zeros of a 32-bit word
    bits_over_unit = integer_bits - headroom
    shifted = (x << headroom) - (1 << 31)
    return one_over_one_plus_x(shifted), bits_over_unit
