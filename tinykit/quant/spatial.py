"""Integer layers that pool or move data: pooling, mean, padding, reshape, transpose, slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tinykit.graph import build, ir
from tinykit.quant.arithmetic import multiply_by_quantized_multiplier, quantize_multiplier, to_float64
from tinykit.quant.layer import QLayer, edges, pad_plane, pair
from tinykit.quant.quantizer import QValue, TensorQuantizer


class _Pool(QLayer):
    """Base of the pooling layers; input and output share one quantiser, and padding counts for nothing."""

    def __init__(self, window: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0, 0, 0), **kwargs: Any):
        super().__init__(**kwargs)
        self.window, self.stride, self.padding = pair(window), pair(stride), edges(padding)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        cls = ir.MaxPool if isinstance(self, QMaxPool) else ir.AveragePool
        return cls(self.name, (inputs[0].name,), output.name, self.window, self.stride, self.padding, output.low, output.high)

    def get_config(self) -> dict:
        return {**super().get_config(), "window": self.window, "stride": self.stride, "padding": self.padding}


@keras.saving.register_keras_serializable("tinykit")
class QMaxPool(_Pool):
    """Maximum of each window."""

    kind = "max_pool"

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.nn.max_pool2d(pad_plane(inputs[0], self.padding, inputs[0].dtype.min), self.window, self.stride, "VALID")

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        return QValue(self.real([inputs[0].q]), output)


@keras.saving.register_keras_serializable("tinykit")
class QAveragePool(_Pool):
    """Mean of each window, rounded half away from zero on the stored integers."""

    kind = "average_pool"

    def _counts(self) -> np.ndarray:
        """Elements under each window without the padding, [1, oh, ow, 1]."""
        top, bottom, left, right = self.padding
        ones = np.pad(np.ones(self.in_shapes[0][:2]), ((top, bottom), (left, right)))
        oh, ow = self.out_shape[:2]
        total = np.zeros((oh, ow))
        for i in range(self.window[0]):
            for j in range(self.window[1]):
                total += ones[
                    i : i + (oh - 1) * self.stride[0] + 1 : self.stride[0], j : j + (ow - 1) * self.stride[1] + 1 : self.stride[1]
                ]
        return total[None, :, :, None]

    def _sums(self, x: tf.Tensor) -> tf.Tensor:
        padded = pad_plane(x, self.padding)
        if int(np.prod(self.window)) * 255 >= 1 << 24:  # beyond what float32 sums exactly
            padded = tf.cast(padded, tf.float64)
        ones = tf.ones((*self.window, x.shape[-1], 1), padded.dtype)
        full = tf.nn.depthwise_conv2d(padded, ones, (1, 1, 1, 1), "VALID")
        return full[:, :: self.stride[0], :: self.stride[1]]

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.cast(self._sums(inputs[0]), tf.float32) / self._counts().astype(np.float32)

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        x = inputs[0]
        counts = tf.constant(self._counts(), tf.float64)
        zero = tf.cast(x.quantizer.zero_point, tf.float64)
        sums = self._sums(x.q)
        total = to_float64(sums) + zero * counts
        half = tf.floor(counts / 2)
        mean = tf.where(total > 0, tf.floor((total + half) / counts), -tf.floor((half - total) / counts))
        return output.emit(tf.cast(sums, tf.float32) / tf.cast(counts, tf.float32), mean - zero)


@keras.saving.register_keras_serializable("tinykit")
class QMean(QLayer):
    """Mean over axes of the sample, with a scale of its own (a global average pool keeps its resolution this way).

    Args:
        axes: of the sample, from 0.
    """

    kind = "mean"

    def __init__(self, axes: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.axes = tuple(axes)

    @property
    def count(self) -> int:
        """Elements under one output."""
        return int(np.prod([self.in_shapes[0][a] for a in self.axes]))

    def _shape(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, (-1, *self.out_shape))

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return self._shape(tf.reduce_mean(inputs[0], [a + 1 for a in self.axes]))

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        x = inputs[0]
        linear = self.real([x.q]) * (x.scale / output.scale())
        m, shift = quantize_multiplier(to_float64(x.scale) / to_float64(output.scale()))
        extra = tf.minimum(tf.constant(min(self.count.bit_length() - 1, 32), tf.int64), 31 + shift)
        divided = tf.bitwise.left_shift(tf.cast(m, tf.int64), extra) // self.count
        total = tf.reduce_sum(to_float64(x.q), [a + 1 for a in self.axes])
        return output.emit(linear, self._shape(multiply_by_quantized_multiplier(total, tf.cast(divided, tf.float64), shift - extra)))

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        output.at_least(inputs[0].scale() * 2.0**-20)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        m, shift = build.mean_parameters(inputs[0], output, self.count)
        keep = len(self.out_shape) == len(self.in_shapes[0])
        return ir.Mean(self.name, (inputs[0].name,), output.name, self.axes, keep, m, shift)

    def get_config(self) -> dict:
        return {**super().get_config(), "axes": self.axes}


class _Movement(QLayer):
    """Base of the layers that move data and keep the quantiser."""

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        return QValue(self.real([inputs[0].q]), output)


@keras.saving.register_keras_serializable("tinykit")
class QReshape(_Movement):
    """The same elements in another shape."""

    kind = "reshape"

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.reshape(inputs[0], (-1, *self.out_shape))

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.Reshape(self.name, (inputs[0].name,), output.name)


@keras.saving.register_keras_serializable("tinykit")
class QPad(_Movement):
    """Zero padding.

    Args:
        padding: (top, bottom, left, right).
    """

    kind = "pad"

    def __init__(self, padding: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.padding = edges(padding)

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return pad_plane(inputs[0], self.padding)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        top, bottom, left, right = self.padding
        return ir.Pad(self.name, (inputs[0].name,), output.name, ((top, bottom), (left, right), (0, 0)), inputs[0].zero_point)

    def get_config(self) -> dict:
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("tinykit")
class QTranspose(_Movement):
    """Permutes the axes of the sample.

    Args:
        permutation: from 0.
    """

    kind = "transpose"

    def __init__(self, permutation: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.permutation = tuple(permutation)

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.transpose(inputs[0], (0, *(p + 1 for p in self.permutation)))

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.Transpose(self.name, (inputs[0].name,), output.name, self.permutation)

    def get_config(self) -> dict:
        return {**super().get_config(), "permutation": self.permutation}


@keras.saving.register_keras_serializable("tinykit")
class QSlice(_Movement):
    """begin:end:step on every axis of the sample (cropping).

    Args:
        begin, end, step: one integer an axis.
    """

    kind = "strided_slice"

    def __init__(self, begin: Sequence[int], end: Sequence[int], step: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.begin, self.end, self.step = tuple(begin), tuple(end), tuple(step)

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return inputs[0][(slice(None), *(slice(b, e, s) for b, e, s in zip(self.begin, self.end, self.step)))]

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.StridedSlice(self.name, (inputs[0].name,), output.name, self.begin, self.end, self.step)

    def get_config(self) -> dict:
        return {**super().get_config(), "begin": self.begin, "end": self.end, "step": self.step}
