"""Fixed splits. NumPy's legacy RandomState is used on purpose: its streams never change between NumPy versions."""

import hashlib
from collections.abc import Sequence

import numpy as np

from tinykit.data.dataset import Dataset, Split

SPLIT_SEED = 20240229
TEST_FRACTION = 0.25
VAL_FRACTION = 0.1
QUICKTEST_SIZES = (64, 32, 32)  # train, val, test samples


def stratified_split(y: np.ndarray, fraction: float, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Splits the indices of `y` so that every class gives the same share.

    Args:
        y: [N] class indices.
        fraction: share of each class that is picked, 0 to 1, rounded to whole samples; a class of two samples or more
            gives at least one and keeps at least one.
        seed: of the permutation inside each class.

    Returns:
        (rest, picked): int64 indices, ascending; together they are 0..N-1.
    """
    random = np.random.RandomState(seed)
    picked: list[np.ndarray] = [np.zeros(0, np.int64)]
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        count = round(fraction * len(members))
        if len(members) >= 2:
            count = min(max(count, 1), len(members) - 1)
        picked.append(random.permutation(members)[:count])
    chosen = np.sort(np.concatenate(picked)).astype(np.int64)
    return np.setdiff1d(np.arange(len(y), dtype=np.int64), chosen), chosen


def group_split(groups: np.ndarray, fraction: float, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices so that no group (a speaker, a subject) is on both sides.

    Groups are visited in a seeded random order; one is picked when that brings the picked share nearer to `fraction`.
    The largest remainder decides nothing else, so a set of few groups may miss the share.

    Args:
        groups: [N] group of each sample, any comparable dtype, at least two different groups.
        fraction: wanted share of the samples, 0 to 1.
        seed: of the order of the groups.

    Returns:
        (rest, picked): int64 indices, ascending; both hold at least one group.
    """
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    target = fraction * len(groups)
    order = np.random.RandomState(seed).permutation(len(names))
    chosen: list[int] = []
    total = 0
    for group in order:
        size = int(counts[group])
        if len(chosen) < len(names) - 1 and abs(total + size - target) < abs(total - target):
            chosen.append(int(group))
            total += size
    if not chosen:
        chosen = [int(np.argmin(counts))]
    mask = np.isin(inverse, chosen)
    return np.flatnonzero(~mask).astype(np.int64), np.flatnonzero(mask).astype(np.int64)


def spread(y: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most `count` samples, the first of every class, then the second of every class, and so on; ascending."""
    rank = np.zeros(len(y), np.int64)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((y, rank))[:count]).astype(np.int64)


def split_sha256(train: np.ndarray, val: np.ndarray, test: np.ndarray) -> str:
    """SHA-256 (hex) of three int64 little-endian lengths followed by the indices of train, val and test, int64 little-endian.

    Where the test samples have a file of their own, their indices count from that file's first sample.
    """
    parts = [np.array([len(train), len(val), len(test)], "<i8")] + [np.asarray(p, "<i8") for p in (train, val, test)]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def assemble(
    name: str,
    source: str,
    class_names: Sequence[str],
    pool: Split,
    indices: tuple[np.ndarray, np.ndarray, np.ndarray],
    test_pool: Split | None = None,
    *,
    quicktest: bool = False,
    synthetic: bool = False,
) -> Dataset:
    """Builds a Dataset from a pool of samples and the indices of train, val and test.

    Args:
        name: registry name.
        source: where the samples come from.
        class_names: names by class index.
        pool: all samples, or all training samples where there is a `test_pool`.
        indices: int64 indices of train and val into `pool` and of test into `test_pool` (or `pool`).
        test_pool: the test samples where they have a file of their own.
        quicktest: keep about 64, 32 and 32 samples, spread over the classes.
        synthetic: the samples were generated.
    """
    sources = (pool, pool, test_pool or pool)
    if quicktest:
        train, val, test = (index[spread(part.y[index], size)] for index, part, size in zip(indices, sources, QUICKTEST_SIZES))
    else:
        train, val, test = indices
    parts = [Split(part.x[index], part.y[index]) for index, part in zip((train, val, test), sources)]
    digest = split_sha256(train, val, test)
    return Dataset(name, source, synthetic, tuple(class_names), parts[0], parts[1], parts[2], digest)


def split_pool(y: np.ndarray, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, val and test for samples that come without a split: 25 % test, then 10 % of the rest val.

    With `groups` of at least two different values no group is in both train and test; val too is disjoint from train
    where train holds at least two groups. Otherwise the split is stratified by class.
    """
    rest, test = _pick(y, groups, TEST_FRACTION)
    inner_rest, inner_val = _pick(y[rest], None if groups is None else groups[rest], VAL_FRACTION)
    return rest[inner_rest], rest[inner_val], test


def split_train(y: np.ndarray, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of train and val (10 %) for training samples whose test samples come separately."""
    return _pick(y, groups, VAL_FRACTION)


def _pick(y: np.ndarray, groups: np.ndarray | None, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    if groups is not None and len(np.unique(groups)) >= 2:
        return group_split(groups, fraction)
    return stratified_split(y, fraction)


def generated(shape: tuple[int, ...], dtype: str, classes: int, count: int, seed: int) -> Split:
    """Generated samples: one smooth pattern a class plus noise, over about the whole range of `dtype`.

    Args:
        shape: of one sample.
        dtype: uint8, int8, int16 or float32 (values about -1 to 1).
        classes: number of classes; labels go round.
        count: number of samples.
        seed: of pattern and noise.
    """
    random = np.random.RandomState(seed & 0xFFFFFFFF)
    y = np.arange(count, dtype=np.int64) % classes
    pattern = random.uniform(-0.6, 0.6, (classes, *shape))
    wave = pattern[y] + random.uniform(-0.4, 0.4, (count, *shape))
    if dtype == "float32":
        return Split(wave.astype(np.float32), y)
    info = np.iinfo(dtype)
    x = np.round((wave + 1) / 2 * (info.max - info.min)) + info.min
    return Split(np.clip(x, info.min, info.max).astype(dtype), y)


def generated_dataset(name: str, shape: tuple[int, ...], dtype: str, class_names: Sequence[str], seed: int, missing: str) -> Dataset:
    """The quicktest stand-in for absent data: generated samples of the right shape, dtype and class names."""
    train, val, test = QUICKTEST_SIZES
    pool = generated(shape, dtype, len(class_names), train + val + test, seed)
    order = np.arange(train + val + test, dtype=np.int64)
    indices = (order[:train], order[train : train + val], order[train + val :])
    return assemble(name, f"generated ({missing} is absent)", class_names, pool, indices, synthetic=True)
