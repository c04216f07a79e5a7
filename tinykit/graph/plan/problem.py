"""What the planner plans: buffers, the steps that use them, and how each step's kernel touches memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Access:
    """How a kernel touches its operands, as units that it executes one after the other (pixels of the output, elements, or all at once).

    A unit reads a range of each input and writes a range of the output. Ranges are offsets [first, last) in bits from the start of the
    tensor, hulls of what is touched: elements of 4 or 2 bits share bytes, and a kernel that writes one leaves its neighbours as they are.
    Bit 0 is the lowest bit of the first byte. Units are listed in the order of ascending output; a kernel with `reversible` can also run
    them from the last to the first.

    Attributes:
        reads: by input tensor, int64 [units, 2]; an empty range is [0, 0).
        writes: int64 [units, 2], ascending.
        buffered: a unit has read everything before it writes. False: reads and writes of one unit interleave.
        reversible: the kernel can execute the units in descending order.
        in_place: inputs at whose very address the output may start, whatever the units say (a kernel that keeps copies of its own).
        scratch: bytes that the kernel needs besides, aligned to 4, alive during the step only.
    """

    reads: Mapping[str, np.ndarray]
    writes: np.ndarray
    buffered: bool = False
    reversible: bool = False
    in_place: frozenset[str] = frozenset()
    scratch: int = 0


@dataclass(frozen=True)
class Step:
    """One kernel call. `inputs` are activations (constants live in flash); `output` is the tensor it writes."""

    name: str
    inputs: tuple[str, ...]
    output: str
    access: Access


@dataclass(frozen=True)
class Problem:
    """A network as the planner sees it.

    Attributes:
        sizes: bytes of each activation.
        steps: in an order that is valid.
        inputs: tensors that hold the network's inputs: alive from the start to their last reader; they may be overwritten then.
        outputs: tensors that must be intact at the end.
        bits: bits that carry something, of the tensors whose last byte is not full.
        aliases: tensor -> tensor whose bytes it shares (a reshape's result); chains are allowed. Steps may name either.
        alignment: of every offset, a power of two.
    """

    sizes: Mapping[str, int]
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    alignment: int = 4
    bits: Mapping[str, int] = field(default_factory=dict)

    def used_bits(self, tensor: str) -> int:
        """Bits of a tensor that carry something: nobody writes or reads those behind them."""
        return self.bits.get(tensor, 8 * self.sizes[tensor])

    def owner(self, tensor: str) -> str:
        """The tensor whose bytes `tensor` is: itself, or the end of its chain of aliases."""
        while tensor in self.aliases:
            tensor = self.aliases[tensor]
        return tensor


@dataclass(frozen=True)
class StepMemory:
    """The arena while a step runs.

    Attributes:
        step: name of the step.
        tensors: owner -> (offset, bytes) of every tensor alive.
        scratch: (offset, bytes), (0, 0) for none.
        footprint: bytes from offset 0 to the last byte in use.
        least: bytes that this step needs under any placement (its term of the lower bound).
    """

    step: str
    tensors: Mapping[str, tuple[int, int]]
    scratch: tuple[int, int]
    footprint: int
    least: int


@dataclass(frozen=True)
class Plan:
    """Where every tensor lies, and in which order and direction the steps run.

    Attributes:
        order: indices into `Problem.steps`.
        offsets: byte offset in the arena of every tensor, aliases included.
        scratch: step name -> byte offset of its scratch (only steps that have some).
        reversed: names of the steps that execute their units from the last to the first.
        arena_bytes: size of the arena.
        lower_bound: no placement of these buffers in any valid order that was searched takes less; the gap is arena_bytes - lower_bound.
        order_exact: the order was proved best by dynamic programming; False: a heuristic's.
        timeline: one entry a step in execution order.
    """

    order: tuple[int, ...]
    offsets: Mapping[str, int]
    scratch: Mapping[str, int]
    reversed: frozenset[str]
    arena_bytes: int
    lower_bound: int
    order_exact: bool
    timeline: tuple[StepMemory, ...]
