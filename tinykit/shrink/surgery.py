"""A network rebuilt with fewer channels, weights carried over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.shrink.channels import ChannelMap
from tinykit.shrink.rules import Use

if TYPE_CHECKING:
    import keras


def shrink(found: ChannelMap, alive: np.ndarray) -> keras.Model:
    """The network without the channels that are not alive: the same layers, names and weights, smaller.

    It computes what the network computes when these channels are 0 in every tensor.

    Args:
        found: of the network.
        alive: mask [found.count] of the channels that stay.

    Returns:
        A new functional model; the old one is unchanged.

    Raises:
        ValueError: the mask removes channels that must stay, or all channels of a group.
    """
    import keras

    _check(found, alive)
    weights: dict[str, list[np.ndarray]] = {}

    def rebuilt(layer: Any) -> Any:
        use = found.uses.get(layer.name)
        configuration = layer.get_config()
        if use is not None:
            configuration |= _settings(use, layer, alive)
            weights[layer.name] = _weights(use, layer, alive)
        else:
            weights[layer.name] = layer.get_weights()
        return type(layer).from_config(configuration)

    smaller = keras.models.clone_model(found.model, clone_function=rebuilt)
    for layer in smaller.layers:
        if weights.get(layer.name):
            layer.set_weights(weights[layer.name])
    return smaller


def _check(found: ChannelMap, alive: np.ndarray) -> None:
    if alive.shape != (found.count,) or alive.dtype != np.bool_:
        raise ValueError(f"expected a mask of {found.count} channels, got {alive.dtype} {list(alive.shape)}")
    for group in found.groups:
        left = int(alive[group.channels].sum())
        if group.kept and left != len(group.channels):
            raise ValueError(f"channels of {group.name or 'the input'} must stay: {group.kept}")
        if not left:
            raise ValueError(f"no channel of {group.name} would be left")


def _settings(use: Use, layer: Any, alive: np.ndarray) -> dict[str, Any]:
    """What changes in a layer's configuration."""
    left = int(alive[use.writes].sum())
    if use.kind in ("mix", "separable"):
        return {"units" if hasattr(layer, "units") else "filters": left}
    if use.kind == "reshape":
        return {"target_shape": (*layer.target_shape[:-1], left)}
    return {}


def _weights(use: Use, layer: Any, alive: np.ndarray) -> list[np.ndarray]:
    """The weights of a layer without what belongs to removed channels, in Keras's order."""
    values = layer.get_weights()
    reads, writes = np.flatnonzero(alive[use.reads]), np.flatnonzero(alive[use.writes])
    if use.kind == "mix":
        kernel, *bias = values
        return [kernel[..., reads, :][..., writes], *(b[writes] for b in bias)]
    if use.kind == "depthwise":
        kernel, *bias = values
        return [kernel[..., reads, :], *(b[writes] for b in bias)]
    if use.kind == "separable":
        depthwise, pointwise, *bias = values
        between = np.flatnonzero(np.repeat(alive[use.reads], depthwise.shape[-1]))
        return [depthwise[..., reads, :], pointwise[..., between, :][..., writes], *(b[writes] for b in bias)]
    if use.kind == "norm":
        return [value[reads] for value in values]
    return values
