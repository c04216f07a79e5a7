"""A tuner of keras-tuner that tries what it is handed and gives back rows, in the desk's process or in another."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner

from tinykit.recipe.interrupt import StopFlag
from tinykit.search.trials import Trial
from tinykit.search.tuner.desk import ROW, TASK, Task
from tinykit.search.tuner.proposing import score

Attempt = Callable[[Task], Trial]
"""Tries a task: its row, whatever became of it. An exception is no result: the trial will be tried again."""
_NAP = 0.1


class _Ended(keras_tuner.errors.FatalError):
    """An attempt ended with an exception, which is the cause of this one: keras-tuner would take others for a failed trial."""


class Tuner(BaseTuner):
    """Runs trials until there are none.

    Args:
        oracle: a Desk, or what stands for it in another process.
        attempt: tries one.
        stop: asks the search to end between two trials; an attempt looks at it itself.
    """

    def __init__(self, oracle: Any, attempt: Attempt, stop: StopFlag, folder: Path) -> None:
        super().__init__(oracle, directory=str(folder), project_name="keras_tuner")
        self.attempt, self.stop = attempt, stop
        self._idle = False

    @property
    def project_dir(self) -> str:
        """Where keras-tuner would keep files; none are made."""
        return str(Path(self.directory) / self.project_name)

    def work(self) -> None:
        """All trials that there are for this tuner.

        Raises:
            TinykitError, OSError: what ended an attempt.
        """
        try:
            self.search()
        except _Ended as error:
            raise (error.__cause__ or error) from None

    def pre_create_trial(self) -> None:
        """Ends where that was asked for; does not ask again at once where there was nothing to do."""
        self.stop.check()
        if self._idle:
            time.sleep(_NAP)
        self._idle = True

    def on_trial_begin(self, trial: Any) -> None:
        """There is something to do."""
        self._idle = False

    def run_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> dict[str, float]:
        """Tries what was handed out; the row goes back with the trial's values."""
        task = Task.from_json(trial.hyperparameters.values[TASK])
        try:
            row = self.attempt(task)
        except Exception as error:
            raise _Ended from error
        trial.hyperparameters.values[ROW] = row.to_json()
        return {"score": score(row)}

    def save(self) -> None:
        """Nothing: the ledger is all that is kept."""

    def reload(self) -> None:
        """Nothing."""
