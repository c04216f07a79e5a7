"""Datasets: fixed splits, generated stand-ins, and every way in which data can be wrong."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinykit.data import dataset_names, load_dataset
from tinykit.data import files as files_module
from tinykit.data.registry import DATASETS, dataset_options
from tinykit.data.splits import generated, group_split, split_pool, split_sha256, spread, stratified_split
from tinykit.errors import ConfigError, DataError

REAL_DATA = os.environ.get("TINYKIT_DATA", "")
DIGITS_SHA256 = "f37e1dac7ce368c9edf76afc09f8a32e985871c3fd5ecaac79b6de955687bbe4"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty TINYKIT_DATA."""
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    return tmp_path


def load(name, options=None, quicktest=False, seed=0):
    return load_dataset(name, options or {}, seed=seed, quicktest=quicktest)


def write(path, compress=zipfile.ZIP_STORED, **arrays):
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(array))
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return path


def samples(count=60, classes=3, shape=(4, 2), dtype="int8", seed=0):
    split = generated(shape, dtype, classes, count, seed)
    return {"x": split.x, "y": split.y.astype(np.uint8)}


def labels_cover(dataset):
    return all(set(part.y) == set(range(dataset.classes)) for part in (dataset.train, dataset.val, dataset.test))


# ---- registry


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_entry_has_a_docstring_with_source_and_example(name):
    entry = DATASETS[name]
    assert "Example:" in entry.doc and f"name: {name}" in entry.doc
    assert entry.options.__doc__ and dataset_options(name) is entry.options
    assert all(field in entry.options.__doc__ for field in entry.options.model_fields)


def test_unknown_names_and_options():
    assert dataset_names() == ("ad", "cifar10", "csv", "digits", "fashion_mnist", "har", "image_folder", "kws", "npz", "vww")
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        load("cifar")
    with pytest.raises(ConfigError) as caught:
        load("image_folder", {"pth": "x", "size": [0, 3]})
    assert "did you mean 'path'" in str(caught.value) and len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_dataset("digits", [], seed=0, quicktest=False)
    with pytest.raises(ConfigError, match="must be text"):
        load_dataset("digits", {3: 4}, seed=0, quicktest=False)


# ---- splits


def test_stratified_split_is_fixed_and_fair():
    y = np.repeat(np.arange(5), [40, 4, 2, 1, 13])
    rest, picked = stratified_split(y, 0.25)
    assert np.array_equal(np.sort(np.concatenate([rest, picked])), np.arange(len(y)))
    assert np.bincount(y[picked], minlength=5).tolist() == [10, 1, 1, 0, 3]
    assert np.array_equal(picked, stratified_split(y, 0.25)[1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=80).filter(lambda g: len(set(g)) > 1), st.floats(0.05, 0.5))
def test_groups_are_never_on_both_sides(groups, fraction):
    groups = np.array(groups)
    rest, picked = group_split(groups, fraction)
    assert len(rest) and len(picked) and not set(groups[rest]) & set(groups[picked])
    assert np.array_equal(np.sort(np.concatenate([rest, picked])), np.arange(len(groups)))


def test_one_group_falls_back_to_classes():
    y = np.arange(40) % 2
    assert [len(part) for part in split_pool(y, np.zeros(40))] == [len(part) for part in split_pool(y)] == [26, 4, 10]


def test_spread_takes_every_class_first():
    y = np.repeat(np.arange(4), [50, 50, 1, 50])
    index = spread(y, 9)
    assert np.bincount(y[index]).tolist() == [3, 3, 1, 2] and (np.diff(index) > 0).all()
    assert len(spread(y, 1000)) == len(y)


def test_split_sha256_separates_the_splits():
    a, b, c = (np.array(v, np.int64) for v in ([1, 2], [3], []))
    assert split_sha256(a, b, c) != split_sha256(a, c, b) != split_sha256(np.array([1, 2, 3]), c, c)
    assert split_sha256(a, b, c) == split_sha256(a.astype(np.int32), b, c)


# ---- digits


