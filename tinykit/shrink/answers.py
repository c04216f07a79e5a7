"""A teacher's answers to batches that come again (after Shen and Xing 2022, arXiv:2112.01528): looked up and not computed again.

Imports TensorFlow; import it late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

MOST_BYTES = 2**30
"""That answers may take in memory."""


def answer_bytes(batches: int, batch_size: int, shape: Sequence[int]) -> int:
    """Of memory for float32 answers of this shape a sample."""
    return 4 * batches * batch_size * math.prod(shape)


class Answers:
    """Answers to the batches of a training whose batches come again in the same order.

    Nothing of it is saved with a network: after an interruption the first answers are computed anew, to the same bits.

    Args:
        batches: how many there are until the first one comes again.
        batch_size: samples in a batch, at most.
        shape: of an answer to one sample, float32.
    """

    def __init__(self, batches: int, batch_size: int, shape: Sequence[int]) -> None:
        self._count = batches
        self._values = tf.Variable(tf.zeros((batches, batch_size, *shape)), trainable=False)
        self._known = tf.Variable(tf.zeros((batches,), tf.bool), trainable=False)

    def __call__(self, number: Any, x: Any, ask: Callable[[Any], Any]) -> Any:
        """Answers to a batch; not differentiable.

        Args:
            number: of the batch since the training began.
            x: [B, ...], the batch.
            ask: gives [B, *shape], where the answers are not known yet.
        """
        place, size = tf.cast(tf.cast(number, tf.int64) % self._count, tf.int32), tf.shape(x)[0]

        def learned() -> Any:
            answers = ask(x)
            missing = [[0, self._values.shape[1] - size], *([0, 0] for _ in self._values.shape[2:])]
            self._values.scatter_update(tf.IndexedSlices(tf.pad(answers, missing)[None], place[None]))
            self._known.scatter_update(tf.IndexedSlices([True], place[None]))
            return answers

        # Read by `sparse_read`: indexing would copy the whole variable each time.
        known = self._known.sparse_read(place)
        answers = tf.cond(known, lambda: self._values.sparse_read(place)[:size], learned)
        return tf.stop_gradient(answers)
