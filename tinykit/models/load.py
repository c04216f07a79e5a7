"""Import of users' model files, as one flat functional Keras 3 model."""

import contextlib
import importlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinykit.errors import ModelError
from tinykit.models.graphs import calls, functional, is_model, unique_name

MAX_FILE_BYTES = 2 << 30
MAX_CONFIG_BYTES = 64 << 20
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
KERAS_PACKAGES = ("keras", "keras_core", "tf_keras")
KERAS_MODULES = (
    "activations",
    "constraints",
    "dtype_policies",
    "engine",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "random",
    "regularizers",
)


def load_model(path: str | os.PathLike[str]) -> Any:
    """Reads a Keras model for inference or further training; optimiser and loss are left behind.

    `.keras` and `.h5` files are read by Keras 3; what only Keras 2 can read (SavedModel folders, old files) goes through
    tf_keras, where that is installed, and is converted layer by layer. Sequential and nested models become one functional
    model. The file's configuration is checked before Keras sees it: Lambda layers and classes from modules other than Keras's
    and tinykit's are refused, because loading them can run code. A SavedModel holds a TensorFlow graph, which is run: read only
    folders that you trust.

    Args:
        path: of a .keras or .h5/.hdf5 file (at most 2 GiB) or a SavedModel folder.

    Returns:
        A functional keras.Model; a model of a `tinykit` class is returned as it is.

    Raises:
        ModelError: naming the file, and what to do.
    """
    file = Path(path)
    try:
        if file.is_dir():
            return _load_folder(file)
        return _load_file(file)
    except ModelError as error:
        raise ModelError([p if str(file) in p else f"{file}: {p}" for p in error.problems]) from error


def check_input(model: Any, shape: Sequence[int]) -> None:
    """Raises ModelError if `model` has one input that does not take samples of `shape` (without the batch) as preprocessing makes them."""
    wanted = getattr(model, "input_shape", None)
    if not isinstance(wanted, tuple) or any(isinstance(size, (tuple, list)) for size in wanted):
        return  # several inputs, which the steps refuse
    own = wanted[1:]
    if len(own) != len(shape) or any(size not in (None, given) for size, given in zip(own, shape)):
        raise ModelError(
            f"model {model.name!r} takes samples of shape {list(own)}, but the preprocessed data have shape {list(shape)}; "
            "change data.preprocess (resize, reshape) or the model"
        )


def _load_file(file: Path) -> Any:
    if not file.is_file():
        raise ModelError(f"{file} does not exist; expected a .keras or .h5 file or a SavedModel folder")
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelError(f"{file}: {size} bytes, more than the limit of {MAX_FILE_BYTES}")
    with file.open("rb") as stream:
        magic = stream.read(8)
    if magic == HDF5_SIGNATURE:
        kind, (configuration, version) = "h5", _h5_config(file)
    elif magic[:4] == ZIP_SIGNATURE:
        kind, (configuration, version) = "keras", _zip_config(file)
    else:
        hint = "a .tflite cannot be trained, give the Keras model it came from" if magic[4:8] == b"TFL3" else "was the copy complete?"
        raise ModelError(f"{file}: neither HDF5 (.h5) nor zip (.keras), it begins with {magic!r}; {hint}")
    problems = _refused(configuration)
    if version.startswith("2."):
        problems += _keras2_problems(configuration)
    if problems:
        raise ModelError([f"{file}: {problem}" for problem in problems])
    model, first = _with_keras3(file, kind)
    if model is None and version.startswith("3."):
        raise ModelError(f"{file}: cannot be read: Keras says: {first}; save the model again with model.save('model.keras')")
    if model is None:
        model = _with_tf_keras(file, kind, first)
    return model if type(model).__module__.startswith("tinykit.") else flatten_model(model)


def _load_folder(folder: Path) -> Any:
    metadata = folder / "keras_metadata.pb"
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(f"{folder}: a folder without saved_model.pb; expected a SavedModel, or name the .keras or .h5 file in it")
    size = sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
    if size > MAX_FILE_BYTES:
        raise ModelError(f"{folder}: {size} bytes, more than the limit of {MAX_FILE_BYTES}")
    if not metadata.is_file():
        raise ModelError(
            f"{folder}: a SavedModel without keras_metadata.pb holds no Keras layers; save the model as .keras"
            " from the program that made it"
        )
    if b'"class_name": "Lambda"' in metadata.read_bytes():
        raise ModelError(f"{folder}: holds a Lambda layer, whose code cannot be represented; replace it by Keras layers")
    return flatten_model(_with_tf_keras(folder, "SavedModel", None))


