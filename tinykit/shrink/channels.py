"""Which channels of a network belong together: what disappears everywhere when one of them does.

Every element of a tensor's last axis carries the number of a *channel*. A layer with weights gives new numbers to what it writes; all
other layers hand on what they read, and an operation that needs two tensors to agree (a sum, a squeeze-excite gate) makes two numbers one.
So a channel is a set of places in tensors and weights that can only go together (the dependency groups of Fang et al. 2023,
arXiv:2301.12900, found element by element).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.models.graphs import calls, functional, is_model
from tinykit.shrink.rules import RULES, Refused, Use, across_channels, check_layer

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Group:
    """Channels that the same layers make: what rounding and budgets a layer speak of.

    Attributes:
        layers: that write these channels, in the order of execution; empty for the network's input.
        channels: their numbers, rising.
        kept: why all of them stay; empty where they may go.
    """

    layers: tuple[str, ...]
    channels: np.ndarray
    kept: str

    @property
    def name(self) -> str:
        """For messages."""
        return " + ".join(self.layers)


@dataclass
class ChannelMap:
    """The channels of a network.

    Attributes:
        model: a functional Keras model.
        count: of channels; they are numbered from 0.
        uses: layer -> which channels its weights read and write, by name.
        outputs: layer -> the channels of the last axis of what it returns (of its first call).
        positions: layer -> elements of one channel that it writes for one sample, all its calls together.
        groups: of all channels, in the order of execution.
        tensors: see `channels`, by identity.
    """

    model: keras.Model
    count: int
    uses: dict[str, Use]
    outputs: dict[str, np.ndarray]
    positions: dict[str, int]
    groups: tuple[Group, ...]
    tensors: dict[int, np.ndarray]

    def channels(self, tensor: Any) -> np.ndarray:
        """The channels of the last axis of a Keras tensor of the model."""
        return self.tensors[id(tensor)]

    def removable(self) -> list[Group]:
        """Groups that may lose channels."""
        return [group for group in self.groups if not group.kept]

    def kept(self) -> list[tuple[str, str]]:
        """(layers, reason) of every group that keeps all its channels, the network's input aside."""
        return [(group.name, group.kept) for group in self.groups if group.kept and group.layers]

    def everything(self) -> np.ndarray:
        """A mask [count] that keeps all channels."""
        return np.ones(self.count, bool)


def channel_map(model: Any) -> ChannelMap:
    """Finds the channels of a functional or Sequential model without nested models.

    Layers that are not known, or that mix channels in a way of their own, keep all the channels they read and write, and say so.

    Raises:
        ModelError: a subclassed model, whose layers cannot be seen.
    """
    return _Walk(functional(model)).run()


@dataclass
class _Forest:
    """Union-find over channel numbers; each set may be kept for a reason."""

    parent: list[int] = field(default_factory=list)
    reason: dict[int, str] = field(default_factory=dict)

    def new(self, count: int) -> np.ndarray:
        first = len(self.parent)
        self.parent += range(first, first + count)
        return np.arange(first, first + count)

    def root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Makes each number of `first` [n] one with its counterpart in `second` [n]."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            a, b = sorted((self.root(a), self.root(b)))
            if a != b:
                self.parent[b] = a
                if b in self.reason:
                    self.reason.setdefault(a, self.reason[b])

    def keep(self, numbers: np.ndarray, reason: str) -> None:
        for number in set(numbers.ravel().tolist()):
            self.reason.setdefault(self.root(number), reason)


