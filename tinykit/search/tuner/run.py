"""A whole tuning in its run directory: trials, front, the winner's ordinary run; alone, or as chief or worker of several processes."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tinykit
from tinykit import atomic
from tinykit.boards.table import emulated_board
from tinykit.config.document import dump_yaml
from tinykit.config.loading import ResolvedConfig, load_config, with_values
from tinykit.config.sizes import format_size
from tinykit.config.tune import TuneConfig
from tinykit.errors import BudgetError, ConfigError, TinykitError
from tinykit.recipe.budget import resolve_budget
from tinykit.recipe.console import Console
from tinykit.recipe.interrupt import StopFlag, stop_on_sigterm
from tinykit.recipe.rundir import SEARCH, RunDir
from tinykit.search.files import RESULT, RUN, TRIALS, WINNER, board_figures, of_run
from tinykit.search.trials import Trial, Trials, pareto
from tinykit.search.tuner.address import parse_address
from tinykit.search.tuner.attempt import Attempts, TrialServices, check_task, first_train, shown
from tinykit.search.tuner.space import TuneSpace, check_parameters
from tinykit.search.tuner.tables import write_tables

INNER = f"{SEARCH}/trials"
"""Trials are run directories of their own, perhaps in use by workers."""
_QUICK = {"trials": 3, "epochs": 3, "population": 4}
_QUICK_HYPERBAND = 4
"""Trials of a quicktest of Hyperband: three that begin, and one that is promoted."""


def tune(
    config: ResolvedConfig,
    workdir: str | Path,
    *,
    quicktest: bool = False,
    log: Callable[[str], None] | None = None,
    command: str | None = None,
    stop: StopFlag | None = None,
    address: str | None = None,
    lease: float = 60.0,
) -> dict[str, Any]:
    """Searches values of a configuration and runs the best, or resumes: `python -m tinykit.search` as a function.

    Args:
        config: from `load_config`, with a section `tune`.
        workdir: the run directory; made if absent. Trials are run directories in search/trials/, the winner's run is in run/.
        quicktest: a few samples, one epoch, a few trials; marks every output.
        log: takes each line of output; None: standard output.
        command: for command.txt; default: this process's command line.
        stop: asks the search to end at its next safe point; None: SIGTERM does.
        address: as the chief: host:port at which workers ask for trials; None: this process tries them itself.
        lease: of a chief: seconds without a sign of life after which a worker's trial is given to another.

    Returns:
        The content of search.json. `run.budget_met` False is not an exception.

    Raises:
        ConfigError: no section `tune`, parameters that the configuration does not take, or a directory of another configuration.
        BudgetError: no trial keeps the limits.
        TinykitError: see `tinykit.recipe.runner.run`.
    """
    if address is not None:
        parse_address(address)
    check_parameters(config)
    flag = stop or StopFlag()
    line = command if command is not None else shlex.join(sys.orig_argv)
    with nullcontext() if stop else stop_on_sigterm(flag), RunDir(Path(workdir), inner=INNER) as rundir:
        try:
            return _Tuning(config, rundir, quicktest, Console(log), flag).run(line, address, lease)
        except (TinykitError, OSError):
            flag.check()
            raise


def section(config: ResolvedConfig, quicktest: bool) -> TuneConfig:
    """What is searched; with quicktest a few trials of it."""
    if config.config.tune is None:
        raise ConfigError(f"{config.source}: has no section `tune`; docs/tuning.md describes it, configs/tune_digits.yaml shows it")
    found = config.config.tune
    if not quicktest:
        return found
    most = _QUICK_HYPERBAND if found.method == "hyperband" else _QUICK["trials"]
    trials = min(found.trials or most, most)
    return found.model_copy(update={"trials": trials, "population": min(found.population, _QUICK["population"])})


def epochs_of(config: ResolvedConfig, quicktest: bool) -> int | None:
    """Epochs of the float training, None where there is none; with quicktest a few, which hyperband's schedule follows from."""
    index = first_train(config)
    if index is None:
        return None
    epochs = int(config.steps[index].options["epochs"])
    return min(epochs, _QUICK["epochs"]) if quicktest else epochs


