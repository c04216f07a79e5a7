"""Writes BUILD, Bazel's view of the tree, from the imports that the sources really make.

  python tools/make_build.py           writes BUILD
  python tools/make_build.py --check   exits 1 if BUILD is not what would be written

One py_library a package, one py_binary a program (a module with `def main` and `if __name__ == "__main__"`), one py_test a file of tests.
Bazel allows no circles: packages that import each other keep their files in `<package>_sources`, and `<package>` is the whole circle.
Imports under `if TYPE_CHECKING` do not count; a string that names a module of ours ("tinykit.steps.train:Train") does, because registries
import by it. Third-party packages are `requirement(...)` of a pip repository of rules_python.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "tinykit"
COMMAND = "python tools/make_build.py"
DATA_FOLDERS = {"configs": "tinykit.config", "recipes": "tinykit.config", "firmware_template": "tinykit.boards"}
"""Folders beside the package, and the package that reads each."""
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "serial": "pyserial",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Distributions that are not called like their module, but for '-' instead of '_'."""
_RUNNER = "tools/bazel_pytest.py"
_REFERENCE = re.compile(rf"({PACKAGE}(?:\.\w+)+)(?::\w+)?")
_HEADER = f'''"""Made by `{COMMAND}` from the imports of the sources; do not edit."""

load("@pip//:requirements.bzl", "requirement")
load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])
'''


@dataclass
class Source:
    """One Python file.

    Attributes:
        path: relative to the root.
        module: dotted.
        own: dotted names below our package that it imports (modules, or names in modules).
        third: distributions that it imports.
        program: it defines main() and runs when started.
    """

    path: str
    module: str
    own: set[str] = field(default_factory=set)
    third: set[str] = field(default_factory=set)
    program: bool = False


