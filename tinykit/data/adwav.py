"""Machine sounds as DCASE 2020 Task 2 ships them: train/ and test/ with normal_id_01_00000000.wav, anomaly_id_01_00000000.wav.

Sources: Y. Koizumi et al., arXiv:2006.05822 (the task and its tree); MLPerf Tiny's anomaly detection (the features, 200 frames from the
middle of a clip). What differs from it, and by how much, is in docs/anomaly.md.
"""

import dataclasses
import re
from pathlib import Path
from typing import Literal

import numpy as np

from tinykit.data.audio import AD_LOG_MEL, cache, float_features, integer_features
from tinykit.data.audio.wav import read_wav
from tinykit.data.files import MAX_ARRAY_BYTES
from tinykit.data.progress import Progress
from tinykit.data.speech_commands import wav_files
from tinykit.errors import DataError
from tinykit.options import nearest

FOLDERS = ("train", "test")
NAME = re.compile(r"(normal|anomaly)_id_(\d{1,6})_\d{1,12}\.(?:wav|WAV)")
EXPECTED = "normal_id_01_00000000.wav or anomaly_id_01_00000000.wav (kind, number of the machine, number of the clip)"
# The published program pads a clip by half a window at both ends and takes frames 50 to 249; without the padding these are frames
# 49 to 248, sample for sample.
FIRST_SAMPLE = 49 * AD_LOG_MEL.stride
CENTRE_SAMPLES = FIRST_SAMPLE + AD_LOG_MEL.clip_samples  # 8 s
MAX_SECONDS = 60  # of a clip all of whose frames are wanted; those of the task have 10 or 11
MAX_FILES = 100_000
MANY = 200  # clips that are worth a progress line
SHOWN = 5  # wrong names in a message
MOST_BAD = 10  # damaged files, after which the others are not looked at
QUICKTEST_FILES = 8  # of a machine, kind and folder
CACHED = ("x", "y", "machine", "held", "frames")


@dataclasses.dataclass(frozen=True, eq=False)
class ClipPool:
    """All clips, before they are cut into windows. Whatever reads clips (an .npz file, a tree of .wav files) hands over this.

    Attributes:
        x: [C, frames, bins] log-mel energies as stored.
        y: [C] int64, 0 normal, 1 anomalous.
        machine: [C] int64 number of the machine.
        official: [C] bool, the clips of the official evaluation; None where that is not known.
        held: [C] bool, the clips that the data themselves keep for the test; None where they do not say.
        frames: [C] int64, frames of each clip, which lie at its beginning in `x`; None where all of `x` is.
    """

    x: np.ndarray
    y: np.ndarray
    machine: np.ndarray
    official: np.ndarray | None = None
    held: np.ndarray | None = None
    frames: np.ndarray | None = None

    def frame_counts(self, clips: np.ndarray) -> np.ndarray:
        """Frames of some clips, int64 [len(clips)]."""
        return np.full(len(clips), self.x.shape[1], np.int64) if self.frames is None else self.frames[clips]


@dataclasses.dataclass(frozen=True)
class WavClip:
    """A file of the tree: `y` 0 normal, 1 anomalous; `machine` by its name; `test`: it lies in test/."""

    path: Path
    y: int
    machine: int
    test: bool


def find_tree(path: Path, machine_type: str) -> Path:
    """The folder with train/ and test/: `path` itself, else `machine_type` in it.

    Raises:
        DataError: neither has them, or one of the two is missing.
    """
    inner = {entry.name: entry for entry in sorted(path.iterdir()) if entry.is_dir()}
    if not inner.keys() & set(FOLDERS):
        trees = [name for name, entry in inner.items() if any((entry / folder).is_dir() for folder in FOLDERS)]
        if machine_type not in trees:
            raise DataError(
                f"{path}: expected an .npz file, or a folder with train/ and test/, or one with {machine_type}/ that has them, "
                f"received a folder without; machine_type {machine_type!r}: {nearest(machine_type, trees)}"
            )
        path = inner[machine_type]
    absent = [path / folder for folder in FOLDERS if not (path / folder).is_dir()]
    problems = [f"{folder}: folder is missing; expected .wav files in it such as {EXPECTED}" for folder in absent]
    if problems:
        raise DataError(problems)
    return path


def list_clips(tree: Path) -> list[WavClip]:
    """Every clip of the tree, train/ before test/, by name.

    Raises:
        DataError: no or too many files, other names, anomalous clips in train/, clips of one kind only in test/; every problem at once.
    """
    clips: list[WavClip] = []
    problems: list[str] = []
    for folder in FOLDERS:
        found, wrong = _folder(tree / folder, folder == "test")
        clips += found
        problems += wrong
    if len(clips) > MAX_FILES:
        problems.append(f"{tree}: {len(clips)} files, more than the limit of {MAX_FILES}")
    bad = [clip.path.name for clip in clips if clip.y and not clip.test]
    if bad:
        problems.append(f"{tree / 'train'}: {len(bad)} anomalous clips: {_some(bad)}; training takes normal ones only, move them to test/")
    kinds = {clip.y for clip in clips if clip.test}
    for kind, name in enumerate(("normal", "anomaly")):
        if kinds == {1 - kind}:
            problems.append(f"{tree / 'test'}: no file {name}_id_*.wav: without both kinds there is no area under the ROC curve")
    if problems:
        raise DataError(problems)
    return clips


