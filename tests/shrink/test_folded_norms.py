"""Batch norms in the layers before them: the same outputs, and which stay."""

import keras
import numpy as np
import pytest
from shrinkable import L, random_network, shaken

from tinykit.models.folding import without_norms


def norms(model):
    return [layer.name for layer in model.layers if isinstance(layer, L.BatchNormalization)]


def outputs(model, seed=1):
    return np.asarray(model(np.random.default_rng(seed).normal(0, 1, (3, *model.input_shape[1:])).astype(np.float32), training=False))


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_give_the_same(seed):
    model = shaken(random_network(seed), seed)
    before = [np.array(w) for w in model.get_weights()]
    found = without_norms(model)
    wanted = outputs(model)
    np.testing.assert_allclose(outputs(found), wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))
    assert len(norms(found)) < len(norms(model)) or (found is model and not norms(model))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def hosted(layer, shape=(7, 9, 6), **options):
    inputs = L.Input(shape)
    return shaken(keras.Model(inputs, L.BatchNormalization(epsilon=0.01, **options)(layer(inputs))))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        lambda **o: L.Conv2D(5, (2, 3), strides=2, **o),
        lambda **o: L.Conv2D(4, 3, groups=2, **o),
        lambda **o: L.DepthwiseConv2D(3, depth_multiplier=2, **o),
        lambda **o: L.SeparableConv2D(5, 3, depth_multiplier=2, **o),
        lambda **o: L.Dense(5, **o),
    ],
)
def test_every_layer_that_takes_one(layer, bias):
    model = hosted(layer(use_bias=bias))
    found = without_norms(model)
    assert norms(model) and not norms(found)
    assert sum("bias" in w.path for w in found.weights) == 1
    np.testing.assert_allclose(outputs(found), outputs(model), atol=1e-5)


def test_neither_scale_nor_shift():
    model = hosted(L.Conv1D(5, 3), (11, 4), scale=False, center=False)
    found = without_norms(model)
    assert not norms(found)
    assert outputs(found).shape == outputs(model).shape
    np.testing.assert_allclose(outputs(found), outputs(model), atol=1e-5)


class Own(L.Layer):
    """A user's layer."""

    def call(self, x):
        return 2 * x


def stays(kind):
    inputs = L.Input((6, 6, 3))
    conv = L.Conv2D(3, 3, padding="same", activation="relu" if kind == "activation" else None)
    norm = L.BatchNormalization(axis=1 if kind == "axis" else -1)
    x = conv(inputs)
    y = norm(x)
    if kind == "read twice":
        y = L.Add()([x, y])
    elif kind == "called twice":
        y = norm(conv(y))
    elif kind == "norm of two":
        y = norm(L.Conv2D(3, 1)(y))
    elif kind == "own layer":
        y = Own()(y)
    return shaken(keras.Model(inputs, [x, y] if kind == "an output" else y))


@pytest.mark.parametrize("kind", ["activation", "axis", "read twice", "called twice", "norm of two", "own layer", "an output"])
def test_what_stays(kind):
    model = stays(kind)
    assert without_norms(model) is model


def test_a_subclassed_model_stays():
    class Plain(keras.Model):
        """No functional model."""

        def call(self, x):
            return x

    model = Plain()
    assert without_norms(model) is model


def test_a_sequential_model():
    model = shaken(keras.Sequential([L.Input((8, 8, 2)), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(3)]))
    found = without_norms(model)
    assert not norms(found)
    assert outputs(found).shape == outputs(model).shape
    np.testing.assert_allclose(outputs(found), outputs(model), atol=1e-5)
