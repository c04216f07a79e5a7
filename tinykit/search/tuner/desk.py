"""Where trials are handed out and their results taken: keras-tuner's oracle, with the ledger as the only memory that counts.

keras-tuner's own oracles keep files of their own, from which a killed search can lose or repeat trials, and wait for ever for a worker that
is gone. This one keeps none: what is finished is in the ledger, and what is being tried in running.json, for as long as whoever tries it is
heard of.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial as Handed
from keras_tuner.engine.trial import TrialStatus

from tinykit import atomic
from tinykit.errors import ConfigError
from tinykit.search.trials import Trial, Trials
from tinykit.search.tuner.proposing import Nothing, Past, Proposal, Proposer
from tinykit.search.tuner.space import TuneSpace

TASK, ROW = "tinykit/task", "tinykit/row"
"""Among the values of a trial of keras-tuner, as JSON text: what is to be tried, and what became of it. keras-tuner sends real numbers with
24 bits, after which a learning rate would be another one."""
RUNNING = "running.json"
_LONGEST = 1_000_000


@dataclass(frozen=True)
class Task:
    """What somebody is to try: `number` in the order of proposals, values, and the stage of Hyperband."""

    number: int
    proposal: Proposal

    @property
    def key(self) -> str:
        """Name of the trial."""
        return self.proposal.key

    def to_json(self) -> str:
        """One line."""
        return json.dumps({"number": self.number, **asdict(self.proposal)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Raises ValueError, TypeError or KeyError for what is no task."""
        plain = json.loads(text)
        return cls(int(plain["number"]), Proposal(plain["values"], plain["stage"]))


@dataclass
class _Lease:
    """Who tries a task, and until when nothing must have been heard of them."""

    tuner: str
    until: float