def test_digits():
    data = load("digits")
    assert data.split_sha256 == DIGITS_SHA256
    assert (len(data.train), len(data.val), len(data.test)) == (1211, 136, 450)
    assert data.train.x.dtype == np.uint8 and data.input_shape == (8, 8, 1) and data.classes == 10
    assert data.train.x.min() == 0 and data.train.x.max() == 16 and data.train.y.dtype == np.int64
    assert not data.synthetic and labels_cover(data)
    assert load("digits", seed=99).split_sha256 == DIGITS_SHA256
    images = {x.tobytes() for x in data.test.x}
    assert sum(x.tobytes() in images for x in data.train.x) < 5


def test_digits_quicktest_is_a_real_subset():
    data = load("digits", quicktest=True)
    assert (len(data.train), len(data.val), len(data.test)) == (64, 32, 32)
    assert not data.synthetic and labels_cover(data)
    everything = {x.tobytes() for x in load("digits").test.x}
    assert all(x.tobytes() in everything for x in data.test.x)


# ---- pairs of files


@pytest.mark.parametrize(("name", "shape"), [("cifar10", (32, 32, 3)), ("fashion_mnist", (28, 28, 1))])
def test_absent_pairs(name, shape, root):
    with pytest.raises(DataError) as caught:
        load(name)
    assert len(caught.value.problems) == 2
    for part in (f"{name}_train.npz", "TINYKIT_DATA=", "--quicktest"):
        assert part in caught.value.problems[0]
    data = load(name, quicktest=True)
    assert data.synthetic and data.input_shape == shape and data.train.x.dtype == np.uint8 and labels_cover(data)
    assert (len(data.train), len(data.val), len(data.test)) == (64, 32, 32)
    again, other = load(name, quicktest=True), load(name, quicktest=True, seed=1)
    assert np.array_equal(data.train.x, again.train.x) and not np.array_equal(data.train.x, other.train.x)
    assert data.split_sha256 == other.split_sha256


def test_pairs_of_files(root):
    random = np.random.RandomState(0)
    for part, count in (("train", 200), ("test", 40)):
        x = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        write(root / f"fashion_mnist_{part}.npz", zipfile.ZIP_LZMA, x=x, y=np.arange(count, dtype=np.uint8) % 10)
    data = load("fashion_mnist")
    assert (len(data.train), len(data.val), len(data.test)) == (180, 20, 40) and data.input_shape == (28, 28, 1)
    assert not data.synthetic and labels_cover(data) and np.array_equal(data.test.y, np.arange(40) % 10)
    assert len(load("fashion_mnist", quicktest=True).test) == 32


def test_every_problem_of_both_files_is_reported(root):
    write(root / "cifar10_train.npz", x=np.zeros((4, 32, 31, 3), np.uint8), y=np.array([0, 1, 2, 10]))
    write(root / "cifar10_test.npz", x=np.zeros((4, 32, 32, 3), np.float32), y=np.zeros(3))
    with pytest.raises(DataError) as caught:
        load("cifar10")
    text = str(caught.value)
    assert "expected shape [N, 32, 32, 3], received [4, 32, 31, 3]" in text and "0 to 9, received 0 to 10" in text
    assert "lengths differ: 4 samples in 'x', 3 labels" in text and "must be integers, received dtype float64" in text
    write(root / "cifar10_train.npz", x=np.zeros((4, 32, 32, 3), np.uint8), y=np.array([0, 1, 2, 9]))
    write(root / "cifar10_test.npz", x=np.zeros((4, 32, 32, 3), np.float32), y=np.arange(4))
    with pytest.raises(DataError, match="expected uint8, received float32"):
        load("cifar10")


# ---- npz


def test_npz_without_a_split(root):
    write(root / "a.npz", zipfile.ZIP_DEFLATED, **samples(60))
    data = load("npz", {"path": "a.npz"})
    assert (len(data.train), len(data.val), len(data.test)) == (39, 6, 15) and data.class_names == ("0", "1", "2")
    assert data.train.x.dtype == np.int8 and data.input_shape == (4, 2) and labels_cover(data)
    assert load("npz", {"path": str(root / "a.npz")}, seed=5).split_sha256 == data.split_sha256


