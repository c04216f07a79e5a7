"""Small models as other people make them, in Keras 3 and in Keras 2, and the checks that every accepted one must pass."""

import logging

import numpy as np

from tinykit.graph import reference
from tinykit.models import load_model
from tinykit.quant.calibrate import calibrate
from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.lowering import lower
from tinykit.quant.model import stored_numpy

TOLERANCE = 1e-5
MEAN, VARIANCE = [0.4, 0.5, 0.6], [0.04, 0.09, 0.16]


def randomise(model, seed=0):
    """Weights unlike their initial values, small enough for outputs around 1."""
    random = np.random.RandomState(seed)
    model.set_weights([random.uniform(0.05, 0.4, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def tail(layers, x, padding="same", end="softmax"):
    """Convolution, batch norm, ReLU, pool, and one of the ways in which models end."""
    x = layers.Conv2D(4, 3, padding=padding)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    if end == "sigmoid":
        return layers.Dense(1, activation="sigmoid")(x)
    if end == "softmax":
        return layers.Dense(3, activation="softmax")(x)
    x = layers.Dense(3)(x)
    return {"logits": lambda y: y, "layer": layers.Softmax(), "activation": layers.Activation("softmax")}[end](x)


def network(package, before=(), padding="same", end="softmax"):
    """A classifier of 6 x 6 x 3 planes that begins with the functions `before`."""
    inputs = x = package.layers.Input((6, 6, 3))
    for function in before:
        x = function(x)
    return randomise(package.Model(inputs, tail(package.layers, x, padding, end)))


def save(model, folder, form):
    """Writes a model in one of the forms "h5", "keras", "folder" (SavedModel of Keras 2); returns its path."""
    path = folder / ("model" if form == "folder" else f"model.{form}")
    logging.getLogger("absl").setLevel(logging.ERROR)
    model.save(path, **({"save_format": "tf"} if form == "folder" else {}))
    return path


def samples(model, top=1.0, count=6):
    """Float inputs in 0..top that an 8-bit input holds without error."""
    random = np.random.RandomState(1)
    return (random.randint(0, 256, (count, *model.input_shape[1:])) * (top / 255)).astype(np.float32)


def accepted(model, path, tally, top=1.0):
    """Loads a file; its outputs are the original's, and its integer network is exact. Returns (loaded model, integer network)."""
    loaded = load_model(path)
    x = samples(model, top)
    expected = np.asarray(model(x, training=False))
    np.testing.assert_allclose(np.asarray(loaded(x, training=False)), expected, rtol=TOLERANCE, atol=TOLERANCE)
    quantized = build_quantized(loaded, InputRange.from_affine(top / 255, 0.0))
    calibrate(quantized, [x])
    graph = lower(quantized)
    ours, theirs = stored_numpy(quantized, x), reference.run_all(graph, reference.quantize_input(graph, x))
    wrong, compared = sum(int((ours[k] != theirs[k]).sum()) for k in ours), sum(v.size for v in ours.values())
    tally("models from elsewhere, Keras = reference", wrong, compared)
    assert wrong == 0
    assert np.abs(np.asarray(quantized(x)) - expected).max() < 0.05 * max(1.0, np.abs(expected).max())
    return loaded, quantized


def kinds(quantized):
    """What the integer network consists of."""
    return [spec["kind"] for spec in quantized.specs]