class _Walk:
    """Goes through the calls of a model in order, and is what the rules of `tinykit.shrink.rules` work on."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.forest = _Forest()
        self.tensors: dict[int, np.ndarray] = {}
        self.uses: dict[str, Use] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.positions: dict[str, int] = {}
        self.writers: list[tuple[str, np.ndarray]] = []

    def run(self) -> ChannelMap:
        for tensor in self.model.inputs:
            self.tensors[id(tensor)] = self.forest.new(_width(tensor))
            self.forest.keep(self.tensors[id(tensor)], "they are the network's input")
        for node in calls(self.model):
            self._call(node)
        for tensor in self.model.outputs:
            self.forest.keep(self.tensors[id(tensor)], "they are the network's output")
        return self._numbered()

    def _call(self, node: Any) -> None:
        layer = node.operation
        kind = "model" if is_model(layer) else type(layer).__name__
        try:
            check_layer(layer)
            rule = RULES.get(kind)
            if rule is None:
                raise Refused(f"layers of kind {kind} are kept as they are")
            written = rule(self, node, layer)
        except Refused as refused:
            written = self._whole(node, layer, str(refused))
        if function := across_channels(layer):
            self.forest.keep(written, f"layer {layer.name!r}: its function {function} looks at all channels at once")
        for tensor in node.outputs:
            self.tensors[id(tensor)] = written
        self.outputs.setdefault(layer.name, written)
        size = int(np.prod([d or 1 for d in node.outputs[0].shape[1:]])) if node.outputs else 0
        self.positions[layer.name] = self.positions.get(layer.name, 0) + size // max(len(written), 1)

    def _whole(self, node: Any, layer: Any, why: str) -> np.ndarray:
        """What a layer gives that no rule fits: everything it reads and writes stays."""
        reason = f"layer {layer.name!r}: {why}"
        for tensor in node.arguments.keras_tensors:
            self.forest.keep(self.tensors[id(tensor)], reason)
        width = max((_width(tensor) for tensor in node.outputs), default=1)
        written = self.write(layer, width) if getattr(layer, "weights", []) else self.forest.new(width)
        self.forest.keep(written, reason)
        self.uses[layer.name] = Use("whole", written, written)
        return written

    # for the rules ----------------------------------------------------------------------------------------------------------------

    def given(self, node: Any) -> list[np.ndarray]:
        """Channels of the last axis of each tensor that a call is given."""
        return [self.tensors[id(tensor)] for tensor in node.arguments.keras_tensors]

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        self.forest.tie(first, second)

    def keep(self, numbers: np.ndarray, reason: str) -> None:
        self.forest.keep(numbers, reason)

    def write(self, layer: Any, count: int) -> np.ndarray:
        """The channels that a layer with weights writes: new ones at its first call, the same at every other."""
        for name, numbers in self.writers:
            if name == layer.name:
                return numbers
        self.writers.append((layer.name, self.forest.new(count)))
        return self.writers[-1][1]

    def use(self, layer: Any, kind: str, reads: np.ndarray, writes: np.ndarray) -> None:
        """Notes what the weights of a layer read and write; a shared layer's calls must agree."""
        before = self.uses.setdefault(layer.name, Use(kind, reads, writes))
        if before.reads is not reads:
            self.tie(before.reads, reads)
        if before.writes is not writes:
            self.tie(before.writes, writes)

    def laid_out(self, node: Any) -> np.ndarray:
        """Channel of every element of the one tensor that a call is given [...]."""
        tensor = node.arguments.keras_tensors[0]
        shape = tuple(tensor.shape[1:])
        if None in shape:
            raise Refused("the shape of its input is not fixed")
        return np.broadcast_to(self.tensors[id(tensor)], shape)

    def settled(self, elements: np.ndarray) -> np.ndarray:
        """The channels of the last axis of a tensor, after making one of all that share a place there."""
        rows = np.unique(elements.reshape(-1, elements.shape[-1]), axis=0)
        for row in rows[1:]:
            self.tie(rows[0], row)
        return np.array(rows[0])

    # the result ---------------------------------------------------------------------------------------------------------------------

    def _numbered(self) -> ChannelMap:
        """Channels numbered from 0, and their groups."""
        roots = np.array([self.forest.root(i) for i in range(len(self.forest.parent))], dtype=np.int64)
        distinct, number = np.unique(roots, return_inverse=True)
        makers: list[list[str]] = [[] for _ in distinct]
        for name, numbers in self.writers:
            for channel in np.unique(number[numbers]).tolist():
                makers[channel].append(name)
        groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
        for channel, root in enumerate(distinct.tolist()):
            groups.setdefault((tuple(makers[channel]), self.forest.reason.get(root, "")), []).append(channel)
        return ChannelMap(
            self.model,
            len(distinct),
            {name: Use(use.kind, number[use.reads], number[use.writes]) for name, use in self.uses.items()},
            {name: number[numbers] for name, numbers in self.outputs.items()},
            self.positions,
            tuple(Group(layers, np.array(channels), kept) for (layers, kept), channels in groups.items()),
            {key: number[numbers] for key, numbers in self.tensors.items()},
        )


def _width(tensor: Any) -> int:
    """Size of the last axis; 1 for a tensor that is one number a sample, or whose size is not fixed."""
    return int(tensor.shape[-1] or 1) if len(tensor.shape) > 1 else 1


def layers_by_name(model: Any) -> dict[str, Any]:
    """Layers that a functional model calls, by name."""
    return {node.operation.name: node.operation for node in calls(model)}


def matching(groups: Sequence[Group], pattern: str) -> Iterator[Group]:
    """Groups with a layer whose name matches `pattern` (as of files: `*`, `?`)."""
    from fnmatch import fnmatchcase

    return (group for group in groups if any(fnmatchcase(name, pattern) for name in group.layers))