def test_npz_card_and_declared_classes(root):
    write(root / "a.npz", **samples(60))
    (root / "a.json").write_text(json.dumps({"classes": {"0": "no", "1": "yes", "2": "hm"}}))
    assert load("npz", {"path": "a.npz"}).class_names == ("no", "yes", "hm")
    assert load("npz", {"path": "a.npz", "classes": ["x", "y", "z", "never"]}).classes == 4
    with pytest.raises(DataError, match="0 to 1, received 0 to 2"):
        load("npz", {"path": "a.npz", "classes": ["x", "y"]})
    for card, message in (("{", "cannot be read as JSON"), ("[]", "JSON object"), ('{"classes": {"1": "a"}}', "must map")):
        (root / "a.json").write_text(card)
        with pytest.raises(DataError, match=message):
            load("npz", {"path": "a.npz"})


def test_npz_speakers_are_disjoint(root):
    arrays = samples(200)
    speaker = np.random.RandomState(1).randint(0, 20, 200).astype("S4")
    write(root / "a.npz", **arrays, speaker=speaker)
    data = load("npz", {"path": "a.npz"})
    train, val, test = split_pool(arrays["y"].astype(np.int64), speaker)
    assert split_sha256(train, val, test) == data.split_sha256
    sets = [set(speaker[index]) for index in (train, val, test)]
    assert not (sets[0] & sets[2] or sets[1] & sets[2] or sets[0] & sets[1])
    assert 0.15 < len(test) / 200 < 0.35
    write(root / "b.npz", **arrays, subject=speaker)
    assert load("npz", {"path": "b.npz", "group": "subject"}).split_sha256 == data.split_sha256
    write(root / "c.npz", **arrays, speaker=speaker[:7])
    with pytest.raises(DataError, match=r"array 'speaker': expected \[200\]"):
        load("npz", {"path": "c.npz"})


def test_npz_test_file_and_declared_shape(root):
    write(root / "a.npz", **samples(60))
    write(root / "b.npz", **samples(20, seed=1))
    data = load("npz", {"path": "a.npz", "test_path": "b.npz", "shape": [4, 2], "dtype": "int8"})
    assert (len(data.train), len(data.val), len(data.test)) == (54, 6, 20)
    with pytest.raises(DataError) as caught:
        load("npz", {"path": "a.npz", "test_path": "b.npz", "shape": [2, 4], "dtype": "uint8"})
    assert len(caught.value.problems) == 4 and "declared dtype uint8, received int8" in str(caught.value)
    write(root / "b.npz", **samples(20, shape=(4, 3)))
    with pytest.raises(DataError, match="samples differ"):
        load("npz", {"path": "a.npz", "test_path": "b.npz"})


def test_npz_absent(root, monkeypatch):
    with pytest.raises(DataError, match="TINYKIT_DATA=") as caught:
        load("npz", {"path": "a.npz", "test_path": "b.npz"})
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError) as caught:
        load("npz", {"path": "a.npz", "shape": [3, 2]}, quicktest=True)
    assert [p.rsplit(" ", 1)[1] for p in caught.value.problems] == ["dtype", "classes"]
    declared = {"path": "a.npz", "shape": [3, 2], "dtype": "int16", "classes": ["a", "b"]}
    data = load("npz", declared, quicktest=True)
    assert data.synthetic and data.input_shape == (3, 2) and data.train.x.dtype == np.int16 and data.class_names == ("a", "b")
    (root / "a.json").write_text(json.dumps({"classes": {"0": "u"}, "arrays": {"x": [[9, 5], "uint8"]}}))
    data = load("npz", {"path": "a.npz"}, quicktest=True)
    assert data.input_shape == (5,) and data.train.x.dtype == np.uint8
    monkeypatch.delenv("TINYKIT_DATA")
    with pytest.raises(DataError, match="TINYKIT_DATA is not set"):
        load("cifar10")


