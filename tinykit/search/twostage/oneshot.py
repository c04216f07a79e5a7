"""One set of weights for every architecture of a space: its training, and the accuracy of an architecture that inherits them.

Each batch trains the largest architecture on the labels and the smallest and two random ones on the largest one's outputs (the sandwich
rule, in-place distillation). Sources: universally slimmable networks, arXiv:1903.05134; once-for-all, arXiv:1908.09791. Imports TensorFlow;
import late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tinykit import atomic
from tinykit.config.search import SearchConfig
from tinykit.recipe.step import StepContext
from tinykit.search.candidates import narrowest, widest
from tinykit.search.costs import CostModel
from tinykit.search.predict import with_dropout
from tinykit.search.space import Architecture
from tinykit.search.supernet import Supernet, inherit
from tinykit.search.training import SupernetTraining
from tinykit.search.winner import model_file

_RANDOM = 2
"""Random architectures a batch."""
_EVALUATED = 256
"""Samples of val at once."""
Vectors = Mapping[str, tf.Tensor]


def vectors(net: Supernet, indices: Mapping[str, int]) -> dict[str, tf.Tensor]:
    """The index vectors of one architecture, float32."""
    return {name: tf.constant(vector, tf.float32) for name, vector in net.space.one_hot(indices).items()}


class OneShot(SupernetTraining):
    """The training of the shared weights."""

    def __init__(self, net: Supernet, options: SearchConfig, context: StepContext) -> None:
        super().__init__(net, options, context)
        costs = CostModel(net.space, options.weight_bits)
        self._ends = [vectors(net, end(costs, "macs")) for end in (widest, narrowest)]
        self._compiled: Any = None

    def compile(self, spec: Sequence[tf.TensorSpec]) -> None:
        one = {d.name: tf.TensorSpec([len(d.values)], tf.float32) for d in self.net.space.decisions}
        self._compiled = tf.function(self._step, input_signature=[*spec, [one] * (len(self._ends) + _RANDOM)])

    def step(self, x: tf.Tensor, y: tf.Tensor, number: int, epoch: int) -> tuple[Any, Any]:
        rng = np.random.default_rng([self.context.seed, 4, number])
        return self._compiled(x, y, [*self._ends, *(vectors(self.net, self.net.space.drawn(rng)) for _ in range(_RANDOM))])

    def _step(self, x: tf.Tensor, y: tf.Tensor, architectures: list[Vectors]) -> tuple[Any, Any]:
        """One batch; loss and accuracy of the first architecture, which learns from the labels."""
        weights = list(self.net.weights.values())
        target = tf.one_hot(y, self.net.space.classes)
        gradients = [tf.zeros_like(weight) for weight in weights]
        first: tuple[Any, Any] | None = None
        for architecture in architectures:
            with tf.GradientTape() as tape:
                scores = self.net(x, architecture, training=True)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, scores))
            own = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            gradients = [a + b for a, b in zip(gradients, own, strict=True)]
            if first is None:
                first = loss, tf.reduce_mean(tf.cast(tf.equal(tf.argmax(scores, -1), y), tf.float32))
                target = tf.stop_gradient(tf.nn.softmax(scores))
        self.weight_optimizer.apply(gradients, weights)
        if first is None:
            raise AssertionError("no architecture")
        return first


class Inherited:
    """The accuracy of architectures with the supernet's weights, and with batch statistics of their own."""

    def __init__(self, net: Supernet, options: SearchConfig, context: StepContext) -> None:
        self.net, self.options, self.context = net, options, context
        count = 2 if context.quicktest else options.two_stage.recalibration
        self._batches = [x for x, _ in context.batches("train", shuffle=True).take(count)]
        split = context.dataset.val if len(context.dataset.val) else context.dataset.train
        self._split = split
        sample = tf.TensorSpec([None, *net.space.input_shape], tf.float32)
        one = {d.name: tf.TensorSpec([len(d.values)], tf.float32) for d in net.space.decisions}
        self._follow = tf.function(self._followed, input_signature=[sample, one, tf.TensorSpec([], tf.float32)])
        self._scores = tf.function(lambda x, architecture: net(x, architecture, training=False), input_signature=[sample, one])

    def _followed(self, x: tf.Tensor, architecture: Vectors, momentum: tf.Tensor) -> tf.Tensor:
        return self.net(x, architecture, training=True, momentum=momentum)

    def accuracy(self, architecture: Architecture) -> float:
        """Top-1 on val, 0 to 1; on train where there is no val."""
        from tinykit.recipe.score import top1

        one = self._recalibrated(architecture)
        chain, x = self.context.chain, self._split.x
        parts = [chain.apply(x[i : i + _EVALUATED]) for i in range(0, len(x), _EVALUATED)]
        return top1(np.concatenate([self._scores(tf.constant(part), one).numpy() for part in parts]), self._split.y)

    def keep(self, architecture: Architecture) -> Path:
        """Writes the architecture's network as a model file."""
        from tinykit.models.registry import build_model
        from tinykit.recipe.kerasfile import save_model

        self._recalibrated(architecture)
        options = with_dropout(architecture.options(), self.options.dropout)
        model = build_model("staged", self.net.space.input_shape, self.net.space.classes, options)
        inherit(model, self.net)
        file = model_file(self.context.folder, architecture.key)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file) as temporary:
            save_model(model, temporary)
        return file

    def _recalibrated(self, architecture: Architecture) -> Vectors:
        """Gives the supernet the architecture's statistics, the means over some batches; returns its index vectors."""
        one = vectors(self.net, self.net.space.indices(architecture))
        for count, x in enumerate(self._batches):
            self._follow(x, one, tf.constant(count / (count + 1), tf.float32))
        return one
