"""kws on a small Speech Commands tree in the true layout: splits, classes, silence, unknown words, copies, cache, faults."""

import hashlib
import math
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from tinykit.data import kws, load_dataset
from tinykit.data import speech_commands as tree
from tinykit.data.audio import KWS_LOG_MEL, KWS_MFCC, float_features, integer_features
from tinykit.data.splits import split_sha256
from tinykit.errors import ConfigError, DataError

WORDS = ("yes", "no", "stop")
OTHERS = ("bed", "wow")
SPEAKERS = 40
REAL_DATA = os.environ.get("TINYKIT_DATA", "/absent")
# 32 of the 40 speakers train, 2 val, 6 test: by the formula in `published_split`
PLAIN = {"path": "sc", "words": list(WORDS), "copies": 0}


def published_split(name, validation=10.0, testing=10.0):
    """The rule as the dataset's README states it, in floating point."""
    most = 2**27 - 1
    speaker = name[: name.index("_nohash_")] if "_nohash_" in name else name
    percentage = (int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1)) * (100.0 / most)
    if percentage < validation:
        return "val"
    return "test" if percentage < validation + testing else "train"


def write_wav(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(np.asarray(samples, "<i2").tobytes())


def tone(word, speaker):
    """A word is a pitch, a speaker a length (0.05 to 1.2 s) and a loudness."""
    count = 800 + speaker * 460
    pitch = 200 + 130 * (WORDS + OTHERS).index(word)
    return np.round((2000 + 500 * speaker) * np.sin(2 * np.pi * pitch * np.arange(count) / 16000))


def names():
    return [f"{7919 * speaker:08x}_nohash_{speaker % 3}.wav" for speaker in range(SPEAKERS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tree, made once; tests that change it copy it."""
    root = tmp_path_factory.mktemp("data")
    for word in WORDS + OTHERS:
        for speaker, name in enumerate(names()):
            write_wav(root / "sc" / word / name, tone(word, speaker))
    random = np.random.RandomState(5)
    for number in range(2):
        write_wav(root / "sc" / "_background_noise_" / f"noise{number}.wav", random.randint(-3000, 3000, 165000 + number))
    (root / "sc" / "_background_noise_" / "README.md").write_text("no sound")
    (root / "sc" / "LICENSE").write_text("no folder")
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy of the tree in TINYKIT_DATA; files are linked, so replace them, never write into them."""
    for path in made.rglob("*"):
        target = tmp_path / path.relative_to(made)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    return tmp_path


def load(quicktest=False, seed=0, **options):
    return load_dataset("kws", {**PLAIN, **options}, seed=seed, quicktest=quicktest)


def sounds(words, split):
    """Clips of the words in a split, cut or padded to one second, in the order word by word, file by file."""
    rows = []
    for word in words:
        for name, speaker in sorted(zip(names(), range(SPEAKERS))):
            if published_split(name) == split:
                rows.append(np.concatenate([tone(word, speaker), np.zeros(16000)])[:16000].astype(np.int16))
    return np.stack(rows)


def counts(split, classes):
    return np.bincount(split.y, minlength=classes).tolist()


# ---- splits


def test_the_published_hash():
    for count in range(3000):
        for name in (f"{count:08x}_nohash_1.wav", f"clip{count}.wav"):
            assert tree.split_by_hash(name) == published_split(name)
    assert tree.split_by_hash("0c40e715_nohash_3.wav") == tree.split_by_hash("yes/0c40e715_nohash_0.wav") == "test"
    assert tree.split_by_hash("026290a7_nohash_0.wav") == "val"
    shares = [tree.split_by_hash(f"{n:08x}_nohash_0.wav") for n in range(20000)]
    assert 0.09 < shares.count("val") / 20000 < 0.11 and 0.09 < shares.count("test") / 20000 < 0.11


def test_files_are_split_by_speaker(root):
    clips = tree.word_clips(root / "sc", WORDS)
    assert sum(map(len, clips.values())) == 5 * SPEAKERS
    for split, members in clips.items():
        assert {published_split(clip.path.name) for clip in members} == {split}
        assert {(clip.path.parent.name, clip.name) for clip in members} == {(w, w) for w in WORDS} | {(w, "unknown") for w in OTHERS}


def test_lists_come_before_the_hash(root):
    listed = sorted(names())
    val, test = listed[:3], listed[3:8]
    (root / "sc" / "validation_list.txt").write_text("".join(f"{word}/{name}\n" for word in WORDS + OTHERS for name in val))
    with pytest.raises(DataError, match="testing_list.txt: missing beside validation_list.txt"):
        load()
    (root / "sc" / "testing_list.txt").write_text("\n".join(f"{word}/{name}" for word in WORDS + OTHERS for name in test) + "\n\n")
    clips = tree.word_clips(root / "sc", WORDS)
    for split, members in (("val", val), ("test", test), ("train", listed[8:])):
        assert [clip.path.name for clip in clips[split] if clip.path.parent.name == "no"] == members
    data = load(silence_percentage=0, unknown_percentage=0)
    assert [counts(part, 3) for part in (data.train, data.val, data.test)] == [[32] * 3, [3] * 3, [5] * 3]
    with (root / "sc" / "testing_list.txt").open("a") as stream:
        stream.write(f"yes/{val[0]}\n")
    with pytest.raises(DataError, match=f"yes/{val[0]} is in both lists"):
        load()
    (root / "sc" / "testing_list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="testing_list.txt: cannot be read as text"):
        load()


# ---- classes and features


def test_features_are_those_of_the_files(root):
    data = load(silence_percentage=0, unknown_percentage=0)
    assert data.class_names == WORDS and data.input_shape == (49, 10, 1) and data.train.x.dtype == np.int8 and not data.synthetic
    for name in tree.SPLITS:
        part = getattr(data, name)
        order = [clip for word in sorted(WORDS) for clip in sounds([word], name)]  # folders are read in order of their names
        assert np.array_equal(part.x, integer_features(np.stack(order), KWS_MFCC))
        each = len(part) // 3
        assert part.y.tolist() == [WORDS.index(word) for word in sorted(WORDS) for _ in range(each)]
    sizes = np.cumsum([0, len(data.train), len(data.val), len(data.test)])
    assert data.split_sha256 == split_sha256(*(np.arange(sizes[i], sizes[i + 1]) for i in range(3)))


def test_float_and_log_mel(root):
    test = np.concatenate([sounds([word], "test") for word in sorted(WORDS)])
    data = load(silence_percentage=0, unknown_percentage=0, front_end="float")
    assert np.array_equal(data.test.x, float_features(test, KWS_MFCC)) and "float front end" in data.source
    data = load(silence_percentage=0, unknown_percentage=0, features="log_mel")
    assert data.input_shape == (49, 40, 1) and np.array_equal(data.test.x, integer_features(test, KWS_LOG_MEL))


def test_silence_and_unknown_have_their_shares(root):
    data = load(silence_percentage=10, unknown_percentage=20)
    assert data.class_names == (*WORDS, "silence", "unknown") and data.classes == 5
    for name in tree.SPLITS:
        each = sum(published_split(file) == name for file in names())
        wanted = 3 * each
        assert counts(getattr(data, name), 5) == [each] * 3 + [math.ceil(wanted / 10), math.ceil(wanted / 5)]
    everything = load(unknown_percentage=None)
    assert counts(everything.test, 5)[4] == 2 * sum(published_split(file) == "test" for file in names())
    assert load(silence_percentage=0).class_names == (*WORDS, "unknown")
    assert load(unknown_percentage=0).class_names == (*WORDS, "silence")


def test_unknown_clips_are_of_other_words_and_of_their_split(root):
    data = load(unknown_percentage=30)
    for name in tree.SPLITS:
        part = getattr(data, name)
        allowed = {x.tobytes() for x in integer_features(sounds(OTHERS, name), KWS_MFCC)}
        chosen = [x.tobytes() for x in part.x[part.y == 4]]
        assert set(chosen) <= allowed and len(set(chosen)) == len(chosen)


def test_default_classes_are_those_of_mlperf_tiny():
    options = kws.KwsOptions()
    assert options.class_names == ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown")


def test_silence_of_a_split_is_cut_from_its_own_part_of_the_noise(root):
    folder = root / "sc" / "_background_noise_"
    for path in folder.glob("*.wav"):
        path.unlink()
    samples = np.zeros(200000)
    samples[160000:180000] = np.tile([9000, -9000], 10000)  # val's part only
    write_wav(folder / "n.wav", samples)
    data = load()
    still = integer_features(np.zeros((1, 16000), np.int16), KWS_MFCC)[0]
    for name in tree.SPLITS:
        part = getattr(data, name)
        silent = [np.array_equal(x, still) for x in part.x[part.y == 3]]
        assert silent and (not any(silent) if name == "val" else all(silent))
    parts = [tree.noise_part(np.arange(205), name) for name in tree.SPLITS]
    assert np.array_equal(np.concatenate(parts), np.arange(205)) and [len(part) for part in parts] == [164, 20, 21]


# ---- copies and randomness


def test_copies_follow_their_clip_and_only_in_train(root):
    plain, more = load(), load(copies=2)
    assert len(more.train) == 3 * len(plain.train) and np.array_equal(more.train.y, np.repeat(plain.train.y, 3))
    words = plain.train.y < 3
    assert np.array_equal(more.train.x[::3][words], plain.train.x[words])
    assert np.array_equal(more.val.x, plain.val.x) and np.array_equal(more.test.x, plain.test.x)
    changed = (more.train.x[1::3] != more.train.x[::3]).any((1, 2, 3))
    assert changed.mean() > 0.95 and not np.array_equal(more.train.x[1::3], more.train.x[2::3])
    same = load(copies=1, time_shift_ms=0, background_probability=0)
    assert np.array_equal(same.train.x[1::2][words], same.train.x[::2][words])
    assert not np.array_equal(same.train.x[1::2][~words], same.train.x[::2][~words])  # silence is cut anew


def test_only_the_declared_seed_matters(root):
    options = {"copies": 1, "unknown_percentage": 20}
    first = load(**options)
    assert load(**options, seed=7).content_sha256 == first.content_sha256
    other = load_dataset("kws", {**PLAIN, **options, "seed": 1}, seed=0, quicktest=False)
    assert other.content_sha256 != first.content_sha256 and np.array_equal(other.test.y, first.test.y)
    words = first.test.y < 3
    assert np.array_equal(other.test.x[words], first.test.x[words])


def test_the_chunk_of_clips_in_memory_changes_nothing(root, monkeypatch):
    whole = load(copies=1)
    monkeypatch.setattr(kws, "CHUNK", 7)
    assert load(copies=1).content_sha256 == whole.content_sha256


# ---- quicktest, cache, official test set


def test_quicktest(root, monkeypatch):
    read, seen = kws.read_wav, []
    monkeypatch.setattr(kws, "read_wav", lambda path, rate: seen.append(path) or read(path, rate))
    data = load(quicktest=True)
    assert not data.synthetic and set(data.train.y) == set(range(5)) and len(data.val) <= 32
    assert len(seen) <= 3 * 5 * 8
    assert load_dataset("kws", {}, seed=0, quicktest=True).synthetic
    data = load(quicktest=True, path="absent", features="log_mel")
    assert data.synthetic and data.input_shape == (49, 40, 1) and data.classes == 5 and data.train.x.dtype == np.int8


def test_cache(root, monkeypatch):
    first = load(cache="features.npz", copies=1)
    with monkeypatch.context() as patch:
        patch.setattr(kws, "read_wav", None)  # would fail if any file were read
        again = load(cache="features.npz", copies=1)
    assert again.content_sha256 == first.content_sha256 == load(copies=1).content_sha256
    assert len(load(cache="features.npz").train) == len(first.train) // 2
    path = root / "sc" / "yes" / next(name for name in names() if published_split(name) == "test")
    path.unlink()
    assert len(load(cache="features.npz").test) == len(first.test) - 1
    (root / "features.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cache: .*features.npz.*delete it"):
        load(cache="features.npz")
    (root / "file").write_text("")
    with pytest.raises(DataError, match="cache: .* cannot be written"):
        load(cache="file/features.npz")


def test_official_test_set(root):
    official = root / "official"
    for number, folder in enumerate((*WORDS, "_unknown_", "_silence_")):
        for clip in range(number + 1):
            write_wav(official / folder / f"{clip}.wav", tone("yes", 5 + number + clip))
    plain, data = load(), load(test_path="official")
    assert counts(data.test, 5) == [1, 2, 3, 5, 4]  # the classes' order: silence before unknown
    assert np.array_equal(data.train.x, plain.train.x) and np.array_equal(data.val.x, plain.val.x)
    assert counts(load(test_path="official", silence_percentage=0).test, 4) == [1, 2, 3, 4]
    for path in (official / "_silence_").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="_silence_: expected a folder with .wav files"):
        load(test_path="official")


# ---- ready-made features

READY = {"words3": 4166, "digits10": 2587, "wakewords5": 1186, "kws01": 496}


@pytest.mark.parametrize("name", sorted(READY))
def test_ready_made_features_load_as_npz(name):
    if not (Path(REAL_DATA) / f"{name}_mfcc.npz").is_file():
        pytest.skip(f"TINYKIT_DATA has no {name}_mfcc.npz")
    data = load_dataset("npz", {"path": str(Path(REAL_DATA) / f"{name}_mfcc.npz")}, seed=0, quicktest=False)
    assert data.input_shape == KWS_MFCC.output_shape and data.train.x.dtype == np.int8
    assert sum(len(part) for part in (data.train, data.val, data.test)) == READY[name]
    assert all(set(part.y) == set(range(data.classes)) for part in (data.train, data.test))


# ---- faults


def test_absent(root):
    with pytest.raises(DataError) as caught:
        load_dataset("kws", {"test_path": "t"}, seed=0, quicktest=False)
    first, second = caught.value.problems
    for part in (str(root / "speech_commands_v0.02"), "TINYKIT_DATA=", "--quicktest", "data.options.download=true", "curl", "tar -xzf"):
        assert part in first
    assert "speech_commands_test_set_v0.02.tar.gz" in second
    with pytest.raises(DataError, match="expected a folder with a folder for each word, received a file"):
        load(path="sc/LICENSE")


def test_download(root, monkeypatch):
    """Only where it is asked for, only what is absent, and never for a quicktest."""
    asked = []

    def fetched(source, folder, **_):
        if not folder.is_dir():
            asked.append((source.url.rsplit("/", 1)[1], folder.name))
            (root / "sc").rename(folder)
        return folder

    monkeypatch.setattr(kws, "fetch_folder", fetched)
    assert load(path="new", download=True, quicktest=True).synthetic and not asked
    plain = load()
    assert load(path="new", download=True).content_sha256 == plain.content_sha256
    assert asked == [("speech_commands_v0.02.tar.gz", "new")]
    assert load(path="new", download=True).content_sha256 == plain.content_sha256 and len(asked) == 1


def test_missing_folders(root):
    with pytest.raises(DataError) as caught:
        load(words=["yes", "now", "halt"])
    assert len(caught.value.problems) == 2 and "did you mean 'no'" in str(caught.value)
    (root / "sc" / "up").mkdir()
    with pytest.raises(DataError, match="up: holds no .wav file"):
        load(words=["yes", "up"])


def test_missing_noise(root):
    for path in (root / "sc" / "_background_noise_").glob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="expected .wav files of noise; without them set silence_percentage: 0"):
        load()
    assert load(silence_percentage=0).classes == 4
    assert len(load(silence_percentage=0, copies=1, background_probability=0).train) > 0
    write_wav(root / "sc" / "_background_noise_" / "short.wav", np.zeros(159990))
    with pytest.raises(DataError, match="short.wav: expected 160000 samples or more"):
        load()


def test_an_empty_split_is_an_error(root):
    for name in names():
        if published_split(name) == "val":
            for word in WORDS + OTHERS:
                (root / "sc" / word / name).unlink()
    with pytest.raises(DataError, match="no clip falls into val"):
        load()


def test_every_bad_file_is_named(root):
    bad = [root / "sc" / "yes" / next(n for n in names() if published_split(n) == split) for split in ("train", "test")]
    for path in bad:
        path.unlink()
        path.write_bytes(b"RIFF")
    with pytest.raises(DataError) as caught:
        load()
    assert [str(path) in problem for path, problem in zip(bad, caught.value.problems)] == [True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": ["yes", "yes"]}, "a word is given twice"),
        ({"words": ["silence"]}, "'silence' is no folder of a word"),
        ({"words": ["../etc"]}, "is no folder of a word"),
        ({"words": []}, "words"),
        ({"silence_percentage": 101}, "less than or equal to 100"),
        ({"features": "mffc"}, "'mfcc' or 'log_mel'"),
        ({"copys": 2}, "did you mean 'copies'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset("kws", options, seed=0, quicktest=True)


def test_limit_of_files(root, monkeypatch):
    monkeypatch.setattr(tree, "MAX_FILES", 199)
    with pytest.raises(DataError, match="more than the limit of 199 files"):
        load()


def test_a_tree_outside_the_data_folder(root, monkeypatch):
    monkeypatch.delenv("TINYKIT_DATA")
    assert Path(root / "sc").is_dir() and load(path=str(root / "sc"), quicktest=True).synthetic is False
