"""Which of several results nothing else beats: one definition for comparisons, searches and NSGA-II."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Merits = Sequence[float]
"""What speaks for a result, more is better in every place; costs are negative."""
Item = TypeVar("Item")


def dominates(one: Merits, other: Merits) -> bool:
    """Whether `one` is nowhere worse and somewhere better."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


def fronts(items: Sequence[Item], beats: Callable[[Item, Item], bool]) -> list[list[int]]:
    """Fast non-dominated sort (Deb et al. 2002, section III A): indices of what nothing beats, of what only those beat, and so on.

    Args:
        beats: whether its first argument is better than its second; a strict partial order.
    """
    beaten_by = [sum(beats(other, item) for other in items) for item in items]
    left = list(range(len(items)))
    found: list[list[int]] = []
    while left:
        front = [index for index in left if beaten_by[index] == 0]
        found.append(front)
        left = [index for index in left if beaten_by[index] > 0]
        for index in left:
            beaten_by[index] -= sum(beats(items[other], items[index]) for other in front)
    return found


def undominated(merits: Sequence[Merits]) -> list[int]:
    """Indices of the results that no other one dominates, in order; equals are all kept."""
    return next(iter(fronts(merits, dominates)), [])