def _h5_config(file: Path) -> tuple[Any, str]:
    """The model's configuration and the version of Keras that wrote the file ("" where it does not say)."""
    import h5py

    try:
        with h5py.File(file, "r") as archive:
            text = archive.attrs.get("model_config")
            version = archive.attrs.get("keras_version", "")
    except (OSError, RuntimeError, KeyError) as error:
        raise ModelError(f"{file}: damaged HDF5 file: {error}") from error
    if text is None:
        raise ModelError(f"{file}: holds weights but no model; save the whole model with model.save(...)")
    return _json(file, text), version.decode("ascii", "replace") if isinstance(version, bytes) else str(version)


def _zip_config(file: Path) -> tuple[Any, str]:
    """As `_h5_config`, without the part on optimiser and loss, which is never loaded."""
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > MAX_FILE_BYTES:
                raise ModelError(f"{file}: {total} bytes unpacked, more than the limit of {MAX_FILE_BYTES}")
            if "config.json" not in archive.namelist():
                raise ModelError(f"{file}: a zip file without config.json is no .keras file")
            members = [name for name in ("config.json", "metadata.json") if name in archive.namelist()]
            if any(archive.getinfo(name).file_size > MAX_CONFIG_BYTES for name in members):
                raise ModelError(f"{file}: config.json or metadata.json is larger than {MAX_CONFIG_BYTES} bytes")
            configuration, metadata = (_json(file, archive.read(name)) for name in [*members, "config.json"][:2])
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{file}: damaged .keras file: {error}") from error
    if not isinstance(configuration, dict):
        raise ModelError(f"{file}: config.json is no JSON object")
    configuration.pop("compile_config", None)
    version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    return configuration, str(version)


