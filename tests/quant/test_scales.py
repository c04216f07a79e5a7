"""Scales are short enough that every version of TFLM derives the same multipliers from them."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from networks import image_network, quantized, samples

from tinykit.graph import fixedpoint, ir
from tinykit.quant.arithmetic import SCALE_BITS, short_scale
from tinykit.quant.convert import InputRange
from tinykit.quant.lowering import lower


def significant_bits(value: float) -> int:
    fraction, _ = math.frexp(value)
    whole = int(fraction * (1 << 53))
    return 53 - (whole & -whole).bit_length() + 1


@given(st.floats(min_value=2.0**-30, max_value=2.0**20, width=32))
def test_short_scale_is_the_nearest_value_of_12_bits(value):
    got = float(short_scale(tf.constant(value, tf.float32)))
    fraction, exponent = math.frexp(value)
    assert got == math.ldexp(math.floor(fraction * 4096 + 0.5), exponent - 12)
    assert significant_bits(got) <= SCALE_BITS
    assert InputRange(value, 0).scale == got


def test_short_scale_passes_the_gradient():
    x = tf.Variable(0.0123)
    with tf.GradientTape() as tape:
        y = 3.0 * short_scale(x)
    assert float(tape.gradient(y, x)) == pytest.approx(3.0)


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_single_and_double_precision_give_the_same_multiplier(seed):
    model = image_network(seed)
    graph = lower(quantized(model, samples(model, seed)))
    dense = [op for op in graph.ops if isinstance(op, ir.FullyConnected)]
    assert dense
    for op in dense:
        x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
        single = float(np.float32(x.scale) * op.weight_scale[0]) / float(np.float32(y.scale))
        double = float(np.float32(x.scale)) * float(op.weight_scale[0]) / float(np.float32(y.scale))
        assert fixedpoint.quantize_multiplier(single) == fixedpoint.quantize_multiplier(double) == (op.multiplier[0], op.shift[0])
    assert all(significant_bits(t.scale) <= SCALE_BITS for t in graph.activations())


def test_rounding_the_input_scale_moves_no_integer():
    for real in (1 / 255, 1 / 127.5, 0.5847029, 1.0, 0.0625):
        r = InputRange(real, -128)
        u = np.arange(256)
        assert np.array_equal(np.floor(u * real / r.scale + 0.5), u)
