"""What the tables share whose rows make MLPerf Tiny's float ResNet-8 smaller: rows, seeds, arguments, cells."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rows import Result

SEEDS = 3
MODEL = "$TINYKIT_DATA/reference_models/ic_pretrainedResnet.h5"


@dataclass(frozen=True)
class Task:
    """A row of a table.

    Attributes:
        name: of the row.
        settings: what is set beside the model.
        step: whose float accuracy the row is judged by; "" where nothing is made smaller.
        within: how many points below the float model that it starts from are allowed.
    """

    name: str
    settings: tuple[str, ...]
    step: str = ""
    within: float | None = None


START = Task("start", ("recipe=int8",))
T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class Tasks(Generic[T]):
    """The rows of a table, three seeds each."""

    tasks: tuple[T, ...]

    @property
    def rows(self) -> dict[str, tuple[T, int]]:
        """Row -> its task and seed."""
        return {f"{task.name}_{seed}": (task, seed) for task in self.tasks for seed in range(SEEDS)}

    def arguments(self) -> dict[str, list[str]]:
        """Row -> the arguments of its run."""
        return {row: _arguments(task, seed) for row, (task, seed) in self.rows.items()}

    def of(self, task: T, found: dict[str, Result]) -> list[Result]:
        """The results of a task's seeds that there are."""
        return [found[row] for row, (own, _) in self.rows.items() if own is task and row in found]


def _arguments(task: Task, seed: int) -> list[str]:
    sets = (f"model.path={MODEL}", *task.settings)
    return ["--config", "cifar10", *(word for s in sets for word in ("--set", s)), "--seed", str(seed)]


def accuracy_after(step: str, folder: Path) -> float | None:
    """The test accuracy that a run's step left, None where the run has no such step."""
    reports = sorted((folder / "steps").glob(f"*_{step}/report.json")) if step else []
    found: float | None = json.loads(reports[-1].read_text(encoding="utf-8"))["accuracy"] if reports else None
    return found


@dataclass(frozen=True)
class Scores:
    """Accuracies of a task's seeds, in percent.

    Attributes:
        scores: the float ones after the task's step (where it has none, of the start).
        given: mean of the float model that they start from.
        integer: mean of the integer networks.
    """

    scores: list[float]
    given: float
    integer: float

    @property
    def gap(self) -> float:
        """Points against the float model."""
        return statistics.fmean(self.scores) - self.given

    def cells(self, task: Task) -> list[str]:
        """Scores, gap, what is allowed, integer score."""
        spread = f"{statistics.fmean(self.scores):.2f} ({min(self.scores):.2f} to {max(self.scores):.2f}), {len(self.scores)} seeds"
        allowed = f"{-task.within:.1f}" if task.within is not None else ""
        return [task.name, spread, f"{self.gap:+.2f}", allowed, f"{self.integer:.2f}"]


def scores(task: Task, mine: Sequence[Result], after: str) -> Scores:
    """The accuracies of a task's results; `after` is the key of that after the step."""
    given = 100 * statistics.fmean(r["accuracy"]["float"] for r in mine)
    found = [100 * (r[after] if task.step else r["accuracy"]["float"]) for r in mine]
    return Scores(found, given, 100 * statistics.fmean(r["accuracy"]["integer"] for r in mine))


def ratio(key: str, mine: Sequence[Result], start: Sequence[Result]) -> float:
    """The mean of a figure as a share of that of the rows `start`."""
    return statistics.fmean(r[key] for r in mine) / statistics.fmean(r[key] for r in start)