def _some(names: list[str]) -> str:
    """The first few names, and how many there are more."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def _folder(folder: Path, test: bool) -> tuple[list[WavClip], list[str]]:
    """Clips of train/ or test/, and what is wrong with them. Names that begin with a dot (of some archives) do not count."""
    files = [path for path in wav_files(folder) if path.name[0] != "."]
    if not files:
        return [], [f"{folder}: holds no .wav file; expected such as {EXPECTED}"]
    matches = [(path, NAME.fullmatch(path.name)) for path in files]
    clips = [WavClip(path, int(match[1] == "anomaly"), int(match[2]), test) for path, match in matches if match]
    wrong = [path.name for path, match in matches if not match]
    if wrong:
        return clips, [f"{folder}: {len(wrong)} files have other names: {_some(wrong)}; expected {EXPECTED}"]
    return clips, []


def sound_features(path: Path, *, centre: bool, front_end: Literal["integer", "float"], least: int) -> np.ndarray:
    """Log-mel energies of one file, int8 [frames, 128]: dB = 0.3910152316093445 (q - 89), limited to -84.9 to 14.9 dB.

    Args:
        path: 16 kHz, mono, 16 bits.
        centre: 200 frames from the middle, as MLPerf Tiny; False: every frame that lies wholly in the clip.
        front_end: what computes them.
        least: frames that there must be where `centre` is False.

    Raises:
        DataError: the file is damaged, of another format, too short or (all frames) too long; one line with its name.
    """
    samples = read_wav(path, AD_LOG_MEL.sample_rate)
    wanted = CENTRE_SAMPLES if centre else AD_LOG_MEL.window + (least - 1) * AD_LOG_MEL.stride
    if len(samples) < wanted:
        hint = "for the 200 frames in the middle; clip_frames: all takes shorter clips" if centre else f"for a window of {least} frames"
        raise DataError(f"{path}: expected {wanted} samples or more {hint}, received {len(samples)}")
    if not centre and len(samples) > MAX_SECONDS * AD_LOG_MEL.sample_rate:
        raise DataError(f"{path}: {len(samples)} samples are longer than {MAX_SECONDS} s; cut it, or take clip_frames: centre")
    part = samples[FIRST_SAMPLE:CENTRE_SAMPLES] if centre else samples
    features = integer_features if front_end == "integer" else float_features
    return features(part[np.newaxis], dataclasses.replace(AD_LOG_MEL, clip_samples=len(part)))[0, :, :, 0]


def _compute(clips: list[WavClip], label: str, *, centre: bool, front_end: Literal["integer", "float"], least: int) -> list[np.ndarray]:
    """Features of every clip; one file at a time is in memory as sound."""
    show = Progress(f"features of {label}", "clips") if len(clips) >= MANY else None
    features: list[np.ndarray] = []
    problems: list[str] = []
    longest = 0
    for number, clip in enumerate(clips):
        try:
            features.append(sound_features(clip.path, centre=centre, front_end=front_end, least=least))
        except DataError as error:
            problems += error.problems
            if len(problems) >= MOST_BAD:
                raise DataError([*problems, f"{len(clips) - number - 1} other files were not looked at"]) from error
            continue
        longest = max(longest, features[-1].size)
        if longest * len(clips) > MAX_ARRAY_BYTES:
            raise DataError(f"{len(clips)} clips of up to {longest} bytes exceed the limit of {MAX_ARRAY_BYTES}; take clip_frames: centre")
        if show:
            show(number + 1, len(clips))
    if problems:
        raise DataError(problems)
    return features


def _padded(features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """int8 [C, most frames, 128], zeros after a shorter clip's frames, and the frames of each clip, int64 [C]."""
    frames = np.array([len(clip) for clip in features], np.int64)
    x = np.zeros((len(features), int(frames.max()), AD_LOG_MEL.bands), np.int8)
    for row, clip in zip(x, features):
        row[: len(clip)] = clip
    return x, frames


def _first(clips: list[WavClip]) -> list[WavClip]:
    """For a quicktest the first clips of each machine, kind and folder only, so that a large tree costs nothing."""
    seen: dict[tuple[int, int, bool], int] = {}
    kept = []
    for clip in clips:
        key = (clip.machine, clip.y, clip.test)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= QUICKTEST_FILES:
            kept.append(clip)
    return kept


def read_tree(
    tree: Path,
    *,
    centre: bool,
    front_end: Literal["integer", "float"],
    least: int,
    stored: Path | None = None,
    quicktest: bool = False,
) -> ClipPool:
    """The clips of a tree.

    Args:
        tree: the folder with train/ and test/.
        centre, front_end, least: see `sound_features`.
        stored: an .npz file that keeps the features; it is written where it is absent or of other files or settings.
        quicktest: a few clips of each machine and kind only, and `stored` is left alone.

    Raises:
        DataError: the tree or a file is wrong; every problem at once, but at most ten damaged files.
    """
    clips = list_clips(tree)
    if quicktest:
        clips, stored = _first(clips), None
    settings = [centre, front_end, dataclasses.asdict(AD_LOG_MEL)]
    digest = cache.digest(settings, [clip.path for clip in clips]) if stored else ""
    arrays = cache.read_arrays(stored, digest, CACHED) if stored else None
    if arrays is None:
        x, frames = _padded(_compute(clips, tree.name, centre=centre, front_end=front_end, least=least))
        y, machine = (np.array([getattr(clip, name) for clip in clips], np.int64) for name in ("y", "machine"))
        arrays = {"x": x, "y": y, "machine": machine, "held": np.array([clip.test for clip in clips]), "frames": frames}
        if stored:
            cache.write_arrays(stored, digest, arrays)
    return ClipPool(arrays["x"], arrays["y"], arrays["machine"], held=arrays["held"], frames=arrays["frames"])
