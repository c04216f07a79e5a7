"""Several recipes beside each other: the table as text, CSV and a page, and their Pareto plots."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tinykit
from tinykit.config.sizes import format_size
from tinykit.recipe.ledger import format_accuracy, format_macs
from tinykit.report import numbers, pareto
from tinykit.report.report import environment

COSTS: dict[str, tuple[str, str, float]] = {
    "flash": ("flash, kB", "linked image", 1e3),
    "instructions": ("million instructions", "emulated", 1e6),
}
"""Cost of the plots -> (its axis, where the figures come from, what it is divided by)."""
COLUMNS = (
    *("recipe", "steps", "float", "integer", "metric", "flash", "ram", "instructions", "cycles", "macs", "tflite_bytes"),
    *("seconds", "budget_met", "fronts", "error"),
)
_HEADINGS = ("recipe", "float", "integer", "flash", "RAM", "instructions", "MACs", "seconds", "budget", "front of")


@dataclass(frozen=True)
class Comparison:
    """What became of some recipes on one configuration.

    Attributes:
        title: the configuration's name.
        command: that made it.
        board: the emulated board; None: none.
        seed: of all of them.
        quicktest: the figures are no results.
        data: `data` of metrics.json.
        rows: one a recipe: see `tinykit.recipe.comparing.rows`.
    """

    title: str
    command: str
    board: str | None
    seed: int
    quicktest: bool
    data: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()

    def points(self, cost: str) -> list[pareto.Point]:
        """The recipes whose integer network and cost are known: score in percent (AUC: as it is), cost in units of its axis."""
        return [
            pareto.Point(
                row["recipe"],
                row[cost] / COSTS[cost][2],
                row["integer"] * (1 if row["metric"] == "auc" else 100),
                row["budget_met"] is not False,
            )
            for row in self.rows
            if row["error"] is None and row[cost] is not None and row["integer"] is not None
        ]

    def fronts(self, row: Mapping[str, Any]) -> list[str]:
        """The costs on whose Pareto front a recipe is."""
        return [cost for cost in COSTS if row["recipe"] in {point.name for point in pareto.front(self.points(cost))}]

    def to_dict(self) -> dict[str, Any]:
        """The content of comparison.json."""
        return {
            "title": self.title,
            "command": self.command,
            "board": self.board,
            "seed": self.seed,
            "quicktest": self.quicktest,
            "data": dict(self.data),
            "sources": {"flash": "linked image", "ram": self.emulated, "instructions": self.emulated, "cycles": "estimated(cycle model)"},
            "recipes": [{**row, "fronts": self.fronts(row)} for row in self.rows],
        }

    @property
    def emulated(self) -> str:
        """Where the figures of a run of the image come from."""
        return f"emulated({self.board or 'board'})"


def note(shown: Comparison) -> str:
    """Where the figures come from, in a line."""
    samples = shown.data.get("test_samples")
    mark = "QUICKTEST, no results: " if shown.quicktest else "SYNTHETIC DATA: " if shown.data.get("synthetic") else ""
    on = f"{samples:,} test samples" if samples else "the test split"
    return f"{mark}integer accuracy on {on}; flash of the linked image; RAM, instructions: {shown.emulated}; seed {shown.seed}"


def _cells(shown: Comparison, row: Mapping[str, Any]) -> tuple[str, ...]:
    count = row["instructions"]
    return (
        row["recipe"],
        format_accuracy(row["float"], row["metric"] or "top1"),
        format_accuracy(row["integer"], row["metric"] or "top1"),
        format_size(row["flash"]),
        format_size(row["ram"]),
        "-" if count is None else f"{count / 1e6:.2f} M",
        format_macs(row["macs"]),
        "-" if row["seconds"] is None else f"{row['seconds']:.0f}",
        {True: "met", False: "NOT met", None: "-"}[row["budget_met"]],
        " and ".join(shown.fronts(row)) or "-",
    )


def lines(shown: Comparison) -> list[str]:
    """The table as aligned plain text, with the reasons of those that failed and where the figures come from."""
    table = [_HEADINGS, *(_cells(shown, row) for row in shown.rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEADINGS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    for index, row in enumerate(shown.rows, 1):
        if row["error"] is not None:
            text[index] = f"{row['recipe'].ljust(widths[0])}  failed: {row['error']}"
    return [*text, f"{note(shown)}; no physical board was used. Seconds are those of the recipe with what it shares."]


def csv_text(shown: Comparison) -> str:
    """comparison.csv: COLUMNS; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in shown.rows:
        values = {**row, "steps": " ".join(row["steps"]), "fronts": " ".join(shown.fronts(row))}
        writer.writerow(["" if values[column] is None else values[column] for column in COLUMNS])
    return stream.getvalue()


def _plot(shown: Comparison, cost: str) -> pareto.Plot | None:
    axis = COSTS[cost][0]
    auc = any(row["metric"] == "auc" for row in shown.rows)
    return pareto.plot(f"{shown.title}: accuracy against {cost}", axis, "integer AUC" if auc else "integer accuracy, %", shown.points(cost))


def plots(shown: Comparison) -> dict[str, bytes]:
    """Name of the file -> PNG, for each cost that is known of a recipe."""
    found = {cost: _plot(shown, cost) for cost in COSTS}
    said = note(shown).replace("; RAM", "\nRAM")
    if any(row["budget_met"] is False for row in shown.rows):
        said += "; hollow: over the budget"
    return {f"accuracy_{cost}.png": pareto.png(drawn, said) for cost, drawn in found.items() if drawn is not None}


def render(shown: Comparison) -> str:
    """The text of comparison.html."""
    rows = [
        {
            "recipe": row["recipe"],
            "steps": ", ".join(row["steps"]),
            "cells": _cells(shown, row)[1:],
            "seconds": numbers.seconds(row["seconds"]),
            "error": row["error"],
            "best": bool(shown.fronts(row)),
        }
        for row in shown.rows
    ]
    drawn = [(cost, _plot(shown, cost), COSTS[cost][1]) for cost in COSTS]
    return environment().get_template("comparison.html.jinja").render(
        version=tinykit.__version__,
        shown=shown,
        note=note(shown),
        headings=_HEADINGS,
        rows=rows,
        plots=[(cost, plot, source) for cost, plot, source in drawn if plot is not None],
        box=pareto,
    )  # fmt: skip
