"""Preprocessing layers that a user's model begins with, and the model without them."""

import dataclasses
from typing import Any

import numpy as np

from tinykit.models.flatten import flatten_model
from tinykit.models.graphs import calls

# Layers that do nothing at inference and, in training, only move values about: scaling may pass in front of them.
_MOVING = ("Identity", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom")


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A layer that maps every value x of a channel to gain * x + offset.

    Attributes:
        layer: the Rescaling or Normalization layer of the model.
        gain: float64 [1] for the whole tensor, or [channels].
        offset: as gain.
    """

    layer: Any
    gain: np.ndarray
    offset: np.ndarray

    @property
    def per_tensor(self) -> bool:
        """Whether one gain and one offset serve all channels."""
        return self.gain.size == 1

    def operation(self) -> dict[str, Any]:
        """The same as an operation of data.preprocess; a gain of 0 has none."""
        if self.per_tensor:
            return {"scale": {"by": float(self.gain[0]), "offset": float(self.offset[0])}}
        return {"normalize": {"mean": [float(v) for v in -self.offset / self.gain], "std": [float(v) for v in 1.0 / self.gain]}}


def leading_scalings(model: Any) -> list[Scaling]:
    """The Rescaling and Normalization layers between the input of a flat functional model and its first other layer, in order.

    Layers of random flips and shifts may lie between. A layer whose constants differ along another axis than the last, or that is
    used twice, ends the list; so does an input that several layers read. [] for a model of another kind.
    """
    if not hasattr(model, "_nodes_by_depth") or len(model.inputs) != 1:
        return []
    nodes = list(calls(model))
    uses = [id(node.operation) for node in nodes]
    tensor, found = model.inputs[0], list[Scaling]()
    while True:
        readers = [node for node in nodes if any(id(t) == id(tensor) for t in node.arguments.keras_tensors)]
        if len(readers) != 1 or any(id(t) == id(tensor) for t in model.outputs):
            return found
        layer = readers[0].operation
        scaling = _scaling(layer, tensor.shape[-1])
        if scaling is not None and uses.count(id(layer)) == 1:
            found.append(scaling)
        elif type(layer).__name__ not in _MOVING or getattr(layer, "fill_mode", "") == "constant":
            return found
        tensor = readers[0].outputs[0]


def without_scalings(model: Any, scalings: list[Scaling]) -> Any:
    """`model` without these layers: a new functional model with the same weights, for samples that are scaled already."""
    return flatten_model(model, without=[scaling.layer for scaling in scalings]) if scalings else model


def _scaling(layer: Any, channels: int | None) -> Scaling | None:
    kind = type(layer).__name__
    if kind == "Rescaling":
        gain, offset = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    elif kind == "Normalization":
        mean, variance = np.asarray(layer.mean, np.float64), np.asarray(layer.variance, np.float64)
        deviation = np.maximum(np.sqrt(variance), 1e-7)
        gain, offset = (deviation, mean) if layer.invert else (1.0 / deviation, -mean / deviation)
    else:
        return None
    if any(array.size not in (1, channels) or array.size > 1 and array.shape[-1] != array.size for array in (gain, offset)):
        return None
    gain, offset = np.broadcast_arrays(gain.reshape(-1), offset.reshape(-1))
    if not (np.isfinite(gain).all() and np.isfinite(offset).all() and gain.all()):
        return None
    if len(np.unique(gain)) == 1 and len(np.unique(offset)) == 1:
        gain, offset = gain[:1], offset[:1]
    return Scaling(layer, gain, offset)
