"""Makes a float network sparse by degrees: which weights take part, how many go, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tinykit.shrink.kernels import Kernel
from tinykit.shrink.patterns import Pattern, from_blocks, lamp, scores, zeros_of
from tinykit.shrink.tfmot import Masks, two_of_four

if TYPE_CHECKING:
    import keras

Scope = Literal["layer", "network"]

MOST = 0.99


@dataclass(frozen=True)
class Plan:
    """How sparse which layers become.

    Attributes:
        kernels: the layers that take part.
        shares: layer -> share of its weights that become zero; with scope 'network' only of layers whose share is given by hand.
        common: share of the weights of all other layers together.
        pattern, block, scope: see `tinykit.steps.sparsify`.
    """

    kernels: tuple[Kernel, ...]
    shares: Mapping[str, float]
    common: float
    pattern: Pattern
    block: int
    scope: Scope

    def groups(self) -> list[tuple[list[Kernel], float]]:
        """Layers that are compared with each other, and the share of their weights that becomes zero."""
        free = [kernel for kernel in self.kernels if kernel.name not in self.shares]
        by_hand = [([kernel], self.shares[kernel.name]) for kernel in self.kernels if kernel.name in self.shares]
        if self.scope == "network" and free:
            return [*by_hand, (free, self.common)]
        return [*by_hand, *(([kernel], self.common) for kernel in free)]


def chosen(found: Sequence[Kernel], by_hand: Mapping[str, float]) -> tuple[list[Kernel], dict[str, float]]:
    """(layers that take part, shares by hand of those that have one). The first and the last layer and depthwise ones stay as they are,
    unless a pattern of names says otherwise; of several patterns that fit the last one counts."""
    shares = {kernel.name: share for kernel in found for pattern, share in by_hand.items() if fnmatchcase(kernel.name, pattern)}
    part = [kernel for kernel in found if (shares[kernel.name] > 0 if kernel.name in shares else kernel in usual(found))]
    return part, {name: share for name, share in shares.items() if share > 0}


def usual(found: Sequence[Kernel]) -> list[Kernel]:
    """Layers that take part where nothing else is said: depthwise ones have few weights, and what is lost in the first and in the last
    layer no other makes up for, where there are others."""
    inner = found[1:-1] if len(found) > 2 else found
    return [kernel for kernel in inner if not kernel.depthwise]


def common_share(found: Sequence[Kernel], part: Sequence[Kernel], shares: Mapping[str, float], sparsity: float) -> float:
    """The share of the layers without one by hand, so that `sparsity` of all weights of the network are zero; may be more than 1."""
    wanted = sparsity * sum(kernel.size for kernel in found) - sum(
        shares[kernel.name] * kernel.size for kernel in part if kernel.name in shares
    )
    free = sum(kernel.size for kernel in part if kernel.name not in shares)
    return max(wanted, 0.0) / free if free else 0.0


class Sparsifier:
    """Zeroes weights of a model, in place, at the updates of a schedule.

    Args:
        updates: how many there are; after the last one the shares of the plan are reached.
    """

    def __init__(self, plan: Plan, updates: int) -> None:
        self.plan, self.updates = plan, updates
        self._groups = [(group, Masks(share, updates)) for group, share in plan.groups() if plan.pattern != "2of4"]

    def update(self, number: int) -> float:
        """Makes update `number`, 1 to `updates`; returns the share of zeros in the layers that take part."""
        if self.plan.pattern == "2of4":
            for kernel in self.plan.kernels:
                kernel.variable.assign(kernel.values() * kernel.from_runs(two_of_four(kernel.runs(kernel.values()))))
        for group, masks in self._groups:
            self._zero(group, masks, number)
        return sparsity(self.plan.kernels)

    def _zero(self, group: Sequence[Kernel], masks: Masks, number: int) -> None:
        plan = self.plan
        found = [scores(kernel, plan.pattern, plan.block) for kernel in group]
        compared = [lamp(each) for each in found] if len(group) > 1 else found
        mask = masks.largest(np.concatenate([each.ravel() for each in compared]), number)
        parts = np.split(mask, np.cumsum([each.size for each in found])[:-1])
        for kernel, own, part in zip(group, found, parts, strict=True):
            alive = part.reshape(own.shape)
            alive = from_blocks(kernel, alive, plan.block) if plan.pattern == "blocks" else alive
            kernel.variable.assign(kernel.values() * alive.astype(np.float32))

    def broken(self) -> list[str]:
        """What the weights do not have that the plan says, once all updates are made."""
        plan = self.plan
        problems = []
        for group, share in plan.groups():
            size = sum(kernel.size for kernel in group)
            zeros = sum(zeros_of(kernel, kernel.values(), plan.pattern, plan.block) for kernel in group)
            if zeros < share * size - sum(_slack(kernel, plan) for kernel in group):
                names = ", ".join(kernel.name for kernel in group)
                problems.append(f"{names}: {zeros:,} of {size:,} weights are 0 by pattern {plan.pattern}, not {share:.4f} of them")
        return problems


def _slack(kernel: Kernel, plan: Plan) -> int:
    """How many weights may be missing: what rounding to a weight or a block leaves, and the blocks at the end of a row that are shorter."""
    if plan.pattern != "blocks":
        return 1
    short = kernel.inputs % plan.block
    return plan.block + (kernel.size // kernel.inputs * (plan.block - short) if short else 0)


def sparsity(found: Sequence[Kernel]) -> float:
    """Share of zeros among the weights of layers."""
    total = sum(kernel.size for kernel in found)
    return sum(int((kernel.values() == 0).sum()) for kernel in found) / total if total else 0.0


def schedule(
    sparsifier: Sparsifier, every: int, steps: int, refresh: Callable[[], None], log: Callable[[str], None]
) -> keras.callbacks.Callback:
    """A Keras callback that makes an update after every so many batches.

    Args:
        every: batches between updates.
        steps: batches of an epoch.
        refresh: called after every update.
    """
    import keras

    class Schedule(keras.callbacks.Callback):
        """See `schedule`."""

        def __init__(self) -> None:
            super().__init__()
            self._done = 0
            self._reached = 0.0

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Counts batches from the beginning of the training, also where it is resumed."""
            self._done = epoch * steps

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            """Makes an update when one is due."""
            self._done += 1
            number = self._done // every
            if self._done % every == 0 and number <= sparsifier.updates:
                self._reached = sparsifier.update(number)
                refresh()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Says what was reached."""
            log(f"sparsity {sparsity(sparsifier.plan.kernels):.4f} of the layers that take part")

    return Schedule()
