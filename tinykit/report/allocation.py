"""Which bits each tensor got, what that saves, and what else there was to choose from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinykit.report import numbers
from tinykit.report.curves import Box, ticks

_LEAST_HARM = 1e-4
"""Below it an allocation does no harm that can be seen; the axis is logarithmic."""


@dataclass(frozen=True)
class Dot:
    """Attributes: x, y: place; label: of a pick, else empty; state: 'fits', 'over' or 'pick'; title: what it is, for a pointer."""

    x: float
    y: float
    label: str
    state: str
    title: str


def allocation_view(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The content of a step's allocation.json as text and geometry; None where every tensor has 8 bits."""
    if not found.get("layers"):
        return None
    return {
        "rows": [_row(layer) for layer in found["layers"]],
        "weights": _saved(found["layers"], "weight_bytes"),
        "outputs": _saved(found["layers"], "output_bytes"),
        "plot": _plot(found) if found.get("tried") else None,
        "picks": _picks(found),
        "harm": found.get("harm", ""),
    }


def _row(layer: Mapping[str, Any]) -> dict[str, str]:
    weights = layer.get("weight_bits")
    return {
        "name": str(layer["name"]),
        "weight_bits": "–" if weights is None else str(weights),
        "weights": "–" if weights is None else f"{layer['weight_bytes_before']:,} → {layer['weight_bytes']:,}",
        "output_bits": str(layer["output_bits"]),
        "output": f"{layer['output_bytes_before']:,} → {layer['output_bytes']:,}",
    }


def _saved(layers: Sequence[Mapping[str, Any]], key: str) -> str:
    before = sum(layer[f"{key}_before"] or 0 for layer in layers)
    after = sum(layer[key] or 0 for layer in layers)
    return f"{before:,} → {after:,} bytes ({100 * after / before:.0f} %)" if before else "none"


def _picks(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for point in found.get("tried") or []:
        for name in point["picks"]:
            rows.append(
                {
                    "name": name,
                    "trained": name == found.get("pick"),
                    "weights": numbers.size(point["weight_bytes"]),
                    "flash": numbers.size(point["flash"]),
                    "ram": numbers.size(point["ram"]),
                    "harm": f"{point['harm']:.3f}",
                    "bits": " ".join(map(str, point["bits"])),
                }
            )
    order = ("quality", "balanced", "compact")
    return sorted(rows, key=lambda row: order.index(row["name"]))


def _plot(found: Mapping[str, Any]) -> dict[str, Any]:
    """Dots by flash and harm, with ticks and the budget's line."""
    tried = found["tried"]
    budget = (found.get("budget") or {}).get("flash")
    sizes = [point["flash"] for point in tried]
    shown = [*sizes, budget] if budget is not None and budget < 1.5 * max(sizes) else sizes
    low, high = min(shown), max(shown)
    room = 0.05 * (high - low) or 0.05 * high
    low, high = low - room, high + room
    harms = [math.log10(max(point["harm"], _LEAST_HARM)) for point in tried]
    least, most = math.floor(min(harms)), max(math.ceil(max(harms)), math.floor(min(harms)) + 1)
    box = Box((low, high), (least, most))
    dots = []
    for point, harm in zip(tried, harms, strict=True):
        names = ", ".join(point["picks"])
        state = "pick" if names else "fits" if point["fits"] else "over"
        bits = " ".join(map(str, point["bits"]))
        title = f"{point['flash']:,} bytes of flash, harm {point['harm']:.3f}, weights {bits}"
        dots.append(Dot(box.across(point["flash"]), box.up(harm), names, state, title))
    return {
        "dots": dots,
        "x_ticks": [(box.across(tick), f"{tick / 1000:g}") for tick in ticks(low, high, 5)],
        "y_ticks": [(box.up(tick), f"{10.0**tick:g}") for tick in range(least, most + 1)],
        "budget": box.across(budget) if budget is not None and budget in shown else None,
        "summary": f"{len(tried)} allocations by flash and harm before training; "
        + "; ".join(f"{dot.label}: {dot.title}" for dot in dots if dot.label),
    }
