"""What `compile` leaves behind beside the image: C files, report.json, layers.csv, arena.json."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinykit import atomic
from tinykit.boards.pipeline import Compiled, engine_sources, layer_table
from tinykit.engine.memory import Samples, random_samples
from tinykit.errors import ConfigError
from tinykit.export.arena import plan_json
from tinykit.export.tables import shape_text
from tinykit.graph.plan.hints import advice

try:
    import fcntl
except ImportError:  # not on Windows: no lock there
    fcntl = None  # type: ignore[assignment]

LAYER_COLUMNS = (
    "name", "kind", "kernel", "input_shape", "output_shape", "macs", "instructions", "instructions_per_mac", "cycles", "ram", "flash",
)  # fmt: skip


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Makes the folder `out` this run's: no other may use it meanwhile, and what an earlier one left unfinished is gone.

    So is its report.json, whose presence says that everything beside it belongs together. It is the folder itself that is locked, so
    nothing is left in it.

    Raises:
        ConfigError: it cannot be made, or another run is using it.
    """
    handle = None
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            handle = os.open(out, os.O_RDONLY) if fcntl is not None else None
            _lock(handle, out)
            for left in out.glob(f"{atomic.PREFIX}[0-9]*-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            (out / "report.json").unlink(missing_ok=True)
        except OSError as problem:
            raise ConfigError(f"{out}: expected a folder that can be written to: {problem.strerror or problem}") from None
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _lock(handle: int | None, out: Path) -> None:
    if handle is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{out}: in use by another run; wait for it, or choose another folder") from None
    except OSError:
        return  # a file system without locks: go on without one


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
