"""Anomalous machine sounds: log-mel windows of clips, for an autoencoder that learns the normal ones."""

from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from tinykit.data.adwav import ClipPool, find_tree, read_tree
from tinykit.data.dataset import Clips, Dataset, Split
from tinykit.data.files import MAX_ARRAY_BYTES, as_split, check_samples, missing_message, read_npz, resolve
from tinykit.data.splits import TEST_FRACTION, VAL_FRACTION, split_sha256, spread, stratified_split
from tinykit.data.windows import window_starts, windows_at
from tinykit.errors import DataError
from tinykit.options import Options

CLASS_NAMES = ("normal", "anomaly")
OFFICIAL = "official248"
UNMARKED = f"test: official: the data mark no clips as official (array {OFFICIAL!r} of an .npz file); use test: all"
MEL_BINS = 128
QUICKTEST_CLIPS = (16, 8, 8)  # train, val, test
QUICKTEST_WINDOWS = 4  # a clip


class AdOptions(Options):
    """Options of `ad`.

    Attributes:
        path: the .npz file, or the folder with train/ and test/ of .wav files; relative paths are looked for in TINYKIT_DATA.
        machine_type: where `path` is the folder above (with ToyCar/, fan/, ...): which of them.
        clip_frames: of a .wav file: centre: 200 frames from its middle, as MLPerf Tiny; all: every frame.
        front_end: of .wav files: integer (what a device computes) or float (its oracle).
        cache: an .npz file for the features of .wav files, written when it is absent or of other options or files.
        test: all: every anomalous clip and the normal clips that are held out; official: only the clips that the .npz file marks so.
        frames: of a window.
        train_stride: frames from one window to the next, in train and val.
        test_stride: the same in test; a clip's score is the mean over its windows.
    """

    path: str = pydantic.Field(default="ad01_toycar_logmel.npz", min_length=1)
    machine_type: str = "ToyCar"
    clip_frames: Literal["centre", "all"] = "centre"
    front_end: Literal["integer", "float"] = "integer"
    cache: str | None = None
    test: Literal["all", "official"] = "all"
    frames: pydantic.PositiveInt = 5
    train_stride: pydantic.PositiveInt = 1
    test_stride: pydantic.PositiveInt = 1

    @pydantic.field_validator("machine_type")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value or value[0] == "." or "/" in value or "\\" in value:
            raise ValueError(f"{value!r} is no name of a folder")
        return value


def read_clips(path: Path) -> ClipPool:
    """Clips of an .npz file: x [C, frames, bins], y [C] (0 normal, 1 anomalous), machine [C]; `official248` [C] where it is there.

    Raises:
        DataError: with every problem of the file.
    """
    arrays = read_npz(path, ("x", "y", "machine"), (OFFICIAL,))
    x, y, machine, official = arrays["x"], arrays["y"], arrays["machine"], arrays.get(OFFICIAL)
    problems = check_samples(path, x, y, len(CLASS_NAMES))
    if x.ndim != 3:
        problems.append(f"{path}, array 'x': expected [clips, frames, bins], received shape {list(x.shape)}")
    for name, array, kinds in (("machine", machine, "iu"), (OFFICIAL, official, "b")):
        if array is not None and (array.shape != y.shape or array.dtype.kind not in kinds):
            wanted = "bool" if kinds == "b" else "integers"
            problems.append(f"{path}, array {name!r}: expected {wanted} [{len(x)}], received {array.dtype} {list(array.shape)}")
    if problems:
        raise DataError(problems)
    split = as_split(x, y)
    return ClipPool(split.x, split.y, machine.astype(np.int64), official)


