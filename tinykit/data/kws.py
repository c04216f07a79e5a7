"""Keyword spotting on Speech Commands: words, silence and unknown words, as features of our own front end."""

import dataclasses
import shlex
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from tinykit.data import speech_commands as tree
from tinykit.data.archive import fetch_folder
from tinykit.data.audio import KWS_LOG_MEL, KWS_MFCC, FrontEnd, cache, float_features, integer_features
from tinykit.data.audio.augment import augmented, mix, random_noise, random_volume
from tinykit.data.audio.wav import fitted, read_wav
from tinykit.data.dataset import Dataset, Split
from tinykit.data.download import Progress, Source, by_hand, megabytes
from tinykit.data.files import missing_message, resolve
from tinykit.data.splits import QUICKTEST_SIZES, assemble, generated_dataset
from tinykit.errors import DataError, collected
from tinykit.options import Options

# Sizes and digests are those of tensorflow_datasets (url_checksums/speech_commands.txt).
SERVER = "http://download.tensorflow.org/data"
ARCHIVE = Source(
    f"{SERVER}/speech_commands_v0.02.tar.gz", "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58", 2_428_923_189
)
TEST_ARCHIVE = Source(
    f"{SERVER}/speech_commands_test_set_v0.02.tar.gz", "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df", 112_563_277
)
FRONT_ENDS = {"mfcc": KWS_MFCC, "log_mel": KWS_LOG_MEL}
CHUNK = 256  # clips that are held as sound at a time
QUICKTEST_CLIPS = 8  # of a class and split
MANY = 2000  # clips whose features are worth a progress line


