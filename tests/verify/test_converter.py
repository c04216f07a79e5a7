"""Files made by TensorFlow's own converter from small Keras models with full-integer quantisation: read, and equal to TFLM."""

import os

import numpy as np
import pytest

from tinykit.errors import ModelError
from tinykit.graph.reader import read_tflite
from tinykit.graph.writer import write_tflite
from tinykit.verify.compare import compare_tflm

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
L = keras.layers


def image_net(batch: int | None):
    x = i = keras.Input((13, 11, 3), batch_size=batch)
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.ReLU(max_value=6.0)(L.BatchNormalization()(x))
    y = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(L.ZeroPadding2D(1)(x))
    y = L.Conv2D(8, 3, padding="valid", activation="relu")(y)
    x = L.Add()([x, y])
    x = L.Concatenate()([L.MaxPooling2D(2)(x), L.AveragePooling2D(2, padding="valid")(x)])
    gate = L.Dense(16, activation="sigmoid")(L.GlobalAveragePooling2D()(x))
    x = L.Multiply()([x, L.Reshape((1, 1, 16))(gate)])
    x = L.Flatten()(x)
    return keras.Model(i, L.Dense(5, activation="softmax")(x))


def sequence_net(batch: int | None):
    x = i = keras.Input((20, 6), batch_size=batch)
    x = L.Conv1D(8, 3, padding="same", activation="tanh")(x)
    x = L.Dense(7, activation="leaky_relu")(x)
    x = L.Permute((2, 1))(x)
    x = L.Subtract()([x, L.Activation("hard_swish" if hasattr(keras.activations, "hard_swish") else "relu")(x)])
    x = L.Cropping1D((1, 2))(x)
    x = L.Reshape((10, 8))(x)
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model(i, L.Dense(3)(x))


def convert(model, io: str) -> bytes:
    rng = np.random.default_rng(0)
    shape = model.input_shape[1:]
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([rng.normal(size=(1, *shape)).astype(np.float32)] for _ in range(16))
    if io == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


@pytest.mark.parametrize(
    "build, io, batch", [(image_net, "int8", None), (image_net, "float", 1), (sequence_net, "int8", 1), (sequence_net, "float", 1)]
)
def test_converted_model_is_exact(build, io: str, batch: int | None) -> None:
    keras.utils.set_random_seed(1)
    file = convert(build(batch), io)
    graph = read_tflite(file)
    rng = np.random.default_rng(2)
    t = graph.tensors[graph.inputs[0]]
    x = rng.normal(size=(24, *t.shape)).astype(np.float32) if io == "float" else rng.integers(-128, 128, (24, *t.shape)).astype(np.int8)
    outputs = compare_tflm(graph, file, x)
    inner, written = compare_tflm(graph, file, x[:8], "all"), compare_tflm(graph, None, x[:8], "all")
    print(f"{build.__name__} {io}: {[o.kind for o in graph.ops]}: outputs {outputs}; file {inner}; written {written}")
    assert (outputs.mismatches, inner.mismatches, written.mismatches) == (0, 0, 0), (outputs, inner, written)
    assert len(write_tflite(graph)) < len(file)


def test_open_batch_that_needs_run_time_shapes_is_refused_with_advice() -> None:
    keras.utils.set_random_seed(1)
    with pytest.raises(ModelError, match="computes a shape from an open batch.*batch_size=1"):
        read_tflite(convert(sequence_net(None), "int8"))
