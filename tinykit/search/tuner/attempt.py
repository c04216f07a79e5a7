"""One trial in earnest: what cannot fit is refused before any training; the others are ordinary runs, judged on val."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinykit import atomic
from tinykit.boards.table import Budget, emulated_board
from tinykit.config.loading import ResolvedConfig, with_values
from tinykit.config.tune import TuneConfig, TuneLimits
from tinykit.engine.goal import GOALS
from tinykit.errors import BudgetError, ConfigError, DataError, ModelError
from tinykit.graph import costs, ir
from tinykit.locking import hold
from tinykit.recipe.budget import resolve_budget
from tinykit.recipe.interrupt import StopFlag
from tinykit.recipe.registry import step_class
from tinykit.recipe.rundir import RunDir
from tinykit.recipe.services import Services
from tinykit.search.files import board_figures
from tinykit.search.predict import Prediction, Target, predict_graph
from tinykit.search.trials import Status, Trial

if TYPE_CHECKING:
    import keras

    from tinykit.data import Dataset
    from tinykit.recipe.outputs import Outputs
    from tinykit.recipe.step import StepContext
    from tinykit.search.tuner.desk import Task

VAL = "val.json"
"""In a trial's run directory: accuracy of its last network on val."""
_LEFT_OUT = ("tune", "search")


class TrialServices(Services):
    """What runs of trials share: the data, loaded once; and what they do besides: the last network is scored on val."""

    def __init__(self) -> None:
        self._data: dict[str, Dataset] = {}

    def load_dataset(self, name: str, options: dict[str, Any], *, seed: int, quicktest: bool) -> Dataset:
        """The data of all trials."""
        key = json.dumps([name, options, seed, quicktest], sort_keys=True)
        if key not in self._data:
            self._data[key] = super().load_dataset(name, options, seed=seed, quicktest=quicktest)
        return self._data[key]

    def finish(self, model: keras.Model, context: StepContext, rundir: RunDir, **more: Any) -> Outputs:
        """The run's outputs, and val.json. Runs are chosen by val alone; what they say about test, no search looks at."""
        outputs = super().finish(model, context, rundir, **more)
        on_val = dataclasses.replace(context.dataset, test=context.dataset.val)
        atomic.write_json(rundir.path / VAL, {"accuracy": self.score(model, on_val, context.chain)})
        return outputs


def check_task(dataset: Dataset) -> None:
    """Raises DataError or ModelError where there is no val accuracy to choose by."""
    if dataset.task != "classification":
        raise ModelError(f"tune: is for classification; dataset {dataset.name} is for {dataset.task}")
    if not len(dataset.val):
        raise DataError(f"tune: dataset {dataset.name} has no val split, by which trials are compared; expected one in data.options")


def first_train(config: ResolvedConfig) -> int | None:
    """Index of the float training, whose epochs hyperband shares out."""
    return next((index for index, step in enumerate(config.steps) if step.name == "train"), None)


