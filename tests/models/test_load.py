"""Import of model files: Keras 3 and Keras 2, nested models, and everything that is refused."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinykit.errors import ModelError
from tinykit.models import archive, build_model, count_macs, flatten_model, load_model
from tinykit.models import load as load_module

REFERENCE = Path(os.environ.get("TINYKIT_DATA", "")) / "reference_models"


@pytest.fixture
def tf_keras():
    return pytest.importorskip("tf_keras", reason="tf_keras is not installed")


def inputs_for(model, seed=0):
    random = np.random.RandomState(seed)
    arrays = [random.rand(4, *tensor.shape[1:]).astype(np.float32) for tensor in model.inputs]
    return arrays[0] if len(arrays) == 1 else arrays


def assert_same(model, other, tolerance=0.0):
    x = inputs_for(model)
    np.testing.assert_allclose(np.asarray(other(x)), np.asarray(model(x)), rtol=0, atol=tolerance)


def randomise(model, seed=0):
    """Weights unlike their initial values, moving statistics included."""
    random = np.random.RandomState(seed)
    model.set_weights([random.uniform(0.1, 1.0, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def assert_flat(model):
    import keras

    assert type(model) is keras.src.models.functional.Functional
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize(("name", "shape"), [("ds_cnn", (13, 7, 1)), ("resnet8", (9, 7, 3)), ("conv1d", (17, 3))])
def test_keras3_files(tmp_path, name, shape, suffix):
    model = randomise(build_model(name, shape, 3, {}))
    model.compile("adam", loss="mse")
    model.save(tmp_path / f"m.{suffix}")
    loaded = load_model(str(tmp_path / f"m.{suffix}"))
    assert_flat(loaded)
    assert_same(model, loaded)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert not loaded.compiled
    loaded.save(tmp_path / "again.keras")
    assert_same(model, load_model(tmp_path / "again.keras"))


def nested(keras):
    """Sequential in functional in functional, a shared layer, an operation, two inputs and outputs, a name that occurs twice."""
    block_input = keras.Input((6, 5, 3))
    inner = keras.Sequential(
        [
            keras.Input((6, 5, 3)),
            keras.layers.Conv2D(3, 3, padding="same", name="conv"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ],
        name="inner",
    )
    block = keras.Model(block_input, keras.layers.Add(name="add")([inner(block_input), block_input]), name="block")
    a, b = keras.Input((6, 5, 3), name="a"), keras.Input((6, 5, 3), name="b")
    shared = keras.layers.Conv2D(3, 1, name="conv")
    x = keras.layers.Add(name="add")([block(shared(a)), shared(b)])
    y = block(x)
    pooled = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model([a, b], [keras.layers.Dense(2, name="one")(pooled), keras.layers.Flatten(name="two")(y)], name="outer")


def test_nested_models_are_flattened():
    import keras

    model = randomise(nested(keras))
    flat = flatten_model(model)
    assert_flat(flat)
    for got, expected in zip(flat(inputs_for(model)), model(inputs_for(model))):
        np.testing.assert_array_equal(got, expected)
    names = [layer.name for layer in flat.layers]
    assert len(names) == len(set(names)) and "conv" in names and "inner_conv" in names
    assert flat.count_params() == model.count_params() and count_macs(flat) == count_macs(model)
    assert flat.name == "outer" and [tensor.name for tensor in flat.inputs] == ["a", "b"]
    before = model.get_weights()[0].copy()
    flat.set_weights([w * 0 for w in flat.get_weights()])
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_nested_models_from_a_file(tmp_path):
    import keras

    model = randomise(nested(keras))
    model.save(tmp_path / "m.keras")
    for got, expected in zip(load_model(tmp_path / "m.keras")(inputs_for(model)), model(inputs_for(model))):
        np.testing.assert_array_equal(got, expected)


def test_flatten_keeps_operations_trainability_and_dicts():
    import keras

    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    frozen = keras.layers.Dense(4, trainable=False, name="frozen")
    model = keras.Model({"a": a, "b": b}, {"sum": frozen(a) + b, "rest": keras.layers.Dropout(0.5)(a)})
    flat = flatten_model(model)
    x = {"a": np.ones((2, 4), np.float32), "b": np.ones((2, 4), np.float32)}
    np.testing.assert_array_equal(flat(x)["sum"], model(x)["sum"])
    assert not flat.get_layer("frozen").trainable and len(flat.trainable_weights) == 0
    sequential = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    assert_flat(flatten_model(sequential))
    assert_same(sequential, flatten_model(sequential))
    assert flatten_model(sequential).fit is not None


def test_flat_models_train():
    import keras

    model = flatten_model(build_model("cnn", (8, 8, 1), 3, {"dropout": 0.3}))
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
    model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)


# ---- Keras 2


def keras2_network(tf_keras):
    layers = tf_keras.layers
    inputs = layers.Input((16, 12, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", kernel_regularizer=tf_keras.regularizers.l2(1e-4))(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, kernel_initializer="he_normal")(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.SeparableConv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.2)(layers.ReLU(6.0)(x))
    x = layers.GlobalAveragePooling2D()(layers.UpSampling2D(2)(x))
    return tf_keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


@pytest.mark.parametrize("form", ["m.h5", "m.keras", "folder"])
def test_keras2_files(tmp_path, tf_keras, form):
    model = randomise(keras2_network(tf_keras))
    if form == "folder":
        model.save(tmp_path / form, save_format="tf")
    else:
        model.save(tmp_path / form)
    loaded = load_model(tmp_path / form)
    assert_flat(loaded)
    assert_same(model, loaded, 1e-6)
    assert count_macs(loaded) > 0
    loaded.save(tmp_path / "again.keras")


def test_keras2_nested(tmp_path, tf_keras):
    from tinykit.models.keras2 import convert_keras2

    model = randomise(nested(tf_keras))
    loaded = convert_keras2(model)
    assert_flat(loaded)
    for got, expected in zip(loaded(inputs_for(model)), model(inputs_for(model))):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    sequential = randomise(tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(3, name="d")]))
    assert_same(sequential, convert_keras2(sequential), 1e-6)
    with pytest.raises(ModelError, match="without an input shape"):
        convert_keras2(tf_keras.Sequential([tf_keras.layers.Dense(3)]))


def test_keras2_what_cannot_be_converted_is_listed(tf_keras):
    from tinykit.models.keras2 import convert_keras2

    class Own(tf_keras.layers.Layer):
        pass

    inputs = tf_keras.layers.Input((4, 4, 3))
    x = tf_keras.layers.Conv2D(3, 1, activation="hard_sigmoid", name="hard")(inputs)
    x = Own(name="own")(x)
    x = tf_keras.layers.BatchNormalization(renorm=True, name="norm")(x)
    x = tf_keras.layers.LocallyConnected2D(2, 1, name="local")(x)
    x = tf_keras.layers.ReLU(dtype="float16", name="half")(x)
    with pytest.raises(ModelError) as caught:
        convert_keras2(tf_keras.Model(inputs, tf_keras.activations.elu(x)[:, 1:]))
    text = str(caught.value)
    for part in ("'hard'", "hard_sigmoid", "'own' (Own)", "renorm", "'local'", "'half'", "float16", "TFOpLambda", "SlicingOpLambda"):
        assert part in text

    class Subclassed(tf_keras.Model):
        pass

    with pytest.raises(ModelError, match="no functional model"):
        convert_keras2(Subclassed())


def test_keras2_hard_sigmoid_is_refused_in_files(tmp_path, tf_keras):
    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(3, activation="hard_sigmoid", name="d")])
    model.save(tmp_path / "m.h5")
    with pytest.raises(ModelError, match="layer 'd': hard_sigmoid of Keras 2"):
        load_model(tmp_path / "m.h5")


@pytest.mark.parametrize("form", ["m.h5", "m.keras", "folder"])
def test_keras2_lambda_is_refused(tmp_path, tf_keras, form):
    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Lambda(lambda x: x + 1, name="evil")])
    model.save(tmp_path / form, **({"save_format": "tf"} if form == "folder" else {}))
    with pytest.raises(ModelError, match="Lambda layer"):
        load_model(tmp_path / form)


def test_without_tf_keras_the_message_says_what_to_install(tmp_path, tf_keras, monkeypatch):
    import sys

    keras2_network(tf_keras).save(tmp_path / "m.keras")
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ModelError, match="pip install tf_keras"):
        load_model(tmp_path / "m.keras")


@pytest.mark.parametrize(("name", "macs"), [("vww_96", 7_489_664), ("ic_pretrainedResnet", 12_501_632), ("ad01", 264_192)])
def test_reference_models(name, macs, tf_keras):
    path = REFERENCE / f"{name}.h5"
    if not path.is_file():
        pytest.skip("TINYKIT_DATA does not hold reference_models")
    loaded, expected = load_model(path), tf_keras.models.load_model(path, compile=False)
    assert_flat(loaded)
    assert_same(expected, loaded, 1e-5)
    assert count_macs(loaded) == macs


@pytest.mark.parametrize(
    ("name", "family", "shape", "classes"),
    [
        ("vww_96", "mobilenet_v1", (96, 96, 3), 2),
        ("ic_pretrainedResnet", "resnet8", (32, 32, 3), 10),
        ("ad01", "fc_autoencoder", (640,), 2),
    ],
)
def test_families_are_the_reference_models(name, family, shape, classes):
    path = REFERENCE / f"{name}.h5"
    if not path.is_file():
        pytest.skip("TINYKIT_DATA does not hold reference_models")
    reference, ours = load_model(path), build_model(family, shape, classes, {})
    ours.set_weights(reference.get_weights())
    assert_same(reference, ours, 1e-6)


# ---- refused


@pytest.mark.parametrize("form", ["m.h5", "m.keras"])
def test_lambda_is_refused_by_name(tmp_path, form):
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1, name="evil")], name="inner")
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2, name="worse")(inner(inputs))).save(tmp_path / form)
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / form)
    assert len(caught.value.problems) == 2
    assert "layer 'evil': a Lambda layer holds code" in caught.value.problems[0] and form in caught.value.problems[0]


def saved(tmp_path):
    build_model("cnn", (8, 8, 1), 3, {}).save(tmp_path / "good.keras")
    return tmp_path / "good.keras"


def rewrite(source, target, change):
    """A .keras file with another configuration."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = change(content)
            if content is not None:
                new.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("module", "class_name"),
    [
        ("subprocess", "Popen"),
        ("keras.utils", "get_file"),
        ("keras.src.saving", "load_model"),
        ("builtins", "eval"),
        ("", "X"),
        ("tinykit.data.files", "read_npz"),
    ],
)
def test_foreign_modules_are_refused(tmp_path, module, class_name):
    def change(content):
        configuration = json.loads(content)
        configuration["config"]["layers"][1].update({"module": module, "class_name": class_name})
        return json.dumps(configuration)

    path = rewrite(saved(tmp_path), tmp_path / "bad.keras", change)
    with pytest.raises(ModelError, match=f"class '{class_name}' of module '{module}' is not loaded"):
        load_model(path)


