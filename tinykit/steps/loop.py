"""Training steps without Python between them: on small networks it takes as long as the steps. Imports TensorFlow; import it late."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

MOST = 16
"""Steps between two callbacks of Keras, at most."""
_SECONDS = 0.1
"""That steps may take until progress is told, and with it asked whether to stop, about."""
_UNTIMED = 2
"""Calls that tell nothing: they trace, or fill buffers."""


class Loop:
    """What Keras's `fit` calls, within the context, to train on the next batches.

    Weights are bit for bit the same however many steps are taken at once, so that time may decide it.

    Args:
        model: compiled; its optimizer's learning rate is set.
        rate: number of a batch since the beginning of the training -> its learning rate.
        steps: batches of an epoch.
        progress: (batches done of the epoch, all of them), called after steps; ends the training by an exception.
        callbacks: of the training. Where one acts on single batches, each is a call.
    """

    def __init__(
        self, model: keras.Model, rate: Callable[[int], float], steps: int, progress: Callable[[int, int], None], callbacks: Iterable[Any]
    ) -> None:
        self.model, self.rate, self.steps, self.progress = model, rate, steps, progress
        self.most = 1 if any(_acts_on_batches(callback) for callback in callbacks) else min(MOST, steps)
        self._next, self._epoch, self._at_once, self._calls = 0, 0, 1, 0
        self._step = tf.function(model.train_step, reduce_retracing=True, jit_compile=model.jit_compile, autograph=False)
        self._several = tf.function(self._take, reduce_retracing=True, autograph=False)

    def __enter__(self) -> Loop:
        self.model.steps_per_execution = self.most
        self.model.train_function, self.model.test_function = self, None
        return self

    def __exit__(self, *error: object) -> None:
        self.model.steps_per_execution = 1
        self.model.train_function = self.model.test_function = None

    def begin(self, epoch: int) -> None:
        """Of an epoch, from 0."""
        self._epoch, self._next = epoch, 0

    def __call__(self, iterator: Any) -> dict[str, Any]:
        """Trains on `most` batches, or on what is left of the epoch; returns the metrics of the epoch so far."""
        logs: dict[str, Any] = {}
        end = min(self._next + self.most, self.steps)
        while self._next < end:
            count = min(self._at_once, end - self._next)
            logs = self._timed(iterator, self._epoch * self.steps + self._next, count)
            self._next += count
            self.progress(self._next, self.steps)
        return logs

    def _timed(self, iterator: Any, first: int, count: int) -> dict[str, Any]:
        rates = [self.rate(first + i) for i in range(count)] + [0.0] * (self.most - count)
        begun = time.monotonic()
        logs: dict[str, Any] = self._several(iterator, tf.constant(rates, tf.float32), tf.constant(count))
        self._calls += 1
        if self._calls > _UNTIMED:
            self._at_once = self._limited(time.monotonic() - begun, count)
        return logs

    def _limited(self, seconds: float, count: int) -> int:
        """How many steps to take at once, where so many took so long."""
        return max(1, min(self.most, round(min(_SECONDS * count / max(seconds, 1e-6), self.most))))

    def _take(self, iterator: Any, rates: Any, count: Any) -> dict[str, Any]:
        def one(number: Any) -> Any:
            self.model.optimizer.learning_rate.assign(rates[number])
            self._step(iterator.get_next())
            return number + 1

        tf.while_loop(lambda number: number < count, one, [tf.constant(0)], parallel_iterations=1)
        logs: dict[str, Any] = self.model.get_metrics_result()
        return logs


def _acts_on_batches(callback: Any) -> bool:
    own, base = type(callback), keras.callbacks.Callback
    return any(getattr(own, name) is not getattr(base, name) for name in ("on_train_batch_begin", "on_train_batch_end"))