class KwsOptions(Options):
    """Options of `kws`.

    Attributes:
        path: the unpacked archive, a folder for each word; relative paths are looked for in TINYKIT_DATA.
        test_path: the unpacked official test archive (word folders, `_unknown_`, `_silence_`), which replaces the test split.
        features: mfcc ([49, 10, 1], step 0.5847, zero point 83) or log_mel ([49, 40, 1], step 0.08, zero point 45).
        front_end: integer (what a device computes) or float (its oracle).
        words: the wanted words; "silence" and "unknown" follow as classes.
        silence_percentage: silence clips, in % of the wanted words' clips of each split; 0 drops the class.
        unknown_percentage: clips of other words, likewise; 0 drops the class, null takes all of them, as MLPerf Tiny does.
        copies: augmented copies of every training clip, beside the clip itself.
        time_shift_ms: copies are shifted by up to this, earlier or later.
        background_probability: share of the copies that get background noise.
        background_volume: highest volume of that noise, 1 being the recording's own.
        seed: of the choice of unknown words, of silence and of the copies; the run's seed changes none of them.
        download: fetch the archives where their folders are absent (never with --quicktest).
        cache: an .npz file for the computed features, written when it is absent or of other options or files.
    """

    path: str = pydantic.Field(default="speech_commands_v0.02", min_length=1)
    test_path: str | None = None
    features: Literal["mfcc", "log_mel"] = "mfcc"
    front_end: Literal["integer", "float"] = "integer"
    words: tuple[str, ...] = pydantic.Field(default=tree.WORDS, min_length=1)
    silence_percentage: float = pydantic.Field(default=10.0, ge=0, le=100)
    unknown_percentage: float | None = pydantic.Field(default=10.0, ge=0, le=100)
    copies: int = pydantic.Field(default=1, ge=0, le=20)
    time_shift_ms: float = pydantic.Field(default=100.0, ge=0, le=1000)
    background_probability: float = pydantic.Field(default=0.8, ge=0, le=1)
    background_volume: float = pydantic.Field(default=0.1, ge=0, le=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 32)
    download: bool = False
    cache: str | None = None

    @pydantic.field_validator("words")
    @classmethod
    def _plain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if word in ("silence", "unknown") or not word or word[0] in "_." or "/" in word or "\\" in word:
                raise ValueError(f"{word!r} is no folder of a word")
        if len(set(value)) != len(value):
            raise ValueError("a word is given twice")
        return value

    @property
    def class_names(self) -> tuple[str, ...]:
        """The words, then "silence" and "unknown" unless their percentage is 0."""
        extra = (("silence", self.silence_percentage), ("unknown", self.unknown_percentage))
        return (*self.words, *(name for name, percentage in extra if percentage != 0))

    @property
    def needs_noise(self) -> bool:
        """Whether any clip is made of background noise."""
        return self.silence_percentage > 0 or (self.copies > 0 and self.background_probability > 0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one split will hold: files with their labels, then `silence` clips cut from the background noise, then copies of both."""

    clips: list[tree.Clip]
    silence: int
    copies: int


def _missing(path: Path, source: Source) -> str:
    archive = path.parent / source.name
    unpack = f"mkdir {shlex.quote(str(path))} ; tar -xzf {shlex.quote(str(archive))} -C {shlex.quote(str(path))}"
    return (
        f"{missing_message('kws', path)}. To fetch it ({megabytes(source.size)}): --set data.options.download=true, "
        f"or by hand: {by_hand(source.url, archive)} ; {unpack}"
    )


def locate(options: KwsOptions) -> tuple[Path, Path | None]:
    """The folders of the words and of the official test set, fetched where that is asked for.

    Raises:
        DataError: a folder does not exist, or is a file; or it could not be fetched.
    """
    wanted = [(resolve(options.path), ARCHIVE)]
    if options.test_path is not None:
        wanted.append((resolve(options.test_path), TEST_ARCHIVE))
    problems = [f"{path}: expected a folder with a folder for each word, received a file" for path, _ in wanted if path.is_file()]
    if not options.download:
        problems += [_missing(path, source) for path, source in wanted if not path.exists()]
    if problems:
        raise DataError(problems)
    folders = [fetch_folder(source, path) for path, source in wanted]  # one that is there is left as it is
    return folders[0], folders[1] if options.test_path is not None else None


def _first(clips: list[tree.Clip]) -> list[tree.Clip]:
    """For a quicktest the first clips of each class only, so that a large tree costs nothing."""
    seen: dict[str, int] = {}
    kept = []
    for clip in clips:
        seen[clip.name] = seen.get(clip.name, 0) + 1
        if seen[clip.name] <= QUICKTEST_CLIPS:
            kept.append(clip)
    return kept


def plan_splits(root: Path, test_root: Path | None, options: KwsOptions, quicktest: bool) -> dict[str, Plan]:
    """Which files each split takes, and how many clips of silence.

    Raises:
        DataError: folders or lists are wrong, or a split has no clip.
    """
    listed = tree.word_clips(root, options.words)
    plans = {}
    for number, split in enumerate(tree.SPLITS):
        clips, silence = listed[split], options.silence_percentage
        if split == "test" and test_root is not None:
            official = tree.official_test_clips(test_root, options.words)
            clips, silence = [clip for clip in official if clip.name in options.class_names], 0.0
        else:
            random = np.random.RandomState([options.seed, number])
            clips = tree.with_unknown(clips, options.unknown_percentage, random)
        if quicktest:
            clips = _first(clips)
        wanted = sum(clip.name in options.words for clip in clips)
        plans[split] = Plan(clips, tree.share(wanted, silence), options.copies if split == "train" else 0)
    empty = [split for split, plan in plans.items() if not plan.clips]
    if empty:
        raise DataError(f"{root}: no clip falls into {' and '.join(empty)}; more recordings are needed, or lists that name some")
    return plans


def read_noises(root: Path, front_end: FrontEnd) -> list[np.ndarray]:
    """The recordings of background noise, int16.

    Raises:
        DataError: there is none, one is damaged or too short for the three splits; every problem at once.
    """
    folder = root / tree.NOISE_FOLDER
    noises, problems = [], []
    for path in tree.wav_files(folder):
        try:
            noises.append(read_wav(path, front_end.sample_rate))
        except DataError as error:
            problems += error.problems
            continue
        shortest = len(tree.noise_part(noises[-1], "val"))
        if min(shortest, len(tree.noise_part(noises[-1], "test"))) < front_end.clip_samples:
            problems.append(f"{path}: expected {10 * front_end.clip_samples} samples or more (a tenth for val), received {len(noises[-1])}")
    if not noises and not problems:
        problems.append(f"{folder}: expected .wav files of noise; without them set silence_percentage: 0 and background_probability: 0")
    if problems:
        raise DataError(problems)
    return noises


def _sounds(
    plan: Plan, noises: list[np.ndarray], options: KwsOptions, front_end: FrontEnd, random: np.random.RandomState, start: int
) -> np.ndarray:
    """Clips `start` to start + CHUNK of the plan, each followed by its augmented copies: int16 [n, clip_samples]."""
    shift = min(round(options.time_shift_ms * front_end.sample_rate / 1000), front_end.clip_samples)
    sounds, problems = [], []
    for index in range(start, min(start + CHUNK, len(plan.clips) + plan.silence)):
        if index >= len(plan.clips):
            for _ in range(1 + plan.copies):
                noise = random_noise(noises, front_end.clip_samples, random)
                sounds.append(mix(np.zeros_like(noise), noise, random_volume(1.0, random)))
            continue
        try:
            clip = fitted(read_wav(plan.clips[index].path, front_end.sample_rate), front_end.clip_samples)
        except DataError as error:
            problems += error.problems
            continue
        sounds.append(clip)
        for _ in range(plan.copies):
            sounds.append(
                augmented(
                    clip,
                    noises,
                    shift=shift,
                    probability=options.background_probability,
                    volume=options.background_volume,
                    random=random,
                )
            )
    if problems:
        raise DataError(problems)
    return np.stack(sounds)


def compute(plan: Plan, noises: list[np.ndarray], options: KwsOptions, number: int) -> Split:
    """Features and labels of one split. At most 256 clips and their copies are in memory as sound.

    Args:
        plan: of the split.
        noises: its part of the recordings of noise.
        options: of the dataset.
        number: of the split, which with the options' seed seeds its randomness.

    Raises:
        DataError: files are damaged; every bad file of a chunk at once.
    """
    front_end = FRONT_ENDS[options.features]
    features = integer_features if options.front_end == "integer" else float_features
    random = np.random.RandomState([options.seed, 100 + number])
    names = [clip.name for clip in plan.clips] + ["silence"] * plan.silence
    show = Progress(f"features of {tree.SPLITS[number]}", "clips") if len(names) >= MANY else None
    x = []
    for start in range(0, len(names), CHUNK):
        x.append(features(_sounds(plan, noises, options, front_end, random, start), front_end))
        if show:
            show(min(start + CHUNK, len(names)), len(names))
    labels = np.array([options.class_names.index(name) for name in names], np.int64)
    return Split(np.concatenate(x), np.repeat(labels, 1 + plan.copies))


def _digest(plans: dict[str, Plan], root: Path, options: KwsOptions) -> str:
    """What the features depend on, as a digest for the cache."""
    files = [clip.path for plan in plans.values() for clip in plan.clips]
    files += tree.wav_files(root / tree.NOISE_FOLDER) if options.needs_noise else []
    return cache.digest([options.model_dump(exclude={"cache", "download"}), dataclasses.asdict(FRONT_ENDS[options.features])], files)


def _splits(root: Path, test_root: Path | None, options: KwsOptions, quicktest: bool) -> list[Split]:
    """train, val and test, from the cache where it holds them."""
    plans = plan_splits(root, test_root, options, quicktest)
    stored = resolve(options.cache) if options.cache and not quicktest else None
    digest = _digest(plans, root, options) if stored else ""
    found = cache.read(stored, digest) if stored else None
    if found is not None:
        return found
    noises = read_noises(root, FRONT_ENDS[options.features]) if options.needs_noise else []
    splits = []
    problems: list[str] = []
    for number, (name, plan) in enumerate(plans.items()):
        with collected(DataError, problems):
            splits.append(compute(plan, [tree.noise_part(noise, name) for noise in noises], options, number))
    if problems:
        raise DataError(problems)
    if stored:
        cache.write(stored, digest, splits)
    return splits


def load(options: KwsOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Spoken words as int8 features [N, 49, 10, 1] (MFCC) or [N, 49, 40, 1] (log-mel), twelve classes: ten words, silence, unknown.

    One-second clips, 16 kHz, of Speech Commands (Warden, arXiv:1804.03209, CC BY 4.0), word folders with `_background_noise_`. The
    splits are those of validation_list.txt and testing_list.txt, else of the published hash of the speaker. Silence is background
    noise at a random volume, from a part of each recording that no other split uses. Our integer front end computes the features
    of MLPerf Tiny's keyword spotting (docs/audio.md). Real values: scale 0.5847029089927673, zero point 83 (log-mel: 0.08, 45).

    Example:
        data: {name: kws, options: {features: mfcc, copies: 2}, preprocess: [{dequantize: {scale: 0.5847029, zero_point: 83}}]}
    """
    names = options.class_names
    if quicktest and not resolve(options.path).exists():
        return generated_dataset("kws", FRONT_ENDS[options.features].output_shape, "int8", names, seed, str(resolve(options.path)))
    root, test_root = locate(options)
    splits = _splits(root, test_root, options, quicktest)
    pool = Split(np.concatenate([split.x for split in splits]), np.concatenate([split.y for split in splits]))
    ends = np.cumsum([0, *map(len, splits)])
    train, val, test = (np.arange(ends[part], ends[part + 1]) for part in range(len(QUICKTEST_SIZES)))
    source = f"Speech Commands (Warden 2018), {root.name}, {options.front_end} front end"
    return assemble("kws", source, names, pool, (train, val, test), quicktest=quicktest)
