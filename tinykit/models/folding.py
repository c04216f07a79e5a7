"""Batch normalisation as part of the layers before it: a network that is only run needs no pass over memory for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.models.graphs import calls, functional
from tinykit.models.norms import gain_and_shift, is_plain_norm

if TYPE_CHECKING:
    import keras

_HOSTS = ("Conv1D", "Conv2D", "Conv3D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")


def without_norms(model: keras.Model) -> keras.Model:
    """A network that gives what `model` gives at inference, to rounding, without the batch norms that only follow a linear layer.

    Returns:
        Another network, which shares no weights with `model`; `model` itself where there is nothing to fold, or where
        it cannot be rebuilt: it is no functional model, or has layers that are not Keras's own.
    """
    import keras

    try:
        model = functional(model)
    except ModelError:
        return model
    hosts = _hosts(model)
    if not hosts or any(not type(layer).__module__.startswith("keras.") for layer in model._flatten_layers(include_self=False)):
        return model
    norms = set(hosts.values())

    def rebuilt(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config(config | {"use_bias": True} if layer.name in hosts else config)

    def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in norms else layer(*args, **kwargs)

    found = keras.models.clone_model(model, clone_function=rebuilt, call_function=called)
    for layer in model.layers:
        if layer.name not in norms and layer.weights:
            folded = _folded(layer, model.get_layer(hosts[layer.name])) if layer.name in hosts else layer.get_weights()
            found.get_layer(layer.name).set_weights(folded)
    return found


def _hosts(model: Any) -> dict[str, str]:
    """Name of a layer -> that of the batch norm that can become part of it."""
    nodes = list(calls(model))
    names = [node.operation.name for node in nodes]
    made = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    read = [id(tensor) for node in nodes for tensor in node.arguments.keras_tensors] + [id(tensor) for tensor in model.outputs]
    found = {}
    for node in nodes:
        norm, tensor = node.operation, node.arguments.keras_tensors[0]
        host = made.get(id(tensor))
        if host is None or not (is_plain_norm(norm) and _is_linear(host)):
            continue
        if names.count(norm.name) == names.count(host.name) == read.count(id(tensor)) == 1:
            found[host.name] = norm.name
    return found


def _is_linear(layer: Any) -> bool:
    named = type(layer).__name__ in _HOSTS and getattr(layer, "data_format", None) in (None, "channels_last")
    return named and getattr(layer.activation, "__name__", "") == "linear"


def _folded(host: Any, norm: Any) -> list[np.ndarray]:
    """The host's weights with the norm in them: kernels, of which the last is scaled, and a bias."""
    gain, shift = gain_and_shift(norm)
    kernels = host.get_weights()
    bias = kernels.pop() if host.use_bias else 0.0
    last = kernels.pop()
    over = gain.reshape(last.shape[-2:]) if type(host).__name__.startswith("Depthwise") else gain
    return [*kernels, (last * over).astype(np.float32), (bias * gain + shift).astype(np.float32)]
