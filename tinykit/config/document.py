"""YAML that remembers where each value was written, and overrides of it. Nothing is ever evaluated."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from tinykit.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_VALUES = 20_000
MAX_DIGITS = 100
MAX_SHOWN = 100  # problems

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's reading of plain scalars: 1e-3 is a number, `no` and `12:30` are text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def describe(path: Path) -> str:
    """`path` as people write it: ('steps', 0, 'train') is 'steps[0].train'."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it was written.

    Attributes:
        data: the content.
        places: path -> 'file:line' or '--set a.b'. A path without a place has its nearest parent's.
    """

    data: Any
    places: dict[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Where `path`, or the nearest part that encloses it, was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return "configuration"

    def graft(self, path: Path, other: "Document") -> None:
        """Takes over the places of `other`, whose root now lies at `path`."""
        for key in [key for key in self.places if key[: len(path)] == path]:
            del self.places[key]
        for key, place in other.places.items():
            self.places[path + key] = place


def _line(mark: Any) -> int:
    """The line of a YAML mark, from 1."""
    return mark.line + 1 if mark is not None else 1


def parse_yaml(text: str, source: str) -> Document:
    """Reads one YAML document.

    Args:
        text: at most MAX_BYTES.
        source: name of the file, for messages.

    Raises:
        ConfigError: not YAML, a key written twice or no string, too deep, or too large after aliases are expanded.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_BYTES} bytes; a configuration is a page of text")
    try:
        depth = nodes = 0
        for event in yaml.parse(text, Loader=_Loader):
            nodes += isinstance(event, yaml.NodeEvent)
            if nodes > 2 * MAX_VALUES:  # keys and values; a megabyte of them would take half a minute before they are counted
                raise ConfigError(f"{source}:{_line(event.start_mark)}: more than {MAX_VALUES} values")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{source}:{_line(event.start_mark)}: nested deeper than {MAX_DEPTH} levels")
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        about = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{source}{line}: not valid YAML: {about}") from None
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}:{number}: not valid YAML: the character #x{error.character:04x} is not allowed; take it out") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    reader = _Reader(source)
    data = reader.read(node, ()) if node is not None else None
    if reader.problems:
        more = len(reader.problems) - MAX_SHOWN
        raise ConfigError([*reader.problems[:MAX_SHOWN], *([f"{source}: and {more} more such problems"] if more > 0 else [])])
    return Document(data, reader.places)


def _scalar(tag: str, text: str) -> bool | int | float | str | None:
    """The value of one scalar. Raises ValueError for a tag that is no plain data, or text that does not suit its tag."""
    if tag == "str":
        return text
    if tag == "null":
        return None
    if tag == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError("expected true or false")
        return text.lower() == "true"
    if tag == "int":
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a whole number of more than {MAX_DIGITS} digits")
        return int(text, 16 if text[:2] == "0x" else 10)
    if tag == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    raise ValueError(f"tag {tag!r} is not supported; only plain data")


class _Reader:
    """Turns YAML nodes into plain data, remembers lines, collects problems."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[Path, str] = {(): source}
        self.problems: list[str] = []
        self._values = 0

    def _problem(self, node: yaml.Node, message: str) -> None:
        self.problems.append(f"{self.source}:{node.start_mark.line + 1}: {message}")

    def read(self, node: yaml.Node, path: Path) -> Any:
        """The value of `node`, which lies at `path`."""
        self._values += 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            if not self.problems or "expanded" not in self.problems[-1]:
                self._problem(node, f"more than {MAX_VALUES} values or {MAX_DEPTH} levels after aliases are expanded")
            return None
        if isinstance(node, yaml.CollectionNode) and node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._problem(node, f"tag {node.tag!r} is not supported; only plain data")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            result = []
            for index, item in enumerate(node.value):
                self.places[(*path, index)] = f"{self.source}:{item.start_mark.line + 1}"
                result.append(self.read(item, (*path, index)))
            return result
        try:
            return _scalar(node.tag.rpartition(":")[2] if node.tag.startswith("tag:yaml.org,2002:") else node.tag, node.value)
        except ValueError as error:
            self._problem(node, f"cannot read {node.value[:40]!r}: {error}")
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.tag.endswith(":str"):
                self._problem(key_node, "a key must be plain text" + (f", got {key!r}" if isinstance(key, str) else ""))
                continue
            if key == "<<":
                self._problem(key_node, "merge keys (<<) are not supported; write the keys out")
                continue
            line = key_node.start_mark.line + 1
            if key in lines:
                self._problem(key_node, f"key {describe((*path, key))!r} was already given in line {lines[key]}")
                continue
            lines[key] = line
            self.places[(*path, key)] = f"{self.source}:{line}"
            result[key] = self.read(value_node, (*path, key))
        return result


def apply_override(document: Document, text: str, flag: str = "--set") -> Path:
    """Applies one override `a.b=value` to `document`, in place; a number in the path is an index into a list.

    Args:
        text: the override; the value is read as YAML.
        flag: what the user typed in front of it, for messages.

    Returns:
        The path that was set.

    Raises:
        ConfigError: no '=', an empty part, a value that is not YAML, or a path through something that has no parts.
    """
    target, equals, value_text = text.partition("=")
    target = target.strip()
    parts = target.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"{flag} {text}: expected KEY=VALUE, for example {flag} steps.train.epochs=5")
    place = f"{flag} {target}" if flag == "--set" else flag
    try:
        value = parse_yaml(value_text, place).data
    except ConfigError as error:
        raise ConfigError([re.sub(rf"^{re.escape(place)}:\d+", place, problem) for problem in error.problems]) from None
    return set_value(document, parts, value, place)


def set_value(document: Document, parts: Sequence[str], value: Any, place: str) -> Path:
    """Puts `value` where `parts` lead, in place; a number among them is an index into a list.

    Args:
        place: where the value was written, for messages.

    Returns:
        The path that was set.

    Raises:
        ConfigError: a path through something that has no parts.
    """
    if document.data is None:
        document.data = {}
    here = document.data
    path: Path = ()
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        key: str | int = part
        if isinstance(here, list):
            if not part.isdecimal() or int(part) >= len(here):
                what = describe(path) or "the configuration"
                raise ConfigError(f"{place}: {what} is a list; expected an index from 0 to {len(here) - 1}, got {part!r}")
            key = int(part)
        elif not isinstance(here, dict):
            raise ConfigError(f"{place}: {describe(path)} is {here!r}, which has no part {part!r}")
        path = (*path, key)
        if last:
            here[key] = value
        elif isinstance(here, dict) and here.get(part) is None:
            here[part] = {}
            document.places[path] = place
        here = here[key]
    document.graft(path, Document(value, {(): place}))
    return path


class _Dumper(yaml.SafeDumper):
    """Quotes exactly what `_Loader` would read as something else than text."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump_yaml(data: Any) -> str:
    """`data` (plain values) as YAML, in the order given; `parse_yaml` reads the same values back."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
