"""How much each channel matters, by its weights, by its batch norm, by gradients, or by what it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tinykit.errors import ModelError
from tinykit.models.graphs import calls
from tinykit.shrink.channels import ChannelMap, layers_by_name
from tinykit.shrink.rules import Use

if TYPE_CHECKING:
    import keras

Criterion = Literal["l1", "l2", "bn_scale", "taylor", "activation"]
Batch = tuple[np.ndarray, np.ndarray]
_READERS = {"mix": "kernel", "separable": "pointwise_kernel"}
"""Kind of layer in which every output channel reads every input channel -> its kernel [..., in, out]."""


def scores(found: ChannelMap, criterion: Criterion, batches: Iterable[Batch], loss: Callable[[Any, Any], Any]) -> np.ndarray:
    """How much is lost with each channel, in a unit that only comparison gives a meaning.

    l1, l2: norm of the weights that make a channel, against the mean of its layer (Li et al. 2017, arXiv:1608.08710).
    bn_scale: |gamma| of its batch norms, against the mean of all (Liu et al. 2017, arXiv:1708.06519); by l2 where there is none.
    taylor: mean square of the first-order change of the loss without it (Molchanov et al. 2017 and 2019, arXiv:1611.06440, 1906.10771).
    activation: mean of |values| that layers with weights read, against the mean of the tensor (Hu et al. 2016, arXiv:1607.03250, with the
        mean in place of the share of zeros).

    Args:
        found: channels of the network.
        batches: (x [B, ...], target) of preprocessed training samples, as the network and the loss take them; l1, l2 and bn_scale use none.
        loss: (target, output) -> one number.

    Returns:
        [found.count], 0 and more; 0 also for channels that no layer with weights makes.

    Raises:
        ModelError: a score is not finite.
    """
    if criterion in ("l1", "l2"):
        result = _norms(found, 1 if criterion == "l1" else 2)
    elif criterion == "bn_scale":
        result = _bn_scales(found)
    elif criterion == "taylor":
        result = _taylor(found, batches, loss)
    else:
        result = _activations(found, batches)
    if not np.isfinite(result).all():
        raise ModelError(f"criterion {criterion}: scores are not finite; the weights or the samples contain NaN or vast values")
    return result


def _mean_of(found: ChannelMap, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the places of each channel, and the number of these places; `parts` are (channels [n], values [n])."""
    total, places = np.zeros(found.count), np.zeros(found.count)
    for channels, values in parts:
        np.add.at(total, channels, values)
        np.add.at(places, channels, 1)
    return total / np.maximum(places, 1), places


def _relative(values: np.ndarray) -> np.ndarray:
    return values / max(float(values.mean()), 1e-30)


def _norms(found: ChannelMap, order: int) -> np.ndarray:
    layers = layers_by_name(found.model)

    def parts() -> Iterable[tuple[np.ndarray, np.ndarray]]:
        for name, use in found.uses.items():
            if use.kind in _READERS:
                kernel = np.asarray(getattr(layers[name], _READERS[use.kind]), np.float64)
                yield use.writes, _relative(np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), order, axis=0))

    return _mean_of(found, parts())[0]


def _bn_scales(found: ChannelMap) -> np.ndarray:
    layers = layers_by_name(found.model)
    norms = [(use.reads, layers[name]) for name, use in found.uses.items() if use.kind == "norm" and layers[name].scale]
    if not norms:
        raise ModelError(f"criterion bn_scale: model {found.model.name!r} has no batch normalisation with a scale; choose l1, l2 or taylor")
    gammas = [(channels, np.abs(np.asarray(layer.gamma, np.float64))) for channels, layer in norms]
    mean = max(float(np.concatenate([gamma for _, gamma in gammas]).mean()), 1e-30)
    result, places = _mean_of(found, [(channels, gamma / mean) for channels, gamma in gammas])
    return np.where(places > 0, result, _norms(found, 2))


def _taylor(found: ChannelMap, batches: Iterable[Batch], loss: Callable[[Any, Any], Any]) -> np.ndarray:
    """What readers' weights for a channel contribute to the loss to first order: sum of weight * gradient, which is the sum over its
    elements of value * gradient; squared, and averaged over batches."""
    import tensorflow as tf

    layers = layers_by_name(found.model)
    readers: list[tuple[Use, Any]] = [
        (use, getattr(layers[name], _READERS[use.kind])) for name, use in found.uses.items() if use.kind in _READERS
    ]
    kernels = [kernel.value for _, kernel in readers]

    @tf.function
    def contributions(x: Any, y: Any) -> list[Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            value = loss(y, found.model(x, training=False))
        gradients = tape.gradient(value, kernels, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.reduce_sum(g * w, axis=[*range(len(w.shape) - 2), -1]) for g, w in zip(gradients, kernels)]

    total, count = np.zeros(found.count), 0
    for x, y in batches:
        change = np.zeros(found.count)
        for (use, kernel), part in zip(readers, contributions(tf.convert_to_tensor(x), tf.convert_to_tensor(y))):
            np.add.at(change, _inputs(use, kernel), np.asarray(part, np.float64))
        total, count = total + change**2, count + 1
    return total / max(count, 1)


def _inputs(use: Use, kernel: Any) -> np.ndarray:
    """Channel of each input of a kernel [..., in, out]; a separable convolution has `depth_multiplier` of each that it reads."""
    return np.repeat(use.reads, int(kernel.shape[-2]) // len(use.reads))


def _activations(found: ChannelMap, batches: Iterable[Batch]) -> np.ndarray:
    read = [
        (found.uses[node.operation.name].reads, node.arguments.keras_tensors[0])
        for node in calls(found.model)
        if node.operation.name in found.uses and found.uses[node.operation.name].kind in _READERS
    ]
    if not read:
        return np.zeros(found.count)
    values = _inner(found.model, [tensor for _, tensor in read])
    sums: list[Any] = [0.0] * len(read)
    for x, _ in batches:
        for i, value in enumerate(values(x)):
            sums[i] = sums[i] + np.abs(np.asarray(value, np.float64)).reshape(-1, value.shape[-1]).mean(axis=0)
    return _mean_of(found, [(channels, _relative(np.asarray(s))) for (channels, _), s in zip(read, sums)])[0]


def _inner(model: keras.Model, tensors: list[Any]) -> Callable[[np.ndarray], list[Any]]:
    """x -> values of inner tensors."""
    import keras

    inner = keras.Model(model.inputs[0] if len(model.inputs) == 1 else model.inputs, tensors)

    def values(x: np.ndarray) -> list[Any]:
        result = inner(x, training=False)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    return values
