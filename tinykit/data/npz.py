"""Any user's arrays in an .npz file."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic

from tinykit.data.dataset import RAW_DTYPES, Dataset, Split
from tinykit.data.files import as_split, card_classes, check_samples, missing_message, read_card, read_npz, resolve
from tinykit.data.splits import assemble, generated_dataset, split_pool, split_train
from tinykit.errors import DataError, collected
from tinykit.options import Options


class NpzOptions(Options):
    """Options of `npz`.

    Attributes:
        path: the file; relative paths are looked for in TINYKIT_DATA.
        test_path: a file with the test samples; without it they are split off `path`.
        classes: class names; default: those of the .json card beside `path`, else "0", "1", ...
        shape: of one sample, where it is to be declared: it is checked, and a quicktest without the file needs it.
        dtype: of `x`, likewise.
        group: name of the array whose values must not be in both train and test, used where the file has it.
    """

    path: str = pydantic.Field(min_length=1)
    test_path: str | None = None
    classes: tuple[str, ...] | None = pydantic.Field(default=None, min_length=1)
    shape: tuple[pydantic.PositiveInt, ...] | None = pydantic.Field(default=None, min_length=1)
    dtype: Literal["uint8", "int8", "int16", "float32"] | None = None
    group: str = "speaker"


def _read(path: Path, options: NpzOptions, classes: int | None) -> tuple[Split, np.ndarray | None]:
    """Samples and groups of one file; raises DataError with every problem."""
    arrays = read_npz(path, ("x", "y"), (options.group,))
    x, y, groups = arrays["x"], arrays["y"], arrays.get(options.group)
    problems = check_samples(path, x, y, classes)
    if options.shape is not None and x.shape[1:] != options.shape:
        problems.append(f"{path}, array 'x': declared shape {list(options.shape)}, received {list(x.shape[1:])}")
    if options.dtype is not None and x.dtype.name != options.dtype:
        problems.append(f"{path}, array 'x': declared dtype {options.dtype}, received {x.dtype}")
    if groups is not None and groups.shape != (len(y),):
        problems.append(f"{path}, array {options.group!r}: expected [{len(y)}], received shape {list(groups.shape)}")
    if problems:
        raise DataError(problems)
    return as_split(x, y), groups


def _card_samples(card: dict[str, Any]) -> tuple[tuple[int, ...] | None, str | None]:
    """Shape of a sample and dtype as a card has them (`arrays`: {"x": [[N, ...], dtype]}), None where it has not."""
    try:
        (_, *shape), dtype = card["arrays"]["x"]
        sizes = tuple(int(size) for size in shape)
    except (TypeError, ValueError, KeyError):
        return None, None
    return sizes if sizes and min(sizes) > 0 else None, dtype if dtype in RAW_DTYPES else None


def _absent(path: Path, absent: list[Path], options: NpzOptions, *, seed: int, quicktest: bool) -> Dataset:
    """The generated stand-in of a quicktest, or the error that says what is missing."""
    if not quicktest:
        raise DataError([missing_message("npz", file) for file in absent])
    card = read_card(path)
    classes = options.classes or card_classes(card, path)
    card_shape, card_dtype = _card_samples(card)
    shape, dtype = options.shape or card_shape, options.dtype or card_dtype
    missing = [
        f"dataset npz: {path} does not exist; to run --quicktest on generated samples, declare {name}"
        for name, known in (("shape", shape), ("dtype", dtype), ("classes", classes))
        if not known
    ]
    if not shape or not dtype or not classes:
        raise DataError(missing)
    return generated_dataset("npz", shape, dtype, classes, seed, str(absent[0]))


def load(options: NpzOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Arrays `x` [N, ...] (uint8, int8, int16 or float) and `y` [N] (integer labels) of an .npz file.

    float16 and float64 samples become float32. Without `test_path` a fixed quarter of the samples is the test split: with
    an array `speaker` (option `group`) no speaker is on both sides, otherwise each class gives its share. 10 % of the rest
    is val, in the same manner. Splits depend on the file alone.

    Example:
        data: {name: npz, options: {path: words3_mfcc.npz}, preprocess: [{dequantize: {scale: 0.5847, zero_point: 83}}]}
    """
    path = resolve(options.path)
    test_path = None if options.test_path is None else resolve(options.test_path)
    absent = [file for file in (path, test_path) if file is not None and not file.exists()]
    if absent:
        return _absent(path, absent, options, seed=seed, quicktest=quicktest)
    names = options.classes or card_classes(read_card(path), path)
    read = []
    problems: list[str] = []
    for file in (path, test_path):
        if file is None:
            continue
        with collected(DataError, problems):
            read.append(_read(file, options, None if names is None else len(names)))
    if problems:
        raise DataError(problems)
    pool, groups = read[0]
    test = read[1][0] if test_path is not None else None
    if test is not None and (test.x.shape[1:] != pool.x.shape[1:] or test.x.dtype != pool.x.dtype):
        raise DataError(
            f"{path} and {test_path}: samples differ: {list(pool.x.shape[1:])} {pool.x.dtype} against "
            f"{list(test.x.shape[1:])} {test.x.dtype}"
        )
    if names is None:
        highest = max(int(part.y.max()) for part in (pool, test) if part is not None)
        if highest >= len(pool):
            raise DataError(f"{path}, array 'y': label {highest} in {len(pool)} samples; declare classes if this is meant")
        names = tuple(str(index) for index in range(highest + 1))
    if test is None:
        indices = split_pool(pool.y, groups)
    else:
        indices = (*split_train(pool.y, groups), np.arange(len(test), dtype=np.int64))
    if not all(len(index) for index in indices):
        raise DataError(f"{path}: {len(pool)} samples are too few for a train, a val and a test split")
    source = path.name if test_path is None else f"{path.name} and {test_path.name}"
    return assemble("npz", source, names, pool, indices, test, quicktest=quicktest)
