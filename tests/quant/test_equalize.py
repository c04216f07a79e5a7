"""Equalisation: the same function, evener weights, and only where a factor may pass."""

import keras
import numpy as np
import pytest

from tinykit.quant.calibrate import calibrate
from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.equalize import equalize
from tinykit.quant.fuse import fuse

L = keras.layers


def network(activation="relu", spread=100.0, two_readers=False):
    """Dense layers whose channels have weights of very different sizes."""
    random = np.random.default_rng(4)
    i = L.Input((12,))
    x = L.Dense(16, activation=activation, name="a")(i)
    y = L.Dense(12, name="b")(x)
    model = keras.Model(i, L.Add()([y, L.Dense(12, name="c")(x)]) if two_readers else y)
    gain = np.geomspace(1, spread, 16)
    model.get_layer("a").set_weights([random.normal(0, 1, (12, 16)) * gain, random.normal(0, 1, 16)])
    model.get_layer("b").set_weights([random.normal(0, 1, (16, 12)) / gain[:, np.newaxis], random.normal(0, 1, 12)])
    return model


def samples(count=256):
    return np.random.default_rng(7).normal(0, 1, (count, 12)).astype(np.float32)


@pytest.mark.parametrize("activation", ["relu", None])
def test_the_function_stays_and_the_ranges_meet(activation):
    model, x = network(activation), samples()
    program = fuse(model)
    assert equalize(program) == 1
    first, second = (node for node in program.nodes if node.kind == "fully_connected")
    largest = np.abs(first.weights["kernel"]).max(axis=0), np.abs(second.weights["kernel"]).max(axis=1)
    assert np.allclose(largest[0], largest[1], rtol=1e-5), "sqrt(r1 r2) on both sides"
    quantized = build_quantized(model, InputRange(1 / 32, 0), equalized=True)
    real = np.asarray(quantized.real_values(x)[quantized.output_node])
    assert np.abs(real - model.predict(x, verbose=0)).max() < 1e-4 * np.abs(real).max()


def test_the_integer_network_comes_nearer():
    model, x = network(), samples()
    errors = []
    for equalized in (False, True):
        quantized = build_quantized(model, InputRange(1 / 32, 0), equalized=equalized)
        calibrate(quantized, [x], "mse")
        errors.append(float(np.mean((quantized.predict(x, verbose=0) - model.predict(x, verbose=0)) ** 2)))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(("options", "why"), [({"activation": "relu6"}, "6 is not homogeneous"), ({"two_readers": True}, "two readers")])
def test_where_no_factor_may_pass_nothing_changes(options, why):
    program = fuse(network(**options))
    before = [node.weights["kernel"].copy() for node in program.nodes if node.weights]
    assert equalize(program) == 0, why
    assert all(np.array_equal(a, node.weights["kernel"]) for a, node in zip(before, [n for n in program.nodes if n.weights]))


def test_dead_channels_stay():
    model = network()
    kernel, bias = model.get_layer("a").get_weights()
    kernel[:, 3] = 0
    model.get_layer("a").set_weights([kernel, bias])
    program = fuse(model)
    equalize(program)
    weights = [node.weights["kernel"] for node in program.nodes if node.weights]
    assert not weights[0][:, 3].any() and all(np.isfinite(w).all() for w in weights)
    assert np.array_equal(weights[1][3], model.get_layer("b").get_weights()[0][3])
