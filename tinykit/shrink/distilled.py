"""Training that follows a teacher: its logits (Hinton et al. 2015, arXiv:1503.02531), and what it looks at inside.

Imports Keras; import it late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import keras
from keras import ops

from tinykit.models.folding import without_norms
from tinykit.models.graphs import calls

if TYPE_CHECKING:
    from tinykit.shrink.answers import Answers

_LEAST = 1e-12

Transfer = Literal["attention", "hint"]


@dataclass(frozen=True)
class Lesson:
    """What the student is taught.

    Attributes:
        share: of the loss that compares outputs with the teacher's; the rest compares with the targets.
        temperature: that logits are divided by.
        transfer: how inner tensors are compared; None: they are not.
        transfer_weight: of that comparison, beside the other two.
        regression: outputs are values to be met, not scores of classes.
        mix: most share of another sample of the batch in each sample, 0 to 0.5.
    """

    share: float
    temperature: float
    transfer: Transfer | None = None
    transfer_weight: float = 0.0
    regression: bool = False
    mix: float = 0.0


def logits_of(outputs: Any, probabilities: bool) -> Any:
    """Outputs as logits; the logarithm of probabilities serves, as it differs from them by a constant a sample."""
    return ops.log(ops.maximum(outputs, _LEAST)) if probabilities else outputs


class Teacher:
    """One float model, or several whose logits are averaged (which multiplies their probabilities).

    Args:
        models: [(model, whether its outputs are probabilities)]; all give the same shape. What they are now is what is taught.
        inner: tensors of the first one that a student is compared with.
    """

    def __init__(self, models: Sequence[tuple[keras.Model, bool]], inner: Sequence[Any] = ()) -> None:
        first, probabilities = models[0]
        self._inner = keras.Model(first.inputs[0], [first.outputs[0], *inner]) if inner else None
        self._models = [(first if inner else without_norms(first), probabilities)]
        self._models += [(without_norms(model), p) for model, p in models[1:]]

    @property
    def networks(self) -> list[keras.Model]:
        """What is run for it."""
        return [model for model, _ in self._models]

    def __call__(self, x: Any) -> tuple[Any, list[Any]]:
        """(mean logits, or mean values where no model gives probabilities; the inner tensors) of a batch, as at inference."""
        first, inner = self._first(x)
        logits = [first, *(logits_of(model(x, training=False), p) for model, p in self._models[1:])]
        return sum(logits[1:], logits[0]) / len(logits), inner

    def logits(self, x: Any) -> Any:
        """Mean logits of a batch."""
        return self(x)[0]

    def _first(self, x: Any) -> tuple[Any, list[Any]]:
        model, probabilities = self._models[0]
        if self._inner is None:
            return logits_of(model(x, training=False), probabilities), []
        outputs, *inner = self._inner(x, training=False)
        return logits_of(outputs, probabilities), inner


def stage_ends(model: keras.Model) -> dict[tuple[int, ...], Any]:
    """Resolution -> the last tensor of that resolution, of tensors [..., channels] with one axis before the channels or more.

    Tensors that only reshape or repeat what was there before count too; the input does not.
    """
    found: dict[tuple[int, ...], Any] = {}
    for node in calls(model):
        tensor = node.outputs[0]
        shape = tuple(tensor.shape[1:])
        if len(shape) > 1 and None not in shape and max(shape[:-1]) > 1:
            found[shape[:-1]] = tensor
    return found


class Mixing(keras.layers.Layer):
    """Samples with a share of another one of their batch, drawn uniformly from 0 to `most` (Zhang et al. 2018, arXiv:1710.09412).

    A teacher that knows its training samples by heart says more about what lies between them, and no sample comes twice
    (Beyer et al. 2022, arXiv:2106.05237).
    """

    def __init__(self, most: float) -> None:
        super().__init__(name="mixing")
        self._most = most
        self.seed_generator = keras.random.SeedGenerator(0)  # set anew at each epoch: tinykit.steps.fitting.reseed
        self.built = True

    def call(self, x: Any) -> tuple[Any, Any, Any]:
        """(mixed samples, index of each one's other sample, share of it) of a batch [B, ...]."""
        count = ops.shape(x)[0]
        others = ops.argsort(keras.random.uniform((count,), seed=self.seed_generator))
        shares = keras.random.uniform((count,), 0.0, self._most, seed=self.seed_generator)
        wide = ops.reshape(shares, (-1, *(1 for _ in x.shape[1:])))
        return (1 - wide) * x + wide * ops.take(x, others, axis=0), others, shares


class _Held:
    """What one forward pass leaves for the loss; a plain object, so that Keras does not take tensors for state."""

    inner: list[Any]
    mixed: tuple[Any, Any] | None = None
    answers: Answers | None = None


class Distilled(keras.Model):
    """A student in training: gives the student's outputs, and has the student's weights and those of hints.

    The teacher is not part of it: neither trained nor saved.

    Args:
        student: whose weights are trained in place.
        probabilities: whether the student's outputs are probabilities.
        teacher: on the same inputs.
        lesson: what is compared.
        inner: pairs (tensor of the student, channels of the teacher's), in the order of the teacher's inner tensors.
        answers: where the teacher's logits are remembered; without inner tensors.
    """

    def __init__(
        self,
        student: keras.Model,
        probabilities: bool,
        teacher: Teacher,
        lesson: Lesson,
        inner: Sequence[tuple[Any, int]] = (),
        answers: Answers | None = None,
    ) -> None:
        super().__init__(name=f"{student.name}_taught")
        self.network = keras.Model(student.inputs[0], [student.outputs[0], *(tensor for tensor, _ in inner)])
        hints = lesson.transfer == "hint"
        self.hints = [
            keras.layers.Dense(channels, use_bias=False, kernel_initializer="zeros", name=f"hint_{i}")
            for i, (_, channels) in enumerate(inner)
            if hints
        ]
        for layer, (tensor, _) in zip(self.hints, inner):
            layer.build(tensor.shape)
        self._probabilities, self._teacher, self._lesson, self._held = probabilities, teacher, lesson, _Held()
        self._held.answers = answers
        self._mixing = Mixing(lesson.mix) if lesson.mix else None
        self.built = True

    @property
    def teacher(self) -> Teacher:
        """Who teaches."""
        return self._teacher

    def train_step(self, data: Any) -> Any:
        """One batch; its samples are mixed first where the lesson says so."""
        if self._mixing is not None:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
            x, *self._held.mixed = self._mixing(x)
            data = (x, x if self._lesson.regression else y, weight)
        return super().train_step(data)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The student's outputs."""
        outputs = self.network(x, training=training)
        outputs, *self._held.inner = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return outputs

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        """(1 - share) * loss against the targets + share * T^2 * KL(teacher / T, student / T) + weight * difference of inner tensors; while
        evaluating the first alone. The target of a mixed sample is that of both, by their shares."""
        lesson, mixed = self._lesson, self._held.mixed
        if training and mixed and not lesson.regression:
            others, shares = mixed
            hard = super().compute_loss(x, y, y_pred, 1 - shares) + super().compute_loss(x, ops.take(y, others, axis=0), y_pred, shares)
        else:
            hard = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if not training:
            return hard
        logits, inner = self._taught(x)
        loss = (1 - lesson.share) * hard + lesson.share * self._soft(ops.stop_gradient(logits), y_pred)
        for i, (own, theirs) in enumerate(zip(self._held.inner, inner)):
            loss = loss + lesson.transfer_weight * self._difference(i, own, ops.stop_gradient(theirs)) / len(inner)
        return loss

    def _taught(self, x: Any) -> tuple[Any, list[Any]]:
        if self._held.answers is None:
            return self._teacher(x)
        return self._held.answers(self.optimizer.iterations, x, self._teacher.logits), []

    def _soft(self, logits: Any, outputs: Any) -> Any:
        if self._lesson.regression:
            return ops.mean(ops.square(logits - outputs))
        t = self._lesson.temperature
        wanted = ops.log_softmax(logits / t)
        own = ops.log_softmax(logits_of(outputs, self._probabilities) / t)
        return t**2 * ops.mean(ops.sum(ops.exp(wanted) * (wanted - own), axis=-1))

    def _difference(self, index: int, own: Any, theirs: Any) -> Any:
        """attention: squared distance of the normalised maps of energy (Zagoruyko and Komodakis 2017, arXiv:1612.03928); hint: mean squared
        error behind a learned projection (Romero et al. 2015, arXiv:1412.6550), in units of the teacher's mean square: 1 at first."""
        if self._lesson.transfer == "hint":
            error = ops.mean(ops.square(self.hints[index](own) - theirs))
            return error / ops.maximum(ops.mean(ops.square(theirs)), _LEAST)
        return ops.mean(ops.sum(ops.square(_attention(own) - _attention(theirs)), axis=-1))


def _attention(values: Any) -> Any:
    """[B, ..., C] -> [B, positions]: the sum of squares over channels, of length 1."""
    energy = ops.sum(ops.square(values), axis=-1)
    energy = ops.reshape(energy, (-1, math.prod(energy.shape[1:])))
    return energy / ops.maximum(ops.sqrt(ops.sum(ops.square(energy), axis=-1, keepdims=True)), _LEAST)
