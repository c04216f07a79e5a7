"""What a model file may ask for: Keras's own layers, and no code."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from tinykit.models.operations import KERAS_OPERATIONS, TF_FUNCTIONS

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
MODELS = ("Functional", "Model", "Sequential")
# Layers of Keras 2 that stand for any symbol of TensorFlow, tf.io.write_file included, and call it while the file is read.
TF_OPERATIONS = ("TFOpLambda", "ClassMethod", "SlicingOpLambda", "InstanceMethod", "InstanceProperty", "TensorFlowOpLayer")


def refused(configuration: Any) -> list[str]:
    """Why a configuration (JSON) is not handed to Keras: code, operations that reach outside, classes that are not Keras's.

    Returns:
        One sentence a problem, sorted; [] where the configuration can be loaded.
    """
    import keras

    layers = {id(item) for item in _layer_objects(configuration)}
    problems = set()
    for item in _objects(configuration):
        inner = item.get("config")
        name = inner.get("name", "?") if isinstance(inner, dict) else "?"
        module, class_name = item.get("module"), item["class_name"]
        if class_name in ("Lambda", "__lambda__"):
            problems.add(f"layer {name!r}: a Lambda layer holds code, which cannot be represented; replace it by Keras layers")
        elif class_name in TF_OPERATIONS:
            problems |= _operation_problems(name, class_name, inner)
        elif id(item) in layers and not _is_layer(module, class_name):
            operation = hasattr(keras.ops, str(class_name).lower()) or class_name in KERAS_OPERATIONS
            problems.add(f"layer {name!r} ({class_name}): {_OPERATION if operation else _OWN}")
        elif module is not None and not _trusted(str(module), str(item.get("registered_name"))):
            problems.add(f"object {name!r}: class {class_name!r} of module {module!r} is not loaded; {_INSTEAD}")
    return sorted(problems)


_INSTEAD = "use Keras's own layers, or load the model yourself and pass it to tinykit as an object"
_OPERATION = "Keras cannot read operators (x / 255) and keras.ops back from a .h5 file; save the model with model.save('model.keras')"
_OWN = f"a class of its own is not loaded, because that needs its code; {_INSTEAD}"


def keras2_problems(configuration: Any) -> list[str]:
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


def _operation_problems(name: Any, class_name: str, inner: Any) -> set[str]:
    """TensorFlow's operations as layers: the arithmetic that `tinykit.models.operations` knows, and nothing else."""
    function = inner.get("function") if isinstance(inner, dict) else None
    if class_name == "TFOpLambda" and isinstance(function, str) and function in TF_FUNCTIONS:
        return set()
    what = f"tf.{function}" if isinstance(function, str) else "an operation of TensorFlow"
    return {f"layer {name!r} ({class_name}): {what} has no counterpart among Keras 3's layers; replace it by standard layers"}


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


def _layer_objects(configuration: Any) -> Iterator[dict[str, Any]]:
    """The entries of the lists of layers of all models inside."""
    for item in _objects(configuration):
        inner = item.get("config")
        entries = inner.get("layers") if isinstance(inner, dict) else inner
        if isinstance(entries, list):
            yield from (entry for entry in entries if isinstance(entry, dict) and "class_name" in entry)


def _is_layer(module: Any, class_name: Any) -> bool:
    """Whether an entry without a module can be a layer of Keras 3 or 2; one with a module is judged by that."""
    import keras

    if module is not None or not isinstance(class_name, str):
        return True
    if class_name in MODELS or hasattr(keras.layers, class_name):
        return True
    with contextlib.suppress(ImportError):
        import tf_keras

        return hasattr(tf_keras.layers, class_name) or hasattr(tf_keras.layers.experimental, class_name)
    return False


def _trusted(module: str, registered_name: str) -> bool:
    """Whether a file may name this class: one that tinykit registers, or any of the modules of Keras that make up models."""
    import keras

    parts = [part for part in module.split(".") if part != "src"]
    if parts[0] == "tinykit" and registered_name.startswith("tinykit>"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
        return keras.saving.get_registered_object(registered_name) is not None
    return parts[0] in KERAS_PACKAGES and (len(parts) == 1 or parts[1] in KERAS_MODULES)
