"""Finds an architecture under a budget, and runs the configuration's recipe on it.

Examples:
  python -m tinykit.search --config search_digits
  python -m tinykit.search --config search_vww --quicktest
  python -m tinykit.search --config search_har --workdir runs/small --seed 1 --set budget.flash=20kB --set search.candidates=12
  python -m tinykit.search --config search_kws --set recipe=mixed_precision

The same command with the same --workdir resumes: no finished trial is lost or repeated. Exit codes: 0 done, 2 bad input, configuration or a
workdir in use, 3 nothing fits the budget, 4 parity failed, 130 interrupted, 143 ended by SIGTERM.
"""

import os
import shlex
import sys
from collections.abc import Sequence

from absl import app, flags

from tinykit.cli import exit_code, open_streams, parse_flags
from tinykit.config.loading import available, load_config
from tinykit.errors import BudgetError, ConfigError
from tinykit.recipe.interrupt import StopFlag, catch_sigterm

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares this program's flags."""
    flags.DEFINE_string("config", None, "Configuration with a section `search`: a path, or a name in configs/ here or in the package.")
    flags.DEFINE_string("workdir", None, "Run directory. Default: runs/<config's name>, with -quicktest if that is given.")
    flags.DEFINE_integer("seed", None, "Seed of everything random; replaces the configuration's.", lower_bound=0)
    flags.DEFINE_multi_string("set", [], "Replaces one value of the configuration, a.b=value; may be repeated.")
    flags.DEFINE_bool("quicktest", False, "Runs everything on a few samples for two epochs; its numbers are no results.")


def _work(argv: Sequence[str], stop: StopFlag) -> None:
    problems = [f"unexpected argument {argument!r}" for argument in argv[1:]]
    if FLAGS.config is None and not problems:
        shipped = [name for name in available("configs") if name.startswith("search_")]
        problems.append(f"--config is missing; shipped configurations for a search: {', '.join(shipped)}")
    if problems:
        raise ConfigError(problems)
    config = load_config(FLAGS.config, FLAGS["set"].value, seed=FLAGS.seed)
    workdir = FLAGS.workdir or os.path.join("runs", config.name + ("-quicktest" if FLAGS.quicktest else ""))
    command = shlex.join(["python", "-m", "tinykit.search", *sys.argv[1:]])
    from tinykit.search.run import search

    result = search(config, workdir, quicktest=FLAGS.quicktest, command=command, stop=stop)
    if result["run"]["budget_met"] is False:
        raise BudgetError(f"the budget is not met; see the lines above and {os.path.join(workdir, 'run', 'metrics.json')}")


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
