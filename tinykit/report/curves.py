"""Geometry of the training curves: an SVG panel a quantity, in user units of a 320 x 180 box. The template draws them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 320, 180
LEFT, RIGHT, TOP, BOTTOM = 44, 312, 10, 152
_GROUPS = (("Loss", ("loss",)), ("Accuracy", ("accuracy", "auc", "top1")))


@dataclass(frozen=True)
class Line:
    """Attributes: name; points: pieces (a gap where a value is missing) of (x, y); last: the last value, as text."""

    name: str
    points: tuple[tuple[tuple[float, float], ...], ...]
    last: str


@dataclass(frozen=True)
class Panel:
    """Attributes: title; lines; x_ticks, y_ticks: (position, label); summary: a sentence for who cannot see it."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    summary: str


@dataclass(frozen=True)
class Box:
    """What a plot shows, and where it stands in the drawing: left, right, top, bottom in user units.

    Attributes: x, y: (least, largest) value; place: (left, right, top, bottom).
    """

    x: tuple[float, float]
    y: tuple[float, float]
    place: tuple[int, int, int, int] = (LEFT, RIGHT, TOP, BOTTOM)

    def across(self, value: float) -> float:
        """The place of a value of the horizontal axis."""
        left, right, _, _ = self.place
        return round(left + (right - left) * (value - self.x[0]) / (self.x[1] - self.x[0]), 1)

    def up(self, value: float) -> float:
        """The place of a value of the vertical axis."""
        _, _, top, bottom = self.place
        return round(bottom - (bottom - top) * (value - self.y[0]) / (self.y[1] - self.y[0]), 1)


def span(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values span; never empty."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    return low - room, high + room


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`, about `count` of them; finite, low < high."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """A panel for the losses and one for the accuracies of one step; empty where there are none."""
    found = []
    for title, endings in _GROUPS:
        keys = list(dict.fromkeys(key for row in rows for key in row if str(key).endswith(endings) and _finite(row[key])))
        if keys:
            found.append(_panel(title, keys, rows))
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _panel(title: str, keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Panel:
    epochs = [float(row["epoch"]) if _finite(row.get("epoch")) else float(index + 1) for index, row in enumerate(rows)]
    values = [float(row[key]) for key in keys for row in rows if _finite(row.get(key))]
    ends = (epochs[0], epochs[-1]) if epochs[-1] > epochs[0] else (epochs[0] - 0.5, epochs[0] + 0.5)
    box = Box(ends, span(values))
    lines = []
    for key in keys:
        pieces: list[list[tuple[float, float]]] = [[]]
        for epoch, row in zip(epochs, rows, strict=True):
            if _finite(row.get(key)):
                pieces[-1].append((box.across(epoch), box.up(float(row[key]))))
            elif pieces[-1]:
                pieces.append([])
        final = next(float(row[key]) for row in reversed(rows) if _finite(row.get(key)))
        lines.append(Line(_spoken(key), tuple(tuple(piece) for piece in pieces if piece), f"{final:.4g}"))
    x_marks = [tick for tick in ticks(*ends, 5) if tick == int(tick)]
    summary = f"{title} over {len(rows)} epochs; last: " + ", ".join(f"{line.name} {line.last}" for line in lines)
    return Panel(
        title,
        tuple(lines),
        tuple((box.across(tick), f"{tick:g}") for tick in x_marks),
        tuple((box.up(tick), f"{tick:g}") for tick in ticks(*box.y)),
        summary,
    )


def _spoken(key: str) -> str:
    return "validation" if key.startswith("val_") else "training" if key in {"loss", "accuracy"} else key.replace("_", " ")
