"""tools/make_build.py: what it writes, and that its check can fail. Works on small trees of its own."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("make_build", ROOT / "tools" / "make_build.py")
make_build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_build)

FILES = {
    "tinykit/__init__.py": "__version__ = '1'\n",
    "tinykit/errors.py": "class E(Exception): ...\n",
    "tinykit/train.py": (
        "import sys\nfrom absl import app\nfrom tinykit.recipe import runner\ndef main(argv): ...\n"
        "if __name__ == '__main__':\n    app.run(main)\n"
    ),
    "tinykit/recipe/__init__.py": "",
    "tinykit/recipe/runner.py": "from tinykit.errors import E\nSTEPS = {'train': 'tinykit.steps.train:Train'}\n",
    "tinykit/steps/__init__.py": "",
    "tinykit/steps/train.py": "import keras\nfrom ..recipe.runner import STEPS\n",
    "tinykit/graph/__init__.py": "",
    "tinykit/graph/ir.py": (
        "from typing import TYPE_CHECKING\nimport numpy as np\nif TYPE_CHECKING:\n    from tinykit.recipe import runner\n    import torch\n"
    ),
    "tinykit/graph/passes/__init__.py": "",
    "tinykit/graph/passes/noops.py": "def f():\n    import yaml\n    from tinykit.graph import ir\n",
    "tinykit/search/__init__.py": "",
    "tinykit/search/__main__.py": "def main(): ...\nif __name__ == '__main__':\n    main()\n",
    "tinykit/report/__init__.py": "",
    "tinykit/report/page.html": "x",
    "tinykit/recipe/notes/deep.txt": "x",
    "configs/digits.yaml": "x",
    "pyproject.toml": "",
    "tools/bazel_pytest.py": "import pytest\n",
    "tools/make_build.py": "",
    "tests/helpers.py": "import numpy\n",
    "tests/graph/test_ir.py": "import hypothesis\nimport helpers\nfrom tinykit.graph.ir import np\n",
    "tests/test_cli.py": "COMMAND = ['-m', 'tinykit.train']\n",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    """A small copy of the house."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def rules(text: str) -> dict[str, dict]:
    """BUILD's rules by name; `requirement("x")` reads as '@x'. BUILD is also valid Python."""
    found = {}
    for node in ast.parse(text).body:
        call = node.value
        if isinstance(call, ast.Call) and call.keywords and call.func.id not in {"load", "package"}:
            values = {keyword.arg: _value(keyword.value) for keyword in call.keywords}
            assert values["name"] not in found
            found[values["name"]] = {"rule": call.func.id, **values}
    return found


def _value(node: ast.expr):
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    return "@" + node.args[0].value if isinstance(node, ast.Call) else ast.literal_eval(node)


def check_consistent(root: Path, found: dict[str, dict]) -> None:
    """Every label and file exists, every file of ours is in exactly one library, and nothing goes in a circle."""
    for values in found.values():
        labels = [dep for key in ("deps", "data") for dep in values.get(key, []) if dep.startswith(":")]
        assert all(label[1:] in found for label in labels)
        assert all((root / file).is_file() for key in ("srcs", "data") for file in values.get(key, []) if not file.startswith(":"))
    owned = [file for values in found.values() if values["rule"] == "py_library" for file in values.get("srcs", [])]
    assert len(owned) == len(set(owned))
    assert {path.relative_to(root).as_posix() for path in (root / "tinykit").rglob("*.py")} <= set(owned)
    done: set[str] = set()
    waiting = set(found)
    while waiting:
        ready = {name for name in waiting if all(dep[1:] in done for dep in found[name].get("deps", []) if dep.startswith(":"))}
        assert ready, f"circle among {sorted(waiting)}"
        done |= ready
        waiting -= ready


def test_dependencies_are_those_of_the_imports(tree):
    found = rules(make_build.build_text(tree))
    check_consistent(tree, found)
    assert found["graph"]["deps"] == [":tinykit", "@numpy"]
    assert found["graph_passes"]["deps"] == [":graph", ":tinykit", "@pyyaml"]
    assert found["tests_graph_test_ir"]["deps"] == [":graph", ":tests_shared", ":tinykit", "@hypothesis", "@pytest"]
    assert found["tests_test_cli"]["deps"] == [":tests_shared", ":tinykit", ":train_lib", "@pytest"]
    assert found["tests_shared"]["testonly"] is True


def test_a_circle_shares_its_files(tree):
    found = rules(make_build.build_text(tree))
    assert found["recipe"]["deps"] == found["steps"]["deps"] == [":recipe_sources", ":steps_sources"]
    assert found["recipe_sources"]["srcs"] == ["tinykit/recipe/__init__.py", "tinykit/recipe/runner.py"]
    assert found["steps_sources"]["deps"] == [":tinykit", "@keras"]


def test_programs_have_binaries(tree):
    found = rules(make_build.build_text(tree))
    binaries = {name: values["main"] for name, values in found.items() if values["rule"] == "py_binary"}
    assert binaries == {"train": "tinykit/train.py", "search_main": "tinykit/search/__main__.py"}
    assert found["train"]["deps"] == [":train_lib"]
    assert found["train_lib"]["deps"] == [":recipe", ":tinykit", "@absl-py"]


def test_data_files_belong_to_their_package(tree):
    found = rules(make_build.build_text(tree))
    assert found["report"]["data"] == ["tinykit/report/page.html"]
    assert found["recipe_sources"]["data"] == ["tinykit/recipe/notes/deep.txt"]
    assert found["configs"]["srcs"] == ["configs/digits.yaml"]


def test_check_fails_when_stale_and_says_what_mends_it(tree, capsys):
    arguments = ["--root", str(tree)]
    assert make_build.main([*arguments, "--check"]) == 1
    assert "python tools/make_build.py" in capsys.readouterr().err
    assert not (tree / "BUILD").exists()
    assert make_build.main(arguments) == 0
    assert make_build.main([*arguments, "--check"]) == 0
    (tree / "tinykit/graph/ir.py").write_text("import numpy, scipy\n")
    before = (tree / "BUILD").read_text()
    assert make_build.main([*arguments, "--check"]) == 1
    assert (tree / "BUILD").read_text() == before
    assert make_build.main(arguments) == 0
    assert make_build.main([*arguments, "--check"]) == 0
    assert '"scipy"' in (tree / "BUILD").read_text()


def test_caches_and_hidden_files_change_nothing(tree):
    before = make_build.build_text(tree)
    for name in ("tinykit/graph/__pycache__/ir.cpython-311.pyc", "tinykit/.tmp-1-x.py", "tinykit/report/.hidden", "tests/__pycache__/x.py"):
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("import nonsense")
    assert make_build.build_text(tree) == before


def test_this_tree_makes_a_consistent_file():
    check_consistent(ROOT, rules(make_build.build_text(ROOT)))
