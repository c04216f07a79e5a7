"""Runs a recipe: data, model, steps in order, outputs; times, saves, resumes, and judges the budget."""

import dataclasses
import functools
import hashlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinykit
from tinykit import atomic
from tinykit.config.loading import ResolvedConfig, StepSpec
from tinykit.config.sizes import format_size
from tinykit.errors import BudgetError, ConfigError, ModelError, ParityError, TinykitError
from tinykit.recipe import claims, ledger
from tinykit.recipe.budget import judge, resolve_budget
from tinykit.recipe.console import Console
from tinykit.recipe.interrupt import StopFlag, stop_on_sigterm
from tinykit.recipe.merge import merge
from tinykit.recipe.rundir import RunDir
from tinykit.recipe.services import Services
from tinykit.recipe.sharing import adopt
from tinykit.recipe.step import MetricsLog, StepContext

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tinykit.data import Chain, Dataset
    from tinykit.recipe.outputs import Outputs

_QUICKTEST = "QUICKTEST: a few samples, one epoch; no number below is a result"


def blank_metrics() -> dict[str, Any]:
    """Every key of metrics.json, with None for what is not known."""
    return {
        "task": None,
        "data": {"source": None, "synthetic": None, "test_samples": None},
        "accuracy": {"float": None, "integer": None, "metric": None},
        "parity": {"keras_vs_reference": None, "tflm_vs_reference": None, "engine_vs_reference": None, "samples": None},
        "flash": {"total": None, "weights": None, "tables": None, "code": None},  # code is all but weights; tables are part of it
        "ram": {"total": None, "arena": None, "static": None, "stack": None},
        "macs": None,
        "instructions": None,
        "cycles": None,
        "board": None,
        "budget_met": None,
        "tflite_bytes": None,
        "seconds": {"total": None},
        "seed": None,
    }


def run(
    config: ResolvedConfig,
    workdir: str | Path,
    *,
    quicktest: bool = False,
    log: Callable[[str], None] | None = None,
    command: str | None = None,
    services: Services | None = None,
    stop: StopFlag | None = None,
    others: Sequence[Path] = (),
) -> dict[str, Any]:
    """Runs a configuration, or resumes it: `python -m tinykit.train` as a function.

    Args:
        config: from `tinykit.config.loading.load_config`.
        workdir: the run directory; made if absent. With the same configuration, finished steps are not run again.
        quicktest: a few samples and one epoch, to see that everything works; marks every output.
        log: takes each line of output; None: standard output.
        command: for command.txt; default: this process's command line.
        services: for tests.
        stop: asks the run to end at its next safe point; None: SIGTERM does, while it runs.
        others: run directories of other recipes; steps that one of them has begun with as this run does are taken from there.

    Returns:
        The content of metrics.json. `budget_met` False is not an exception.

    Raises:
        ConfigError: the directory is in use, or was made with another configuration or other inputs.
        DataError, ModelError: data or model cannot be used.
        ParityError: two implementations of the integer network disagree; metrics.json says how much.
        Terminated: SIGTERM; the same command resumes.
    """
    flag = stop or StopFlag()
    line = command if command is not None else shlex.join(sys.orig_argv)
    with nullcontext() if stop else stop_on_sigterm(flag), RunDir(Path(workdir)) as rundir:
        try:
            return _Run(config, rundir, quicktest, Console(log), services or Services(), flag, others).run(line)
        except (TinykitError, OSError):
            flag.check()  # SIGTERM for the whole process group ends a compiler too, and that is no error of the sources
            raise


def check(config: ResolvedConfig, workdir: str | Path, *, quicktest: bool, command: str, services: Services, stop: StopFlag) -> None:
    """All that `run` checks before its first step works, without that step; arguments and errors are those of `run`. Prints nothing.

    A directory that was made is taken by the next run, also of another configuration.
    """
    with RunDir(Path(workdir)) as rundir:
        _Run(config, rundir, quicktest, Console(_nothing), services, stop).check(command)


