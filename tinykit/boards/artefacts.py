"""What `compile` leaves behind beside the image: C files, report.json, layers.csv, arena.json."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tinykit import atomic
from tinykit.boards.pipeline import Compiled, engine_sources, layer_table
from tinykit.boards.storage import STORAGE_COLUMNS
from tinykit.engine.generate import Engine
from tinykit.errors import ConfigError
from tinykit.export.arena import plan_json
from tinykit.export.tables import layers_csv
from tinykit.graph.plan.hints import advice
from tinykit.locking import hold

LAYER_COLUMNS = (
    "name", "kind", "kernel", "input_shape", "output_shape", "macs", "instructions", "instructions_per_mac", "cycles", "ram", "flash",
    *STORAGE_COLUMNS,
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
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            handle = os.open(out, os.O_RDONLY) if os.name != "nt" else None  # Windows opens no folders
            if handle is not None and not hold(handle):
                raise ConfigError(f"{out}: in use by another run; wait for it, or choose another folder")
            for left in out.glob(f"{atomic.PREFIX}[0-9]*-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            (out / "report.json").unlink(missing_ok=True)
        except OSError as problem:
            raise ConfigError(f"{out}: expected a folder that can be written to: {problem.strerror or problem}") from None
        yield
    finally:
        if handle is not None:
            os.close(handle)
        for folder in made:  # of what came to nothing not even the folder stays
            with suppress(OSError):
                folder.rmdir()


def write_artefacts(compiled: Compiled, out: Path, report: Mapping[str, Any]) -> None:
    """Writes everything but the image; report.json last, so that it is there only when all else is."""
    write_engine(compiled, out / "engine")
    atomic.write_text(out / "layers.csv", layers_text(layer_table(compiled)))
    atomic.write_json(out / "arena.json", planned_arena(compiled.engine))
    atomic.write_json(out / "report.json", dict(report))


def write_engine(compiled: Compiled, folder: Path) -> None:
    """The C files; their self-test vector is that of the image."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in engine_sources(compiled.engine, compiled.vector).items():
        atomic.write_text(folder / name, text)


def planned_arena(engine: Engine) -> dict[str, Any]:
    """The engine's arena for arena.json: what lies where, and what would lower it."""
    return plan_json(engine.plan, advice(engine.problem, engine.plan))


def layers_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """layers.csv of a compiled network."""
    return layers_csv(rows, LAYER_COLUMNS)
