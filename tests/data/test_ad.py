"""Dataset ad: windows of clips by loops, splits by clip, and damaged files."""

import os
from pathlib import Path

import numpy as np
import pytest

from tinykit.data import load_dataset
from tinykit.data.ad import ClipPool, split_clips
from tinykit.errors import ConfigError, DataError

REAL_DATA = os.environ.get("TINYKIT_DATA", "")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    return tmp_path


def ad(quicktest=False, **options):
    return load_dataset("ad", {"path": "clips.npz", **options}, seed=0, quicktest=quicktest)


def clips(normal=20, anomalous=6, machines=(1, 3), frames=9, bins=4, official=None, seed=0):
    """Arrays of a file in the true layout; every value of a clip tells which clip it is of by its first bin."""
    random = np.random.default_rng(seed)
    y = np.tile(np.repeat([0, 1], [normal, anomalous]), len(machines)).astype(np.uint8)
    x = random.integers(-128, 128, (len(y), frames, bins)).astype(np.int8)
    x[:, :, 0] = np.arange(len(y))[:, np.newaxis] - 64
    arrays = {"x": x, "y": y, "machine": np.repeat(machines, normal + anomalous).astype(np.uint8)}
    if official is not None:
        arrays["official248"] = np.isin(np.arange(len(y)), official)
    return arrays


def write(root, **arrays):
    np.savez(root / "clips.npz", **arrays)
    return arrays


def clips_of(split):
    """Clips of a split by what the samples say."""
    return (split.x[:, 0].astype(int) + 64)[np.unique(split.clips.of, return_index=True)[1]]


def test_windows_by_loops(root):
    arrays = write(root, **clips())
    data = ad()
    assert data.task == "anomaly" and data.metric == "auc" and data.class_names == ("normal", "anomaly") and data.input_shape == (20,)
    for split in (data.train, data.val, data.test):
        expected, owner = [], []
        for number, clip in enumerate(clips_of(split)):
            for first in range(9 - 5 + 1):
                frames = [arrays["x"][clip, first + frame] for frame in range(5)]
                expected.append([value for frame in frames for value in frame])
                owner.append(number)
        assert np.array_equal(split.x, expected) and split.x.dtype == np.int8 and split.clips.of.tolist() == owner
        assert np.array_equal(split.clips.y, arrays["y"][clips_of(split)]) and np.array_equal(split.y, split.clips.y[split.clips.of])
        assert np.array_equal(split.clips.machine, arrays["machine"][clips_of(split)])


def test_a_clip_is_in_one_split_and_anomalies_are_never_trained_on(root):
    write(root, **clips())
    data = ad()
    train, val, test = (set(clips_of(part)) for part in (data.train, data.val, data.test))
    assert not (train & val or train & test or val & test) and len(train | val | test) == 52
    assert not data.train.y.any() and not data.val.y.any()
    assert (len(train), len(val), len(test)) == (26, 4, 22) and data.test.clips.y.sum() == 12
    assert np.bincount(data.test.clips.machine).tolist() == [0, 11, 0, 11]
    assert ad().content_sha256 == data.content_sha256


def test_official_clips_are_the_test(root):
    official = [0, 1, 20, 26, 27, 46]
    write(root, **clips(official=official))
    assert set(clips_of(ad(test="official").test)) == set(official)
    everything = ad()
    assert set(clips_of(everything.test)) == {0, 1, 26, 27, *range(20, 26), *range(46, 52)}
    assert np.array_equal(everything.train.x, ad(test="official").train.x)


def test_official_needs_the_marks(root):
    write(root, **clips())
    with pytest.raises(DataError, match="mark no clips as official"):
        ad(test="official")


def test_strides_and_frames(root):
    arrays = write(root, **clips())
    data = ad(frames=3, train_stride=4, test_stride=2)
    assert data.input_shape == (12,) and np.bincount(data.train.clips.of).tolist() == [2] * 26
    assert np.bincount(data.test.clips.of).tolist() == [4] * 22
    clip = clips_of(data.test)[0]
    assert np.array_equal(data.test.x[1], arrays["x"][clip, 2:5].reshape(-1))
    with pytest.raises(DataError, match="clips of 9 frames are shorter than a window of 10"):
        ad(frames=10)


def test_hashes_see_the_clips(root):
    arrays = write(root, **clips())
    before = ad().content_sha256
    arrays["machine"][:] = np.where(arrays["machine"] == 3, 4, 1)
    write(root, **arrays)
    assert ad().content_sha256 != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((52, 36), np.int8)}, r"expected \[clips, frames, bins\]"),
        ({"x": np.full((52, 9, 4), np.nan, np.float32)}, "NaN"),
        ({"y": np.full(52, 2)}, "labels must be 0 to 1, received 2"),
        ({"y": np.zeros(51, int)}, "lengths differ"),
        ({"y": np.zeros(52, int)}, "no clips for test, anomalous"),
        ({"y": np.ones(52, int)}, "no clips for train: 0 normal of 52 clips"),
        ({"machine": np.zeros(3, int)}, r"'machine': expected integers \[52\]"),
        ({"machine": np.zeros(52)}, "'machine': expected integers"),
        ({"official248": np.zeros(52, int)}, "'official248': expected bool"),
        ({"machine": None}, "array 'machine' is missing"),
    ],
)
def test_damaged_files(root, changes, message):
    write(root, **{name: array for name, array in {**clips(), **changes}.items() if array is not None})
    with pytest.raises(DataError, match=message) as caught:
        ad()
    assert "clips.npz" in str(caught.value)


def test_absent_folder_and_limits(root, monkeypatch):
    with pytest.raises(DataError, match="clips.npz does not exist.*--quicktest"):
        ad()
    (root / "wavs").mkdir()
    with pytest.raises(DataError, match="received a folder"):
        ad(path="wavs")
    with pytest.raises(ConfigError, match="did you mean 'frames'"):
        ad(frame=5)
    write(root, **clips())
    monkeypatch.setattr("tinykit.data.ad.MAX_ARRAY_BYTES", 1000)
    with pytest.raises(DataError, match="choose a larger stride"):
        ad()


def test_quicktest_keeps_few_windows_of_every_machine(root):
    data = ad(quicktest=True)
    assert data.synthetic and data.input_shape == (640,) and data.train.x.dtype == np.int8
    write(root, **clips())
    small = ad(quicktest=True)
    for made in (data, small):
        assert (len(made.train), len(made.val), len(made.test)) == (64, 16, 32)
        kinds = {(m, y) for m, y in zip(made.test.clips.machine, made.test.clips.y)}
        assert len(kinds) == 4 and not made.train.y.any()
    assert not small.synthetic


def test_a_machine_with_few_clips():
    pool = ClipPool(np.zeros((7, 5, 2), np.int8), np.array([0, 0, 0, 0, 0, 1, 0]), np.array([1, 1, 1, 1, 1, 1, 2]))
    train, val, test = split_clips(pool, "all")
    assert 6 in train and 5 in test and len(val) == 1


def test_the_real_file():
    if not REAL_DATA or not (Path(REAL_DATA) / "ad01_toycar_logmel.npz").is_file():
        pytest.skip("TINYKIT_DATA does not hold ad01_toycar_logmel.npz")
    data = load_dataset("ad", {"test": "official", "train_stride": 20}, seed=0, quicktest=False)
    assert data.input_shape == (640,) and len(data.test) == 120 * 196 and data.test.clips.y.sum() == 52
    assert np.unique(data.test.clips.machine).tolist() == [1, 2, 3, 4]
