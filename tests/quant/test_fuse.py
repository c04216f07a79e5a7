"""Fusing: the float program computes what the Keras model computes, and everything unsupported is named at once."""

import keras
import numpy as np
import pytest
from networks import image_network, samples, sequence_network, shake

from tinykit.errors import ModelError
from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.fuse import fuse, supported_layers

L = keras.layers


def agrees(model, x, batch_norm="frozen"):
    q = build_quantized(model, InputRange(1 / 255, -128), batch_norm)
    ours = np.asarray(q.real_values(x)[q.output_node])
    theirs = model.predict(x, verbose=0)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_float_program_equals_the_model(seed):
    for model in (image_network(seed), sequence_network(seed)):
        assert agrees(model, samples(model, seed)) < 2e-5


def test_batch_norm_kept_as_variables_computes_the_same():
    model = image_network(3)
    assert agrees(model, samples(model, 3), "update") < 2e-5


def test_folding_and_fusing_leave_one_node_a_layer():
    i = L.Input((9, 9, 3))
    x = L.ZeroPadding2D(((0, 1), (0, 1)))(i)
    x = L.Conv2D(4, 3, strides=2, use_bias=False)(x)
    x = L.BatchNormalization()(x)
    x = L.Dropout(0.5)(x)
    x = L.ReLU(6.0)(x)
    model = keras.Model(i, x)
    nodes = fuse(model).nodes
    assert [n.kind for n in nodes] == ["conv2d"]
    assert nodes[0].config["padding"] == (0, 1, 0, 1)
    assert nodes[0].max_real == 6.0 and not nodes[0].signed


def test_a_tensor_with_two_readers_is_not_fused_away():
    i = L.Input((5, 5, 2))
    x = L.Conv2D(2, 3, padding="same", name="c")(i)
    y = L.BatchNormalization(name="n")(x)
    model = keras.Model(i, L.Add(name="a")([x, y]))
    shake(model, np.random.default_rng(0))
    assert [n.name for n in fuse(model).nodes] == ["c", "n", "a"]
    assert agrees(model, samples(model, 0)) < 2e-5


def test_a_shared_layer_becomes_two_nodes():
    i = L.Input((5, 5, 2))
    shared = L.Conv2D(2, 3, padding="same", name="c")
    model = keras.Model(i, shared(shared(i)))
    assert [n.name for n in fuse(model).nodes] == ["c", "c_1"]
    assert agrees(model, samples(model, 0)) < 2e-5


def test_every_unsupported_layer_is_named_at_once():
    i = L.Input((8, 8, 2))
    x = L.Conv2DTranspose(3, 3, name="up")(i)
    x = L.Conv2D(4, 3, groups=1, activation="elu", name="curved")(x)
    x = L.LayerNormalization(name="norm")(x)
    x = L.ReLU(4.0, name="odd_relu")(x)
    x = L.GlobalAveragePooling2D()(x)
    with pytest.raises(ModelError) as caught:
        fuse(keras.Model(i, L.Dense(2)(x)))
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    for name in ("'up'", "'curved'", "'norm'", "'odd_relu'"):
        assert name in text


def test_a_variable_input_size_is_refused():
    i = L.Input((None, 8, 2))
    with pytest.raises(ModelError, match="not fixed"):
        fuse(keras.Model(i, L.Conv2D(2, 3)(i)))


def test_two_outputs_are_refused():
    i = L.Input((4,))
    with pytest.raises(ModelError, match="2 outputs"):
        fuse(keras.Model(i, [L.Dense(2)(i), L.Dense(3)(i)]))


def test_supported_layers_exist_in_keras():
    for name in supported_layers():
        assert hasattr(L, name), name