def _json(file: Path, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: the model's configuration is no JSON: {error}") from error


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All dicts of a JSON value that describe an object of a class; what is inside a Lambda layer is left out."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            if item.get("class_name") != "Lambda":
                todo += item.values()
        elif isinstance(item, list):
            todo += item


def _refused(configuration: Any) -> list[str]:
    """Why a configuration is not handed to Keras: Lambda layers, classes of foreign modules."""
    problems = set()
    for item in _objects(configuration):
        inner = item.get("config")
        name = inner.get("name", "?") if isinstance(inner, dict) else "?"
        module, class_name = item.get("module"), item["class_name"]
        if class_name in ("Lambda", "__lambda__"):
            problems.add(f"layer {name!r}: a Lambda layer holds code, which cannot be represented; replace it by Keras layers")
        elif module is not None and not _trusted(str(module), str(item.get("registered_name"))):
            problems.add(
                f"object {name!r}: class {class_name!r} of module {module!r} is not loaded; use Keras's own layers, or load the "
                "model yourself and pass it to tinykit as an object"
            )
    return sorted(problems)


def _trusted(module: str, registered_name: str) -> bool:
    """Whether a file may name this class: one that tinykit registers, or any of the modules of Keras that make up models."""
    import keras

    parts = [part for part in module.split(".") if part != "src"]
    if parts[0] == "tinykit" and registered_name.startswith("tinykit>"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
        return keras.saving.get_registered_object(registered_name) is not None
    return parts[0] in KERAS_PACKAGES and (len(parts) == 1 or parts[1] in KERAS_MODULES)


def _keras2_problems(configuration: Any) -> list[str]:
    """What Keras 3 would silently compute otherwise than the Keras 2 that wrote the file."""
    problems = []
    for item in _objects(configuration):
        inner = item.get("config")
        if isinstance(inner, dict) and "hard_sigmoid" in (inner.get("activation"), inner.get("recurrent_activation")):
            problems.append(
                f"layer {inner.get('name', '?')!r}: hard_sigmoid of Keras 2 (0.2 x + 0.5) is another function in Keras 3 "
                "(x / 6 + 0.5); replace the activation and train again"
            )
    return problems


def _shim() -> dict[str, Any]:
    """Keras 3 stand-ins for classes whose Keras 2 configuration has keys that Keras 3 refuses."""
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
        def __init__(self, *args: Any, groups: int = 1, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    return {"DepthwiseConv2D": DepthwiseConv2D}


def _with_keras3(file: Path, kind: str) -> tuple[Any, str]:
    """(model, "") or (None, why Keras 3 cannot read the file)."""
    import keras

    if kind == "keras" and file.suffix != ".keras" or kind == "h5" and file.suffix not in (".h5", ".hdf5"):
        raise ModelError(f"{file}: holds {'HDF5' if kind == 'h5' else 'a .keras archive'}; rename it to end in .{kind}")
    reasons = []
    for custom in (None, _shim()):
        try:
            return keras.saving.load_model(file, custom_objects=custom, compile=False, safe_mode=True), ""
        except Exception as error:  # noqa: BLE001  (Keras raises anything; it is reported)
            reasons.append(f"{type(error).__name__}: {_first_line(error)}")
    return None, reasons[0]


def _with_tf_keras(path: Path, kind: str, first: str | None) -> Any:
    said = f"Keras 3 says: {first}; " if first else ""
    try:
        import tf_keras
    except ImportError as error:
        raise ModelError(
            f"{path}: {said}if this {kind} file was written by Keras 2, tf_keras is needed to read it: pip install tf_keras"
        ) from error
    from tinykit.models.keras2 import convert_keras2

    try:
        model = tf_keras.models.load_model(path, compile=False)
    except Exception as error:  # noqa: BLE001  (tf_keras raises anything; it is reported)
        raise ModelError(
            f"{path}: cannot be read. {said}tf_keras says: {type(error).__name__}: {_first_line(error)}; "
            "save the model again with model.save('model.keras')"
        ) from error
    return convert_keras2(model)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"


def flatten_model(model: Any) -> Any:
    """One functional model without models inside it: the same layers (new objects), weights and outputs.

    Layers keep their names; one that would occur twice gets the name of the model around it in front.

    Args:
        model: a functional or built Sequential keras.Model; nested to any depth; layers may be shared.

    Raises:
        ModelError: a subclassed model, whose layers cannot be seen.
    """
    import keras

    flat = functional(model)
    copies: dict[int, Any] = {}
    used: set[str] = set()
    inputs = []
    for tensor in flat.inputs:
        name = unique_name(tensor.name.split(":")[0], "", used)
        inputs.append(keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name))

    def copy(layer: Any, prefix: str) -> Callable[..., Any]:
        if id(layer) not in copies:
            copies[id(layer)] = _copy_layer(layer, unique_name(layer.name, prefix, used))
        return copies[id(layer)]

    outputs = _replay(flat, inputs, copy, "")
    result = keras.Model(
        _like(flat._inputs_struct, inputs), _like(flat._outputs_struct, outputs), name=model.name, trainable=model.trainable
    )
    copied = {id(layer): layer for layer in _layers(flat)}
    for key, layer in copied.items():
        if key in copies and getattr(layer, "weights", []):
            copies[key].set_weights(layer.get_weights())
    return result


def _copy_layer(layer: Any, name: str) -> Any:
    import keras

    if not isinstance(layer, keras.layers.Layer):
        return layer  # an operation such as keras.ops.add, without weights
    cls = type(layer)
    if cls.__module__ == __name__:
        cls = cls.__bases__[0]  # the shim gives way to Keras's own class
    configuration = layer.get_config()
    configuration["name"] = name
    copied = cls.from_config(configuration)
    copied.trainable = layer.trainable
    return copied


def _replay(model: Any, inputs: list[Any], copy: Callable[[Any, str], Any], prefix: str) -> list[Any]:
    """Calls copies of all layers on new inputs; returns the new outputs, flat."""
    import keras

    known = {id(old): new for old, new in zip(model.inputs, inputs)}
    for node in calls(model):
        arguments, keywords = node.arguments.fill_in(known)
        if is_model(node.operation):
            nested = functional(node.operation)
            new = _replay(nested, keras.tree.flatten(arguments[0]), copy, node.operation.name)
        else:
            new = keras.tree.flatten(copy(node.operation, prefix)(*arguments, **keywords))
        known.update((id(old), value) for old, value in zip(node.outputs, new))
    return [known[id(tensor)] for tensor in model.outputs]


def _like(structure: Any, values: list[Any]) -> Any:
    """`values` in the nesting of `structure`; a single value stands alone, so that fit and predict take plain arrays."""
    import keras

    if len(values) == 1:
        return values[0]
    return keras.tree.pack_sequence_as(structure, values)


def _layers(model: Any) -> Iterator[Any]:
    for node in calls(model):
        if is_model(node.operation):
            yield from _layers(functional(node.operation))
        else:
            yield node.operation
