"""Model families: the published multiply-accumulates, options, and counting by hand."""

import math

import numpy as np
import pytest

from tinykit.errors import ConfigError, ModelError
from tinykit.models import build_model, count_macs, layer_macs, model_names, model_options
from tinykit.models.blocks import round_channels
from tinykit.models.registry import MODELS

# family -> input, classes, options, MACs (MLPerf Tiny's where the model is theirs), parameters
KNOWN = {
    "cnn": ((8, 8, 1), 10, {}, 120_128, 14_618),
    "conv1d": ((128, 9), 6, {}, 251_168, 11_638),
    "ds_cnn": ((49, 10, 1), 12, {}, 2_656_768, 24_908),
    "fc_autoencoder": ((640,), 2, {}, 264_192, 269_992),
    "mobilenet_v1": ((96, 96, 3), 2, {"alpha": 0.25}, 7_489_664, 221_794),
    "mobilenet_v2": ((96, 96, 3), 2, {}, 10_656_688, 412_770),
    "resnet8": ((32, 32, 3), 10, {}, 12_501_632, 78_666),
    "staged": (
        (9, 7, 1),
        2,
        {
            "stages": [
                {"block": "conv", "filters": 4, "stride": 2},
                {"block": "separable", "filters": 8, "kernel": [5, 3]},
                {"block": "inverted", "filters": 8, "expanded": 12, "repeats": 2},
            ]
        },
        20 * (9 * 4 + 15 * 4 + 4 * 8 + 2 * (8 * 12 + 9 * 12 + 12 * 8)) + 8 * 2,
        (9 * 4 + 15 * 4 + 4 * 8 + 2 * (8 * 12 + 9 * 12 + 12 * 8)) + 4 * (4 + 4 + 8 + 2 * (12 + 12 + 8)) + 8 * 2 + 2,
    ),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_multiply_accumulates_and_parameters(name):
    shape, classes, options, macs, parameters = KNOWN[name]
    model = build_model(name, shape, classes, options)
    assert count_macs(model) == macs
    assert model.count_params() == parameters == sum(row.parameters for row in layer_macs(model))
    assert model.output_shape[1:] == (shape if name == "fc_autoencoder" else (classes,))
    assert model.predict(np.zeros((2, *shape), np.float32), verbose=0).shape == (2, *model.output_shape[1:])


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_entry_has_a_docstring_with_source_and_example(name):
    import re

    import yaml

    entry = MODELS[name]
    assert "Source" in entry.doc and "Example:" in entry.doc
    assert entry.options.__doc__ and model_options(name) is entry.options
    assert all(f"{field}:" in entry.options.__doc__ for field in entry.options.model_fields if field != "softmax")
    example = yaml.safe_load(re.search(r"Example:\s+(.*)", entry.doc).group(1))["model"]
    shape, classes, _, _, _ = KNOWN[name]
    assert example["name"] == name and build_model(name, shape, classes, example["options"])


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"fc_autoencoder"}))
def test_softmax_is_a_layer_of_its_own(name):
    import keras

    shape, classes, options, macs, _ = KNOWN[name]
    with_softmax = build_model(name, shape, classes, options)
    logits = build_model(name, shape, classes, {**options, "softmax": False})
    assert isinstance(with_softmax.layers[-1], keras.layers.Softmax)
    assert isinstance(logits.layers[-1], keras.layers.Dense) and logits.layers[-1].activation is keras.activations.linear
    assert count_macs(logits) == macs


def test_weights_come_from_the_global_seed():
    import keras

    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        weights.append(build_model("cnn", (8, 8, 1), 10, {}).get_weights()[0])
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


def test_options():
    import keras

    model = build_model(
        "cnn", (8, 8, 1), 3, {"filters": [4, 6], "strides": [2, 1], "head": "flatten", "dense": 5, "dropout": 0.5, "kernel": 5}
    )
    assert [layer.strides for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [(2, 2), (1, 1)]
    assert count_macs(model) == 16 * 25 * 4 + 16 * 25 * 4 * 6 + 96 * 5 + 15
    model = build_model("ds_cnn", (49, 10, 1), 12, {"dropout": [0, 0], "blocks": 1, "filters": 8})
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in model.layers)
    model = build_model("mobilenet_v2", (32, 32, 1), 2, {"last": 0, "dropout": 0.1})
    assert model.layers[-2].output.shape == (None, 2) and count_macs(model) < 10**6
    assert build_model("resnet8", (17, 13, 2), 2, {"filters": [4, 8]}).count_params() < 3000


def test_round_channels():
    assert [round_channels(value) for value in (1, 8, 11.2, 12, 33.6, 112)] == [8, 8, 16, 16, 32, 112]


