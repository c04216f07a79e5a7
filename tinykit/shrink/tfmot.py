"""What tensorflow-model-optimization does for us: schedules, masks by magnitude, first centroids.

Its wrappers take tf_keras models only. What they are built on works on any TensorFlow variable, so it is handed copies of a Keras 3
model's weights and gives masks and centroids back; training, checkpoints and resume stay those of every other step. Importing it sets
TF_USE_LEGACY_KERAS for the process, which is undone here, and takes seconds: it is imported late.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tinykit.errors import ModelError

if TYPE_CHECKING:
    from types import ModuleType

Start = Literal["kmeans++", "density", "linear"]

_VARIABLE = "TF_USE_LEGACY_KERAS"


def _package() -> ModuleType:
    """The package, imported without its side effect. Raises ModelError where it is not installed."""
    before = os.environ.get(_VARIABLE)
    try:
        import tensorflow_model_optimization
    except ImportError as error:
        raise ModelError(
            f"sparsify and cluster need tensorflow-model-optimization, which cannot be imported ({error}): "
            "pip install tensorflow-model-optimization tf_keras"
        ) from error
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
    package: ModuleType = tensorflow_model_optimization
    return package


class Masks:
    """Masks by magnitude, at the sparsity of a polynomial schedule (Zhu and Gupta 2017).

    Args:
        final: share of zeros at the end.
        end: number of updates after which it is reached; update u of them has final * (1 - (1 - u / end)^3).
    """

    def __init__(self, final: float, end: int) -> None:
        sparsity = _package().sparsity.keras
        self._final = final
        self._schedule = sparsity.PolynomialDecay(0.0, final, 0, end, frequency=1) if end else sparsity.ConstantSparsity(final, 0)

    def sparsity(self, update: int) -> float:
        """Share of zeros that update (from 0) is to leave."""
        import tensorflow as tf

        return min(float(self._schedule(tf.constant(update, tf.int64))[1]), self._final)

    def largest(self, scores: np.ndarray, update: int) -> np.ndarray:
        """Which of scores (any shape, never negative) stay at that update: True for the largest."""
        mask = _updated(scores, self._schedule, update, None)
        wanted = scores.size - max(round(scores.size * (1 - self.sparsity(update))), 1)
        if int(scores.size - mask.sum()) != wanted:  # equal scores all stay there; here the first of them go
            mask = np.ones(scores.size, bool)
            mask[np.argsort(scores.ravel(), kind="stable")[:wanted]] = False
        return mask.reshape(scores.shape)


def two_of_four(runs: np.ndarray) -> np.ndarray:
    """Which of [rows, inputs] stay where of every four in a row the two largest magnitudes do. `inputs` is a multiple of 4."""
    return _updated(np.ascontiguousarray(runs.T), _package().sparsity.keras.ConstantSparsity(0.5, 0), 1, (2, 4)).T


def _updated(weights: np.ndarray, schedule: Any, update: int, pattern: tuple[int, int] | None) -> np.ndarray:
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_impl import Pruning

    weight = tf.Variable(np.asarray(weights, np.float32))
    mask = tf.Variable(tf.ones_like(weight))
    step = tf.constant(update, tf.int64)
    Pruning(lambda: step, [(weight, mask, tf.Variable(0.0))], schedule, (1, 1), "AVG", pattern).conditional_mask_update()
    return np.asarray(mask) > 0


def first_centroids(weights: np.ndarray, count: int, start: Start, zero: bool) -> np.ndarray:
    """Where `count` centroids of weights [N] begin, in ascending order, float64; `zero`: one of them is 0, for the weights that are."""
    import tensorflow as tf

    clustering = _package().clustering.keras
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_centroids import CentroidsInitializerFactory

    kinds = clustering.CentroidInitialization
    kind = {"kmeans++": kinds.KMEANS_PLUS_PLUS, "density": kinds.DENSITY_BASED, "linear": kinds.LINEAR}[start]
    maker = CentroidsInitializerFactory.get_centroid_initializer(kind)
    found = maker(tf.constant(weights, tf.float32), count, preserve_sparsity=zero).get_cluster_centroids()
    return np.sort(np.asarray(found, np.float64).ravel())
