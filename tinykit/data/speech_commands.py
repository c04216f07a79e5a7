"""The tree of Speech Commands: which file is in which split, and which files stand for the class "unknown".

Source: P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", arXiv:1804.03209, and the README of the archive.
"""

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np

from tinykit.errors import DataError
from tinykit.options import nearest

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
SPLITS = ("train", "val", "test")
NOISE_FOLDER = "_background_noise_"
SILENCE_FOLDER, UNKNOWN_FOLDER = "_silence_", "_unknown_"  # of the archive with the official test set
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
HASH_RANGE = 1 << 27
MAX_FILES = 500_000
MAX_LIST_BYTES = 32 << 20


@dataclasses.dataclass(frozen=True)
class Clip:
    """A file of the tree: `path`, and the class name that it stands for."""

    path: Path
    name: str


def split_by_hash(file_name: str, val_percent: int = 10, test_percent: int = 10) -> str:
    """The split of a file by the dataset's published rule: `train`, `val` or `test`.

    The part of the name before `_nohash_` is the speaker (without it, the whole name counts), so that all recordings of one
    speaker fall into one split, in every version of the set. SHA-1 of that part modulo 2^27, as a share of 2^27 - 1: the lowest
    10 % are val, the next 10 % test.
    """
    speaker = Path(file_name).name.split("_nohash_", 1)[0]
    place = 100 * (int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16) % HASH_RANGE)
    if place < val_percent * (HASH_RANGE - 1):
        return "val"
    return "test" if place < (val_percent + test_percent) * (HASH_RANGE - 1) else "train"


def read_lists(root: Path) -> dict[str, str] | None:
    """`word/file.wav` -> `val` or `test` from the lists that come with the set; None where there are none: the hash decides.

    Raises:
        DataError: one of the two is missing, a list is no text, or a file is in both.
    """
    present = [root / name for name in LISTS.values() if (root / name).is_file()]
    if not present:
        return None
    if len(present) == 1:
        absent = next(root / name for name in LISTS.values() if not (root / name).is_file())
        raise DataError(f"{absent}: missing beside {present[0].name}; put both lists there, or neither to split by the names' hash")
    splits: dict[str, str] = {}
    for split, name in LISTS.items():
        path = root / name
        try:
            if path.stat().st_size > MAX_LIST_BYTES:
                raise DataError(f"{path}: larger than {MAX_LIST_BYTES} bytes, no list of files")
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as text: {error}") from error
        for line in filter(None, map(str.strip, lines)):
            if splits.setdefault(line, split) != split:
                raise DataError(f"{root}: {line} is in both lists, {' and '.join(LISTS.values())}; copy them again")
    return splits


def folder_names(root: Path) -> list[str]:
    """Word folders of the tree, sorted: those whose name begins with neither `_` nor `.`."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] not in "_.")


def wav_files(folder: Path) -> list[Path]:
    """The .wav files of a folder, sorted by name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() == ".wav" and entry.is_file())


def word_clips(root: Path, words: tuple[str, ...]) -> dict[str, list[Clip]]:
    """All clips of the tree by split; words outside `words` have the name "unknown".

    Raises:
        DataError: a folder of a wanted word is missing or holds no .wav file; more than 500,000 files; wrong lists.
    """
    folders = folder_names(root)
    problems = [f"{root / word}: folder of the word {word!r} is missing: {nearest(word, folders)}" for word in words if word not in folders]
    if problems:
        raise DataError(problems)
    lists = read_lists(root)
    clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for folder in folders:
        files = wav_files(root / folder)
        if folder in words and not files:
            problems.append(f"{root / folder}: holds no .wav file")
        for path in files:
            split = split_by_hash(path.name) if lists is None else lists.get(f"{folder}/{path.name}", "train")
            clips[split].append(Clip(path, folder if folder in words else "unknown"))
    if sum(map(len, clips.values())) > MAX_FILES:
        problems.append(f"{root}: more than the limit of {MAX_FILES} files")
    if problems:
        raise DataError(problems)
    return clips


def official_test_clips(root: Path, words: tuple[str, ...]) -> list[Clip]:
    """Clips of the official test archive: a folder for each word, `_unknown_` and `_silence_`.

    Raises:
        DataError: a folder is missing or holds no .wav file.
    """
    folders = {**{word: word for word in words}, UNKNOWN_FOLDER: "unknown", SILENCE_FOLDER: "silence"}
    listed = {folder: wav_files(root / folder) for folder in folders}
    problems = [f"{root / folder}: expected a folder with .wav files of the test archive" for folder, files in listed.items() if not files]
    if problems:
        raise DataError(problems)
    return [Clip(path, folders[folder]) for folder, files in listed.items() for path in files]


def with_unknown(clips: list[Clip], percentage: float | None, random: np.random.RandomState) -> list[Clip]:
    """The wanted words' clips, and of the others ceil(percentage % of the wanted ones' number), chosen at random; None: all."""
    wanted = [clip for clip in clips if clip.name != "unknown"]
    others = [clip for clip in clips if clip.name == "unknown"]
    if percentage is None:
        return wanted + others
    count = share(len(wanted), percentage)
    return wanted + [others[index] for index in np.sort(random.permutation(len(others))[:count])]


def share(wanted: int, percentage: float) -> int:
    """ceil(percentage % of `wanted`), as the published training program counts silence and unknown clips."""
    return math.ceil(wanted * percentage / 100)


def noise_part(noise: np.ndarray, split: str) -> np.ndarray:
    """The part of a noise recording that a split may use: the first 80 % train, the next 10 % val, the last 10 % test."""
    first, second = (len(noise) * 8) // 10, (len(noise) * 9) // 10
    return {"train": noise[:first], "val": noise[first:second], "test": noise[second:]}[split]
