"""What one kind of bad input is, and the list that the modules beside this one add theirs to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from badinput_checker import Expected

Make = Callable[[Path], Sequence[str]]
ALL: "list[Kind]" = []


@dataclass(frozen=True)
class Kind:
    """One kind of bad input.

    Attributes:
        group: what it is about, a heading of docs/errors.md.
        name: what is wrong, in a few words; unique.
        program: 'train', 'compile', 'bench' or 'profile'.
        make: makes the input in an empty folder, which then is the working folder; returns the arguments.
        expected: how the program must end.
        workdir: the run directory, relative to the folder, where whole records of what was asked for may appear.
        heavy: TensorFlow is needed before the input can be judged.
        alone: in a process of its own, as a user starts it, instead of a forked one.
        environment: variables that are set.
        file_limit: bytes that a file may grow to, in place of a disk that is full.
        why: why the exit code is not 2.
        skip: why it cannot be tried here, "" where it can.
        leaves: patterns of what may appear in the run directory besides: of a training that began, and that the same command resumes.
        undo: takes away what must not stay, such as a file system.
        out: where standard output goes, such as /dev/full; None: to where it is looked at.
    """

    group: str
    name: str
    program: str
    make: Make
    expected: Expected
    workdir: str | None = None
    heavy: bool = False
    alone: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    file_limit: int | None = None
    why: str = ""
    skip: Callable[[], str] = lambda: ""
    leaves: Sequence[str] = ()
    undo: Callable[[Path], None] = lambda folder: None
    out: str | None = None


def kind(
    group: str,
    name: str,
    *says: str,
    program: str = "train",
    code: int = 2,
    problems: int = 1,
    details: bool = False,
    workdir: str | None = None,
    heavy: bool = False,
    alone: bool = False,
    environment: Mapping[str, str] | None = None,
    file_limit: int | None = None,
    why: str = "",
    skip: Callable[[], str] = lambda: "",
    leaves: Sequence[str] = (),
    undo: Callable[[Path], None] = lambda folder: None,
    out: str | None = None,
) -> Callable[[Make], Make]:
    """Adds the decorated function to ALL as the kind that it makes; `says` is what the program's lines must hold."""

    def add(make: Make) -> Make:
        expected = Expected(code, problems, details, says)
        surroundings = (workdir, heavy, alone, environment or {}, file_limit, why, skip, leaves, undo, out)
        ALL.append(Kind(group, name, program, make, expected, *surroundings))
        return make

    return add
