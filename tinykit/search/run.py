"""A whole search in its run directory: supernet, candidates, the winner's ordinary run, and how good predictions were."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinykit
from tinykit import atomic
from tinykit.boards.table import emulated_board
from tinykit.config.document import dump_yaml
from tinykit.config.loading import ResolvedConfig, load_config
from tinykit.config.search import SearchConfig
from tinykit.config.sizes import format_size
from tinykit.engine.goal import GOALS
from tinykit.errors import BudgetError, ConfigError, ModelError, TinykitError
from tinykit.recipe.budget import resolve_budget
from tinykit.recipe.console import Console
from tinykit.recipe.interrupt import StopFlag, stop_on_sigterm
from tinykit.recipe.rundir import SEARCH, RunDir
from tinykit.recipe.services import Services
from tinykit.recipe.step import MetricsLog, StepContext
from tinykit.report.trials import pareto_csv, pareto_page
from tinykit.search.files import RESULT, RUN, TRIALS, WINNER, board_figures, of_run
from tinykit.search.gap import Gap, measured
from tinykit.search.predict import Target
from tinykit.search.space import Space
from tinykit.search.trials import Trial, Trials, pareto
from tinykit.search.twostage.choice import Choice, Standing, write_spaces
from tinykit.search.twostage.spaces import Candidate, candidates
from tinykit.search.winnerconfig import winner_config

if TYPE_CHECKING:
    from tinykit.data import Chain, Dataset

GAP = "gap.json"
FORESEEN = "foreseen.json"


def search(
    config: ResolvedConfig,
    workdir: str | Path,
    *,
    quicktest: bool = False,
    log: Callable[[str], None] | None = None,
    command: str | None = None,
    stop: StopFlag | None = None,
) -> dict[str, Any]:
    """Searches an architecture and runs the configuration's recipe on it, or resumes: `python -m tinykit.search` as a function.

    Args:
        config: from `load_config`, with a section `search`.
        workdir: the run directory; made if absent. The winner's run is in its folder `run`.
        quicktest: a few samples, two epochs, two candidates or spaces; marks every output.
        log: takes each line of output; None: standard output.
        command: for command.txt; default: this process's command line.
        stop: asks the search to end at its next safe point; None: SIGTERM does.

    Returns:
        The content of search.json. `run.budget_met` False is not an exception.

    Raises:
        ConfigError: no section `search`, or a directory that is in use or belongs to another configuration.
        BudgetError: no architecture of the space fits.
        TinykitError: see `tinykit.recipe.runner.run`.
    """
    options = config.config.search
    if options is None:
        raise ConfigError(f"{config.source}: has no section `search`; docs/search.md describes it, configs/search_*.yaml show it")
    flag = stop or StopFlag()
    line = command if command is not None else shlex.join(sys.orig_argv)
    with nullcontext() if stop else stop_on_sigterm(flag), RunDir(Path(workdir)) as rundir:
        try:
            return _Search(config, options, rundir, quicktest, Console(log), flag).run(line)
        except (TinykitError, OSError):
            flag.check()
            raise


@dataclass
class _Search:
    """One search in progress."""

    config: ResolvedConfig
    options: SearchConfig
    rundir: RunDir
    quicktest: bool
    console: Console
    stop: StopFlag

    def __post_init__(self) -> None:
        self.services = Services()
        self.choice: Standing | None = None
        self.synthetic = False
        self.folder = self.rundir.path / SEARCH
        run = self.config.config
        self.target = Target(
            emulated_board(run.budget.board), resolve_budget(self.config), GOALS[run.engine.optimize], self.options.weight_bits
        )

    def run(self, command: str) -> dict[str, Any]:
        """Everything, in order."""
        remarks = self.rundir.begin(self.config, command, self.quicktest)
        budget, mark = self.target.budget, "QUICKTEST  " if self.quicktest else ""
        self.console.line(f"{mark}tinykit {tinykit.__version__}  search  {self.config.name}  seed {self.config.config.seed}"
                          f"  -> {self.rundir.path}")  # fmt: skip
        for note in (*self.config.notes, *remarks):
            self.console.line(f"note: {note}")
        self.console.line(f"budget: {self.target.board.name}: flash {format_size(budget.flash)}, RAM {format_size(budget.ram)}")
        result = self.rundir.path / RESULT
        if (self.rundir.path / "DONE").exists() and result.exists():
            self.console.line(f"nothing to do: this search is complete: {result}")
            return self.rundir.read(RESULT)
        self.services.check_tools()
        run = self.config.config
        dataset = self.services.load_dataset(run.data.name, run.data.options, seed=run.seed, quicktest=self.quicktest)
        if dataset.task != "classification":
            raise ModelError(f"search: is for classification; dataset {dataset.name} is for {dataset.task}")
        chain = self.services.parse_chain(run.data.preprocess)
        self.services.check_samples(dataset, chain, run.data.augment, False)
        hashes = {"split_sha256": dataset.split_sha256, "data_sha256": dataset.content_sha256, "model_sha256": None}
        self.rundir.check_inputs(hashes)
        self.stop.check()
        self._announce(dataset)
        spaces = self._spaces(dataset)
        self.services.prepare()
        chain = self._choose(spaces) or chain
        space = Space(self.options.stages, chain.output_shape(dataset.input_shape), len(dataset.class_names))
        trials = Trials(self.folder / TRIALS)
        metrics_log = self.services.metrics_log(self.folder)
        try:
            context = self._context(dataset, chain, metrics_log)
            winner, foreseen = self._fitting(self._finalists(space, trials, context), context)
        except BudgetError:
            self._write_pareto(trials, None)  # what was looked at, and why it does not fit
            raise
        finally:
            metrics_log.close()
        self._write_pareto(trials, winner)
        metrics = self._run()
        return self._finish(winner, trials, foreseen, metrics)

    def _spaces(self, dataset: Dataset) -> list[Candidate]:
        """What the first stage of two chooses from; nothing where there is one stage."""
        if self.options.method != "two_stage":
            return []
        found = candidates(self.config, self.options, dataset.input_shape, len(dataset.class_names))
        if self.quicktest:
            found = list({each.name: each for each in (found[0], found[-1])}.values())
        for each in found:
            self.services.check_samples(dataset, each.chain, self.config.config.data.augment, False)
        return found

    def _choose(self, spaces: list[Candidate]) -> Chain | None:
        """Goes on with the best space in the place of the configuration's own; returns its preprocessing."""
        if not spaces:
            return None

        def progress(done: int, total: int) -> None:
            self.stop.check()
            self.console.progress(done, total)

        self.console.line(f"spaces: {len(spaces)}")
        seed = self.config.config.seed
        choice = Choice(spaces, self.options, self.target, self.folder, seed, self.quicktest, progress, self._say)
        try:
            best, found = choice.run()
        finally:
            write_spaces(choice, self.folder, self.config.name, self.quicktest)
        self.config, self.options, self.choice = best.config, best.options, found[0]
        return best.chain

    def _say(self, message: str) -> None:
        self.console.line(f"  {message}")

    def _announce(self, dataset: Dataset) -> None:
        self.synthetic = dataset.synthetic
        synthetic = "  SYNTHETIC: scores mean nothing" if dataset.synthetic else ""
        self.console.line(f"data: {dataset.name}: train {len(dataset.train)}, val {len(dataset.val)} samples{synthetic}")

    def _context(self, dataset: Dataset, chain: Any, metrics: MetricsLog) -> StepContext:
        return StepContext(
            dataset=dataset, chain=chain, config=self.config, seed=self.config.config.seed, folder=self.folder, label="search",
            quicktest=self.quicktest, log=self._say, stop=self.stop,
            show_progress=self.console.progress, write_metrics=metrics.write,
        )  # fmt: skip

    def _finalists(self, space: Space, trials: Trials, context: StepContext) -> list[Trial]:
        """Trains the supernet and compares candidates; the best first."""
        from tinykit.search.supernet import Supernet
        from tinykit.search.winner import Contest, count_limits

        self.console.line(f"space: {len(space.stages)} stages, {space.size:,} choices")
        gap = self._gap(space)
        limits = count_limits(self.options, self.target, gap.counted)
        beyond = f"{gap.counted['flash']:,} bytes of flash and {gap.counted['ram']:,} of RAM"
        context.log(f"beyond what is counted, the board takes {beyond} (middle of the space)")
        net = Supernet(space, self.config.config.seed)
        contest = Contest(net, self.options, self.target, trials, gap, context)
        contest.check()
        if self.options.method == "two_stage":
            from tinykit.search.twostage.evolved import evolved

            return evolved(contest)
        from tinykit.search.dnas import Dnas

        Dnas(net, self.options, limits, context).run()
        self.console.line("candidates")
        return contest.run(net.probabilities())

    def _gap(self, space: Space) -> Gap:
        """Of the middle of the space; remembered for a resume."""
        known = self.rundir.read(f"{SEARCH}/{GAP}")
        gap = Gap(**known) if known else measured(space, self.target)
        atomic.write_json(self.folder / GAP, asdict(gap))
        return gap

    def _write_pareto(self, trials: Trials, winner: Trial | None) -> None:
        best = {row.key for row in pareto(trials.rows)}
        rows = [
            {
                "trial": number, "key": row.key, "searcher": row.searcher, "status": row.status, "pareto": row.key in best,
                "winner": winner is not None and row.key == winner.key, "accuracy": row.accuracy,
                **{f"counted_{kind}": value for kind, value in row.counted.items()},
                **{kind: (row.predicted or {}).get(kind) for kind in ("flash", "ram", "instructions", "cycles")},
                **{f"gap_{kind}": (row.gap or {}).get(kind) for kind in ("flash", "ram", "arena")},
                "violations": "; ".join(row.violations),
            }
            for number, row in enumerate(trials.rows, 1)
        ]  # fmt: skip
        atomic.write_text(self.folder / "pareto.csv", pareto_csv(rows))
        limits = {"flash": self.target.budget.flash, "ram": self.target.budget.ram}
        page = pareto_page(rows, limits, self.config.name, self.target.board.name, self.quicktest, self.synthetic)
        atomic.write_text(self.folder / "pareto.html", page)

    def _fitting(self, finalists: list[Trial], context: StepContext) -> tuple[Trial, dict[str, Any]]:
        """The best trial of which the recipe is foreseen to make what fits, and what that will take; the best of all where none is."""
        for trial in finalists:
            found = self._foreseen(trial, context)
            if not found.get("problems"):
                break
            if trial is not finalists[-1]:
                self._say(f"{trial.key} would not fit: the next best is looked at")
        else:
            trial, found = finalists[0], self._foreseen(finalists[0], context)
        self.console.line(f"winner: {trial.key}: {self.rundir.path / WINNER}")
        return trial, found

    def _foreseen(self, winner: Trial, context: StepContext) -> dict[str, Any]:
        """Writes a winner's configuration, and says what its recipe will make of it; remembered for a resume."""
        from tinykit.search.foresight import foresee
        from tinykit.search.winner import model_file

        file, model = self.rundir.path / WINNER, model_file(self.folder, winner.key)
        text = dump_yaml(winner_config(self.config, winner, model if self.options.start == "inherited" else None))
        atomic.write_text(file, f"# Found by tinykit.search: {self.config.name}, architecture {winner.key}\n{text}")
        known = self.rundir.read(f"{SEARCH}/{FORESEEN}")
        if winner.key not in known:
            known[winner.key] = foresee(model, load_config(str(file)), winner, self.target, context)
            atomic.write_json(self.folder / FORESEEN, known)
        found: dict[str, Any] = known[winner.key]
        for problem in found.get("problems", ()):
            self._say(f"before the final training: {problem}")
        return found

    def _run(self) -> dict[str, Any]:
        """The ordinary run of the winner."""
        from tinykit.recipe.runner import run

        file = self.rundir.path / WINNER
        folder = self.rundir.path / RUN
        command = f"python -m tinykit.train --config {shlex.quote(str(file))} --workdir {shlex.quote(str(folder))}"
        found = replace(load_config(str(file)), name=self.config.name)  # the engine's functions are called like the search
        return run(found, folder, quicktest=self.quicktest, log=self.console.line, command=command, stop=self.stop)

    def _finish(self, winner: Trial, trials: Trials, predicted: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
        real = board_figures(metrics)
        gap = {kind: None if real[kind] is None else real[kind] - winner.counted[kind] for kind in ("flash", "ram")}
        if metrics["ram"].get("arena") is not None:
            gap["arena"] = metrics["ram"]["arena"] - winner.counted["ram"]
        result = {
            "config": self.config.name,
            "method": self.options.method,
            "space": None if self.choice is None else asdict(self.choice),
            "trials": {"all": len(trials.rows), "infeasible": sum(row.status == "infeasible" for row in trials.rows)},
            "winner": {"key": winner.key, "architecture": dict(winner.architecture), "val_accuracy": winner.accuracy},
            "counted": dict(winner.counted),
            "twin": dict(winner.predicted or {}),
            "predicted": predicted,
            "real": real,
            "gap": gap,
            "run": of_run(metrics),
            "quicktest": self.quicktest,
            "synthetic": self.synthetic,
        }
        for kind, value in real.items():
            if value is not None and predicted.get(kind) is not None:
                share = 100 * (predicted[kind] - value) / value
                self.console.line(f"{kind}: {predicted[kind]:,} predicted by the search, {value:,} of the result: {share:+.1f} %")
        atomic.write_json(self.rundir.path / RESULT, result)
        self.rundir.finish()
        self.console.line(f"done: {self.rundir.path / RESULT}, {self.folder / 'pareto.html'}")
        return result
