"""The figures of metrics.json that are known, each with its label, and the tiles at the top of the report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinykit.report import numbers
from tinykit.report.data import ReportData
from tinykit.report.effort import whole_per_mac
from tinykit.report.memory import PLANNED, part_sizes, tflm_text
from tinykit.report.sections import accuracy_change, emulated, integer_samples
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
    ("cycles", "Cycles of one inference", numbers.count, "estimated(cycle model, instructions emulated({board}))"),
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
        parts: a second line: what it is made of.
    """

    name: str
    value: str
    detail: str
    source: str
    state: str = ""
    share: float | None = None
    parts: str = ""


def figure_rows(data: ReportData) -> list[tuple[str, str, str]]:
    """(name, value, source) of every figure that is known."""
    labels = sources(data)
    return [(name, shown(data.metric(key)), labels[key]) for key, name, shown, _ in _FIGURES if data.metric(key) is not None]


def sources(data: ReportData) -> dict[str, str]:
    """Where each figure of metrics.json comes from, by key."""
    board = data.metric("board") or data.budget.get("board") or "board"
    return {key: data.sources.get(key, source.format(board=board)) for key, _, _, source in _FIGURES}


def board_note(data: ReportData) -> str:
    """That no physical board was used, where no label says otherwise."""
    if any(label.startswith("measured(") and not label.startswith("measured(host)") for label in data.sources.values()):
        return ""
    if any(data.metric(key) is not None for key in ("ram.total", "instructions")):
        board = data.metric("board") or "the board"
        return f"No physical board was used: the program linked for {board} ran in an emulator."
    return "No physical board was used, and no program was run for one."


def tiles(data: ReportData, usages: tuple[Usage, ...]) -> list[Tile]:
    """The tiles at the top: accuracy, flash, RAM, arena, multiply-accumulates, instructions, cycles, parity."""
    found = [*_score_tile(data), *(_usage_tile(data, usage) for usage in usages if usage.used is not None or usage.limit is not None)]
    if data.plan.get("bytes") is not None:
        found.append(Tile("Arena of the engine", numbers.size(data.plan["bytes"]), tflm_text(data), data.plan.get("source") or PLANNED))
    labels = sources(data)
    if data.metric("macs") is not None:
        found.append(Tile("Multiply-accumulates", numbers.macs(data.metric("macs")), "one inference", labels["macs"]))
    ratio = whole_per_mac(data)
    for key, detail in (("instructions", f"{ratio} per multiply-accumulate" if ratio else "one inference"), ("cycles", "one inference")):
        value = data.metric(key)
        if value is not None:
            found.append(Tile(key.capitalize(), numbers.macs(value), detail, labels[key]))
    return [*found, _parity_tile(data)]


def _score_tile(data: ReportData) -> list[Tile]:
    """The accuracy of the integer model, else of the float model; empty where neither is known."""
    metric, integer = data.metric("accuracy.metric"), data.metric("accuracy.integer")
    score, which = (integer, "integer model") if integer is not None else (data.metric("accuracy.float"), "float model")
    if score is None:
        return []
    samples = integer_samples(data) if integer is not None else data.metric("data.test_samples")
    on = f"{which}, {samples:,} test samples" if samples else which
    change = accuracy_change(data)
    detail = f"{on}; {change}" if change else on
    return [Tile("Area under curve" if metric == "auc" else "Accuracy", numbers.score(score, metric), detail, _HOST)]


def _usage_tile(data: ReportData, usage: Usage) -> Tile:
    """Flash or RAM against its limit."""
    state = {True: "good", False: "bad", None: ""}[usage.fits]
    margin = f", {usage.margin}" if usage.margin else ""
    limit = "no limit given" if usage.limit is None else f"of {numbers.size(usage.limit)}{margin}"
    parts = ", ".join(f"{name} {numbers.size(size)}" for name, size in part_sizes(data, usage.name.lower())) if usage.whole else ""
    return Tile(usage.name, numbers.size(usage.used), limit, usage.source, state, usage.share, parts)


def _parity_tile(data: ReportData) -> Tile:
    """Whether every comparison that was made found every element equal."""
    made = [entry for entry in data.parity if entry.get("mismatches") is not None]
    if not made:
        return Tile("Parity", numbers.NOT_MEASURED, "", "no comparison was made")
    wrong = sum(entry["mismatches"] for entry in made)
    elements = sum(entry.get("elements") or 0 for entry in made)
    plural = "comparison" if len(made) == 1 else "comparisons"
    value = "bit-exact" if wrong == 0 else f"{wrong:,} differ"
    board = data.metric("board") or data.budget.get("board") or "board"
    source = f"{_HOST}, emulated({board})" if any(emulated(entry) for entry in made) else _HOST
    return Tile("Parity", value, f"{elements:,} elements in {len(made)} {plural}", source, "good" if wrong == 0 else "bad")
