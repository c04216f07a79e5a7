"""What names exist: datasets, models, steps, boards, and the options of each. A thin adapter over the registries.

The registries are imported when first asked, so that a misspelt key is reported before anything heavy is loaded.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tinykit.errors import ConfigError, TinykitError
from tinykit.options import closest


def nearest(word: str, candidates: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the closest of `candidates`, else "; known: a, b, c"."""
    known = sorted(candidates)
    match = closest(word, known)
    if match:
        return f"; did you mean {match!r}?"
    return f"; known: {', '.join(known)}" if known else ""


@dataclass(frozen=True)
class Family:
    """One registry.

    Attributes:
        kind: what an entry is, for messages: 'dataset'.
        names: all names.
        options: the pydantic model of an entry's options, None where it has none declared.
    """

    kind: str
    names: Callable[[], Sequence[str]]
    options: Callable[[str], type[BaseModel] | None]


@dataclass(frozen=True)
class Catalogue:
    """Everything a configuration can name.

    Attributes:
        datasets, models, steps: the registries.
        boards: names of the boards.
        chain: checks one preprocessing chain; returns (index of the operation, message) of each problem.
        augment: the same for a list of augmentations.
        order: the same for the names of a recipe's steps: which may not follow which.
    """

    datasets: Family
    models: Family
    steps: Family
    boards: Callable[[], Sequence[str]]
    chain: Callable[[list[Any]], list[tuple[int, str]]]
    augment: Callable[[list[Any]], list[tuple[int, str]]]
    order: Callable[[Sequence[str]], list[tuple[int, str]]] = lambda names: []


def _dataset_names() -> list[str]:
    return list(importlib.import_module("tinykit.data.registry").dataset_names())


def _dataset_options(name: str) -> type[BaseModel] | None:
    options: type[BaseModel] | None = importlib.import_module("tinykit.data.registry").dataset_options(name)
    return options


def _model_names() -> list[str]:
    return list(importlib.import_module("tinykit.models.registry").model_names())


def _model_options(name: str) -> type[BaseModel] | None:
    options: type[BaseModel] | None = importlib.import_module("tinykit.models.registry").model_options(name)
    return options


def _step_names() -> list[str]:
    return list(importlib.import_module("tinykit.recipe.registry").STEPS)


def _step_options(name: str) -> type[BaseModel] | None:
    options: type[BaseModel] = importlib.import_module("tinykit.recipe.registry").step_class(name).Options
    return options


def _board_names() -> list[str]:
    return list(importlib.import_module("tinykit.boards.table").board_names())


def _list_problems(parse: Callable[..., object], operations: list[Any], where: str) -> list[tuple[int, str]]:
    """Problems of a declared list with the index of the item each is about (0 where a message does not say)."""
    try:
        parse(operations, where)
    except TinykitError as error:
        found = [(re.match(rf"{re.escape(where)}\[(\d+)\]", problem), problem) for problem in error.problems]
        return [(int(match[1]) if match else 0, problem) for match, problem in found]
    return []


def _check_chain(operations: list[Any]) -> list[tuple[int, str]]:
    return _list_problems(importlib.import_module("tinykit.data.preprocess").Chain.parse, operations, "data.preprocess")


def _check_augment(operations: list[Any]) -> list[tuple[int, str]]:
    parse = importlib.import_module("tinykit.data.pipeline").parse_augmentations
    return _list_problems(parse, operations, "data.augment")


def _check_order(names: Sequence[str]) -> list[tuple[int, str]]:
    step_class = importlib.import_module("tinykit.recipe.registry").step_class
    problems, integers = [], ""
    known: list[tuple[str, object]] = []
    places: list[int] = []
    for index, name in enumerate(names):
        try:
            step = step_class(name)
        except TinykitError:
            continue  # reported with its options
        known.append((name, step))
        places.append(index)
        if integers and getattr(step, "needs_float", False):
            problems.append((index, f"step {name!r} needs a float model, but {integers!r} before it has made an integer network"))
        elif getattr(step, "makes_integers", False):
            integers = name
    conflicts = importlib.import_module("tinykit.recipe.claims").conflicts
    return problems + [(places[index], message) for index, message in conflicts(known)]


def default_catalogue() -> Catalogue:
    """The catalogue of this installation."""
    return Catalogue(
        datasets=Family("dataset", _dataset_names, _dataset_options),
        models=Family("model", _model_names, _model_options),
        steps=Family("step", _step_names, _step_options),
        boards=_board_names,
        chain=_check_chain,
        augment=_check_augment,
        order=_check_order,
    )


def check_name(kind: str, name: str, known: Sequence[str]) -> None:
    """Raises ConfigError, with the nearest match, if `name` is not one of `known`."""
    if name not in known:
        raise ConfigError(f"unknown {kind} {name!r}{nearest(name, known)}")
