"""Users' Keras models that are damaged, hostile, or of another kind than the data. Found before the first step begins."""

import functools
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from badinput_config import wrote
from badinput_data import samples
from badinput_kind import kind

MODELS = "Keras models"


def keras() -> Any:
    """Keras, imported when the first model is made."""
    from tinykit.recipe.quiet import import_tensorflow

    import_tensorflow()
    import keras

    return keras


def network(before: Sequence[Any] = (), shape: tuple[int | None, ...] = (8, 8, 1), classes: int = 2, weight: float | None = None) -> Any:
    """A small classifier; `before` are layers in front; `weight` becomes the first weight of the first convolution."""
    layers = keras().layers
    inputs = x = keras().Input(shape)
    for layer in before:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="first")(x))
    model = keras().Model(inputs, layers.Dense(classes, activation="softmax")(x))
    if weight is not None:
        values = model.get_layer("first").get_weights()
        values[0].flat[0] = weight
        model.get_layer("first").set_weights(values)
    return model


@functools.cache
def saved(form: str) -> bytes:
    """The bytes of a good file."""
    with tempfile.TemporaryDirectory() as folder:
        return save(network(), Path(folder) / f"m.{form}").read_bytes()


def save(model: Any, path: Path) -> Path:
    """Writes a model, without the advice to use another format."""
    import logging

    logging.getLogger("absl").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def started(folder: Path, path: str, recipe: str = "ptq") -> Sequence[str]:
    """The arguments of a run that begins with the model at `path`."""
    np.savez(folder / "data.npz", **samples())
    text = f"data: {{name: npz, options: {{path: data.npz}}}}\nmodel: {{path: {json.dumps(path)}}}\nrecipe: {recipe}\n"
    return wrote(folder, text)


def model(name: str, make: Callable[[Path], object], path: str, *says: str, recipe: str = "ptq", **more: Any) -> None:
    """A run with the model that `make` writes to `path`."""

    def build(folder: Path) -> Sequence[str]:
        make(folder / path)
        return started(folder, path, recipe)

    kind(MODELS, name, *says, heavy=True, workdir="w", **more)(build)


def content(data: Callable[[], bytes]) -> Callable[[Path], object]:
    """Writes bytes."""
    return lambda path: path.write_bytes(data())


def built(make: Callable[[], Any]) -> Callable[[Path], object]:
    """Saves a model."""
    return lambda path: save(make(), path)


def member(name: str, data: bytes, only: bool = False) -> Callable[[Path], object]:
    """A good .keras file with one more member, or with one in place of another."""

    def write(path: Path) -> None:
        path.write_bytes(saved("keras"))
        with zipfile.ZipFile(path) as archive:
            members = {} if only else {entry: archive.read(entry) for entry in archive.namelist()}
        members[name] = data
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, value in members.items():
                archive.writestr(entry, value)

    return write


def configured(change: Callable[[Any], object]) -> Callable[[Path], object]:
    """A good .keras file whose configuration is changed."""

    def write(path: Path) -> None:
        member("x", b"")(path)
        with zipfile.ZipFile(path) as archive:
            configuration = json.loads(archive.read("config.json"))
        change(configuration)
        member("config.json", json.dumps(configuration).encode())(path)

    return write


