"""The quantiser of an activation tensor: one learned step, shared by every tensor that must have the same scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tinykit.quant.arithmetic import short_scale, straight_through

SMALLEST_STEP, LARGEST_STEP = 1e-12, 1e6


def least_stored(bits: int, signed: bool) -> int:
    """Least stored integer of a tensor: a sub-byte one starts at -128 when it is unsigned, and is centred on 0 when it is signed."""
    return -(1 << (bits - 1)) if signed else -128


@dataclass
class QValue:
    """A tensor on its way through the integer network.

    Attributes:
        q: float32 [N, ...], integers *with the zero point removed*: real value = scale * q.
        quantizer: owner of the scale, the zero point and the range.
    """

    q: tf.Tensor
    quantizer: TensorQuantizer

    @property
    def scale(self) -> tf.Tensor:
        """Float32 scalar."""
        return self.quantizer.scale()


@keras.saving.register_keras_serializable("tinykit")
class TensorQuantizer(keras.layers.Layer):
    """Scale, zero point and range of a group of tensors.

    The step is learned in the log domain (LSQ, Esser et al. 2020, with one learning rate for all: Adam ignores LSQ's gradient scaling), so
    it
    stays positive.

    Args:
        bits: 8, 4 or 2.
        signed: False for tensors that are never negative (zero point at the bottom of the range).
        fixed: (scale, zero point) that must not change, e.g. of the input, of a softmax; None for a learned step.
        max_real: largest real value that the range should reach (6 for ReLU6), or None; `limit` holds learned steps to it.
    """

    def __init__(
        self, bits: int = 8, signed: bool = True, fixed: tuple[float, int] | None = None, max_real: float | None = None, **kwargs: Any
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.bits, self.signed, self.max_real = bits, signed, max_real
        self.fixed = (float(fixed[0]), int(fixed[1])) if fixed is not None else None
        start = math.log(self.fixed[0]) if self.fixed else math.log(1.0 / 128)
        constant = keras.initializers.Constant
        self.log_step = self.add_weight(shape=(), initializer=constant(start), name="log_step", trainable=self.fixed is None)
        zero = self.fixed[1] if self.fixed else (0 if signed else self.low)
        self.zero_point = self.add_weight(shape=(), initializer=constant(zero), name="zero_point", trainable=False)
        self.built = True

    @property
    def low(self) -> int:
        """Least stored integer."""
        return least_stored(self.bits, self.signed)

    @property
    def high(self) -> int:
        """Largest stored integer."""
        return self.low + (1 << self.bits) - 1

    def scale(self) -> tf.Tensor:
        """Float32 scalar."""
        if self.fixed:
            return tf.constant(self.fixed[0], tf.float32)
        return short_scale(tf.exp(tf.convert_to_tensor(self.log_step)))

    def limit(self) -> None:
        """Keeps a learned step where float32 can work with it, and the range below `max_real`."""
        if self.fixed:
            return
        most = LARGEST_STEP if self.max_real is None else self.max_real / ((1 << self.bits) - 1)
        step = tf.convert_to_tensor(self.log_step)
        self.log_step.assign(tf.clip_by_value(step, math.log(SMALLEST_STEP), math.log(most)))

    def at_least(self, scale: tf.Tensor) -> None:
        """Raises a learned step to `scale` (float32 scalar) where it is below it."""
        if not self.fixed:
            step = tf.convert_to_tensor(self.log_step)
            self.log_step.assign(tf.where(short_scale(tf.exp(step)) < scale, tf.math.log(scale * 1.001), step))

    def limits(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Float32 scalars: least and largest centred integer."""
        zero = tf.convert_to_tensor(self.zero_point)
        return self.low - zero, self.high - zero

    def emit(self, linear: tf.Tensor, exact: tf.Tensor, bounds: tuple[tf.Tensor, tf.Tensor] | None = None) -> QValue:
        """A result: `exact` (float64 integers) forward, the gradient of `linear` (float32, in units of this step) backward, clamped.

        Args:
            bounds: least and largest centred integer; None: the whole range.
        """
        low, high = bounds if bounds is not None else self.limits()
        return QValue(tf.clip_by_value(straight_through(linear, tf.cast(tf.stop_gradient(exact), tf.float32)), low, high), self)

    def to_integers(self, x: tf.Tensor) -> QValue:
        """Real float32 values -> centred integers: floor(x / scale + 1/2) in float64, clamped; the same formula as
        `tinykit.graph.reference.quantize_input`."""
        scale = self.scale()
        exact = tf.floor(tf.cast(tf.stop_gradient(x), tf.float64) * (1.0 / tf.cast(tf.stop_gradient(scale), tf.float64)) + 0.5)
        return self.emit(x / scale, exact)

    def assign(self, scale: float, zero_point: int) -> None:
        """Sets a learned quantiser's step and zero point (calibration)."""
        if self.fixed:
            raise ValueError(f"quantizer {self.name}: the scale is fixed to {self.fixed}")
        self.log_step.assign(math.log(scale))
        self.zero_point.assign(float(zero_point))

    def get_config(self) -> dict:
        """Everything but the learned values."""
        own = {"bits": self.bits, "signed": self.signed, "fixed": self.fixed, "max_real": self.max_real}
        return {**super().get_config(), **own}
