"""What an architecture costs, counted layer by layer: multiply-accumulates, bytes of constants, bytes of activations alive.

Written once, for numbers and for tensors: every cost is a sum of products of index vectors with what their choices stand for, or a maximum
of such sums. With one-hot vectors it is exact (`tinykit.graph.costs` counts the same of the built network); with probabilities it is what a
supernet pays, and has gradients. Source: MicroNets, arXiv:2010.11267, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinykit.graph.costs import CHANNEL_TABLE_BYTES
from tinykit.search.space import Space

_CHANNEL_BYTES = 4.0 + CHANNEL_TABLE_BYTES
"""Of a layer with weights, an output channel: its int32 bias and what requantises it. Beside the weights this is what grows with a network
on the board (benchmarks/search_proxy.md)."""

Vectors = Mapping[str, Any]
"""Decision -> index vector [choices]."""
Width = int | str
"""Channels: a number, or the name of the decision about it."""


@dataclass(frozen=True)
class Backend:
    """The two operations that numbers and tensors do not spell alike.

    Attributes:
        dot: (index vector, numbers) -> scalar.
        most: scalars -> the largest.
    """

    dot: Callable[[Any, Sequence[int]], Any]
    most: Callable[[Sequence[Any]], Any]


NUMBERS = Backend(lambda vector, values: float(np.dot(vector, values)), max)


@dataclass(frozen=True)
class Tensor:
    """Attributes: width: channels; positions: height times width."""

    width: Width
    positions: int


@dataclass(frozen=True)
class Node:
    """One operation of the supernet.

    Attributes:
        name: as in the built network; of a block that may be of several kinds, one node a kind.
        stage, block, repeat: it exists where stage `stage` (from 1) has blocks of kind `block` (index), more than `repeat` of them;
            stage 0: always.
        kind: 'conv', 'depthwise', 'dense', or 'other' without weights.
        kernel: the decision about its kernel; None: 1x1.
        inputs, output: tensors.
        alive: further tensors that are needed later.
    """

    name: str
    stage: int
    block: int
    repeat: int
    kind: str
    kernel: str | None
    inputs: tuple[Tensor, ...]
    output: Tensor
    alive: tuple[Tensor, ...] = ()


def nodes(space: Space) -> list[Node]:
    """Every operation that an architecture of the space may have, in the order of execution."""
    x = Tensor(space.input_shape[-1], space.planes[0].positions)
    found: list[Node] = []
    for number, stage in enumerate(space.stages, 1):
        for repeat in range(max(stage.repeats.choices())):
            after = Tensor(f"stage{number}.filters", space.planes[number].positions)
            for index, block in enumerate(stage.blocks):
                found += _block(block, number, index, repeat, x, after)
            x = after
    pooled = Tensor(x.width, 1)
    scores = Tensor(space.classes, 1)
    found.append(Node("pool", 0, 0, 0, "other", None, (x,), pooled))
    found.append(Node("logits", 0, 0, 0, "dense", None, (pooled,), scores))
    found.append(Node("softmax", 0, 0, 0, "other", None, (scores,), scores))
    return found


def _block(block: str, number: int, index: int, repeat: int, x: Tensor, after: Tensor) -> list[Node]:
    """The operations of one block."""
    kernel, name = f"stage{number}.kernel", f"stage{number}_{repeat + 1}"

    def node(part: str, kind: str, k: str | None, given: Tensor, made: Tensor, alive: tuple[Tensor, ...] = ()) -> Node:
        return Node(f"{name}_{part}", number, index, repeat, kind, k, (given,), made, alive)

    if block == "conv":
        return [node("conv", "conv", kernel, x, after)]
    if block == "separable":
        between = Tensor(x.width, after.positions)
        return [node("depthwise", "depthwise", kernel, x, between), node("pointwise", "conv", None, between, after)]
    inner = f"stage{number}.expanded"
    wide, narrowed = Tensor(inner, x.positions), Tensor(inner, after.positions)
    kept = (x,) if repeat else ()
    found = [
        node("expand", "conv", None, x, wide),  # x is its input, and counts once
        node("spatial", "depthwise", kernel, wide, narrowed, kept),
        node("project", "conv", None, narrowed, after, kept),
    ]
    if repeat:
        found.append(Node(f"{name}_sum", number, index, repeat, "other", None, (x, after), after))
    return found


@dataclass(frozen=True)
class Cost:
    """Attributes: macs: of one inference; flash: bytes of packed weights, int32 biases, multipliers and shifts; ram: most bytes of
    activations alive at once."""

    macs: Any
    flash: Any
    ram: Any

    def as_dict(self) -> dict[str, int]:
        """Whole numbers."""
        return {name: round(float(value)) for name, value in (("macs", self.macs), ("flash", self.flash), ("ram", self.ram))}


class CostModel:
    """Costs of a space's architectures.

    Args:
        weight_bits: of every layer.
        backend: NUMBERS, or that of tensors.
    """

    def __init__(self, space: Space, weight_bits: int = 8, backend: Backend = NUMBERS) -> None:
        self.space, self.weight_bits, self.backend = space, weight_bits, backend
        self.nodes = nodes(space)

    def __call__(self, vectors: Vectors) -> Cost:
        """Costs under index vectors: exact where they are one-hot."""
        macs: Any = 0.0
        flash: Any = 0.0
        live = []
        for node in self.nodes:
            there = self._there(node, vectors)
            weights = self._weights(node, vectors)
            if weights is not None:
                macs = macs + there * weights * node.output.positions
                flash = flash + there * (weights * (self.weight_bits / 8) + _CHANNEL_BYTES * self._width(node.output.width, vectors))
            live.append(there * sum(self._bytes(tensor, vectors) for tensor in (*node.inputs, node.output, *node.alive)))
        return Cost(macs, flash, self.backend.most(live))

    def counted(self, indices: Mapping[str, int]) -> dict[str, int]:
        """Costs of one architecture, decision -> index of its choice; of the backend NUMBERS."""
        return self(self.space.one_hot(indices)).as_dict()

    def _width(self, width: Width, vectors: Vectors) -> Any:
        if isinstance(width, int):
            return float(width)
        return self.backend.dot(vectors[width], self.space.by_name[width].values)

    def _bytes(self, tensor: Tensor, vectors: Vectors) -> Any:
        return self._width(tensor.width, vectors) * tensor.positions

    def _weights(self, node: Node, vectors: Vectors) -> Any:
        """Number of weights, None for an operation without any."""
        if node.kind == "other":
            return None
        area = 1.0 if node.kernel is None else self._width(node.kernel, vectors)
        count = area * self._width(node.output.width, vectors)
        return count if node.kind == "depthwise" else count * self._width(node.inputs[0].width, vectors)

    def _there(self, node: Node, vectors: Vectors) -> Any:
        """The chance that the architecture has this operation."""
        if node.stage == 0:
            return 1.0
        blocks = len(self.space.stages[node.stage - 1].blocks)
        kind = self.backend.dot(vectors[f"stage{node.stage}.block"], [int(i == node.block) for i in range(blocks)])
        repeats = self.space.by_name[f"stage{node.stage}.repeats"]
        return kind * self.backend.dot(vectors[repeats.name], [int(count > node.repeat) for count in repeats.values])
