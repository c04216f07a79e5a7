"""Placement by first fit: several orders of placing, each item as low or as high as it goes, then a local search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.graph.plan.layout import Layout

_WORK = 60_000  # relations looked at by the local search: a count, so that the result is the same on any machine
_ROUNDS = 400  # tries of the local search at most


@dataclass(frozen=True)
class Recipe:
    """How first fit goes about: items in the order of placing, those placed from the top, coupled steps that run in descending order."""

    sequence: tuple[int, ...]
    top: frozenset[int]
    reverse: frozenset[int]


class FirstFit:
    """First fit on one layout; `height` is the arena aimed at, from whose end items are placed downwards."""

    def __init__(self, layout: Layout, height: int) -> None:
        self.layout = layout
        self.height = height
        self._neighbours: dict[frozenset[int], list[list[tuple[int, int, int, bool]]]] = {}

    def place(self, recipe: Recipe) -> list[int]:
        """Offsets of all items, always valid; the arena may turn out higher than aimed at."""
        neighbours = self._of(recipe.reverse)
        offsets = [-1] * len(self.layout.items)
        for i in recipe.sequence:
            near = [(offsets[j], up, down, equal) for j, up, down, equal in neighbours[i] if offsets[j] >= 0]
            limit = self.height - self.layout.items[i].size
            offset = _highest(near, limit) if i in recipe.top else None
            offsets[i] = _lowest(near) if offset is None else offset
        return offsets

    def _of(self, reverse: frozenset[int]) -> list[list[tuple[int, int, int, bool]]]:
        """For each item i: (j, least i - j, least j - i, equal) of its relations."""
        if reverse not in self._neighbours:
            table: list[list[tuple[int, int, int, bool]]] = [[] for _ in self.layout.items]
            for r in self.layout.relations:
                up, down = self.layout.least(r, reverse)
                table[r.a].append((r.b, up, down, r.equal))
                table[r.b].append((r.a, down, up, r.equal))
            self._neighbours[reverse] = table
        return self._neighbours[reverse]


def _fits(x: int, near: Sequence[tuple[int, int, int, bool]]) -> bool:
    return all(x - o >= up or o - x >= down or (equal and x == o) for o, up, down, equal in near)


def _lowest(near: Sequence[tuple[int, int, int, bool]]) -> int:
    spots = {0} | {o + up for o, up, _, _ in near} | {o for o, _, _, equal in near if equal}
    return next(x for x in sorted(spots) if x >= 0 and _fits(x, near))  # above everything always fits


def _highest(near: Sequence[tuple[int, int, int, bool]], limit: int) -> int | None:
    spots = {limit} | {o - down for o, _, down, _ in near} | {o for o, _, _, equal in near if equal}
    return next((x for x in sorted(spots, reverse=True) if 0 <= x <= limit and _fits(x, near)), None)


def starts(layout: Layout, needs: Sequence[int]) -> Iterator[Recipe]:
    """The recipes tried first.

    Args:
        layout: what to place.
        needs: bytes that each position needs at least; items of the most demanding positions go first in one of the orders.
    """
    items = layout.items
    numbers = range(len(items))
    peak = int(np.argmax(needs)) if len(needs) else 0
    keys: list[Callable[[int], tuple[int, ...]]] = [
        lambda i: (-max(needs[max(items[i].first, 0) : items[i].last + 1], default=0), -items[i].size, i),
        lambda i: (max(items[i].first - peak, peak - items[i].last, 0), -items[i].size, i),
        lambda i: (-items[i].size, i),
        lambda i: (items[i].first, -items[i].size, i),
        lambda i: (-items[i].last, -items[i].size, i),
    ]
    odd = frozenset(i for i in numbers if items[i].first % 2)
    sides: tuple[frozenset[int], ...] = (frozenset(), odd, frozenset(numbers) - odd, frozenset(numbers))
    directions = [frozenset(), frozenset(layout.coupled)] if layout.coupled else [frozenset()]
    for key in keys:
        sequence = tuple(sorted(numbers, key=key))
        for top in sides:
            for reverse in directions:
                yield Recipe(sequence, top, reverse)


def search(layout: Layout, needs: Sequence[int], bound: int) -> list[int]:
    """The best offsets found; stops at an arena of `bound` bytes, which nothing can beat."""
    fit = FirstFit(layout, bound)
    best: tuple[int, Recipe, list[int]] | None = None
    for recipe in starts(layout, needs):
        offsets = fit.place(recipe)
        arena = layout.arena(offsets)
        if best is None or arena < best[0]:
            best = arena, recipe, offsets
        if arena <= bound:
            return offsets
    if best is None or len(layout.items) < 2:
        return best[2] if best else []
    return _improve(fit, layout, best, bound)


def _improve(fit: FirstFit, layout: Layout, best: tuple[int, Recipe, list[int]], bound: int) -> list[int]:
    """Random changes of the best recipe from a fixed seed; a change that does not make it worse stays."""
    random = np.random.default_rng(0)
    arena, recipe, offsets = best
    for _ in range(min(_ROUNDS, _WORK // (1 + len(layout.relations)))):
        changed = _mutate(recipe, layout.coupled, random)
        fit.height = arena - layout.unit  # what would be better
        placed = fit.place(changed)
        height = layout.arena(placed)
        if height <= arena:
            recipe = changed
            if height < arena:
                arena, offsets = height, placed
        if arena <= bound:
            break
    return offsets


def _mutate(recipe: Recipe, coupled: Collection[int], random: np.random.Generator) -> Recipe:
    sequence, top, reverse = list(recipe.sequence), recipe.top, recipe.reverse
    kind = int(random.integers(4 if coupled else 3))
    i = int(random.integers(len(sequence)))
    if kind == 0:
        sequence.insert(int(random.integers(i + 1)), sequence.pop(i))
    elif kind == 3:
        reverse = reverse ^ {sorted(coupled)[int(random.integers(len(coupled)))]}
    else:
        top = top ^ {i}
        if kind == 2:
            sequence.insert(int(random.integers(len(sequence))), sequence.pop(sequence.index(i)))
    return Recipe(tuple(sequence), top, reverse)
