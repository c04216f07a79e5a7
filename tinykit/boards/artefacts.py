"""What `compile` leaves behind beside the image: C files, report.json, layers.csv, arena.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinykit import atomic
from tinykit.boards.pipeline import Compiled, engine_sources, layer_table
from tinykit.engine.memory import Samples, random_samples
from tinykit.export.arena import plan_json
from tinykit.export.tables import shape_text
from tinykit.graph.plan.hints import advice

LAYER_COLUMNS = (
    "name", "kind", "kernel", "input_shape", "output_shape", "macs", "instructions", "instructions_per_mac", "cycles", "ram", "flash",
)  # fmt: skip


def write_artefacts(compiled: Compiled, out: Path, report: Mapping[str, Any], samples: Samples | None = None) -> None:
    """Writes everything but the image; report.json last, so that it is there only when all else is.

    Args:
        samples: the first of them is the self-test vector; default: the random one that verification began with.
    """
    graph = compiled.engine.graph
    sources = engine_sources(compiled.engine, samples if samples is not None else random_samples(graph, 1))
    (out / "engine").mkdir(parents=True, exist_ok=True)
    for name, text in sources.items():
        atomic.write_text(out / "engine" / name, text)
    atomic.write_text(out / "layers.csv", layers_text(layer_table(compiled)))
    atomic.write_json(out / "arena.json", plan_json(compiled.engine.plan, advice(compiled.engine.problem, compiled.engine.plan)))
    atomic.write_json(out / "report.json", dict(report))


def layers_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """layers.csv of a compiled network."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LAYER_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in LAYER_COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return shape_text(value) if isinstance(value, tuple) else str(value)
