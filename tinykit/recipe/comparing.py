"""Several recipes on one configuration: what they begin with is done once, and one table and its plots show what each reached."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinykit import atomic
from tinykit.config.catalogue import Catalogue
from tinykit.config.loading import ResolvedConfig, load_config
from tinykit.errors import BudgetError, ConfigError, Terminated, TinykitError
from tinykit.locking import hold
from tinykit.recipe import runner
from tinykit.recipe.console import Console
from tinykit.recipe.interrupt import StopFlag, stop_on_sigterm
from tinykit.recipe.services import Services

LOCK = ".lock"
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SUFFIX = re.compile(r"\.ya?ml$")


@dataclass(frozen=True)
class Outcome:
    """What became of a recipe.

    Attributes:
        recipe: its name.
        config: what was run.
        metrics: content of its metrics.json; None where it failed.
        problems: why it failed.
        exit_code: that its own run would have ended with; 3 where it is done and misses the budget.
    """

    recipe: str
    config: ResolvedConfig
    metrics: dict[str, Any] | None
    problems: tuple[str, ...] = ()
    exit_code: int = 0

    @property
    def failed(self) -> bool:
        """Whether it has no result."""
        return self.metrics is None


def load_recipes(
    config: str, recipes: Sequence[str], overrides: Sequence[str] = (), seed: int | None = None, catalogue: Catalogue | None = None
) -> dict[str, ResolvedConfig]:
    """The configuration with each recipe: name -> configuration.

    Args:
        recipes: names or files.
        overrides, seed, catalogue: as for `load_config`; options of a step reach the recipes that have the step.

    Raises:
        ConfigError: with every problem of all of them.
    """
    found: dict[str, ResolvedConfig] = {}
    problems: list[str] = [] if recipes else ["--compare: expected names of recipes, separated by commas, such as int8,ptq"]
    if any(text.partition("=")[0].strip().split(".")[0] == "recipe" for text in overrides):
        problems.append("--set recipe: --compare names the recipes; leave one of them out")
    for recipe in recipes:
        name = _SUFFIX.sub("", Path(recipe).name)
        if not _FOLDER.fullmatch(name):
            problems.append(f"--compare: {recipe!r}: expected a name of letters, digits, '.', '_' and '-', which its folder can have")
        elif name in found:
            problems.append(f"--compare: {name!r} is given twice; each recipe has the folder of its name")
        else:
            try:
                found[name] = load_config(config, overrides, seed=seed, recipe=recipe, catalogue=catalogue)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    for step in sorted(set.intersection(*(set(each.unused) for each in found.values()))):
        problems.append(f"--set steps.{step}: no recipe of --compare has a step {step!r}")
    if problems:
        raise ConfigError(problems)
    return found


def compare(
    configs: Mapping[str, ResolvedConfig],
    workdir: Path,
    *,
    quicktest: bool = False,
    log: Callable[[str], None] | None = None,
    command: str = "",
    services: Services | None = None,
    stop: StopFlag | None = None,
) -> list[Outcome]:
    """Runs each configuration in the folder `workdir`/its name, or resumes it, and writes comparison.json, .csv, .html and two plots.

    Every configuration is checked before any is run. One that fails later does not keep the others from running.

    Args:
        configs: name -> configuration, from `load_recipes`.
        quicktest, log, command, services, stop: as for `tinykit.recipe.runner.run`.

    Returns:
        What became of each, in order.

    Raises:
        ConfigError, DataError, ModelError, BudgetError: one of them cannot be run; nothing was trained.
        Terminated: SIGTERM; the same command resumes.
        OSError: a file cannot be written; the same command resumes.
    """
    flag, console, services = stop or StopFlag(), Console(log), services or Services()
    with _held(workdir), stop_on_sigterm(flag):
        begun = time.monotonic()
        _check_all(configs, workdir, quicktest, command, services, flag)
        folders = [workdir / name for name in configs]
        outcomes = []
        for number, (name, config) in enumerate(configs.items(), 1):
            flag.check()
            console.line(f"recipe {number}/{len(configs)} {name}")
            services.forget()
            others = [folder for folder in folders if folder.name != name]
            outcomes.append(_run(name, config, workdir / name, quicktest, log, command, services, flag, others))
        _write(outcomes, workdir, quicktest, command, console)
        console.line(f"compared {len(configs)} recipes in {time.monotonic() - begun:.1f} s: {workdir / 'comparison.html'}")
    return outcomes


def _check_all(
    configs: Mapping[str, ResolvedConfig], workdir: Path, quicktest: bool, command: str, services: Services, flag: StopFlag
) -> None:
    """Raises the problems of all configurations that can be told before anything is trained."""
    errors: list[TinykitError] = []
    problems: list[str] = []
    for name, config in configs.items():
        services.forget()
        try:
            runner.check(config, workdir / name, quicktest=quicktest, command=command, services=services, stop=flag)
        except Terminated:
            raise
        except TinykitError as error:
            errors.append(error)
            problems += [problem if problem.startswith("  ") else f"recipe {name}: {problem}" for problem in error.problems]
    if errors:
        hint = "nothing was trained; mend that, or leave these recipes out of --compare"
        raise (BudgetError if all(isinstance(e, BudgetError) for e in errors) else ConfigError)([*problems, hint])


def _run(
    name: str,
    config: ResolvedConfig,
    folder: Path,
    quicktest: bool,
    log: Callable[[str], None] | None,
    command: str,
    services: Services,
    flag: StopFlag,
    others: Sequence[Path],
) -> Outcome:
    try:
        metrics = runner.run(config, folder, quicktest=quicktest, log=log, command=command, services=services, stop=flag, others=others)
    except Terminated:
        raise
    except TinykitError as error:
        Console(log).line(f"recipe {name} failed: {error.problems[0]}")
        return Outcome(name, config, None, tuple(error.problems), error.exit_code)
    return Outcome(name, config, metrics, (), BudgetError.exit_code if metrics["budget_met"] is False else 0)


@contextmanager
def _held(workdir: Path) -> Iterator[None]:
    """The folder for this process alone. Raises ConfigError where another has it, it is one run's, or it cannot be written to."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = (workdir / LOCK).open("a")
    except OSError as error:
        raise ConfigError(f"--workdir {workdir}: cannot be used: {error}; choose a folder that can be written to") from None
    with handle:
        if (workdir / "config.resolved.yaml").exists():
            raise ConfigError(f"--workdir {workdir}: is the directory of one run; --compare wants one of its own")
        if not hold(handle):
            raise ConfigError(f"--workdir {workdir}: in use by another comparison; wait for it, or choose another")
        atomic.remove_unfinished(workdir)
        yield


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The table as plain values, one mapping a recipe; None where something is not known."""
    found = []
    for outcome in outcomes:
        m = outcome.metrics or runner.blank_metrics()
        found.append(
            {
                "recipe": outcome.recipe,
                "steps": [step.label for step in outcome.config.steps],
                "float": m["accuracy"]["float"],
                "integer": m["accuracy"]["integer"],
                "metric": m["accuracy"]["metric"],
                "flash": m["flash"]["total"],
                "ram": m["ram"]["total"],
                "instructions": m["instructions"],
                "cycles": m["cycles"],
                "macs": m["macs"],
                "tflite_bytes": m["tflite_bytes"],
                "seconds": m["seconds"]["total"],
                "budget_met": m["budget_met"],
                "error": outcome.problems[0] if outcome.failed else None,
            }
        )
    return found


def _write(outcomes: Sequence[Outcome], workdir: Path, quicktest: bool, command: str, console: Console) -> None:
    from tinykit.report.comparison import Comparison, csv_text, lines, plots, render

    first = next((outcome.metrics for outcome in outcomes if outcome.metrics is not None), None)
    config = outcomes[0].config
    shown = Comparison(
        title=config.name,
        command=command,
        board=config.config.budget.board,
        seed=config.config.seed,
        quicktest=quicktest,
        data=first["data"] if first else {},
        rows=tuple(rows(outcomes)),
    )
    atomic.write_json(workdir / "comparison.json", shown.to_dict())
    atomic.write_text(workdir / "comparison.csv", csv_text(shown))
    for name, image in plots(shown).items():
        atomic.write_bytes(workdir / name, image)
    atomic.write_text(workdir / "comparison.html", render(shown))
    for line in lines(shown):
        console.line(line)


def conclusion(outcomes: Sequence[Outcome]) -> TinykitError | None:
    """What the program ends with: None where every recipe has a result and one of them keeps the budget."""
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        error = TinykitError([f"recipe {outcome.recipe}: {problem}" for outcome in failed for problem in outcome.problems])
        error.exit_code = max(outcome.exit_code for outcome in failed)
        return error
    if all(outcome.exit_code for outcome in outcomes):
        return BudgetError("no recipe keeps the budget; see the table above")
    return None
