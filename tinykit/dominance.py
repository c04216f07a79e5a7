"""Which of several results nothing else beats: one definition for comparisons, searches and NSGA-II."""

from collections.abc import Sequence

Merits = Sequence[float]
"""What speaks for a result, more is better in every place; costs are negative."""


def dominates(one: Merits, other: Merits) -> bool:
    """Whether `one` is nowhere worse and somewhere better."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


def undominated(merits: Sequence[Merits]) -> list[int]:
    """Indices of the results that no other one dominates, in order; equals are all kept."""
    return [i for i, own in enumerate(merits) if not any(dominates(other, own) for other in merits)]
