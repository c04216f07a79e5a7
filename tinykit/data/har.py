"""Human activity from a smartphone's sensors (UCI HAR)."""

from pathlib import Path

import numpy as np

from tinykit.data.dataset import Dataset, Split
from tinykit.data.files import as_split, check_samples, missing_message, read_npz, resolve
from tinykit.data.splits import VAL_FRACTION, assemble, generated_dataset, group_split
from tinykit.data.textfiles import read_numbers
from tinykit.data.windows import tail_split
from tinykit.errors import DataError, collected
from tinykit.options import Options

CLASS_NAMES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")
CHANNELS = tuple(f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
UNITS = np.array([2.0**-13] * 3 + [2.0**-12] * 3 + [2.0**-13] * 3)  # g, rad/s, g for one step of the stored integers
STEPS = 128
FOLDER = "UCI HAR Dataset"
MAX_WINDOWS = 200_000


class HarOptions(Options):
    """Options of `har`.

    Attributes:
        path: a folder that holds har_train.npz and har_test.npz, or the folder "UCI HAR Dataset" (or is that folder); relative
            paths are looked for in TINYKIT_DATA. Default: TINYKIT_DATA itself.
    """

    path: str | None = None


def to_stored(real: np.ndarray, where: str) -> np.ndarray:
    """Integers [N, 128, 9] of real values in g and rad/s: round(value / unit), to even; raises DataError beyond int16."""
    stored = np.rint(real / UNITS)
    bad = np.argwhere(np.abs(stored + 0.5) > 32767.5)
    if len(bad):
        window, step, channel = bad[0]
        reach = 32768 * UNITS[channel]
        value, reach = real[window, step, channel], 32768 * UNITS[channel]
        at = f"{CHANNELS[channel]}, window {window + 1}, step {step + 1}"
        raise DataError(f"{where}: {at}: {value:g} is outside -{reach:g}..{reach:g}")
    return stored.astype(np.int16)


def _whole(values: np.ndarray, path: Path, low: int, high: int) -> np.ndarray:
    """A column of whole numbers low..high as int64 [N]; raises DataError naming the line."""
    column = values[:, 0]
    wrong = np.flatnonzero((column != np.rint(column)) | (column < low) | (column > high))
    if len(wrong):
        raise DataError(f"{path}:{wrong[0] + 1}: expected a whole number {low} to {high}, received {column[wrong[0]]:g}")
    return column.astype(np.int64)


def _read_part(root: Path, part: str) -> tuple[Split, np.ndarray]:
    """Windows and subjects of train or test of the folder; raises DataError with every problem."""
    signals = [root / part / "Inertial Signals" / f"{name}_{part}.txt" for name in CHANNELS]
    named = [root / part / f"y_{part}.txt", root / part / f"subject_{part}.txt"]
    tables = []
    problems: list[str] = []
    for path, columns in (*((path, STEPS) for path in signals), *((path, 1) for path in named)):
        with collected(DataError, problems):
            tables.append(read_numbers(path, columns, MAX_WINDOWS))
    if problems:
        raise DataError(problems)
    for path, table in zip((*signals, *named), tables):
        if len(table) != len(tables[0]):
            problems.append(f"{path}: {len(table)} lines, {signals[0].name} has {len(tables[0])}")
    if problems:
        raise DataError(problems)
    y = _whole(tables[9], named[0], 1, len(CLASS_NAMES)) - 1
    subjects = _whole(tables[10], named[1], 1, 10_000)
    return Split(to_stored(np.stack(tables[:9], axis=2), f"{root / part}"), y), subjects


def _read_npz(path: Path) -> tuple[Split, np.ndarray | None]:
    """Windows of one .npz: x int16 with scale [9], or float; y 0..5; subject [N] where it is there."""
    arrays = read_npz(path, ("x", "y"), ("scale", "subject"))
    x, y, subject = arrays["x"], arrays["y"], arrays.get("subject")
    problems = check_samples(path, x, y, len(CLASS_NAMES))
    if x.shape[1:] != (STEPS, len(CHANNELS)):
        problems.append(f"{path}, array 'x': expected [N, {STEPS}, {len(CHANNELS)}], received {list(x.shape)}")
    scale = arrays.get("scale")
    if scale is None and x.dtype.kind != "f":
        problems.append(f"{path}: array 'scale' is missing: the real value of one step of the integers 'x', for each of 9 channels")
    if scale is not None and (scale.shape != (len(CHANNELS),) or scale.dtype.kind != "f" or not (np.isfinite(scale) & (scale > 0)).all()):
        problems.append(f"{path}, array 'scale': expected 9 positive numbers, received {scale.dtype} {list(scale.shape)}")
    if subject is not None and (subject.shape != y.shape or subject.dtype.kind not in "iu"):
        problems.append(f"{path}, array 'subject': expected integers [{len(x)}], received {subject.dtype} {list(subject.shape)}")
    if problems:
        raise DataError(problems)
    if x.dtype != np.int16 or scale is None or not np.array_equal(scale.astype(np.float64), UNITS):
        x = to_stored(x.astype(np.float64) * (1.0 if scale is None else scale.astype(np.float64)), str(path))
    return as_split(x, y), subject


def _locate(options: HarOptions) -> tuple[Path, bool] | None:
    """The folder that holds the data, and whether it has the .npz files; None where neither layout is there."""
    root = resolve(options.path or ".")
    if (root / "har_train.npz").exists() or (root / "har_test.npz").exists():
        return root, True
    for folder in (root, root / FOLDER):
        if (folder / "train" / "Inertial Signals").is_dir():
            return folder, False
    return None


def load(options: HarOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Windows of 2.56 s at 50 Hz, int16 [N, 128, 9], six activities: acceleration of the body, rotation, whole acceleration (x, y, z each).

    Stored integers are steps of 2^-13 g (+-4 g) and 2^-12 rad/s (+-8 rad/s). They are read from har_train.npz and har_test.npz (`x`,
    `y` from 0, `scale` [9]), or from the folder "UCI HAR Dataset" as it is downloaded (real numbers, rounded to these steps). Test is
    as shipped, of other persons than train. Val is 10 % of train: whole persons where they are known (subject_train.txt, or an array
    `subject`), else the last windows of the file, cut where the activity changes. Source: Anguita et al., "A Public Domain Dataset
    for Human Activity Recognition Using Smartphones", ESANN 2013 (CC BY 4.0).

    Example:
        data: {name: har, preprocess: [{scale: {by: 0.000244140625}}]}
    """
    found = _locate(options)
    if found is None:
        path = resolve(options.path or "har_train.npz")
        if not quicktest:
            raise DataError(f"{missing_message('har', path)}; expected har_train.npz and har_test.npz, or the folder {FOLDER!r}")
        return generated_dataset("har", (STEPS, len(CHANNELS)), "int16", CLASS_NAMES, seed, str(path.name))
    root, arrays = found
    parts: list[tuple[Split, np.ndarray | None]] = []
    problems: list[str] = []
    for part in ("train", "test"):
        with collected(DataError, problems):
            parts.append(_read_npz(root / f"har_{part}.npz") if arrays else _read_part(root, part))
    if problems:
        raise DataError(problems)
    (pool, subjects), (test, others) = parts
    if subjects is not None and others is not None and len(both := np.intersect1d(subjects, others)):
        raise DataError(f"{root}: subjects {', '.join(map(str, both))} are in train and in test; a person must be in one of them")
    if subjects is not None and len(np.unique(subjects)) >= 2:
        train, val = group_split(subjects, VAL_FRACTION)
    else:
        train, val = tail_split(pool.y, VAL_FRACTION)
    if not len(val) or not len(test):
        raise DataError(f"{root}: {len(pool)} and {len(test)} windows are too few for a train, a val and a test split")
    source = f"UCI HAR (Anguita et al. 2013), {'har_train.npz and har_test.npz' if arrays else FOLDER}"
    indices = (train, val, np.arange(len(test), dtype=np.int64))
    return assemble("har", source, CLASS_NAMES, pool, indices, test, quicktest=quicktest)
