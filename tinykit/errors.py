"""Errors that a user can act on. The command-line programs print them without a traceback and exit with `exit_code`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LONGEST_PROBLEM = 2000  # characters of one message


def one_line(text: object, most: int = 300) -> str:
    """What a library said about a file, for a message: one line of at most `most` characters, without control characters, which can
    come out of the file and would reach the terminal."""
    words = " ".join(str(text).split())
    plain = "".join(c if c.isprintable() else "?" for c in words[: most + 1])
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def _shortened(problem: str) -> str:
    """A message without the middle of a value of thousands of characters that it repeats."""
    if len(problem) <= LONGEST_PROBLEM:
        return problem
    return f"{problem[: LONGEST_PROBLEM - 300]} ... {problem[-250:]}"


class TinykitError(Exception):
    """A problem with what the user gave us; every problem of one input is reported at once.

    Args:
        problems: one message, or several, each saying where (file:line, layer, tensor), what was expected, what was
            received and what to do.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [_shortened(p) for p in ([problems] if isinstance(problems, str) else problems)]
        super().__init__("\n".join(self.problems))


@contextmanager
def collected(kind: type[TinykitError], problems: list[str], where: str = "") -> Iterator[None]:
    """Goes on behind the block after an error of `kind`, with what it says, each line behind `where`, in `problems`: all of them can be
    told at once."""
    try:
        yield
    except kind as error:
        problems += [where + problem for problem in error.problems]


class ConfigError(TinykitError):
    """The configuration, a flag or a recipe is wrong."""


class DataError(TinykitError):
    """A dataset is missing, damaged, or of another shape than its declaration."""


class ModelError(TinykitError):
    """A model cannot be read, or holds something that cannot be represented exactly."""


class BudgetError(TinykitError):
    """The result does not fit the budget."""

    exit_code = 3


class ParityError(TinykitError):
    """Two implementations of the same integer graph disagree."""

    exit_code = 4


class Terminated(TinykitError):
    """The run was asked to stop by SIGTERM and stopped cleanly."""

    exit_code = 143