def test_npz_float64_and_big_endian(root):
    arrays = samples(40, dtype="float32")
    write(root / "a.npz", x=arrays["x"].astype(">f8"), y=arrays["y"].astype(">i4"))
    data = load("npz", {"path": "a.npz"})
    assert data.train.x.dtype == np.float32 and data.train.x.dtype.isnative and data.train.y.dtype == np.int64


def bad(**changes):
    return {**samples(12), **changes}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((3, 2)), "y": np.zeros(3, int)}, "array 'x' is missing: did you mean"),
        ({"x": np.zeros((3, 2), np.uint8)}, "array 'y' is missing"),
        (bad(x=np.zeros((12, 2), np.int64)), "dtype int64 is not supported"),
        (bad(x=np.zeros((12, 2), complex)), "dtype complex128 is not supported"),
        (bad(x=np.full((12, 2), np.nan, np.float32)), "24 of 24 values are NaN"),
        (bad(x=np.zeros(12, np.uint8)), r"expected \[samples, ...\]"),
        (bad(x=np.zeros((12, 0), np.uint8)), r"received shape \(12, 0\)"),
        (bad(y=np.zeros((12, 1), int)), "one label a sample"),
        (bad(y=np.zeros(11, int)), "lengths differ: 12 samples in 'x', 11 labels"),
        (bad(y=np.zeros(12)), "labels must be integers"),
        (bad(y=np.full(12, -1)), "labels must be 0 or more, received -1"),
        (bad(y=np.full(12, 5000)), "label 5000 in 12 samples"),
        ({"x": np.zeros((2, 3), np.uint8), "y": np.arange(2)}, "too few"),
    ],
)
def test_npz_wrong_arrays(root, arrays, message):
    write(root / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load("npz", {"path": "bad.npz"})
    assert "bad.npz" in str(caught.value)


def test_npz_pickled_objects_are_refused(root):
    with zipfile.ZipFile(root / "bad.npz", "w") as archive:
        for name, array in (("x", np.array([print, {}], object)), ("y", np.zeros(2, int))):
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=True)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(DataError, match="array 'x': holds pickled Python objects"):
        load("npz", {"path": "bad.npz"})


def header_only(shape, dtype="|u1", body=b"abc"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header_only((1 << 40, 3)), "more than the limit"),
        (header_only((1 << 62, 1 << 62)), "more than the limit"),
        (header_only((1000, 3)), "the header says 3000 bytes"),
        (header_only((-4, 3)), "negative size"),
        (b"\x93NUMPY\x07\x00nonsense", "version"),
        (b"", "cannot be read"),
        (b"junk that is no array", "cannot be read"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((((", "cannot be read"),
    ],
)
def test_npz_headers_that_lie_are_refused_before_anything_is_allocated(root, content, message):
    with zipfile.ZipFile(root / "bad.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", header_only((3,)))
    with pytest.raises(DataError, match=message) as caught:
        load("npz", {"path": "bad.npz"})
    assert "array 'x'" in str(caught.value)


def test_npz_size_limit(root, monkeypatch):
    write(root / "a.npz", **samples(60))
    monkeypatch.setattr(files_module, "MAX_ARRAY_BYTES", 479)
    with pytest.raises(DataError, match="480 bytes .* is more than the limit of 479"):
        load("npz", {"path": "a.npz"})


def test_npz_that_is_none(root):
    (root / "bad.npz").write_bytes(b"hello")
    with pytest.raises(DataError, match="no .npz file"):
        load("npz", {"path": "bad.npz"})
    (root / "folder.npz").mkdir()
    with pytest.raises(DataError, match="no file"):
        load("npz", {"path": "folder.npz"})


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_npz_truncated_at_every_length(root, method):
    content = write(root / "a.npz", method, **samples(12)).read_bytes()
    for length in range(0, len(content), 7):
        (root / "bad.npz").write_bytes(content[:length])
        with pytest.raises(DataError, match="bad.npz"):
            load("npz", {"path": "bad.npz"})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_LZMA]))
def test_npz_damaged_bytes_never_raise_anything_else(root, position, value, method):
    content = bytearray(write(root / "a.npz", method, **samples(12)).read_bytes())
    content[position % len(content)] = value
    (root / "bad.npz").write_bytes(content)
    try:
        load("npz", {"path": "bad.npz"})
    except DataError:
        pass