def test_an_own_loss_does_not_matter(tmp_path):
    import keras

    def own_loss(y_true, y_pred):
        return keras.ops.mean(y_true - y_pred)

    model = build_model("cnn", (8, 8, 1), 3, {})
    model.compile("sgd", loss=own_loss)
    model.fit(np.zeros((2, 8, 8, 1)), np.zeros((2, 3)), verbose=0)
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        assert_same(model, load_model(tmp_path / name))


def test_damaged_and_foreign_files(tmp_path, monkeypatch):
    import h5py

    good = saved(tmp_path)
    content = good.read_bytes()

    def expect(name, data, message):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=message) as caught:
            load_model(tmp_path / name)
        assert name in str(caught.value)

    expect("a.keras", b"", "neither HDF5")
    expect("a.h5", b"hello world", "neither HDF5")
    expect("a.tflite", b"\x1c\x00\x00\x00TFL3....", "give the Keras model")
    expect("cut.keras", content[:-200], "damaged .keras")
    expect("zip.keras", b"PK\x03\x04" + bytes(50), "damaged .keras")
    expect("name.h5", content, "rename it to end in .keras")
    build_model("cnn", (8, 8, 1), 3, {}).save(tmp_path / "good.h5")
    data = (tmp_path / "good.h5").read_bytes()
    expect("cut.h5", data[:3000], "damaged HDF5")
    expect("name.keras", data, "rename it to end in .h5")
    with h5py.File(tmp_path / "weights.h5", "w"):
        pass
    with pytest.raises(ModelError, match="holds weights but no model"):
        load_model(tmp_path / "weights.h5")
    for change, message in (
        (lambda c: b"{", "no JSON"),
        (lambda c: b"[]", "no JSON object"),
        (lambda c: None, "without config.json"),
        (lambda c: c.replace(b'"Conv2D"', b'"Conv7D"'), "cannot be read"),
    ):
        rewrite(good, tmp_path / "bad.keras", change)
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path / "bad.keras")
    with pytest.raises(ModelError, match="does not exist"):
        load_model(tmp_path / "nowhere.keras")
    monkeypatch.setattr(archive, "MAX_CONFIG_BYTES", 10)
    with pytest.raises(ModelError, match="larger than 10"):
        load_model(good)
    monkeypatch.setattr(load_module, "MAX_FILE_BYTES", 100)
    with pytest.raises(ModelError, match="more than the limit of 100"):
        load_model(tmp_path / "good.h5")