class Attempts:
    """Tries tasks.

    Args:
        config: the search's configuration.
        folder: of the search; a trial's run is in trials/KEY.
        log: takes lines.
    """

    def __init__(
        self,
        config: ResolvedConfig,
        folder: Path,
        *,
        quicktest: bool,
        stop: StopFlag,
        log: Callable[[str], None],
        services: Services | None = None,
    ) -> None:
        self.config, self.folder, self.quicktest, self.stop, self.log = config, folder / "trials", quicktest, stop, log
        self.services = services or TrialServices()
        self.tune = _section(config)
        self._predicted: dict[str, tuple[Prediction, int]] = {}

    def __call__(self, task: Task) -> Trial:
        """The row of a task.

        Raises:
            TinykitError: what is no result of these values: SIGTERM, damaged data, implementations that disagree.
        """
        begun = time.monotonic()
        self.log(f"trial {task.number} {task.key}: {shown(task.proposal.values, task.proposal.stage)}")
        row = Trial(
            task.key, self.tune.method, {}, "infeasible", (), {},
            values=task.proposal.values, number=task.number, stage=task.proposal.stage,
        )  # fmt: skip
        return dataclasses.replace(self._tried(task, row), seconds=round(time.monotonic() - begun, 3))

    def _tried(self, task: Task, row: Trial) -> Trial:
        try:
            config = with_values(self.config, task.proposal.values, without=_LEFT_OUT)
            key, graph = self._twin(config)
        except (ConfigError, ModelError) as error:  # each value is right by itself, and together they are none
            return dataclasses.replace(row, violations=tuple(error.problems))
        predicted, macs = self._prediction(config, key, graph)
        row = dataclasses.replace(row, predicted={**predicted.as_dict(), "macs": macs})
        limits = limits_of(resolve_budget(config), self.tune.limits)
        violations, excess = judged(row.figures, limits, predicted.problems)
        if violations and keeps_size(config):
            return dataclasses.replace(row, violations=violations, excess=excess)
        self.stop.check()
        try:
            metrics, accuracy = self._run(task, config)
        except (BudgetError, ModelError) as error:
            status: Status = "infeasible" if isinstance(error, BudgetError) else "failed"
            return dataclasses.replace(row, status=status, violations=tuple(error.problems), excess=excess or 1.0)
        reached = {"macs": metrics["macs"], **board_figures(metrics)}
        violations, excess = judged(reached, limits, ())
        status = "infeasible" if violations else "trained"
        return dataclasses.replace(row, status=status, violations=violations, excess=excess, reached=reached, accuracy=accuracy)

    def _twin(self, config: ResolvedConfig) -> tuple[str, ir.Graph | None]:
        """(what it follows from, the integer graph of the untrained network); None where it was predicted before: networks that differ in
        their training alone have one twin.

        Raises:
            ConfigError, ModelError: the model cannot be built, or has layers without an exact integer counterpart.
        """
        run, bits = config.config, config.steps[-1].options.get("bits")
        plain = [run.model.model_dump(mode="json"), run.data.preprocess, bits, run.engine.model_dump(), run.budget.model_dump()]
        key = json.dumps(plain, sort_keys=True)
        if key in self._predicted:
            return key, None
        dataset = self.services.load_dataset(run.data.name, run.data.options, seed=run.seed, quicktest=self.quicktest)
        chain = self.services.parse_chain(run.data.preprocess)
        self.services.prepare()
        self.services.seed(0)
        if run.model.path is not None:
            model, _, _ = self.services.absorb(self.services.load_model(run.model.path), dataset, chain)
        else:
            shape = chain.output_shape(dataset.input_shape)
            model = self.services.build_model(run.model.name or "", shape, len(dataset.class_names), run.model.options)
        return key, twin_of(model, bits if isinstance(bits, dict) else None)

    def _prediction(self, config: ResolvedConfig, key: str, graph: ir.Graph | None) -> tuple[Prediction, int]:
        """(figures of a twin, its multiply-accumulates). Raises ConfigError where there is no compiler: that is no trial's fault."""
        if graph is not None:
            run = config.config
            target = Target(emulated_board(run.budget.board), resolve_budget(config), GOALS[run.engine.optimize])
            self._predicted[key] = predict_graph(graph, target), costs.total_macs(graph)
        return self._predicted[key]

    def _run(self, task: Task, config: ResolvedConfig) -> tuple[dict[str, Any], float]:
        """(metrics, accuracy on val) of an ordinary run; one that was interrupted goes on."""
        from tinykit.recipe.runner import run

        folder = self.folder / task.key
        others = sorted(other for other in self.folder.glob("*") if other != folder) if self.folder.is_dir() else []
        self._wait_for(folder)
        self.services.forget()
        command = f"python -m tinykit.train --config {folder / 'config.resolved.yaml'}"
        metrics = run(
            self._staged(task, config), folder, quicktest=self.quicktest, log=_nothing, command=command,
            services=self.services, stop=self.stop, others=others,
        )  # fmt: skip
        found = json.loads((folder / VAL).read_text(encoding="utf-8"))
        return metrics, float(found["accuracy"])

    def _wait_for(self, folder: Path) -> None:
        """Until nobody runs this trial: one whose worker was taken for dead, and was not, is done when this returns."""
        while (folder / "lock").exists():
            with (folder / "lock").open("a+") as stream:
                if hold(stream):
                    return
            self.stop.check()
            time.sleep(1.0)

    def _staged(self, task: Task, config: ResolvedConfig) -> ResolvedConfig:
        """Of Hyperband: with the epochs of the stage, those of an earlier stage less, whose network it begins with."""
        stage, index = task.proposal.stage, first_train(config)
        if stage is None or index is None:
            return config
        changes: dict[str, Any] = {"steps.train.epochs": stage["epochs"]}
        before = self.folder / str(stage["after"]) / "steps" / f"{index + 1:02d}_train" / "model.keras"
        if stage["after"] is not None and before.is_file():
            changes = {
                "steps.train.epochs": stage["epochs"] - stage["first_epoch"],
                "steps.train.when": "always",
                "model": {"path": str(before.absolute())},
            }
        return with_values(self.config, {**task.proposal.values, **changes}, without=_LEFT_OUT)


