"""Arithmetic that a model does with operators and functions (x / 255 - 0.5, x + y, tf.nn.relu) as the layers that do the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# What tf_keras stores as a TFOpLambda layer; every other function of TensorFlow is refused unread.
TF_FUNCTIONS = {
    "__operators__.add": "add",
    "math.add": "add",
    "math.subtract": "subtract",
    "math.multiply": "multiply",
    "math.truediv": "divide",
    "math.divide": "divide",
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.silu": "silu",
    "nn.softmax": "softmax",
    "math.sigmoid": "sigmoid",
    "math.tanh": "tanh",
}
# Classes of Keras 3's operations.
KERAS_OPERATIONS = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Divide": "divide",
    "TrueDivide": "divide",
    "Relu": "relu",
    "Relu6": "relu6",
    "Silu": "silu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}
MERGING = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply"}


def as_layer(operation: str, name: str, arguments: Sequence[Any]) -> tuple[Any, Any] | None:
    """The layer that does what an operation does.

    Args:
        operation: a value of the tables above.
        name: of the layer.
        arguments: the operation's, in order: Keras tensors [N, ...] and numbers or arrays.

    Returns:
        (layer, what to call it with), or None where no layer does the same: operands of different rank, constants that are
        neither one value nor one a channel.
    """
    import keras

    tensors = [value for value in arguments if isinstance(value, keras.KerasTensor)]
    if not tensors:
        return None
    if operation in ("add", "subtract", "multiply", "divide"):
        if len(arguments) != 2:
            return None
        if len(tensors) == 2:
            same = len(tensors[0].shape) == len(tensors[1].shape)
            return (getattr(keras.layers, MERGING[operation])(name=name), tensors) if same and operation in MERGING else None
        return _rescaling(operation, name, arguments, tensors[0])
    if len(arguments) != 1:
        return None
    return keras.layers.Activation(operation, name=name), tensors[0]


def _rescaling(operation: str, name: str, arguments: Sequence[Any], tensor: Any) -> tuple[Any, Any] | None:
    """tensor (+ - * /) constant, or constant (+ - *) tensor, as scale * tensor + offset."""
    import keras

    first = arguments[0] is tensor
    try:
        constant = np.asarray(arguments[1 if first else 0], np.float64)
    except (TypeError, ValueError):
        return None
    if constant.size != 1 and (constant.size != tensor.shape[-1] or constant.shape[-1] != constant.size):
        return None
    if not np.isfinite(constant).all() or operation == "divide" and (not first or not constant.all()):
        return None
    ones = np.ones_like(constant)
    scale, offset = {
        "add": (ones, constant),
        "subtract": (ones, -constant) if first else (-ones, constant),
        "multiply": (constant, 0 * ones),
        "divide": (1.0 / constant if operation == "divide" else ones, 0 * ones),
    }[operation]
    return keras.layers.Rescaling(_plain(scale), _plain(offset), name=name), tensor


def _plain(values: np.ndarray) -> Any:
    """A number, or a list of them: what a layer's configuration can hold."""
    flat = values.reshape(-1)
    return float(flat[0]) if flat.size == 1 else [float(value) for value in flat]
