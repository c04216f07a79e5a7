"""What the run directory of a search holds, whoever searched, and what is taken from the run in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRIALS = "trials.jsonl"
"""In its folder `search`."""
WINNER = "winner.yaml"
RESULT = "search.json"
RUN = "run"
"""The ordinary run of the winner."""


def board_figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """flash, ram, instructions and cycles of a run's engine, from the content of its metrics.json; None where nothing was linked or run."""
    totals = {kind: metrics[kind]["total"] for kind in ("flash", "ram")}
    return {**totals, **{kind: metrics[kind] for kind in ("instructions", "cycles")}}


def of_run(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What search.json says of the winner's run."""
    return {key: metrics[key] for key in ("accuracy", "parity", "budget_met", "board")}
