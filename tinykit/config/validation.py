"""Turns pydantic's complaints into `file:line: message; did you mean 'x'?`."""

import re
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tinykit.config.catalogue import nearest
from tinykit.config.document import Document, Path, describe

_PYTHON_WORDS = re.compile(r"(dictionary|tuple)( or instance of \w+)?$")
"Ends of pydantic's messages, which are about YAML here."

ModelT = TypeVar("ModelT", bound=BaseModel)


def validate(model: type[ModelT], data: Any, path: Path, document: Document, problems: list[str]) -> ModelT | None:
    """Checks `data`, which lies at `path` of `document`, against `model`.

    Args:
        problems: gets one line for each problem.

    Returns:
        The validated model, or None if there was a problem.
    """
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        for item in found:
            if not _follows(item, found):
                problems.append(_message(model, item, data, path, document))
    return None


def _follows(item: Any, found: Sequence[Any]) -> bool:
    """Whether a list is too short only because pydantic has left out the items that are wrong themselves."""
    inside = any(other["loc"][: len(item["loc"])] == item["loc"] != other["loc"] for other in found)
    return item["type"] == "too_short" and inside


def _message(model: type[BaseModel], item: Any, data: Any, path: Path, document: Document) -> str:
    missing = item["type"] == "missing"
    inner = _real_path(item["loc"], data, missing)
    full = path + inner
    where = document.place(full)
    if item["type"] == "extra_forbidden":
        key = str(inner[-1])
        parent = describe(full[:-1])
        inside = f" in {parent}" if parent else ""
        known = _fields_at(model, inner[:-1])
        hint = nearest(key, known)
        elsewhere = [] if hint.startswith("; did") else [p for p in _key_paths(model) if p[-1] == key]
        if elsewhere:
            hint = f"; did you mean {describe(path + elsewhere[0])!r}?"
        return f"{where}: unknown key {key!r}{inside}{hint}"
    if missing:
        return f"{where}: {describe(full)} is missing"
    text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if text.startswith("Input should"):
        text = text.replace("Input should", "should", 1)
    text = _PYTHON_WORDS.sub(lambda found: "mapping" if found[1] == "dictionary" else "list", text)
    got = "" if item["type"] in ("value_error", "assertion_error") else f", got {_short(item['input'])}"
    return f"{where}: {describe(full) or 'configuration'}: {text}{got}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _real_path(loc: tuple[str | int, ...], data: Any, missing: bool) -> Path:
    """`loc` without the names of union branches that pydantic puts into it."""
    path: list[str | int] = []
    here = data
    for index, part in enumerate(loc):
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif not (missing and index == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def _fields_at(model: type[BaseModel], path: Path) -> set[str]:
    """Keys that may stand at `path` below `model`."""
    models = [model]
    for part in path:
        if isinstance(part, int):
            continue
        models = [m for owner in models if part in owner.model_fields for m in _models_in(owner.model_fields[part].annotation)]
    return {name for owner in models for name in owner.model_fields}


def _key_paths(model: type[BaseModel], path: Path = ()) -> list[Path]:
    """Every key below `model`, as a path."""
    result: list[Path] = []
    if len(path) > 8:
        return result
    for name, field in model.model_fields.items():
        result.append((*path, name))
        for inner in _models_in(field.annotation):
            result += _key_paths(inner, (*path, name))
    return result
