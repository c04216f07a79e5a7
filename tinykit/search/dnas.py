"""Differentiable search: a supernet's weights and decisions are trained together, on the task's loss and on what they cost.

Hinge penalties on multiply-accumulates, flash and RAM. Source: MicroNets, arXiv:2010.11267, section 3.3. Imports TensorFlow; import late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
from tinykit.search.costs import CostModel
from tinykit.search.supernet import TENSORS, Supernet
from tinykit.steps.fitting import FitOptions, learning_rate_at

Limits = Mapping[str, float | None]
"""macs, flash, ram: the most that the search may count; None: no limit."""
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


class Dnas:
    """One search.

    Args:
        net: the supernet, trained in place.
        limits: of what the search counts.
        context: data, seed, folder, logging; the batch size is the configuration's.
    """

    def __init__(self, net: Supernet, options: SearchConfig, limits: Limits, context: StepContext) -> None:
        self.net, self.options, self.limits, self.context = net, options, limits, context
        self.costs = CostModel(net.space, options.weight_bits, TENSORS)
        self.weight_optimizer = keras.optimizers.Adam(options.learning_rate)
        self.decision_optimizer = keras.optimizers.Adam(options.decision_rate)
        self.weight_optimizer.build(list(net.weights.values()))
        self.decision_optimizer.build(list(net.logits.values()))
        stored = [*net.variables(), *self.weight_optimizer.variables, *self.decision_optimizer.variables]
        self.checkpoint = Checkpoint(context.folder / STATE, stored)
        self._compiled: Any = None

    def run(self) -> dict[str, np.ndarray]:
        """Trains from where an interrupted run stopped; returns the probabilities of every decision's choices.

        Raises:
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        options, context = self.options, self.context
        epochs, warmup = (2, 1) if context.quicktest else (options.epochs, options.warmup_epochs)
        done = self.checkpoint.load()
        if 0 < done < epochs:
            context.log(f"goes on after epoch {done}/{epochs}")
        batch_size = context.config.config.data.batch_size
        steps = math.ceil(len(context.dataset.train) / batch_size)
        if done < epochs:
            data = context.batches("train", shuffle=True, augment=True, first_epoch=done, repeat=True)
            numbers = [tf.TensorSpec([], kind) for kind in (tf.int32, tf.float32, tf.float32)]
            self._compiled = tf.function(self._step, input_signature=[*data.element_spec, *numbers])
            batches = iter(data)
            schedule = FitOptions(epochs=epochs, learning_rate=options.learning_rate)
            for epoch in range(done, epochs):
                self._epoch(batches, epoch, epochs, steps, warmup, schedule)
        return self.net.probabilities()

    def _epoch(self, batches: Iterator[Any], epoch: int, epochs: int, steps: int, warmup: int, schedule: FitOptions) -> None:
        """One pass, a line, a checkpoint."""
        context, options = self.context, self.options
        share = epoch / max(1, epochs - 1)
        temperature = options.temperature * (options.last_temperature / options.temperature) ** share
        decide = float(epoch >= warmup)
        sums = np.zeros(3)
        for i in range(steps):
            x, y = next(batches)
            number = epoch * steps + i
            self.weight_optimizer.learning_rate.assign(learning_rate_at(number, epochs * steps, schedule))
            found = self._compiled(x, y, tf.constant(number, tf.int32), tf.constant(temperature, tf.float32), tf.constant(decide))
            sums += np.array([len(y), *(float(value) * len(y) for value in found)])
            context.progress(i + 1, steps)
        loss, accuracy = sums[1:] / sums[0]
        if not math.isfinite(loss):
            raise ModelError(
                f"search: the loss is {loss} in epoch {epoch + 1}; training diverged: "
                f"lower search.learning_rate (now {options.learning_rate})"
            )
        expected = self.costs(self.net.relaxed()).as_dict()
        sure = float(np.mean([p.max() for p in self.net.probabilities().values() if len(p) > 1] or [1.0]))
        shown = "  ".join(f"{name} {value:,}{_of(self.limits.get(name))}" for name, value in expected.items())
        context.log(f"epoch {epoch + 1}/{epochs}  loss {loss:.4f}  accuracy {accuracy:.4f}  likeliest {sure:.2f}  expected: {shown}")
        context.metrics(
            step=epoch, epoch=epoch + 1, loss=loss, accuracy=accuracy, temperature=temperature, likeliest=sure,
            **{f"expected_{name}": float(value) for name, value in expected.items()},
        )  # fmt: skip
        self.checkpoint.save(epoch + 1)

    def _step(self, x: Any, y: Any, number: Any, temperature: Any, decide: Any) -> tuple[Any, Any]:
        """Trains on one batch; returns its loss, without penalties, and accuracy.

        Args:
            decide: 1: decisions learn too; 0: they stay.
        """
        weights, logits = list(self.net.weights.values()), list(self.net.logits.values())
        with tf.GradientTape() as tape:
            gates = self.net.gates(number, temperature, self.options.gates == "straight_through")
            scores = self.net(x, gates, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, scores))
            total = loss + self.penalty()
        gradients = tape.gradient(total, [*weights, *logits], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.weight_optimizer.apply(gradients[: len(weights)], weights)
        self.decision_optimizer.apply([decide * g for g in gradients[len(weights) :]], logits)
        return loss, tf.reduce_mean(tf.cast(tf.equal(tf.argmax(scores, -1), y), tf.float32))

    def penalty(self) -> Any:
        """What costs above their limits add to the loss."""
        cost, weights = self.costs(self.net.relaxed()), self.options.penalty
        terms = [
            weight * tf.nn.relu(value / limit - 1.0)
            for value, weight, limit in (
                (cost.macs, weights.macs, self.limits.get("macs")),
                (cost.flash, weights.flash, self.limits.get("flash")),
                (cost.ram, weights.ram, self.limits.get("ram")),
            )
            if limit is not None
        ]
        return tf.add_n(terms) if terms else tf.constant(0.0)


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit:,.0f}"
