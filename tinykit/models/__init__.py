"""Model families in Keras 3, import of users' files, and counts of multiply-accumulates. Importing it imports no TensorFlow."""

from tinykit.models.load import flatten_model, load_model
from tinykit.models.macs import LayerMacs, count_macs, layer_macs
from tinykit.models.registry import build_model, model_names, model_options

__all__ = [
    "LayerMacs",
    "build_model",
    "count_macs",
    "flatten_model",
    "layer_macs",
    "load_model",
    "model_names",
    "model_options",
]
