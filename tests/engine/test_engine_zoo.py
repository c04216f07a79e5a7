"""Models that TensorFlow's own converter quantised, compiled by the engine: on the emulated nano33ble the bytes are TFLM's."""

import importlib.util
import os
import shutil

import numpy as np
import pytest

from tinykit.boards.pipeline import compile_graph
from tinykit.boards.table import board
from tinykit.compile import read_model
from tinykit.graph import ir
from tinykit.verify.compare import compare_tflm
from tinykit.verify.tflm import TflmRunner

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
L = keras.layers
SAMPLES = 5

pytestmark = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc") and not importlib.util.find_spec("ziglang"),
    reason="neither arm-none-eabi-gcc nor ziglang is installed",
)


def normed(x, act="relu6"):
    x = L.BatchNormalization()(x)
    return L.Activation(act)(x) if act else x


def mobilenet_v2(i):
    """Inverted residuals, strides, a width that no register likes."""
    x = normed(L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(i))
    for out, stride in ((8, 1), (12, 2), (12, 1), (20, 2), (20, 1)):
        y = normed(L.Conv2D(3 * x.shape[-1], 1, use_bias=False)(x))
        y = normed(L.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y))
        y = normed(L.Conv2D(out, 1, use_bias=False)(y), None)
        x = L.Add()([x, y]) if x.shape == y.shape else y
    return L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(normed(L.Conv2D(32, 1)(x))))


def squeeze_excite(i):
    """Gates, a sigmoid and a hard swish."""
    x = L.Conv2D(12, 3, padding="same", activation="hard_silu")(i)
    for _ in range(2):
        s = L.GlobalAveragePooling2D(keepdims=True)(x)
        s = L.Conv2D(12, 1, activation="hard_sigmoid")(L.Conv2D(4, 1, activation="relu")(s))
        x = L.DepthwiseConv2D(5, padding="same", activation="relu")(L.Multiply()([x, s]))
        s = L.Dense(12, activation="sigmoid")(L.Dense(3, activation="relu")(L.GlobalAveragePooling2D()(x)))
        x = L.Multiply()([x, L.Reshape((1, 1, 12))(s)])
    return L.Dense(3)(L.Flatten()(L.AveragePooling2D(2)(x)))


def one_dimension(i):
    """A time series: causal, dilated, strided and separable convolutions."""
    x = L.Conv1D(8, 9, strides=2, padding="same", activation="relu")(i)
    y = L.Conv1D(8, 3, dilation_rate=2, padding="causal", activation="tanh")(x)
    x = L.Add()([x, y])
    x = L.DepthwiseConv1D(5, padding="same", depth_multiplier=2)(x)
    x = L.SeparableConv1D(7, 3, strides=3, activation="relu")(L.MaxPooling1D(2, padding="same")(x))
    return L.Dense(4, activation="softmax")(L.GlobalAveragePooling1D()(x))


def wide_kernels(i):
    """Windows of 10x4, 5x5 and 7x7, strides 1 to 3, SAME padding that is not symmetric."""
    x = L.Conv2D(6, (10, 4), strides=(2, 2), padding="same", activation="relu")(i)
    x = L.DepthwiseConv2D(7, padding="same", activation="relu6")(x)
    x = L.Conv2D(9, 5, strides=(3, 1), padding="same", activation="relu")(x)
    x = L.Conv2D(5, (1, 7), padding="same")(x)
    x = L.DepthwiseConv2D((5, 3), strides=1, padding="valid", activation="relu")(x)
    return L.Dense(7)(L.Flatten()(x))


def dilated(i):
    """Dilation, depth multiplier 2, padding of its own, max and average pools that are not symmetric."""
    x = L.Conv2D(5, 3, dilation_rate=2, padding="same", activation="relu")(i)
    x = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", strides=2, activation="relu6")(x)
    x = L.DepthwiseConv2D(3, dilation_rate=2, padding="valid")(L.ZeroPadding2D(((2, 1), (1, 2)))(x))
    x = L.MaxPooling2D(3, strides=2, padding="same")(L.LeakyReLU(negative_slope=0.2)(x))
    x = L.AveragePooling2D((2, 3), strides=1, padding="same")(x)
    return L.Conv2D(4, 1)(x)


def branches(i):
    """Concatenations, means over an axis, several outputs of which one is read further."""
    x = L.Conv2D(6, 3, strides=(2, 1), padding="same", activation="relu")(i)
    a = L.Conv2D(4, (1, 5), padding="same", activation="relu")(x)
    b = L.Conv2D(4, (5, 1), padding="same", activation="tanh")(x)
    x = L.Concatenate()([a, L.Concatenate()([b, L.MaxPooling2D(3, strides=1, padding="same")(x)])])
    rows = keras.ops.mean(x, axis=1)
    y = L.Dense(6, activation="sigmoid")(L.Permute((2, 1))(rows))
    z = L.Dense(5, activation="softmax")(L.Flatten()(L.MaxPooling2D(x.shape[1:3])(x)))
    return [rows, y, z]


def two_inputs(i, j):
    """Operands of every kind, slices, an output in each of two heads."""
    x, y = L.Conv2D(6, 3, padding="same")(i), L.Conv2D(6, 1)(L.Cropping2D(((1, 1), (0, 2)))(j))
    low, high = L.Minimum()([x, y]), L.Maximum()([x, y])
    x = L.Multiply()([L.Subtract()([high, low]), L.Dense(6, activation="sigmoid")(low)])
    x = L.Add()([x, L.Rescaling(0.5, 0.25)(y)])
    x = x[:, ::2, 1:, :]
    return [L.Dense(3)(L.Flatten()(x)), L.GlobalAveragePooling2D()(high)]


