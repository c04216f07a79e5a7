"""Epochs with a supernet, whatever is trained with them: schedule, lines, metrics, checkpoints. Imports TensorFlow; import late."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tinykit import atomic
from tinykit.config.search import SearchConfig
from tinykit.errors import ModelError
from tinykit.recipe.step import StepContext
from tinykit.search.supernet import Supernet
from tinykit.steps.fitting import FitOptions, learning_rate_at

STATE = "supernet.npz"
_EPOCH = "epoch"


@dataclass
class Checkpoint:
    """The state after an epoch, in one file that appears complete or not at all.

    Attributes:
        path: of the file.
        variables: what is stored, in a fixed order.
    """

    path: Path
    variables: list[Any]

    def load(self) -> int:
        """Restores the variables; returns the number of finished epochs, 0 where there is no file.

        Raises:
            ModelError: the file is damaged, or of another supernet.
        """
        if not self.path.exists():
            return 0
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                values = [stored[f"v{i}"] for i in range(len(self.variables))]
                epoch = int(stored[_EPOCH])
            if any(value.shape != tuple(variable.shape) for value, variable in zip(values, self.variables, strict=True)):
                raise ValueError("other shapes")
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ModelError(f"{self.path}: cannot be read: {error}; delete it to search from the beginning") from None
        for value, variable in zip(values, self.variables, strict=True):
            variable.assign(value)
        return epoch

    def save(self, epoch: int) -> None:
        """Stores the state after so many epochs."""
        with atomic.replacing(self.path) as temporary, temporary.open("wb") as stream:
            values: dict[str, Any] = {f"v{i}": np.asarray(variable) for i, variable in enumerate(self.variables)}
            np.savez(stream, **{**values, _EPOCH: np.int64(epoch)})


class SupernetTraining:
    """A training of a supernet, in place, that goes on after its last finished epoch.

    Args:
        context: data, seed, folder, logging; the batch size is the configuration's.
        optimizers: further ones, with what they change; their states are kept too.
    """

    def __init__(
        self, net: Supernet, options: SearchConfig, context: StepContext, optimizers: Sequence[tuple[keras.optimizers.Optimizer, Any]] = ()
    ) -> None:
        self.net, self.options, self.context = net, options, context
        self.epochs = 2 if context.quicktest else options.epochs
        self.weight_optimizer = keras.optimizers.Adam(options.learning_rate)
        stored = net.variables()
        for optimizer, variables in ((self.weight_optimizer, net.weights.values()), *optimizers):
            optimizer.build(list(variables))
            stored += optimizer.variables
        self.checkpoint = Checkpoint(context.folder / STATE, stored)

    def run(self) -> None:
        """Trains from where an interrupted run stopped.

        Raises:
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        context, epochs = self.context, self.epochs
        done = self.checkpoint.load()
        if 0 < done < epochs:
            context.log(f"goes on after epoch {done}/{epochs}")
        if done >= epochs:
            return
        steps = math.ceil(len(context.dataset.train) / context.config.config.data.batch_size)
        data = context.batches("train", shuffle=True, augment=True, first_epoch=done, repeat=True)
        self.compile(data.element_spec)
        batches = iter(data)
        schedule = FitOptions(epochs=epochs, learning_rate=self.options.learning_rate)
        for epoch in range(done, epochs):
            self._epoch(batches, epoch, steps, schedule)

    def compile(self, spec: Sequence[tf.TensorSpec]) -> None:
        """Prepares `step` for batches (x, y) of this kind."""

    def step(self, x: tf.Tensor, y: tf.Tensor, number: int, epoch: int) -> tuple[Any, Any]:
        """Trains on batch `number` of all; returns its loss and accuracy."""
        raise NotImplementedError

    def state(self, epoch: int) -> tuple[str, dict[str, float]]:
        """What an epoch's line and metrics say besides."""
        return "", {}

    def _epoch(self, batches: Iterator[Any], epoch: int, steps: int, schedule: FitOptions) -> None:
        """One pass, a line, a checkpoint."""
        context, epochs = self.context, self.epochs
        sums = np.zeros(3)
        for i in range(steps):
            x, y = next(batches)
            number = epoch * steps + i
            self.weight_optimizer.learning_rate.assign(learning_rate_at(number, epochs * steps, schedule))
            found = self.step(x, y, number, epoch)
            sums += np.array([len(y), *(float(value) * len(y) for value in found)])
            context.progress(i + 1, steps)
        loss, accuracy = sums[1:] / sums[0]
        if not math.isfinite(loss):
            raise ModelError(
                f"search: the loss is {loss} in epoch {epoch + 1}; training diverged: "
                f"lower search.learning_rate (now {self.options.learning_rate})"
            )
        words, values = self.state(epoch)
        context.log(f"epoch {epoch + 1}/{epochs}  loss {loss:.4f}  accuracy {accuracy:.4f}{words}")
        context.metrics(step=epoch, epoch=epoch + 1, loss=loss, accuracy=accuracy, **values)
        self.checkpoint.save(epoch + 1)
