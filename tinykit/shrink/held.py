"""What training must not undo: zeros stay zeros, and weights that share a value go on sharing one.

Both are linear constraints. After every batch the weights are moved to the nearest ones that keep them: zeros become zeros again, and the
members of a cluster their mean, which is a step along the mean of their gradients. What is held is read off the weights themselves, at
the beginning of every epoch, so that a training that is resumed holds what an uninterrupted one holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.quant.kept import shares_values
from tinykit.shrink.kernels import Kernel, kernels

if TYPE_CHECKING:
    import keras


@dataclass
class _Hold:
    """What is held of one kernel.

    Attributes:
        alive: mask of the kernel's shape; None where nothing is zero.
        members: number of the cluster of each weight, of the kernel's shape; None where weights share no values.
        sizes: members of each cluster.
    """

    alive: np.ndarray | None = None
    members: np.ndarray | None = None
    sizes: np.ndarray | None = None

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The nearest weights that keep what is held."""
        if self.members is not None and self.sizes is not None:
            sums = np.bincount(self.members.ravel(), values.ravel().astype(np.float64), minlength=len(self.sizes))
            values = (sums / self.sizes).astype(np.float32)[self.members]
        return values if self.alive is None else values * self.alive


class Held:
    """Holds zeros and clusters of a float model.

    Args:
        zeros: weights that are 0 stay 0.
        clusters: kernels with at most so many values, in the tensor or in every channel, keep weights equal that are; None: no kernel.
        gains: the scales (gamma) of batch norms that must not become negative: see `tinykit.shrink.clusters`.
    """

    def __init__(self, model: keras.Model, zeros: bool, clusters: int | None = None, gains: Sequence[Any] = ()) -> None:
        self._kernels, self._zeros, self._clusters, self._gains = kernels(model), zeros, clusters, list(gains)
        self._holds: list[tuple[Kernel, _Hold]] = []

    def read(self) -> None:
        """What is held from now on is what the weights have now."""
        found = [(kernel, self._of(kernel)) for kernel in self._kernels]
        self._holds = [(kernel, hold) for kernel, hold in found if hold.alive is not None or hold.members is not None]

    def _of(self, kernel: Kernel) -> _Hold:
        values = kernel.values()
        hold = _Hold()
        if self._zeros and not values.all():
            hold.alive = (values != 0).astype(np.float32)
        table = shares_values(kernel.columns(values), self._clusters) if self._clusters is not None else None
        if table is not None:
            hold.members, hold.sizes = _members(kernel, values, table)
        return hold

    def restore(self) -> None:
        """Moves the weights to the nearest ones that keep what is held."""
        for kernel, hold in self._holds:
            kernel.variable.assign(hold.nearest(kernel.values()))
        for gamma in self._gains:
            gamma.assign(np.maximum(np.asarray(gamma), 0.0))

    def callback(self) -> keras.callbacks.Callback:
        """Holds them while Keras trains."""
        return _callback(self.read, self.restore)


def _members(kernel: Kernel, values: np.ndarray, table: str) -> tuple[np.ndarray, np.ndarray]:
    """(cluster of each weight, of the kernel's shape; members of each cluster): equal values of the tensor, or of a channel."""
    if table == "tensor":
        _, members, sizes = np.unique(values, return_inverse=True, return_counts=True)
        return members.reshape(values.shape), sizes
    columns = kernel.columns(values)
    numbered = np.empty(columns.shape, np.int64)
    count = 0
    for channel in range(columns.shape[1]):
        own, numbers = np.unique(columns[:, channel], return_inverse=True)
        numbered[:, channel] = count + numbers
        count += len(own)
    return numbered.reshape(values.shape), np.bincount(numbered.ravel(), minlength=count)


def _callback(begin: Callable[[], None], after_batch: Callable[[], None]) -> keras.callbacks.Callback:
    import keras

    class Holding(keras.callbacks.Callback):
        """See `Held`."""

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Reads what is held."""
            begin()

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            """Restores it."""
            after_batch()

    return Holding()
