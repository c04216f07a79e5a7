"""Finds the generated flatbuffer classes of the .tflite format, without TensorFlow wherever that is possible.

Three packages ship the same generated module; the first that is installed is used. Nothing is imported before `schema()` is called.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from tinykit.errors import ModelError

IDENTIFIER = b"TFL3"
MODULES = (
    "tflite_micro.tensorflow.lite.micro.python.schema_py_generated",
    "ai_edge_litert.schema_py_generated",
    "tensorflow.lite.python.schema_py_generated",
)


def schema() -> ModuleType:
    """The generated module (classes Model, ModelT, Tensor, TensorT, ...). Raises ModelError where no package has it."""
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ModelError(
        "reading and writing .tflite needs the format's schema: pip install tflite-micro==0.dev20261023182759 (or ai-edge-litert)"
    )


def names_of(enumeration: type) -> dict[int, str]:
    """value -> name of a generated enumeration class, e.g. BuiltinOperator."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
