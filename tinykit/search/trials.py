"""What a search has tried: one line of JSON a trial, written before the next begins; and which trials nothing else beats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tinykit.dominance import undominated
from tinykit.errors import ConfigError
from tinykit.search.lines import append_line, damaged, read_lines

Status = Literal["trained", "infeasible", "failed"]


@dataclass(frozen=True)
class Trial:
    """One architecture, or one set of values of a tuner, that was looked at.

    Attributes:
        key: short name of what was tried; no trial of a search has another's.
        searcher: who proposed it: 'dnas', 'two_stage', or a tuner's method.
        architecture: options of the family `staged`; empty for a tuner.
        status: 'trained': it fits and was judged; 'infeasible': it cannot be built or breaks a limit; 'failed':
            its training came to nothing.
        violations: what it breaks, one line each.
        counted: macs, flash (weights, biases, tables) and ram (activations) as the search counts them.
        predicted: flash, ram, instructions, cycles and arena of its untrained twin, linked and run on the emulated board; None: refused
            without.
        accuracy: on val, 0 to 1.
        seconds: that it took.
        values: of a tuner: key of the configuration -> value.
        number: of a tuner: its place in the order in which trials were proposed, from 0.
        stage: of Hyperband: bracket, round, epochs, first_epoch, and the key of the trial that it goes on from.
        reached: macs, flash, ram, instructions, cycles of the network that its run ended with.
        excess: of a tuner: by how much limits are broken, the sum of (used / limit - 1); 1 where it is not known by how much.
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
    values: Mapping[str, Any] = field(default_factory=dict)
    number: int | None = None
    stage: Mapping[str, Any] | None = None
    reached: Mapping[str, Any] | None = None
    excess: float = 0.0

    @property
    def figures(self) -> Mapping[str, Any]:
        """What it takes on the board: of the network that was trained, else of its untrained twin; empty where neither was linked."""
        return self.reached or self.predicted or {}

    def plain(self) -> dict[str, Any]:
        """Plain values; what does not apply is left out."""
        optional: dict[str, Any] = {"values": {}, "number": None, "stage": None, "reached": None, "excess": 0.0}
        return {name: value for name, value in asdict(self).items() if name not in optional or value != optional[name]}

    def to_json(self) -> str:
        """`plain` as one line."""
        return json.dumps(self.plain(), allow_nan=False)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Trial:
        """Raises TypeError or KeyError for what is no trial."""
        return cls(**{**values, "violations": tuple(values["violations"])})

    @classmethod
    def from_json(cls, line: str | bytes) -> Trial:
        """Raises ValueError, TypeError or KeyError for what is no trial."""
        return cls.from_plain(json.loads(line))

    @property
    def gap(self) -> dict[str, int] | None:
        """Bytes that the linked image and its run take beyond what the search counts, flash and ram; and the plan alone, arena."""
        if self.predicted is None or self.predicted.get("flash") is None:
            return None
        found = {kind: self.predicted[kind] - self.counted[kind] for kind in ("flash", "ram")}
        arena = self.predicted.get("arena")
        return found if arena is None else {**found, "arena": arena - self.counted["ram"]}


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
                self.rows.append(Trial.from_plain(values))
            except (ValueError, TypeError, KeyError) as error:
                raise damaged(place, "trial", error) from None

    def find(self, key: str) -> Trial | None:
        """The trial of this key, None where it was not tried."""
        return next((row for row in self.rows if row.key == key), None)

    def add(self, trial: Trial) -> None:
        """Appends a trial and waits until it is on the disk. Raises ConfigError for what has been tried."""
        if self.find(trial.key) is not None:
            raise ConfigError(f"{self.path}: trial {trial.key} is there already")
        append_line(self.path, trial.plain())
        self.rows.append(trial)

    def trained(self) -> list[Trial]:
        """Trials that fit and have an accuracy, the best first; of equals the quicker one."""
        rows = [row for row in self.rows if row.status == "trained" and row.accuracy is not None]
        return sorted(rows, key=lambda row: (-(row.accuracy or 0.0), row.figures.get("cycles") or 0, row.key))


AXES = ("flash", "ram", "cycles")
"""What costs something, beside accuracy, in a comparison of trials."""


def pareto(rows: Sequence[Trial]) -> list[Trial]:
    """The trained trials that no other equals or beats in accuracy, flash, RAM and cycles at once, by flash."""
    trained = [row for row in rows if row.status == "trained" and row.accuracy is not None and row.figures]
    merits = [(row.accuracy or 0.0, *(-float(row.figures.get(axis) or 0) for axis in AXES)) for row in trained]
    return sorted((trained[index] for index in undominated(merits)), key=lambda row: (row.figures["flash"], row.key))