def test_all_problems_of_the_options_come_at_once():
    assert model_names() == tuple(sorted(KNOWN))
    with pytest.raises(ConfigError, match="did you mean 'mobilenet_v1'"):
        build_model("mobilnet_v1", (96, 96, 3), 2, {})
    with pytest.raises(ConfigError) as caught:
        build_model("cnn", (8, 8, 1), 10, {"filter": [4], "dropout": 1, "kernel": "wide", "filters": [0]})
    assert len(caught.value.problems) == 4 and "did you mean 'filters'" in str(caught.value)
    with pytest.raises(ConfigError, match="expected a mapping"):
        build_model("cnn", (8, 8, 1), 10, [])
    with pytest.raises(ConfigError, match="below 1"):
        build_model("ds_cnn", (49, 10, 1), 10, {"dropout": [0, 1]})


@pytest.mark.parametrize("name", sorted(MODELS))
def test_wrong_inputs(name):
    with pytest.raises(ModelError, match=rf"model {name}: needs an input \["):
        build_model(name, (2, 3, 4, 5), 2, {})
    with pytest.raises(ModelError, match=r"needs an input|received shape \[0"):
        build_model(name, (0, *KNOWN[name][0][1:]), 2, {})
    with pytest.raises(ModelError, match="1 class or more"):
        build_model(name, KNOWN[name][0], 0, {})


def test_strides_and_filters_must_match():
    with pytest.raises(ModelError, match="2 filters and 3 strides"):
        build_model("cnn", (8, 8, 1), 10, {"filters": [4, 4], "strides": [1, 1, 1]})


def one(layer, shape):
    import keras

    inputs = keras.Input(shape)
    return layer_macs(keras.Model(inputs, layer(inputs)))[0]


def test_counted_by_hand():
    from keras import layers

    cases = [
        (layers.Conv2D(5, (3, 2), 2, padding="same"), (7, 11, 3), 4 * 6 * 5 * 6 * 3),
        (layers.Conv2D(6, 3, groups=3), (7, 11, 9), 5 * 9 * 6 * 9 * 3),
        (layers.Conv2D(4, 3, dilation_rate=2, use_bias=False), (7, 11, 3), 3 * 7 * 4 * 9 * 3),
        (layers.Conv1D(4, 5, 2), (31, 3), 14 * 4 * 5 * 3),
        (layers.Conv1D(4, 5, padding="causal"), (31, 3), 31 * 4 * 5 * 3),
        (layers.Conv3D(2, 2), (3, 4, 5, 2), 2 * 3 * 4 * 2 * 8 * 2),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (7, 11, 3), 5 * 9 * 6 * 9),
        (layers.DepthwiseConv1D(3), (7, 3), 5 * 3 * 3),
        (layers.SeparableConv2D(5, 3, depth_multiplier=2), (7, 11, 3), 5 * 9 * (6 * 9 + 6 * 5)),
        (layers.SeparableConv1D(5, 3), (7, 3), 5 * (3 * 3 + 3 * 5)),
        (layers.Conv2DTranspose(5, 3, 2, padding="same"), (7, 11, 3), 7 * 11 * 3 * 9 * 5),
        (layers.Dense(5), (7,), 35),
        (layers.Dense(5), (4, 7), 140),
        (layers.BatchNormalization(), (7, 3), 0),
        (layers.AveragePooling2D(2), (7, 5, 3), 0),
    ]
    for layer, shape, macs in cases:
        row = one(layer, shape)
        assert (row.macs, row.kind) == (macs, type(layer).__name__), row
        assert row.parameters == sum(math.prod(weight.shape) for weight in layer.weights)
        assert row.output_shape == tuple(layer.output.shape[1:])


def test_shared_and_nested_layers():
    import keras

    shared = keras.layers.Dense(7, name="shared")
    inner_input = keras.Input((7,))
    inner = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3, name="inner")])
    outer = keras.Model(inner_input, inner(shared(shared(inner_input))))
    assert [(row.name, row.macs, row.parameters) for row in layer_macs(outer)] == [
        ("shared", 49, 56),
        ("shared", 49, 0),
        ("inner", 21, 24),
    ]
    assert count_macs(inner) == 21


def test_what_cannot_be_counted_is_an_error():
    import keras

    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, keras.layers.LSTM(4, name="a")(keras.layers.GRU(4, return_sequences=True, name="b")(inputs)))
    with pytest.raises(ModelError) as caught:
        count_macs(model)
    assert len(caught.value.problems) == 2 and "layer 'b'" in caught.value.problems[0]
    inputs = keras.Input((None, 3))
    with pytest.raises(ModelError, match="not fixed"):
        count_macs(keras.Model(inputs, keras.layers.Conv1D(3, 3)(inputs)))
    with pytest.raises(ModelError, match="without an input shape"):
        count_macs(keras.Sequential([keras.layers.Dense(3)]))

    class Own(keras.Model):
        pass

    with pytest.raises(ModelError, match="no functional model"):
        count_macs(Own())
