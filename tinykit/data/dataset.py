"""What a dataset is: raw arrays in three splits, and where they come from."""

import dataclasses
import hashlib

import numpy as np

RAW_DTYPES = ("uint8", "int8", "int16", "float32")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Samples and labels.

    Attributes:
        x: [N, ...] as stored: uint8 images, int8 features, int16 windows, or float32. Never scaled.
        y: [N] int64 class indices, 0 to the number of classes - 1.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset with fixed splits.

    Attributes:
        name: name in the registry.
        source: where the samples come from, for reports.
        synthetic: True for generated samples, whose scores mean nothing.
        class_names: one name for each class index.
        train, val, test: the splits; `val` is carved from the training samples.
        split_sha256: SHA-256 of the sample indices of the splits (see `splits.split_sha256`).
    """

    name: str
    source: str
    synthetic: bool
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    split_sha256: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one raw sample, without the batch."""
        return tuple(int(size) for size in self.train.x.shape[1:])

    @property
    def content_sha256(self) -> str:
        """SHA-256 (hex) of dtype, shape and bytes of the samples and labels of all splits, which `split_sha256` leaves out."""
        digest = hashlib.sha256()
        for split in (self.train, self.val, self.test):
            for array in (split.x, split.y):
                digest.update(f"{array.dtype.str}{list(array.shape)}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)