def _section(config: ResolvedConfig) -> TuneConfig:
    if config.config.tune is None:
        raise ConfigError(f"{config.source}: has no section `tune`")
    return config.config.tune


def keeps_size(config: ResolvedConfig) -> bool:
    """Whether the recipe ends with a network as large as its untrained twin, so that what the twin breaks, the result will break."""
    shrinks = any(getattr(step_class(step.name), "promises", ()) for step in config.steps)
    return not shrinks and not isinstance(config.steps[-1].options.get("bits"), str)


def limits_of(budget: Budget, limits: TuneLimits) -> dict[str, int]:
    """Figure -> the most that it may be."""
    instructions = [limit for limit in (budget.instructions, limits.instructions) if limit is not None]
    every = {
        "flash": budget.flash, "ram": budget.ram, "macs": limits.macs, "cycles": limits.cycles,
        "instructions": min(instructions, default=None),
    }  # fmt: skip
    return {kind: limit for kind, limit in every.items() if limit is not None}


def judged(figures: Mapping[str, Any], limits: Mapping[str, int], problems: Sequence[str]) -> tuple[tuple[str, ...], float]:
    """(what is broken, one line each; by how much in all, as a share of the limits).

    Args:
        problems: why there are no figures.
    """
    over = {kind: (figures.get(kind), limit) for kind, limit in limits.items() if figures.get(kind) is None or figures[kind] > limit}
    if problems and any(used is None for used, _ in over.values()):
        return tuple(problems), 1.0
    lines = tuple(f"{kind}: {'unknown' if used is None else format(used, ',')} of {limit:,}" for kind, (used, limit) in over.items())
    return lines, round(sum(1.0 if used is None else used / limit - 1 for used, limit in over.values()), 6)


def twin_of(model: keras.Model, bits: Mapping[str, int] | None) -> ir.Graph:
    """The integer graph of an untrained float model, with the widths that patterns give its tensors (None: 8).

    Raises:
        ModelError: a layer has no exact integer counterpart.
        ConfigError: patterns that name nothing.
    """
    from tinykit.fit.preview import preview
    from tinykit.quant.allocation.pattern import by_pattern
    from tinykit.quant.fuse import fuse

    found = preview(fuse(model))
    return found.graph if bits is None else found.with_bits(by_pattern(found.network, bits))


def shown(values: Mapping[str, Any], stage: Mapping[str, Any] | None = None) -> str:
    """Values as one reads them: `train.learning_rate 0.003, model.options.filters [8, 8]`."""
    parts = [f"{key.removeprefix('steps.')} {json.dumps(value)}" for key, value in values.items()]
    return ", ".join([*parts, *([f"epochs {stage['epochs']}"] if stage else [])])


def _nothing(line: str) -> None:
    """A trial is one line of the search's output."""
