"""What the datasets that are a training file and a test file have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tinykit.atomic import replacing
from tinykit.data.dataset import Dataset, Split
from tinykit.data.files import as_split, check_samples, missing_message, read_npz, resolve
from tinykit.data.splits import assemble, generated_dataset, split_train
from tinykit.errors import DataError, collected


def read_split(path: Path, shape: tuple[int, ...] | None, classes: int | None) -> Split:
    """Reads and checks arrays `x` and `y` of one file; adds a channel axis where only that is missing.

    Raises:
        DataError: with every problem of the file.
    """
    arrays = read_npz(path, ("x", "y"))
    x, y = arrays["x"], arrays["y"]
    if shape is not None and shape[-1] == 1 and x.shape[1:] == shape[:-1]:
        x = x[..., np.newaxis]
    problems = check_samples(path, x, y, classes)
    if shape is not None and x.shape[1:] != shape:
        problems.append(f"{path}, array 'x': expected shape [N, {', '.join(map(str, shape))}], received {list(x.shape)}")
    if problems:
        raise DataError(problems)
    return as_split(x, y)


def write_split(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Writes what `read_split` reads, complete or not at all.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with replacing(path) as temporary:
            np.savez_compressed(temporary, x=x, y=y)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error


def load_pair(
    name: str,
    source: str,
    class_names: Sequence[str],
    shape: tuple[int, ...],
    *,
    seed: int,
    quicktest: bool,
    make: Callable[[list[Path]], None] | None = None,
    hint: str = "",
) -> Dataset:
    """Loads `<name>_train.npz` and `<name>_test.npz` (uint8 images) from TINYKIT_DATA; 10 % of train becomes val.

    Args:
        name: of the dataset.
        source: where its samples come from.
        class_names: one a class.
        shape: of a sample.
        seed: of generated samples.
        quicktest: few samples, or generated ones.
        make: fetches and writes the absent ones of the two files, where that is wanted; never called in a quicktest.
        hint: ends the message that a file is absent.

    Raises:
        DataError: a file is absent (without `quicktest`) or damaged; the problems of both files at once.
    """
    paths = [resolve(f"{name}_train.npz"), resolve(f"{name}_test.npz")]
    absent = [path for path in paths if not path.exists()]
    if absent and quicktest:
        return generated_dataset(name, shape, "uint8", class_names, seed, absent[0].name)
    if absent and make is not None:
        make(absent)
    elif absent:
        raise DataError([missing_message(name, path) + hint for path in absent])
    splits = []
    problems: list[str] = []
    for path in paths:
        with collected(DataError, problems):
            split = read_split(path, shape, len(class_names))
            if split.x.dtype != np.uint8:
                problems.append(f"{path}, array 'x': expected uint8, received {split.x.dtype}")
            splits.append(split)
    if problems:
        raise DataError(problems)
    train, test = splits
    indices = (*split_train(train.y), np.arange(len(test), dtype=np.int64))
    return assemble(name, source, class_names, train, indices, test, quicktest=quicktest)