@dataclass
class _Tuning:
    """One tuning in progress."""

    config: ResolvedConfig
    rundir: RunDir
    quicktest: bool
    console: Console
    stop: StopFlag

    def __post_init__(self) -> None:
        self.tune = section(self.config, self.quicktest)
        self.folder = self.rundir.path / SEARCH
        self.services = TrialServices()

    def run(self, command: str, address: str | None, lease: float) -> dict[str, Any]:
        """Everything, in order."""
        remarks = self.rundir.begin(self.config, command, self.quicktest)
        self._greet(remarks)
        if (self.rundir.path / "DONE").exists() and (self.rundir.path / RESULT).exists():
            self.console.line(f"nothing to do: this search is complete: {self.rundir.path / RESULT}")
            return self.rundir.read(RESULT)
        self._check()
        trials = Trials(self.folder / TRIALS)
        if trials.rows:
            self.console.line(f"resuming: {len(trials.rows)} trials done before")
        try:
            with self._searched(trials, address, lease):
                winner = self._winner(trials)
                write_tables(self.folder, self.config, self.tune, trials.rows, winner, self.quicktest)
                return self._finish(winner, trials, self._run(winner))
        except BudgetError:
            write_tables(self.folder, self.config, self.tune, trials.rows, None, self.quicktest)
            raise

    def _greet(self, remarks: list[str]) -> None:
        run, budget, mark = self.config.config, resolve_budget(self.config), "QUICKTEST  " if self.quicktest else ""
        self.console.line(f"{mark}tinykit {tinykit.__version__}  search by {self.tune.method}  {self.config.name}  seed {run.seed}"
                          f"  -> {self.rundir.path}")  # fmt: skip
        for note in (*self.config.notes, *remarks):
            self.console.line(f"note: {note}")
        board = emulated_board(run.budget.board).name
        self.console.line(f"budget: {board}: flash {format_size(budget.flash)}, RAM {format_size(budget.ram)}")

    def _check(self) -> None:
        """Tools and data, in the order in which problems are told soonest."""
        self.services.check_tools()
        run = self.config.config
        dataset = self.services.load_dataset(run.data.name, run.data.options, seed=run.seed, quicktest=self.quicktest)
        check_task(dataset)
        self.rundir.check_inputs({"split_sha256": dataset.split_sha256, "data_sha256": dataset.content_sha256, "model_sha256": None})
        self.console.line(f"data: {dataset.name}: train {len(dataset.train)}, val {len(dataset.val)} samples, test not looked at")
        self.stop.check()

    def _searched(self, trials: Trials, address: str | None, lease: float) -> Any:
        """Does all trials, here or through workers; a context in which workers are told that the search is over."""
        from tinykit.search.tuner.desk import Desk
        from tinykit.search.tuner.keras_tuners import proposer, trials_of
        from tinykit.search.tuner.worker import Tuner

        space = TuneSpace(self.tune.parameters)
        made = proposer(self.tune, space, self.config.config.seed, epochs_of(self.config, self.quicktest))
        most = trials_of(self.tune, made)
        settings = f"{space.size:,.0f}" if math.isfinite(space.size) else "any number of"
        self.console.line(f"space: {len(space.parameters)} parameters, {settings} settings; at most {most} trials")
        if address is not None:
            from tinykit.search.tuner.distributed import served

            desk = Desk(made, space, trials, most, self.folder, seconds=self.tune.seconds, lease=lease, tell=self._tell)
            return served(desk, address, self.stop, self.console.line)
        attempt = Attempts(
            self.config, self.folder, quicktest=self.quicktest, stop=self.stop, log=self.console.line, services=self.services
        )
        desk = Desk(made, space, trials, most, self.folder, seconds=self.tune.seconds, tell=self._tell)
        Tuner(desk, attempt, self.stop, self.folder).work()
        return nullcontext()

    def _tell(self, row: Trial) -> None:
        self.console.line(f"  trial {row.number} {row.key}: {outcome(row)}")

    def _winner(self, trials: Trials) -> Trial:
        """The best on val of those that keep all limits; of Hyperband, of those that had all epochs, where there are any."""
        rows = trials.trained()
        most = max((row.stage["epochs"] for row in rows if row.stage), default=0)
        rows = [row for row in rows if row.stage is None or row.stage["epochs"] == most]
        if not rows:
            raise BudgetError([
                f"search: none of the {len(trials.rows)} trials keeps the limits: choose other parameters, or a larger budget",
                *(f"  {row.key}: {line}" for row in trials.rows[-3:] for line in row.violations[:1]),
            ])  # fmt: skip
        return rows[0]

    def _run(self, winner: Trial) -> dict[str, Any]:
        """The ordinary run of the winner; what its trial did alike is taken from there."""
        from tinykit.recipe.runner import run

        file, folder = self.rundir.path / WINNER, self.rundir.path / RUN
        found = with_values(self.config, winner.values, without=("tune", "search"))
        atomic.write_text(file, f"# Found by tinykit.search: {self.config.name}, trial {winner.key}\n{dump_yaml(found.to_dict())}")
        self.console.line(f"winner: trial {winner.number} {winner.key}: {shown(winner.values)}: {file}")
        command = f"python -m tinykit.train --config {shlex.quote(str(file))} --workdir {shlex.quote(str(folder))}"
        loaded = replace(load_config(str(file)), name=self.config.name)
        self.services.forget()
        return run(
            loaded, folder, quicktest=self.quicktest, log=self.console.line, command=command, stop=self.stop,
            others=[self.rundir.path / INNER / winner.key],
        )  # fmt: skip

    def _finish(self, winner: Trial, trials: Trials, metrics: dict[str, Any]) -> dict[str, Any]:
        status = [row.status for row in trials.rows]
        result = {
            "config": self.config.name,
            "method": self.tune.method,
            "trials": {"all": len(status), "infeasible": status.count("infeasible"), "failed": status.count("failed")},
            "front": [row.key for row in pareto(trials.rows)],
            "winner": {"key": winner.key, "values": dict(winner.values), "val_accuracy": winner.accuracy, **winner.figures},
            "real": board_figures(metrics),
            "run": of_run(metrics),
            "quicktest": self.quicktest,
        }  # fmt: skip
        atomic.write_json(self.rundir.path / RESULT, result)
        self.rundir.finish()
        self.console.line(f"done: {self.rundir.path / RESULT}, {self.folder / 'pareto.html'}")
        return result


def outcome(row: Trial) -> str:
    """What became of a trial, in words."""
    if row.status != "trained":
        trained = "" if row.accuracy is None else f" (val accuracy {100 * row.accuracy:.2f} %)"
        reason = row.violations[0] if row.violations else "no reason known"
        return f"{'does not fit' if row.status == 'infeasible' else 'failed'}: {reason}{trained}"
    figures = row.figures
    return (
        f"val accuracy {100 * (row.accuracy or 0):.2f} %, flash {figures['flash'] or 0:,}, RAM {figures['ram'] or 0:,}, "
        f"cycles {figures['cycles'] or 0:,}, {row.seconds:.1f} s"
    )