# builder -> input shapes, type of the ends, bytes of flash that it must not take on an nRF52840
ZOO = {
    mobilenet_v2: ([(24, 24, 3)], "int8"),
    squeeze_excite: ([(11, 13, 3)], "float"),
    one_dimension: ([(61, 3)], "int8"),
    wide_kernels: ([(29, 17, 1)], "int8"),
    dilated: ([(13, 11, 3)], "float"),
    branches: ([(11, 7, 2)], "int8"),
    two_inputs: ([(8, 9, 3), (10, 11, 4)], "float"),
}


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """converted(builder): the path of its .tflite, converted once."""
    folder, made = tmp_path_factory.mktemp("zoo"), {}

    def get(build):
        if build not in made:
            made[build] = folder / f"{build.__name__}.tflite"
            made[build].write_bytes(convert(build, *ZOO[build]))
        return made[build]

    return get


def convert(build, shapes, ends) -> bytes:
    """Full-integer quantisation of a float model with batch norms and biases as training leaves them."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(0)
    inputs = [keras.Input(shape, batch_size=1, name=f"input_{k}") for k, shape in enumerate(shapes)]
    model = keras.Model(inputs, build(*inputs))
    for v in model.weights:
        if "moving_variance" in v.path or "gamma" in v.path:
            v.assign(rng.uniform(0.4, 1.8, v.shape))
        elif "moving_mean" in v.path or "beta" in v.path or "bias" in v.path:
            v.assign(rng.normal(0, 0.3, v.shape))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    # by name, because the order in which the converter takes several inputs is not that of the model
    names = [i.name for i in inputs]
    converter.representative_dataset = lambda: (
        {name: rng.normal(size=(1, *s)).astype(np.float32) for name, s in zip(names, shapes)} for _ in range(12)
    )
    if ends == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def samples(graph: ir.Graph) -> dict[str, np.ndarray]:
    """Noise, and both extremes."""
    rng, x = np.random.default_rng(1), {}
    for t in (graph.tensors[name] for name in graph.inputs):
        if t.dtype == ir.Dtype.FLOAT:
            x[t.name] = rng.normal(0, 1.5, (SAMPLES, *t.shape)).astype(np.float32)
            x[t.name][-2], x[t.name][-1] = -100.0, 100.0
        else:
            x[t.name] = rng.integers(-128, 128, (SAMPLES, *t.shape)).astype(np.int8)
            x[t.name][-2], x[t.name][-1] = -128, 127
    return x


@pytest.mark.parametrize("build", ZOO, ids=lambda build: build.__name__)
def test_the_boards_bytes_are_tflms(build, converted, tally, tmp_path):
    model = read_model(converted(build))
    x = samples(model.graph)
    tflm = compare_tflm(model.graph, model.path.read_bytes(), x, "all")
    tally("TFLM vs reference, converted models, every tensor", tflm.mismatches, tflm.elements)
    assert tflm.mismatches == 0, tflm
    for graph, folder in ((model.deployed, "simplified"), (model.graph, "as it is")):
        compiled = compile_graph(graph, board("nano33ble"), tmp_path / folder, inputs=x, parity_error=False)
        found = compiled.verification
        tally("engine vs reference, converted models, emulated nano33ble", found.mismatches, found.elements)
        assert found.mismatches == 0, found.first
        assert compiled.problems() == []
        outputs = np.stack(found.results)
        theirs = TflmRunner(model.path.read_bytes()).run([x[name] for name in model.graph.inputs])[0].reshape(outputs.shape)
        wrong = int((outputs != theirs).sum())
        tally("engine vs TFLM, converted models, output bytes", wrong, outputs.size)
        assert wrong == 0


def test_the_zoo_has_what_it_should(converted):
    """The converter rewrites models; what they are here for must still be in them."""
    graphs = {build: read_model(converted(build)).graph for build in ZOO}
    ops = [op for graph in graphs.values() for op in graph.ops]
    kernels = {tuple(op.weights.shape[1:3]) for op in ops if isinstance(op, ir.Conv2D)}
    kernels |= {tuple(op.weights.shape[:2]) for op in ops if isinstance(op, ir.DepthwiseConv2D)}
    windowed = [op for op in ops if isinstance(op, ir.Conv2D | ir.DepthwiseConv2D)]
    assert kernels >= {(10, 4), (5, 5), (7, 7), (1, 7), (3, 3), (1, 1)}
    assert {s for op in windowed for s in op.stride} >= {1, 2, 3}
    assert any(op.dilation != (1, 1) for op in windowed)
    assert any(op.depth_multiplier == 2 for op in ops if isinstance(op, ir.DepthwiseConv2D))
    assert any(op.padding[0] != op.padding[1] for op in windowed)
    kinds = {op.kind for op in ops}
    assert kinds >= {"add", "sub", "mul", "minimum", "maximum", "mean", "concat", "softmax", "quantize", "dequantize", "table", "max_pool"}
    assert len(graphs[branches].outputs) == 3 and len(graphs[two_inputs].inputs) == 2