# ---- image_folder


def tree(root, names=("cat", "dog"), count=12, size=(9, 7)):
    from PIL import Image

    random = np.random.RandomState(0)
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.randint(0, 60, (*size, 3)).astype(np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(root / name / f"{index:03}.{('png', 'jpg', 'jpeg')[index % 3]}")
    return root


def test_image_folder(root):
    tree(root / "photos")
    (root / "photos" / "cat" / "notes.txt").write_text("not an image")
    (root / "photos" / ".hidden").mkdir()
    data = load("image_folder", {"path": "photos", "size": [9, 7]})
    assert data.class_names == ("cat", "dog") and data.input_shape == (9, 7, 3) and data.train.x.dtype == np.uint8
    assert (len(data.train), len(data.val), len(data.test)) == (16, 2, 6) and labels_cover(data)
    assert (data.train.x.mean((1, 2, 3)) > 80).astype(int).tolist() == data.train.y.tolist()
    gray = load("image_folder", {"path": "photos", "size": [4, 5], "grayscale": True})
    assert gray.input_shape == (4, 5, 1) and gray.split_sha256 == data.split_sha256


def test_image_folder_pixels_are_exact(root):
    from PIL import Image

    from tinykit.data import Chain

    tree(root / "photos", count=12)
    colour = load("image_folder", {"path": "photos", "size": [9, 7]})
    gray = load("image_folder", {"path": "photos", "size": [9, 7], "grayscale": True})
    np.testing.assert_array_equal(Chain.parse(["grayscale"]).apply(colour.test.x), gray.test.x)
    stored = {np.asarray(Image.open(p)).tobytes() for p in (root / "photos").rglob("*.png")}
    assert stored <= {x.tobytes() for part in (colour.train, colour.val, colour.test) for x in part.x}


def test_image_folder_with_its_own_split(root):
    tree(root / "p" / "train", count=20)
    tree(root / "p" / "test", count=3)
    data = load("image_folder", {"path": "p", "size": [8, 8]})
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 6)
    (root / "p" / "test" / "bird").mkdir()
    with pytest.raises(DataError, match="bird: class folder is not among the classes"):
        load("image_folder", {"path": "p", "size": [8, 8]})


def test_image_folder_that_is_a_file_is_not_replaced_by_generated_samples(root):
    (root / "p").write_text("")
    with pytest.raises(DataError, match="expected a folder with a folder for each class"):
        load("image_folder", {"path": "p", "size": [8, 8]}, quicktest=True)


def test_npz_of_a_zip_version_that_does_not_exist(root):
    content = bytearray(write(root / "a.npz", **samples()).read_bytes())
    content[content.find(b"PK\x01\x02") + 6] = 255  # "version needed to extract" of the central directory
    (root / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="no .npz file, or a damaged one"):
        load("npz", {"path": "a.npz"})


def test_content_sha256_sees_what_the_split_does_not(root):
    arrays = samples()
    write(root / "a.npz", **arrays)
    before = load("npz", {"path": "a.npz"})
    arrays["x"][7, 0, 0] ^= 1
    write(root / "a.npz", **arrays)
    after = load("npz", {"path": "a.npz"})
    assert before.split_sha256 == after.split_sha256
    assert before.content_sha256 != after.content_sha256
    assert after.content_sha256 == load("npz", {"path": "a.npz"}).content_sha256


def test_a_home_folder_that_nobody_has(monkeypatch):
    monkeypatch.setenv("TINYKIT_DATA", "~nobody-of-this-name")
    with pytest.raises(DataError, match="does not exist"):
        load("cifar10")


