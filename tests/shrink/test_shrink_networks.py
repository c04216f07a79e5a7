"""A network without some channels computes what the network with these channels at 0 computes."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from shrinkable import L, difference, random_cut, random_network, shaken

from tinykit.models import build_model, count_macs
from tinykit.models.load import load_model
from tinykit.shrink.channels import channel_map
from tinykit.shrink.costs import Costs
from tinykit.shrink.surgery import shrink

TOLERANCE = 1e-5
ARCHITECTURES = {
    "resnet8": ((32, 32, 3), 10, {}),
    "ds_cnn": ((49, 10, 1), 12, {}),
    "mobilenet_v1": ((32, 32, 3), 2, {"alpha": 0.25}),
    "fc_autoencoder": ((640,), 2, {}),
    "mobilenet_v2": ((32, 32, 3), 2, {"last": 64}),
}


def checked(model, seed, share=0.5):
    """Prunes at random, checks, and returns the smaller model."""
    found = channel_map(model)
    alive = random_cut(found, seed, share)
    smaller = shrink(found, alive)
    assert difference(found, smaller, alive) < TOLERANCE
    assert Costs(found).macs(alive) == count_macs(smaller)
    assert Costs(found).macs(found.everything()) == count_macs(model)
    return found, alive, smaller


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_architectures(name):
    shape, classes, options = ARCHITECTURES[name]
    found, alive, smaller = checked(shaken(build_model(name, shape, classes, options)), 3)
    assert smaller.count_params() < 0.6 * found.model.count_params()
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in found.model.layers]
    assert smaller.output_shape == found.model.output_shape
    assert {group.layers for group in channel_map(smaller).removable()} == {group.layers for group in found.removable()}


@pytest.mark.parametrize("file", ["ic_pretrainedResnet.h5", "vww_96.h5", "ad01.h5"])
def test_reference_models(file):
    path = Path(os.environ.get("TINYKIT_DATA", "missing"), "reference_models", file)
    if not path.is_file():
        pytest.skip("TINYKIT_DATA names no folder with MLPerf Tiny's reference models")
    checked(load_model(path), 4)


@pytest.mark.parametrize("seed", range(50))
def test_random_networks(seed):
    found, alive, smaller = checked(random_network(seed), seed)
    assert (smaller.count_params() < found.model.count_params()) == (not alive.all())


def test_the_test_can_fail():
    model = random_network(0)
    found = channel_map(model)
    alive = random_cut(found, 0)
    smaller = shrink(found, alive)
    smaller.layers[1].set_weights([1.01 * w for w in smaller.layers[1].get_weights()])
    assert difference(found, smaller, alive) > TOLERANCE


def test_one_channel_a_group_is_left():
    checked(random_network(7), 1, share=1.0)


def test_a_shrunk_network_can_be_saved_and_shrunk_again(tmp_path):
    _, _, smaller = checked(random_network(5), 2, share=0.3)
    smaller.save(tmp_path / "m.keras")
    checked(keras.saving.load_model(tmp_path / "m.keras"), 3, share=0.5)


def groups(model):
    return {group.layers: len(group.channels) for group in channel_map(model).removable()}


def kept(model):
    return dict(channel_map(model).kept())


def network(*layers, shape=(6, 6, 3), end=True):
    inputs = x = L.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, L.Dense(3, name="scores")(L.Flatten()(x)) if end else x)


def test_groups_by_hand():
    inputs = L.Input((6, 6, 3))
    a = L.Conv2D(8, 3, padding="same", name="a")(inputs)
    b = L.Conv2D(4, 3, padding="same", name="b")(a)
    c = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="c")(b)
    d = L.Conv2D(12, 1, name="d")(a)
    x = L.Concatenate()([L.Add()([a, c]), d])
    x = L.BatchNormalization()(x)
    model = keras.Model(inputs, L.Dense(3, name="scores")(L.Flatten()(x)))
    assert groups(model) == {("a", "b"): 4, ("d",): 12}, "a channel of b makes two of a's places"
    assert kept(model) == {"scores": "they are the network's output"}


def test_flatten_and_reshape_follow_channels():
    assert groups(network(L.Conv2D(5, 1, name="a"), L.Flatten(), L.Reshape((6, 6, 5)), L.Conv2D(2, 1, name="b"))) == {("a",): 5, ("b",): 2}
    split = network(L.Dense(8, name="a"), L.Reshape((36, 2, 4)), L.Conv2D(2, 1, name="b"))
    assert groups(split) == {("a",): 4, ("b",): 2}, "what lands in one place of the last axis goes together"
    turned = network(L.Conv2D(5, 1, name="a"), L.Permute((1, 3, 2)), L.Conv2D(2, 1, name="b"))
    assert groups(turned)[("a",)] == 1, "a width of 6 that all channels share"
    for model in (split, turned):
        checked(shaken(model), 1)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (L.Conv2D(6, 1, groups=3, name="b"), "groups=3: its input and output channels are tied to blocks"),
        (L.LayerNormalization(name="b"), "layers of kind LayerNormalization are kept as they are"),
        (L.Softmax(name="b"), "it looks at all channels at once"),
        (L.Activation("softmax", name="b"), "its function softmax looks at all channels at once"),
        (L.PReLU(shared_axes=[1, 2], name="b"), "layers of kind PReLU are kept as they are"),
        (L.BatchNormalization(axis=1, name="b"), "batch normalisation over axis 1, not the last"),
        (L.Rescaling([1.0] * 6, name="b"), "it has a constant for each channel"),
    ],
)
def test_what_is_not_understood_is_kept_and_said(layer, reason):
    model = network(L.Conv2D(6, 1, name="a"), layer, L.Conv2D(4, 1, name="c"))
    assert kept(model)["a"] == f"layer 'b': {reason}"
    assert ("c",) in groups(model)
    checked(shaken(model), 1)


def test_functions_across_channels_keep_what_they_give_and_not_what_they_read():
    model = network(L.Conv2D(6, 1, name="a"), L.Conv2D(4, 1, activation="softmax", name="b"))
    assert groups(model) == {("a",): 6}
    assert kept(model)["b"] == "layer 'b': its function softmax looks at all channels at once"


def test_masks_that_must_not_be():
    found = channel_map(network(L.Conv2D(6, 1, name="a")))
    group = found.removable()[0]
    with pytest.raises(ValueError, match="no channel of a would be left"):
        shrink(found, found.everything() & ~np.isin(np.arange(found.count), group.channels))
    with pytest.raises(ValueError, match="must stay"):
        shrink(found, np.zeros(found.count, bool))
    with pytest.raises(ValueError, match="expected a mask"):
        shrink(found, np.ones(3, bool))
