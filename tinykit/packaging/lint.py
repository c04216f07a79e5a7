"""Checks an Arduino library before the IDE does: layout, names and properties by Arduino's library specification."""

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

CATEGORIES = frozenset(
    ("Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage", "Data Processing", "Other")
)
_REQUIRED = ("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures")
_OPTIONAL = frozenset({"depends", "dot_a_linkage", "includes", "precompiled", "ldflags"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LONGEST_NAME = 63
_LONGEST_PATH = 120
"""Characters below the library's folder: Windows has some 260 for everything, the IDE's build folder included."""

_SOURCES = frozenset({".c", ".cpp", ".cc", ".S"})
_HEADERS = frozenset({".h", ".hpp", ".hh"})
_KINDS = frozenset({"KEYWORD1", "KEYWORD2", "KEYWORD3", "LITERAL1", "LITERAL2"})
_WINDOWS = frozenset({"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))})


def lint_zip(data: bytes) -> list[str]:
    """Problems of a library ZIP, one line each; none where the IDE takes it. A ZIP that cannot be read is one problem."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
            links = [info.filename for info in archive.infolist() if info.external_attr >> 28 == 0xA]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as problem:
        return [f"not a ZIP that can be read: {problem}"]
    return [*(f"{name}: a symbolic link; Arduino libraries hold none" for name in links), *lint_library(entries)]


def lint_library(files: Mapping[str, bytes]) -> list[str]:
    """Problems of a library.

    Args:
        files: content by path, '/' between folders, beginning with the library's one folder.
    """
    tops = {path.partition("/")[0] for path in files if "/" in path}
    if len(tops) != 1 or any("/" not in path for path in files):
        return [f"expected one folder at the top, with everything in it; found {', '.join(sorted(tops)) or 'none'} and files beside it"]
    top = tops.pop()
    inside = {path.removeprefix(f"{top}/"): data for path, data in files.items()}
    properties, problems = _properties(inside.get("library.properties"))
    problems = [*problems, *_folder(top, properties)]
    for check in (_paths, _layout, _examples, _keywords):
        problems += check(inside)
    return [*problems, *_values(properties, inside)]


def _properties(data: bytes | None) -> tuple[dict[str, str], list[str]]:
    """What library.properties says, and what is wrong with its form."""
    if data is None:
        return {}, ["library.properties: missing; without it the IDE takes this for a library of before 2013"]
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            problems.append(f"library.properties:{number}: expected key=value, got {line[:40]!r}")
        elif key in found:
            problems.append(f"library.properties:{number}: {key} a second time")
        elif key not in _REQUIRED and key not in _OPTIONAL:
            problems.append(f"library.properties:{number}: unknown key {key[:40]!r}")
        found.setdefault(key, value.strip())
    return found, problems + [f"library.properties: {key} is missing or empty" for key in _REQUIRED if not found.get(key)]


def _folder(top: str, properties: Mapping[str, str]) -> Iterator[str]:
    yield from _name_problems("folder", top)
    name = properties.get("name", "")
    if name:
        yield from _name_problems("name", name.replace(" ", "_"))
        if name.replace(" ", "_") != top:
            yield f"folder {top!r}: expected the library's name, {name!r}"


def _name_problems(what: str, name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"{what} {name!r}: expected letters, digits, '_', '.' and '-', a letter or digit first"
    if len(name) > _LONGEST_NAME:
        yield f"{what} {name!r}: {len(name)} characters, at most {_LONGEST_NAME}"
    if name.lower().startswith("arduino"):
        yield f"{what} {name!r}: names that begin with 'Arduino' are Arduino's own"


def _values(properties: Mapping[str, str], inside: Mapping[str, bytes]) -> Iterator[str]:
    """What the keys of library.properties may hold."""
    rules: dict[str, tuple[Callable[[str], bool], str]] = {
        "version": (lambda v: bool(_VERSION.fullmatch(v)), "a version such as 1.0.0"),
        "category": (lambda v: v in CATEGORIES, f"one of {', '.join(sorted(CATEGORIES))}"),
        "url": (lambda v: v.startswith(("http://", "https://")), "an address that begins with http"),
        "architectures": (lambda v: bool(re.fullmatch(r"\*|[A-Za-z0-9_-]+(,\s*[A-Za-z0-9_-]+)*", v)), "'*' or names with commas"),
        "precompiled": (lambda v: v in ("true", "full", "false"), "true, full or false"),
        "dot_a_linkage": (lambda v: v in ("true", "false"), "true or false"),
        "includes": (lambda v: all(f"src/{h.strip()}" in inside for h in v.split(",")), "headers that lie in src/"),
    }
    for key, (good, expected) in rules.items():
        if properties.get(key) and not good(properties[key]):
            yield f"library.properties: {key}={properties[key]}: expected {expected}"


def _paths(inside: Mapping[str, bytes]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for path in inside:
        if path.lower() in seen:
            yield f"{path}: differs from {seen[path.lower()]} by upper and lower case alone; not all file systems can tell them apart"
        seen[path.lower()] = path
        for part in path.split("/"):
            if not _FILE.fullmatch(part) or part.partition(".")[0].lower() in _WINDOWS:
                yield f"{path}: {part!r} is no name that every system can have"
        if len(path) > _LONGEST_PATH:
            yield f"{path}: {len(path)} characters, at most {_LONGEST_PATH}"
        if PurePosixPath(path).suffix.lower() in (".exe", ".dll", ".bat"):
            yield f"{path}: a program; libraries hold none"


def _layout(inside: Mapping[str, bytes]) -> Iterator[str]:
    sources = [path for path in inside if path.startswith("src/")]
    if not any(PurePosixPath(path).suffix in _HEADERS and path.count("/") == 1 for path in sources):
        yield "src/: expected a header in it"
    for path in inside:
        suffix = PurePosixPath(path).suffix
        if "/" not in path and suffix in _SOURCES | _HEADERS:
            yield f"{path}: beside src/ it is neither compiled nor found; move it into src/"
        if suffix == ".ino" and not path.startswith(("examples/", "extras/")):
            yield f"{path}: a sketch outside examples/"


def _examples(inside: Mapping[str, bytes]) -> Iterator[str]:
    folders = {path.split("/")[1] for path in inside if path.startswith("examples/") and path.count("/") >= 2}
    yield from (f"{path}: expected a folder for each example" for path in inside if re.fullmatch(r"examples/[^/]*", path))
    for folder in sorted(folders):
        if f"examples/{folder}/{folder}.ino" not in inside:
            yield f"examples/{folder}: expected {folder}.ino in it; a sketch is called like its folder"


def _keywords(inside: Mapping[str, bytes]) -> Iterator[str]:
    for number, line in enumerate(inside.get("keywords.txt", b"").decode(errors="replace").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) < 2 or " " in fields[0] or fields[1] not in _KINDS:
            yield f"keywords.txt:{number}: expected a word, one tab, and one of {', '.join(sorted(_KINDS))}; got {line[:40]!r}"
