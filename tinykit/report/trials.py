"""The trials of a search: a table for programs, and a page that shows which of them nothing else beats."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import tinykit
from tinykit.report import curves, numbers
from tinykit.report.allocation import Dot
from tinykit.report.curves import Box, span, ticks
from tinykit.report.report import environment

Row = Mapping[str, Any]
"""trial, key, searcher, status, pareto, winner, accuracy, flash, ram, instructions, cycles, violations; of a search for architectures
counted_*, of a tuner macs and values, as text."""
_PANELS = (("flash", "flash, kB", 1e-3), ("ram", "RAM, kB", 1e-3), ("cycles", "cycles, millions", 1e-6))


def pareto_csv(rows: Sequence[Row]) -> str:
    """The trials that nothing beats first, then all others; see `table_csv`."""
    return table_csv(sorted(rows, key=lambda row: (not row["pareto"], row["trial"])))


def table_csv(rows: Sequence[Row]) -> str:
    """A heading and one line a row, empty where a value is not known."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def pareto_page(
    rows: Sequence[Row], limits: Mapping[str, int | None], title: str, board: str, quicktest: bool, synthetic: bool = False
) -> str:
    """A self-contained page: accuracy on val over flash, RAM and cycles of the trials that were trained, and a table of all.

    Args:
        limits: flash and ram of the budget in bytes, cycles where they are limited; None for no limit.
        synthetic: the data were generated, and accuracies say nothing.
    """
    shown = [row for row in rows if row["accuracy"] is not None]
    panels = [panel for key, label, unit in _PANELS if (panel := _panel(shown, key, label, unit, limits.get(key)))]
    table = [
        {
            **row,
            "accuracy": numbers.score(row["accuracy"], "top1"),
            "flash": numbers.size(row["flash"]),
            "ram": numbers.size(row["ram"]),
            "cycles": numbers.macs(row["cycles"]),
            "macs": numbers.macs(row["counted_macs"] if "counted_macs" in row else row["macs"]),
        }
        for row in sorted(rows, key=lambda row: (not row["pareto"], -(row["accuracy"] or 0.0), row["trial"]))
    ]
    values = {"title": title, "board": board, "quicktest": quicktest, "synthetic": synthetic, "panels": panels, "rows": table}
    values["tuned"] = any("values" in row for row in rows)
    page = environment().get_template("pareto.html.jinja")
    return page.render(version=tinykit.__version__, infeasible=len(rows) - len(shown), box=curves, **values)


def _panel(rows: Sequence[Row], key: str, label: str, unit: float, limit: int | None) -> dict[str, Any] | None:
    """Accuracy over one cost as geometry; None where it is not known."""
    rows = [row for row in rows if row[key] is not None]
    if not rows:
        return None
    costs = [row[key] * unit for row in rows]
    bound = None if limit is None or limit * unit > 1.5 * max(costs) else limit * unit
    box = Box(span([*costs, *([bound] if bound is not None else [])]), span([100 * row["accuracy"] for row in rows]))
    dots = [
        Dot(
            box.across(row[key] * unit), box.up(100 * row["accuracy"]), "winner" if row["winner"] else "",
            "pick" if row["winner"] else "fits" if row["pareto"] else "over",
            f"{row['key']}: {100 * row['accuracy']:.2f} %, {row[key] * unit:.4g} {label}",
        )
        for row in rows
    ]  # fmt: skip
    return {
        "label": label,
        "dots": sorted(dots, key=lambda dot: dot.state == "pick"),
        "budget": None if bound is None else box.across(bound),
        "x_ticks": [(box.across(tick), f"{tick:g}") for tick in ticks(*box.x)],
        "y_ticks": [(box.up(tick), f"{tick:g}") for tick in ticks(*box.y)],
        "summary": f"Accuracy on val over {label} of {len(rows)} trials",
    }
