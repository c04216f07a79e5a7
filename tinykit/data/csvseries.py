"""Any user's time series in CSV files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from tinykit.data.dataset import Dataset, Split
from tinykit.data.files import MAX_ARRAY_BYTES, missing_message, resolve
from tinykit.data.splits import assemble, generated_dataset
from tinykit.data.textfiles import Columns, Table, read_table
from tinykit.data.windows import split_recordings, window_starts, windows_at
from tinykit.errors import DataError
from tinykit.options import Options, nearest

MAX_ROWS = 20_000_000
MAX_FILES = 10_000
MAX_CLASSES = 1000

Column = str | pydantic.NonNegativeInt


class CsvOptions(Options):
    """Options of `csv`.

    Attributes:
        path: a file, a list of files, or a folder (all its *.csv); relative paths are looked for in TINYKIT_DATA.
        label: the column of the class, constant over a window.
        columns: of numbers, in order; default: all but `label` and `group`.
        group: the column that names the recording, person or device; the windows of one are never in two splits.
        window: rows of a window.
        stride: rows from one window to the next; default: `window`, so that windows do not overlap.
        classes: the labels, in order; default: those of the files, sorted. Rows with another label are an error.
        header: the first line of each file names the columns; if false, columns are numbers from 0.
        delimiter: one character between fields, or "\\t".
        dtype: float32, or int16 for columns that hold integers of that range.
    """

    path: str | tuple[str, ...] = pydantic.Field(min_length=1)
    label: Column
    columns: tuple[Column, ...] | None = pydantic.Field(default=None, min_length=1)
    group: Column | None = None
    window: int = pydantic.Field(ge=1, le=1_000_000)
    stride: int | None = pydantic.Field(default=None, ge=1, le=1_000_000)
    classes: tuple[str, ...] | None = pydantic.Field(default=None, min_length=2)
    header: bool = True
    delimiter: str = pydantic.Field(default=",", min_length=1, max_length=1, pattern=r"""[^"\r\n0-9.]""")
    dtype: Literal["float32", "int16"] = "float32"


def _files(options: CsvOptions) -> list[Path]:
    """The files, in order; those that do not exist too. Raises DataError for an empty folder."""
    given = (options.path,) if isinstance(options.path, str) else options.path
    files: list[Path] = []
    for path in map(resolve, given):
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            file for file in path.iterdir() if file.suffix.lower() == ".csv" and not file.name.startswith(".") and file.is_file()
        )
        if not inside:
            raise DataError(f"{path}: holds no .csv file")
        files += inside
    if len(files) > MAX_FILES:
        raise DataError(f"{len(files)} files, more than the limit of {MAX_FILES}")
    twice = sorted({str(file) for file in files if files.count(file) > 1})
    if twice:
        raise DataError([f"{file}: given twice" for file in twice])
    return files


def _tables(files: list[Path], options: CsvOptions) -> list[Table]:
    """All files; raises DataError with the problems of every one."""
    wanted = Columns(options.columns, options.label, options.group)
    tables: list[Table] = []
    problems: list[str] = []
    rows = 0
    for file in files:
        try:
            table = read_table(file, wanted, header=options.header, delimiter=options.delimiter, most=MAX_ROWS - rows)
            _check_values(file, table, options.dtype)
        except DataError as error:
            problems += error.problems
            continue
        rows += len(table.labels)
        tables.append(table)
        if table.names != tables[0].names:
            problems.append(f"{file}:1: columns {', '.join(table.names)}; {files[0].name} has {', '.join(tables[0].names)}")
    if problems:
        raise DataError(problems)
    return tables


def _check_values(file: Path, table: Table, dtype: str) -> None:
    """Raises DataError where a value does not fit `dtype`, naming the first line."""
    if dtype == "int16":
        wrong = (table.values != np.rint(table.values)) | (table.values < -32768) | (table.values > 32767)
        wanted = "an integer -32768 to 32767 (dtype: int16)"
    else:
        wrong = np.abs(table.values) > float(np.finfo(np.float32).max)
        wanted = "a float32"
    if wrong.any():
        row, column = (int(index) for index in np.argwhere(wrong)[0])
        value = table.values[row, column]
        raise DataError(f"{file}:{table.lines[row]}: column {table.names[column]}: expected {wanted}, received {value:g}")


def _class_names(files: list[Path], tables: list[Table], options: CsvOptions) -> tuple[str, ...]:
    """Declared classes, or the labels of the files; numbers are sorted as such."""
    if options.classes is None:
        found = {label for table in tables for label in table.labels}
        if len(found) > MAX_CLASSES:
            raise DataError(
                f"{files[0]}: column {options.label}: {len(found)} labels, more than {MAX_CLASSES}; is it the column of the class?"
            )
        if len(found) < 2:
            raise DataError(f"{files[0]}: column {options.label}: one class only, {found.pop()!r}: nothing to tell apart")
        try:
            return tuple(sorted(found, key=int))
        except ValueError:
            return tuple(sorted(found))
    problems = []
    for file, table in zip(files, tables):
        for label in dict.fromkeys(table.labels):
            if label not in options.classes:
                line = table.lines[table.labels.index(label)]
                problems.append(f"{file}:{line}: label {label!r} is not among the classes: {nearest(label, options.classes)}")
    if problems:
        raise DataError(problems)
    return options.classes


