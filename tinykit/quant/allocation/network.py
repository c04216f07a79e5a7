"""A network as a bit allocator sees it: which tensors are alive at each step, how many weights each layer has.

Tensors of one quantiser (what pools, moves or joins others has no step of its own) are one *group* and share their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTHS = (8, 4, 2)


@dataclass(frozen=True)
class Activation:
    """A tensor at one step.

    Attributes:
        name: of the tensor.
        group: index of its quantiser.
        elements: of one sample.
    """

    name: str
    group: int
    elements: int


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: of the layer.
        live: what is in memory while it runs, its result aside: its inputs first, then what later steps will read.
        result: what it writes.
        weights: number of weights, 0 for an operation without any.
        channels: output channels of a layer with weights, 0 otherwise.
        macs: multiply-accumulates of one inference.
    """

    name: str
    live: tuple[Activation, ...]
    result: Activation
    weights: int = 0
    channels: int = 0
    macs: int = 0

    @property
    def activations(self) -> tuple[Activation, ...]:
        """All tensors in memory at this step."""
        return (*self.live, self.result)


@dataclass(frozen=True)
class Network:
    """Steps in execution order.

    Attributes:
        groups: number of quantisers.
        fixed: groups that stay at 8 bits: the network's input and output, and scales that an operation dictates.
    """

    name: str
    steps: tuple[Step, ...]
    groups: int
    fixed: frozenset[int]

    @property
    def layers(self) -> tuple[Step, ...]:
        """The steps with weights: the layers of the literature."""
        return tuple(step for step in self.steps if step.weights)

    def widths(self, group: int) -> tuple[int, ...]:
        """Bits that a group of activations may have, the most first."""
        return WIDTHS if group not in self.fixed else (8,)


@dataclass(frozen=True)
class Bits:
    """An allocation.

    Attributes:
        groups: bits of each group of activations.
        weights: bits of each layer's weights, in the order of `Network.layers`.
    """

    groups: tuple[int, ...]
    weights: tuple[int, ...]

    def of(self, activation: Activation) -> int:
        """Bits of an activation."""
        return self.groups[activation.group]

    def activations(self, network: Network) -> list[int]:
        """Output bits of each layer with weights but the last, whose output is the network's result or leads to it."""
        return [self.of(layer.result) for layer in network.layers[:-1]]


def eight_bits(network: Network) -> Bits:
    """Where every allocator begins."""
    return Bits((8,) * network.groups, (8,) * len(network.layers))


def fewest_bits(network: Network) -> Bits:
    """The least that any allocator can do."""
    return Bits(tuple(min(network.widths(g)) for g in range(network.groups)), (2,) * len(network.layers))


def chain(name: str, sizes: Sequence[int], weights: Sequence[int], channels: Sequence[int]) -> Network:
    """A chain of layers, for tests and for tables of the literature.

    Args:
        sizes: elements of the input and of each layer's output: one more than there are layers.
        weights, channels: of each layer.
    """
    tensors = [Activation(f"tensor {i}", i, size) for i, size in enumerate(sizes)]
    rows = enumerate(zip(tensors[:-1], tensors[1:], weights, channels, strict=True))
    steps = tuple(Step(f"layer {i}", (x,), y, count, width) for i, (x, y, count, width) in rows)
    return Network(name, steps, len(tensors), frozenset({0, len(tensors) - 1}))
