"""Windows over time series, and splits that keep the windows of one recording together."""

import numpy as np

from tinykit.data.splits import TEST_FRACTION, VAL_FRACTION, group_split, stratified_split


def window_starts(length: int, window: int, stride: int) -> np.ndarray:
    """First steps of the windows that lie wholly in `length` steps: 0, stride, 2 stride, ...; int64, empty where none fits."""
    return np.arange(0, length - window + 1, stride, dtype=np.int64)


def windows_at(x: np.ndarray, window: int, starts: np.ndarray) -> np.ndarray:
    """Windows of series of one length.

    Args:
        x: [C, T, F] series.
        window: steps a window, at most T.
        starts: [W] first steps, each at most T - window.

    Returns:
        [C * W, window, F] in the dtype of x: the windows of series 0, then those of series 1, and so on.
    """
    index = starts[:, np.newaxis] + np.arange(window)
    return x[:, index].reshape(-1, window, x.shape[2])


def pick_recordings(y: np.ndarray, recordings: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices of windows so that no recording is on both sides.

    Where every recording has windows of one class only, each class gives its share of recordings (one at least, where it has two or
    more); otherwise whole recordings are taken as `splits.group_split` does.

    Args:
        y: [N] class of each window.
        recordings: [N] recording of each window, any comparable dtype.
        fraction: wanted share, 0 to 1.

    Returns:
        (rest, picked): int64 indices, ascending. `picked` is empty where there is but one recording a class.
    """
    names, first, inverse = np.unique(recordings, return_index=True, return_inverse=True)
    if not np.array_equal(y[first][inverse], y):
        if len(names) < 2:
            return np.arange(len(y), dtype=np.int64), np.zeros(0, np.int64)
        return group_split(recordings, fraction)
    _, chosen = stratified_split(y[first], fraction)
    mask = np.isin(inverse, chosen)
    return np.flatnonzero(~mask).astype(np.int64), np.flatnonzero(mask).astype(np.int64)


def split_recordings(y: np.ndarray, recordings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, val and test: 25 % test, then 10 % of the rest val; no recording is in two of them. See `pick_recordings`."""
    rest, test = pick_recordings(y, recordings, TEST_FRACTION)
    train, val = pick_recordings(y[rest], recordings[rest], VAL_FRACTION)
    return rest[train], rest[val], test


def tail_split(y: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits windows in the order of their recording, whose recordings are not known: the last ones are picked.

    Neighbouring windows may overlap, so the cut is made where the label changes, which no window spans: at the change that brings
    the picked share nearest to `fraction`.

    Args:
        y: [N] class of each window, in order.
        fraction: wanted share, 0 to 1.

    Returns:
        (rest, picked): int64 indices, ascending; without any change of label `picked` is empty.
    """
    changes = np.flatnonzero(y[1:] != y[:-1]) + 1
    if not len(changes):
        return np.arange(len(y), dtype=np.int64), np.zeros(0, np.int64)
    cut = int(changes[np.argmin(np.abs(changes - (1 - fraction) * len(y)))])
    return np.arange(cut, dtype=np.int64), np.arange(cut, len(y), dtype=np.int64)
