"""Random small Keras networks that visit every supported layer, with odd shapes, and helpers to check them."""

import keras
import numpy as np

from tinykit.graph import reference
from tinykit.quant.calibrate import calibrate, correct_biases
from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.lowering import lower
from tinykit.quant.model import stored_numpy

L = keras.layers
ACTIVATIONS = ["linear", "relu", "relu6", "sigmoid", "tanh", "hard_silu", "silu", "leaky_relu"]


def shake(model, rng):
    """Gives batch norm and biases values that a trained network could have."""
    for v in model.weights:
        if "moving_variance" in v.path or "gamma" in v.path:
            v.assign(rng.uniform(0.4, 1.8, v.shape))
        elif "moving_mean" in v.path or "beta" in v.path or "bias" in v.path:
            v.assign(rng.normal(0, 0.3, v.shape))


def conv_block(x, rng):
    """A random convolution of any kind, padding, stride and dilation, with or without batch norm and activation."""
    h, w = x.shape[1], x.shape[2]
    kernel = (int(rng.integers(1, min(h, 4) + 1)), int(rng.integers(1, min(w, 4) + 1)))
    dilate = rng.random() < 0.25 and kernel[0] * 2 - 1 <= h and kernel[1] * 2 - 1 <= w
    stride = 1 if dilate else int(rng.integers(1, 4))
    common = dict(padding=str(rng.choice(["same", "valid"])), dilation_rate=2 if dilate else 1, use_bias=bool(rng.random() < 0.6))
    kind = rng.choice(["conv", "depthwise", "separable"])
    if kind == "conv":
        strides = (stride, int(rng.integers(1, 3))) if not dilate else 1
        x = L.Conv2D(int(rng.choice([1, 3, 5, 7])), kernel, strides=strides, **common)(x)
    elif kind == "depthwise":
        x = L.DepthwiseConv2D(kernel, strides=stride, depth_multiplier=int(rng.integers(1, 3)), **common)(x)
    else:
        x = L.SeparableConv2D(5, kernel, strides=stride, **common)(x)
    if rng.random() < 0.6:
        x = L.BatchNormalization()(x)
    if rng.random() < 0.3:
        x = L.Dropout(0.2)(x)
    return activation(x, rng)


def activation(x, rng):
    """A random activation as a layer of its own."""
    name = str(rng.choice(ACTIVATIONS))
    return x if name == "linear" else L.Activation(name)(x)


def joined(x, rng):
    """A random two-input operation of x and a convolution of it, or a squeeze-excite gate."""
    kind = rng.choice(["add", "subtract", "multiply", "concat", "concat_sigmoid", "maximum", "minimum", "se"])
    if kind == "se":
        s = L.GlobalAveragePooling2D(keepdims=True)(x)
        s = L.Conv2D(3, 1, activation="relu")(s)
        return L.Multiply()([x, L.Conv2D(x.shape[-1], 1, activation="sigmoid")(s)])
    y = L.Conv2D(x.shape[-1], 1, use_bias=False)(x)
    if kind == "concat_sigmoid":
        return L.Concatenate()([L.Activation("sigmoid")(y), x])
    layer = {
        "add": L.Add,
        "subtract": L.Subtract,
        "multiply": L.Multiply,
        "concat": L.Concatenate,
        "maximum": L.Maximum,
        "minimum": L.Minimum,
    }
    out = layer[kind]()([x, y])
    return L.ReLU(6.0)(out) if kind == "add" and rng.random() < 0.5 else activation(out, rng)


def moved(x, rng):
    """A random pooling, padding or cropping."""
    h, w = x.shape[1], x.shape[2]
    kind = rng.choice(["max", "average", "pad", "crop", "norm", "rescale"])
    if kind == "pad":
        return L.ZeroPadding2D(((1, 0), (2, 1)))(x)
    if kind == "crop" and h > 2 and w > 2:
        return L.Cropping2D(((1, 0), (0, 1)))(x)
    if kind == "norm":
        return L.BatchNormalization()(x)
    if kind == "rescale":
        return L.Rescaling(0.7, -0.1)(x)
    size = (int(rng.integers(1, min(h, 3) + 1)), int(rng.integers(1, min(w, 3) + 1)))
    pool = L.MaxPooling2D if kind == "max" else L.AveragePooling2D
    return pool(size, strides=int(rng.integers(1, 3)), padding=str(rng.choice(["same", "valid"])))(x)


def image_network(seed):
    """A random network on a plane of prime size."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    shape = (int(rng.choice([7, 11, 13])), int(rng.choice([5, 7, 11])), int(rng.choice([1, 3])))
    inputs = x = L.Input(shape)
    for _ in range(int(rng.integers(2, 5))):
        x = (conv_block, conv_block, joined, moved)[int(rng.integers(0, 4))](x, rng)
    head = rng.choice(["gap", "gmp", "flatten"])
    x = {"gap": L.GlobalAveragePooling2D(), "gmp": L.GlobalMaxPooling2D(), "flatten": L.Flatten()}[head](x)
    x = L.Dense(5)(x)
    model = keras.Model(inputs, L.Softmax()(x) if rng.random() < 0.5 else x)
    shake(model, rng)
    return model


def sequence_network(seed):
    """A random network on a time series."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    inputs = x = L.Input((int(rng.choice([17, 23])), 3))
    x = L.Conv1D(5, 3, padding="causal", dilation_rate=int(rng.integers(1, 3)))(x)
    x = L.BatchNormalization()(x)
    x = activation(x, rng)
    x = L.DepthwiseConv1D(3, padding="same")(x)
    x = (L.MaxPooling1D if rng.random() < 0.5 else L.AveragePooling1D)(2, padding="same")(x)
    x = L.SeparableConv1D(7, 3, strides=2, activation="relu")(x)
    x = L.Concatenate(axis=1)([x, L.ReLU()(x)])
    x = L.Dense(4, activation="tanh")(x)
    x = L.Permute((2, 1))(x) if rng.random() < 0.5 else L.ZeroPadding1D(1)(x)
    head = int(rng.integers(0, 3))
    if head == 0:
        x = L.GlobalAveragePooling1D()(x)
    elif head == 1:
        x = L.Flatten()(x)
    else:
        x = L.Reshape((2, -1))(x)
        x = L.Flatten()(x)
    x = L.Dense(6)(x)
    x = L.BatchNormalization()(x)
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(L.ReLU()(x)))
    shake(model, rng)
    return model


def samples(model, seed, count=40):
    """Float inputs [count, *shape] in 0..1, in steps of 1/255, with the extremes among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (count, *model.input_shape[1:])).astype(np.float32) / 255
    x[0], x[1] = 0.0, 1.0
    return x


def quantized(model, x):
    """Calibrated integer network of a float model."""
    q = build_quantized(model, InputRange.from_affine(1 / 255, 0.0))
    calibrate(q, [x])
    correct_biases(q)
    return q


def mismatches(q, x, eager=False):
    """(elements that differ between Keras and the reference over every tensor, elements compared, graph). `eager`: without tracing, which
    takes longer than so small a network."""
    graph = lower(q)
    keras_side = {k: v.numpy().astype(np.int64) for k, v in q.stored_integers(x).items()} if eager else stored_numpy(q, x)
    other = reference.run_all(graph, reference.quantize_input(graph, x))
    wrong = {k: int((keras_side[k] != other[k]).sum()) for k in keras_side}
    return wrong, sum(v.size for v in keras_side.values()), graph
