"""Finds an architecture, or values of a configuration, under a budget, and runs the configuration's recipe with it.

Examples:
  python -m tinykit.search --config search_digits
  python -m tinykit.search --config search_vww --quicktest
  python -m tinykit.search --config search_har --workdir runs/small --seed 1 --set budget.flash=20kB --set search.candidates=12
  python -m tinykit.search --config search_kws --set recipe=mixed_precision
  python -m tinykit.search --config tune_digits
  python -m tinykit.search --config tune_digits --chief 7077                 # the chief, which has no trials of its own
  python -m tinykit.search --config tune_digits --chief 7077 --worker one    # and each of its workers

The same command with the same --workdir resumes: no finished trial is lost or repeated. Exit codes: 0 done, 2 bad input, configuration or a
workdir in use, 3 nothing fits the budget, 4 parity failed, 130 interrupted, 143 ended by SIGTERM.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from tinykit.cli import exit_code, open_streams, parse_flags
from tinykit.config.loading import ResolvedConfig, available, load_config
from tinykit.errors import BudgetError, ConfigError
from tinykit.recipe.interrupt import StopFlag, catch_sigterm

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares this program's flags."""
    flags.DEFINE_string(
        "config", None, "Configuration with a section `search` or `tune`: a path, or a name in configs/ here or in the package."
    )
    flags.DEFINE_string("workdir", None, "Run directory. Default: runs/<config's name>, with -quicktest if that is given.")
    flags.DEFINE_integer("seed", None, "Seed of everything random; replaces the configuration's.", lower_bound=0)
    flags.DEFINE_multi_string("set", [], "Replaces one value of the configuration, a.b=value; may be repeated.")
    flags.DEFINE_bool("quicktest", False, "Runs everything on a few samples for two epochs; its numbers are no results.")
    flags.DEFINE_string(
        "chief", None, "With `tune`: HOST:PORT, or PORT on this machine alone, at which a chief hands out trials to workers."
    )
    flags.DEFINE_string("worker", None, "With --chief: this process is a worker of that name; each worker has its own.")
    flags.DEFINE_float(
        "lease", 60.0, "With --chief: seconds without a sign of life after which a worker's trial goes to another.", 1.0, 1e6
    )


def _work(argv: Sequence[str], stop: StopFlag) -> None:
    problems = [f"unexpected argument {argument!r}" for argument in argv[1:]]
    if FLAGS.worker is not None and FLAGS.chief is None:
        problems.append("--worker: expected --chief HOST:PORT beside it, the chief's address")
    if FLAGS.config is None and not problems:
        shipped = [name for name in available("configs") if name.startswith(("search_", "tune_"))]
        problems.append(f"--config is missing; shipped configurations for a search: {', '.join(shipped)}")
    if problems:
        raise ConfigError(problems)
    config = load_config(FLAGS.config, FLAGS["set"].value, seed=FLAGS.seed)
    workdir = FLAGS.workdir or os.path.join("runs", config.name + ("-quicktest" if FLAGS.quicktest else ""))
    command = shlex.join(["python", "-m", "tinykit.search", *sys.argv[1:]])
    result = _search(config, workdir, command, stop)
    if result is None:
        return
    if result["run"]["budget_met"] is False:
        raise BudgetError(f"the budget is not met; see the lines above and {os.path.join(workdir, 'run', 'metrics.json')}")


def _search(config: ResolvedConfig, workdir: str, command: str, stop: StopFlag) -> dict[str, Any] | None:
    """The search that the configuration has a section for; None of a worker."""
    if config.config.tune is None:
        if FLAGS.chief is not None:
            raise ConfigError(f"--chief: is for a configuration with a section `tune`, and {config.source} has none")
        from tinykit.search.run import search

        return search(config, workdir, quicktest=FLAGS.quicktest, command=command, stop=stop)
    if config.config.search is not None:
        raise ConfigError(f"{config.source}: has both sections, `search` and `tune`; expected one of them")
    if FLAGS.worker is not None:
        from tinykit.search.tuner.joining import join

        join(config, workdir, name=FLAGS.worker, address=FLAGS.chief, quicktest=FLAGS.quicktest, stop=stop, lease=FLAGS.lease)
        return None
    from tinykit.search.tuner.run import tune

    return tune(config, workdir, quicktest=FLAGS.quicktest, command=command, stop=stop, address=FLAGS.chief, lease=FLAGS.lease)


def _main(argv: Sequence[str]) -> None:
    open_streams()
    stop = StopFlag()
    catch_sigterm(stop)
    sys.exit(exit_code(lambda: _work(argv, stop)))


def main() -> None:
    """Does what the flags say and ends the program."""
    define_flags()
    app.run(_main, flags_parser=parse_flags)


if __name__ == "__main__":
    main()
