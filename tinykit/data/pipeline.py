"""tf.data pipelines: shuffling, augmentation of the raw samples, preprocessing. One seed gives one sequence of batches."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinykit.data.augment import AUGMENTATIONS, SEEDS_PER_BATCH, parse_augmentations
from tinykit.data.dataset import Dataset, Split
from tinykit.data.preprocess import Chain
from tinykit.errors import ConfigError, DataError, TinykitError, collected

__all__ = ["AUGMENTATIONS", "batches", "check_samples", "parse_augmentations"]

_AT_ONCE = 2
"""Batches that are prepared at a time; one takes a small part of a training step."""
_AHEAD = 4
"""Batches that lie ready."""


def check_samples(dataset: Dataset, chain: Chain, augment: Sequence[Any], rebuilt: bool = False) -> None:
    """Whether the samples can be preprocessed, changed and told apart: what a training would otherwise find out late, or not at all.

    Args:
        rebuilt: the network learns to give back its input, for which one class is enough.

    Raises:
        DataError: with every problem; needs no TensorFlow.
    """
    problems: list[str] = []
    with collected(DataError, problems, "data."):
        if not np.isfinite(chain.apply(dataset.train.x[:1])).all():
            problems.append("data.preprocess: gives NaN or infinite values; choose other constants")
    for number, change in enumerate(parse_augmentations(augment)):
        with collected(TinykitError, problems, f"data.augment[{number}] "):
            change.check(dataset.input_shape, dataset.train.x.dtype.name)
    found = np.unique(dataset.train.y)
    if dataset.task == "classification" and not rebuilt and len(found) < 2:
        only = f", {dataset.class_names[int(found[0])]!r}," if len(found) else ""
        problems.append(
            f"dataset {dataset.name}, {dataset.source}: one class only{only} to train on; expected samples of two or more "
            "(an autoencoder wants steps.train.loss=mse)"
        )
    if problems:
        raise DataError(problems)


def batches(
    split: Split,
    chain: Chain,
    *,
    batch_size: int,
    shuffle_seed: int | None = None,
    augment: Sequence[Any] = (),
    drop_remainder: bool = False,
    repeat: bool = False,
    first_epoch: int = 0,
    cycle: int | None = None,
) -> Any:
    """A tf.data.Dataset of (float32 [batch, ...], int64 [batch]) pairs.

    Order and augmentation are functions of (seed, epoch, batch) only, by TensorFlow's stateless generators (Philox), so a run
    that goes on at epoch k with `first_epoch=k` sees what an uninterrupted one would have seen. Each iterator over the result
    (with `repeat`, each pass) is one epoch further.

    Args:
        split: raw samples.
        chain: preprocessing, applied after augmentation.
        batch_size: samples a batch, at least 1.
        shuffle_seed: shuffles each epoch differently; None keeps the order of the split.
        augment: declared augmentations of the raw samples; without `shuffle_seed` their seed is 0.
        drop_remainder: leave out an incomplete last batch.
        repeat: never end.
        first_epoch: number of the first epoch.
        cycle: after so many epochs, at least 1, the same batches come again; None: never.

    Raises:
        ConfigError: wrong augmentations, batch size or cycle.
        DataError: chain or augmentations do not apply to these samples, or there are too few.
    """
    import tensorflow as tf

    if batch_size < 1:
        raise ConfigError(f"batch_size: expected 1 or more, received {batch_size}")
    if cycle is not None and cycle < 1:
        raise ConfigError(f"cycle: expected 1 or more, received {cycle}")
    changes = parse_augmentations(augment)
    shape = tuple(split.x.shape[1:])
    for change in changes:
        change.check(shape, split.x.dtype.name)
    chain.output_shape(shape)
    count = len(split)
    steps = count // batch_size if drop_remainder else math.ceil(count / batch_size)
    if steps == 0:
        raise DataError(f"{count} samples are too few for one batch of {batch_size}")
    samples, labels = tf.constant(split.x), tf.constant(split.y, tf.int64)
    low_seed, high_seed = _halves(shuffle_seed or 0)

    def prepare(epoch: Any, step: Any, index: Any) -> tuple[Any, Any]:
        x = tf.gather(samples, index)
        for number, change in enumerate(changes):
            base = tf.random.experimental.stateless_fold_in(tf.stack([low_seed, high_seed]), epoch, alg="philox")
            seed = tf.random.experimental.stateless_fold_in(base, step * SEEDS_PER_BATCH + number + 1, alg="philox")
            x = change.tf(x, tf.cast(seed, tf.int32))
        x.set_shape([None, *shape])
        return chain.tf(x), tf.gather(labels, index)

    def one_epoch(epoch: Any) -> Any:
        order = tf.range(count, dtype=tf.int64)
        if shuffle_seed is not None:
            seed = tf.random.experimental.stateless_fold_in(tf.stack([low_seed, high_seed]), epoch, alg="philox")
            keys = tf.random.stateless_uniform([count], seed, minval=None, maxval=None, dtype=tf.int64, alg="philox")
            order = tf.argsort(keys, stable=True, direction="ASCENDING")
        indices = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=drop_remainder)
        return indices.enumerate().map(lambda step, index: (epoch, step, index))

    counter = tf.Variable(first_epoch - 1, dtype=tf.int64, trainable=False)
    epochs = tf.data.Dataset.from_tensors(0).map(lambda _: counter.assign_add(1))
    if cycle is not None:
        epochs = epochs.map(lambda epoch: epoch % cycle)
    result = epochs.flat_map(one_epoch)
    result = result.map(prepare, num_parallel_calls=_AT_ONCE, deterministic=True)
    result = result.apply(tf.data.experimental.assert_cardinality(steps))
    if repeat:
        result = result.repeat()
    # Its tuner sleeps twice as long each time, up to a minute, and who is done with an iterator waits until it wakes.
    options = tf.data.Options()
    options.autotune.enabled = False
    return result.prefetch(_AHEAD).with_options(options)


def _halves(seed: int) -> tuple[int, int]:
    """A seed of any size as two non-negative int32."""
    return seed & 0x7FFFFFFF, (seed >> 31) & 0x7FFFFFFF
