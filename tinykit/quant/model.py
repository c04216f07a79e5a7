"""The quantised model: a Keras model whose forward pass is the integer network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tinykit.quant import elementwise, spatial, weighted
from tinykit.quant.layer import QLayer
from tinykit.quant.quantizer import QValue, TensorQuantizer

LAYERS: dict[str, type[QLayer]] = {
    c.kind: c
    for c in (
        weighted.QConv2D,
        weighted.QDepthwiseConv2D,
        weighted.QDense,
        elementwise.QAdd,
        elementwise.QSub,
        elementwise.QMul,
        elementwise.QMaximum,
        elementwise.QMinimum,
        elementwise.QConcat,
        elementwise.QTable,
        elementwise.QSoftmax,
        elementwise.QRequantize,
        spatial.QMaxPool,
        spatial.QAveragePool,
        spatial.QMean,
        spatial.QReshape,
        spatial.QPad,
        spatial.QTranspose,
        spatial.QSlice,
    )
}

Teacher = Callable[[tf.Tensor], tf.Tensor]


@keras.saving.register_keras_serializable("tinykit")
class QuantizedModel(keras.Model):
    """An integer network as one Keras model: float samples in, dequantised outputs out, every step between in exact integers.

    Args:
        nodes: one dict an operation: name, kind, inputs (names of earlier nodes or "input"), quantizer (index), input_shapes, output_shape,
        config.
        quantizers: constructor arguments of each `TensorQuantizer`.
        input_quantizer: index of the input's quantiser (its scale is fixed).
        input_shape: of a sample.
        output: name of the last node.
    """

    def __init__(
        self, nodes: list[dict], quantizers: list[dict], input_quantizer: int, sample_shape: tuple[int, ...], output: str, **kwargs: Any
    ):
        super().__init__(**{"dtype": "float32", **kwargs})  # whatever the global policy is
        self.supports_jit = False  # XLA may round otherwise, and has no numpy_function; `loops` compiles what is exact under it
        self.specs = nodes
        self.quantizer_specs = quantizers
        self.input_quantizer, self.sample_shape, self.output_node = input_quantizer, tuple(sample_shape), output
        self.quantizers = [TensorQuantizer(name=f"quantizer_{i}", **q) for i, q in enumerate(quantizers)]
        self.nodes = [
            LAYERS[n["kind"]](name=n["name"], input_shapes=n["input_shapes"], output_shape=n["output_shape"], **n["config"]) for n in nodes
        ]
        self.logits_only = False
        self._distillation: tuple[Teacher, float, float] | None = None
        self.built = True

    # values -------------------------------------------------------------------------------------------------------------------

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and it would read the source again at run time
    def integers(self, x: tf.Tensor, training: bool = False) -> dict[str, QValue]:
        """Every tensor of the network for float samples x [N, *sample_shape], as centred integers."""
        values = {"input": self.quantizers[self.input_quantizer].to_integers(tf.cast(x, tf.float32))}
        for spec, layer in zip(self.specs, self.nodes):
            inputs = [values[i] for i in spec["inputs"]]
            values[spec["name"]] = layer.integer(inputs, self.quantizers[spec["quantizer"]], training)
        return values

    @tf.autograph.experimental.do_not_convert
    def stored_integers(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Every tensor as stored integers (zero point included), float32."""
        return {k: v.q + tf.convert_to_tensor(v.quantizer.zero_point) for k, v in self.integers(x).items()}

    @tf.autograph.experimental.do_not_convert
    def real_values(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Every tensor of the float network that the integer one stands for."""
        values = {"input": tf.cast(x, tf.float32)}
        for spec, layer in zip(self.specs, self.nodes):
            values[spec["name"]] = layer.real([values[i] for i in spec["inputs"]])
        return values

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of the outputs, batch first as None."""
        last = next(s for s in self.specs if s["name"] == self.output_node)
        return (None, *last["output_shape"])

    @property
    def logits_node(self) -> str:
        """The last node, or what a final softmax reads."""
        last = next(s for s in self.specs if s["name"] == self.output_node)
        return last["inputs"][0] if last["kind"] == "softmax" else self.output_node

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the outputs are probabilities."""
        return self.logits_node != self.output_node

    @tf.autograph.experimental.do_not_convert
    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Real outputs [N, ...]: probabilities or logits, as the model ends; logits only inside `training_on_logits`."""
        value = self.integers(x, training)[self.logits_node if self.logits_only else self.output_node]
        return value.q * value.scale

    # training -----------------------------------------------------------------------------------------------------------------

    @contextmanager
    def training_on_logits(self, teacher: Teacher | None = None, weight: float = 0.0, temperature: float = 2.0) -> Iterator[None]:
        """Within, the model gives logits, so that a loss has a gradient where an 8-bit softmax would be 0.

        Args:
            teacher: x -> logits; the loss becomes (1 - weight) * loss + weight * T^2 * KL(teacher / T, model / T) (Hinton et al. 2015).
        """
        self.logits_only = True
        self._distillation = (teacher, weight, temperature) if teacher is not None and weight > 0 else None
        self._forget_functions()
        try:
            yield
        finally:
            self.logits_only, self._distillation = False, None
            self._forget_functions()

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data: Any) -> dict:
        """One optimisation step; the steps stay within what TFLM can represent."""
        logs: dict = super().train_step(data)
        self.keep_representable()
        return logs

    @tf.autograph.experimental.do_not_convert
    def keep_representable(self) -> None:
        """Moves learned steps to where every multiplier, shift and bias exists: calibration of a tensor that is always 0, or a diverging
        training, would leave it, and the network could not be written. Called after calibration and after each training step; the steps
        of any sensible network stay as they are."""
        for quantizer in self.quantizers:
            quantizer.limit()
        for _ in range(2):  # raising one step can raise what an earlier node of its group needs
            for spec, layer in zip(self.specs, self.nodes):
                layer.limit([self._quantizer_of(name) for name in spec["inputs"]], self.quantizers[spec["quantizer"]])

    def learn_statistics(self, on: bool) -> None:
        """Whether training moves the statistics of batch norm that is not folded (it does at first)."""
        for layer in self.weighted_layers():
            layer.learns_statistics.assign(float(on))

    def _quantizer_of(self, name: str) -> TensorQuantizer:
        index = next((s["quantizer"] for s in self.specs if s["name"] == name), self.input_quantizer)
        return self.quantizers[index]

    def _forget_functions(self) -> None:
        self.train_function = self.test_function = self.predict_function = None

    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> tf.Tensor:
        """The compiled loss, mixed with distillation where a teacher is set."""
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if self._distillation is None or not training:
            return loss
        teacher, weight, temperature = self._distillation
        log_target = tf.nn.log_softmax(tf.stop_gradient(teacher(x)) / temperature)
        divergence = tf.reduce_sum(tf.exp(log_target) * (log_target - tf.nn.log_softmax(y_pred / temperature)), axis=-1)
        return (1.0 - weight) * loss + weight * temperature**2 * tf.reduce_mean(divergence)

    # files --------------------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict:
        """Arguments of the constructor."""
        return {
            "name": self.name,
            "nodes": self.specs,
            "quantizers": self.quantizer_specs,
            "input_quantizer": self.input_quantizer,
            "sample_shape": self.sample_shape,
            "output": self.output_node,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> QuantizedModel:
        """Rebuilds the model; weights are loaded by Keras afterwards."""
        return cls(**config)

    def build_from_config(self, config: dict) -> None:
        """Nothing to do: the variables exist from the start."""

    def weighted_layers(self) -> list[weighted.Weighted]:
        """The layers that have weights, in order."""
        return [n for n in self.nodes if isinstance(n, weighted.Weighted)]


def stored_numpy(model: QuantizedModel, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor for samples x as int64 arrays of stored integers."""
    function = model.__dict__.get("_stored_function")
    if function is None:
        function = tf.function(model.stored_integers, jit_compile=False, reduce_retracing=True)
        model.__dict__["_stored_function"] = function
    return {k: v.numpy().astype(np.int64) for k, v in function(tf.constant(x, tf.float32)).items()}
