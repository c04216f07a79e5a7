"""Differentiable search: a supernet's weights and decisions are trained together, on the task's loss and on what they cost.

Hinge penalties on multiply-accumulates, flash and RAM. Source: MicroNets, arXiv:2010.11267, section 3.3. The limits tighten over the
epochs: were they all there at once, the first penalties would throw costs far below them before the task has a say. Imports TensorFlow;
import late.
"""

from __future__ import annotations

import math
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

_MOMENTUM = 0.5
"""Of the decisions: with more they go on long after a penalty has ended."""
KINDS = ("macs", "flash", "ram")
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
        self.even = self.costs({d.name: tf.fill([len(d.values)], 1.0 / len(d.values)) for d in net.space.decisions}).as_dict()
        self.decision_optimizer = keras.optimizers.Adam(options.decision_rate, beta_1=_MOMENTUM)
        self.warmup = 1 if context.quicktest else options.warmup_epochs
        super().__init__(net, options, context, [(self.decision_optimizer, net.logits.values())])
        self._compiled: Any = None

    def compile(self, spec: Sequence[tf.TensorSpec]) -> None:
        numbers = [
            tf.TensorSpec(shape, kind) for shape, kind in (((), tf.int32), ((), tf.float32), ((), tf.float32), ((len(KINDS),), tf.float32))
        ]
        self._compiled = tf.function(self._step, input_signature=[*spec, *numbers])

    def step(self, x: tf.Tensor, y: tf.Tensor, number: int, epoch: int) -> tuple[Any, Any]:
        floats = self._temperature(epoch), float(epoch >= self.warmup), [self.limit(kind, epoch) for kind in KINDS]
        return self._compiled(x, y, tf.constant(number, tf.int32), *(tf.constant(each, tf.float32) for each in floats))

    def limit(self, kind: str, epoch: int) -> float:
        """What an epoch allows: from what the undecided network costs down to the search's limit, by the same factor each epoch with
        decisions, until `tightening` of them are over. Infinite where there is no limit."""
        last = self.limits.get(kind)
        if last is None:
            return math.inf
        passes = self.options.tightening * (self.epochs - self.warmup)
        left = min(1.0, max(0.0, 1.0 - (epoch + 1 - self.warmup) / passes)) if passes else 0.0
        return float(last * max(1.0, self.even[kind] / last) ** left)

    def _temperature(self, epoch: int) -> float:
        share = epoch / max(1, self.epochs - 1)
        return self.options.temperature * (self.options.last_temperature / self.options.temperature) ** share

    def state(self, epoch: int) -> tuple[str, dict[str, float]]:
        expected = self.costs(self.net.relaxed()).as_dict()
        sure = float(np.mean([p.max() for p in self.net.probabilities().values() if len(p) > 1] or [1.0]))
        shown = "  ".join(f"{name} {value:,}{_of(self.limits.get(name))}" for name, value in expected.items())
        values = {f"expected_{name}": float(value) for name, value in expected.items()}
        return f"  likeliest {sure:.2f}  expected: {shown}", {"temperature": self._temperature(epoch), "likeliest": sure, **values}

    def _step(self, x: Any, y: Any, number: Any, temperature: Any, decide: Any, limits: Any) -> tuple[Any, Any]:
        """Trains on one batch; returns its loss, without penalties, and accuracy.

        Args:
            decide: 1: decisions learn too; 0: they stay.
            limits: [3], of `KINDS`.
        """
        weights, logits = list(self.net.weights.values()), list(self.net.logits.values())
        with tf.GradientTape() as tape:
            gates = self.net.gates(number, temperature, self.options.gates == "straight_through")
            scores = self.net(x, gates, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, scores))
            total = loss + self.penalty(limits)
        gradients = tape.gradient(total, [*weights, *logits], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.weight_optimizer.apply(gradients[: len(weights)], weights)
        self.decision_optimizer.apply([decide * g for g in gradients[len(weights) :]], logits)
        return loss, tf.reduce_mean(tf.cast(tf.equal(tf.argmax(scores, -1), y), tf.float32))

    def penalty(self, limits: Any) -> Any:
        """What costs above their limits, [3] of `KINDS`, add to the loss."""
        cost, weights = self.costs(self.net.relaxed()), self.options.penalty
        terms = [
            getattr(weights, kind) * tf.nn.relu(getattr(cost, kind) / limits[i] - 1.0)
            for i, kind in enumerate(KINDS)
            if self.limits.get(kind) is not None
        ]
        return tf.add_n(terms) if terms else tf.constant(0.0)


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit:,.0f}"
