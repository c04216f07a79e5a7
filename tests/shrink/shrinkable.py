"""Random networks with residuals, concatenations and gates, and what a network computes with some channels at 0."""

import keras
import numpy as np

from tinykit.models.graphs import calls

L = keras.layers


def shaken(model, seed=0):
    """Gives batch norms and biases values that a trained network could have."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        if "moving_variance" in v.path or "gamma" in v.path:
            v.assign(rng.uniform(0.4, 1.8, v.shape))
        elif "moving_mean" in v.path or "beta" in v.path or "bias" in v.path:
            v.assign(rng.normal(0, 0.3, v.shape))
    return model


def _convolution(x, rng, channels=None):
    kind = rng.choice(["conv", "conv", "depthwise", "separable"])
    shrinks = channels is None and x.shape[1] > 4
    common = {"padding": str(rng.choice(["same", "valid"])) if shrinks else "same", "use_bias": rng.random() < 0.6}
    channels = channels or int(rng.integers(3, 9))
    if kind == "conv" or (kind == "depthwise" and channels % x.shape[-1]):
        x = L.Conv2D(channels, int(rng.integers(1, 4)), **common)(x)
    elif kind == "depthwise":
        x = L.DepthwiseConv2D(3, depth_multiplier=channels // x.shape[-1], **common)(x)
    else:
        x = L.SeparableConv2D(channels, 3, depth_multiplier=int(rng.integers(1, 3)), **common)(x)
    if rng.random() < 0.6:
        x = L.BatchNormalization()(x)
    return L.Activation(str(rng.choice(["relu", "linear", "sigmoid", "tanh", "silu"])))(x)


def _squeeze_excite(x, rng):
    s = L.GlobalAveragePooling2D(keepdims=bool(rng.random() < 0.5))(x)
    if len(s.shape) == 2:
        s = L.Dense(5, activation="relu")(s)
        s = L.Reshape((1, 1, -1))(L.Dense(x.shape[-1], activation="sigmoid")(s))
    else:
        s = L.Conv2D(x.shape[-1], 1, activation="sigmoid")(L.Conv2D(5, 1, activation="relu")(s))
    return L.Multiply()([x, s])


def _block(x, rng):
    kind = rng.choice(["plain", "residual", "concat", "gate", "pool", "spatial_gate", "shared"])
    if kind == "residual":
        return L.Add()([x, _convolution(_convolution(x, rng, int(rng.integers(3, 9))), rng, x.shape[-1])])
    if kind == "concat":
        y = L.Concatenate()([x, _convolution(x, rng, 4), _convolution(x, rng, 3)])
        return L.Add()([y, L.Conv2D(y.shape[-1], 1)(y)]) if rng.random() < 0.5 else y
    if kind == "gate":
        return _squeeze_excite(x, rng)
    if kind == "spatial_gate":
        return L.Multiply()([x, L.Conv2D(1, 1, activation="sigmoid")(x)])
    if kind == "shared":
        shared = L.Conv2D(x.shape[-1], 1)
        return L.Subtract()([shared(shared(x)), x])
    if kind == "pool" and min(x.shape[1:3]) > 3:
        x = L.ZeroPadding2D(((1, 0), (0, 1)))(x)
        return (L.MaxPooling2D if rng.random() < 0.5 else L.AveragePooling2D)(2)(x)
    return _convolution(x, rng)


def random_network(seed):
    """A classifier of planes of odd size."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    inputs = L.Input((int(rng.choice([7, 9])), int(rng.choice([5, 7])), int(rng.choice([1, 3]))))
    x = L.Conv2D(int(rng.integers(3, 9)), 3, padding="same")(inputs)
    for _ in range(3):
        x = _block(x, rng)
    head = rng.choice(["flatten", "average", "reshape", "dropout"])
    if head == "flatten":
        x = L.Flatten()(x)
    elif head == "reshape":
        x = L.GlobalMaxPooling1D()(L.Conv1D(6, 3, padding="same")(L.Reshape((-1, x.shape[-1]))(x)))
    else:
        x = L.Dropout(0.3)(L.GlobalAveragePooling2D()(x))
    x = L.Dense(6, activation="relu")(x)
    return shaken(keras.Model(inputs, L.Dense(4, activation="softmax")(x)), seed)


def random_cut(found, seed, share=0.5):
    """A mask that removes about `share` of the channels of every group that may lose some, and never all."""
    rng = np.random.default_rng(seed)
    alive = found.everything()
    for group in found.removable():
        gone = min(int(rng.binomial(len(group.channels), share)), len(group.channels) - 1)
        alive[rng.choice(group.channels, gone, replace=False)] = False
    return alive


def masked(found, alive, x):
    """What the whole network computes when the channels that are not alive are 0 in every tensor."""
    values = {id(found.model.inputs[0]): x}
    for node in calls(found.model):
        arguments, keywords = node.arguments.fill_in(values)
        tensor = node.outputs[0]
        values[id(tensor)] = node.operation(*arguments, **keywords) * alive[found.channels(tensor)].astype(np.float32)
    return np.asarray(values[id(found.model.outputs[0])])


def difference(found, smaller, alive, count=4):
    """Largest difference between a shrunk network and the masked one, against the largest output."""
    x = np.random.default_rng(1).normal(0, 1, (count, *found.model.input_shape[1:])).astype(np.float32)
    expected = masked(found, alive, x)
    return float(np.abs(np.asarray(smaller(x, training=False)) - expected).max() / max(1.0, np.abs(expected).max()))
