"""Keras callbacks of the runner. Imports Keras; import it late."""

from typing import Any

import keras

from tinykit.recipe.step import StepContext


class StopCallback(keras.callbacks.Callback):
    """Ends `fit` at the next batch with Terminated when the run was asked to stop."""

    def __init__(self, context: StepContext) -> None:
        super().__init__()
        self._context = context

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks before each training batch."""
        self._context.stop.check()

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks before each validation batch."""
        self._context.stop.check()

    def on_predict_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks before each batch of predictions."""
        self._context.stop.check()