def test_zip_bombs_are_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("config.json", "{}")
        bomb.writestr("model.weights.h5", bytes(1 << 22))
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 1 << 20)
    with pytest.raises(ModelError, match="bytes unpacked"):
        load_model(tmp_path / "bomb.keras")


def test_folders(tmp_path):
    with pytest.raises(ModelError, match="without saved_model.pb"):
        load_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ModelError, match="without keras_metadata.pb"):
        load_model(tmp_path)
    (tmp_path / "keras_metadata.pb").write_bytes(b"x")
    with pytest.raises(ModelError, match="cannot be read|pip install"):
        load_model(tmp_path)


def test_a_class_of_tinykit_is_loaded_as_it_is(tmp_path):
    import subprocess
    import sys

    import keras

    convert = pytest.importorskip("tinykit.quant.convert", reason="tinykit.quant is not there")
    quantizer = pytest.importorskip("tinykit.quant.calibrate", reason="tinykit.quant is not there")
    model = convert.build_quantized(build_model("cnn", (8, 8, 1), 3, {}), convert.InputRange.from_affine(1 / 16, 0.0))
    quantizer.calibrate(model, [np.random.RandomState(0).rand(16, 8, 8, 1).astype(np.float32)])
    model.save(tmp_path / "q.keras")
    x = np.random.RandomState(1).rand(3, 8, 8, 1).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy, tinykit.models; model = tinykit.models.load_model(sys.argv[1]);"
        "assert type(model).__name__ == 'QuantizedModel';"
        "numpy.save(sys.argv[3], numpy.asarray(model(numpy.load(sys.argv[2]))))"
    )
    paths = [str(tmp_path / name) for name in ("q.keras", "x.npy", "y.npy")]
    assert subprocess.run([sys.executable, "-c", code, *paths], timeout=120).returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), keras.ops.convert_to_numpy(model(x)))


def test_subclassed_and_unbuilt_models():
    import keras

    class Own(keras.Model):
        pass

    with pytest.raises(ModelError, match="no functional model"):
        flatten_model(Own())
    with pytest.raises(ModelError, match="without an input shape"):
        flatten_model(keras.Sequential([keras.layers.Dense(3)]))


def test_a_model_that_does_not_take_the_data_is_refused():
    model = build_model("cnn", (8, 8, 1), 10, {})
    load_module.check_input(model, (8, 8, 1))
    for shape in ((9, 8, 1), (64,), (8, 8)):
        with pytest.raises(ModelError, match=r"takes samples of shape \[8, 8, 1\], but the preprocessed data"):
            load_module.check_input(model, shape)


def test_a_model_of_any_size_takes_the_data():
    import keras

    inputs = keras.Input((None, None, 1))
    load_module.check_input(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)), (5, 7, 1))
