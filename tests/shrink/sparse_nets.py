"""A network with every kind of layer that sparsify and cluster look at, and a context of a recipe with both."""

import keras
import numpy as np
from taught_runs import context

L = keras.layers

RECIPE = "recipe=[train, {sparsify: {sparsity: 0.6}}, {cluster: {clusters: 8}}, quantize]"


def network(seed=5):
    """Convolutions with batch norm of either sign, a depthwise and a pointwise one, dense layers with and without batch norm."""
    keras.utils.set_random_seed(seed)
    inputs = L.Input((7, 5, 1))
    x = L.Conv2D(8, 3, padding="same", name="first")(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Conv2D(12, 3, use_bias=False, name="second")(x)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.DepthwiseConv2D(3, padding="same", name="dw")(x)
    x = L.Conv2D(8, 1, activation="relu", name="third")(x)
    x = L.Dense(20, name="hidden")(L.GlobalAveragePooling2D()(x))
    x = L.ReLU()(L.BatchNormalization(name="dense_norm")(x))
    model = keras.Model(inputs, L.Dense(3, activation="softmax", name="scores")(x))
    random = np.random.default_rng(1)
    for v in model.weights:
        if "moving_variance" in v.path or "gamma" in v.path:
            v.assign(random.uniform(0.4, 1.8, v.shape) * (random.choice([-1, 1], v.shape) if "gamma" in v.path else 1))
        elif "moving_mean" in v.path or "beta" in v.path or "bias" in v.path:
            v.assign(random.normal(0, 0.3, v.shape))
    return model


def inside(folder, label, recipe=RECIPE, **options):
    """The context of a step of a recipe, and the lines that it will log."""
    made, lines = context(folder, recipe, **options)
    made.label = label
    return made, lines
