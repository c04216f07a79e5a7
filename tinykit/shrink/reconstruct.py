"""Weights that make up for removed channels: what they contributed is predicted from those that are left."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.models.graphs import calls
from tinykit.shrink.channels import ChannelMap, layers_by_name

if TYPE_CHECKING:
    import keras

_ROWS = 64
"""Places of a tensor that one sample contributes."""
_RIDGE = 1e-2
"""Against the mean variance of the inputs: few samples must not fit noise."""


def reconstruct(found: ChannelMap, alive: np.ndarray, smaller: keras.Model, samples: Iterable[np.ndarray], seed: int = 0) -> int:
    """Changes the weights of a shrunk network so that its layers give nearly what they gave, by least squares on samples (after He et al.
    2017, arXiv:1707.06168, with all inputs of the whole network and a ridge).

    From input to output, each layer is fitted to what it gave in the whole network, from what the layers before it give now; so errors do
    not add up. With u its inputs in the whole network, v those that it has now, and W_v its weights for them, W_v + D and b + d give
    what is nearest to W u + b, where D is held to 0 by the ridge. Layers without a bias are fitted without the means. Conv2D and Dense
    that are called once change, all others stay.

    Args:
        found: of the whole network.
        alive: the channels that the shrunk network has [found.count].
        smaller: the network to change, from `tinykit.shrink.surgery.shrink`.
        samples: batches [B, ...] of preprocessed training samples.
        seed: of the places that are looked at.

    Returns:
        Number of layers that were changed.
    """
    if alive.all():
        return 0
    nodes, batches = _fitted(found, alive), list(samples)
    now = {node.operation.name: node for node in calls(smaller)}
    for node in nodes:
        name = node.operation.name
        reads, writes = (alive[channels] for channels in (found.uses[name].reads, found.uses[name].writes))
        moments = _moments(_pairs(found.model, node, smaller, now[name], batches, np.random.default_rng(seed)))
        _refit(node.operation, smaller.get_layer(name), reads, writes, *moments)
    return len(nodes)


def _fitted(found: ChannelMap, alive: np.ndarray) -> list[Any]:
    """Calls of layers that can be fitted and read something else than in the whole network, from input to output."""
    layers = layers_by_name(found.model)
    names = [node.operation.name for node in calls(found.model)]
    changed: set[int] = set()  # tensors
    chosen = []
    for node in calls(found.model):
        operation = node.operation
        use = found.uses.get(operation.name)
        loses = use is not None and not (alive[use.reads].all() and alive[use.writes].all())
        differs = any(id(tensor) in changed for tensor in node.arguments.keras_tensors)
        if differs or loses:
            changed |= {id(tensor) for tensor in node.outputs}
        kind = type(layers.get(operation.name, operation)).__name__
        once = names.count(operation.name) == 1 and use is not None and use.kind == "mix"
        if differs and once and kind in ("Conv2D", "Dense"):
            chosen.append(node)
    return chosen


def _pairs(
    whole: keras.Model, node: Any, smaller: keras.Model, own: Any, batches: Iterable[np.ndarray], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(u [n, K], v [n, k]): what a layer multiplies its kernel with in either network, at the same places."""
    import keras

    inner = [keras.Model(model.inputs[0], call.arguments.keras_tensors[0]) for model, call in ((whole, node), (smaller, own))]
    shape = node.outputs[0].shape[1:-1]
    for x in batches:
        total = len(x) * math.prod(shape)
        count = min(total, _ROWS * len(x))
        places = rng.choice(total, count, replace=False) if count < total else np.arange(total)
        u, v = (_rows(node.operation, np.asarray(model(x, training=False)), shape, places) for model in inner)
        yield u, v


def _rows(layer: Any, value: np.ndarray, shape: Sequence[int], places: np.ndarray) -> np.ndarray:
    """The rows [n, K] of what a layer multiplies its kernel [K, out] with at `places` [n], of all places [batch, *shape] of its output."""
    channels = value.shape[-1]
    if not hasattr(layer, "kernel_size"):
        return value.reshape(-1, channels)[places]
    sizes, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
    reach = [dilation * (size - 1) + 1 for size, dilation in zip(sizes, dilations)]
    if layer.padding == "same":
        needed = [max((out - 1) * stride + n - have, 0) for out, stride, n, have in zip(shape, strides, reach, value.shape[1:-1])]
        value = np.pad(value, [(0, 0), *((n // 2, n - n // 2) for n in needed), (0, 0)])
    sample, row, column = np.unravel_index(places, (len(value), *shape))
    rows, columns = (
        at[:, None] * stride + dilation * np.arange(size) for at, stride, dilation, size in zip((row, column), strides, dilations, sizes)
    )
    return value[sample[:, None, None], rows[:, :, None], columns[:, None, :]].reshape(len(places), -1)


Moments = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _moments(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Moments:
    """Means of u, v, v v^T and v u^T, float64; of each batch in single precision, which the ridge is far above."""
    sums: list[Any] = [0.0, 0.0, 0.0, 0.0]
    count = 0
    for u, v in pairs:
        for i, value in enumerate((u.sum(0), v.sum(0), v.T @ v, v.T @ u)):
            sums[i] = sums[i] + value.astype(np.float64)
        count += len(u)
    u, v, own, cross = (total / count for total in sums)
    return u, v, own, cross


def _refit(
    whole: Any, layer: Any, reads: np.ndarray, writes: np.ndarray, u: np.ndarray, v: np.ndarray, own: np.ndarray, cross: np.ndarray
) -> None:
    """Gives `layer`, which reads the inputs where `reads` is true and writes the outputs where `writes` is, the weights that are nearest
    to what `whole` gives."""
    kernel, *bias = whole.get_weights()
    flat = kernel.reshape(-1, kernel.shape[-1])[:, writes].astype(np.float64)
    kept = flat[np.tile(reads, len(flat) // len(reads))]
    if bias:
        own, cross = own - np.outer(v, v), cross - np.outer(v, u)
    ridge = _RIDGE * max(float(np.trace(own)) / max(len(own), 1), 1e-12)
    change = np.linalg.solve(own + ridge * np.eye(len(own)), cross @ flat - own @ kept)
    left = [(kept + change).reshape(*kernel.shape[:-2], -1, len(change[0])).astype(np.float32)]
    if bias:
        left.append((bias[0][writes] + u @ flat - v @ (kept + change)).astype(np.float32))
    layer.set_weights(left)
