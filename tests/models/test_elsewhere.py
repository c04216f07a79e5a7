"""Models from elsewhere that are accepted: outputs as in the framework that made them, integer networks exact."""

import os
from pathlib import Path

import elsewhere
import keras
import numpy as np
import pytest
from elsewhere import MEAN, VARIANCE, accepted, kinds, network, randomise, save

from tinykit.errors import ModelError
from tinykit.models import load_model

tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
REFERENCE = Path(os.environ.get("TINYKIT_DATA", "")) / "reference_models"
KERAS_3, KERAS_2 = (keras, "keras"), (tf_keras, "h5")
FORMS = [(keras, "h5"), (keras, "keras"), (tf_keras, "h5"), (tf_keras, "keras"), (tf_keras, "folder")]
NAMED = pytest.mark.parametrize(("package", "form"), FORMS, ids=[f"{package.__name__}-{form}" for package, form in FORMS])
BOTH = pytest.mark.parametrize(("package", "form"), [KERAS_3, KERAS_2], ids=["keras3", "keras2"])


@pytest.mark.parametrize("end", ["softmax", "layer", "activation", "logits", "sigmoid"])
@BOTH
def test_every_way_in_which_models_end(tmp_path, tally, package, form, end):
    model = network(package, end=end)
    _, quantized = accepted(model, save(model, tmp_path, form), tally)
    assert kinds(quantized)[-1] == {"logits": "fully_connected", "sigmoid": "table"}.get(end, "softmax")


def two_levels(package):
    """A Sequential in a functional model in a functional model, and a layer and a model that are used twice."""
    layers = package.layers
    inner = package.Sequential(
        [layers.Input((6, 6, 3)), layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()], name="inner"
    )
    block_input = layers.Input((6, 6, 3))
    block = package.Model(block_input, layers.Add()([inner(block_input), block_input]), name="block")
    inputs = layers.Input((6, 6, 3))
    shared = layers.Conv2D(3, 1, name="shared")
    x = block(shared(block(shared(inputs))))
    return randomise(package.Model(inputs, layers.Dense(2, activation="softmax")(layers.Flatten()(x))))


@NAMED
def test_nested_and_shared_layers(tmp_path, tally, package, form):
    model = two_levels(package)
    loaded, quantized = accepted(model, save(model, tmp_path, form), tally)
    assert loaded.count_params() == model.count_params(), "a shared layer stays one layer"
    assert kinds(quantized).count("conv2d") == 4, "and becomes one operation for each of its calls"
    shared = [node for spec, node in zip(quantized.specs, quantized.nodes) if spec["name"].startswith("shared")]
    first, second = (node.get_weights()[0] for node in shared)
    np.testing.assert_array_equal(first, second)


def scalings(layers):
    """Preprocessing that a model may begin with: (functions, largest input)."""
    return {
        "by": ([layers.Rescaling(1 / 255)], 255.0),
        "offset": ([layers.Rescaling(1 / 127.5, offset=-1.0)], 255.0),
        "one mean": ([layers.Normalization(axis=None, mean=0.5, variance=0.04)], 1.0),
        "means": ([layers.Normalization(mean=MEAN, variance=VARIANCE)], 1.0),
        "both": ([layers.Rescaling(1 / 255), layers.Normalization(mean=MEAN, variance=VARIANCE)], 255.0),
        "operators": ([lambda x: (x - 127.5) / 127.5], 255.0),
        "reversed": ([lambda x: 1.0 - 2.0 * x], 1.0),
        "list": ([lambda x: x * np.array([0.5, 1.0, 2.0], np.float32)], 1.0),
    }


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("name", list(scalings(keras.layers)))
@BOTH
def test_preprocessing_inside(tmp_path, tally, package, form, name, padding):
    before, top = scalings(package.layers)[name]
    model = network(package, before, padding)
    _, quantized = accepted(model, save(model, tmp_path, form), tally, top)
    free = padding == "valid" or name in ("by", "list")
    explicit = [] if free else ["depthwise_conv2d"]
    assert kinds(quantized) == [*explicit, "conv2d", "mean", "fully_connected", "softmax"], "folded where that is exact, else one operation"


@NAMED
def test_an_adapted_normalization_keeps_what_it_learned(tmp_path, tally, package, form):
    layer = package.layers.Normalization()
    layer.adapt(np.random.RandomState(3).normal(0.5, [0.1, 0.2, 0.3], (64, 6, 6, 3)).astype(np.float32))
    inputs = package.layers.Input((6, 6, 3))
    model = package.Model(inputs, elsewhere.tail(package.layers, layer(inputs)))
    accepted(model, save(model, tmp_path, form), tally)


@BOTH
def test_functions_as_layers(tmp_path, tally, package, form):
    import tensorflow as tf

    functions = tf.nn if package is tf_keras else keras.ops
    inputs = package.layers.Input((6, 6, 3))
    x = package.layers.Conv2D(3, 3, padding="same")(inputs)
    x = functions.relu6(functions.relu(x) + x)
    x = functions.softmax(package.layers.Dense(2)(package.layers.Flatten()(x * 0.5)))
    model = randomise(package.Model(inputs, x))
    accepted(model, save(model, tmp_path, form), tally)


@BOTH
def test_augmentation_layers_do_nothing(tmp_path, tally, package, form):
    layers = package.layers
    augment = package.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="augment")
    model = network(package, [augment, layers.Rescaling(1 / 255)])
    _, quantized = accepted(model, save(model, tmp_path, form), tally, 255.0)
    assert kinds(quantized)[0] == "conv2d"


def test_every_reference_model_of_keras_2(tmp_path):
    paths = sorted(REFERENCE.glob("*.h5"))
    if not paths:
        pytest.skip("TINYKIT_DATA does not hold reference_models")
    for path in paths:
        expected, loaded = tf_keras.models.load_model(path, compile=False), load_model(path)
        x = elsewhere.samples(loaded, count=4)
        np.testing.assert_allclose(np.asarray(loaded(x)), np.asarray(expected(x)), rtol=0, atol=1e-5, err_msg=path.name)


# ---- loaded, but no integer network


def refused_layers(loaded):
    from tinykit.quant.fuse import fuse

    with pytest.raises(ModelError) as caught:
        fuse(loaded)
    return str(caught.value)


@BOTH
def test_recurrent_layers_are_all_named_at_once(tmp_path, package, form):
    layers = package.layers
    inputs = layers.Input((6, 3))
    x = layers.LSTM(4, return_sequences=True, name="first")(inputs)
    x = layers.Bidirectional(layers.GRU(2), name="second")(x)
    model = randomise(package.Model(inputs, layers.Dense(2)(layers.LayerNormalization(name="third")(x))))
    loaded = load_model(save(model, tmp_path, form))
    x = elsewhere.samples(model)
    np.testing.assert_allclose(np.asarray(loaded(x)), np.asarray(model(x)), rtol=0, atol=1e-5)
    text = refused_layers(loaded)
    assert text.count("layer '") == 3 and all(f"'{name}'" in text for name in ("first", "second", "third"))


@BOTH
def test_two_inputs_are_refused(tmp_path, package, form):
    layers = package.layers
    a, b = layers.Input((4,)), layers.Input((4,))
    model = package.Model([a, b], layers.Dense(2)(layers.Add()([a, b])))
    assert "2 inputs and 1 outputs" in refused_layers(load_model(save(model, tmp_path, form)))


def test_resizing_is_pointed_to_the_configuration(tmp_path):
    model = network(keras, [keras.layers.Resizing(6, 6)])
    assert "use `resize` in data.preprocess" in refused_layers(load_model(save(model, tmp_path, "keras")))