class _Run:
    """One run in progress."""

    def __init__(
        self,
        config: ResolvedConfig,
        rundir: RunDir,
        quicktest: bool,
        console: Console,
        services: Services,
        stop: StopFlag,
        others: Sequence[Path] = (),
    ) -> None:
        self.config = config
        self.rundir = rundir
        self.quicktest = quicktest
        self.console = console
        self.services = services
        self.stop = stop
        self.others = others
        self.rows: list[ledger.Row] = []
        self.budget = resolve_budget(config)
        self.started = time.monotonic()
        self._float: keras.Model | None = None
        self._float_origin = -2
        self._imported: keras.Model | None = None

    def run(self, command: str) -> dict[str, Any]:
        """Everything, in order."""
        remarks = self.rundir.begin(self.config, command, self.quicktest)
        self._greet(remarks)
        finished = self.rundir.finished_metrics()
        if finished is not None:
            self._restore_rows()
            self.console.ledger(self.rows, self.budget)
            again = self.rundir.path / "DONE"
            self.console.line(f"nothing to do: this run is complete (to make its outputs again, delete {again})")
            self.console.line(f"done: {self.rundir.path / 'report.html'}")
            return finished
        dataset, declared = self._ready()
        metrics_log = self.services.metrics_log(self.rundir.path)
        try:
            return self._work(metrics_log, dataset, declared)
        finally:
            metrics_log.close()

    def check(self, command: str) -> None:
        """What `run` checks before the first step."""
        self.rundir.begin(self.config, command, self.quicktest)
        if self.rundir.finished_metrics() is not None:
            return
        dataset, declared = self._ready()
        context = self._context(dataset, self._import(dataset, declared))
        if not self._restore_rows():
            self._check_steps(self._first_model(dataset, context.chain), context)

    def _ready(self) -> "tuple[Dataset, Chain]":
        """The data, and TensorFlow imported, in the order in which problems are told soonest."""
        if any(getattr(self.services.step_class(step.name), "makes_integers", False) for step in self.config.steps):
            self.services.check_tools()
        self.stop.check()
        dataset, declared = self._data()  # without TensorFlow: what is wrong with the data is told in a second
        self.stop.check()
        self.services.prepare()
        self.stop.check()
        return dataset, declared

    def _greet(self, remarks: Sequence[str]) -> None:
        run = self.config.config
        mark = "QUICKTEST  " if self.quicktest else ""
        self.console.line(
            f"{mark}tinykit {tinykit.__version__}  {self.config.name}  seed {run.seed}"
            f"  steps {', '.join(step.label for step in self.config.steps)}  -> {self.rundir.path}"
        )
        if self.quicktest:
            self.console.line(_QUICKTEST)
        for note in (*self.config.notes, *remarks):
            self.console.line(f"note: {note}")
        if self.budget.flash is not None or self.budget.ram is not None:
            of = f"{run.budget.board}: " if run.budget.board else ""
            self.console.line(f"budget: {of}flash {format_size(self.budget.flash)}, RAM {format_size(self.budget.ram)}")
        for note in self.budget.notes:
            self.console.line(f"note: {note}")

    def _work(self, metrics_log: MetricsLog, dataset: "Dataset", declared: "Chain") -> dict[str, Any]:
        context = self._context(dataset, self._import(dataset, declared))
        context.write_metrics = metrics_log.write
        model, float_accuracy = self._steps(context)
        with atomic.replacing(self.rundir.path / "model.keras") as temporary:
            self.services.save_step_model(model, temporary)
        return self._outputs(model, context, float_accuracy)

    def _context(self, dataset: "Dataset", chain: "Chain") -> StepContext:
        return StepContext(
            dataset=dataset,
            chain=chain,
            config=self.config,
            seed=self.config.config.seed,
            folder=self.rundir.path,
            label="outputs",
            quicktest=self.quicktest,
            log=lambda message: self.console.line(f"  {message}"),
            stop=self.stop,
            show_progress=self.console.progress,
        )

    def _data(self) -> "tuple[Dataset, Chain]":
        """Loads the data, says what it is, and checks that it is what the run began with."""
        run = self.config.config
        dataset = self.services.load_dataset(run.data.name, run.data.options, seed=run.seed, quicktest=self.quicktest)
        chain = self.services.parse_chain(run.data.preprocess)
        self.services.check_samples(dataset, chain, run.data.augment, self._rebuilds())
        synthetic = "  SYNTHETIC: scores mean nothing" if dataset.synthetic else ""
        self.console.line(
            f"data: {dataset.name} from {dataset.source}; train {len(dataset.train.y)}, val {_count(dataset.val)},"
            f" test {len(dataset.test.y)} samples; split sha256 {dataset.split_sha256[:12]}{synthetic}"
        )
        inputs = {"split_sha256": dataset.split_sha256, "data_sha256": dataset.content_sha256, "model_sha256": None}
        if run.model.path is not None:
            inputs["model_sha256"] = _sha256(Path(run.model.path))
        self.rundir.check_inputs(inputs)
        return dataset, chain

    def _rebuilds(self) -> bool:
        """Whether a step trains the network to give back its input."""
        return any(step.options.get("loss") == "mse" for step in self.config.steps)

    def _import(self, dataset: "Dataset", declared: "Chain") -> "Chain":
        """Looks at a user's model, before anything is done with it; returns the chain with the preprocessing that it begins with."""
        path = self.config.config.model.path
        if path is None:
            return declared
        model = self.services.load_model(path)
        shape = declared.output_shape(dataset.train.x.shape[1:])
        self.services.check_input(model, shape)
        for line in self.services.check_scores(model, dataset, shape, self._rebuilds()):
            self.console.line(f"note: {line}")
        self.services.check_values(model, dataset, declared)
        self._imported, chain, lines = self.services.absorb(model, dataset, declared)
        for line in lines:
            self.console.line(line if line.startswith("warning") else f"note: {line}")
        return chain

    def _first_model(self, dataset: "Dataset", chain: "Chain") -> "keras.Model":
        run = self.config.config
        self.services.seed(run.seed)
        shape = chain.output_shape(dataset.train.x.shape[1:])
        if run.model.path is not None:
            model, self._imported = self._imported, None  # a fresh object each time, because steps may change it
            if model is None:
                declared = self.services.parse_chain(run.data.preprocess)
                model, _, _ = self.services.absorb(self.services.load_model(run.model.path), dataset, declared)
            return model
        if run.model.name is None:
            raise ModelError("the configuration names no model")
        return self.services.build_model(run.model.name, shape, len(dataset.class_names), run.model.options)

    def _restore_rows(self) -> int:
        """Takes the rows of the steps that are finished; returns their number."""
        for index, step in enumerate(self.config.steps):
            report = self.rundir.step_report(index, step.label)
            if report is None:
                break
            try:
                self.rows.append(ledger.Row.from_report(step.label, report))
                self.rundir.tidy_step(index, step.label)
            except (KeyError, TypeError) as error:
                folder = self.rundir.step_folder(index, step.label)
                raise ConfigError(f"{folder / 'report.json'}: damaged: {error}; delete {folder} to run the step again") from error
        return len(self.rows)

    def _model_file(self, index: int) -> Path:
        return self.rundir.step_folder(index, self.config.steps[index].label) / "model.keras"

    def _saved(self, index: int) -> "keras.Model":
        """The model that step `index` left; a fresh object."""
        return self.services.load_step_model(self._model_file(index), self.services.step_class(self.config.steps[index].name))

    def _steps(self, context: StepContext) -> "tuple[keras.Model, float | None]":
        """Runs what is not finished; returns the last model and the float model's accuracy."""
        steps = self.config.steps
        for line in adopt(self.rundir, self.config, self.others, self.quicktest):
            self.console.line(line)
        done = self._restore_rows()
        if done:
            self.console.line(f"resuming: {', '.join(row.step for row in self.rows)} done before")
        model = self._saved(done - 1) if done else self._first_model(context.dataset, context.chain)
        if not done:
            self._check_steps(model, context)
        trained = self._trained()
        if not trained and self.config.config.model.path is None:
            self.console.line("note: the recipe has no step that trains and the model no weights of its own; its weights are random")
        for index in range(len(steps)):
            if index >= done:
                context.float_model = self._float_model(trained, index, context)
                model = self._step(index, model, context)
        context.float_model = self._float_model(trained, len(steps), context)
        if trained:
            return model, self.rows[trained[-1]].accuracy
        return model, self.services.score(context.float_model, context.dataset, context.chain)

    def _trained(self) -> list[int]:
        """The steps whose model is the float model of those that follow: every `train`, or where there is none all that train."""
        steps = list(enumerate(self.config.steps))
        train = [index for index, step in steps if step.name == "train"]
        return train or [index for index, step in steps if getattr(self.services.step_class(step.name), "trains", False)]

    def _check_steps(self, model: "keras.Model", context: StepContext) -> None:
        """Lets every step say, before the first one works, what it cannot do with this model; all problems at once."""
        errors: list[TinykitError] = []
        for spec in self.config.steps:
            kind = self.services.step_class(spec.name)
            step, own = kind(), dataclasses.replace(context, label=spec.label)
            options = kind.Options.model_validate(spec.options)
            for name, arguments in (("check", (model,)), ("check_task", (model, options, own))):
                try:
                    getattr(step, name, _nothing)(*arguments)
                except TinykitError as error:
                    errors.append(error)
        if errors:
            too_large = all(isinstance(error, BudgetError) for error in errors)  # and nothing else is wrong
            raise (BudgetError if too_large else ModelError)(list(dict.fromkeys(line for error in errors for line in error.problems)))

    def _float_model(self, trained: Sequence[int], index: int, context: StepContext) -> "keras.Model | None":
        """What `context.float_model` is for step `index`: as the last `train` before it left it, else as loaded."""
        origin = max((number for number in trained if number < index), default=-1)
        if origin != self._float_origin:
            self._float_origin = origin
            if origin >= 0:
                self._float = self._saved(origin)
            elif not trained or self.config.config.model.path is not None:
                self._float = self._first_model(context.dataset, context.chain)
        return self._float

    def _step(self, index: int, model: "keras.Model", context: StepContext) -> "keras.Model":
        """Runs one step, saves its model and report, and adds its row."""
        spec = self.config.steps[index]
        self.stop.check()
        self.console.line(f"step {index + 1}/{len(self.config.steps)} {spec.label}{_shown_options(spec)}")
        kind = self.services.step_class(spec.name)
        seed = (self.config.config.seed + 7919 * (index + 1)) % 2**31
        self.services.seed(seed)
        own = dataclasses.replace(context, seed=seed, folder=self.rundir.step_folder(index, spec.label), label=spec.label)
        begun = time.monotonic()
        result = kind().run(model, kind.Options.model_validate(spec.options), own)
        seconds = round(time.monotonic() - begun, 3)
        model = result.model if result.model is not None else model
        with atomic.replacing(own.folder / "model.keras") as temporary:
            self.services.save_step_model(model, temporary)
        self.stop.check()
        accuracy = self.services.score(model, context.dataset, context.chain)
        metric = _metric(context.dataset)
        row = ledger.Row(spec.label, accuracy, self._footprint(model), seconds, metric=metric)
        self._check_claims(row, model)
        self.rows.append(row)
        key = f"test_{ledger.metric_name(metric).lower()}"
        values = {"seconds": seconds} if accuracy is None else {key: accuracy, "seconds": seconds}
        own.write_metrics(spec.label, values, None)  # before DONE: a kill in between repeats the line and never loses it
        self.rundir.finish_step(index, spec.label, {"step": spec.name, "options": spec.options, **row.to_dict(), "report": result.report})
        self.console.line(
            f"done {index + 1}/{len(self.config.steps)} {spec.label}: test {ledger.metric_name(metric)}"
            f" {ledger.format_accuracy(accuracy, metric)}, {seconds:.1f} s"
        )
        return model

    def _check_claims(self, row: ledger.Row, model: "keras.Model") -> None:
        """Raises ModelError where a step has broken what an earlier one promised."""
        problems = []
        now = claims.Evidence(row.footprint, functools.cache(lambda: self.services.weights(model)))
        for index, (spec, before) in enumerate(zip(self.config.steps, self.rows)):
            kind = self.services.step_class(spec.name)
            count = getattr(kind.Options.model_validate(spec.options), "clusters", 0)
            reached = claims.Evidence(before.footprint, functools.partial(self._saved_weights, index), count)
            lost = claims.broken(getattr(kind, "promises", ()), reached, now)
            problems += [f"step {row.step}: breaks what {before.step} had done: {problem}" for problem in lost]
        if problems:
            raise ModelError(problems)

    def _saved_weights(self, index: int) -> "dict[str, np.ndarray]":
        """The weights that step `index` left."""
        return self.services.weights(self._saved(index))

    def _footprint(self, model: "keras.Model") -> ledger.Footprint:
        """Sizes for the ledger; unknown where the network cannot be made an integer one, which the outputs will explain."""
        try:
            return self.services.footprint(model, simplified=self.config.config.simplify)
        except TinykitError as error:
            self.console.line(f"note: size not known: {error.problems[0]}")
            return ledger.Footprint()

    def _outputs(self, model: "keras.Model", context: StepContext, float_accuracy: float | None) -> dict[str, Any]:
        """Makes and checks the outputs, writes metrics.json, and shows the ledger."""
        self.stop.check()
        self.console.line("outputs")
        last = self.rows[-1].footprint
        metrics = blank_metrics()
        merge(
            metrics,
            {
                "task": self.config.config.task,
                "data": {
                    "source": context.dataset.source,
                    "synthetic": bool(context.dataset.synthetic),
                    "test_samples": len(context.dataset.test.y),
                },
                "accuracy": {"float": float_accuracy, "metric": None if float_accuracy is None else _metric(context.dataset)},
                "macs": last.macs,
                "board": self.config.config.budget.board,
                "tflite_bytes": last.tflite_bytes,
                "seconds": {row.step: row.seconds for row in self.rows},
                "seed": self.config.config.seed,
            },
        )
        begun = time.monotonic()
        failed: ParityError | None = None
        outputs: Outputs | None = None
        try:
            outputs = self.services.finish(model, context, self.rundir, rows=tuple(self.rows), budget=self.budget)
            merge(metrics, outputs.metrics)
        except ParityError as error:
            failed = error
        metrics["seconds"]["outputs"] = round(time.monotonic() - begun, 3)
        earlier = sum(row.seconds for row in self.rows if row.resumed)
        metrics["seconds"]["total"] = round(time.monotonic() - self.started + earlier, 3)
        met, judged = judge(metrics, self.rows[-1].footprint, self.budget)
        problems = outputs.problems if outputs is not None else []
        met = False if problems else met
        metrics["budget_met"] = met
        if self.quicktest:
            metrics["quicktest"] = True
        failed = failed or _parity_failure(metrics["parity"])
        self.rundir.write_metrics(metrics)
        if outputs is not None:
            self.services.report(outputs, self.rundir, metrics, tuple(self.rows), self.budget, self.config.config.budget.board)
        if failed is None:
            self.rundir.finish()
        self.console.ledger(self.rows, self.budget)
        if failed is not None:
            raise failed
        for problem in problems:
            self.console.line(problem)
        if judged:
            self.console.line(judged)
        if self.quicktest:
            self.console.line(_QUICKTEST.replace("below", "above"))
        self.console.line(f"done: {self.rundir.path / 'report.html'}")
        return metrics


def _parity_failure(parity: dict[str, Any]) -> ParityError | None:
    wrong = {key: value for key, value in parity.items() if key != "samples" and value}
    if not wrong:
        return None
    return ParityError([f"parity: {key}: {value} elements differ over {parity['samples']} samples" for key, value in wrong.items()])


def _shown_options(spec: StepSpec) -> str:
    shown = [f"{key}={value}" for key, value in spec.options.items() if isinstance(value, (int, float, str))]
    return f": {' '.join(shown)}" if shown else ""


def _metric(dataset: Any) -> str:
    """What the data are judged by: see `tinykit.data.Dataset.metric`."""
    return getattr(dataset, "metric", "top1")


def _nothing(*arguments: Any) -> None:
    """What a step checks that has nothing to check."""


def _count(split: Any) -> int:
    return 0 if split is None else len(split.y)


def _sha256(path: Path) -> str:
    """Hash of a file, or of all files of a folder (a SavedModel) in order of their names."""
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise ModelError(f"{path}: a folder without saved_model.pb; expected a SavedModel, or name the .keras or .h5 file in it")
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