def custom() -> Any:
    """A model with a layer of somebody's own."""

    class Mine(keras().layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2.0

    return network([Mine(name="own")])


def two_inputs() -> Any:
    """A model of two inputs."""
    layers = keras().layers
    a, b = keras().Input((8, 8, 1)), keras().Input((8, 8, 1))
    return keras().Model([a, b], layers.Dense(2)(layers.Flatten()(layers.Add()([a, b]))))


def two_outputs() -> Any:
    """A model of two outputs."""
    first = network()
    return keras().Model(first.inputs, [first.outputs[0], keras().layers.Dense(2)(first.outputs[0])])


def pictures_out() -> Any:
    """A model that gives pictures."""
    inputs = keras().Input((8, 8, 1))
    return keras().Model(inputs, keras().layers.Conv2D(2, 3)(inputs))


def weights_only(path: Path) -> None:
    """Weights without the model that they are of."""
    import h5py

    with h5py.File(path, "w") as file:
        file["dense"] = np.zeros((2, 2))


def large(configuration: Any) -> None:
    """A dense layer of 10^11 units."""
    dense = next(entry for entry in configuration["config"]["layers"] if entry["class_name"] == "Dense")
    dense["config"]["units"] = 10**11


def half(form: str) -> bytes:
    """The first half of a good file."""
    return saved(form)[: len(saved(form)) // 2]


def exported(path: Path) -> None:
    """A SavedModel of Keras 3, which holds no layers."""
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")


model("a truncated .h5", content(lambda: half("h5")), "m.h5", "m.h5", "damaged HDF5 file", "copy it again")
model(
    "text that is called .h5",
    content(lambda: b"no model at all\n" * 9),
    "m.h5",
    "m.h5",
    "neither HDF5 (.h5) nor zip (.keras)",
    "copy complete?",
)
model("a file of 0 bytes", content(lambda: b""), "m.h5", "m.h5: an empty file", "copy complete?")
model(
    "a .tflite in place of a Keras model",
    content(lambda: b"\x1c\0\0\0TFL3" + bytes(64)),
    "m.h5",
    "m.h5",
    "give the Keras model it came from",
)
model("a .h5 that holds weights only", weights_only, "m.h5", "m.h5", "holds weights but no model", "model.save")
model("a .h5 that is called .keras", content(lambda: saved("h5")), "m.keras", "m.keras", "rename it to end in .h5")
model("a truncated .keras", content(lambda: half("keras")), "m.keras", "m.keras", "damaged .keras file", "copy it again")
model("a .keras that is no zip", content(lambda: b"\x80\x04pickle" * 9), "m.keras", "m.keras", "neither HDF5 (.h5) nor zip (.keras)")
model("a zip file without config.json", member("readme.txt", b"hello", only=True), "m.keras", "m.keras", "without config.json")
model("a zip bomb", member("config.json", bytes(65 << 20)), "m.keras", "m.keras", "larger than 67108864 bytes")
model("a member that leads out of the archive", member("../../owned", b"x"), "m.keras", "m.keras", "'../../owned'")
model("a configuration that is no JSON", member("config.json", b"{"), "m.keras", "m.keras", "no JSON")
model(
    "a configuration that describes another model",
    configured(large),
    "m.keras",
    "m.keras",
    "100000000000",
    "does not belong to its weights",
)
model(
    "a Lambda layer",
    built(lambda: network([keras().layers.Lambda(lambda x: x * 2, name="evil")])),
    "m.keras",
    "layer 'evil'",
    "a Lambda layer holds code",
)
model("a layer of somebody's own", built(custom), "m.keras", "'own'", "Mine")
model(
    "a layer that is not supported, in a .h5",
    built(lambda: network([keras().layers.Conv2DTranspose(1, 3, name="up")])),
    "m.h5",
    "layer 'up' (Conv2DTranspose)",
    "no exact integer counterpart",
)
model(
    "two layers that are not supported",
    built(lambda: network([keras().layers.Conv2DTranspose(1, 3, name="up"), keras().layers.LayerNormalization(name="norm")])),
    "m.keras",
    "layer 'up' (Conv2DTranspose)",
    "layer 'norm' (LayerNormalization)",
    problems=2,
)
model("two inputs", built(two_inputs), "m.keras", "2 inputs", "one")
model("two outputs", built(two_outputs), "m.keras", "2 outputs", "one")
model("an output that is no list of scores", built(pictures_out), "m.keras", "shape [6, 6, 2]", "2 classes", "expected [2]")
model("more outputs than classes", built(lambda: network(classes=3)), "m.keras", "shape [3]", "2 classes", "expected [2]")
model(
    "another input shape than the data's", built(lambda: network(shape=(9, 9, 3))), "m.keras", "[9, 9, 3]", "[8, 8, 1]", "data.preprocess"
)
model("NaN among the weights", built(lambda: network(weight=np.nan)), "m.keras", "layer 'first' (Conv2D)", "NaN or infinity")
model("infinity among the weights", built(lambda: network(weight=np.inf)), "m.keras", "layer 'first' (Conv2D)", "NaN or infinity")
model(
    "NaN among the weights, to be trained further",
    built(lambda: network(weight=np.nan)),
    "m.keras",
    "layer 'first' (Conv2D)",
    "NaN or infinity",
    recipe="int8",
)
model("weights near the largest float32", built(lambda: network(weight=3e38)), "m.keras", "layer 'first'", "NaN or infinite", "3e+38")
model(
    "a SavedModel folder without saved_model.pb",
    lambda path: path.mkdir(),
    "m",
    "m: a folder without saved_model.pb",
    "expected a SavedModel",
)
model("a SavedModel without Keras's layers", exported, "m", "keras_metadata.pb", "model.save('model.keras')")


def family(name: str, shape: tuple[int, ...], line: str, *says: str) -> None:
    """A family that cannot be built for samples of this shape."""

    def make(folder: Path) -> Sequence[str]:
        np.savez(folder / "data.npz", **samples(shape=shape))
        return wrote(folder, f"data: {{name: npz, options: {{path: data.npz}}}}\nmodel: {line}\nrecipe: float\n")

    kind(MODELS, name, *says, heavy=True, workdir="w")(make)


family("a family of pictures for samples without height and width", (8,), "{name: cnn}", "model cnn", "[8]", "height, width")
family("a family for time series on pictures", (8, 8, 3), "{name: conv1d}", "model conv1d", "[8, 8, 3]")
