"""Validation of declared options: every problem at once, with the nearest match for a misspelt name."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pydantic

from tinykit.errors import ConfigError

T = TypeVar("T")


class Options(pydantic.BaseModel):
    """Base of the options of a dataset or a model family: unknown keys, infinities and NaN are refused; instances are immutable."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, upper and lower case aside; None where none is like it."""
    lower = {known_name.lower(): known_name for known_name in sorted(known)}
    match = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return lower[match[0]] if match else None


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message for an unknown name: the nearest match if there is one, and all known names."""
    names = sorted(known)
    match = closest(name, names)
    hint = f"did you mean {match!r}? " if match else ""
    return f"{hint}(known: {', '.join(names) or 'none'})"


def _fields(cls: Any) -> list[str]:
    if issubclass(cls, pydantic.BaseModel):
        return list(cls.model_fields)
    return [f.name for f in dataclasses.fields(cls)]


def option_problems(error: pydantic.ValidationError, cls: type, where: str) -> list[str]:
    """One message for each problem of a failed validation.

    Args:
        error: what pydantic raised.
        cls: the class that was to be built.
        where: what the messages begin with, such as `dataset npz`.
    """
    problems = []
    items = error.errors(include_url=False)
    inner = {item["loc"][0] for item in items if len(item["loc"]) > 1}
    for item in items:
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "too_short" and item["loc"][:1] and item["loc"][0] in inner:
            continue  # only because its wrong elements were left out
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            problems.append(f"{where}: unknown option {path!r}: {nearest(path, _fields(cls))}")
        elif item["type"] in ("missing", "missing_argument"):
            problems.append(f"{where}: option {path!r} is required and was not given")
        else:
            at = f" option {path!r}:" if path else ""
            problems.append(f"{where}:{at} {item['msg']}, received {item['input']!r}")
    return problems


def parse_options(cls: type[T], options: Any, where: str) -> T:
    """Builds `cls` (a pydantic model or dataclass) from a mapping.

    Raises:
        ConfigError: with every problem of the mapping.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where}: expected a mapping of options, received {options!r}")
    unknown = [key for key in options if not isinstance(key, str)]
    if unknown:
        raise ConfigError([f"{where}: an option's name must be text, received {key!r}" for key in unknown])
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(options))
    except pydantic.ValidationError as error:
        raise ConfigError(option_problems(error, cls, where)) from error
