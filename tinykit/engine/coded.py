"""A layer whose weights are coded: the calls that decode and compute it, in one piece or in slices of its output channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from tinykit.coding.schemes import Scheme
from tinykit.engine import access, decoders
from tinykit.engine.call import Call, Place, Storage, Table, Variant
from tinykit.engine.decoders import SLACK, Weights
from tinykit.graph import ir


@dataclass(frozen=True)
class Layer:
    """A layer whose weights can be coded.

    Attributes:
        own: instructions of its kernel, about.
        parameter: of the kernel, which takes the table of weights.
        weights: of that table.
    """

    op: ir.Weighted
    variant: Variant
    own: float
    parameter: str
    table: Table
    weights: Weights

    @property
    def size(self) -> int:
        """Bytes of its weights as the kernel reads them."""
        return len(self.weights.values)

    @property
    def records(self) -> int:
        """Of its table."""
        return -(-len(self.table.values) // self.weights.records.record)

    def slices(self, each: int) -> list[tuple[int, int]]:
        """(first record, last, excluded) of each slice, where `each` records are decoded at once."""
        if each >= self.records:
            return [(0, self.records)]
        end = self.records - self.weights.records.apart
        alone = [(end, self.records)] * self.weights.records.apart
        return [(first, min(first + each, end)) for first in range(0, end, each)] + alone

    @property
    def entropy(self) -> float:
        """Bits a weight, of weights that are drawn as often as these occur."""
        counts = np.bincount(self.weights.values.view(np.uint8))
        shares = counts[counts > 0] / self.size
        return float(-(shares * np.log2(shares)).sum())


@dataclass(frozen=True)
class Coded:
    """A layer's weights in one coding.

    Attributes:
        bytes: of book, mask and stream.
        seen: weights that the coder codes.
    """

    scheme: Scheme
    book: bytes
    bytes: int
    seen: int


def _places(layer: Layer, each: int) -> tuple[int, int]:
    """Where, in the op's scratch, the weights of `each` records are decoded to, and where the coder's table begins."""
    at = _up(layer.variant.access.scratch)
    record = layer.weights.records.record * layer.table.values.itemsize
    return at, at + _up(min(each * record, layer.table.values.nbytes) + SLACK)


def scratch_bytes(layer: Layer, coded: Coded, each: int) -> int:
    """Bytes of scratch with `each` records decoded at once, the kernel's own included."""
    return _up(_places(layer, each)[1] + coded.scheme.coder.workspace(coded.book))


def _up(size: int) -> int:
    return -(-size // 4) * 4


def extra_instructions(layer: Layer, coded: Coded, each: int) -> float:
    """About how many more instructions the layer takes, with `each` records decoded at once: at most so many for decoding, and what slices
    do again."""
    slices, woven = len(layer.slices(each)), layer.records if layer.weights.woven else 0
    decoding = decoders.worst_instructions(coded.scheme, coded.book, (layer.size, coded.seen), woven, slices)
    return decoding + (slices - 1) * layer.variant.again


def coded_variant(graph: ir.Graph, layer: Layer, coded: Coded, each: int) -> Variant:
    """The layer with its weights coded, `each` records at a time."""
    plain, slices = layer.variant, layer.slices(each)
    at, table = _places(layer, each)

    def some(call: Call, first: int, last: int) -> Call:
        return call if len(slices) == 1 or plain.part is None else plain.part(call, first, last)

    whole = plain.call(False)
    decoding = [_decoding(layer, coded, some(whole, *records), at, table) for records in slices]
    ctype = next(t for t, name in whole.function.parameters if name == layer.parameter)

    def calls(reverse: bool) -> tuple[Call, ...]:
        again, found = plain.call(reverse), list[Call]()
        for records, decode in zip(slices, decoding):
            call = some(again, *records)
            found += [*decode, replace(call, arguments={**call.arguments, layer.parameter: Place(None, at, ctype)})]
        return tuple(found)

    touched = plain.access if len(slices) == 1 else access.whole(graph, layer.op)  # all of the input is read again
    stored = _stored(call for decode in decoding for call in decode)
    instructions = extra_instructions(layer, coded, each)
    reason = f"saves {layer.size - stored:,} bytes"
    return replace(
        plain,
        access=replace(touched, scratch=scratch_bytes(layer, coded, each)),
        instructions=plain.instructions + instructions,
        storage=Storage(coded.scheme.name, layer.size, stored, instructions, reason, len(slices), calls),
    )


def _decoding(layer: Layer, coded: Coded, call: Call, at: int, table: int) -> tuple[Call, ...]:
    """What decodes the weights of a call."""
    own = call.arguments[layer.parameter]
    weights = decoders.extract(own) if isinstance(own, Table) else None
    if weights is None:
        raise AssertionError(f"the weights of {layer.op.name!r} cannot be told from its constants")
    return decoders.decoding(coded.scheme, coded.book, coded.scheme.encode(coded.book, weights.values), weights, at, table)


def _stored(calls: Iterable[Call]) -> int:
    """Bytes of books, masks and streams in the calls of decoders, equal ones once."""
    tables = {
        table.key: table.values.nbytes
        for call in calls
        if call.function in decoders.CODED
        for table in call.arguments.values()
        if isinstance(table, Table)
    }
    return sum(tables.values())
