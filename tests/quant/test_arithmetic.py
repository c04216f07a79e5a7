"""TensorFlow's side of the arithmetic against the NumPy side, and against the rational numbers."""

from fractions import Fraction

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.graph import fixedpoint as fp
from tinykit.quant import arithmetic

REALS = st.floats(min_value=2.0**-40, max_value=2.0**5, allow_nan=False)


@given(REALS)
def test_multiplier_is_the_same_as_in_numpy(real):
    m, shift = arithmetic.quantize_multiplier(tf.constant(real, tf.float64))
    assert (int(m), int(shift)) == fp.quantize_multiplier(real)


@settings(max_examples=60)
@given(st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=50), st.floats(min_value=2.0**-33, max_value=63.0))
def test_requantize_is_the_same_as_in_numpy(values, real):
    acc = np.array([*values, 0, 1, -1, 2**24, -(2**24)], np.int64)
    ours = arithmetic.requantize(tf.constant(acc, tf.float64), tf.constant(real, tf.float64)).numpy().astype(np.int64)
    assert np.array_equal(ours, fp.multiply_by_quantized_multiplier(acc, *fp.quantize_multiplier(real)))


@settings(max_examples=200)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(2**30, 2**31 - 1), st.integers(-31, 0))
def test_double_rounding_against_fractions(x, m, shift):
    """Round half up of x * m / 2^31, then round half away from zero of that / 2^-shift, in exact rational arithmetic."""
    first = Fraction(x * m, 2**31) + Fraction(1, 2)
    high = first.numerator // first.denominator
    second = abs(Fraction(high, 2**-shift)) + Fraction(1, 2)
    expected = (second.numerator // second.denominator) * (1 if high >= 0 else -1)
    got = fp.multiply_by_quantized_multiplier(np.array([x]), m, shift)
    assert int(got[0]) == expected
    tensor = arithmetic.multiply_by_quantized_multiplier(
        tf.constant([float(x)], tf.float64), tf.constant(float(m), tf.float64), tf.constant(shift, tf.int64)
    )
    assert int(tensor[0]) == expected


def test_gradients_are_straight_through():
    x = tf.Variable([0.2, 0.5, 1.7])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(arithmetic.round_half_up(x) * [1.0, 2.0, 3.0])
    assert np.allclose(tape.gradient(y, x), [1, 2, 3])
    with tf.GradientTape() as tape:
        y = arithmetic.straight_through(2.0 * x, tf.constant([7.0, 7.0, 7.0]))
        total = tf.reduce_sum(y)
    assert np.array_equal(y, [7, 7, 7])
    assert np.allclose(tape.gradient(total, x), 2.0)


def test_double_rounding_at_ties_and_extremes():
    """Few significant bits make exact halves common; the ends of int32 are where products are widest."""
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(150):
        shift = int(rng.integers(-31, 8))
        m = int(rng.choice([1 << 30, (1 << 31) - 1, 3 << 29, 5 << 28, int(rng.integers(1 << 30, 1 << 31))]))
        limit = (2**31 - 1) >> max(shift, 0)
        coarse = rng.integers(-(2**11), 2**11, 1000) << int(rng.integers(0, 20))
        x = np.concatenate([rng.integers(-limit, limit + 1, 500), coarse.clip(-limit, limit), [0, 1, -1, limit, -limit, -limit - 1]])
        theirs = fp.multiply_by_quantized_multiplier(x, m, shift)
        ours = arithmetic.multiply_by_quantized_multiplier(
            tf.constant(x, tf.float64), tf.constant(float(m), tf.float64), tf.constant(shift, tf.int64)
        )
        assert np.array_equal(ours.numpy().astype(np.int64), theirs), (m, shift)
        compared += len(x)
    assert compared > 200_000
