"""The weights of an integer layer: what of them is trained, what batch norm makes of them, and their integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tinykit.quant.arithmetic import CHANNEL_SCALE_BITS, SCALE_BITS, round_half_up, short_scale
from tinykit.quant.grid import best_weight_steps, weight_grid
from tinykit.quant.kept import Shared
from tinykit.quant.layer import QLayer


def _floored(gain: tf.Tensor) -> tf.Tensor:
    """Magnitudes of gains, at least a thousandth of the largest."""
    gain = tf.abs(gain)
    return tf.maximum(gain, tf.maximum(1e-3 * tf.reduce_max(gain), 1e-6))


class Weights(QLayer):
    """Weights and biases, with batch norm that is folded or still variable.

    Weights are kept in units of their channel's largest magnitude (`v * unit`), so that one learning rate suits all layers; a step per
    output channel (per tensor for dense layers, as TFLM's FULLY_CONNECTED wants it) is learned in the log domain.

    Two things of the float network can be kept for good, through training (`tinykit.quant.kept`). `sparse`: a mask beside the weights;
    where it is 0 the integer is 0. `shared`: the weights are entries of a table of numbers in -1..1 that are trained, each by the sum of
    its members' gradients; an integer is its entry times the largest integer, rounded, whatever the channel's step is, so that no more
    integers appear than the table has entries.

    Args:
        kernel_shape: last axis output channels: (kh, kw, in, out), (kh, kw, out) for depthwise, (in, out) for dense.
        weight_bits: 8, 4 or 2; the integers are -L..L with L = 2^(bits-1) - 1, but for the four-level book.
        codebook: of 2-bit weights: "four_levels" {-3, -1, 1, 3}, which learns better, or "ternary" {-1, 0, 1}, which has zeros and runs
            faster.
        batch_norm: None when folded and frozen; {"epsilon", "momentum"} when gamma, beta and the moving statistics stay variables (not for
            dense layers, whose one weight scale cannot take a gain per channel).
        sparse: there is a mask.
        shared: (rows, entries) of the table; a row for all channels or one each. None: every weight is trained.
    """

    per_channel: ClassVar[bool] = True

    def __init__(
        self,
        kernel_shape: Sequence[int],
        weight_bits: int,
        codebook: str,
        batch_norm: dict[str, float] | None,
        sparse: bool,
        shared: Sequence[int] | None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_shape, self.weight_bits, self.codebook = tuple(kernel_shape), weight_bits, codebook
        self.batch_norm = batch_norm or {}
        self.sparse, self.shared = sparse, None if shared is None else tuple(shared)
        if self.sparse and self.odd:
            raise ValueError(f"layer {self.name!r}: weights are to stay 0, and the integers {{-3, -1, 1, 3}} have no 0")
        out = self.kernel_shape[-1]
        if self.shared is None:
            self.v = self.add_weight(shape=self.kernel_shape, initializer="zeros", name="v")
            self.unit = self.add_weight(shape=(out,), initializer="ones", name="unit", trainable=False)
        else:
            self.table = self.add_weight(shape=self.shared, initializer="zeros", name="table")
            self.indices = self.add_weight(shape=self.kernel_shape, initializer="zeros", name="indices", dtype="int32", trainable=False)
        if self.sparse:
            self.mask = self.add_weight(shape=self.kernel_shape, initializer="ones", name="mask", trainable=False)
        self.b = self.add_weight(shape=(out,), initializer="zeros", name="b")
        steps = (out,) if self.per_channel else (1,)
        self.log_step = self.add_weight(shape=steps, initializer=keras.initializers.Constant(math.log(1 / 127)), name="log_step")
        self.learns_statistics = tf.Variable(1.0, trainable=False)  # TensorFlow's own, because it is no part of the network
        if batch_norm:
            self.gamma = self.add_weight(shape=(out,), initializer="ones", name="gamma")
            self.beta = self.add_weight(shape=(out,), initializer="zeros", name="beta")
            self.moving_mean = self.add_weight(shape=(out,), initializer="zeros", name="moving_mean", trainable=False)
            self.moving_variance = self.add_weight(shape=(out,), initializer="ones", name="moving_variance", trainable=False)

    @property
    def odd(self) -> bool:
        """Whether the integer weights are the odd numbers only."""
        return weight_grid(self.weight_bits, self.codebook)[1]

    @property
    def level(self) -> int:
        """Largest integer weight; the grid is symmetric."""
        return weight_grid(self.weight_bits, self.codebook)[0]

    def _on_grid(self, x: tf.Tensor) -> tf.Tensor:
        """Real multiples of the step -> the nearest integers of the grid, with a straight-through gradient inside its range."""
        if self.odd:
            return 2.0 * round_half_up(tf.clip_by_value((x - 1.0) / 2.0, -2.0, 1.0)) + 1.0
        return round_half_up(tf.clip_by_value(x, -float(self.level), float(self.level)))

    # float side -----------------------------------------------------------------------------------------------------------------

    def _gain(self) -> tf.Tensor:
        # the maximum also keeps TensorFlow's graph optimiser from making a reciprocal square root of it, which rounds otherwise than the
        # eager division that the integer graph is made with
        deviation = tf.maximum(tf.sqrt(self.moving_variance + self.batch_norm["epsilon"]), 1e-12)
        gain = self.gamma / deviation
        return gain if self.shared is None else _floored(gain)  # all of it belongs to the scale: the integers are the table's

    def _scale_gain(self) -> tf.Tensor:
        """The part of the gain that goes into the weight scale: its magnitude, floored at a thousandth of the layer's largest."""
        return _floored(self._gain())

    def _plain(self) -> tf.Tensor:
        """Float32 weights before batch norm."""
        w = self.v * self.unit if self.shared is None else self._entries() * tf.exp(tf.convert_to_tensor(self.log_step))
        return w * self.mask if self.sparse else w

    def _entries(self) -> tf.Tensor:
        """Of a table: what every weight is, in units of its channel's step, before it is rounded."""
        return float(self.level) * tf.gather(tf.reshape(self.table, (-1,)), tf.convert_to_tensor(self.indices))

    def kernel(self) -> tf.Tensor:
        """Float32 weights with batch norm folded in."""
        w = self._plain()
        return w * self._gain() if self.batch_norm else w

    def bias(self) -> tf.Tensor:
        """Float32 bias with batch norm folded in."""
        b = tf.convert_to_tensor(self.b)
        return (b - self.moving_mean) * self._gain() + self.beta if self.batch_norm else b

    def assign(
        self,
        kernel: np.ndarray,
        bias: np.ndarray,
        batch_norm: dict[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
        shared: Shared | None = None,
    ) -> None:
        """Takes over float weights (last axis output channels) and sets the weight steps to their least-squares optimum.

        Args:
            mask: float32 of the kernel's shape, where the layer is sparse.
            shared: the kernel as a table, where the layer has one.
        """
        self.b.assign(bias)
        for name, value in (batch_norm or {}).items():
            getattr(self, name).assign(value)
        if mask is not None:
            self.mask.assign(mask)
        if shared is not None:
            self._assign_table(shared)
            return
        magnitude = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
        unit = np.maximum(magnitude, max(1e-3 * float(magnitude.max(initial=0.0)), 1e-6)).astype(np.float32)
        self.unit.assign(unit)
        self.v.assign(kernel / unit)
        self.fit_steps()

    def _assign_table(self, shared: Shared) -> None:
        """Takes over a table, its entries in units of a step that suits the weights as they are without the gains of their channels."""
        self.indices.assign(shared.indices)
        members = shared.values.ravel()[shared.indices]
        if len(shared.values) == 1:  # one step for all channels, so that they have the same integers
            step = best_weight_steps(members.reshape(-1, 1), *weight_grid(self.weight_bits, self.codebook))
        else:
            step = self.best_steps(members, self.weight_bits)
        step = np.maximum(step.astype(np.float64), max(1e-3 * float(np.abs(members).max(initial=0.0)) / self.level, 1e-9))
        self.table.assign(shared.values / step[:, None] / self.level)
        gains = np.maximum(shared.gains, max(1e-3 * float(shared.gains.max(initial=0.0)), 1e-6))
        self.log_step.assign(np.log(step * gains if self.per_channel else step))

    def take_over(self, other: Weights) -> None:
        """What another layer of the same shape has learned, where its bits are others; steps are set anew where the bits are."""
        weights = ("unit", "v") if self.shared is None else ("table", "indices")
        norm = ("gamma", "beta", "moving_mean", "moving_variance") if self.batch_norm else ()
        for name in (*weights, "b", *norm, *(("mask",) if self.sparse else ())):
            getattr(self, name).assign(np.asarray(getattr(other, name)))
        if self.weight_bits == other.weight_bits:
            self.log_step.assign(other.log_step)
        elif self.shared is None:
            self.fit_steps()
        else:  # the table is in units of the largest integer: only that changes
            self.log_step.assign(np.asarray(other.log_step) + math.log(other.level / self.level))

    def fit_steps(self) -> None:
        """Sets the weight steps to the grid of least squared error. The step of a nearly dead channel is floored at a thousandth of the
        largest: its bias would leave 32 bits otherwise."""
        w = np.asarray(self._plain())
        step = self.best_steps(w, self.weight_bits)
        floor = max(1e-3 * float(np.abs(w).max(initial=0.0)) / self.level, 1e-9)
        self.log_step.assign(np.log(np.maximum(step, floor)))

    def best_steps(self, kernel: np.ndarray, bits: int) -> np.ndarray:
        """The steps of least squared error for weights of the kernel's shape at `bits` bits: float32 [out] or [1]."""
        return best_weight_steps(kernel.reshape(-1, kernel.shape[-1] if self.per_channel else 1), *weight_grid(bits, self.codebook))

    # integer side ---------------------------------------------------------------------------------------------------------------

    def weight_scale(self) -> tf.Tensor:
        """Float32 [out] or [1], of 6 significant bits, so that the engine keeps one in a byte; 12 where a layer has one alone. Where
        batch norm is a variable its gain belongs to the scale, so that moving statistics never push weights out of their grid; a
        vanishing gain is floored, and what is missing goes into the integer weights."""
        return short_scale(self._raw_scale(), CHANNEL_SCALE_BITS if self.per_channel else SCALE_BITS)

    def _raw_scale(self) -> tf.Tensor:
        step = tf.exp(tf.convert_to_tensor(self.log_step))
        return step * self._scale_gain() if self.batch_norm else step

    def integer_weights(self, scale: tf.Tensor) -> tf.Tensor:
        """Float32 integers of the kernel's shape, with a straight-through gradient; `scale` is `weight_scale()`."""
        if self.shared is not None:
            w = self._on_grid(self._entries())
            return w * self.mask if self.sparse else w
        if self.batch_norm:
            plain = self._plain() / tf.exp(tf.convert_to_tensor(self.log_step))
            gain, floored = self._gain(), self._scale_gain()
            share = tf.where(tf.abs(gain) < floored, gain / floored, tf.where(gain < 0, -1.0, 1.0))
            return self._on_grid(share * plain * (self._raw_scale() / scale))
        return self._on_grid(self.kernel() / scale)

    def codes(self) -> np.ndarray:
        """The integer weights, int8, of the kernel's shape."""
        return np.asarray(self.integer_weights(self.weight_scale())).astype(np.int8)
