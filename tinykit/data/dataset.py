"""What a dataset is: raw arrays in three splits, and where they come from."""

import dataclasses
import hashlib
from typing import Literal

import numpy as np

RAW_DTYPES = ("uint8", "int8", "int16", "float32")


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """Which samples (windows) are of one recording, for a task that judges recordings and not samples.

    Attributes:
        of: [N] int64, the clip of each sample, 0 to the number of clips - 1.
        y: [C] int64 class index of each clip.
        machine: [C] int64, the number of the machine that was recorded, as in the files.
    """

    of: np.ndarray
    y: np.ndarray
    machine: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Samples and labels.

    Attributes:
        x: [N, ...] as stored: uint8 images, int8 features, int16 windows, or float32. Never scaled.
        y: [N] int64 class indices, 0 to the number of classes - 1.
        clips: the recordings that the samples are windows of; None where every sample stands for itself.
    """

    x: np.ndarray
    y: np.ndarray
    clips: Clips | None = None

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
        task: 'classification': the label is the target, the metric is top-1 accuracy; 'anomaly': the input is the target, labels are
            for judging only, the metric is the area under the ROC curve over the clips of `test`.
    """

    name: str
    source: str
    synthetic: bool
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    split_sha256: str
    task: Literal["classification", "anomaly"] = "classification"

    @property
    def metric(self) -> str:
        """What the task is judged by, as in metrics.json: 'top1' or 'auc'."""
        return "auc" if self.task == "anomaly" else "top1"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one raw sample, without the batch."""
        return tuple(int(size) for size in self.train.x.shape[1:])

    @property
    def content_sha256(self) -> str:
        """SHA-256 (hex) of dtype, shape and bytes of the samples and labels of all splits, which `split_sha256` leaves out."""
        digest = hashlib.sha256()
        for split in (self.train, self.val, self.test):
            clips = () if split.clips is None else (split.clips.of, split.clips.y, split.clips.machine)
            for array in (split.x, split.y, *clips):
                digest.update(f"{array.dtype.str}{list(array.shape)}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)
