"""What a network's outputs change when it is changed, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinykit.recipe.step import StepContext
from tinykit.steps.allocation import drawn
from tinykit.steps.floats import ends_in_softmax

if TYPE_CHECKING:
    import keras

_SAMPLES = 512
_BATCH = 128


class OutputProbe:
    """Compares outputs on training samples with those that a network had when this was made.

    Args:
        rebuilds: the network is an autoencoder.
    """

    def __init__(self, model: keras.Model, context: StepContext, rebuilds: bool) -> None:
        self.rebuilds = rebuilds
        self.x = np.asarray(context.chain.apply(drawn(context, 64 if context.quicktest else _SAMPLES)), np.float32)
        self.truth = self._outputs(model)

    def harm(self, model: keras.Model) -> float:
        """The mean Kullback-Leibler divergence in nats; of an autoencoder the mean squared difference over the variance."""
        from tinykit.fit.sensitivity import divergence

        return divergence(self.truth, self._outputs(model), not self.rebuilds)

    def _outputs(self, model: keras.Model) -> np.ndarray:
        """Logits, up to a constant a sample; or what an autoencoder rebuilds."""
        found = np.concatenate([np.asarray(model(self.x[i : i + _BATCH], training=False)) for i in range(0, len(self.x), _BATCH)])
        probabilities = not self.rebuilds and ends_in_softmax(model)
        return np.log(np.maximum(found.astype(np.float64), 1e-12)) if probabilities else found.astype(np.float64)
