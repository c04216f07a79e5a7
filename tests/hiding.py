"""A Python that does not see some packages, as if they had never been installed."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
HIDES = """\
import importlib.machinery, os

_hidden, _find = os.environ["HIDDEN"].split(","), importlib.machinery.PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in _hidden else _find(name, path, target)


importlib.machinery.PathFinder.find_spec = find_spec
"""


def hiding(folder: Path, hidden: str, path: Path | None = None) -> dict[str, str]:
    """Environment variables of such a Python.

    Args:
        folder: for its sitecustomize.py.
        hidden: names of packages, with commas between.
        path: the only folder in which programs are looked for; None for the usual ones.
    """
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDES)
    search = {} if path is None else {"PATH": str(path)}
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "HIDDEN": hidden, **search}
