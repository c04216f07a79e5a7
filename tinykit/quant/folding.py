"""A scale and shift a channel (Rescaling, Normalization) taken into the weights that read it, where that is the same in real arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

READERS = ("Conv2D", "Conv1D", "DepthwiseConv2D", "DepthwiseConv1D", "SeparableConv2D", "SeparableConv1D", "Dense")

Affine = tuple[np.ndarray, np.ndarray]
"""(gain, offset), float64 [channels] each: what a reader sees is gain * x + offset."""


def absorbs(reader: Any | None, offset: np.ndarray) -> bool:
    """Whether the layer call `reader` can take gain * x + offset into its weights.

    The border of a padded convolution is 0 behind the shift, which is no 0 in front of it: a shift needs a layer without padding.
    """
    if reader is None or type(reader.operation).__name__ not in READERS or len(reader.arguments.keras_tensors) != 1:
        return False
    layer = reader.operation
    return getattr(layer, "groups", 1) == 1 and (getattr(layer, "padding", "valid") == "valid" or not offset.any())


def compose(first: Affine | None, gain: np.ndarray, offset: np.ndarray) -> Affine:
    """gain * (what `first` makes) + offset, as one."""
    return (gain, offset) if first is None else (gain * first[0], gain * first[1] + offset)


def into_weights(affine: Affine | None, kernel: np.ndarray, bias: np.ndarray, depthwise: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Weights that make of x what the given ones make of gain * x + offset.

    Args:
        affine: None: the weights as they are.
        kernel: [..., channels in, channels out], or [..., channels, multiplier] of a depthwise convolution.
        bias: [channels out], or [channels * multiplier].

    Returns:
        (kernel, bias), float32, of the same shapes; sums in float64.
    """
    if affine is None:
        return kernel, bias
    gain, offset = (part.reshape(-1, 1) for part in affine)
    wide = kernel.astype(np.float64)
    shift = wide * offset
    total = shift.sum(axis=tuple(range(shift.ndim - 2))).reshape(-1) if depthwise else shift.sum(axis=tuple(range(shift.ndim - 1)))
    return (wide * gain).astype(np.float32), (bias.astype(np.float64) + total).astype(np.float32)
