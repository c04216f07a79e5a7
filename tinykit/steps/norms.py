"""Batch normalisation as one operation: Keras computes it with a dozen, and training a small network then mostly waits for memory.

Imports TensorFlow; import it late.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tinykit.models.norms import is_plain_norm

Normed = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def batch_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> Normed:
    """Normalises by the statistics of the batch: (x - mean) / sqrt(variance + epsilon) * gamma + beta, a channel each.

    Args:
        x: [batch, ..., channels] with two to four axes, float32.
        gamma, beta: [channels].

    Returns:
        The normalised tensor, and the mean and the (biased) variance of each channel, through which no gradient flows.
    """
    none = tf.zeros((0,))
    y, mean, variance = _fused(x, gamma, beta, none, none, epsilon, True)
    count = tf.cast(tf.size(x) // tf.size(gamma), tf.float32)
    biased = variance * tf.maximum(count - 1, 1) / count  # the operation gives the unbiased one
    return y, tf.stop_gradient(mean), tf.stop_gradient(biased)


def normed(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalises by statistics that are given; see `batch_norm`."""
    return _fused(x, gamma, beta, mean, variance, epsilon, False)[0]


def _fused(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, epsilon: float, training: bool) -> Normed:
    images = len(x.shape) == 4
    y, now, spread, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x if images else tf.reshape(x, (-1, 1, 1, x.shape[-1])),
        scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=training,
    )  # fmt: skip
    return y if images else tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape), now, spread


@contextmanager
def fused_norms(models: Iterable[keras.Model]) -> Iterator[None]:
    """Within the context, layers of batch normalisation compute what they compute otherwise, in one operation.

    Those of other types, of other axes and with `renorm` or a mask stay as they are.
    """
    layers = {id(layer): layer for model in models for layer in model._flatten_layers(include_self=False) if _suits(layer)}
    for layer in layers.values():
        layer.call = functools.partial(_call, layer)
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.call


def _suits(layer: Any) -> bool:
    if not is_plain_norm(layer) or "call" in vars(layer):
        return False
    known = layer.compute_dtype == "float32" and layer.variable_dtype == "float32" and not layer.synchronized
    return bool(known and 2 <= layer.input_spec.ndim <= 4)


def _call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """What `BatchNormalization.call` does."""
    if mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    mean, variance = tf.convert_to_tensor(layer.moving_mean), tf.convert_to_tensor(layer.moving_variance)
    gamma = tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones_like(mean)
    beta = tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros_like(mean)
    if not (training and layer.trainable):
        return normed(inputs, gamma, beta, mean, variance, layer.epsilon)
    outputs, now, spread = batch_norm(inputs, gamma, beta, layer.epsilon)
    for variable, value, new in ((layer.moving_mean, mean, now), (layer.moving_variance, variance, spread)):
        variable.assign(value * layer.momentum + new * (1 - layer.momentum))
    return outputs
