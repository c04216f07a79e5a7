"""Writes report.html: one file, no script, nothing fetched, readable on a phone, in the dark and on paper."""

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

import tinykit
from tinykit import atomic
from tinykit.export.resolver import resolver_methods, resolver_snippet
from tinykit.report import allocation, curves, effort, figures, images, memory, numbers, sections, verdict
from tinykit.report.data import ReportData


def write_report(path: Path, summary: ReportData) -> None:
    """Writes `summary` as a self-contained HTML page to `path`; the file appears complete or not at all.

    Raises:
        ModelError: an entry of `summary.ops` is no method of TFLM's resolver.
        OSError: `path` cannot be written.
    """
    atomic.write_text(path, render_report(summary))


def render_report(summary: ReportData) -> str:
    """The text of report.html. What is missing in `summary` is left out or called 'not measured', never 0.

    Raises:
        ModelError: an entry of `summary.ops` is no method of TFLM's resolver.
    """
    return environment().get_template("report.html.jinja").render(_context(summary))


def environment() -> jinja2.Environment:
    """Templates come from the package, also where it is installed as a wheel; every value is escaped."""
    folder = resources.files("tinykit.report").joinpath("templates")
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(data: ReportData) -> dict[str, Any]:
    """Every value that the templates name."""
    judged, labels, timeline = verdict.judge(data), figures.sources(data), memory.memory_view(data.memory)
    return {
        "version": tinykit.__version__,
        "report": data,
        "synthetic": bool(data.data.get("synthetic")),
        "verdict": judged,
        "tiles": figures.tiles(data, judged.usages),
        "board_note": figures.board_note(data),
        "figures": figures.figure_rows(data),
        "ledger": _ledger(data),
        "accuracy": sections.accuracy_rows(data),
        "partial": sections.partial_samples(data),
        "change": sections.accuracy_change(data),
        "disagreement": sections.disagreement_text(data),
        "machines": sections.machine_rows(data),
        "confusion": sections.confusion_view(data),
        "examples": images.example_views(data.examples),
        "bars": sections.layer_bars(data.layers),
        "layers": sections.layer_rows(data.layers),
        "allocation": allocation.allocation_view(data.allocation),
        "plan": memory.plan_view(data),
        "memory": timeline,
        "arenas": memory.arena_rows(data, None if timeline is None else timeline["peak"]),
        "split": memory.memory_split(data, labels),
        "effort": effort.effort_view(data, labels),
        "parity": sections.parity_rows(data),
        "curves": [(step, curves.panels(rows)) for step, rows in data.curves.items() if rows and curves.panels(rows)],
        "box": curves,
        "ops": resolver_methods(data.ops),
        "snippet": resolver_snippet(data.ops),
        "simplifier": sections.simplifier_text(data.simplifier),
        "environment": sections.flat(data.env),
        "n": numbers,
    }


def _ledger(data: ReportData) -> list[dict[str, Any]]:
    """The ledger's rows as text; `state` is 'good', 'bad' or ''."""
    metric = data.metric("accuracy.metric")
    rows = []
    for number, row in enumerate(data.ledger, 1):
        word = row.get("verdict") or "–"
        rows.append(
            {
                "step": f"{number} {row.get('step', '')}",
                "accuracy": numbers.score(row.get("accuracy"), metric),
                "tflite": numbers.size(row.get("tflite_bytes")),
                "ram": numbers.size(row.get("ram_bytes")),
                "macs": numbers.macs(row.get("macs")),
                "seconds": numbers.seconds(row.get("seconds")),
                "verdict": word,
                "state": "good" if word == "fits" else "" if word in {"–", "-"} else "bad",
            }
        )
    return rows
