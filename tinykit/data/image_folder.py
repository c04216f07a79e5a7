"""Any user's photographs, one folder a class."""

import functools
import warnings
from pathlib import Path

import numpy as np
import pydantic

from tinykit.data.dataset import Dataset, Split
from tinykit.data.files import MAX_ARRAY_BYTES, missing_message, resolve
from tinykit.data.splits import assemble, generated_dataset, split_pool, split_train
from tinykit.errors import DataError, collected, one_line
from tinykit.options import Options

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_FILES = 200_000
MAX_PIXELS = 1 << 26


class ImageFolderOptions(Options):
    """Options of `image_folder`.

    Attributes:
        path: the root folder; relative paths are looked for in TINYKIT_DATA.
        size: [height, width] in pixels that every image is resized to.
        grayscale: one channel instead of three.
        classes: the class names (folders), where they are to be declared: checked, and used by a quicktest without the data.
    """

    path: str = pydantic.Field(min_length=1)
    size: tuple[pydantic.PositiveInt, pydantic.PositiveInt]
    grayscale: bool = False
    classes: tuple[str, ...] | None = pydantic.Field(default=None, min_length=1)


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """The .png, .jpg and .jpeg files of a folder, sorted; hidden ones are left out."""
    entries = (entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
    return sorted(entry for entry in entries if not entry.name.startswith("."))


def _listing(root: Path, names: tuple[str, ...]) -> tuple[list[tuple[Path, int]], list[str]]:
    """Files with their label, and the problems of the tree."""
    files: list[tuple[Path, int]] = []
    problems = []
    found = {folder.name for folder in _folders(root)}
    for name in sorted(found.symmetric_difference(names)):
        problems.append(f"{root / name}: class folder is {'missing' if name in names else 'not among the classes'}")
    for label, name in enumerate(names):
        if name not in found:
            continue
        members = image_files(root / name)
        if not members:
            problems.append(f"{root / name}: holds no {', '.join(SUFFIXES)} file")
        files += [(member, label) for member in members]
    return files, problems


@functools.cache
def _quiet() -> None:
    """Pillow warns of pictures that are refused here, in lines of its own."""
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode(path: Path, size: tuple[int, int], grayscale: bool) -> np.ndarray:
    """One image as uint8 [height, width, 1 or 3], resized by PIL's bilinear filter (antialiased); raises DataError."""
    from PIL import Image, ImageOps

    from tinykit.data.preprocess import gray_numpy

    _quiet()
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path}: {image.width} x {image.height} pixels, more than the limit of {MAX_PIXELS}")
            colour = ImageOps.exif_transpose(image).convert("RGB")
            if colour.size != (size[1], size[0]):
                colour = colour.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = np.asarray(colour, np.uint8)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  (for damaged metadata Pillow raises anything: struct.error, KeyError, ...)
        raise DataError(f"{path}: cannot be decoded: {one_line(error)}; repair or remove it") from error
    return gray_numpy(pixels) if grayscale else pixels


def _read(files: list[tuple[Path, int]], options: ImageFolderOptions) -> Split:
    """Decodes all files; raises one DataError that lists every damaged one."""
    channels = 1 if options.grayscale else 3
    if len(files) > MAX_FILES:
        raise DataError(f"{options.path}: {len(files)} images, more than the limit of {MAX_FILES}")
    size = len(files) * options.size[0] * options.size[1] * channels
    if size > MAX_ARRAY_BYTES:
        raise DataError(f"{options.path}: {size} bytes decoded, more than the limit of {MAX_ARRAY_BYTES}; choose a smaller size")
    x = np.empty((len(files), *options.size, channels), np.uint8)
    problems: list[str] = []
    for row, (path, _) in enumerate(files):
        with collected(DataError, problems):
            x[row] = decode(path, options.size, options.grayscale)
    if problems:
        raise DataError(problems)
    return Split(x, np.array([label for _, label in files], np.int64))


def _reduced(files: list[tuple[Path, int]], quicktest: bool) -> list[tuple[Path, int]]:
    """For a quicktest the first images of each class only, so that a large tree costs nothing."""
    if not quicktest:
        return files
    seen: dict[int, int] = {}
    kept = []
    for path, label in files:
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= 128:
            kept.append((path, label))
    return kept


def load(options: ImageFolderOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Images root/<class>/*.png|jpg|jpeg, or root/train/<class>/... and root/test/<class>/..., as uint8 [N, h, w, 1 or 3].

    Class names are the sorted folder names. EXIF orientation is applied; images of another size are resized by PIL's bilinear
    filter (with antialiasing), then greyed with integer weights where asked. Limits: 2^26 pixels an image, 200,000 files. A tree
    without train and test folders is split 75/25, stratified and fixed; 10 % of train is val.

    Example:
        data: {name: image_folder, options: {path: photos, size: [96, 96], grayscale: true}}
    """
    root = resolve(options.path)
    channels = 1 if options.grayscale else 3
    if not root.is_dir():
        if root.exists():
            raise DataError(f"{root}: expected a folder with a folder for each class, received a file")
        if not quicktest:
            raise DataError(missing_message("image_folder", root))
        names = options.classes or ("class0", "class1")
        return generated_dataset("image_folder", (*options.size, channels), "uint8", names, seed, str(root))
    shipped = (root / "train").is_dir() and (root / "test").is_dir()
    roots = [root / "train", root / "test"] if shipped else [root]
    names = options.classes or tuple(folder.name for folder in _folders(roots[0]))
    if not names:
        raise DataError(f"{roots[0]}: holds no class folder; expected {roots[0]}/<class>/*.png")
    listings, problems = [], []
    for part in roots:
        files, found = _listing(part, names)
        listings.append(_reduced(files, quicktest))
        problems += found
    if problems:
        raise DataError(problems)
    splits = []
    for files in listings:
        with collected(DataError, problems):
            splits.append(_read(files, options))
    if problems:
        raise DataError(problems)
    pool, test = splits[0], splits[1] if shipped else None
    indices = split_pool(pool.y) if test is None else (*split_train(pool.y), np.arange(len(test), dtype=np.int64))
    if not all(len(index) for index in indices):
        raise DataError(f"{root}: {len(pool)} images are too few for a train, a val and a test split")
    return assemble("image_folder", str(root), names, pool, indices, test, quicktest=quicktest)
