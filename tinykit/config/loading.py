"""From a name or a path, and overrides, to a configuration in which everything is checked and filled in."""

import copy
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tinykit
from tinykit.config.catalogue import Catalogue, Family, default_catalogue, nearest
from tinykit.config.document import MAX_BYTES, Document, apply_override, describe, dump_yaml, parse_yaml, set_value
from tinykit.config.schema import RecipeConfig, RunConfig
from tinykit.config.validation import validate
from tinykit.errors import ConfigError, TinykitError, collected

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class StepSpec:
    """One step of a run.

    Attributes:
        name: the step's name in the registry.
        label: `name`, or `name_2`, `name_3` where a recipe uses a step more than once.
        options: every option, defaults filled in; plain values.
    """

    name: str
    label: str
    options: dict[str, Any]


@dataclass(frozen=True)
class ResolvedConfig:
    """A configuration without open questions.

    Attributes:
        name: the file's name without suffix; the default name of the run.
        source: where it was read from.
        config: the checked content; `recipe` is a list with every option and `steps` is empty.
        steps: what will run, in order.
        notes: what the user should be told, one line each.
        unused: steps that the command line has options for and the recipe lacks; only where one of several recipes is loaded.
        written: the content as it was written, overrides included, from which variants are made.
    """

    name: str
    source: str
    config: RunConfig
    steps: tuple[StepSpec, ...]
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    written: Document | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the schema's order; `search` and `tune` only where there is one."""
        values = self.config.model_dump(mode="json")
        for section in ("search", "tune"):
            if values[section] is None:
                del values[section]
        return values

    def to_yaml(self) -> str:
        """The text of `config.resolved.yaml`; loading it gives the same configuration."""
        return dump_yaml(self.to_dict())


def shipped_folders(kind: str) -> list[Path]:
    """Folders of an installed package or of a source tree that hold `kind` ('configs' or 'recipes')."""
    folders = []
    try:
        spec = importlib.util.find_spec(f"tinykit._data.{kind}")
    except ModuleNotFoundError:
        spec = None
    if spec is not None and spec.submodule_search_locations is not None:
        folders += [Path(location) for location in spec.submodule_search_locations]
    folders.append(Path(tinykit.__file__).resolve().parent.parent / kind)
    return [folder for folder in folders if folder.is_dir()]


def available(kind: str) -> list[str]:
    """Names that can be given without a path: those in `kind`/ here and those shipped."""
    folders = [Path(kind), *shipped_folders(kind)]
    return sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})


def _exists(path: Path) -> bool:
    """Whether there is something at `path`; False too for names that no file can have."""
    try:
        return path.exists()
    except OSError:  # too long, a folder that may not be read
        return False


def find_file(name_or_path: str, kind: str, beside: Path | None = None) -> Path:
    """The YAML file meant by `name_or_path`, with or without `.yaml`.

    Looked for as a path (then beside the file that names it), then in `kind`/ here, then in the installed package.

    Args:
        kind: 'configs' or 'recipes'.
        beside: folder of the file that names it.

    Raises:
        ConfigError: there is none; says where it was looked for and the nearest name.
    """
    endings = [""] if name_or_path.endswith(_SUFFIXES) else list(_SUFFIXES)
    folders = [Path(), *([beside] if beside else []), Path(kind), *shipped_folders(kind)]
    for folder in folders:
        for ending in endings:
            file = folder / (name_or_path + ending)
            if _exists(file) and file.is_file():
                return file
    if _exists(Path(name_or_path)):
        what = "a folder" if Path(name_or_path).is_dir() else "no plain file"
        raise ConfigError(f"{name_or_path}: {what}; expected a file of YAML text, or a name in {kind}/: {', '.join(available(kind))}")
    looked = ", ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
    stem = Path(name_or_path).stem if name_or_path.endswith(_SUFFIXES) else Path(name_or_path).name
    raise ConfigError(f"no {kind.removesuffix('s')} {name_or_path!r}{nearest(stem, available(kind))} (looked in {looked})")


