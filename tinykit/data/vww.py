"""Visual wake words: is a person in the picture?"""

import dataclasses
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from tinykit.data.archive import fetch_folder
from tinykit.data.coco import read_labels, shown
from tinykit.data.dataset import Dataset, Split
from tinykit.data.download import Source, by_hand, megabytes
from tinykit.data.files import MAX_ARRAY_BYTES, missing_message, resolve
from tinykit.data.image_folder import MAX_FILES, decode, image_files
from tinykit.data.progress import Progress
from tinykit.data.splits import QUICKTEST_SIZES, generated_dataset, split_sha256
from tinykit.errors import DataError, collected
from tinykit.options import Options

CLASS_NAMES = ("non_person", "person")  # in the order of their labels, 0 and 1
SPLITS = ("train", "val", "test")
TEST_BELOW, VAL_BELOW = 0.1, 0.2  # shares of `share_of`
MANY = 5000  # images whose reading is worth a progress line

# What `download` fetches: (archive, folder in it, folder below `path`). Sizes and digests: for COCO those of tensorflow_datasets
# (url_checksums/coco.txt), for MLPerf Tiny's archive those that public projects pin.
COCO = "http://images.cocodataset.org"
SOURCES: dict[str, tuple[tuple[Source, str, str], ...]] = {
    "mlperf_tiny": (
        (
            Source(
                "https://www.silabs.com/public/files/github/machine_learning/benchmarks/datasets/vw_coco2014_96.tar.gz",
                "f8746b9e44f8a7a4293f73be9ba6e8da9239fe69798d42364aae62b915cfab58",
                234_810_765,
            ),
            "vw_coco2014_96",
            "",
        ),
    ),
    "coco2014": (
        (
            Source(
                f"{COCO}/annotations/annotations_trainval2014.zip",
                "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                252_872_794,
            ),
            "annotations",
            "annotations",
        ),
        (
            Source(f"{COCO}/zips/train2014.zip", "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775", 13_510_573_713),
            "train2014",
            "train2014",
        ),
        (
            Source(f"{COCO}/zips/val2014.zip", "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0", 6_645_013_297),
            "val2014",
            "val2014",
        ),
    ),
}


