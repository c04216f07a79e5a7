"""The figures of metrics.json that are known, each with its label, and the tiles at the top of the report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinykit.report import numbers
from tinykit.report.data import ReportData
from tinykit.report.sections import accuracy_change, integer_samples
from tinykit.report.verdict import Usage

_HOST, _GRAPH = "measured(host)", "counted(graph)"
_LINKED = "measured(host): linked program"

# key of metrics.json, what it is, its unit, where it comes from ({board}: the board's name)
_FIGURES: tuple[tuple[str, str, Callable[[Any], str], str], ...] = (
    ("tflite_bytes", "Size of the .tflite", numbers.size, _HOST),
    ("flash.total", "Flash", numbers.size, _LINKED),
    ("flash.weights", "Flash: weights", numbers.size, _LINKED),
    ("flash.code", "Flash: code", numbers.size, _LINKED),
    ("ram.total", "RAM", numbers.size, "emulated({board})"),
    ("ram.arena", "RAM: arena", numbers.size, _LINKED),
    ("ram.static", "RAM: static", numbers.size, _LINKED),
    ("ram.stack", "RAM: stack", numbers.size, "emulated({board})"),
    ("macs", "Multiply-accumulates", numbers.count, _GRAPH),
    ("instructions", "Instructions of one inference", numbers.count, "emulated({board})"),
    ("cycles", "Cycles of one inference", numbers.count, "estimated(cycle model of {board})"),
    ("seconds.total", "Time of the whole run", numbers.seconds, _HOST),
)


@dataclass(frozen=True)
class Tile:
    """One key figure.

    Attributes:
        name, value: as text.
        detail: a line under the value.
        source: where it comes from.
        state: '', 'good' or 'bad'.
        share: used part of the budget, 1.0 is all of it; None where there is none.
    """

    name: str
    value: str
    detail: str
    source: str
    state: str = ""
    share: float | None = None


def figure_rows(data: ReportData) -> list[tuple[str, str, str]]:
    """(name, value, source) of every figure that is known."""
    board = data.metric("board") or data.budget.get("board") or "board"
    return [
        (name, shown(data.metric(key)), data.sources.get(key, source.format(board=board)))
        for key, name, shown, source in _FIGURES
        if data.metric(key) is not None
    ]


def tiles(data: ReportData, usages: tuple[Usage, ...]) -> list[Tile]:
    """The tiles at the top: accuracy, flash, RAM, multiply-accumulates, parity."""
    metric = data.metric("accuracy.metric")
    found = []
    integer = data.metric("accuracy.integer")
    score, which = (integer, "integer model") if integer is not None else (data.metric("accuracy.float"), "float model")
    if score is not None:
        samples = integer_samples(data) if integer is not None else data.metric("data.test_samples")
        on = f"{which}, {samples:,} test samples" if samples else which
        change = accuracy_change(data)
        detail = f"{on}; {change}" if change else on
        found.append(Tile("Area under curve" if metric == "auc" else "Accuracy", numbers.score(score, metric), detail, _HOST))
    for usage in usages:
        if usage.used is None and usage.limit is None:
            continue
        state = {True: "good", False: "bad", None: ""}[usage.fits]
        margin = f", {usage.margin}" if usage.margin else ""
        limit = "no limit given" if usage.limit is None else f"of {numbers.size(usage.limit)}{margin}"
        found.append(Tile(usage.name, numbers.size(usage.used), limit, usage.source, state, usage.share))
    macs = data.metric("macs")
    if macs is not None:
        found.append(Tile("Multiply-accumulates", numbers.macs(macs), "one inference", _GRAPH))
    return [*found, _parity_tile(data)]


def _parity_tile(data: ReportData) -> Tile:
    """Whether every comparison that was made found every element equal."""
    made = [entry for entry in data.parity if entry.get("mismatches") is not None]
    if not made:
        return Tile("Parity", numbers.NOT_MEASURED, "", "no comparison was made")
    wrong = sum(entry["mismatches"] for entry in made)
    elements = sum(entry.get("elements") or 0 for entry in made)
    plural = "comparison" if len(made) == 1 else "comparisons"
    value = "bit-exact" if wrong == 0 else f"{wrong:,} differ"
    return Tile("Parity", value, f"{elements:,} elements in {len(made)} {plural}", _HOST, "good" if wrong == 0 else "bad")