def split_clips(pool: ClipPool, test: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices (int64, ascending) of the clips of train, val and test; fixed, whatever the seed of the run.

    Anomalous clips are in test or nowhere. Of the normal ones those that the data hold for the test (the folder test/) are test, or
    those marked official, or where none are marked a quarter of each machine; 10 % of each machine's others are val. `test`
    'official' keeps the marked clips of test only.

    Raises:
        DataError: a split is empty, or test lacks normal or anomalous clips.
    """
    marked = pool.official is not None and bool(pool.official.any())
    normal = np.flatnonzero(pool.y == 0)
    if pool.held is not None and test == "all":
        held, rest = normal[pool.held[normal]], normal[~pool.held[normal]]
    elif pool.official is not None and marked:
        held, rest = normal[pool.official[normal]], normal[~pool.official[normal]]
    else:
        if test == "official":
            raise DataError(UNMARKED)
        inner, picked = stratified_split(pool.machine[normal], TEST_FRACTION)
        held, rest = normal[picked], normal[inner]
    anomalous = np.flatnonzero(pool.y == 1)
    if test == "official" and pool.official is not None:
        anomalous = anomalous[pool.official[anomalous]]
    train, val = stratified_split(pool.machine[rest], VAL_FRACTION)
    named = {"train": rest[train], "val": rest[val], "test, normal": held, "test, anomalous": anomalous}
    problems = [
        f"no clips for {name}: {len(normal)} normal of {len(pool.y)} clips are too few" for name, part in named.items() if not len(part)
    ]
    if problems:
        raise DataError(problems)
    return rest[train], rest[val], np.sort(np.concatenate([held, anomalous])).astype(np.int64)


def _cut(pool: ClipPool, clips: np.ndarray, frames: int, stride: int, most: int | None) -> Split:
    """Windows [N, frames * bins] of some clips, frame after frame; `most`: so many of each clip, spread over it."""
    starts = [window_starts(int(count), frames, stride) for count in pool.frame_counts(clips)]
    if most is not None:
        starts = [places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64)] for places in starts]
    of = np.repeat(np.arange(len(clips), dtype=np.int64), [len(places) for places in starts])
    size = len(of) * frames * pool.x.shape[2] * pool.x.itemsize
    if size > MAX_ARRAY_BYTES:
        raise DataError(f"{size} bytes of windows, more than the limit of {MAX_ARRAY_BYTES}; choose a larger stride")
    x = np.empty((len(of), frames * pool.x.shape[2]), pool.x.dtype)
    row = 0
    for clip, places in zip(clips, starts):
        x[row : row + len(places)] = windows_at(pool.x[clip : clip + 1], frames, places).reshape(len(places), -1)
        row += len(places)
    return Split(x, pool.y[clips][of], Clips(of, pool.y[clips], pool.machine[clips]))


def assemble_clips(pool: ClipPool, source: str, options: AdOptions, *, quicktest: bool = False, synthetic: bool = False) -> Dataset:
    """Splits clips and cuts them into windows; `split_sha256` is that of the clips' indices.

    Raises:
        DataError: clips shorter than a window, or too few of them.
    """
    shortest = int(pool.frame_counts(np.arange(len(pool.y))).min(initial=pool.x.shape[1]))
    if shortest < options.frames:
        raise DataError(f"{source}: clips of {shortest} frames are shorter than a window of {options.frames}")
    parts = split_clips(pool, options.test)
    most = None
    if quicktest:  # few clips, but of every machine and, in test, of both classes
        kind = np.unique(np.stack([pool.machine, pool.y]), axis=1, return_inverse=True)[1].reshape(-1)
        train, val, test = (part[spread(kind[part], count)] for part, count in zip(parts, QUICKTEST_CLIPS))
        parts, most = (train, val, test), QUICKTEST_WINDOWS
    strides = (options.train_stride, options.train_stride, options.test_stride)
    splits = [_cut(pool, part, options.frames, stride, most) for part, stride in zip(parts, strides)]
    anomalous = int(pool.y[parts[2]].sum())
    counts = f"{len(parts[0])} and {len(parts[1])} normal clips, test {len(parts[2]) - anomalous} normal and {anomalous} anomalous"
    digest = split_sha256(*parts)
    return Dataset("ad", f"{source}, {counts}", synthetic, CLASS_NAMES, splits[0], splits[1], splits[2], digest, task="anomaly")


def _generated(options: AdOptions, seed: int) -> ClipPool:
    """Clips of a tone a machine, with noise; the anomalous ones have another tone as well."""
    random = np.random.RandomState(seed & 0xFFFFFFFF)
    y = np.tile(np.repeat(np.arange(2), [24, 8]), 2).astype(np.int64)
    machine = np.repeat([1, 2], 32).astype(np.int64)
    x = random.normal(-20, 8, (len(y), options.frames + 7, MEL_BINS))
    for clip in range(len(y)):
        x[clip, :, 10 * machine[clip] : 10 * machine[clip] + 4] += 60
        x[clip, :, 100:108] += 40 * y[clip]
    return ClipPool(np.clip(np.round(x), -128, 127).astype(np.int8), y, machine)


def _read(path: Path, options: AdOptions, quicktest: bool) -> tuple[ClipPool, str]:
    """The clips of a file or of a tree, and what to call them in reports."""
    if not path.is_dir():
        return read_clips(path), path.name
    if options.test == "official":  # before minutes go into features
        raise DataError(UNMARKED)
    tree = find_tree(path, options.machine_type)
    pool = read_tree(
        tree,
        centre=options.clip_frames == "centre",
        front_end=options.front_end,
        least=options.frames,
        stored=resolve(options.cache) if options.cache else None,
        quicktest=quicktest,
    )
    return pool, f"{tree.name} (.wav files, {options.clip_frames} frames, {options.front_end} front end)"


def load(options: AdOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Windows of 5 frames x 128 log-mel bins, int8 [N, 640] (frame after frame), of clips of toy cars, normal and anomalous.

    A file `path` holds clips `x` [C, frames, 128], `y` [C] (0 normal, 1 anomalous), `machine` [C] and perhaps `official248` [C]. Stored
    integers are dB: (x - 89) * 0.3910152316093445. A folder `path` holds train/normal_id_01_00000000.wav,
    test/anomaly_id_01_00000000.wav and so on, from which the integer front end makes the same features (docs/anomaly.md). Train and
    val are windows of normal clips; test has normal clips that neither has, and anomalous ones; a clip is never in two splits.
    Source: ToyADMOS (Koizumi et al., arXiv:1908.03299) as in DCASE 2020 Task 2 (arXiv:2006.05822) and MLPerf Tiny's anomaly
    detection; non-commercial (CC BY-NC-SA 4.0).

    Example:
        data: {name: ad, preprocess: [{dequantize: {scale: 0.3910152316093445, zero_point: 89}}]}
    """
    path = resolve(options.path)
    if not path.exists():
        if not quicktest:
            raise DataError(missing_message("ad", path))
        source = f"generated ({path.name} is absent)"
        declared = options.model_copy(update={"test": "all"})
        return assemble_clips(_generated(options, seed), source, declared, quicktest=True, synthetic=True)
    try:
        pool, source = _read(path, options, quicktest)
        return assemble_clips(pool, source, options, quicktest=quicktest)
    except DataError as error:
        raise DataError([problem if str(path) in problem else f"{path}: {problem}" for problem in error.problems]) from error
