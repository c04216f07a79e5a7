"""Convolution, depthwise convolution and dense layers in integers, with folded batch norm and learned weight steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tinykit.graph import build, ir
from tinykit.quant import loops
from tinykit.quant.arithmetic import CHANNEL_SCALE_BITS, SCALE_BITS, Factors, round_half_up, short_scale, to_float64, unity
from tinykit.quant.grid import best_weight_steps, weight_grid
from tinykit.quant.kept import Shared
from tinykit.quant.layer import REAL_ACTIVATIONS, QLayer, activation_bounds, edges, pad_plane, pair
from tinykit.quant.quantizer import LARGEST_STEP, SMALLEST_STEP, QValue, TensorQuantizer

EXACT_FLOAT32 = 1 << 24
BIAS_LIMIT = float(1 << 30)


def _floored(gain: tf.Tensor) -> tf.Tensor:
    """Magnitudes of gains, at least a thousandth of the largest."""
    gain = tf.abs(gain)
    return tf.maximum(gain, tf.maximum(1e-3 * tf.reduce_max(gain), 1e-6))


class Weighted(QLayer):
    """Base of the layers with weights.

    Weights are kept in units of their channel's largest magnitude (`v * unit`), so that one learning rate suits all layers; a step per
    output channel (per tensor for dense layers, as TFLM's FULLY_CONNECTED wants it) is learned in the log domain.

    Sums: a float32 convolution of integers is exact while every partial sum stays below 2^24. `groups` input slices are convolved
    separately so that K * |w| * |x| stays below that for any weights, and added in float64.

    Two things of the float network can be kept for good, through training (`tinykit.quant.kept`). `sparse`: a mask beside the weights;
    where it is 0 the integer is 0. `shared`: the weights are entries of a table of numbers in -1..1 that are trained, each by the sum of
    its members' gradients; an integer is its entry times the largest integer, rounded, whatever the channel's step is, so that no more
    integers appear than the table has entries.

    Args:
        kernel_shape: last axis output channels: (kh, kw, in, out), (kh, kw, out) for depthwise, (in, out) for dense.
        input_bits: bits of the input tensor; its centred integers lie within +-(2^bits - 1).
        weight_bits: 8, 4 or 2; the integers are -L..L with L = 2^(bits-1) - 1, but for the four-level book.
        codebook: of 2-bit weights: "four_levels" {-3, -1, 1, 3}, which learns better, or "ternary" {-1, 0, 1}, which has zeros and runs
            faster.
        activation: none, relu or relu6, a clamp on the output's integers.
        stride, dilation, padding: of the plane; padding (top, bottom, left, right).
        batch_norm: None when folded and frozen; {"epsilon", "momentum"} when gamma, beta and the moving statistics stay variables (not for
            dense layers, whose one weight scale cannot take a gain per channel).
        sparse: there is a mask.
        shared: (rows, entries) of the table; a row for all channels or one each. None: every weight is trained.
    """

    per_channel: ClassVar[bool] = True

    def __init__(
        self,
        kernel_shape: Sequence[int],
        input_bits: int = 8,
        weight_bits: int = 8,
        codebook: str = "four_levels",
        activation: str = "none",
        stride: Sequence[int] = (1, 1),
        dilation: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0, 0, 0),
        batch_norm: dict[str, float] | None = None,
        sparse: bool = False,
        shared: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_shape, self.input_bits, self.weight_bits = tuple(kernel_shape), input_bits, weight_bits
        self.codebook = codebook
        self.activation, self.batch_norm = activation, batch_norm or {}
        self.stride, self.dilation, self.padding = pair(stride), pair(dilation), edges(padding)
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

    @property
    def taps(self) -> int:
        """Products per output and input channel."""
        return int(np.prod(self.kernel_shape[:2])) if len(self.kernel_shape) > 2 else 1

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

    def take_over(self, other: Weighted) -> None:
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
        largest:
        its bias would leave 32 bits otherwise."""
        w = np.asarray(self._plain())
        step = self.best_steps(w, self.weight_bits)
        floor = max(1e-3 * float(np.abs(w).max(initial=0.0)) / self.level, 1e-9)
        self.log_step.assign(np.log(np.maximum(step, floor)))

    def best_steps(self, kernel: np.ndarray, bits: int) -> np.ndarray:
        """The steps of least squared error for weights of the kernel's shape at `bits` bits: float32 [out] or [1]."""
        return best_weight_steps(kernel.reshape(-1, kernel.shape[-1] if self.per_channel else 1), *weight_grid(bits, self.codebook))

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return REAL_ACTIVATIONS[self.activation](self.accumulate(inputs[0], self.kernel()) + self.bias())

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

    def integer_bias(self, input_scale: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """Float64 integers [out], within +-2^30."""
        product = tf.cast(input_scale, tf.float64) * tf.cast(scale, tf.float64)
        return tf.clip_by_value(tf.floor(to_float64(self.bias()) / product + 0.5), -BIAS_LIMIT, BIAS_LIMIT)

    def real_multiplier(self, input_scale: tf.Tensor, scale: tf.Tensor, output_scale: tf.Tensor) -> tf.Tensor:
        """Float64 [out] or [1]: the product of the scales in double."""
        return tf.cast(input_scale, tf.float64) * tf.cast(scale, tf.float64) / tf.cast(output_scale, tf.float64)

    def accumulate(self, x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        """The sum of products of x [N, *input] and w in x's precision."""
        raise NotImplementedError

    def slices(self) -> list[slice]:
        """Input channels in groups whose worst-case sum stays exact in float32."""
        channels = self.in_shapes[0][-1]
        per_channel = self.taps * self.level * ((1 << self.input_bits) - 1)
        most = max(EXACT_FLOAT32 // per_channel, 1)
        count = -(-channels // most)
        size = -(-channels // count)
        return [slice(i, min(i + size, channels)) for i in range(0, channels, size)]

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        x, scale = inputs[0], self.weight_scale()
        x_scale, y_scale = x.scale, output.scale()
        step = x_scale * scale
        gain = step / y_scale
        # the gradient of the gain goes through the weights: sum(upstream * acc) over a plane is sum(weights * their gradient), which costs
        # no pass over the plane
        one = unity(gain)
        parts = self.partial_sums(x.q, self.integer_weights(scale) * one)
        if training and self.batch_norm:
            self._update_statistics(parts, step)
        fixed = [tf.stop_gradient(s) for s in (x_scale, scale, y_scale)]
        factors = Factors.of_real(self.real_multiplier(*fixed))
        bias = self.integer_bias(*fixed[:2])
        bounds = activation_bounds(output, self.activation)
        return QValue(loops.requantized(parts, self.bias() / step * one, tf.stop_gradient(gain), bias, factors, bounds), output)

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        """A weight step is raised where the bias would not fit in 32 bits and the output would not saturate anyway; the output's step where
        a product of steps would exceed it."""
        x, y = inputs[0].scale(), output.scale()
        gain = self._scale_gain() if self.batch_norm else tf.constant(1.0)
        per_output = tf.abs(self.bias()) / (BIAS_LIMIT / 2)  # weight scale times input scale at which the bias uses half of its range
        saturating = 512.0 * y / max(BIAS_LIMIT / 2 - self._most, BIAS_LIMIT / 16)
        floor = tf.minimum(per_output, saturating) / (x * gain)
        if not self.per_channel:
            floor = tf.reduce_max(floor, keepdims=True)
        step = tf.clip_by_value(tf.convert_to_tensor(self.log_step), math.log(SMALLEST_STEP), math.log(LARGEST_STEP))
        self.log_step.assign(tf.where(tf.exp(step) < floor, tf.math.log(tf.maximum(floor, SMALLEST_STEP)), step))
        output.at_least(1.01 * x * tf.reduce_max(self.weight_scale()))

    @property
    def _products(self) -> int:
        """Products an output."""
        return int(np.prod(self.kernel_shape[:-1]))

    @property
    def _most(self) -> int:
        """Largest magnitude of an accumulator without its bias, for any weights and inputs."""
        return self._products * self.level * ((1 << self.input_bits) - 1)

    def partial_sums(self, x: tf.Tensor, w: tf.Tensor) -> list[tf.Tensor]:
        """Exact sums over each slice of the input channels: float32, or float64 where a single channel is too much for float32."""
        groups = self.slices()
        if self.taps * self.level * ((1 << self.input_bits) - 1) >= EXACT_FLOAT32:
            x, w = tf.cast(x, tf.float64), tf.cast(w, tf.float64)
        if len(groups) == 1:
            return [self.accumulate(x, w)]
        return [self.accumulate(x[..., g], w[..., g, :]) for g in groups]

    def _update_statistics(self, parts: list[tf.Tensor], step: tf.Tensor) -> None:
        """Moves mean and variance towards those of this batch, read off the integer accumulators, whose unit is `step`: dividing the gain
        out gives the convolution before batch norm at no extra cost. A channel whose gain is almost 0 keeps its statistics: its integers
        are too few."""
        alive = tf.abs(self._gain()) >= self._scale_gain()
        gain = tf.cast(self._gain(), tf.float64)
        unit = to_float64(step) / tf.where(alive, gain, tf.ones_like(gain))
        mean, variance = loops.moments(parts)
        rate = (1.0 - self.batch_norm["momentum"]) * self.learns_statistics
        new = (mean * unit + tf.cast(self.b, tf.float64), variance * tf.square(unit))
        for variable, batch in zip((self.moving_mean, self.moving_variance), new):
            old = tf.convert_to_tensor(variable)
            variable.assign(tf.where(alive, old + rate * (tf.cast(batch, tf.float32) - old), old))

    # lowering -------------------------------------------------------------------------------------------------------------------

    def parameters(self, x: ir.Tensor, y: ir.Tensor) -> dict[str, Any]:
        """The fields of an `ir.Weighted` op but its weights' layout; `weights` has the kernel's axes."""
        scale = self.weight_scale()
        out = self.kernel_shape[-1]
        low, high = build.clamp_range(y, self.activation)
        weight_scale = np.asarray(scale, np.float32)
        multiplier, shift = build.weight_multipliers(x, weight_scale, y, out)
        return {
            "name": self.name,
            "inputs": (x.name,),
            "output": y.name,
            "weights": self.codes(),
            "bias": np.asarray(self.integer_bias(tf.constant(x.scale, tf.float32), scale)).astype(np.int32),
            "multiplier": multiplier,
            "shift": shift,
            "weight_scale": weight_scale,
            "weight_bits": self.weight_bits,
            "act_min": low,
            "act_max": high,
        }

    def get_config(self) -> dict:
        own = ("kernel_shape", "input_bits", "weight_bits", "codebook", "activation", "stride", "dilation", "padding", "sparse", "shared")
        return {**super().get_config(), **{k: getattr(self, k) for k in own}, "batch_norm": self.batch_norm or None}


@keras.saving.register_keras_serializable("tinykit")
class QConv2D(Weighted):
    """Convolution, kernel (kh, kw, in, out); sequences have height 1."""

    kind = "conv2d"

    def accumulate(self, x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(pad_plane(x, self.padding), w, self.stride, "VALID", dilations=self.dilation)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        p = self.parameters(inputs[0], output)
        p["weights"] = np.ascontiguousarray(p["weights"].transpose(3, 0, 1, 2))
        return ir.Conv2D(**p, stride=self.stride, dilation=self.dilation, padding=self.padding)


@keras.saving.register_keras_serializable("tinykit")
class QDepthwiseConv2D(Weighted):
    """Depthwise convolution, kernel (kh, kw, in * multiplier)."""

    kind = "depthwise_conv2d"

    @property
    def depth_multiplier(self) -> int:
        """Outputs per input channel."""
        return self.kernel_shape[-1] // self.in_shapes[0][-1]

    def slices(self) -> list[slice]:
        return [slice(None)]

    @property
    def _products(self) -> int:
        return self.taps

    def accumulate(self, x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        if self.taps == 1 and self.stride == (1, 1) and self.depth_multiplier == 1 and not any(self.padding):
            return x * w
        kh, kw, out = self.kernel_shape
        w = tf.reshape(w, (kh, kw, out // self.depth_multiplier, self.depth_multiplier))
        sh, sw = self.stride
        padded = pad_plane(x, self.padding)
        if sh == sw and (sh == 1 or self.dilation == (1, 1)):
            return tf.nn.depthwise_conv2d(padded, w, (1, sh, sw, 1), "VALID", dilations=self.dilation)
        # TensorFlow has no depthwise convolution with unequal strides, or with both stride and dilation
        return tf.nn.depthwise_conv2d(padded, w, (1, 1, 1, 1), "VALID", dilations=self.dilation)[:, ::sh, ::sw]

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.DepthwiseConv2D(
            **self.parameters(inputs[0], output),
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            depth_multiplier=self.depth_multiplier,
        )


@keras.saving.register_keras_serializable("tinykit")
class QDense(Weighted):
    """Dense layer on a flat tensor, kernel (in, out), one weight step for the whole layer."""

    kind = "fully_connected"
    per_channel = False

    def accumulate(self, x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.reshape(x, (-1, w.shape[0])), w)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        p = self.parameters(inputs[0], output)
        p["weights"] = np.ascontiguousarray(p["weights"].T)
        return ir.FullyConnected(**p)
