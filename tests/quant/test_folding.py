"""Scales and shifts in front of layers with weights: folded where that is the same in real arithmetic, else an operation of their own."""

import keras
import numpy as np
import pytest
from networks import mismatches, quantized, samples, shake

from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.fuse import fuse

L = keras.layers
GAIN, SHIFT = [0.5, 2.0, -1.5], [0.1, 0.0, -0.3]


def network(before, reader, *between):
    keras.utils.set_random_seed(1)
    inputs = L.Input((5, 6, 3))
    x = before(inputs)
    for layer in (*between, reader):
        x = layer(x)
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(L.ReLU()(x))))
    shake(model, np.random.default_rng(0))
    return model


def check(model, tally, kinds):
    """The operations are `kinds`, the float program is the model's, the integers are the reference's."""
    x = samples(model, 0)
    built = build_quantized(model, InputRange(1 / 255, -128))
    assert [spec["kind"] for spec in built.specs] == [*kinds, "reshape", "fully_connected"]
    expected = np.asarray(model(x, training=False))
    np.testing.assert_allclose(np.asarray(built.real_values(x)[built.output_node]), expected, rtol=1e-4, atol=1e-5)
    wrong, compared, _ = mismatches(quantized(model, x), x)
    tally("folded scales, Keras = reference", sum(wrong.values()), compared)
    assert not any(wrong.values())


@pytest.mark.parametrize(
    ("reader", "kinds"),
    [
        (lambda **k: L.Conv2D(4, 3, **k), ["conv2d"]),
        (lambda **k: L.Conv2D(4, (2, 3), strides=2, use_bias=False, **k), ["conv2d"]),
        (lambda **k: L.DepthwiseConv2D(3, depth_multiplier=2, **k), ["depthwise_conv2d"]),
        (lambda **k: L.SeparableConv2D(4, 3, **k), ["depthwise_conv2d", "conv2d"]),
    ],
)
def test_into_convolutions(tally, reader, kinds):
    check(network(L.Rescaling(GAIN, SHIFT), reader(padding="valid")), tally, kinds)
    check(network(L.Rescaling(GAIN), reader(padding="same")), tally, kinds)
    check(network(L.Rescaling(GAIN, SHIFT), reader(padding="same")), tally, ["depthwise_conv2d", *kinds])


def test_into_dense_and_behind_what_does_nothing(tally):
    check(network(L.Rescaling(GAIN, SHIFT), L.Dense(4)), tally, ["conv2d"])
    check(network(L.Rescaling(GAIN, SHIFT), L.Conv2D(4, 3), L.Dropout(0.5)), tally, ["conv2d"])
    check(network(L.Rescaling(3.0, 0.5), L.Conv2D(4, 3), L.Normalization(mean=[0.5] * 3, variance=[1, 4, 9])), tally, ["conv2d"])
    check(network(L.ZeroPadding2D(1), L.Conv2D(4, 3), L.Rescaling(GAIN, SHIFT)), tally, ["conv2d"])


def test_what_is_not_folded(tally):
    check(network(L.Rescaling(GAIN, SHIFT), L.Conv2D(4, 3), L.ZeroPadding2D(1)), tally, ["depthwise_conv2d", "conv2d"])
    check(network(L.BatchNormalization(), L.Conv2D(4, 3)), tally, ["depthwise_conv2d", "conv2d"])
    inputs = L.Input((5, 6, 3))
    x = L.Rescaling(GAIN, SHIFT)(inputs)
    twice = keras.Model(inputs, L.Add()([L.Conv2D(3, 1)(x), x]))
    assert [node.kind for node in fuse(twice).nodes] == ["depthwise_conv2d", "conv2d", "add"]


def test_one_dimensional(tally):
    inputs = L.Input((9, 3))
    x = L.Conv1D(4, 3)(L.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.04, 0.09, 0.16])(inputs))
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))
    check(model, tally, ["reshape", "conv2d"])


def test_a_padding_that_the_model_begins_with_is_not_moved():
    causal = L.Conv1D(4, 3, padding="causal")
    inputs = L.Input((9, 3))
    model = keras.Model(inputs, causal(L.Rescaling(1.0, 0.5)(inputs)))
    assert [node.kind for node in fuse(model).nodes][:3] == ["reshape", "depthwise_conv2d", "conv2d"]
