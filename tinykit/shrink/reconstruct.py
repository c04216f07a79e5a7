"""Weights that make up for removed channels: what they contributed is predicted from those that are left."""

from __future__ import annotations

from collections.abc import Iterable
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

    A layer y = W x + b that loses the inputs x_r keeps y as well as x_a allows: W_a + W_r P and b + W_r (mean x_r - P mean x_a), where P
    predicts x_r from x_a. Layers without a bias predict without the means. Conv2D and Dense that are called once change, all others stay.

    Args:
        found: of the whole network.
        alive: the channels that the shrunk network has [found.count].
        smaller: the network to change, from `tinykit.shrink.surgery.shrink`.
        samples: batches [B, ...] of preprocessed training samples.
        seed: of the places that are looked at.

    Returns:
        Number of layers that were changed.
    """
    reading = _readers(found, alive)
    if not reading:
        return 0
    moments = _moments(found.model, reading, samples, np.random.default_rng(seed))
    layers = layers_by_name(found.model)
    for node, moment in zip(reading, moments):
        name = node.operation.name
        use = found.uses[name]
        _refit(layers[name], smaller.get_layer(name), alive[use.reads], np.flatnonzero(alive[use.writes]), *moment)
    return len(reading)


def _readers(found: ChannelMap, alive: np.ndarray) -> list[Any]:
    """Calls of layers that lose inputs and can be refitted."""
    nodes = [node for node in calls(found.model) if type(node.operation).__name__ in ("Conv2D", "Dense")]
    names = [node.operation.name for node in nodes]
    return [
        node
        for node in nodes
        if names.count(node.operation.name) == 1 and (use := found.uses[node.operation.name]).kind == "mix" and not alive[use.reads].all()
    ]


Moment = tuple[np.ndarray, np.ndarray]


def _moments(model: keras.Model, nodes: list[Any], samples: Iterable[np.ndarray], rng: np.random.Generator) -> list[Moment]:
    """(mean [K], mean of products [K, K]) of what each layer multiplies its kernel with."""
    import keras

    inner = keras.Model(model.inputs[0], [node.arguments.keras_tensors[0] for node in nodes])
    sums: list[list[Any]] = [[0.0, 0.0, 0] for _ in nodes]
    for x in samples:
        values = inner(x, training=False)
        for total, node, value in zip(sums, nodes, values if isinstance(values, (list, tuple)) else [values]):
            rows = _rows(node.operation, value, rng).astype(np.float64)
            total[0], total[1], total[2] = total[0] + rows.sum(0), total[1] + rows.T @ rows, total[2] + len(rows)
    return [(mean / count, products / count) for mean, products, count in sums]


def _rows(layer: Any, value: Any, rng: np.random.Generator) -> np.ndarray:
    """Some rows [n, K] of what a layer multiplies its kernel [K, out] with."""
    import tensorflow as tf

    if hasattr(layer, "kernel_size"):
        windows = ((1, *sizes, 1) for sizes in (layer.kernel_size, layer.strides, layer.dilation_rate))
        value = tf.image.extract_patches(value, *windows, padding=layer.padding.upper())
    flat = np.asarray(value).reshape(-1, value.shape[-1])
    count = min(len(flat), _ROWS * len(value))
    return flat[rng.choice(len(flat), count, replace=False)] if count < len(flat) else flat


def _refit(whole: Any, layer: Any, reads: np.ndarray, writes: np.ndarray, mean: np.ndarray, products: np.ndarray) -> None:
    """Gives `layer`, which reads the inputs where `reads` is true and writes `writes`, the weights that make up for the others."""
    kernel, *bias = whole.get_weights()
    flat = kernel.reshape(-1, kernel.shape[-1])[:, writes].astype(np.float64)
    stay = np.tile(reads, len(flat) // len(reads))
    if bias:
        products = products - np.outer(mean, mean)
    own = products[np.ix_(stay, stay)]
    ridge = _RIDGE * max(float(np.trace(own)) / max(len(own), 1), 1e-12)
    predict = np.linalg.solve(own + ridge * np.eye(len(own)), products[np.ix_(stay, ~stay)])
    refitted = flat[stay] + predict @ flat[~stay]
    left = [refitted.reshape(*kernel.shape[:-2], -1, len(writes)).astype(np.float32)]
    if bias:
        shift = (mean[~stay] - mean[stay] @ predict) @ flat[~stay]
        left.append((bias[0][writes] + shift).astype(np.float32))
    layer.set_weights(left)
