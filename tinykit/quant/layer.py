"""The base of the integer layers, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from tinykit.graph import ir
from tinykit.quant.quantizer import QValue, TensorQuantizer

Shape = tuple[int, ...]

REAL_ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "none": tf.identity,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "logistic": tf.nn.sigmoid,
    "tanh": tf.nn.tanh,
    "hard_swish": lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
}


class QLayer(keras.layers.Layer):
    """One operation of the integer network.

    A subclass gives the operation three times: `real` in floating point (calibration, distillation), `integer` as the board computes it,
    and
    `lower` as an op of the integer graph. Inputs and outputs have the shapes of the graph: (height, width, channels) with height 1 for a
    sequence,
    or (features,).

    Args:
        input_shapes: shape of each input, without the batch.
        output_shape: shape of the output.
    """

    kind: ClassVar[str] = ""

    def __init__(self, input_shapes: Sequence[Shape], output_shape: Shape, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})  # whatever the global policy is: the integers need float32
        self.in_shapes = [tuple(s) for s in input_shapes]
        self.out_shape = tuple(output_shape)
        self.built = True

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """The operation on float32 tensors [N, ...]."""
        raise NotImplementedError

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        """The operation on integers, exactly as the reference executor does it."""
        raise NotImplementedError

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        """The operation as an op of the integer graph."""
        raise NotImplementedError

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        """Moves learned steps to where TFLM has integers for them; changes nothing in any sensible network (see
        `QuantizedModel.keep_representable`)."""

    def get_config(self) -> dict:
        """Arguments of the constructor."""
        return {**super().get_config(), "input_shapes": self.in_shapes, "output_shape": self.out_shape}


def activation_bounds(output: TensorQuantizer, activation: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Float32 scalars: least and largest centred integer behind a fused activation. The range of the quantiser alone is no bound where its
    tensor shares the scale of others (a concatenation of a ReLU and a signed tensor); the same integers as `build.clamp_range`."""
    low, high = output.limits()
    if activation == "none":
        return low, high
    if activation == "relu6":
        high = tf.minimum(high, tf.floor(6.0 / tf.stop_gradient(output.scale()) + 0.5))
    return tf.maximum(low, 0.0), high


def emit_activated(output: TensorQuantizer, activation: str, linear: tf.Tensor, exact: tf.Tensor) -> QValue:
    """`output.emit` within the bounds of a fused activation."""
    return output.emit(linear, exact, activation_bounds(output, activation))


def aligned(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Operands of one rank: axes of 1 behind the batch, as Keras's merging layers and the reference executor do it."""
    rank = max(len(t.shape) for t in tensors)
    return [tf.reshape(t, (-1, *(1,) * (rank - len(t.shape)), *t.shape[1:])) if len(t.shape) < rank else t for t in tensors]


def pair(values: Sequence[int]) -> tuple[int, int]:
    """Two integers, one for the rows and one for the columns (a list where they come from a file)."""
    rows, columns = values
    return int(rows), int(columns)


def edges(values: Sequence[int]) -> tuple[int, int, int, int]:
    """Padding (top, bottom, left, right)."""
    top, bottom, left, right = values
    return int(top), int(bottom), int(left), int(right)


def pad_plane(x: tf.Tensor, padding: Sequence[int], value: float = 0.0) -> tf.Tensor:
    """x [N, H, W, C] padded by (top, bottom, left, right)."""
    top, bottom, left, right = padding
    if not any(padding):
        return x
    return tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]], constant_values=value)
