"""What the datasets that are a training file and a test file have in common."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinykit.data.dataset import Dataset, Split
from tinykit.data.files import as_split, check_samples, missing_message, read_npz, resolve
from tinykit.data.splits import assemble, generated_dataset, split_train
from tinykit.errors import DataError


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


def load_pair(name: str, source: str, class_names: Sequence[str], shape: tuple[int, ...], *, seed: int, quicktest: bool) -> Dataset:
    """Loads `<name>_train.npz` and `<name>_test.npz` (uint8 images) from TINYKIT_DATA; 10 % of train becomes val.

    Raises:
        DataError: a file is absent (without `quicktest`) or damaged; the problems of both files at once.
    """
    paths = [resolve(f"{name}_train.npz"), resolve(f"{name}_test.npz")]
    absent = [path for path in paths if not path.exists()]
    if absent and quicktest:
        return generated_dataset(name, shape, "uint8", class_names, seed, absent[0].name)
    if absent:
        raise DataError([missing_message(name, path) for path in absent])
    splits, problems = [], []
    for path in paths:
        try:
            split = read_split(path, shape, len(class_names))
            if split.x.dtype != np.uint8:
                problems.append(f"{path}, array 'x': expected uint8, received {split.x.dtype}")
            splits.append(split)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    train, test = splits
    indices = (*split_train(train.y), np.arange(len(test), dtype=np.int64))
    return assemble(name, source, class_names, train, indices, test, quicktest=quicktest)
