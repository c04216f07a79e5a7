"""Element-wise integer layers: sums, products, extremes, tables, softmax, requantisation."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tinykit.graph import build, ir
from tinykit.graph.reference import softmax_integers
from tinykit.quant import loops
from tinykit.quant.arithmetic import LEFT_SHIFT, Factors, requantize, to_float64
from tinykit.quant.layer import REAL_ACTIVATIONS, QLayer, activation_bounds, aligned, emit_activated
from tinykit.quant.quantizer import QValue, TensorQuantizer


class _Binary(QLayer):
    """Base of ADD, SUB and MUL, with broadcasting and a fused activation."""

    def __init__(self, activation: str = "none", **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activation

    def combine(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """The operation on real or integer tensors."""
        raise NotImplementedError

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return REAL_ACTIVATIONS[self.activation](self.combine(*aligned(inputs)))

    def get_config(self) -> dict:
        return {**super().get_config(), "activation": self.activation}


class _Additive(_Binary):
    sign: ClassVar[float]

    def combine(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return a + b if self.sign > 0 else a - b

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        a, b = inputs
        scales = (a.scale, b.scale, output.scale())
        gains = (scales[0] / scales[2], self.sign * scales[1] / scales[2])
        s1, s2, sy = (to_float64(s) for s in scales)
        twice = 2.0 * tf.maximum(s1, s2)
        factors = (Factors.of_real(s1 / twice), Factors.of_real(s2 / twice), Factors.of_real(twice / (2.0**LEFT_SHIFT * sy)))
        qa, qb = aligned([a.q, b.q])
        return QValue(loops.added(qa, qb, gains, self.sign, factors, activation_bounds(output, self.activation)), output)

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        output.at_least(tf.maximum(inputs[0].scale(), inputs[1].scale()) * 2.0 ** (2 - LEFT_SHIFT))

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        multipliers, shifts = build.binary_parameters(inputs[0], inputs[1], output, LEFT_SHIFT)
        cls = ir.Sub if isinstance(self, QSub) else ir.Add
        names = (inputs[0].name, inputs[1].name)
        low, high = build.clamp_range(output, self.activation)
        return cls(self.name, names, output.name, multipliers, shifts, act_min=low, act_max=high, left_shift=LEFT_SHIFT)


@keras.saving.register_keras_serializable("tinykit")
class QAdd(_Additive):
    """Sum of two tensors."""

    kind = "add"
    sign = 1.0


@keras.saving.register_keras_serializable("tinykit")
class QSub(_Additive):
    """Difference of two tensors."""

    kind = "sub"
    sign = -1.0


@keras.saving.register_keras_serializable("tinykit")
class QMul(_Binary):
    """Product of two tensors (squeeze-excite gates among them)."""

    kind = "mul"

    def combine(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return a * b

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        a, b = inputs
        qa, qb = aligned([a.q, b.q])
        linear = (qa * a.scale) * (qb * b.scale) / output.scale()
        real = to_float64(a.scale) * to_float64(b.scale) / to_float64(output.scale())
        return emit_activated(output, self.activation, linear, requantize(to_float64(qa) * to_float64(qb), real))

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        output.at_least(inputs[0].scale() * inputs[1].scale() * 2.0**-13)  # the product has 16 bits

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        m, shift = build.mul_parameters(inputs[0], inputs[1], output)
        names = (inputs[0].name, inputs[1].name)
        low, high = build.clamp_range(output, self.activation)
        return ir.Mul(self.name, names, output.name, m, shift, act_min=low, act_max=high)


class _Extremum(QLayer):
    """Base of minimum and maximum: all three tensors share one quantiser."""

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        return QValue(self.real([v.q for v in inputs]), output)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        cls = ir.Maximum if isinstance(self, QMaximum) else ir.Minimum
        return cls(self.name, (inputs[0].name, inputs[1].name), output.name)


@keras.saving.register_keras_serializable("tinykit")
class QMaximum(_Extremum):
    """Element-wise maximum."""

    kind = "maximum"

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.maximum(*aligned(inputs))


@keras.saving.register_keras_serializable("tinykit")
class QMinimum(_Extremum):
    """Element-wise minimum."""

    kind = "minimum"

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.minimum(*aligned(inputs))


@keras.saving.register_keras_serializable("tinykit")
class QConcat(QLayer):
    """Concatenation; inputs and output share one quantiser, because TFLM refuses anything else.

    Args:
        axis: of the sample, from 0.
    """

    kind = "concat"

    def __init__(self, axis: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat(inputs, self.axis + 1)

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        return QValue(self.real([v.q for v in inputs]), output)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.Concat(self.name, tuple(t.name for t in inputs), output.name, self.axis)

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis}


@keras.saving.register_keras_serializable("tinykit")
class QTable(QLayer):
    """An element-wise function as 256 entries.

    Args:
        function: logistic, tanh, hard_swish, leaky_relu or relu.
        alpha: slope of leaky_relu.
        ceiling: what the float function is cut at (6 for a ReLU6, which is written as a change of scale and, where the output's range
            reaches above 6, a clamp: TFLM's RELU6 cannot change the scale); None for no limit.
    """

    kind = "table"

    def __init__(self, function: str, alpha: float = 0.0, ceiling: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.function, self.alpha, self.ceiling = function, alpha, ceiling

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        if self.function == "leaky_relu":
            return tf.nn.leaky_relu(inputs[0], self.alpha)
        y = REAL_ACTIVATIONS[self.function](inputs[0])
        return y if self.ceiling is None else tf.minimum(y, self.ceiling)

    def _table(self, x: ir.Tensor, y: ir.Tensor) -> np.ndarray:
        return build.function_table(self._op, x, y, self.alpha)

    @property
    def _op(self) -> str:
        return self.function if self.ceiling is None else f"{self.function}{self.ceiling:g}"

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        x = inputs[0]

        def entries(sx: np.ndarray, zx: np.ndarray, sy: np.ndarray, zy: np.ndarray) -> np.ndarray:
            result = ir.Tensor("y", (), float(sy), int(zy), output.bits, output.low)
            return self._table(ir.Tensor("x", (), float(sx), int(zx)), result).astype(np.float32)

        zx, zy = (tf.convert_to_tensor(q.zero_point) for q in (x.quantizer, output))
        table = tf.numpy_function(entries, [x.scale, zx, output.scale(), zy], tf.float32, stateful=False)
        table = tf.ensure_shape(table, (256,))
        stored = tf.cast(tf.stop_gradient(x.q) + zx + 128.0, tf.int32)
        linear = self.real([x.q * x.scale]) / output.scale()
        return output.emit(linear, to_float64(tf.gather(table, stored) - zy))

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        x = inputs[0].scale()
        if self.function == "hard_swish":
            output.at_least(x * (1.01 / 128))  # TFLM's shift goes to the right only
        elif self.function in ("relu", "leaky_relu"):
            output.at_least(x * max(1.0, abs(self.alpha)) * 2.0**-20)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.Table(self.name, (inputs[0].name,), output.name, self._op, self._table(inputs[0], output), self.alpha)

    def get_config(self) -> dict:
        return {**super().get_config(), "function": self.function, "alpha": self.alpha, "ceiling": self.ceiling}


@keras.saving.register_keras_serializable("tinykit")
class QSoftmax(QLayer):
    """Softmax over the last axis, output scale 1/256 and zero point -128."""

    kind = "softmax"

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return tf.nn.softmax(inputs[0])

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        x = inputs[0]
        zero = tf.convert_to_tensor(x.quantizer.zero_point)

        def stored_softmax(stored: np.ndarray, scale: np.ndarray) -> np.ndarray:
            parameters = build.softmax_parameters(ir.Tensor("x", (), float(scale)))
            return softmax_integers(stored.astype(np.int64), *parameters).astype(np.float32)

        stored = tf.numpy_function(stored_softmax, [tf.stop_gradient(x.q) + zero, x.scale], tf.float32, stateful=False)
        stored = tf.ensure_shape(stored, x.q.shape)
        return output.emit(self.real([x.q * x.scale]) / output.scale(), to_float64(stored) + 128.0)

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        inputs[0].at_least(tf.constant(2.0**-24))

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.Softmax(self.name, (inputs[0].name,), output.name, *build.softmax_parameters(inputs[0]))


@keras.saving.register_keras_serializable("tinykit")
class QRequantize(QLayer):
    """The same values at another scale."""

    kind = "requantize"

    def real(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return inputs[0]

    def integer(self, inputs: list[QValue], output: TensorQuantizer, training: bool) -> QValue:
        x = inputs[0]
        real = to_float64(x.scale) / to_float64(output.scale())
        return output.emit(x.q * (x.scale / output.scale()), requantize(to_float64(x.q), real))

    def limit(self, inputs: list[TensorQuantizer], output: TensorQuantizer) -> None:
        output.at_least(inputs[0].scale() * 2.0**-20)

    def lower(self, inputs: list[ir.Tensor], output: ir.Tensor) -> ir.Op:
        return ir.Requantize(self.name, (inputs[0].name,), output.name, *build.requantize_parameters(inputs[0], output))
