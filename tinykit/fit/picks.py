"""What there is to choose from: allocations of least harm from wide to narrow, and three of them that are worth a look."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinykit.fit.meter import Meter
from tinykit.fit.sensitivity import Probe
from tinykit.quant.allocation.accounting import peak_bytes, total_weight_bytes
from tinykit.quant.allocation.network import Bits, Network, eight_bits, fewest_bits
from tinykit.quant.allocation.optimum import Limits, Prices, optimum

POINTS = 20
PICKS: Mapping[str, float] = {"balanced": 0.1, "compact": 0.5}
"""How much of the harm of a network that knows nothing a pick may do before it is trained: a guess's divergence is ln(classes)."""
WORTH = 0.1
"""Share of the flash that a pick must save: less is not worth any harm."""


@dataclass(frozen=True)
class Point:
    """An allocation that was tried.

    Attributes:
        harm: of all its tensors together, measured without training.
        weight_bytes: of all packed weights.
        flash: of the engine, bytes: linked where that can be done. Fewer bits need other kernels, which may be larger than what they save.
        ram: of the engine, bytes: arena planned, stack estimated.
        fits: both are within the budget.
    """

    bits: Bits
    harm: float
    weight_bytes: int
    flash: int
    ram: int
    fits: bool


def front(
    network: Network,
    prices: Prices,
    probe: Probe,
    meter: Meter,
    chosen: Bits,
    flash: int | None,
    ram: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Point]:
    """Allocations of least harm at `POINTS` sizes of the weights, and `chosen`; from the largest to the smallest, each once.

    Args:
        chosen: what fits the budget best: its peak is the RAM limit of the others.
    """
    whole, least = (total_weight_bytes(network, bits) for bits in (eight_bits(network), fewest_bits(network)))
    tried = {chosen: None, eight_bits(network): None}
    peak = peak_bytes(network, chosen) if ram is not None else None
    for i in range(POINTS):
        limit = whole - (whole - least) * i // (POINTS - 1)
        outcome = optimum(network, prices, Limits(limit, peak))
        if outcome.feasible:
            tried[outcome.bits] = None
    points = []
    for number, bits in enumerate(tried, 1):
        used_flash, used_ram = meter.linked(bits).flash, meter.planned(bits).ram
        fits = (flash is None or used_flash <= flash) and (ram is None or used_ram <= ram)
        size = total_weight_bytes(network, bits)
        points.append(Point(bits, probe.with_bits(bits), size, used_flash, used_ram, fits or bits == chosen))
        progress(number, len(tried))
    return sorted(points, key=lambda p: (-p.weight_bytes, p.ram, p.harm))


def picks(points: Sequence[Point], chosen: Bits, classes: int) -> dict[str, Point]:
    """quality: `chosen`, the least harm that fits; balanced and compact: the least flash within the harm of `PICKS`, or quality where none
    saves `WORTH` of that.

    Args:
        classes: number of classes; 1 for a network that rebuilds its input, whose harm is a share of the variance.
    """
    quality = next(p for p in points if p.bits == chosen)
    worst = math.log(classes) if classes > 1 else 1.0
    found = {"quality": quality}
    for name, share in PICKS.items():
        near = [p for p in points if p.fits and p.harm <= share * worst and p.flash <= (1 - WORTH) * quality.flash]
        found[name] = min(near, key=lambda p: (p.flash, p.harm), default=quality)
    return found
