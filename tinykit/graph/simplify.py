"""The exact simplifier: a smaller graph whose every output byte is the same for every input.

Trained networks hold channels that can only take one value, because their weights are all zero or because a clamp saturates, and channels
that nobody reads. Both cost multiplications, weights and memory for nothing. Constant channels are folded into the biases of their readers,
unread channels are removed, ops that change no byte vanish. What stays, inner tensors included, keeps its values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinykit.graph import costs, ir
from tinykit.graph.passes.demand import needed_channels
from tinykit.graph.passes.noops import remove_noops
from tinykit.graph.passes.ranges import value_ranges
from tinykit.graph.passes.slicing import clear_constant_rows, keep_channels


@dataclass(frozen=True)
class Removed:
    """What the simplifier took away.

    Attributes:
        ops: names of the ops that vanished, in order.
        channels: channels removed, by tensor; all of them where the tensor vanished. Tensors that lost none are absent.
        macs: multiply-accumulates, (before, after).
        weight_bytes: packed weights without biases, (before, after).
        total_channels: channels of all activations, (before, after).
    """

    ops: tuple[str, ...]
    channels: dict[str, int]
    macs: tuple[int, int]
    weight_bytes: tuple[int, int]
    total_channels: tuple[int, int]

    def __str__(self) -> str:
        if not self.ops and not self.channels:
            return "nothing to simplify"
        return (
            f"{self.macs[0]:,} -> {self.macs[1]:,} MACs, {self.weight_bytes[0]:,} -> {self.weight_bytes[1]:,} bytes of weights, "
            f"{self.total_channels[0]:,} -> {self.total_channels[1]:,} channels, {len(self.ops)} ops removed"
        )


@dataclass(frozen=True)
class SimplifyResult:
    """A simplified graph and how it maps to the original.

    Attributes:
        graph: the simplified graph; names of tensors and ops are those of the original.
        kept: for each activation that still exists, the indices of its channels (last axis) in the original tensor of that name:
            `simplified[t] == original[t][..., kept[t]]`. A tensor that vanished is absent.
        removed: a summary.
    """

    graph: ir.Graph
    kept: dict[str, np.ndarray]
    removed: Removed


def simplify(graph: ir.Graph) -> SimplifyResult:
    """Applies every pass until nothing changes. Exact for every input within the input tensors' stored ranges; `graph` is not changed.

    Raises:
        ModelError: `graph` is not well formed.
    """
    graph.validate()
    current = graph.copy()
    kept = {t.name: np.arange(t.channels) for t in graph.activations()}
    changed = True
    while changed:
        ranges = value_ranges(current)
        changed = remove_noops(current, ranges)
        changed = clear_constant_rows(current, ranges) > 0 or changed
        masks = needed_channels(current, ranges)
        if not all(mask.all() for mask in masks.values()):
            current, changed = keep_channels(current, masks, ranges), True
            kept = {name: channels[masks[name]] for name, channels in kept.items() if name in masks}
    kept = {t.name: kept[t.name] for t in current.activations()}
    current.validate()
    return SimplifyResult(current, kept, _summary(graph, current, kept))


def _summary(before: ir.Graph, after: ir.Graph, kept: dict[str, np.ndarray]) -> Removed:
    left = {op.name for op in after.ops}
    channels = {t.name: t.channels - len(kept.get(t.name, ())) for t in before.activations()}
    return Removed(
        ops=tuple(op.name for op in before.ops if op.name not in left),
        channels={name: count for name, count in channels.items() if count},
        macs=(costs.total_macs(before), costs.total_macs(after)),
        weight_bytes=(_weight_bytes(before), _weight_bytes(after)),
        total_channels=(sum(t.channels for t in before.activations()), sum(t.channels for t in after.activations())),
    )


def _weight_bytes(graph: ir.Graph) -> int:
    return sum(costs.op_weight_bytes(op).weights for op in graph.ops)
