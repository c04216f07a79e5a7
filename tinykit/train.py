"""Trains and compresses a network from a configuration, and proves that the integer network is what was trained.

Examples:
  python -m tinykit.train --config digits
  python -m tinykit.train --config cifar10 --quicktest
  python -m tinykit.train --config cifar10.yaml --workdir runs/small --seed 1 --set steps.train.epochs=5 --set recipe=ptq
  python -m tinykit.train --config digits --set model.path=my_model.keras
  python -m tinykit.train --config digits --compare int8,ptq,prune_quantize
  python -m tinykit.train --flagfile=job.flags

The same command with the same --workdir resumes. Exit codes: 0 done, 2 bad input, configuration or a workdir in use,
3 the budget was not met (with --compare: by no recipe), 4 parity failed, 130 interrupted, 143 ended by SIGTERM.
"""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

from tinykit.cli import exit_code, open_streams, parse_flags
from tinykit.config.loading import ResolvedConfig, available, load_config
from tinykit.config.schema import json_schema
from tinykit.errors import BudgetError, ConfigError
from tinykit.recipe.interrupt import StopFlag, catch_sigterm

if TYPE_CHECKING:
    from tinykit.recipe.services import Services

FLAGS = flags.FLAGS

flags.DEFINE_string("config", None, "Configuration: a path, or a name in configs/ here or in the package.")
flags.DEFINE_string("workdir", None, "Run directory. Default: runs/<config's name>, with -quicktest if that is given.")
flags.DEFINE_integer("seed", None, "Seed of everything random; replaces the configuration's.", lower_bound=0)
flags.DEFINE_multi_string("set", [], "Replaces one value of the configuration, a.b=value; may be repeated.")
flags.DEFINE_list(
    "compare", None, "Recipes, names or files, to run on the configuration and to compare; what they begin with is done once. Not with "
    "--set recipe. Default workdir: runs/<config's name>-compare."
)  # fmt: skip
flags.DEFINE_bool("quicktest", False, "Runs everything in about a minute on a few samples; its numbers are no results.")
flags.DEFINE_bool("print_schema", False, "Prints the JSON Schema of a configuration, for editors, and ends.")


def _print_schema() -> None:
    from tinykit.recipe.registry import step_class, step_names

    options = {}
    for name in step_names():
        try:
            options[name] = step_class(name).Options
        except ConfigError as error:
            print(f"note: {error}", file=sys.stderr)
    print(json.dumps(json_schema(options), indent=2), flush=True)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raises ConfigError with what the command line lacks or has too much."""
    problems = []
    for argument in arguments:
        hint = f"; did you mean --config={argument}?" if argument.endswith((".yaml", ".yml")) and not FLAGS.config else ""
        problems.append(f"unexpected argument {argument!r}{hint}")
    if FLAGS.config is None and not problems:
        problems.append(f"--config is missing; shipped configurations: {', '.join(available('configs'))}")
    if problems:
        raise ConfigError(problems)


def train(
    config: ResolvedConfig,
    workdir: str,
    *,
    quicktest: bool = False,
    command: str,
    services: "Services | None" = None,
    stop: StopFlag | None = None,
) -> None:
    """Runs a configuration; `tinykit.recipe.runner.run` is the library's function.

    Raises:
        BudgetError: the result does not fit the budget; everything has been written.
        TinykitError: see `tinykit.recipe.runner.run`.
    """
    from tinykit.recipe.runner import run

    metrics = run(config, workdir, quicktest=quicktest, command=command, services=services, stop=stop)
    if metrics["budget_met"] is False:
        raise BudgetError(f"the budget is not met; see the lines above and {os.path.join(workdir, 'metrics.json')}")


def _compare(names: Sequence[str], command: str, stop: StopFlag) -> None:
    """Runs several recipes. Raises TinykitError where one failed, or where none keeps the budget; everything has been written."""
    from tinykit.recipe.comparing import compare, conclusion, load_recipes

    configs = load_recipes(FLAGS.config, names, FLAGS["set"].value, FLAGS.seed)
    first = next(iter(configs.values()))
    workdir = FLAGS.workdir or os.path.join("runs", f"{first.name}-compare" + ("-quicktest" if FLAGS.quicktest else ""))
    error = conclusion(compare(configs, Path(workdir), quicktest=FLAGS.quicktest, command=command, stop=stop))
    if error is not None:
        raise error


def _work(argv: Sequence[str], stop: StopFlag) -> None:
    if FLAGS.print_schema:
        _print_schema()
        return
    _check_arguments(argv[1:])
    command = shlex.join(["python", "-m", "tinykit.train", *sys.argv[1:]])
    if FLAGS.compare is not None:
        _compare(FLAGS.compare, command, stop)
        return
    config = load_config(FLAGS.config, FLAGS["set"].value, seed=FLAGS.seed)
    workdir = FLAGS.workdir or os.path.join("runs", config.name + ("-quicktest" if FLAGS.quicktest else ""))
    train(config, workdir, quicktest=FLAGS.quicktest, command=command, stop=stop)


def main(argv: Sequence[str]) -> None:
    """Does what the flags say and ends the program."""
    open_streams()
    stop = StopFlag()
    catch_sigterm(stop)  # to the end of the program: what is finished by then has been finished
    sys.exit(exit_code(lambda: _work(argv, stop)))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