def test_image_folder_lists_all_damaged_files(root, monkeypatch):
    tree(root / "p")
    content = (root / "p" / "cat" / "000.png").read_bytes()
    (root / "p" / "cat" / "000.png").write_bytes(content[:60])
    (root / "p" / "dog" / "001.jpg").write_bytes(b"")
    (root / "p" / "dog" / "002.jpeg").write_bytes(b"GIF89a" + bytes(50))
    with pytest.raises(DataError) as caught:
        load("image_folder", {"path": "p", "size": [8, 8]})
    assert len(caught.value.problems) == 3 and all("cannot be decoded" in p for p in caught.value.problems)
    monkeypatch.setattr("tinykit.data.image_folder.MAX_PIXELS", 62)
    with pytest.raises(DataError, match="7 x 9 pixels, more than the limit of 62"):
        load("image_folder", {"path": "p", "size": [8, 8]})


def test_image_folder_limits_and_shape(root, monkeypatch):
    with pytest.raises(DataError, match="--quicktest"):
        load("image_folder", {"path": "p", "size": [8, 8]})
    data = load("image_folder", {"path": "p", "size": [8, 6], "grayscale": True, "classes": ["a", "b", "c"]}, quicktest=True)
    assert data.synthetic and data.input_shape == (8, 6, 1) and data.class_names == ("a", "b", "c")
    (root / "p").mkdir()
    with pytest.raises(DataError, match="holds no class folder"):
        load("image_folder", {"path": "p", "size": [8, 8]})
    (root / "p" / "empty").mkdir()
    with pytest.raises(DataError, match="holds no .png"):
        load("image_folder", {"path": "p", "size": [8, 8]})
    tree(root / "q", names=("a",), count=1)
    with pytest.raises(DataError, match="too few"):
        load("image_folder", {"path": "q", "size": [8, 8]})
    with pytest.raises(DataError, match="b: class folder is missing"):
        load("image_folder", {"path": "q", "size": [8, 8], "classes": ["a", "b"]})
    with pytest.raises(DataError, match="choose a smaller size"):
        load("image_folder", {"path": "q", "size": [100000, 100000]})
    monkeypatch.setattr("tinykit.data.image_folder.MAX_FILES", 0)
    with pytest.raises(DataError, match="1 images, more than the limit of 0"):
        load("image_folder", {"path": "q", "size": [8, 8]})


def test_image_folder_quicktest_reads_few_files(root):
    tree(root / "p", count=140, size=(2, 2))
    data = load("image_folder", {"path": "p", "size": [2, 2]}, quicktest=True)
    assert len(data.train) == 64 and len(data.val) <= 32 and len(data.test) == 32
    assert not data.synthetic


# ---- the real files, where they are


def real(name):
    if not REAL_DATA or not (Path(REAL_DATA) / name).is_file():
        pytest.skip(f"TINYKIT_DATA does not hold {name}")
    return name


@pytest.mark.parametrize(("name", "sizes"), [("cifar10", (18000, 2000, 5000)), ("fashion_mnist", (54000, 6000, 5000))])
def test_real_pairs(name, sizes):
    real(f"{name}_train.npz")
    real(f"{name}_test.npz")
    data = load(name)
    assert (len(data.train), len(data.val), len(data.test)) == sizes and labels_cover(data) and not data.synthetic


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "classes"),
    [
        ("words3_mfcc", (49, 10, 1), "int8", 3),
        ("digits10_mfcc", (49, 10, 1), "int8", 10),
        ("wakewords5_mfcc", (49, 10, 1), "int8", 5),
        ("kws01_mfcc", (49, 10, 1), "int8", 12),
        ("person_inria_64x32", (64, 32, 3), "uint8", 2),
        ("ad01_toycar_logmel", (200, 128), "int8", 2),
    ],
)
def test_real_npz(name, shape, dtype, classes):
    data = load("npz", {"path": real(f"{name}.npz"), "shape": list(shape), "dtype": dtype})
    assert data.classes == classes and data.class_names[0] != "0" or name == "digits10_mfcc"
    assert labels_cover(data) and 0.15 < len(data.test) / (len(data.train) + len(data.val) + len(data.test)) < 0.35


def test_real_test_file():
    data = load("npz", {"path": real("har_train.npz"), "test_path": real("har_test.npz")})
    assert (len(data.train), len(data.test), data.input_shape) == (2160, 475, (128, 9)) and data.train.x.dtype == np.int16
