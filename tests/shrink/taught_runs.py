"""A small data set and networks for steps that prune and distill."""

from pathlib import Path

import keras
import numpy as np

from tinykit.config.loading import load_config
from tinykit.data.dataset import Dataset, Split
from tinykit.data.preprocess import Chain
from tinykit.recipe.step import StepContext

L = keras.layers


def data(count=44, classes=3):
    """Three bright bars at different places."""
    random = np.random.default_rng(1)

    def split(n):
        y = np.arange(n) % classes
        x = random.integers(0, 60, (n, 7, 5, 1))
        x[np.arange(n), 2 * y] += 130
        return Split(x.astype(np.uint8), y.astype(np.int64))

    return Dataset("bars", "made", True, ("a", "b", "c"), split(count), split(9), split(12), "0" * 64)


def network(first=16, second=12, seed=5, classes=3):
    """Two convolutions, a batch norm, three classes."""
    keras.utils.set_random_seed(seed)
    inputs = L.Input((7, 5, 1))
    x = L.Conv2D(first, 3, padding="same", name="first")(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Conv2D(second, 3, activation="relu", name="second")(x)
    x = L.Dropout(0.1)(L.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, L.Dense(classes, activation="softmax", name="scores")(x))


def context(folder, *overrides, **options):
    """A step's context, and the lines that it will log."""
    Path(folder).mkdir(exist_ok=True)
    config = load_config("digits", ["recipe=float", "data.batch_size=11", "data.preprocess=[{divide: {by: 255}}]", *overrides])
    lines = []
    made = StepContext(data(), Chain.parse(config.config.data.preprocess), config, 3, Path(folder), log=lines.append, **options)
    return made, lines


def weights(result):
    return [np.asarray(w) for w in result.model.get_weights()]


def same(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second))
