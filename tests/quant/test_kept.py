"""Integer networks that keep zeros and clusters of their float weights, whatever training does to their variables."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import mismatches, samples, shake

from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.quant.allocation.network import Bits
from tinykit.quant.allocation.program import network_of
from tinykit.quant.calibrate import calibrate
from tinykit.quant.convert import InputRange, from_program, fused_program
from tinykit.quant.kept import Kept, most_values, shares_values
from tinykit.quant.lowering import lower
from tinykit.quant.model import QuantizedModel

L = keras.layers
CLUSTERS = 8


def sparse_and_clustered(table="tensor", negative=False):
    """Half of the weights 0, the rest of at most 7 values a tensor (or channel); convolutions of every kind, dense layers."""
    keras.utils.set_random_seed(3)
    inputs = L.Input((7, 5, 3))
    x = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(8, 3, padding="same", name="first")(inputs)))
    x = L.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(x)
    x = L.SeparableConv2D(6, 2, name="sep")(x)
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 1, name="point")(x)))
    x = L.Dense(16, activation="relu", name="hidden")(L.Flatten()(x))
    model = keras.Model(inputs, L.Dense(4, name="scores")(x))
    random = np.random.default_rng(1)
    shake(model, random)
    if negative:
        model.get_layer("norm").gamma.assign(-np.asarray(model.get_layer("norm").gamma))
    for variable in model.trainable_variables:
        if "kernel" in variable.path:
            rows = 1 if table == "tensor" else variable.shape[-1] * (variable.shape[-2] if "dw/" in variable.path else 1)
            values = random.normal(0, 0.5, (rows, CLUSTERS - 1))
            shape = (*variable.shape[:-2], -1) if "dw/" in variable.path else variable.shape
            number = random.integers(0, CLUSTERS - 1, np.zeros(variable.shape).reshape(shape).shape)
            drawn = values[np.arange(number.shape[-1]) % rows, number] * (random.random(number.shape) < 0.5)
            variable.assign(drawn.reshape(variable.shape))
    return model


def moved(quantized, seed=5):
    """As a training of no mercy would leave it."""
    random = np.random.default_rng(seed)
    for v in quantized.trainable_variables:
        v.assign(np.asarray(v) + random.normal(0, 0.1, v.shape))
    quantized.keep_representable()
    return quantized


def integer(model, kept, width=8, batch_norm="frozen", codebook="ternary"):
    program = fused_program(model, batch_norm)
    network = network_of(program)
    bits = Bits((8,) * network.groups, (width,) * len(network.layers))
    quantized = from_program(program, InputRange.from_affine(1 / 255, 0.0), bits, codebook, kept)
    x = samples(model, 3)
    calibrate(quantized, [x])
    return quantized, x


def columns(array):
    return array.reshape(-1, array.shape[-1])


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
@pytest.mark.parametrize("width", [8, 4, 2])
@pytest.mark.parametrize("table", ["tensor", "channel"])
def test_zeros_and_clusters_survive(table, width, batch_norm, tally):
    model = sparse_and_clustered(table)
    quantized, x = integer(model, Kept(True, CLUSTERS), width, batch_norm)
    raw = {node.name: np.asarray(node.weights["raw"]) for node in fused_program(model).nodes if node.weights}
    for _ in range(2):
        for layer in quantized.weighted_layers():
            codes = layer.codes()
            assert not codes[raw[layer.name].reshape(codes.shape) == 0].any(), f"{layer.name}: a zero was filled"
            assert most_values(columns(codes))[table == "channel"] <= CLUSTERS, layer.name
        wrong, elements, _ = mismatches(quantized, x, eager=True)
        tally("Keras vs reference, sparse and clustered", sum(wrong.values()), elements)
        assert not any(wrong.values())
        moved(quantized)


def test_the_graph_has_what_is_kept():
    quantized, _ = integer(sparse_and_clustered(), Kept(True, CLUSTERS))
    weights = [op.weights for op in lower(moved(quantized)).ops if isinstance(op, ir.Weighted)]
    assert len(weights) == 7
    assert all((w == 0).mean() > 0.4 and len(np.unique(w)) <= CLUSTERS for w in weights)


def test_clusters_begin_as_the_float_network():
    model = sparse_and_clustered()
    quantized, x = integer(model, Kept(True, CLUSTERS))
    for node, layer in zip((n for n in fused_program(model).nodes if n.weights), quantized.weighted_layers(), strict=True):
        kernel = np.asarray(node.weights["kernel"])
        np.testing.assert_allclose(np.asarray(layer.kernel()), kernel, atol=1e-5 * np.abs(kernel).max())
    assert np.abs(np.asarray(quantized(x)) - np.asarray(model(x))).max() < 0.15 * np.abs(np.asarray(model(x))).max()


def test_without_a_promise_training_fills_and_spreads():
    quantized, _ = integer(sparse_and_clustered(), Kept())
    layer = moved(quantized).weighted_layers()[0]
    assert (layer.codes() == 0).mean() < 0.3 and len(np.unique(layer.codes())) > CLUSTERS


def test_an_entry_learns_the_sum_of_its_members_gradients():
    quantized, _ = integer(sparse_and_clustered(), Kept(True, CLUSTERS))
    layer = quantized.weighted_layers()[0]
    asked = tf.random.stateless_normal(layer.kernel_shape, (1, 2))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(asked * layer.integer_weights(layer.weight_scale()))
    found = np.asarray(tape.gradient(loss, layer.table.value)).ravel()
    members, alive = np.asarray(layer.indices), np.asarray(layer.mask)
    inside = np.abs(np.asarray(layer.table)).ravel() <= 1
    for entry in np.flatnonzero(inside):
        expected = layer.level * (np.asarray(asked) * alive)[members == entry].sum()
        np.testing.assert_allclose(found[entry], expected, rtol=1e-4, atol=1e-3)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    quantized, x = integer(sparse_and_clustered(), Kept(True, CLUSTERS))
    quantized.save(tmp_path / "q.keras")
    again = keras.saving.load_model(tmp_path / "q.keras", compile=False)
    assert isinstance(again, QuantizedModel)
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(quantized(x)))
    plain, _ = integer(sparse_and_clustered(), Kept())
    assert not any("sparse" in n["config"] or "shared" in n["config"] for n in plain.get_config()["nodes"])


def test_four_levels_have_no_zero_to_keep():
    with pytest.raises(ValueError, match="have no 0"):
        integer(sparse_and_clustered(), Kept(True), width=2, codebook="four_levels")


def test_negative_gains_give_channels_other_codes():
    with pytest.raises(ModelError, match="'first': its batch norm has negative gains.*table: channel"):
        integer(sparse_and_clustered(negative=True), Kept(False, CLUSTERS))
    integer(sparse_and_clustered("channel", negative=True), Kept(False, CLUSTERS))


def test_how_weights_share_values():
    a = np.arange(40.0).reshape(20, 2)
    assert shares_values(a, 19) is None and most_values(a) == (40, 20)
    assert shares_values(a % 4, 4) == "tensor" and shares_values(a % 4, 3) == "channel"
    assert shares_values(np.arange(6.0).reshape(3, 2), 8) is None, "six weights cannot have more than eight values"
