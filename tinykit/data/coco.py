"""Labels of the Visual Wake Words task from COCO's annotations: is a person in the picture, and not too small?

Source: Chowdhery et al., "Visual Wake Words Dataset", arXiv:1906.05721: label 1 where at least one box of a person covers 0.5 % of the
image or more.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tinykit.data.archive import safe_name
from tinykit.errors import DataError
from tinykit.options import nearest

MAX_JSON_BYTES = 1 << 30  # instances_train2017.json has 0.47e9
MAX_SHOWN = 20
PERSON = "person"
KEPT = ("images", "annotations", "categories", "id", "name", "file_name", "width", "height")


class Annotation(NamedTuple):
    """What is needed of an annotation; its polygons, most of the file, are dropped while it is read."""

    image_id: Any
    category_id: Any
    bbox: Any
    area: Any


def _slim(value: dict[str, Any]) -> Any:
    if "image_id" in value and "category_id" in value:
        return Annotation(value["image_id"], value["category_id"], value.get("bbox"), value.get("area"))
    return {key: value[key] for key in KEPT if key in value}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def shown(problems: list[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - MAX_SHOWN
    return problems if more <= 0 else [*problems[:MAX_SHOWN], f"... and {more} more"]


def _read(path: Path) -> dict[str, list[Any]]:
    """The lists `images`, `annotations` and `categories` of a file."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise DataError(f"{path}: {size} bytes, more than the limit of {MAX_JSON_BYTES}")
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, object_hook=_slim, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object with images, annotations and categories")
    problems = [
        f"{path}: expected a list {key!r}, as in COCO's instances_*.json"
        for key in ("images", "annotations", "categories")
        if not isinstance(value.get(key), list)
    ]
    if problems:
        raise DataError(problems)
    return value


def _person_ids(path: Path, categories: list[Any]) -> set[int]:
    named = [c for c in categories if isinstance(c, dict) and isinstance(c.get("name"), str) and isinstance(c.get("id"), int)]
    ids = {c["id"] for c in named if c["name"] == PERSON}
    if not ids:
        raise DataError(f"{path}: no category {PERSON!r}: {nearest(PERSON, [c['name'] for c in named])}")
    return ids


def _image_problem(image: Any) -> str | None:
    """What is wrong with an entry of `images`; None: nothing."""
    if not isinstance(image, dict) or not isinstance(image.get("id"), int) or not isinstance(image.get("file_name"), str):
        return "expected an object with id and file_name"
    sides = (image.get("width"), image.get("height"))
    if not all(isinstance(side, int) and 0 < side < 1 << 20 for side in sides):
        return f"id {image['id']}: width and height must be pixels, received {sides}"
    try:
        safe_name(image["file_name"])
    except DataError as error:
        return f"id {image['id']}: {error}"
    return None


def _area(annotation: Annotation, area: str) -> float | None:
    """Pixels that an annotation covers; None where it does not say so."""
    sides = [annotation.area]
    if area == "box":
        sides = annotation.bbox[2:] if isinstance(annotation.bbox, list) and len(annotation.bbox) == 4 else [None]
    if not all(isinstance(side, (int, float)) and 0 <= side < 1e12 for side in sides):
        return None
    return float(math.prod(sides))


def read_labels(path: Path, min_area: float, area: Literal["box", "mask"]) -> dict[str, int]:
    """The label of each image of a file instances_*.json of COCO.

    An image has label 1 where one annotation of the category `person` at least covers the share `min_area` of the image or more. Crowds
    (`iscrowd`) count like single persons: neither the paper nor its published script sets them apart.

    Args:
        path: of the file, at most 1 GiB.
        min_area: 0 to 1; 0.005 in the definition.
        area: box: width times height of `bbox`, as the paper has it; mask: the field `area`, the pixels of the person's outline, which the
            published script (tensorflow/models, build_visualwakewords_data_lib.py) compares.

    Returns:
        Label by file name, in the order of the file.

    Raises:
        DataError: the file is damaged, or an entry that is needed; the first 20 problems and their number.
    """
    content = _read(path)
    persons = _person_ids(path, content["categories"])
    problems = []
    names: dict[int, str] = {}
    pixels: dict[int, int] = {}
    labels: dict[str, int] = {}
    for index, image in enumerate(content["images"]):
        problem = _image_problem(image)
        if problem is None and (image["id"] in names or image["file_name"] in labels):
            problem = f"id {image['id']}, {image['file_name']}: comes twice"
        if problem is not None:
            problems.append(f"{path}: images[{index}]: {problem}")
            continue
        names[image["id"]], pixels[image["id"]] = image["file_name"], image["width"] * image["height"]
        labels[image["file_name"]] = 0
    faulty = bool(problems)
    for index, annotation in enumerate(content["annotations"]):
        if not isinstance(annotation, Annotation) or not isinstance(annotation.category_id, int):
            problems.append(f"{path}: annotations[{index}]: expected an object with image_id and category_id")
        elif annotation.category_id in persons:
            covered = _area(annotation, area)
            if not isinstance(annotation.image_id, int) or annotation.image_id not in names:
                if not faulty:  # else it may be of one of the images that were just named
                    problems.append(f"{path}: annotations[{index}]: no image has the id {annotation.image_id!r}")
            elif covered is None:
                wanted = (
                    f"bbox [x, y, width, height], received {annotation.bbox!r}" if area == "box" else f"area, received {annotation.area!r}"
                )
                problems.append(f"{path}: annotations[{index}]: expected {wanted}")
            elif covered / pixels[annotation.image_id] >= min_area:
                labels[names[annotation.image_id]] = 1
    if problems:
        raise DataError(shown(problems))
    return labels