class Desk(keras_tuner.Oracle):
    """Hands out trials and takes rows; one at a time, for keras-tuner's tuners in this process or, through its service, in others.

    Args:
        proposer: who says what is tried next.
        ledger: finished trials; this object alone writes it.
        most: how many trials there are at most.
        seconds: that trials may take together before the last one begins; None: no limit.
        folder: where running.json is kept.
        lease: seconds without a sign of life after which a trial is given to somebody else; 0: nobody else works on this search, and what
            was being tried when it was killed is tried again at once.
        tell: takes each row when it is in the ledger.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        proposer: Proposer,
        space: TuneSpace,
        ledger: Trials,
        most: int,
        folder: Path,
        *,
        seconds: float | None = None,
        lease: float = 0.0,
        tell: Callable[[Trial], None] = lambda row: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(objective=keras_tuner.Objective("score", "max"), hyperparameters=space.hyperparameters(), max_trials=most, seed=1)
        self.verbose = 0
        self.proposer, self.space, self.ledger, self.most, self.seconds = proposer, space, ledger, most, seconds
        self.lease, self.clock, self._tell = lease, clock, tell
        self._file = folder / RUNNING
        self._lock = threading.RLock()
        self._tasks: dict[int, Task] = {}
        self._leases: dict[int, _Lease] = {}
        self._told: set[str] = set()
        self._heard: dict[str, float] = {}
        self._restore()
        self.over = not self._leases and self._new() is None

    def _restore(self) -> None:
        """Finished trials from the ledger; those that were being tried are, for the time of a lease, still with whoever tried them."""
        for row in self.ledger.rows:
            if row.number is None or row.number in self._tasks:
                raise ConfigError(f"{self.ledger.path}: trial {row.key} is none of this search: delete the file to begin again")
            try:
                self.space.encoded(row.values)
            except ConfigError as error:
                raise ConfigError(f"{self.ledger.path}: trial {row.key}: {error}; delete the file to begin again") from None
            self._tasks[row.number] = Task(row.number, Proposal(dict(row.values), row.stage))
        for tuner, task in self._left():
            if task.number not in self._tasks and self.ledger.find(task.key) is None:
                self._tasks[task.number] = task
                self._leases[task.number] = _Lease(tuner, self.clock() + self.lease)

    def _left(self) -> list[tuple[str, Task]]:
        """(who, what) of running.json; it is of use, but nothing is lost without it."""
        try:
            plain = json.loads(self._file.read_text(encoding="utf-8"))
            return [(str(each["tuner"]), Task.from_json(each["task"])) for each in plain]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self._file}: cannot be read: {error}; delete it: what was being tried is tried again") from None

    def _past(self) -> list[Past]:
        rows = {row.number: row for row in self.ledger.rows}
        return [Past(number, task.proposal, rows.get(number)) for number, task in sorted(self._tasks.items())]

    def _enough(self) -> bool:
        """Whether no further trial begins."""
        spent = sum(row.seconds for row in self.ledger.rows)
        return len(self._tasks) >= self.most or (self.seconds is not None and spent >= self.seconds)

    def _new(self) -> Task | Nothing | None:
        """The next task; None: there will be none."""
        if self._enough():
            return None
        number = next(number for number in range(len(self._tasks) + 1) if number not in self._tasks)
        proposal = self.proposer.propose(number, self._past())
        if isinstance(proposal, Proposal):
            return Task(number, proposal)
        return None if proposal is Nothing.LEFT else proposal

    def _task(self, tuner: str) -> Task | Nothing | None:
        """What a tuner is to do: what it was doing, what nobody does any more, or something new."""
        now = self.clock()
        own = [number for number, lease in self._leases.items() if lease.tuner == tuner]
        free = [number for number, lease in self._leases.items() if lease.until <= now]
        if own or free:
            task: Task | Nothing | None = self._tasks[min(own or free)]
        else:
            task = self._new()
        if isinstance(task, Task):
            self._tasks[task.number] = task
            self._leases[task.number] = _Lease(tuner, now + self.lease)
            self._save()
        return task

    def _save(self) -> None:
        held = sorted(self._leases.items())
        atomic.write_json(self._file, [{"tuner": lease.tuner, "task": self._tasks[number].to_json()} for number, lease in held])

    def create_trial(self, tuner_id: str) -> Handed:
        """A trial to run, one with status IDLE where others must finish first, or STOPPED where the search is over."""
        with self._lock:
            self._heard[tuner_id] = self.clock()
            task = self._task(tuner_id)
            if isinstance(task, Task):
                return self._handed(task)
            if task is None and not self._leases:
                self.over = True
                self._told.add(tuner_id)
                return self._empty(TrialStatus.STOPPED)
            return self._empty(TrialStatus.IDLE)  # somebody may be killed: their trial is tried again by whoever is left

    def _empty(self, status: str) -> Handed:
        return Handed(self.hyperparameters.copy(), trial_id="", status=status)

    def _handed(self, task: Task) -> Handed:
        found = self._empty(TrialStatus.RUNNING)
        found.trial_id, found.hyperparameters.values = str(task.number), {TASK: task.to_json()}
        return found

    @property
    def everybody_knows(self) -> bool:
        """Whether all that have asked for trials, and were heard of lately, were told that the search is over."""
        with self._lock:
            lately = self.clock() - self.lease
            return self.over and all(tuner in self._told for tuner, heard in self._heard.items() if heard >= lately)

    def get_trial(self, trial_id: str) -> Handed:
        """A trial that was handed out; to ask for it is a sign of life."""
        with self._lock:
            number = int(trial_id)
            if number in self._leases:
                self._leases[number].until = self.clock() + self.lease
                self._heard[self._leases[number].tuner] = self.clock()
            return self._handed(self._tasks[number])

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Handed:
        """Takes nothing: all of a trial comes at its end."""
        return self.get_trial(trial_id)

    def end_trial(self, trial: Handed) -> None:
        """Takes the row of a trial into the ledger, once; a second one of the same trial is passed over.

        Raises:
            ValueError: it brings no row of this search.
        """
        row = self._row(trial.hyperparameters.values.get(ROW))
        with self._lock:
            if self.ledger.find(row.key) is None:
                task = self._tasks.get(row.number or 0)
                if task is not None and task.key != row.key:  # it was handed out before running.json was lost
                    row = replace(row, number=next(n for n in range(len(self._tasks) + 1) if n not in self._tasks))
                self.ledger.add(row)
                self._tasks[row.number or 0] = Task(row.number or 0, Proposal(dict(row.values), row.stage))
                self._tell(row)
            for number in [number for number in self._leases if self._tasks[number].key == row.key]:
                del self._leases[number]
            self.over = self.over or (not self._leases and self._enough())
            self._save()

    def _row(self, text: Any) -> Trial:
        """A row as it came, perhaps from another machine. Raises ValueError for what is none."""
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise ValueError("a trial without a row")
        try:
            row = Trial.from_json(text)
            self.space.encoded(row.values)
            key = Proposal(dict(row.values), row.stage).key
            if not isinstance(row.number, int) or not 0 <= row.number < self.most or row.key != key:
                raise ValueError(f"number {row.number}, key {row.key}")
        except (ConfigError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no row of this search: {error}") from None
        return row

    def save(self) -> None:
        """Nothing: see this module."""

    def reload(self) -> None:
        """Nothing: see this module."""