class Tree:
    """The sources below a root, in units: a package without its programs, or one program.

    Raises:
        SyntaxError: a source cannot be parsed; names the file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        local = {path.stem for path in (root / "tests").rglob("*.py")} | {"tests", "tools"}
        self.sources = _read(root, PACKAGE, local)
        self.tests = _read(root, "tests", local)
        self._programs = {source.module for source in self.sources if source.program}
        self._modules = {source.module for source in self.sources}
        self._packages = {source.module for source in self.sources if source.path.endswith("/__init__.py")}
        self.units: dict[str, list[Source]] = {}
        for source in self.sources:
            self.units.setdefault(self.unit(source.module), []).append(source)
        edges = {unit: self.needs(sources, unit) - {unit} for unit, sources in self.units.items()}
        reach = {unit: _reachable(unit, edges) for unit in edges}
        self.circles = {unit: sorted({other for other in reach[unit] if unit in reach[other]} | {unit}) for unit in edges}

    def unit(self, module: str) -> str:
        """The unit that a module of ours belongs to."""
        return module if module in self._programs or module in self._packages else module.rpartition(".")[0]

    def label(self, unit: str) -> str:
        """'graph_passes' for tinykit.graph.passes, 'tinykit' for the top, 'train_lib' for the program tinykit.train."""
        name = "_".join(part.strip("_") for part in unit.split(".")[1:]) or unit
        return f"{name}_lib" if unit in self._programs else name

    def needs(self, sources: Iterable[Source], unit: str = "") -> set[str]:
        """Units that `sources` (of `unit`) need: what they import, and the packages above that, whose __init__ Python runs too."""
        found = set()
        for name in {name for source in sources for name in source.own} | ({unit} if unit else set()):
            while name and name not in self._modules:
                name = name.rpartition(".")[0]
            while name:
                found.add(self.unit(name))
                name = name.rpartition(".")[0]
        return found

    def labels(self, sources: Sequence[Source], unit: str = "", without: Iterable[str] = ()) -> list[str]:
        """The deps of a target made of `sources`: our libraries, then requirements, each sorted."""
        own = {self.label(needed) for needed in self.needs(sources, unit) - set(without)}
        return [f":{name}" for name in sorted(own)] + _requirements(sources)

    def data(self, unit: str) -> list[str]:
        """Labels and files that a package reads: its own files that are no sources, and folders beside the package."""
        if unit not in self._packages:
            return []
        folders = [f":{folder}" for folder, reader in DATA_FOLDERS.items() if reader == unit and _files(self.root, folder)]
        return sorted(folders) + [file for file in _files(self.root, unit.replace(".", "/")) if self._owner(file) == unit]

    def _owner(self, file: str) -> str:
        """The innermost package that a file lies in."""
        package = file.rpartition("/")[0].replace("/", ".")
        while package and package not in self._packages:
            package = package.rpartition(".")[0]
        return package


def build_text(root: Path) -> str:
    """The content of BUILD for the tree at `root`. Raises SyntaxError if a source cannot be parsed."""
    tree = Tree(root)
    rules = [_rule("filegroup", folder, srcs=_files(root, folder)) for folder in sorted(DATA_FOLDERS) if _files(root, folder)]
    for unit in sorted(tree.units):
        rules += _libraries(tree, unit)
    taken = {tree.label(unit) for unit in tree.units}
    for source in tree.sources:
        if source.program:
            library = tree.label(source.module)
            name = library.removesuffix("_lib")
            name = f"{name}_main" if name in taken else name
            rules.append(_rule("py_binary", name, srcs=[source.path], main=source.path, imports=["."], deps=[f":{library}"]))
    return "\n".join([_HEADER, *rules, *_tests(tree)])


def _libraries(tree: Tree, unit: str) -> list[str]:
    """The py_library of a unit; in a circle, two: its files, and the circle under its name."""
    sources, circle, name = tree.units[unit], tree.circles[unit], tree.label(unit)
    files = {"srcs": [source.path for source in sources], "data": tree.data(unit), "imports": ["."]}
    deps = tree.labels(sources, unit, without=circle)
    if len(circle) == 1:
        return [_rule("py_library", name, **files, deps=deps)]
    whole = sorted(f":{tree.label(other)}_sources" for other in circle)
    return [_rule("py_library", f"{name}_sources", **files, deps=deps), _rule("py_library", name, deps=whole)]


def _tests(tree: Tree) -> list[str]:
    """A py_test a file of tests, and one library of the files that they share."""
    shared = [source for source in tree.tests if not source.path.rpartition("/")[2].startswith("test_")]
    rules = []
    if shared:
        rules.append(_rule("py_library", "tests_shared", testonly=True, srcs=[source.path for source in shared], deps=tree.labels(shared)))
    for source in tree.tests:
        if source in shared:
            continue
        deps = {*tree.labels([source]), 'requirement("pytest")', *([":tests_shared"] if shared else [])}
        tools = ["tools/make_build.py"] if source.path == "tests/test_build_file.py" else []
        rules.append(
            _rule(
                "py_test",
                source.path.removesuffix(".py").replace("/", "_"),
                srcs=sorted([source.path, _RUNNER, *tools]),
                main=_RUNNER,
                args=[f"$(location {source.path})"],
                data=["pyproject.toml"],
                deps=sorted(deps, key=lambda dep: (not dep.startswith(":"), dep)),
            )
        )
    return rules


def _rule(rule: str, name: str, **attributes: list[str] | str | bool) -> str:
    """A rule as buildifier formats it; empty attributes are left out."""
    lines = [f"{rule}(", f'    name = "{name}",']
    for key, value in attributes.items():
        if isinstance(value, bool):
            lines.append(f"    {key} = {value},")
        elif isinstance(value, str):
            lines.append(f'    {key} = "{value}",')
        elif len(value) == 1:
            lines.append(f"    {key} = [{_item(value[0])}],")
        elif value:
            lines += [f"    {key} = [", *(f"        {_item(item)}," for item in value), "    ],"]
    return "\n".join([*lines, ")\n"])


def _item(item: str) -> str:
    return item if item.startswith("requirement(") else f'"{item}"'


def _requirements(sources: Iterable[Source]) -> list[str]:
    return [f'requirement("{name}")' for name in sorted({name for source in sources for name in source.third})]


def _visible(root: Path, path: Path) -> bool:
    return not any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)


def _read(root: Path, folder: str, local: set[str]) -> list[Source]:
    """Every Python file below `folder`, in order of their paths; imports of modules called as in `local` are no third party's."""
    return [_source(root, path, local) for path in sorted((root / folder).rglob("*.py")) if _visible(root, path)]


def _files(root: Path, folder: str) -> list[str]:
    """Files below `folder` that are no Python sources, relative to the root, sorted; hidden and cached ones left out."""
    paths = [path for path in (root / folder).rglob("*") if path.is_file() and _visible(root, path)]
    return sorted(path.relative_to(root).as_posix() for path in paths if path.suffix not in {".py", ".pyc"})


def _source(root: Path, path: Path, local: set[str]) -> Source:
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    source = Source(relative.as_posix(), ".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(relative))
    for node in _live_nodes(tree):
        for name in _imported(node, parts[:-1]):
            top = name.partition(".")[0]
            if top == PACKAGE:
                source.own.add(name)
            elif top not in sys.stdlib_module_names | local:
                source.third.add(DISTRIBUTIONS.get(top, top.replace("_", "-")))
    mains = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    source.program = mains and any(isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in tree.body)
    return source


def _live_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that is not under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in child.orelse:
                yield other
                yield from _live_nodes(other)
        else:
            yield child
            yield from _live_nodes(child)


def _imported(node: ast.AST, package: Sequence[str]) -> Iterator[str]:
    """Dotted names that a node imports; `from a import b` gives a and a.b, one of which is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        match = _REFERENCE.fullmatch(node.value)
        if match:
            yield match[1]


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Everything that `start` needs, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = edges.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks BUILD; returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes BUILD from the imports of the sources.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if BUILD is stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the tree; default: this file's")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    file, text = root / "BUILD", build_text(root)
    if not options.check:
        file.write_text(text, encoding="utf-8")
        return 0
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return 0
    print(f"{file} is stale or missing; mend it with: {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
