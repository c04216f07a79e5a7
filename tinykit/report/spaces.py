"""The spaces that a two-stage search chose from: how much the networks that fit compute in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tinykit
from tinykit.report import curves, numbers
from tinykit.report.curves import Box, span, ticks
from tinykit.report.report import environment

Row = Mapping[str, Any]
"""space, resolution, width, choices, draws, fit, mean_macs, p80_macs, chosen."""


@dataclass(frozen=True)
class Steps:
    """A distribution as a curve. Attributes: title: for a pointer; points: (x, y); chosen: of the space that is searched."""

    title: str
    points: tuple[tuple[float, float], ...]
    chosen: bool


def spaces_page(rows: Sequence[Row], macs: Mapping[str, Sequence[int]], title: str, board: str, quicktest: bool) -> str:
    """A self-contained page: the distribution of multiply-accumulates among each space's networks that fit, and a table of the spaces.

    Args:
        rows: the best space first.
        macs: space -> multiply-accumulates of its networks that fit, ascending.
    """
    shown = [row for row in rows if macs.get(row["space"])]
    plot = _plot(shown, macs) if shown else None
    table = [{**row, "mean": numbers.macs(row["mean_macs"]), "p80": numbers.macs(row["p80_macs"])} for row in rows]
    values = {"title": title, "board": board, "quicktest": quicktest, "plot": plot, "rows": table, "box": curves}
    return environment().get_template("spaces.html.jinja").render(version=tinykit.__version__, **values)


def _plot(rows: Sequence[Row], macs: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    box = Box(span([value / 1e6 for row in rows for value in macs[row["space"]]]), (0.0, 100.0))
    lines = []
    for row in rows:
        values = macs[row["space"]]
        points = [(box.across(values[0] / 1e6), box.up(0.0))]
        for number, value in enumerate(values):
            across = box.across(value / 1e6)
            points += [(across, box.up(100 * number / len(values))), (across, box.up(100 * (number + 1) / len(values)))]
        lines.append(Steps(f"{row['space']}: {row['fit']} of {row['draws']} fit", tuple(points), bool(row["chosen"])))
    return {
        "lines": sorted(lines, key=lambda line: line.chosen),
        "x_ticks": [(box.across(tick), f"{tick:g}") for tick in ticks(*box.x)],
        "y_ticks": [(box.up(tick), f"{tick:g}") for tick in ticks(*box.y)],
        "summary": f"Share of networks over their multiply-accumulates, {len(rows)} spaces",
    }
