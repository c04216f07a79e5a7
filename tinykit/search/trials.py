"""What a search has tried: one line of JSON a trial, written before the next begins; and which trials nothing else beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tinykit.errors import ConfigError
from tinykit.search.lines import append_line, damaged, read_lines

Status = Literal["trained", "infeasible"]


@dataclass(frozen=True)
class Trial:
    """One architecture that was looked at.

    Attributes:
        key: short name of the architecture; no trial of a search has another's.
        searcher: who proposed it: 'dnas' or 'two_stage'.
        architecture: options of the family `staged`.
        status: 'trained': it fits and was judged; or 'infeasible': it cannot meet the limits and was not trained.
        violations: what it breaks, one line each.
        counted: macs, flash (weights, biases, tables) and ram (activations) as the search counts them.
        predicted: flash, ram, instructions, cycles of its untrained twin, linked and run on the emulated board; None: refused without.
        accuracy: on val, 0 to 1.
        seconds: that it took.
    """

    key: str
    searcher: str
    architecture: Mapping[str, Any]
    status: Status
    violations: tuple[str, ...]
    counted: Mapping[str, int]
    predicted: Mapping[str, Any] | None = None
    accuracy: float | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def gap(self) -> dict[str, int] | None:
        """What the linked image and its run take beyond what the search counts: flash and ram, in bytes."""
        if self.predicted is None or self.predicted.get("flash") is None:
            return None
        return {kind: self.predicted[kind] - self.counted[kind] for kind in ("flash", "ram")}


class Trials:
    """The trials of one search, in a file that loses none: a line is on the disk before the next trial begins.

    Raises:
        ConfigError: the file is not one of trials. A last line that a kill cut off is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Trial] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        for place, values in read_lines(self.path, "trial"):
            try:
                self.rows.append(Trial(**{**values, "violations": tuple(values["violations"])}))
            except (ValueError, TypeError, KeyError) as error:
                raise damaged(place, "trial", error) from None

    def find(self, key: str) -> Trial | None:
        """The trial of an architecture, None where it was not tried."""
        return next((row for row in self.rows if row.key == key), None)

    def add(self, trial: Trial) -> None:
        """Appends a trial and waits until it is on the disk. Raises ConfigError for an architecture that has been tried."""
        if self.find(trial.key) is not None:
            raise ConfigError(f"{self.path}: architecture {trial.key} is there already")
        append_line(self.path, asdict(trial))
        self.rows.append(trial)

    def trained(self) -> list[Trial]:
        """Trials that fit and have an accuracy, the best first; of equals the quicker one."""
        rows = [row for row in self.rows if row.status == "trained" and row.accuracy is not None]
        return sorted(rows, key=lambda row: (-(row.accuracy or 0.0), (row.predicted or {}).get("cycles") or 0, row.key))


AXES = ("flash", "ram", "cycles")
"""What costs something, beside accuracy, in a comparison of trials."""


def pareto(rows: Sequence[Trial]) -> list[Trial]:
    """The trained trials that no other equals or beats in accuracy, flash, RAM and cycles at once, by flash."""
    trained = [row for row in rows if row.status == "trained" and row.accuracy is not None and row.predicted is not None]

    def merits(row: Trial) -> tuple[float, ...]:
        predicted = row.predicted or {}
        return (row.accuracy or 0.0, *(-float(predicted.get(axis) or 0) for axis in AXES))

    def beaten(row: Trial) -> bool:
        own = merits(row)
        return any(all(a >= b for a, b in zip(merits(other), own)) and merits(other) != own for other in trained)

    return sorted((row for row in trained if not beaten(row)), key=lambda row: ((row.predicted or {})["flash"], row.key))
