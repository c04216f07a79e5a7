"""Weights that share few values: k-means from centroids of tensorflow-model-optimization, a table a tensor or a channel.

A table a tensor is one of the layer's own weights, before batch norm: in the integer network the gain of batch norm belongs to the
channel's scale, so that every channel has the same codes. A negative gain would turn their signs: such channels are mirrored first, which
is the same function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tinykit.models.graphs import calls
from tinykit.quant.fuse import IDENTITY_LAYERS
from tinykit.shrink.kernels import Kernel, kernels
from tinykit.shrink.tfmot import Start, first_centroids

if TYPE_CHECKING:
    import keras

Table = Literal["tensor", "channel"]

_ROUNDS = 300


def clustered(values: np.ndarray, count: int, start: Start, zero: bool) -> np.ndarray:
    """Values [N] moved to at most `count` centroids of least squared error (Lloyd 1982, from the first centroids).

    Args:
        values: float32.
        zero: exact zeros, and they alone, are a cluster of their own.

    Returns:
        Float32 [N] of at most `count` different values.
    """
    own = values[values != 0] if zero else values
    free = count - (len(own) < len(values))
    if len(np.unique(own)) <= free:
        return values
    centres = first_centroids(values, count if zero else free, start, zero)
    centres = np.unique(centres[centres != 0] if zero else centres)[:free]
    ordered = np.sort(own.astype(np.float64))
    for _ in range(_ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        parts = np.split(ordered, ends)
        moved = np.array([part.mean() if len(part) else centre for part, centre in zip(parts, centres, strict=True)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    nearest = centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values.astype(np.float64))]
    return np.where(values == 0, 0, nearest).astype(np.float32) if zero else nearest.astype(np.float32)


def shared(kernel: Kernel, count: int, start: Start, table: Table, zero: bool) -> np.ndarray:
    """The kernel's weights, in its shape, with at most `count` values in the tensor or in each channel."""
    values = kernel.values()
    if table == "tensor":
        return clustered(values.ravel(), count, start, zero).reshape(values.shape)
    columns = kernel.columns(values)
    return np.stack([clustered(column, count, start, zero) for column in columns.T], axis=1).reshape(values.shape)


def normed(model: keras.Model) -> dict[str, Any]:
    """Layer -> the batch norm that alone reads what it makes, and that the integer network folds into it."""
    readers: dict[int, list[Any]] = {}
    for node in calls(model):
        for tensor in node.arguments.keras_tensors:
            readers.setdefault(id(tensor), []).append(node)
    outputs = {id(tensor) for tensor in model.outputs}
    called: dict[str, int] = {}
    found = {}
    for node in calls(model):
        name = node.operation.name
        called[name] = called.get(name, 0) + 1
        tensor = node.outputs[0]
        while len(after := readers.get(id(tensor), [])) == 1 and type(after[0].operation).__name__ in IDENTITY_LAYERS:
            tensor = after[0].outputs[0]
        if len(after) == 1 and id(tensor) not in outputs and type(after[0].operation).__name__ == "BatchNormalization":
            found[name] = after[0].operation
    return {name: norm for name, norm in found.items() if called[name] == called[norm.name] == 1}


def mirrored(model: keras.Model) -> tuple[list[Any], int]:
    """Makes the gains of batch norms positive that stand behind a layer with weights, in place; the network computes what it did.

    Returns:
        (their scales, which must not become negative again, and how many channels were mirrored).
    """
    norms, gains, count = normed(model), [], 0
    for kernel in kernels(model):
        norm = norms.get(kernel.layer.name)
        if norm is None or norm.gamma is None or kernel.name != kernel.layer.name:
            continue
        gains.append(norm.gamma)
        sign = np.where(np.asarray(norm.gamma) < 0, -1, 1).astype(np.float32)
        count += int((sign < 0).sum())
        values = kernel.values()
        kernel.variable.assign((kernel.columns(values) * sign).reshape(values.shape))
        for variable in (kernel.layer.bias if kernel.layer.use_bias else None, norm.moving_mean, norm.gamma):
            if variable is not None:
                variable.assign(np.asarray(variable) * sign)
    return gains, count