class VwwOptions(Options):
    """Options of `vww`.

    Attributes:
        path: the root folder; relative paths are looked for in TINYKIT_DATA.
        size: height and width in pixels that every image is resized to.
        grayscale: one channel instead of three.
        min_area: COCO only: share of the image that a person must cover; 0.005 by the definition of Visual Wake Words.
        area: COCO only: of the person's box, or of its mask, as the published script has it.
        download: fetch the archives of `source` where the folder is absent (never with --quicktest).
        source: what `download` fetches: mlperf_tiny (235 MB, folders of 96 x 96) or coco2014 (20 GB).
    """

    path: str = pydantic.Field(default="vw_coco2014_96", min_length=1)
    size: int = pydantic.Field(default=96, ge=8, le=1024)
    grayscale: bool = False
    min_area: float = pydantic.Field(default=0.005, ge=0, le=1)
    area: Literal["box", "mask"] = "box"
    download: bool = False
    source: Literal["mlperf_tiny", "coco2014"] = "mlperf_tiny"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return (self.size, self.size, 1 if self.grayscale else 3)


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image file and its label; `split` where the files say to which it belongs."""

    path: Path
    label: int


def share_of(name: str) -> float:
    """A fixed number of 0 to below 1 for a file's name without its suffix: the first 32 bits of the name's SHA-256, over 2^32.

    COCO's own names and MLPerf Tiny's are the same (COCO_train2014_000000000009), so a picture is in the same split in both.
    """
    stem = Path(name).stem
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:4], "big") / 2**32


def split_by_name(pictures: list[Picture]) -> dict[str, list[Picture]]:
    """For pictures that come without splits: test below 0.1 of `share_of`, val below 0.2, train above."""
    parts: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for picture in pictures:
        share = share_of(picture.path.name)
        parts["test" if share < TEST_BELOW else "val" if share < VAL_BELOW else "train"].append(picture)
    return parts


def _with_splits(given: dict[str, list[Picture]]) -> dict[str, list[Picture]]:
    """Completes what the files say: without `test`, `val` is test; without (or after that) `val`, 0.1 to 0.2 of train are val."""
    if "test" in given and "val" in given:
        return given
    inner = split_by_name(given["train"])
    return {"train": inner["train"] + inner["test"], "val": inner["val"], "test": given["test" if "test" in given else "val"]}


def _class_pictures(root: Path) -> list[Picture]:
    missing = [root / name for name in CLASS_NAMES if not (root / name).is_dir()]
    if missing:
        raise DataError([f"{folder}: class folder is missing; expected person and non_person" for folder in missing])
    return [Picture(path, label) for label, name in enumerate(CLASS_NAMES) for path in image_files(root / name)]


def list_folders(root: Path) -> dict[str, list[Picture]]:
    """Pictures of each split of root/person and root/non_person, or of these below root/train, root/val and root/test.

    Raises:
        DataError: the folders are not so.
    """
    if not (root / "train").is_dir():
        return split_by_name(_class_pictures(root))
    given = {split: _class_pictures(root / split) for split in SPLITS if (root / split).is_dir()}
    if len(given) == 1:
        raise DataError(f"{root}: holds train, but neither test nor val")
    return _with_splits(given)


def _coco_pictures(root: Path, file: Path, options: VwwOptions) -> list[Picture]:
    """Pictures of one annotation file; their folder is named like it."""
    part = file.stem.removeprefix("instances_")
    candidates = (root / part, root / "images" / part, root / "images")
    folder = next((folder for folder in candidates if folder.is_dir()), None)
    if folder is None:
        raise DataError(f"{file}: its images are in none of {', '.join(map(str, candidates))}")
    labels = read_labels(file, options.min_area, options.area)
    missing = [f"{folder / name}: missing, but in {file.name}" for name in labels if not (folder / name).is_file()]
    if missing:
        raise DataError(shown(missing))
    return [Picture(folder / name, label) for name, label in labels.items()]


def list_coco(root: Path, options: VwwOptions) -> dict[str, list[Picture]]:
    """Pictures of each split of root/annotations/instances_*.json, with the label of `coco.read_labels`.

    With instances_train* and instances_val*, val's pictures are test; a single file is split by the pictures' names.

    Raises:
        DataError: with the problems of all annotation files.
    """
    files = sorted((root / "annotations").glob("instances_*.json"))
    kinds = [next((kind for kind in SPLITS if file.stem.startswith(f"instances_{kind}")), file.stem) for file in files]
    if not files or (len(files) > 1 and (len(set(kinds)) < len(kinds) or not {"train"} < set(kinds) <= set(SPLITS))):
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(
            f"{root / 'annotations'}: expected instances_train*.json and instances_val*.json, or one instances_*.json; found {found}"
        )
    given = {}
    problems: list[str] = []
    for kind, file in zip(kinds, files):
        with collected(DataError, problems):
            given[kind] = _coco_pictures(root, file, options)
    if problems:
        raise DataError(problems)
    return split_by_name(next(iter(given.values()))) if len(given) == 1 else _with_splits(given)


def read_pictures(pictures: list[Picture], options: VwwOptions, show: Progress | None = None) -> Split:
    """Decodes files into one uint8 array [N, size, size, 1 or 3], a few at a time.

    Raises:
        DataError: files cannot be decoded: all of them (above 20 their number).
    """
    x = np.empty((len(pictures), *options.shape), np.uint8)

    def read(row: int) -> list[str]:
        try:
            x[row] = decode(pictures[row].path, (options.size, options.size), options.grayscale)
        except DataError as error:
            return error.problems
        return []

    problems = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for row, found in enumerate(pool.map(read, range(len(pictures)))):
            problems += found
            if show is not None:
                show(row + 1, len(pictures))
    if problems:
        raise DataError(shown(problems))
    return Split(x, np.array([picture.label for picture in pictures], np.int64))


def _few(pictures: list[Picture], count: int) -> list[Picture]:
    """At most `count` pictures, half of each class, so that a quicktest reads few files."""
    return [picture for label in (0, 1) for picture in [p for p in pictures if p.label == label][: count // 2]]


def read_parts(parts: dict[str, list[Picture]], source: str, options: VwwOptions, quicktest: bool) -> Dataset:
    """Reads the splits; `split_sha256` is that of the pictures' places among all names, sorted.

    Raises:
        DataError: there are too many or too few pictures, or some cannot be decoded.
    """
    listed = sorted((picture for part in parts.values() for picture in part), key=lambda picture: (picture.path.stem, picture.path))
    place = {picture.path: index for index, picture in enumerate(listed)}
    if quicktest:
        parts = {split: _few(parts[split], count) for split, count in zip(SPLITS, QUICKTEST_SIZES)}
    problems = [f"{source}: no picture for {split}: {len(listed)} are too few" for split in SPLITS if not parts[split]]
    count = sum(len(part) for part in parts.values())
    size = count * int(np.prod(options.shape))
    if len(listed) > MAX_FILES:
        problems.append(f"{source}: {len(listed)} images, more than the limit of {MAX_FILES}")
    if size > MAX_ARRAY_BYTES:
        problems.append(f"{source}: {size} bytes decoded, more than the limit of {MAX_ARRAY_BYTES}; choose a smaller size")
    if problems:
        raise DataError(problems)
    splits = []
    for split in SPLITS:
        show = Progress(f"reading {split}", "images") if len(parts[split]) >= MANY else None
        with collected(DataError, problems):
            splits.append(read_pictures(parts[split], options, show))
    if problems:
        raise DataError(problems)
    digest = split_sha256(*(np.array([place[picture.path] for picture in parts[split]], np.int64) for split in SPLITS))
    return Dataset("vww", source, False, CLASS_NAMES, splits[0], splits[1], splits[2], digest)


def _missing(root: Path, options: VwwOptions) -> str:
    sources = SOURCES[options.source]
    size = megabytes(sum(source.size for source, _, _ in sources))
    steps = "; ".join(
        f"{by_hand(source.url, (root / below).parent / source.name)} (its folder {inner!r} becomes {root / below})"
        for source, inner, below in sources
    )
    return f"{missing_message('vww', root)}. To fetch it ({size}): --set data.options.download=true, or by hand: {steps}"


def load(options: VwwOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Photographs with and without persons, uint8 [N, 96, 96, 3] (option `size`), labels 0 non_person and 1 person.

    `path` holds MLPerf Tiny's folders person/ and non_person/ (perhaps below train/, val/, test/), or COCO's annotations/instances_*.json
    and images: label 1 where a person's box covers 0.5 % of the image or more. Splits depend on the files' names alone: see `share_of`;
    without test/, val/ (or COCO's val) is the test split. Images are resized by PIL's bilinear filter, antialiased, to size x size.
    Sources: Chowdhery et al., arXiv:1906.05721; MLPerf Tiny, arXiv:2106.07597 (whose folders count persons from 2.5 % on); COCO,
    arXiv:1405.0312.

    Example:
        data: {name: vww, options: {path: vw_coco2014_96}, preprocess: [{divide: {by: 255}}]}
    """
    root = resolve(options.path)
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: expected a folder with person and non_person, or with annotations, received a file")
    if options.download and not quicktest:
        for source, inner, below in SOURCES[options.source]:
            fetch_folder(source, root / below, inner=inner)
    if not root.is_dir():
        if quicktest:
            return generated_dataset("vww", options.shape, "uint8", CLASS_NAMES, seed, str(root))
        raise DataError(_missing(root, options))
    coco = (root / "annotations").is_dir()
    return read_parts(list_coco(root, options) if coco else list_folders(root), str(root), options, quicktest)
