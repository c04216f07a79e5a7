"""Dataset har: the folder as it is downloaded and the ready .npz, on miniature ones in the true layout."""

import os
from pathlib import Path

import numpy as np
import pytest

from tinykit.data import load_dataset
from tinykit.data.har import CHANNELS, CLASS_NAMES
from tinykit.data.windows import tail_split
from tinykit.errors import DataError

REAL_DATA = os.environ.get("TINYKIT_DATA", "")
SIGNALS = [f"{name}_{axis}" for name in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    return tmp_path


def har(quicktest=False, **options):
    return load_dataset("har", options, seed=0, quicktest=quicktest)


def write_part(folder, part, subjects, each=4, seed=0):
    """One part of the downloaded folder: numbers as the original writes them, two spaces before each. Returns the values as written."""
    random = np.random.default_rng(seed)
    count = len(subjects) * each
    (folder / part / "Inertial Signals").mkdir(parents=True)
    written = {}
    for name in SIGNALS:
        lines = [[f"{value: .7e}" for value in row] for row in random.uniform(-1, 1, (count, 128))]
        (folder / part / "Inertial Signals" / f"{name}_{part}.txt").write_text("\n".join("  " + "  ".join(row) for row in lines) + "\n")
        written[name] = [[float(word) for word in row] for row in lines]
    y = np.arange(count) % 6 + 1
    (folder / part / f"y_{part}.txt").write_text("".join(f"{label}\n" for label in y))
    (folder / part / f"subject_{part}.txt").write_text("".join(f"{subject}\n" for subject in np.repeat(subjects, each)))
    return written, y


def write_folder(root):
    folder = root / "UCI HAR Dataset"
    return folder, write_part(folder, "train", [1, 3, 5, 6, 7, 8, 11, 14], 6), write_part(folder, "test", [2, 4], 6, seed=1)


def by_hand(written, count):
    """Stored integers one by one: nearest step of 1/8192 g or 1/4096 rad/s."""
    x = np.zeros((count, 128, 9), np.int16)
    for channel, name in enumerate(SIGNALS):
        for window in range(count):
            for step in range(128):
                x[window, step, channel] = round(written[name][window][step] * (4096 if "gyro" in name else 8192))
    return x


def test_the_folder_gives_the_integers_that_one_computes_by_hand(root):
    assert CHANNELS == tuple(SIGNALS)
    _, (train, y), (test, y_test) = write_folder(root)
    data = har()
    assert data.class_names == CLASS_NAMES and data.input_shape == (128, 9) and data.train.x.dtype == np.int16
    assert np.array_equal(data.test.x, by_hand(test, 12)) and np.array_equal(data.test.y, y_test - 1)
    assert sorted(x.tobytes() for part in (data.train, data.val) for x in part.x) == sorted(x.tobytes() for x in by_hand(train, 48))
    assert not data.synthetic and data.metric == "top1" and data.train.clips is None


def test_no_person_is_on_two_sides(root):
    _, (train, _), _ = write_folder(root)
    person = {x.tobytes(): number // 6 for number, x in enumerate(by_hand(train, 48))}
    data = har()
    sides = [{person[x.tobytes()] for x in part.x} for part in (data.train, data.val)]
    assert sides[0] | sides[1] == set(range(8)) and not sides[0] & sides[1] and len(sides[1]) == 1


def test_the_path_may_be_the_folder_itself(root):
    folder, _, _ = write_folder(root)
    assert har(path=str(folder)).content_sha256 == har().content_sha256 == har(path=str(root)).content_sha256


def npz(path, count, scale=None, **more):
    random = np.random.default_rng(count)
    arrays = {
        "x": random.integers(-9000, 9000, (count, 128, 9)).astype(np.int16),
        "y": (np.arange(count) // 5 % 6).astype(np.uint8),
        "scale": np.array([2.0**-13] * 3 + [2.0**-12] * 3 + [2.0**-13] * 3, np.float32) if scale is None else scale,
        **more,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def test_npz_without_persons_is_cut_where_the_label_changes(root):
    arrays = npz(root / "har_train.npz", 103)
    npz(root / "har_test.npz", 30)
    data = har()
    assert (len(data.train), len(data.val), len(data.test)) == (95, 8, 30)
    assert np.array_equal(data.train.x, arrays["x"][:95]) and np.array_equal(data.val.x, arrays["x"][95:])
    assert data.train.y[-1] != data.val.y[0]


def test_npz_with_persons(root):
    subject = np.repeat(np.arange(10), 10)
    arrays = npz(root / "har_train.npz", 100, subject=subject)
    npz(root / "har_test.npz", 30, subject=np.full(30, 77))
    data = har()
    person = {x.tobytes(): s for x, s in zip(arrays["x"], subject)}
    assert not {person[x.tobytes()] for x in data.train.x} & {person[x.tobytes()] for x in data.val.x} and len(data.val) == 10
    npz(root / "har_test.npz", 30, subject=np.full(30, 7))
    with pytest.raises(DataError, match="subjects 7 are in train and in test"):
        har()


def test_both_layouts_hold_the_same_integers(root):
    _, (train, y), (test, y_test) = write_folder(root / "a")
    for part, written, labels in (("train", train, y), ("test", test, y_test)):
        real = np.stack([written[name] for name in SIGNALS], axis=2)
        npz(root / f"har_{part}.npz", len(labels), x=real, y=labels - 1, scale=np.ones(9))
    assert np.array_equal(har().test.x, har(path="a").test.x)
    stored = npz(root / "har_test.npz", 30, scale=np.full(9, 2.0**-12))
    doubled = har().test.x
    assert np.array_equal(doubled[..., 0], 2 * stored["x"][..., 0]) and np.array_equal(doubled[..., 3], stored["x"][..., 3])


def test_tail_split():
    y = np.repeat([0, 1, 2, 0], [50, 30, 12, 8])
    rest, picked = tail_split(y, 0.1)
    assert picked.tolist() == list(range(92, 100)) and rest.tolist() == list(range(92))
    assert len(tail_split(np.zeros(9, int), 0.1)[1]) == 0


def replace_line(path, number, text):
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("Inertial Signals/body_acc_y_train.txt", 3, "0.5 " * 127, "body_acc_y_train.txt:3: expected 128 numbers, received 127"),
        ("Inertial Signals/body_acc_y_train.txt", 2, "nan " * 128, "body_acc_y_train.txt:2: expected a finite number, received 'nan'"),
        ("Inertial Signals/total_acc_z_train.txt", 9, "x " + "0 " * 127, "total_acc_z_train.txt:9: expected a finite number"),
        ("Inertial Signals/total_acc_z_train.txt", 9, "1_0 " + "0 " * 127, "total_acc_z_train.txt:9: expected a finite number"),
        ("Inertial Signals/total_acc_x_train.txt", 2, "4.5 " * 128, "total_acc_x, window 2, step 1: 4.5 is outside -4..4"),
        ("y_train.txt", 5, "7", "y_train.txt:5: expected a whole number 1 to 6, received 7"),
        ("y_train.txt", 5, "1.5", "y_train.txt:5: expected a whole number"),
        ("subject_train.txt", 1, "2", "subjects 2 are in train and in test"),
        ("subject_train.txt", 48, "14\n14", "subject_train.txt: 49 lines, body_acc_x_train.txt has 48"),
    ],
)
def test_a_damaged_folder_names_file_and_line(root, file, line, text, message):
    folder, _, _ = write_folder(root)
    replace_line(folder / "train" / file, line, text)
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        har()


def test_all_missing_files_are_named_at_once(root):
    folder, _, _ = write_folder(root)
    (folder / "train" / "y_train.txt").unlink()
    (folder / "test" / "Inertial Signals" / "body_gyro_z_test.txt").unlink()
    with pytest.raises(DataError) as caught:
        har()
    assert len(caught.value.problems) == 2 and "body_gyro_z_test.txt does not exist" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((30, 128, 8), np.int16)}, r"expected \[N, 128, 9\], received \[30, 128, 8\]"),
        ({"scale": np.zeros(9, np.float32)}, "expected 9 positive numbers"),
        ({"y": np.full(30, 6)}, "labels must be 0 to 5, received 6"),
        ({"subject": np.zeros(3, int)}, r"'subject': expected integers \[30\]"),
        ({"x": np.full((30, 128, 9), 9.0), "scale": np.ones(9)}, "outside"),
    ],
)
def test_a_damaged_npz(root, changes, message):
    npz(root / "har_train.npz", 60)
    npz(root / "har_test.npz", **{"count": 30, **changes})
    with pytest.raises(DataError, match=message):
        har()


