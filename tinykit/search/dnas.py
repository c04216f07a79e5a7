"""Differentiable search: a supernet's weights and decisions are trained together, on the task's loss and on what they cost.

Hinge penalties on multiply-accumulates, flash and RAM. Source: MicroNets, arXiv:2010.11267, section 3.3. Imports TensorFlow; import late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tinykit.config.search import SearchConfig
from tinykit.recipe.step import StepContext
from tinykit.search.costs import CostModel
from tinykit.search.supernet import TENSORS, Supernet
from tinykit.search.training import SupernetTraining

Limits = Mapping[str, float | None]
"""macs, flash, ram: the most that the search may count; None: no limit."""


class Dnas(SupernetTraining):
    """One search.

    Args:
        net: the supernet, trained in place.
        limits: of what the search counts.
        context: data, seed, folder, logging; the batch size is the configuration's.
    """

    def __init__(self, net: Supernet, options: SearchConfig, limits: Limits, context: StepContext) -> None:
        self.limits = limits
        self.costs = CostModel(net.space, options.weight_bits, TENSORS)
        self.decision_optimizer = keras.optimizers.Adam(options.decision_rate)
        self.warmup = 1 if context.quicktest else options.warmup_epochs
        super().__init__(net, options, context, [(self.decision_optimizer, net.logits.values())])
        self._compiled: Any = None

    def compile(self, spec: Sequence[tf.TensorSpec]) -> None:
        numbers = [tf.TensorSpec([], kind) for kind in (tf.int32, tf.float32, tf.float32)]
        self._compiled = tf.function(self._step, input_signature=[*spec, *numbers])

    def step(self, x: tf.Tensor, y: tf.Tensor, number: int, epoch: int) -> tuple[Any, Any]:
        decide = float(epoch >= self.warmup)
        return self._compiled(x, y, tf.constant(number, tf.int32), tf.constant(self._temperature(epoch), tf.float32), tf.constant(decide))

    def _temperature(self, epoch: int) -> float:
        share = epoch / max(1, self.epochs - 1)
        return self.options.temperature * (self.options.last_temperature / self.options.temperature) ** share

    def state(self, epoch: int) -> tuple[str, dict[str, float]]:
        expected = self.costs(self.net.relaxed()).as_dict()
        sure = float(np.mean([p.max() for p in self.net.probabilities().values() if len(p) > 1] or [1.0]))
        shown = "  ".join(f"{name} {value:,}{_of(self.limits.get(name))}" for name, value in expected.items())
        values = {f"expected_{name}": float(value) for name, value in expected.items()}
        return f"  likeliest {sure:.2f}  expected: {shown}", {"temperature": self._temperature(epoch), "likeliest": sure, **values}

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
