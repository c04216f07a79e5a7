"""What must be placed for one order of the steps, and which placements are valid."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tinykit.graph.plan.network import Network


@dataclass(frozen=True)
class Item:
    """A buffer, or the scratch of a step. Positions count executed steps; -1 is before the first, the number of steps after the last.

    Attributes:
        size: bytes, a multiple of the unit.
        first, last: positions between which its bytes are needed, both included.
        buffer: index of the buffer, -1 for scratch.
    """

    size: int
    first: int
    last: int
    buffer: int


@dataclass(frozen=True)
class Relation:
    """Two items with bytes at the same time, at offsets a and b: a - b >= least[0], or b - a >= least[1], or a == b if `equal`.

    Attributes:
        a, b: indices of the items; of an input that dies and the output of the same step, a is the input.
        forward, reverse: `least` where the step's units run in listed or in descending order; the same where no step couples the two.
        equal: the same offset is valid.
        position: of the step whose direction decides, -1 if none does.
    """

    a: int
    b: int
    forward: tuple[int, int]
    reverse: tuple[int, int]
    equal: bool = False
    position: int = -1

    def holds(self, difference: int, reverse: bool) -> bool:
        """Whether the items may start `difference` = a - b bytes apart."""
        least = self.reverse if reverse else self.forward
        return difference >= least[0] or -difference >= least[1] or (self.equal and difference == 0)

    @property
    def either(self) -> tuple[int, int]:
        """`least` where the direction can follow from the placement."""
        return min(self.forward[0], self.reverse[0]), min(self.forward[1], self.reverse[1])


@dataclass(frozen=True)
class Layout:
    """The placement problem.

    Attributes:
        unit: offsets are multiples of it.
        items: what to place.
        relations: between items with bytes at the same time.
        coupled: positions of steps that have several relations and one direction for all of them.
    """

    unit: int
    items: tuple[Item, ...]
    relations: tuple[Relation, ...]
    coupled: tuple[int, ...]

    def least(self, relation: Relation, reverse: Collection[int]) -> tuple[int, int]:
        """The distances of a relation if the coupled steps at the positions `reverse` run in descending order."""
        if relation.position not in self.coupled:
            return relation.either
        return relation.reverse if relation.position in reverse else relation.forward

    def arena(self, offsets: Sequence[int]) -> int:
        """Bytes from 0 to the end of the last item."""
        return max((o + item.size for o, item in zip(offsets, self.items)), default=0)

    def directions(self, offsets: Sequence[int]) -> frozenset[int] | None:
        """Positions of the steps that must run in descending order with these offsets; None if the offsets are not valid."""
        forward_fails, reverse_fails = set(), set()
        for r in self.relations:
            difference = offsets[r.a] - offsets[r.b]
            if not r.holds(difference, False):
                forward_fails.add(r.position)
            if not r.holds(difference, True):
                reverse_fails.add(r.position)
        if forward_fails & reverse_fails or any(o < 0 or o % self.unit for o in offsets):
            return None
        return frozenset(forward_fails)


def build_layout(network: Network, order: Sequence[int]) -> Layout:
    """Items and relations of a network whose steps run in `order`."""
    place = {step: position for position, step in enumerate(order)}
    count = len(order)
    items = []
    producer = {b: s for s, b in enumerate(network.outputs)}
    for b, size in enumerate(network.sizes):
        first = -1 if b in network.start else place[producer[b]]
        readers = [place[s] for s in range(count) if network.readers[b] >> s & 1]
        last = count if b in network.end else max(readers, default=first)
        items.append(Item(size, first, last, b))
    items += [Item(network.scratch[s], p, p, -1) for s, p in place.items() if network.scratch[s]]
    relations = []
    for i, one in enumerate(items):
        for j in range(i + 1, len(items)):
            other = items[j]
            if one.size and other.size and one.first <= other.last and other.first <= one.last:
                relations.append(_relation(network, order, items, i, j))
    counts = [r.position for r in relations if r.position >= 0]
    return Layout(network.unit, tuple(items), tuple(relations), tuple(sorted({p for p in counts if counts.count(p) > 1})))


def _relation(network: Network, order: Sequence[int], items: Sequence[Item], i: int, j: int) -> Relation:
    for a, b in ((i, j), (j, i)):
        position = items[b].first
        if items[a].buffer < 0 or items[b].buffer < 0 or items[a].last != position or not 0 <= position < len(order):
            continue
        d = network.distances.get((order[position], items[a].buffer))
        if d is not None and network.outputs[order[position]] == items[b].buffer:
            return Relation(a, b, (d.forward, items[a].size), (items[b].size, d.reverse), d.in_place, position)
    disjoint = (items[j].size, items[i].size)
    return Relation(i, j, disjoint, disjoint)
