"""TFLM's integer arithmetic in TensorFlow, with straight-through gradients.

Integers ride in floating point: float32 holds them exactly below 2^24, float64 below 2^53. Every formula here stays below its limit for
inputs within int32, so the forward pass is exact; `tinykit.graph.fixedpoint` is the same arithmetic in NumPy and the tests compare them.
Rounding and requantisation have the gradient of the linear map that they approximate (straight-through estimator, Bengio et al. 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf


@tf.custom_gradient
def round_half_up(x):  # type: ignore[no-untyped-def]
    """floor(x + 1/2) forward, identity backward."""
    return tf.floor(x + 0.5), lambda upstream: upstream


@tf.custom_gradient
def straight_through(linear, exact):  # type: ignore[no-untyped-def]
    """`exact` forward, the gradient of `linear` backward. Same shape and dtype."""
    return tf.identity(exact), lambda upstream: (upstream, None)


SCALE_BITS = 12
CHANNEL_SCALE_BITS = 6
LEFT_SHIFT = 20
"""Of both operands of ADD and SUB."""


def short_scale(scale: tf.Tensor, bits: int = SCALE_BITS) -> tf.Tensor:
    """A positive float32 scale rounded to `bits` significant bits, with a straight-through gradient.

    The product of two scales of 12 bits is exact in float32, so that an interpreter that multiplies them in float32 and one that multiplies
    them in double derive the same multiplier: TFLM's FULLY_CONNECTED has done either, depending on its version. Scales of 6 bits, one a
    channel of weights, take a byte each in flash (`tinykit.engine.compact`); weights are rounded to the step that results.
    """
    drop = 24 - bits
    bits = tf.bitcast(tf.stop_gradient(scale), tf.int32) + (1 << (drop - 1))
    rounded = tf.bitcast(tf.bitwise.bitwise_and(bits, tf.constant(-(1 << drop), tf.int32)), tf.float32)
    return straight_through(scale, rounded)


def power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    """2^exponent as float64, exponent int64 in -1022..1023, built from the bits of the number so that it is exact."""
    return tf.bitcast(tf.bitwise.left_shift(exponent + 1023, tf.constant(52, tf.int64)), tf.float64)


def quantize_multiplier(real: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A positive float64 multiplier as (m, shift), real ~ m * 2^(shift - 31): m float64 with an integer value, shift int64.

    The exponent comes from the bits of the number (as frexp), not from a logarithm. Below 2^-32 both are 0, as in TFLM.
    """
    bits = tf.bitcast(real, tf.int64)
    field = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(52, tf.int64)), tf.constant(2047, tf.int64))
    shift = field - 1022
    m = tf.floor(real * power_of_two(-shift) * 2.0**31 + 0.5)
    overflow = m >= 2.0**31
    m, shift = tf.where(overflow, m / 2, m), tf.where(overflow, shift + 1, shift)
    tiny = shift < -31
    return tf.where(tiny, tf.zeros_like(m), m), tf.where(tiny, tf.zeros_like(shift), shift)


@dataclass(frozen=True)
class Factors:
    """A multiplier m * 2^(shift - 31) as the factors of `rescale`, float64, one number or one for each entry of the last axis.

    Attributes:
        low, high: the lower 16 and the upper 15 bits of m, with the shift where it is to the left.
        right: the shift to the right, a little more than a power of two.
    """

    low: tf.Tensor
    high: tf.Tensor
    right: tf.Tensor

    @staticmethod
    def of(m: tf.Tensor, shift: tf.Tensor) -> Factors:
        """m: float64 with an integer value below 2^31; shift: int64 of the same shape."""
        zero = tf.zeros_like(shift)
        left = power_of_two(tf.maximum(shift, zero))
        m_high = tf.floor(m / 65536.0)
        right = power_of_two(tf.minimum(shift, zero)) * (1.0 + 2.0**-33)
        return Factors((m - m_high * 65536.0) * left / 65536.0, m_high * left / 32768.0, right)

    @staticmethod
    def of_real(real: tf.Tensor) -> Factors:
        """Of a positive float64 multiplier."""
        return Factors.of(*quantize_multiplier(real))

    @property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """In the order of the arguments of `rescale`."""
        return self.low, self.high, self.right


def rescale(acc: tf.Tensor, low: tf.Tensor, high: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """acc times the multiplier of these `Factors` with TFLM's double rounding, in ten passes over the tensor, or one where a compiler makes
    one loop of them (`tinykit.quant.loops`).

    The 31-bit multiplier is split in 15 + 16 bits, so that no product needs more than 47 bits; products are exact, so that a compiler may
    contract a product and a sum. The second rounding is half away from zero: a factor of 1 + 2^-33 moves an exact half over the edge on
    either side and, as the value has at most 31 bits, nothing else, whether that product is rounded or not.
    """
    carried = tf.floor(acc * low + 16384.0)
    rounded = tf.floor(acc * high + carried / 32768.0)
    return tf.floor(rounded * right + 0.5)


def requantize(acc: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """acc * real with TFLM's double rounding: float64 integers in and out, |acc * 2^max(shift, 0)| < 2^31; real broadcasts along the last
    axis."""
    return rescale(acc, *Factors.of_real(real).tensors)


def multiply_by_quantized_multiplier(acc: tf.Tensor, m: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """acc * m * 2^(shift - 31) with double rounding."""
    return rescale(acc, *Factors.of(m, shift).tensors)


def unity(x: tf.Tensor) -> tf.Tensor:
    """Ones of the shape of x, which has no zeros, with the gradient of x / stop_gradient(x)."""
    return straight_through(x / tf.stop_gradient(x), tf.ones_like(x))


def to_float64(x: tf.Tensor) -> tf.Tensor:
    """x in float64, without a gradient: the exact path of a straight-through pair."""
    return tf.cast(tf.stop_gradient(x), tf.float64)
