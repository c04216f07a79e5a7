"""Layers that make up for the inputs that they lose: the least squares by hand, and what it does to a network whose channels repeat."""

import keras
import numpy as np
import pytest
from shrinkable import L, random_network

from tinykit.shrink.channels import channel_map
from tinykit.shrink.reconstruct import _rows, reconstruct
from tinykit.shrink.surgery import shrink


def without(model, name, channels):
    """(channel map, mask) of a network that loses some channels of one layer."""
    found = channel_map(model)
    alive = found.everything()
    alive[found.outputs[name][channels]] = False
    return found, alive


def error(model, smaller, x):
    return float(np.abs(np.asarray(model(x)) - np.asarray(smaller(x))).max())


@pytest.mark.parametrize("bias", [True, False])
def test_dense_by_hand(bias):
    inputs = L.Input((3,))
    x = L.Dense(3, use_bias=False, name="a")(inputs)
    model = keras.Model(inputs, L.Dense(2, use_bias=bias, name="b")(x))
    rng = np.random.default_rng(0)
    model.get_layer("a").set_weights([np.eye(3)])
    kernel = rng.normal(0, 1, (3, 2))
    model.get_layer("b").set_weights([kernel, np.array([0.5, -1])] if bias else [kernel])
    found, alive = without(model, "a", [2])
    smaller = shrink(found, alive)
    x = rng.normal(1, 1, (200, 3)).astype(np.float32)
    x[:, 2] = 0.5 * x[:, 0] + 0.1 * x[:, 2] + (2 if bias else 0)
    assert reconstruct(found, alive, smaller, [x[:100], x[100:]]) == 1
    own, gone = x[:, :2].astype(np.float64), x[:, 2:].astype(np.float64)
    centre = own.mean(0), gone.mean(0)
    a, r = (own - centre[0], gone - centre[1]) if bias else (own, gone)
    gram = a.T @ a / 200
    p = np.linalg.solve(gram + 1e-2 * np.trace(gram) / 2 * np.eye(2), a.T @ r / 200)
    new = smaller.get_layer("b").get_weights()
    np.testing.assert_allclose(new[0], kernel[:2] + p @ kernel[2:], rtol=1e-4)
    if bias:
        np.testing.assert_allclose(new[1], [0.5, -1] + (centre[1] - centre[0] @ p) @ kernel[2:], rtol=1e-4)


@pytest.mark.parametrize(("padding", "strides", "dilation"), [("same", 1, 1), ("valid", 2, 1), ("same", 2, 1), ("valid", 1, 2)])
def test_a_channel_that_repeats_another_can_go_for_nothing(padding, strides, dilation):
    keras.utils.set_random_seed(0)
    inputs = L.Input((7, 9, 2))
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="a")(inputs)
    x = L.Conv2D(5, 3, padding=padding, strides=strides, dilation_rate=dilation, name="b")(x)
    model = keras.Model(inputs, L.Flatten()(x))
    kernel, bias = model.get_layer("a").get_weights()
    kernel[..., 3] = 2 * kernel[..., 1]
    model.get_layer("a").set_weights([kernel, bias])
    found, alive = without(model, "a", [3])
    smaller = shrink(found, alive)
    x = np.random.default_rng(0).normal(0, 1, (32, 7, 9, 2)).astype(np.float32)
    before = error(model, smaller, x)
    assert reconstruct(found, alive, smaller, [x]) == 1
    assert error(model, smaller, x) < 0.05 * before


@pytest.mark.parametrize("size", [(3, 3), (2, 5), (1, 1), (4, 2)])
@pytest.mark.parametrize(("padding", "strides", "dilation"), [("same", 1, 1), ("valid", 2, 1), ("same", (3, 2), 1), ("same", 1, (2, 3))])
def test_rows_times_the_kernel_are_what_the_layer_gives(size, padding, strides, dilation):
    layer = L.Conv2D(4, size, padding=padding, strides=strides, dilation_rate=dilation, use_bias=False)
    x = np.random.default_rng(0).normal(0, 1, (3, 9, 12, 5)).astype(np.float32)
    given = np.asarray(layer(x))
    places = np.random.default_rng(1).permutation(given[..., 0].size)[:100]
    rows = _rows(layer, x, given.shape[1:-1], places)
    np.testing.assert_allclose(rows @ layer.get_weights()[0].reshape(-1, 4), given.reshape(-1, 4)[places], atol=1e-5)


def test_any_network_comes_nearer_and_the_rest_stays():
    better = []
    for seed in range(6):
        model = random_network(seed)
        found = channel_map(model)
        alive = found.everything()
        for group in found.removable():
            alive[group.channels[: len(group.channels) // 4]] = False
        smaller = shrink(found, alive)
        x = np.random.default_rng(seed).normal(0, 1, (64, *model.input_shape[1:])).astype(np.float32)
        before = {layer.name: [w.copy() for w in layer.get_weights()] for layer in smaller.layers}
        first = float(np.square(np.asarray(model(x)) - np.asarray(smaller(x))).mean())
        reconstruct(found, alive, smaller, [x])
        better.append(float(np.square(np.asarray(model(x)) - np.asarray(smaller(x))).mean()) <= first)
        for layer in smaller.layers:
            if type(layer).__name__ not in ("Conv2D", "Dense"):
                assert all(np.array_equal(a, b) for a, b in zip(before[layer.name], layer.get_weights()))
    assert sum(better) >= 5


def test_nothing_to_make_up_for():
    model = random_network(1)
    found = channel_map(model)
    assert reconstruct(found, found.everything(), shrink(found, found.everything()), []) == 0