def _cut(files: list[Path], tables: list[Table], names: tuple[str, ...], options: CsvOptions) -> tuple[Split, np.ndarray]:
    """Windows of all runs (neighbouring rows of one label and one recording), and the recording [N] int64 of each window."""
    stride, by_run = options.stride or options.window, options.group is None and len(tables) < 3
    numbers: dict[str | int, int] = {}
    parts: list[np.ndarray] = []
    labels: list[int] = []
    owners: list[int] = []
    total = runs = longest = 0
    for number, table in enumerate(tables):
        owner: Sequence[str | int] = table.groups or [number] * len(table.labels)
        keys: list[tuple[str, str | int]] = list(zip(table.labels, owner))
        edges = [0, *(row for row in range(1, len(keys)) if keys[row] != keys[row - 1]), len(keys)]
        for first, last in zip(edges, edges[1:]):
            runs, longest = runs + 1, max(longest, last - first)
            starts = window_starts(last - first, options.window, stride)
            if not len(starts):
                continue
            total += len(starts) * options.window * table.values.shape[1] * np.dtype(options.dtype).itemsize
            if total > MAX_ARRAY_BYTES:
                raise DataError(f"{files[0]}: windows of more than {MAX_ARRAY_BYTES} bytes; choose a larger stride")
            parts.append(windows_at(table.values[np.newaxis, first:last].astype(options.dtype), options.window, starts))
            name = runs if by_run else keys[first][1]
            labels += [names.index(keys[first][0])] * len(starts)
            owners += [numbers.setdefault(name, len(numbers))] * len(starts)
    if not parts:
        raise DataError(
            f"{files[0]}: no window of {options.window} rows: a window takes neighbouring rows of one label"
            f"{' and one group' if options.group is not None else ''}; the longest of {runs} such runs has {longest}"
        )
    return Split(np.concatenate(parts), np.array(labels, np.int64)), np.array(owners, np.int64)


def _check_split(where: Path, y: np.ndarray, indices: tuple[np.ndarray, ...], names: tuple[str, ...], recordings: int) -> None:
    """Raises DataError where a split is empty, or train or test lacks a class."""
    advice = "the windows of one recording stay together, so each class needs two recordings, and one of them three"
    problems = []
    for part, index in zip(("train", "val", "test"), indices):
        if not len(index):
            problems.append(f"{where}: no windows for {part}: {len(y)} windows of {recordings} recordings are too few; {advice}")
        elif part != "val":
            missing = [name for label, name in enumerate(names) if not (y[index] == label).any()]
            problems += [f"{where}: no window of class {name!r} in {part}; {advice}" for name in missing]
    if problems:
        raise DataError(problems)


def _absent(files: list[Path], options: CsvOptions, *, seed: int, quicktest: bool) -> Dataset:
    """The generated stand-in of a quicktest, or the error that says what is missing."""
    if not quicktest:
        raise DataError([missing_message("csv", file) for file in files])
    if options.columns is None or options.classes is None:
        raise DataError(f"dataset csv: {files[0]} does not exist; to run --quicktest on generated samples, declare columns and classes")
    shape = (options.window, len(options.columns))
    return generated_dataset("csv", shape, options.dtype, options.classes, seed, files[0].name)


def load(options: CsvOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Windows [N, window, columns], float32 or int16, over the rows of CSV files, each row with a label; units are those of the files.

    A window takes neighbouring rows of one label (and one group), so none spans two activities or two recordings. Splits are fixed, 25 %
    test, then 10 % of the rest val, and the windows of one recording are in one split: a recording is what the column `group` names;
    without it, a file; and with fewer than three files, a run of rows of one label. Files are UTF-8, at most 2 GiB each and 20
    million rows in all; numbers must be finite. Source: the user's.

    Example:
        data: {name: csv, options: {path: gestures.csv, columns: [ax, ay, az], label: gesture, group: person, window: 64, stride: 32}}
    """
    files = _files(options)
    absent = [file for file in files if not file.exists()]
    if absent:
        return _absent(absent, options, seed=seed, quicktest=quicktest)
    tables = _tables(files, options)
    names = _class_names(files, tables, options)
    pool, recordings = _cut(files, tables, names, options)
    indices = split_recordings(pool.y, recordings)
    _check_split(files[0], pool.y, indices, names, len(np.unique(recordings)))
    source = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more files"
    return assemble("csv", source, names, pool, indices, quicktest=quicktest)
