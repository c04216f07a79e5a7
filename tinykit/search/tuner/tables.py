"""pareto.csv and pareto.html of a tuning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinykit import atomic
from tinykit.boards.table import emulated_board
from tinykit.config.loading import ResolvedConfig
from tinykit.config.tune import TuneConfig
from tinykit.recipe.budget import resolve_budget
from tinykit.report.trials import pareto_csv, pareto_page
from tinykit.search.trials import Trial, pareto
from tinykit.search.tuner.attempt import limits_of, shown


def table(rows: Sequence[Trial], winner: Trial | None) -> list[dict[str, Any]]:
    """One mapping a trial, all with the same keys; None where something is not known."""
    best = {row.key for row in pareto(rows)}
    return [
        {
            "trial": row.number, "key": row.key, "searcher": row.searcher, "status": row.status, "pareto": row.key in best,
            "winner": winner is not None and row.key == winner.key, "accuracy": row.accuracy,
            **{kind: row.figures.get(kind) for kind in ("macs", "flash", "ram", "instructions", "cycles")},
            "epochs": row.stage["epochs"] if row.stage else None, "values": shown(row.values), "violations": "; ".join(row.violations),
        }
        for row in sorted(rows, key=lambda row: row.number or 0)
    ]  # fmt: skip


def write_tables(
    folder: Path, config: ResolvedConfig, tune: TuneConfig, rows: Sequence[Trial], winner: Trial | None, quicktest: bool
) -> None:
    """Writes both files: every trial, those that nothing beats in accuracy, flash, RAM and cycles first."""
    shown_rows = table(rows, winner)
    atomic.write_text(folder / "pareto.csv", pareto_csv(shown_rows))
    limits = limits_of(resolve_budget(config), tune.limits)
    board = emulated_board(config.config.budget.board).name
    page = pareto_page(shown_rows, {kind: limits.get(kind) for kind in ("flash", "ram", "cycles")}, config.name, board, quicktest)
    atomic.write_text(folder / "pareto.html", page)
