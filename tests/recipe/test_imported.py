"""A user's model that begins with preprocessing: what joins the chain, what stays, and samples that would be scaled twice."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tinykit.config.loading import load_config
from tinykit.data.preprocess import Chain
from tinykit.errors import ModelError
from tinykit.models.preprocessing import leading_scalings
from tinykit.recipe.imported import absorb
from tinykit.recipe.runner import run
from tinykit.steps.integers import input_range

L = keras.layers
MEAN, VARIANCE = [0.4, 0.5, 0.6], [0.04, 0.09, 0.16]


def model(*before, shape=(6, 6, 3)):
    inputs = x = L.Input(shape)
    for layer in before:
        x = layer(x)
    x = L.Conv2D(4, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.Flatten()(x)))


def data(dtype="uint8", shape=(6, 6, 3)):
    random = np.random.RandomState(0)
    x = random.randint(0, 256, (8, *shape)).astype(dtype)
    x[0], x[1] = 0, 255
    return SimpleNamespace(train=SimpleNamespace(x=x if dtype == "uint8" else x / np.float32(255)))


def same(original, rest, dataset, before, after):
    """The whole model behind the declared chain is the rest of it behind the longer one."""
    expected = original(before.apply(dataset.train.x), training=False)
    np.testing.assert_allclose(rest(after.apply(dataset.train.x), training=False), expected, rtol=0, atol=1e-5)


def names(any_model):
    return [type(layer).__name__ for layer in any_model.layers]


@pytest.mark.parametrize(
    ("layers", "affine", "zero"),
    [
        ([L.Rescaling(1 / 255)], (1 / 255, 0.0), -128),
        ([L.Rescaling(1 / 255), L.Rescaling(2.0, -1.0)], (2 / 255, -1.0), -1),  # 0 lies between two integers: half a step of error
        ([L.Rescaling(1 / 128, -1.0)], (1 / 128, -1.0), 0),
        ([L.Normalization(axis=None, mean=127.0, variance=64.0**2)], (1 / 64, -127 / 64), -1),
        ([L.RandomFlip(), L.RandomZoom(0.1, fill_mode="nearest"), L.Rescaling(1 / 255)], (1 / 255, 0.0), -128),
        ([L.Normalization(mean=[7.0] * 3, variance=[4.0] * 3)], (0.5, -3.5), -121),
    ],
)
def test_one_scale_for_the_whole_tensor_becomes_the_inputs_quantisation(layers, affine, zero):
    original, dataset = model(*layers), data()
    rest, chain, lines = absorb(original, dataset, Chain())
    assert not {"Rescaling", "Normalization"} & set(names(rest)) and len(lines) == sum(not k.name.startswith("random") for k in layers)
    assert chain.affine("uint8") == pytest.approx(affine)
    assert input_range(SimpleNamespace(dataset=dataset, chain=chain)).zero_point == zero
    same(original, rest, dataset, Chain(), chain)


def test_channels_that_differ_stay_with_8_bit_samples_and_move_with_float_ones():
    original = model(L.Rescaling(1 / 255), L.Normalization(mean=MEAN, variance=VARIANCE))
    rest, chain, lines = absorb(original, data(), Chain())
    assert "Rescaling" not in names(rest) and "Normalization" in names(rest) and len(lines) == 1
    same(original, rest, data(), Chain(), chain)
    original = model(L.Normalization(mean=MEAN, variance=VARIANCE))
    rest, chain, _ = absorb(original, data("float32"), Chain())
    assert "Normalization" not in names(rest) and [*chain.describe()[0]] == ["normalize"]
    same(original, rest, data("float32"), Chain(), chain)


def test_what_ends_the_list():
    inputs = L.Input((6, 6, 3))
    shared = L.Rescaling(0.5)
    for outputs in (
        L.Add()([L.Rescaling(0.5)(inputs), inputs]),
        shared(shared(inputs)),
        L.Rescaling(0.5)(L.Dropout(0.1)(inputs)),
        L.Rescaling(0.5)(L.RandomZoom(0.1, fill_mode="constant")(inputs)),
        L.Normalization(axis=1, mean=[1.0] * 5 + [2.0], variance=[1.0] * 6)(inputs),
        L.Rescaling(0.0)(inputs),
    ):
        assert leading_scalings(keras.Model(inputs, L.Conv2D(2, 3)(outputs))) == []
    outputs = L.Rescaling(0.5)(inputs)
    both = keras.Model(inputs, [outputs, L.Conv2D(2, 3)(outputs)])
    assert len(leading_scalings(both)) == 1, "an output ends it"
    assert leading_scalings(object()) == []


def test_samples_that_are_scaled_twice():
    once = Chain.parse([{"divide": {"by": 255}}])
    with pytest.raises(ModelError, match=r"data.preprocess scales \(divide; 0 to 1 afterwards\) and so does .* scaled twice"):
        absorb(model(L.Rescaling(1 / 255, name="r")), data(), once)
    _, _, lines = absorb(model(L.Rescaling(2.0, -1.0)), data(), once)
    assert lines[0].startswith("warning: data.preprocess scales (divide;") and len(lines) == 2
    moved = Chain.parse([{"pad_or_crop": {"size": [6, 6]}}])
    assert len(absorb(model(L.Rescaling(1 / 255)), data(), moved)[2]) == 1, "what only moves values is no scaling"


def test_a_run_on_digits(tmp_path, monkeypatch):
    """The same network with its scale inside and with the scale in the configuration gives the same integers."""
    keras.utils.set_random_seed(0)
    inputs = L.Input((8, 8, 1))
    x = L.Conv2D(4, 3, activation="relu", name="c")(inputs)
    plain = keras.Model(inputs, L.Dense(10, name="d")(L.Flatten()(x)), name="net")
    outer = L.Input((8, 8, 1))
    keras.Model(outer, plain(L.Rescaling(0.0625, name="to_one")(outer)), name="net").save(tmp_path / "inside.keras")
    plain.save(tmp_path / "outside.keras")
    monkeypatch.chdir(tmp_path)
    files, lines = [], []
    for name, preprocess in (("inside", "[]"), ("outside", "[{scale: {by: 0.0625}}]")):
        settings = [f"model.path={name}.keras", "recipe=ptq", f"data.preprocess={preprocess}", "check.samples=5"]
        metrics = run(load_config("digits", settings), tmp_path / name, log=lines.append)
        assert metrics["parity"] == {**metrics["parity"], "keras_vs_reference": 0, "tflm_vs_reference": 0}
        files.append((tmp_path / name / "model.tflite").read_bytes())
    assert files[0] == files[1]
    assert any("'to_one' (Rescaling) of the model is now the end of the preprocessing" in line for line in lines)
    keras.Model(outer, plain(L.Rescaling(1 / 255)(outer))).save("small.keras")
    with pytest.raises(ModelError, match="scaled twice"):
        run(load_config("digits", ["model.path=small.keras", "recipe=ptq"]), tmp_path / "twice", log=lines.append)
