"""Convolution, depthwise convolution and dense layers in integers, with folded batch norm and learned weight steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tinykit.graph import build, ir
from tinykit.quant import loops
from tinykit.quant.arithmetic import Factors, to_float64, unity
from tinykit.quant.layer import REAL_ACTIVATIONS, activation_bounds, edges, pad_plane, pair
from tinykit.quant.quantizer import LARGEST_STEP, SMALLEST_STEP, QValue, TensorQuantizer
from tinykit.quant.weights import Weights

EXACT_FLOAT32 = 1 << 24
BIAS_LIMIT = float(1 << 30)


class Weighted(Weights):
    """Base of the layers with weights.

    Sums: a float32 convolution of integers is exact while every partial sum stays below 2^24. `groups` input slices are convolved
    separately so that K * |w| * |x| stays below that for any weights, and added in float64.

    Args:
        input_bits: bits of the input tensor; its centred integers lie within +-(2^bits - 1).
        activation: none, relu or relu6, a clamp on the output's integers.
        stride, dilation, padding: of the plane; padding (top, bottom, left, right).
        kernel_shape, weight_bits, codebook, batch_norm, sparse, shared: see `weights.Weights`.
    """

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
        super().__init__(kernel_shape, weight_bits, codebook, batch_norm, sparse, shared, **kwargs)
        self.input_bits, self.activation = input_bits, activation
        self.stride, self.dilation, self.padding = pair(stride), pair(dilation), edges(padding)

    @property
    def taps(self) -> int:
        """Products per output and input channel."""
        return int(np.prod(self.kernel_shape[:2])) if len(self.kernel_shape) > 2 else 1

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return REAL_ACTIVATIONS[self.activation](self.accumulate(inputs[0], self.kernel()) + self.bias())

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
