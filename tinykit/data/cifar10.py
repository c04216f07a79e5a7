"""CIFAR-10."""

from pathlib import Path

import numpy as np

from tinykit.data.archive import fetch_folder
from tinykit.data.dataset import Dataset
from tinykit.data.download import Source, by_hand, megabytes
from tinykit.data.files import resolve
from tinykit.data.pairs import load_pair, write_split
from tinykit.errors import DataError
from tinykit.options import Options

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (32, 32, 3)
RECORD = 1 + 32 * 32 * 3  # the label, then all red, all green and all blue pixels
FOLDER = "cifar-10-batches-bin"
# Size and digest: those of tensorflow_datasets (url_checksums/cifar10.txt).
SOURCE = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)


class Cifar10Options(Options):
    """Options of `cifar10`.

    Attributes:
        download: fetch the archive (171 MB) where the files are absent (never with --quicktest).
    """

    download: bool = False


def read_batches(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 32, 32, 3] and labels uint8 [N] of files of CIFAR-10's binary version.

    Raises:
        DataError: a file is missing or no whole number of records, or a label is above 9.
    """
    parts, problems = [], []
    for file in files:
        size = file.stat().st_size if file.is_file() else 0
        if size == 0 or size % RECORD or size > 10_000 * RECORD:
            problems.append(f"{file}: expected 1 to 10000 records of {RECORD} bytes, received {size} bytes")
            continue
        parts.append(np.fromfile(file, np.uint8).reshape(-1, RECORD))
    if problems:
        raise DataError(problems)
    records = np.concatenate(parts)
    if records[:, 0].max() >= len(CLASS_NAMES):
        raise DataError(f"{files[0].parent}: labels must be 0 to 9, received {records[:, 0].max()}")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def make(absent: list[Path]) -> None:
    """Fetches CIFAR-10's binary version and writes the absent ones of cifar10_train.npz and cifar10_test.npz.

    Raises:
        DataError: it could not be fetched, or is damaged.
    """
    folder = fetch_folder(SOURCE, resolve(FOLDER), inner=FOLDER, max_bytes=1 << 30, max_files=100)
    for path in absent:
        names = ["test_batch.bin"] if path.stem.endswith("test") else [f"data_batch_{number}.bin" for number in range(1, 6)]
        write_split(path, *read_batches([folder / name for name in names]))


def load(options: Cifar10Options, *, seed: int, quicktest: bool) -> Dataset:
    """Colour photographs, uint8 [N, 32, 32, 3], ten classes, from cifar10_train.npz and cifar10_test.npz in TINYKIT_DATA.

    Each file holds `x` and integer labels `y`. 10 % of the training file, stratified and fixed, is val. Source:
    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. MLPerf Tiny's image classification task.

    Example:
        data: {name: cifar10, preprocess: [], augment: [{flip_lr: {}}, {shift: {pixels: 4}}]}
    """
    source = "CIFAR-10 (Krizhevsky 2009), cifar10_train.npz and cifar10_test.npz"
    hint = (
        f". To fetch and convert it ({megabytes(SOURCE.size)}): --set data.options.download=true; or by hand first: "
        f"{by_hand(SOURCE.url, resolve(SOURCE.name))}"
    )
    wanted = make if options.download else None
    return load_pair("cifar10", source, CLASS_NAMES, SHAPE, seed=seed, quicktest=quicktest, make=wanted, hint=hint)
