"""Multiply-accumulates of Keras models."""

import dataclasses
import math
from typing import Any

from tinykit.errors import ModelError
from tinykit.models.graphs import calls, functional, is_model


@dataclasses.dataclass(frozen=True)
class LayerMacs:
    """One call of one layer.

    Attributes:
        name: of the layer.
        kind: its class.
        output_shape: without the batch.
        macs: multiply-accumulates for one sample; those of biases, activations, pooling and element-wise layers are not counted.
        parameters: numbers in all its weights; 0 for a further call of a layer that was already counted.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    macs: int
    parameters: int


def _convolution(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    return math.prod(outputs) * math.prod(layer.kernel_size) * (inputs[_channels(layer)] // layer.groups)


def _transposed(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    return math.prod(inputs) * math.prod(layer.kernel_size) * outputs[_channels(layer)]


def _depthwise(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    return math.prod(outputs) * math.prod(layer.kernel_size)


def _separable(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    positions = math.prod(outputs) // outputs[_channels(layer)]
    between = inputs[_channels(layer)] * layer.depth_multiplier
    return positions * between * (math.prod(layer.kernel_size) + layer.filters)


def _dense(layer: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    return math.prod(outputs) * inputs[-1]


def _channels(layer: Any) -> int:
    return 0 if layer.data_format == "channels_first" else -1


RULES = {
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "Conv1DTranspose": _transposed,
    "Conv2DTranspose": _transposed,
    "Conv3DTranspose": _transposed,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "Dense": _dense,
}
WITHOUT_MACS = {"BatchNormalization", "Normalization", "PReLU", "LayerNormalization", "GroupNormalization", "Rescaling"}


def _rule(layer: Any) -> Any:
    """The rule of the layer's class or of the Keras class it derives from; None for layers without MACs."""
    for cls in type(layer).__mro__:
        if cls.__name__ in RULES:
            return RULES[cls.__name__]
        if cls.__name__ in WITHOUT_MACS:
            return None
    if getattr(layer, "weights", []):
        raise ModelError(
            f"layer {layer.name!r}: no rule to count the multiply-accumulates of {type(layer).__name__}; "
            f"layers with weights that are counted: {', '.join(sorted(RULES))}"
        )
    return None


def layer_macs(model: Any) -> list[LayerMacs]:
    """Multiply-accumulates and parameters of every layer call, in the order of execution; nested models are entered.

    Convolutions (1 to 3 dimensions, grouped, dilated, transposed), depthwise, separable and Dense layers count one for each
    product; padding positions count too, as is usual. Everything else counts 0.

    Args:
        model: a functional or built Sequential keras.Model with fixed shapes.

    Raises:
        ModelError: layers with weights for which there is no rule, or shapes that are not fixed; all at once.
    """
    seen: set[int] = set()
    problems: list[str] = []
    rows = _rows(functional(model), seen, problems)
    if problems:
        raise ModelError(problems)
    return rows


def _rows(model: Any, seen: set[int], problems: list[str]) -> list[LayerMacs]:
    rows: list[LayerMacs] = []
    for node in calls(model):
        layer = node.operation
        if is_model(layer):
            rows += _rows(functional(layer), seen, problems)
            continue
        inputs, outputs = tuple(node.input_tensors[0].shape[1:]), tuple(node.outputs[0].shape[1:])
        try:
            rule = _rule(layer)
        except ModelError as error:
            problems += error.problems
            continue
        if rule is not None and None in inputs + outputs:
            problems.append(f"layer {layer.name!r}: shapes {list(inputs)} -> {list(outputs)} are not fixed; give keras.Input a shape")
            continue
        first = id(layer) not in seen
        seen.add(id(layer))
        parameters = sum(math.prod(weight.shape) for weight in getattr(layer, "weights", [])) if first else 0
        macs = 0 if rule is None else rule(layer, inputs, outputs)
        rows.append(LayerMacs(layer.name, type(layer).__name__, outputs, macs, parameters))
    return rows


def count_macs(model: Any) -> int:
    """Multiply-accumulates of the whole model for one sample; see `layer_macs`."""
    return sum(row.macs for row in layer_macs(model))
