"""Reading of numbers from text files that may be damaged, huge or hostile. Problems name file and line."""

import array
import csv
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tinykit.errors import DataError

MAX_TEXT_BYTES = 2 << 30
MAX_LINE = 1 << 17
SHOWN_PROBLEMS = 20


class Problems:
    """Collects messages; stops reading after SHOWN_PROBLEMS of them."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, message: str) -> None:
        """Adds one; raises DataError with all of them when there are too many to go on."""
        self.found.append(message)
        if len(self.found) >= SHOWN_PROBLEMS:
            raise DataError([*self.found, "there may be more: reading stopped here"])

    def check(self) -> None:
        """Raises DataError if there are any."""
        if self.found:
            raise DataError(self.found)


def number(text: str) -> float:
    """A finite decimal number; raises ValueError for anything else (also for Python's 1_000, which other readers take differently)."""
    value = float(text)
    if "_" in text or not math.isfinite(value):
        raise ValueError(text)
    return value


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 text file (a byte order mark is skipped), with their ends.

    Raises:
        DataError: the file is absent, no text, larger than MAX_TEXT_BYTES, or has a line longer than MAX_LINE characters.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file")
    count = 0
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes, more than the limit of {MAX_TEXT_BYTES}")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            while line := stream.readline(MAX_LINE + 1):
                count += 1
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}:{count}: line longer than {MAX_LINE} characters")
                if "\0" in line:
                    raise DataError(f"{path}:{count}: holds a zero byte: no text")
                yield line
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{_line_of_no_text(path)}: no UTF-8 text: {error.reason}; save the file as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _line_of_no_text(path: Path) -> int:
    """The first line, from 1, that is no UTF-8: text is decoded in blocks, so that who reads it does not know."""
    with path.open("rb") as stream:
        for count, line in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return count
    return 1


def read_numbers(path: Path, columns: int, most: int) -> np.ndarray:
    """Lines of `columns` numbers, separated by spaces, as float64 [lines, columns].

    Args:
        path: of the file.
        columns: numbers a line.
        most: lines that the file may have.

    Raises:
        DataError: as `text_lines`; lines of another length, what is no finite number, no lines, or too many.
    """
    values = array.array("d")
    problems = Problems()
    count = 0
    for count, line in enumerate(text_lines(path), 1):
        if count > most:
            raise DataError(f"{path}:{count}: more than the limit of {most} lines")
        words = line.split()
        if len(words) != columns:
            problems.add(f"{path}:{count}: expected {columns} numbers, received {len(words)}")
            continue
        try:
            values.extend([number(word) for word in words])
        except ValueError as error:
            problems.add(f"{path}:{count}: expected a finite number, received {_shown(str(error))}")
    problems.check()
    if not count:
        raise DataError(f"{path}: holds no lines")
    return np.frombuffer(values, np.float64).reshape(-1, columns)


def _shown(text: str) -> str:
    """A piece of a file for a message: short, and without control characters."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table are wanted: names where it has a header line, else indices from 0.

    Attributes:
        values: of numbers; None: all others.
        label: of the class.
        group: of the recording's name, None where there is none.
    """

    values: tuple[str | int, ...] | None
    label: str | int
    group: str | int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """What was read of one CSV file.

    Attributes:
        names: of the columns of numbers: as in the header, or indices as text.
        values: float64 [rows, columns].
        labels: [rows] text, without spaces around it.
        groups: [rows] text; None without a group column.
        lines: [rows] int64, the line that each row ends at, from 1.
    """

    names: tuple[str, ...]
    values: np.ndarray
    labels: list[str]
    groups: list[str] | None
    lines: np.ndarray


def _index(path: Path, wanted: str | int, header: Sequence[str] | None, width: int) -> int:
    """Index of a column; raises DataError."""
    from tinykit.options import nearest

    if isinstance(wanted, str):
        if header is None:
            raise DataError(f"{path}: column {wanted!r}: the file has no header line (header: false); give a number from 0 to {width - 1}")
        if wanted not in header:
            raise DataError(f"{path}:1: no column {wanted!r}: {nearest(wanted, header)}")
        if header.count(wanted) > 1:
            raise DataError(f"{path}:1: {header.count(wanted)} columns are called {wanted!r}")
        return header.index(wanted)
    if not 0 <= wanted < width:
        raise DataError(f"{path}: column {wanted}: the file has columns 0 to {width - 1}")
    return wanted


def _places(path: Path, columns: Columns, header: list[str] | None, width: int) -> tuple[list[int], int, int | None]:
    """Indices of the columns of numbers, of the label and of the group; raises DataError with every problem."""
    problems: list[str] = []

    def find(wanted: str | int) -> int:
        try:
            return _index(path, wanted, header, width)
        except DataError as error:
            problems.extend(error.problems)
            return -1

    label = find(columns.label)
    group = None if columns.group is None else find(columns.group)
    if columns.values is None:
        values = [index for index in range(width) if index not in (label, group)]
    else:
        values = [find(wanted) for wanted in columns.values]
        for index in sorted({i for i in values if i >= 0 and (values.count(i) > 1 or i in (label, group))}):
            problems.append(f"{path}: column {header[index] if header else index} is used twice")
    if problems:
        raise DataError(problems)
    if not values:
        raise DataError(f"{path}: no columns of numbers besides label and group")
    return values, label, group


def read_table(path: Path, columns: Columns, *, header: bool, delimiter: str, most: int) -> Table:
    """Reads a CSV file; blank lines are passed over, nothing is guessed.

    Args:
        columns: which are wanted.
        header: the first line has the columns' names.
        delimiter: one character between fields.
        most: rows that the file may have.

    Raises:
        DataError: unknown columns; rows of another length than the first line; what is no finite number; an empty label or group;
            too many rows; each with its line.
    """
    problems, values = Problems(), array.array("d")
    labels: list[str] = []
    groups: list[str] = []
    lines = array.array("q")
    places: tuple[list[int], int, int | None] | None = None
    names: list[str] | None = None
    width = 0
    rows = csv.reader(text_lines(path), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if not row or (len(row) == 1 and not row[0].strip() and width != 1):
                continue
            if places is None:
                width = len(row)
                names = [field.strip() for field in row] if header else None
                places = _places(path, columns, names, width)
                if header:
                    continue
            at = f"{path}:{rows.line_num}"
            if len(lines) >= most:
                raise DataError(f"{at}: more than the limit of {most} rows")
            if len(row) != width:
                problems.add(f"{at}: expected {width} fields, as in the first line, received {len(row)}")
                continue
            try:
                values.extend([number(row[place]) for place in places[0]])
            except ValueError:
                place = next(place for place in places[0] if not _is_number(row[place]))
                problems.add(f"{at}: column {names[place] if names else place}: expected a finite number, received {_shown(row[place])}")
            label, group = row[places[1]].strip(), "" if places[2] is None else row[places[2]].strip()
            if not label or (places[2] is not None and not group):
                problems.add(f"{at}: the {'label' if not label else 'group'} is empty")
            labels.append(label)
            groups.append(group)
            lines.append(rows.line_num)
    except csv.Error as error:
        raise DataError([*problems.found, f"{path}:{rows.line_num}: no CSV: {error}"]) from error
    problems.check()
    if places is None or not labels:
        raise DataError(f"{path}: holds no rows{' below its header line' if header and places is not None else ''}")
    shown = tuple(names[place] if names else str(place) for place in places[0])
    numbers = np.frombuffer(values, np.float64).reshape(len(labels), -1)
    return Table(shown, numbers, labels, None if places[2] is None else groups, np.frombuffer(lines, np.int64))


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True
