"""Files that nobody should trust: code, operations that reach outside, links, bombs, absurd sizes. Refused before anything is run."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from elsewhere import network, save

from tinykit.errors import ModelError
from tinykit.models import archive, load_model
from tinykit.models.bounds import bounded_weights

try:
    import tf_keras
except ImportError:
    tf_keras = None
needs_keras_2 = pytest.mark.skipif(tf_keras is None, reason="tf_keras is not installed")
FORMS = [(keras, "h5"), (keras, "keras"), (tf_keras, "h5"), (tf_keras, "keras"), (tf_keras, "folder")]
NAMED = pytest.mark.parametrize(("package", "form"), [case for case in FORMS if case[0] is not None])


def change_h5(path, change):
    """Rewrites the configuration in a .h5 file."""
    with h5py.File(path, "r+") as file:
        configuration = json.loads(file.attrs["model_config"])
        change(configuration)
        file.attrs["model_config"] = json.dumps(configuration)
    return path


def refusal(path, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path)
    return caught.value.problems


@NAMED
def test_a_lambda_is_never_run(tmp_path, package, form):
    witness = tmp_path / "ran"

    def code(x, where=str(witness)):
        with open(where, "a") as stream:
            stream.write("ran")
        return x * 2

    model = network(package, [package.layers.Lambda(code, name="evil")])
    path = save(model, tmp_path, form)
    witness.unlink(missing_ok=True)
    problems = refusal(path, "layer 'evil': a Lambda layer holds code")
    assert len(problems) == 1 and not witness.exists()


@needs_keras_2
def test_a_lambda_behind_an_escape_in_a_saved_model_is_seen(tmp_path):
    from tf_keras.protobuf import saved_metadata_pb2

    path = save(network(tf_keras, [tf_keras.layers.Lambda(lambda x: x, name="evil")]), tmp_path, "folder")
    metadata = saved_metadata_pb2.SavedMetadata.FromString((path / "keras_metadata.pb").read_bytes())
    for node in metadata.nodes:
        node.metadata = node.metadata.replace('"class_name": "Lambda"', '"class_name":"L\\u0061mbda"')
    (path / "keras_metadata.pb").write_bytes(metadata.SerializeToString())
    refusal(path, "Lambda layer holds code")


@needs_keras_2
def test_a_function_of_tensorflow_that_writes_files_is_never_called(tmp_path):
    """tf_keras calls such a layer with constants while it reads the file, whatever the function is."""
    path = save(network(tf_keras, [lambda x: x + 1.0]), tmp_path, "h5")
    witness = tmp_path / "written"

    def change(configuration):
        layer = next(entry for entry in configuration["config"]["layers"] if entry["class_name"] == "TFOpLambda")
        layer["config"]["function"] = "io.write_file"
        layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, str(witness), {"contents": "x"}]]

    refusal(change_h5(path, change), "tf.io.write_file has no counterpart")
    assert not witness.exists()


@NAMED
def test_a_class_of_its_own_is_named(tmp_path, package, form):
    class Mine(package.layers.Layer):
        def call(self, x):
            return x * 2.0

    problems = refusal(save(network(package, [Mine(name="one"), Mine(name="two")]), tmp_path, form), "is not loaded")
    assert ["Mine" in problem and f"'{name}'" in problem for name, problem in zip(("one", "two"), problems)] == [True, True]


def test_operators_in_a_file_that_keras_cannot_read_back(tmp_path):
    refusal(save(network(keras, [lambda x: x / 255.0]), tmp_path, "h5"), r"save the model with model.save\('model.keras'\)")


@needs_keras_2
def test_a_function_without_a_layer_is_named(tmp_path):
    model = network(tf_keras, [lambda x: x[:, 1:], lambda x: x + np.ones((5, 6, 3), np.float32)])
    assert "tf.__operators__.getitem" in str(refusal(save(model, tmp_path, "h5"), "SlicingOpLambda"))
    model = network(tf_keras, [lambda x: x + np.ones((6, 6, 3), np.float32)])
    refusal(save(model, tmp_path, "keras"), "tf.__operators__.add of 2 values such as these has no counterpart")


def test_a_saved_model_of_keras_3_says_what_to_do(tmp_path):
    network(keras).export(str(tmp_path / "exported"), verbose=False)
    refusal(tmp_path / "exported", r"model.export writes, holds no Keras layers; .* model.save\('model.keras'\)")


# ---- sizes


@pytest.mark.parametrize(("package", "form"), [case for case in FORMS[:3] if case[0] is not None])
def test_a_layer_larger_than_the_file_is_not_made(tmp_path, package, form):
    path = save(network(package), tmp_path, form)

    def change(configuration):
        dense = next(entry for entry in configuration["config"]["layers"] if entry["class_name"] == "Dense")
        dense["config"]["units"] = 10**11

    if form == "h5":
        change_h5(path, change)
    else:
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        configuration = json.loads(members["config.json"])
        change(configuration)
        members["config.json"] = json.dumps(configuration)
        with zipfile.ZipFile(path, "w") as new:
            for name, content in members.items():
                new.writestr(name, content)
    refusal(path, r"a weight of shape \[4, 100000000000\], but the file holds only")


def test_the_bound_is_lifted_afterwards():
    before = keras.layers.Layer.add_weight
    with bounded_weights(keras.layers.Layer, 0) as bound, pytest.raises(ModelError):
        keras.layers.Dense(300).build((None, 300))
    assert "shape [300, 300]" in bound.exceeded and keras.layers.Layer.add_weight is before
    keras.layers.Dense(300).build((None, 300))


def test_an_array_that_only_compression_makes_small(tmp_path):
    path = save(network(keras), tmp_path, "h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("bomb", (1 << 34,), "float32", chunks=(1 << 16,), compression="gzip")
    assert path.stat().st_size < 1 << 20
    refusal(path, r"/bomb of shape \[17179869184\] brings the file to .* unpacked")


@pytest.mark.parametrize("kind", ["soft", "external", "storage", "virtual"])
@pytest.mark.parametrize("form", ["h5", "keras"])
def test_links_and_data_elsewhere_are_refused(tmp_path, kind, form):
    (tmp_path / "secret.bin").write_bytes(bytes(64))

    def add(file):
        if kind == "soft":
            file["leak"] = h5py.SoftLink("/somewhere")
        elif kind == "external":
            file["leak"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
        elif kind == "storage":
            file.create_dataset("leak", (16,), "float32", external=[(str(tmp_path / "secret.bin"), 0, 64)])
        else:
            layout = h5py.VirtualLayout((16,), "float32")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (16,))
            file.create_virtual_dataset("leak", layout)

    path = save(network(keras), tmp_path, form)
    inside = path
    if form == "keras":
        inside = tmp_path / "model.weights.h5"
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        inside.write_bytes(members["model.weights.h5"])
    with h5py.File(inside, "r+") as file:
        add(file)
    if form == "keras":
        with zipfile.ZipFile(path, "w") as new:
            for name, content in {**members, "model.weights.h5": inside.read_bytes()}.items():
                new.writestr(name, content)
    refusal(path, "/leak is a link" if kind in ("soft", "external") else "/leak keeps its data in another file")


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt", "a\\..\\..\\outside.txt"])
def test_members_outside_the_archive(tmp_path, name):
    path = save(network(keras), tmp_path, "keras")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, "x")
    refusal(path, "no .keras file has a member")


def test_large_configurations(tmp_path, monkeypatch):
    path = save(network(keras), tmp_path, "h5")
    monkeypatch.setattr(archive, "MAX_CONFIG_BYTES", 100)
    refusal(path, "model_config is larger than 100")
    monkeypatch.setattr(archive, "MAX_HDF5_OBJECTS", 3)
    refusal(path, "more than 3 objects")