def test_integers_without_a_scale_are_refused(root):
    npz(root / "har_train.npz", 60)
    np.savez(root / "har_test.npz", x=np.zeros((6, 128, 9), np.int16), y=np.arange(6))
    with pytest.raises(DataError, match="'scale' is missing"):
        har()


def test_absent_and_quicktest(root):
    with pytest.raises(DataError, match="har_train.npz.*--quicktest.*UCI HAR Dataset"):
        har()
    data = har(quicktest=True)
    assert data.synthetic and data.input_shape == (128, 9) and data.train.x.dtype == np.int16 and set(data.test.y) == set(range(6))
    write_folder(root)
    data = har(quicktest=True)
    assert not data.synthetic and len(data.train) <= 64 and len(data.test) == 12


def test_the_real_files():
    if not REAL_DATA or not (Path(REAL_DATA) / "har_train.npz").is_file():
        pytest.skip("TINYKIT_DATA does not hold har_train.npz")
    data = har()
    assert (len(data.train), len(data.val)) == (2159, 241) and set(data.val.y) == set(range(6))
    gravity = np.linalg.norm(data.train.x[..., 6:].mean(axis=1) / 8192, axis=1)
    assert abs(np.median(gravity) - 1) < 0.05, "the whole acceleration of a person at rest is 1 g"
