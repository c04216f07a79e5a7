"""What each kind of Keras layer does to channels: one small function a kind, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tinykit.shrink.channels import _Walk

ELEMENTWISE = {
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "sigmoid", "hard_sigmoid", "hard_silu",
    "hard_swish", "tanh", "softplus", "softsign", "exponential", "tanh_shrink", "hard_tanh", "hard_shrink", "soft_shrink", "squareplus",
}  # fmt: skip
"""Activation functions that compute each element from itself alone."""
PASSING = (
    "ReLU", "LeakyReLU", "ELU", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Identity",
    "ActivityRegularization", "MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D",
    "UpSampling1D", "UpSampling2D", "RepeatVector", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom",
)  # fmt: skip
"""Layers without weights that treat all channels alike and leave the last axis as it is."""
AGREEING = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average")
"""Element by element, of two tensors or more."""


class Refused(Exception):
    """Why the channels of a layer cannot go."""


@dataclass(frozen=True)
class Use:
    """What the weights of a layer have to do with channels.

    Attributes:
        kind: 'mix' (kernel [..., in, out], bias), 'depthwise' (kernel [..., in, multiplier], bias), 'separable' (both), 'norm' (vectors),
            'reshape' (no weights, a target shape), 'whole' (as it is).
        reads: channels of the last axis of what it is given, in order [in].
        writes: of what it returns [out].
    """

    kind: str
    reads: np.ndarray
    writes: np.ndarray


def check_layer(layer: Any) -> None:
    """Refuses calls that no rule understands."""
    if getattr(layer, "data_format", None) not in (None, "channels_last"):
        raise Refused(f"data_format {layer.data_format}: build the model with channels_last")


def across_channels(layer: Any) -> str:
    """The name of a layer's activation function where that computes an element from all channels; else empty."""
    activation = getattr(layer, "activation", None)
    if activation is None or type(activation).__name__ in PASSING:  # a layer in the place of a function
        return ""
    name = getattr(activation, "__name__", type(activation).__name__)
    return "" if name in ELEMENTWISE else str(name)


def _across(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    """Every element of what it returns depends on all channels that it is given."""
    raise Refused("it looks at all channels at once")


def _one(walk: _Walk, node: Any) -> np.ndarray:
    given = walk.given(node)
    if len(given) != 1:
        raise Refused(f"it is given {len(given)} tensors")
    return given[0]


def _passing(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    return _one(walk, node)


def _mixing(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    """Every output channel reads every input channel."""
    reads = _one(walk, node)
    if getattr(layer, "groups", 1) != 1:
        raise Refused(f"groups={layer.groups}: its input and output channels are tied to blocks")
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise Refused("its weights are not one kernel")
    writes = walk.write(layer, int(layer.kernel.shape[-1]))
    walk.use(layer, "mix", reads, writes)
    return writes


def _depthwise(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    """Each input channel makes `depth_multiplier` output channels, which go with it."""
    reads = _one(walk, node)
    writes = np.repeat(reads, layer.depth_multiplier)
    walk.use(layer, "depthwise", reads, writes)
    return writes


def _separable(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    reads = _one(walk, node)
    writes = walk.write(layer, int(layer.filters))
    walk.use(layer, "separable", reads, writes)
    return writes


def _norm(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    reads = _one(walk, node)
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    rank = len(node.arguments.keras_tensors[0].shape)
    if axis not in (-1, rank - 1):
        raise Refused(f"batch normalisation over axis {axis}, not the last")
    walk.use(layer, "norm", reads, reads)
    return reads


def _rescaling(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    if np.size(layer.scale) != 1 or np.size(layer.offset) != 1:
        raise Refused("it has a constant for each channel")
    return _one(walk, node)


def _agreeing(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    """Operands must have the same channels left. A single channel that is spread over all of the other's stays."""
    given = walk.given(node)
    if len(given) < 2:
        raise Refused("an operand is a constant")
    ranks = [len(tensor.shape) for tensor in node.arguments.keras_tensors]
    if min(ranks) < 2:
        raise Refused("an operand has no channels")
    widest = max(given, key=len)
    for numbers in given:
        if len(numbers) == len(widest):
            walk.tie(widest, numbers)
        else:
            walk.keep(numbers, f"layer {layer.name!r} spreads them over all channels of the other operand")
    return widest


def _concatenate(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    given = walk.given(node)
    rank = len(node.outputs[0].shape)
    if layer.axis % rank == rank - 1:
        return np.concatenate(given)
    for numbers in given[1:]:
        walk.tie(given[0], numbers)
    return given[0]


def _reshape(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    """Elements keep their channels; those that come to lie in one place of the last axis go together."""
    reads = _one(walk, node)
    shape = tuple(node.outputs[0].shape[1:])
    if None in shape or not shape:
        raise Refused("the shape of its output is not fixed")
    writes = walk.settled(walk.laid_out(node).reshape(shape))
    walk.use(layer, "reshape", reads, writes)
    return writes


def _flatten(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    return walk.laid_out(node).reshape(-1)


def _permute(walk: _Walk, node: Any, layer: Any) -> np.ndarray:
    return walk.settled(np.transpose(walk.laid_out(node), [axis - 1 for axis in layer.dims]))


RULES: dict[str, Callable[[_Walk, Any, Any], np.ndarray]] = {
    **dict.fromkeys(PASSING, _passing),
    **dict.fromkeys(AGREEING, _agreeing),
    **dict.fromkeys(("Conv1D", "Conv2D", "Dense"), _mixing),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    "Activation": _passing,  # what it gives is kept where its function looks across channels
    "BatchNormalization": _norm,
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Permute": _permute,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "Softmax": _across,
}
"""Kind of layer -> (walk, call, layer) -> channels of the last axis of what it returns. Raises Refused where they cannot be told."""
