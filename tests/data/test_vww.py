"""Visual wake words: labels, splits and pixels of small trees in the true layouts, against values computed another way."""

import hashlib
import io
import json
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinykit.data import coco, download, load_dataset, vww
from tinykit.data.coco import read_labels
from tinykit.data.download import Source
from tinykit.errors import ConfigError, DataError

SIZES = [(60, 40), (40, 60), (33, 71), (100, 100), (8, 9)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty TINYKIT_DATA."""
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    return tmp_path


def load(quicktest=False, seed=0, **options):
    return load_dataset("vww", options, seed=seed, quicktest=quicktest)


def picture(path, size, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def folders(root, count=60, name="vw_coco2014_96"):
    """MLPerf Tiny's layout; returns the pixels by file stem."""
    made = {}
    for label in vww.CLASS_NAMES:
        for number in range(1000 * len(label), 1000 * len(label) + count):
            stem = f"COCO_train2014_{number:012}"
            made[stem] = picture(root / name / label / f"{stem}.png", SIZES[number % len(SIZES)], number)
    return made


def annotation(image_id, box, category=1, area=None, crowd=0):
    polygons = {"counts": [1, 2], "size": [3, 4]} if crowd else [[0.5] * 6]
    area = box[2] * box[3] / 2 if area is None else area
    return {"id": 7, "image_id": image_id, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd, "segmentation": polygons}


def write_coco(root, part, images, annotations, categories=None, draw=True):
    """annotations/instances_<part>.json and the images; `images`: (id, width, height)."""
    names = {number: f"COCO_{part}_{number:012}.jpg" for number, _, _ in images}
    content = {
        "info": {"year": 2014},
        "images": [{"id": n, "width": w, "height": h, "file_name": names[n], "license": 1} for n, w, h in images],
        "annotations": annotations,
        "categories": categories or [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    file = root / "annotations" / f"instances_{part}.json"
    file.write_text(json.dumps(content))
    for number, width, height in images if draw else []:
        picture(root / part / names[number], (width, height), number)
    return file


# ---- the definition


def test_a_box_of_half_a_percent_is_a_person(tmp_path):
    images = [(number, 640, 480) for number in range(10, 20)]
    annotations = [
        annotation(10, [5, 5, 48, 32]),  # 1536 of 307200 pixels: exactly 0.5 %
        annotation(11, [5, 5, 48, 31.99]),
        annotation(12, [0, 0, 640, 480], category=2),
        annotation(13, [1, 1, 10, 10]),
        annotation(13, [1, 1, 60.5, 50.25]),
        annotation(14, [1, 1, 40, 30]),
        annotation(14, [50, 50, 40, 30]),  # two small ones do not add up
        annotation(15, [0, 0, 300, 300], crowd=1),  # crowds count
        annotation(16, [0, 0, 48, 32], area=10),  # the outline is much smaller than the box
        annotation(17, [0, 0, 10, 10], area=1536),
    ]
    file = write_coco(tmp_path, "train2014", images, annotations, draw=False)
    persons = {int(name[-6:-4]) for name, label in read_labels(file, 0.005, "box").items() if label}
    assert persons == {10, 13, 15, 16}
    assert len(read_labels(file, 0.005, "box")) == 10
    masks = {int(name[-6:-4]) for name, label in read_labels(file, 0.005, "mask").items() if label}
    assert masks == {15, 17}
    assert {int(n[-6:-4]) for n, label in read_labels(file, 0.025, "box").items() if label} == {15}
    assert sum(read_labels(file, 0, "box").values()) == 7


def test_random_annotations_against_the_definition_in_fractions(tmp_path):
    random = np.random.RandomState(5)
    images = [(number, int(random.randint(50, 700)), int(random.randint(50, 700))) for number in range(300)]
    annotations = []
    for _ in range(900):
        number, width, height = images[random.randint(300)]
        side = np.sqrt(width * height * 0.005)
        box = [3.25, 4, round(side * random.uniform(0.5, 1.5), 2), round(side * random.uniform(0.5, 1.5), 2)]
        annotations.append(annotation(number, box, category=int(random.choice([44, 90])), crowd=int(random.randint(2))))
    categories = [{"id": 90, "name": "person", "supercategory": "person"}, {"id": 44, "name": "bottle"}]
    file = write_coco(tmp_path, "val2014", images, annotations, categories, draw=False)
    expected = {}
    for number, width, height in images:
        boxes = [a["bbox"] for a in annotations if a["image_id"] == number and a["category_id"] == 90]
        large = [Fraction(b[2]) * Fraction(b[3]) * 200 >= width * height for b in boxes]
        expected[f"COCO_val2014_{number:012}.jpg"] = int(any(large))
    assert read_labels(file, 0.005, "box") == expected and 50 < sum(expected.values()) < 250


# ---- COCO trees


def small_coco(root, draw=True, count=80):
    train = [(number, *SIZES[number % 5]) for number in range(100, 100 + count)]
    val = [(number, *SIZES[number % 5]) for number in range(500, 520)]
    for part, images in (("train2014", train), ("val2014", val)):
        write_coco(root / "coco", part, images, [annotation(n, [0, 0, w, h]) for n, w, h in images if n % 2], draw=draw)


def test_coco_train_and_val(root):
    small_coco(root)
    data = load(path="coco", size=16)
    assert len(data.test) == 20 and len(data.train) + len(data.val) == 80 and 2 <= len(data.val) <= 16
    assert data.input_shape == (16, 16, 3) and data.train.x.dtype == np.uint8 and data.class_names == ("non_person", "person")
    assert data.test.y.tolist() == [n % 2 for n in range(500, 520)] and not data.synthetic
    file = root / "coco" / "val2014" / "COCO_val2014_000000000507.jpg"
    with Image.open(file) as opened:
        expected = np.asarray(opened.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(data.test.x[7], expected)
    assert load(path="coco", size=16, seed=9).split_sha256 == data.split_sha256
    (root / "coco" / "images").mkdir()
    for part in ("train2014", "val2014"):
        (root / "coco" / part).rename(root / "coco" / "images" / part)
    assert load(path="coco", size=16).content_sha256 == data.content_sha256


def test_coco_single_file_is_split_by_name(root):
    images = [(number, 9, 7) for number in range(60)]
    write_coco(root / "coco", "val2017", images, [annotation(n, [0, 0, 9, 7]) for n in range(0, 60, 3)])
    data = load(path="coco", size=8, grayscale=True)
    assert data.input_shape == (8, 8, 1) and sum(len(part) for part in (data.train, data.val, data.test)) == 60
    assert sum(int(part.y.sum()) for part in (data.train, data.val, data.test)) == 20


def test_coco_quicktest_reads_few_images(root):
    small_coco(root, count=200)
    for file in sorted((root / "coco" / "train2014").iterdir())[140:]:
        if vww.share_of(file.name) >= 0.2:
            file.write_bytes(b"damaged")
    data = load(quicktest=True, path="coco", size=8)
    assert [len(part) for part in (data.train, data.test)] == [64, 20] and 0 < len(data.val) <= 32 and not data.synthetic
    assert data.train.y.sum() == 32 and data.test.y.sum() == 10


def test_every_missing_and_every_damaged_image_is_named(root, monkeypatch):
    small_coco(root)
    folder = root / "coco" / "train2014"
    for number in (101, 104, 109):
        (folder / f"COCO_train2014_{number:012}.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        load(path="coco", size=8)
    text = str(caught.value)
    assert len(caught.value.problems) == 3 and all(f"{n:012}.jpg: cannot be decoded" in text for n in (101, 104, 109))
    for number in range(110, 140):
        (folder / f"COCO_train2014_{number:012}.jpg").unlink()
    with pytest.raises(DataError) as caught:
        load(path="coco", size=8)
    assert len(caught.value.problems) == 21 and caught.value.problems[-1] == "... and 10 more"
    assert "COCO_train2014_000000000110.jpg: missing, but in instances_train2014.json" in str(caught.value)


def test_coco_layouts_that_are_not(root):
    (root / "coco" / "annotations").mkdir(parents=True)
    with pytest.raises(DataError, match="found none"):
        load(path="coco")
    file = write_coco(root / "coco", "train2014", [(1, 8, 8)], [], draw=False)
    with pytest.raises(DataError, match="its images are in none of"):
        load(path="coco")
    for other in ("train2017", "minival2014"):
        twin = file.with_name(f"instances_{other}.json")
        twin.write_text(file.read_text())
        with pytest.raises(DataError, match="expected instances_train.*found instances_"):
            load(path="coco")
        twin.unlink()


GOOD = {
    "images": [{"id": 1, "width": 8, "height": 8, "file_name": "a.jpg"}],
    "annotations": [],
    "categories": [{"id": 1, "name": "person"}],
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 200_000, "cannot be read as JSON"),
        (b"[1]", "expected a JSON object"),
        ({}, "expected a list 'images'"),
        ({**GOOD, "annotations": {"a": 1}}, "expected a list 'annotations'"),
        ({**GOOD, "categories": [{"id": 1, "name": "persons"}]}, "no category 'person': did you mean 'persons'"),
        ({**GOOD, "images": [{"id": 1, "width": 8, "height": 8}]}, "expected an object with id and file_name"),
        ({**GOOD, "images": [{"id": 1, "width": 0, "height": 8, "file_name": "a"}]}, "width and height must be pixels"),
        ({**GOOD, "images": [{"id": 1, "width": 8, "height": 8, "file_name": "../../etc/passwd"}]}, "a path inside the archive"),
        ({**GOOD, "images": [{"id": 1, "width": 8, "height": 8, "file_name": "/etc/passwd"}]}, "a path inside the archive"),
        ({**GOOD, "images": GOOD["images"] * 2}, "comes twice"),
        ({**GOOD, "annotations": [annotation(2, [0, 0, 8, 8])]}, "no image has the id 2"),
        ({**GOOD, "annotations": [annotation([1], [0, 0, 8, 8])]}, r"no image has the id \[1\]"),
        ({**GOOD, "annotations": [{**annotation(1, [0, 0, 8, 8]), "bbox": [0, 0, 8]}]}, "expected bbox"),
        ({**GOOD, "annotations": [annotation(1, [0, 0, -8, 8])]}, "expected bbox"),
        ({**GOOD, "annotations": [{**annotation(1, [0, 0, 8, 8]), "bbox": None}]}, "expected bbox"),
        ({**GOOD, "annotations": [annotation(1, [0, 0, float("nan"), 8])]}, "NaN is no JSON number"),
        ({**GOOD, "annotations": [5]}, "expected an object with image_id"),
    ],
)
def test_damaged_annotations(root, content, message):
    file = root / "coco" / "annotations" / "instances_train2014.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    (root / "coco" / "train2014").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        load(path="coco")
    assert "instances_train2014.json" in str(caught.value)


def test_annotations_are_bounded(root, monkeypatch):
    small_coco(root, draw=False)
    (root / "coco" / "train2014").mkdir()
    (root / "coco" / "val2014").mkdir()
    monkeypatch.setattr(coco, "MAX_JSON_BYTES", 1000)
    with pytest.raises(DataError, match="more than the limit of 1000") as caught:
        load(path="coco")
    assert len(caught.value.problems) == 2


# ---- MLPerf Tiny's folders


def own_share(name):
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 0x100000000


def test_folders_are_split_by_the_hash_of_the_name(root):
    made = folders(root)
    data = load(size=16)
    expected = {"train": [], "val": [], "test": []}
    for stem in sorted(made):
        share = own_share(stem)
        expected["test" if share < 0.1 else "val" if share < 0.2 else "train"].append(stem)
    for split, stems in expected.items():
        part = getattr(data, split)
        pixels = {Image.fromarray(made[s]).resize((16, 16), Image.Resampling.BILINEAR).tobytes(): s for s in stems}
        assert {x.tobytes() for x in part.x} == set(pixels) and len(part) == len(stems)
        persons = {x.tobytes() for x, y in zip(part.x, part.y) if y == 1}
        assert persons == {p for p, s in pixels.items() if (root / "vw_coco2014_96" / "person" / f"{s}.png").exists()}
    assert not data.synthetic and data.split_sha256 == load(size=8, grayscale=True).split_sha256


def test_the_share_of_a_name_is_fixed():
    assert [round(vww.share_of(name), 6) for name in ("COCO_train2014_000000000009.jpg", "a/COCO_val2014_000000000042.png")] == [
        round(own_share(name), 6) for name in ("COCO_train2014_000000000009", "COCO_val2014_000000000042")
    ]
    shares = np.array([vww.share_of(f"COCO_train2014_{number:012}.jpg") for number in range(20_000)])
    assert abs((shares < 0.1).mean() - 0.1) < 0.01 and abs((shares < 0.2).mean() - 0.2) < 0.01


def test_folders_with_their_own_splits(root):
    for split, count in (("train", 40), ("val", 6), ("test", 5)):
        folders(root / "p", count, split)
    data = load(path="p", size=8)
    assert [len(part) for part in (data.train, data.val, data.test)] == [80, 12, 10]
    (root / "p" / "val").rename(root / "elsewhere")
    data = load(path="p", size=8)
    assert len(data.test) == 10 and len(data.train) + len(data.val) == 80 and 0 < len(data.val) < 30
    (root / "p" / "test").rename(root / "p" / "val")
    assert len(load(path="p", size=8).test) == 10
    (root / "p" / "val").rename(root / "elsewhere2")
    with pytest.raises(DataError, match="neither test nor val"):
        load(path="p", size=8)


def test_an_image_that_is_a_bomb_or_a_tree_that_is_too_large(root, monkeypatch):
    folders(root)
    with monkeypatch.context() as patched:
        patched.setattr("tinykit.data.image_folder.MAX_PIXELS", 9999)
        with pytest.raises(DataError, match="100 x 100 pixels, more than the limit of 9999") as caught:
            load(size=8)
        assert len(caught.value.problems) == 24, "a fifth of the 120 pictures has 100 x 100 pixels"
    with monkeypatch.context() as patched:
        patched.setattr(vww, "MAX_ARRAY_BYTES", 1000)
        patched.setattr(vww, "MAX_FILES", 10)
        with pytest.raises(DataError) as caught:
            load(size=8)
        assert "choose a smaller size" in str(caught.value) and "120 images, more than the limit of 10" in str(caught.value)


def test_wrong_folders_and_options(root):
    (root / "p" / "person").mkdir(parents=True)
    with pytest.raises(DataError, match="non_person: class folder is missing"):
        load(path="p")
    (root / "p" / "non_person").mkdir()
    with pytest.raises(DataError, match="no picture for train: 0 are too few"):
        load(path="p")
    (root / "file").write_text("")
    with pytest.raises(DataError, match="received a file"):
        load(path="file", quicktest=True)
    for options in ({"size": 4}, {"size": 2000}, {"min_area": 2}, {"area": "polygon"}, {"sizes": 96}):
        with pytest.raises(ConfigError):
            load(**options)


def test_a_quicktest_of_folders_and_of_nothing(root):
    data = load(quicktest=True, size=24)
    assert data.synthetic and data.input_shape == (24, 24, 3) and set(data.test.y) == {0, 1}
    assert load(quicktest=True, size=24, download=True).synthetic, "a quicktest never fetches"
    folders(root)
    data = load(quicktest=True, size=24)
    assert not data.synthetic and len(data.train) == 64 and data.train.y.sum() == 32


# ---- fetching


def test_absent_data_name_the_path_the_command_and_the_quicktest(root):
    with pytest.raises(DataError) as caught:
        load()
    text = str(caught.value)
    for part in (str(root / "vw_coco2014_96"), "TINYKIT_DATA=", "--quicktest", "data.options.download=true", "(235 MB)", "curl "):
        assert part in text
    with pytest.raises(DataError) as caught:
        load(path="coco", source="coco2014")
    assert str(caught.value).count("curl ") == 3 and str(root / "coco" / "train2014.zip") in str(caught.value)


def test_download_unpacks_an_archive_once(root, monkeypatch):
    """The archive lies where it would have been fetched to, so that no server is needed."""
    folders(root / "made", name="vw_coco2014_96")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as opened:
        opened.add(root / "made" / "vw_coco2014_96", "vw_coco2014_96")
    archive = root / "set.tar.gz"
    archive.write_bytes(content.getvalue())
    source = Source("http://127.0.0.1:9/set.tar.gz", hashlib.sha256(content.getvalue()).hexdigest(), len(content.getvalue()))
    monkeypatch.setitem(vww.SOURCES, "mlperf_tiny", ((source, "vw_coco2014_96", ""),))
    data = load(download=True, path="fetched", size=8)
    assert data.content_sha256 == load(path="made/vw_coco2014_96", size=8).content_sha256
    archive.unlink()
    load(download=True, path="fetched", size=8)
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    with pytest.raises(DataError, match="fetching it failed.*--quicktest"):
        load(download=True, path="other", size=8)
    assert not list(Path(root).glob("other*")) and not list(Path(root).glob(".tmp*"))


def test_the_sources_are_complete():
    for entries in vww.SOURCES.values():
        for source, inner, _ in entries:
            assert source.url.startswith("http") and len(source.sha256) == 64 and int(source.sha256, 16) and source.size > 10**8 and inner
