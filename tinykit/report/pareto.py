"""Accuracy against a cost: which points none other beats, and the plot of them, in user units of a box for the template and for a PNG."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from tinykit.dominance import undominated
from tinykit.report.curves import Box, ticks

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 468, 14, 258
_LETTER, _HIGH, _BESIDE = 5, 12, 8  # of a label: width of a letter, height, distance from its dot
_LOGARITHMIC = 4.0  # the largest cost to the least from which on the axis is logarithmic
_SCALE = 3  # pixels of the PNG to a unit
_INK, _SOFT, _LINE, _FRONT, _OTHER = "#1a1f27", "#57606c", "#dde1e7", "#e08a2e", "#4677b0"


@dataclass(frozen=True)
class Point:
    """Attributes: name; cost: less is better; score: more is better; fits: keeps its budget, as far as it has one."""

    name: str
    cost: float
    score: float
    fits: bool = True


@dataclass(frozen=True)
class Dot:
    """Attributes: x, y: place; label, at the height `label_y`, of all points at this place; best: on the front; fits: one of them keeps its
    budget; right: the label stands to the right of it; title: for a pointer."""

    x: float
    y: float
    label: str
    label_y: float
    best: bool
    fits: bool
    right: bool
    title: str


@dataclass(frozen=True)
class Plot:
    """Attributes: title; dots; front: corners of the front's steps; x_ticks, y_ticks: (position, label); x_name, y_name; summary."""

    title: str
    dots: tuple[Dot, ...]
    front: tuple[tuple[float, float], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_name: str
    y_name: str
    summary: str


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats, by rising cost: none costs less and scores as much, or costs as much and scores more.

    Equals are all kept.
    """
    best = [points[index] for index in undominated([(-point.cost, point.score) for point in points])]
    return sorted(best, key=lambda point: (point.cost, point.name))


def plot(title: str, x_name: str, y_name: str, points: Sequence[Point]) -> Plot | None:
    """The geometry; None without points. Scores and costs are shown as they are given, costs of several magnitudes by their logarithms."""
    if not points:
        return None
    least, most = (bound(point.cost for point in points) for bound in (min, max))
    logarithmic = 0 < least < most / _LOGARITHMIC
    scale: Callable[[float], float] = math.log10 if logarithmic else float
    box = Box(_range([scale(point.cost) for point in points]), _range([point.score for point in points]), (LEFT, RIGHT, TOP, BOTTOM))
    best = front(points)
    places: dict[tuple[float, float], list[Point]] = {}
    for point in points:
        places.setdefault((box.across(scale(point.cost)), box.up(point.score)), []).append(point)
    dots: list[Dot] = []
    for (x, y), here in sorted(places.items(), key=lambda item: item[0][1]):
        said = f"{_names(here)}: {x_name} {here[0].cost:g}, {y_name} {here[0].score:g}"
        right, fits = x < (LEFT + RIGHT) / 2, any(point.fits for point in here)
        dots.append(Dot(x, y, _names(here), _free(dots, x, y, _names(here), right), here[0] in best, fits, right, said))
    corners: list[tuple[float, float]] = []
    for x, y in dict.fromkeys((box.across(scale(point.cost)), box.up(point.score)) for point in best):
        corners += [(x, corners[-1][1])] if corners else []
        corners.append((x, y))
    return Plot(
        title,
        tuple(dots),
        tuple(corners),
        tuple((box.across(scale(tick)), f"{tick:g}") for tick in (_powers(*box.x) if logarithmic else ticks(*box.x))),
        tuple((box.up(tick), f"{tick:g}") for tick in ticks(*box.y)),
        f"{x_name} (logarithmic)" if logarithmic else x_name,
        y_name,
        f"{title}; on the front: {_names(best)}; " + "; ".join(dot.title for dot in dots),
    )


def _names(points: Sequence[Point]) -> str:
    return ", ".join(point.name for point in points)


def _free(dots: Sequence[Dot], x: float, y: float, label: str, right: bool) -> float:
    """The height of a dot's label, below those that it would stand on."""
    left, end = _span(x, label, right)
    height = y - 6
    for other in sorted(dots, key=lambda dot: dot.label_y):
        start, stop = _span(other.x, other.label, other.right)
        if left < stop and start < end and abs(height - other.label_y) < _HIGH:
            height = other.label_y + _HIGH
    return height


def _span(x: float, label: str, right: bool) -> tuple[float, float]:
    """From where to where a label reaches, about."""
    wide = _LETTER * len(label)
    return (x + _BESIDE, x + _BESIDE + wide) if right else (x - _BESIDE - wide, x - _BESIDE)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """What an axis shows: the values with room on both sides."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return low - room, high + room


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten whose decimal logarithms are from `low` to `high`."""
    found = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)]
    return [value for value in found if low <= math.log10(value) <= high]


def png(shown: Plot, note: str) -> bytes:
    """The plot as a PNG of 1440 x 1068 pixels.

    Args:
        note: lines under the title, such as where the figures come from.
    """
    head = 56
    image = Image.new("RGB", (WIDTH * _SCALE, (HEIGHT + head) * _SCALE), "white")
    pen = ImageDraw.Draw(image)
    small, large = ImageFont.load_default(9 * _SCALE), ImageFont.load_default(13 * _SCALE)

    def at(x: float, y: float) -> tuple[float, float]:
        return x * _SCALE, (y + head) * _SCALE

    pen.text((LEFT * _SCALE, 6 * _SCALE), shown.title, _INK, large)
    pen.multiline_text((LEFT * _SCALE, 24 * _SCALE), note, _SOFT, small)
    for y, label in shown.y_ticks:
        pen.line([at(LEFT, y), at(RIGHT, y)], _LINE, _SCALE)
        pen.text(at(LEFT - 6, y), label, _SOFT, small, anchor="rm")
    for x, label in shown.x_ticks:
        pen.line([at(x, BOTTOM), at(x, BOTTOM + 4)], _SOFT, _SCALE)
        pen.text(at(x, BOTTOM + 8), label, _SOFT, small, anchor="mt")
    pen.text(at((LEFT + RIGHT) / 2, HEIGHT - 6), shown.x_name, _INK, small, anchor="mb")
    pen.text(at(LEFT, TOP - 2), shown.y_name, _INK, small, anchor="lb")
    if len(shown.front) > 1:
        pen.line([at(x, y) for x, y in shown.front], _FRONT, 2 * _SCALE, joint="curve")
    for dot in shown.dots:
        x, y = at(dot.x, dot.y)
        radius = 4.5 * _SCALE
        colour = _FRONT if dot.best else _OTHER
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], colour if dot.fits else "white", colour, 2 * _SCALE)
        pen.text(at(dot.x + (_BESIDE if dot.right else -_BESIDE), dot.label_y), dot.label, _INK, small, anchor="lm" if dot.right else "rm")
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()
