"""How much groups of channels matter: what the outputs change without their least channels, after the other layers have made up for it.

Gradients tell what a channel contributes where all others stay as they are. That most of a group could go, or none of it, shows only where
it goes; so a few sizes of each group are tried, alone (as Yang et al. 2018, arXiv:1804.03230, try layers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinykit.shrink.budget import Limits, rounded_up
from tinykit.shrink.channels import ChannelMap, Group
from tinykit.shrink.reconstruct import reconstruct
from tinykit.shrink.surgery import shrink

if TYPE_CHECKING:
    import keras

_LEFT = (0.75, 0.5, 0.25)
"""Shares of a group that are tried, and the fewest channels that it may have."""
_TIE = 1e-6


def harms(
    found: ChannelMap,
    order: np.ndarray,
    limits: Limits,
    harm: Callable[[keras.Model], float],
    samples: Sequence[np.ndarray],
    seed: int,
    progress: Callable[[int, int], None],
) -> np.ndarray:
    """Scores of channels whose sum over what a group loses is about the harm of losing it.

    Args:
        found: channels of the network.
        order: [found.count], which channels of a group go first: the lowest.
        limits: how far groups may be cut.
        harm: of a network, against the whole one.
        samples: batches [B, ...] that layers are reconstructed on.
        seed: of the places that reconstruction looks at.
        progress: (sizes tried, all of them), before each.

    Returns:
        [found.count], 0 and more; rising within a group in the order in which its channels go.
    """
    sizes = {group.layers: _sizes(group, limits) for group in found.removable()}
    total, done = sum(map(len, sizes.values())), 0
    scores = np.zeros(found.count)
    for group in found.removable():
        ranked = np.array(sorted(group.channels.tolist(), key=lambda channel: (order[channel], -channel)), np.int64)
        curve = [(0, 0.0)]
        for size in sizes[group.layers]:
            progress(done, total)
            done += 1
            alive = found.everything()
            gone = ranked[: len(ranked) - size]
            alive[gone] = False
            smaller = shrink(found, alive)
            reconstruct(found, alive, smaller, samples, seed)
            curve.append((len(gone), max(harm(smaller), 0.0)))
        scores[ranked] = _slopes(curve, len(ranked))
    progress(done, total)
    return scores


def _sizes(group: Group, limits: Limits) -> list[int]:
    """How many channels are left in what is tried, the most first; nothing where nothing may go, or its share is given."""
    count, fewest = len(group.channels), limits.fewest(group)
    if group.layers in limits.shares:
        return []
    tried = {max(fewest, min(rounded_up(round(share * count), limits.multiple), count)) for share in _LEFT} | {fewest}
    return sorted(tried - {count}, reverse=True)


def _slopes(curve: Sequence[tuple[int, float]], count: int) -> np.ndarray:
    """Harm of each channel, in the order in which they go: slopes of the largest convex curve that is nowhere above the points, so that a
    cut that does little harm is not hidden by a first channel that seems to do much.

    Args:
        curve: (channels gone, harm), rising in the first; it begins with (0, 0).
        count: of all channels.
    """
    hull: list[tuple[int, float]] = []
    for point in curve:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], point):
            hull.pop()
        hull.append(point)
    found = np.zeros(count)
    for left, right in zip(hull, hull[1:]):
        found[left[0] :] = max(_slope(left, right), 0.0)  # what is beyond the last point costs what came before it
    return found * (1 + _TIE * np.arange(count)) + _TIE**2 * np.arange(count)


def _slope(left: tuple[int, float], right: tuple[int, float]) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])
