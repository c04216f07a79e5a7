"""Import of users' model files, as one flat functional Keras 3 model."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinykit.errors import ModelError, one_line
from tinykit.models.archive import MAX_FILE_BYTES, Described, describe_hdf5, describe_saved_model, describe_zip
from tinykit.models.bounds import bounded_weights
from tinykit.models.flatten import flatten_model
from tinykit.models.trust import keras2_problems, refused

__all__ = ["check_input", "flatten_model", "load_model"]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"


def load_model(path: str | os.PathLike[str]) -> Any:
    """Reads a Keras model for inference or further training; optimiser and loss are left behind.

    `.keras` and `.h5` files are read by Keras 3; what only Keras 2 can read (SavedModel folders, old files) goes through
    tf_keras, where that is installed, and is converted layer by layer. Sequential and nested models become one functional
    model. The file's configuration is checked before Keras sees it: Lambda layers, TensorFlow functions other than simple arithmetic,
    and classes from modules other than Keras's and tinykit's are refused, because loading them can run code. A model that wants more
    weights than its file holds is refused before they are allocated. A SavedModel also holds a TensorFlow graph, parts of which
    TensorFlow runs when it restores variables: read only folders that you trust.

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
    if not magic:
        raise ModelError(f"{file}: an empty file, neither HDF5 (.h5) nor zip (.keras); was the copy complete?")
    if magic == HDF5_SIGNATURE:
        kind, described = "h5", describe_hdf5(file)
    elif magic[:4] == ZIP_SIGNATURE:
        kind, described = "keras", describe_zip(file)
    else:
        hint = "a .tflite cannot be trained, give the Keras model it came from" if magic[4:8] == b"TFL3" else "was the copy complete?"
        raise ModelError(f"{file}: neither HDF5 (.h5) nor zip (.keras), it begins with {magic!r}; {hint}")
    _check(file, described)
    model, first = _with_keras3(file, kind, described.values)
    if model is None and described.version.startswith("3."):
        raise ModelError(f"{file}: cannot be read: Keras says: {first}; save the model again with model.save('model.keras')")
    if model is None:
        model = _with_tf_keras(file, kind, first, described.values)
    return model if type(model).__module__.startswith("tinykit.") else flatten_model(model)


def _load_folder(folder: Path) -> Any:
    described = describe_saved_model(folder)
    _check(folder, described)
    return flatten_model(_with_tf_keras(folder, "SavedModel", None, described.values))


def _check(path: Path, described: Described) -> None:
    """Raises ModelError with everything that keeps a described model from being loaded."""
    problems: list[str] = []
    for configuration in described.configurations:
        problems += refused(configuration)
        if described.version.startswith("2."):
            problems += keras2_problems(configuration)
    if problems:
        raise ModelError([f"{path}: {problem}" for problem in dict.fromkeys(problems)])


def _shim() -> dict[str, Any]:
    """Keras 3 stand-ins for classes whose Keras 2 configuration has keys that Keras 3 refuses."""
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
        def __init__(self, *args: Any, groups: int = 1, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    return {"DepthwiseConv2D": DepthwiseConv2D}


def _with_keras3(file: Path, kind: str, values: int) -> tuple[Any, str]:
    """(model, "") or (None, why Keras 3 cannot read the file)."""
    import keras

    if kind == "keras" and file.suffix != ".keras" or kind == "h5" and file.suffix not in (".h5", ".hdf5"):
        raise ModelError(f"{file}: holds {'HDF5' if kind == 'h5' else 'a .keras archive'}; rename it to end in .{kind}")
    reasons = []
    for custom in (None, _shim()):
        with bounded_weights(keras.layers.Layer, values) as bound:
            try:
                return keras.saving.load_model(file, custom_objects=custom, compile=False, safe_mode=True), ""
            except Exception as error:  # noqa: BLE001  (Keras raises anything; it is reported)
                if bound.exceeded:
                    raise ModelError(f"{file}: {bound.exceeded}") from error
                reasons.append(f"{type(error).__name__}: {_first_line(error)}")
    return None, reasons[0]


def _with_tf_keras(path: Path, kind: str, first: str | None, values: int) -> Any:
    said = f"Keras 3 says: {first}; " if first else ""
    try:
        import tf_keras
    except ImportError as error:
        raise ModelError(
            f"{path}: {said}if this {kind} file was written by Keras 2, tf_keras is needed to read it: pip install tf_keras"
        ) from error
    from tinykit.models.keras2 import convert_keras2

    with bounded_weights(tf_keras.layers.Layer, values) as bound:
        try:
            model = tf_keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001  (tf_keras raises anything; it is reported)
            reason = bound.exceeded or (
                f"cannot be read. {said}tf_keras says: {type(error).__name__}: {_first_line(error)}; "
                "save the model again with model.save('model.keras')"
            )
            raise ModelError(f"{path}: {reason}") from error
    return convert_keras2(model)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[0]) if lines else "no message"
