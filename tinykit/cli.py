"""What the command-line programs share: exit codes, closed streams, flags."""

import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from tinykit.errors import ConfigError, TinykitError
from tinykit.options import closest
from tinykit.recipe.console import discard_output


def exit_code(work: Callable[[], None], resumable: bool = True) -> int:
    """Does `work`; prints what a user can act on as `error: ...` lines. Returns the exit code of the program.

    `resumable`: the same command goes on where this one ended, and the messages say so."""
    try:
        work()
    except TinykitError as error:
        _flush()
        for problem in error.problems:
            _tell(problem if problem.startswith("  ") else f"error: {problem}")
        return error.exit_code
    except KeyboardInterrupt:
        _flush()
        print("interrupted; the same command resumes" if resumable else "interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "tinykit").partition(".")[0] == "tinykit":
            raise  # a defect of ours
        _flush()
        what = f"the Python module {error.name!r} is not installed"
        _tell(f"error: {what}; install tinykit again (`pip install .` in its sources), which brings all that it needs")
        return 2
    except BrokenPipeError:  # `--print_schema | head`: who reads has had enough
        discard_output()
    except OSError as error:
        _flush()
        hint = "; nothing is lost that was finished: mend it, and the same command resumes" if resumable else ""
        _tell(f"error: {error}{hint}")
        return 2
    return 0


def _escaped(text: str) -> str:
    """`text` without what would break its line or steer a terminal: names of files and layers are whatever somebody chose."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _tell(line: str) -> None:
    """Prints to standard error; one that cannot show a letter gets an escape in its place, and none at all gets nothing."""
    try:
        print(_escaped(line), file=sys.stderr, flush=True)
    except UnicodeEncodeError:
        print(_escaped(line).encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)
    except OSError:
        return


def open_streams() -> None:
    """Standard streams that the caller closed lead nowhere, so that no file of the run takes their numbers."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            sink = os.open(os.devnull, os.O_WRONLY)
            if sink != number:
                os.dup2(sink, number)
                os.close(sink)
            setattr(sys, name, os.fdopen(number, "w"))


def _flush() -> None:
    """Standard output before standard error; without complaint where there is none, or nobody who reads it."""
    try:
        print(end="", flush=True)
    except OSError:
        discard_output()


def _dashed(argument: str) -> str:
    """`--no-simplify` as absl spells it, `--nosimplify`, where there is such a switch."""
    name = argument.removeprefix("--no-")
    known = flags.FLAGS[name] if name != argument and name in flags.FLAGS else None
    return f"--no{name}" if known is not None and known.boolean else argument


def _flag_problem(error: Exception) -> str:
    """What is wrong with a flag, in the words of the other messages."""
    if isinstance(error, flags.UnrecognizedFlagError):
        match = closest(error.flagname, list(flags.FLAGS))
        return f"unknown flag --{error.flagname}" + (f"; did you mean --{match}?" if match else "")
    if isinstance(error, UnicodeDecodeError):
        return f"--flagfile: expected UTF-8 text: {error.reason} at byte {error.start}"
    text = str(error).removeprefix("ERROR:: ")
    text = re.sub(r"invalid literal for int\(\) with base \d+: .*", "expected a whole number", text)
    return re.sub(r"\('Non-boolean argument to boolean flag', .*\)", "expected true or false", text)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; a wrong one ends the program with exit code 2 and no traceback, --help with 0."""
    try:
        return flags.FLAGS([_dashed(argument) for argument in argv])
    except (flags.Error, UnicodeDecodeError) as error:
        print(f"error: {_escaped(_flag_problem(error))}; --help lists the flags", file=sys.stderr)
        sys.exit(2)
    except SystemExit:
        sys.exit(0)


_FORMS = {"model": "FILE.tflite", "out": "FOLDER", "target": "NAME"}


def expect_flags(argv: Sequence[str], required: Sequence[str]) -> None:
    """Raises ConfigError with every argument that is no flag and every required flag that is missing."""
    hint = "; did you mean --model={}?"
    problems = [f"unexpected argument {a!r}" + (hint.format(a) if a.endswith(".tflite") else "") for a in argv[1:]]
    problems += [f"--{flag} is missing; expected --{flag}={_FORMS[flag]}" for flag in required if flags.FLAGS[flag].value is None]
    if problems:
        raise ConfigError(problems)


def run_program(define_flags: Callable[[], None], work: Callable[[Sequence[str]], None]) -> None:
    """Declares the flags, parses them, does `work` with what is left of the arguments, and ends the program with its exit code."""

    def main(argv: Sequence[str]) -> None:
        open_streams()
        sys.exit(exit_code(lambda: work(argv), resumable=False))

    define_flags()
    app.run(main, flags_parser=parse_flags)