def read_document(file: Path) -> Document:
    """Reads one YAML file. Raises ConfigError if it cannot be read, is too large, or is not YAML."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig") if len(raw) <= MAX_BYTES else " " * len(raw)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: cannot be read: no UTF-8 text ({error.reason}); save the file as UTF-8") from None
    return parse_yaml(text, str(file))


def load_config(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    seed: int | None = None,
    recipe: str | None = None,
    catalogue: Catalogue | None = None,
) -> ResolvedConfig:
    """Reads, overrides, checks and completes a configuration. Imports no TensorFlow.

    Args:
        name_or_path: 'digits', 'digits.yaml' or a path; see `find_file`.
        overrides: each 'a.b=value', in order; the last wins.
        seed: replaces the configuration's seed.
        recipe: one of several recipes that are loaded with the same overrides; replaces the configuration's. Options for steps that only
            others of them have are passed over.
        catalogue: what names exist; default: this installation's registries.

    Raises:
        ConfigError: with every problem at once, each as `file:line: message` or `--set a.b: message`.
    """
    file = find_file(name_or_path, "configs")
    document = read_document(file)
    problems: list[str] = []
    overridden = []
    changes = [("--set", text) for text in overrides]
    changes += [("--seed", f"seed={seed}")] if seed is not None else []
    changes += [("--compare", f"recipe={json.dumps(recipe)}")] if recipe is not None else []
    for flag, text in changes:
        with collected(ConfigError, problems):
            overridden.append(apply_override(document, text, flag))
    written = copy.deepcopy(document)
    resolver = _Resolver(document, file, catalogue or default_catalogue(), problems, one_of_several=recipe is not None)
    resolver.settle_model(overridden)
    return replace(resolver.resolve(), written=written)


TUNED = " (tuned)"
"""End of the place of a value that a tuner has set: 'mine.yaml:31 (tuned)'."""


def with_values(
    config: ResolvedConfig, values: Mapping[str, Any], *, without: Sequence[str] = (), catalogue: Catalogue | None = None
) -> ResolvedConfig:
    """The configuration with other values, as if each had been given with --set.

    Args:
        config: from `load_config`.
        values: key as --set takes it -> value; in messages its place is that of tune.parameters.KEY.
        without: sections that are left out.

    Raises:
        ConfigError: with every problem that the values make.
    """
    if config.written is None:
        raise ConfigError(f"{config.source}: only what load_config has read can be varied")
    document = copy.deepcopy(config.written)
    problems: list[str] = []
    overridden = []
    for key, value in values.items():
        place = document.place(("tune", "parameters", key)) + TUNED
        with collected(ConfigError, problems):
            overridden.append(set_value(document, key.split("."), copy.deepcopy(value), place))
    for section in without:
        document.data.pop(section, None)
    resolver = _Resolver(document, Path(config.source), catalogue or default_catalogue(), problems, one_of_several="recipe" in values)
    resolver.settle_model(overridden)
    found = resolver.resolve()
    return replace(found, name=config.name, config=found.config.model_copy(update={"task": config.config.task}))


def _chosen(place: str) -> bool:
    """Whether a value was given from outside of the file, by a flag or a tuner."""
    return place.startswith("--") or place.endswith(TUNED)


class _Resolver:
    """Checks one document against the schema and the registries, and collects every problem."""

    def __init__(self, document: Document, file: Path, catalogue: Catalogue, problems: list[str], one_of_several: bool = False) -> None:
        self.document = document
        self.file = file
        self.catalogue = catalogue
        self.problems = problems
        self.one_of_several = one_of_several
        self.notes: list[str] = []
        self.unused: list[str] = []
        self.data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}

    def _problem(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(f"{self.document.place(path)}: {message}")

    def section(self, name: str) -> dict[str, Any]:
        """A section as far as it is a mapping, so that its parts can be checked though others are wrong."""
        value = self.data.get(name)
        return value if isinstance(value, dict) else {}

    def settle_model(self, overridden: Sequence[tuple[str | int, ...]]) -> None:
        """Exactly one of model.name and model.path; one given on the command line replaces the other."""
        model = self.section("model")
        path, name = model.get("path"), model.get("name")
        if path is not None and name is not None:
            last = next((p for p in reversed(overridden) if p in (("model", "path"), ("model", "name"))), None)
            if last is None:
                self._problem(("model", "path"), "model: give exactly one of name and path, got both")
            elif last == ("model", "name"):
                self.notes.append(f"model.name={name} from the command line replaces the configuration's model.path={path}")
                model["path"] = None
            else:
                dropped = " and its options" if model.get("options") else ""
                self.notes.append(f"model.path={path} from the command line replaces the configuration's model.name={name}{dropped}")
                model["name"] = None
                model["options"] = {}
        elif path is None and name is None and (isinstance(self.data.get("model"), dict) or "model" not in self.data):
            self._problem(("model",), "model: give exactly one of name and path, got neither")

    def resolve(self) -> ResolvedConfig:
        """The complete configuration, or ConfigError with every problem."""
        if not isinstance(self.document.data, (dict, type(None))):
            raise ConfigError(f"{self.file}: expected keys and values at the top, got {type(self.document.data).__name__}")
        run = validate(RunConfig, self.data, (), self.document, self.problems)
        dataset = self._options(self.catalogue.datasets, "data")
        self._operations("preprocess", self.catalogue.chain)
        self._operations("augment", self.catalogue.augment)
        model = self._options(self.catalogue.models, "model")
        model_path = self._model_path()
        self._board()
        steps = self._steps()
        if self.problems or run is None:
            raise ConfigError(_unique(self.problems))
        complete = run.model_copy(
            update={
                "task": run.task or self.file.stem,
                "data": run.data.model_copy(update={"options": dataset}),
                "model": run.model.model_copy(update={"options": model, "path": model_path}),
                "recipe": [{step.name: step.options} for step in steps],
                "steps": {},
            }
        )
        return ResolvedConfig(self.file.stem, str(self.file), complete, tuple(steps), tuple(self.notes), tuple(self.unused))

    def _options(self, family: Family, section: str) -> dict[str, Any]:
        """Checks the name and the options of a section; returns all options, defaults filled in."""
        content = self.section(section)
        name, options = content.get("name"), content.get("options")
        options = options if isinstance(options, dict) else {}
        if not isinstance(name, str):
            if section == "model" and isinstance(content.get("path"), str) and options:
                self._problem((section, "options"), "model.options belong to a named model; a file has none")
            return options
        known = family.names()
        if name not in known:
            self._problem((section, "name"), f"unknown {family.kind} {name!r}{nearest(name, known)}")
            return options
        schema = family.options(name)
        if schema is None:
            return options
        checked = validate(schema, options, (section, "options"), self.document, self.problems)
        return checked.model_dump(mode="json") if checked is not None else options

    def _operations(self, key: str, check: Any) -> None:
        operations = self.section("data").get(key)
        if isinstance(operations, list):
            for index, message in check(operations):
                self._problem(("data", key, index), message)

    def _model_path(self) -> str | None:
        path = self.section("model").get("path")
        if not isinstance(path, str):
            return None
        candidates = [Path(os.path.expanduser(path)), self.file.parent / path]
        for candidate in candidates:
            if _exists(candidate) and not (candidate.is_file() or candidate.is_dir()):
                self._problem(("model", "path"), f"model.path: {path!r} is neither a file nor a folder")
                return None
            if _exists(candidate):
                return str(candidate.absolute())
        self._problem(("model", "path"), f"model.path: no such file {path!r}")
        return None

    def _board(self) -> None:
        board = self.section("budget").get("board")
        if isinstance(board, str):
            known = self.catalogue.boards()
            if board not in known:
                self._problem(("budget", "board"), f"unknown board {board!r}{nearest(board, known)}")

    def _steps(self) -> list[StepSpec]:
        """The recipe's steps with their options and the configuration's changes of them."""
        recipe, path = self.data.get("recipe", RunConfig.model_fields["recipe"].default), ("recipe",)
        document = self.document
        if isinstance(recipe, str):
            try:
                file = find_file(recipe, "recipes", self.file.parent)
                document = read_document(file)
            except ConfigError as error:
                where = self.document.place(("recipe",))
                named = str(error).startswith("no recipe")
                self.problems += [f"{where}: recipe: {error}"] if named else error.problems
                return []
            if validate(RecipeConfig, document.data, (), document, self.problems) is None:
                return []
            recipe, path = document.data["steps"], ("steps",)
        if not isinstance(recipe, list) or not 1 <= len(recipe) <= 32:
            self._problem(("recipe",), f"recipe: expected a recipe's name or a list of 1 to 32 steps, got {recipe!r}")
            return []
        found = [self._step_entry(item, (*path, index), document) for index, item in enumerate(recipe)]
        steps = [entry for entry in found if entry is not None]
        names = [name for name, _ in steps]
        self.problems += [f"{steps[index][1].place(())}: recipe: {message}" for index, message in self.catalogue.order(names)]
        labels = _labels(names)
        result = [self._step(name, label, entry) for (name, entry), label in zip(steps, labels)]
        if len(steps) == len(recipe):
            self._superfluous({*labels, *names})
        return result

    def _superfluous(self, allowed: set[str]) -> None:
        """Options for steps that the recipe lacks: a mistake, unless they were written for another recipe than the one of this run."""
        place = self.document.place
        given = _chosen(place(("recipe",)))  # and so it is not the one that the file's options were written for
        for key in self.section("steps"):
            if key in allowed:
                continue
            places = [place(("steps", key)), *(where for path, where in self.document.places.items() if path[:2] == ("steps", key))]
            typed = any(_chosen(where) for where in places)
            known = re.sub(r"_\d+$", "", key) in self.catalogue.steps.names()
            if known and typed and self.one_of_several:
                self.unused.append(key)
            elif known and given and not typed:
                self.notes.append(f"{place(('steps', key))}: options of {key} are not used: the recipe of this run has no such step")
            else:
                self._problem(("steps", key), f"steps: the recipe has no step {key!r}{nearest(key, allowed)}")

    def _step_entry(self, item: Any, path: tuple[str | int, ...], document: Document) -> tuple[str, Document] | None:
        """(name, options with their places) of one item of a recipe."""
        where = document.place(path)
        if isinstance(item, str):
            item = {item: {}}
        if not isinstance(item, dict) or len(item) != 1:
            self.problems.append(f"{where}: {describe(path)}: expected one step, as a name or {{name: {{option: value}}}}, got {item!r}")
            return None
        name, options = next(iter(item.items()))
        known = self.catalogue.steps.names()
        if name not in known:
            self.problems.append(f"{document.place((*path, name))}: unknown step {name!r}{nearest(name, known)}")
            return None
        if options is not None and not isinstance(options, dict):
            self.problems.append(f"{where}: {describe((*path, name))}: expected options, got {options!r}")
            return None
        entry = Document(copy.deepcopy(options or {}), {(): document.place((*path, name))})
        for key, place in document.places.items():
            if key[: len(path) + 1] == (*path, name):
                entry.places[key[len(path) + 1 :]] = place
        return name, entry

    def _step(self, name: str, label: str, entry: Document) -> StepSpec:
        for key in dict.fromkeys((name, label)):
            changes = self.section("steps").get(key)
            if isinstance(changes, dict):
                _merge(entry, changes, (), self.document, ("steps", key))
        try:
            schema = self.catalogue.steps.options(name)
        except TinykitError as error:
            self.problems += [f"{entry.place(())}: {problem}" for problem in error.problems]
            return StepSpec(name, label, entry.data)
        if schema is None:
            return StepSpec(name, label, entry.data)
        shown = Document(entry.data, {(name, *key): place for key, place in entry.places.items()})
        checked = validate(schema, entry.data, (name,), shown, self.problems)
        return StepSpec(name, label, checked.model_dump(mode="json") if checked is not None else entry.data)


def _merge(entry: Document, changes: dict[str, Any], path: tuple[str | int, ...], source: Document, at: tuple[str | int, ...]) -> None:
    """Lays `changes` (at `at` of `source`) over the options of `entry` at `path`, key by key."""
    target = entry.data
    for part in path:
        target = target[part]
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(entry, value, (*path, key), source, (*at, key))
            continue
        target[key] = copy.deepcopy(value)
        places = {inner[len(at) + 1 :]: place for inner, place in source.places.items() if inner[: len(at) + 1] == (*at, key)}
        entry.graft((*path, key), Document(value, {(): source.place((*at, key)), **places}))


def _labels(names: Sequence[str]) -> list[str]:
    """['train', 'quantize', 'train'] -> ['train', 'quantize', 'train_2']."""
    seen: dict[str, int] = {}
    labels = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        labels.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return labels


def _unique(problems: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(problems))
