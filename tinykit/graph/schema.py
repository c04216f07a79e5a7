"""Finds the generated flatbuffer classes of the .tflite format, without TensorFlow wherever that is possible.

Three packages ship the same generated module; the first that is installed is used. Nothing is imported before `schema()` is called.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from tinykit.errors import ModelError

IDENTIFIER = b"TFL3"
MODULES = (
    "tflite_micro.tensorflow.lite.micro.python.schema_py_generated",
    "ai_edge_litert.schema_py_generated",
    "tensorflow.lite.python.schema_py_generated",
)


@cache
def schema() -> ModuleType:
    """The generated module (classes Model, ModelT, Tensor, TensorT, ...). Raises ModelError where no package has it."""
    for name in MODULES:
        module = _load(name)
        if module is not None:
            return module
    raise ModelError("reading and writing .tflite needs the format's schema, which tensorflow, ai-edge-litert and tflite-micro bring")


def _load(name: str) -> ModuleType | None:
    """The module from its file: importing it by name would start all of TensorFlow. None where its package is not installed."""
    package, *inner = name.split(".")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        file = Path(folder, *inner).with_suffix(".py")
        spec = importlib.util.spec_from_file_location("tinykit.graph._schema_py_generated", file) if file.is_file() else None
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return None


def names_of(enumeration: type) -> dict[int, str]:
    """value -> name of a generated enumeration class, e.g. BuiltinOperator."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
