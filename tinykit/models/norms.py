"""What there is to ask of a layer of batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_plain_norm(layer: Any) -> bool:
    """Whether a layer is Keras's batch normalisation (no subclass), built, over the last axis, and without renormalisation."""
    if type(layer).__name__ != "BatchNormalization" or not type(layer).__module__.startswith("keras.") or not layer.built:
        return False
    return layer.axis in (-1, layer.input_spec.ndim - 1) and not layer.renorm


def gain_and_shift(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """What batch normalisation does at inference: x * gain + shift; float64 [channels] each."""
    mean, variance = (np.asarray(value, np.float64) for value in (layer.moving_mean, layer.moving_variance))
    gain = (np.asarray(layer.gamma, np.float64) if layer.scale else np.ones_like(mean)) / np.sqrt(variance + layer.epsilon)
    shift = (np.asarray(layer.beta, np.float64) if layer.center else 0.0) - mean * gain
    return gain, shift
