"""Python, and the packages that tinykit declares: installed, of a version that it takes, and importable."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from tinykit.health.check import Check, pip_install, run

LEAST_PYTHON = (3, 11)
_IMPORT_SECONDS = 180.0
_MODULES = {"absl-py": "absl", "grpcio": "grpc", "pillow": "PIL", "scikit-learn": "sklearn", "PyYAML": "yaml", "pyelftools": "elftools"}
"""Modules that are not called like their distribution, but for '-' and '_'."""
_LOADED = {
    "tensorflow": "import tensorflow; print(tensorflow.__version__)",
    "keras": "import keras; print(keras.__version__, keras.backend.backend())",
    "tflite-micro": "from tflite_micro import runtime; print('ok')",
}
"""What is started to see whether it works; finding a package says little of one with a library of its own."""
_OPTIONAL = {
    "tflite-micro": "compares with TensorFlow Lite Micro's own interpreter; without it that comparison is left out and said so",
    "ziglang": "a compiler for boards and for this computer; another one stands in (below)",
    "pyserial": "serial ports: boards, and emulated boards behind a pseudo-terminal",
    "pyocd": "flashes boards with --flash; without it the command of another tool is printed",
}


@dataclass(frozen=True)
class Requirement:
    """A distribution that tinykit declares.

    Attributes:
        name: of the distribution.
        versions: comparisons, as '>=2.20,<2.22'.
        applies: it is meant for this system.
    """

    name: str
    versions: str
    applies: bool = True


_ELSEWHERE = (
    "absl-py capstone flatbuffers grpcio jinja2 keras keras-tuner numpy pillow pydantic pyelftools pyserial PyYAML rich scikit-learn scipy "
    "tensorboard tensorflow tensorflow-model-optimization tensorly tf_keras threadpoolctl tflite-micro unicorn ziglang"
).split()
"""The same without versions, for a tinykit that was not installed but put on the path, or whose sources are newer than its installation."""


def requirements() -> list[Requirement]:
    """What tinykit's own metadata declare, extras left out."""
    try:
        declared = metadata.requires("tinykit") or []
    except metadata.PackageNotFoundError:
        declared = []
    found = []
    for text in declared:
        body, _, marker = text.partition(";")
        match = re.match(r"([A-Za-z0-9._-]+)\s*(.*)", body.strip())
        if match and "extra ==" not in marker:
            found.append(Requirement(match[1], match[2].strip(" ()"), not marker or _is_linux_x86()))
    known = {requirement.name.lower() for requirement in found}
    return found + [Requirement(name, "", name != "tflite-micro" or _is_linux_x86()) for name in _ELSEWHERE if name.lower() not in known]


def _is_linux_x86() -> bool:
    """The only marker that setup.cfg has."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def satisfies(version: str, comparisons: str) -> bool:
    """Whether `version` meets comparisons as '>=2.20,<2.22'; what cannot be read is let through, for pip will say."""
    for comparison in filter(None, (part.strip() for part in comparisons.split(","))):
        match = re.fullmatch(r"(>=|<=|==|<|>|!=|~=)\s*([0-9][\w.]*)", comparison)
        if match is None:
            continue
        least, wanted = _numbers(version), _numbers(match[2])
        width = max(len(least), len(wanted))
        a, b = least + (0,) * (width - len(least)), wanted + (0,) * (width - len(wanted))
        holds = {">=": a >= b, "<=": a <= b, "==": version == match[2] or a == b, "<": a < b, ">": a > b, "!=": a != b, "~=": a >= b}
        if not holds[match[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,18}", version.partition("+")[0])[:6])


def python_checks() -> Iterator[Check]:
    """The interpreter and the system."""
    good = sys.version_info[:2] >= LEAST_PYTHON
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    least = ".".join(map(str, LEAST_PYTHON))
    yield Check("python", "Python", "ok" if good else "broken", True, found, None if good else f"install Python {least} or newer")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        yield Check(
            "python", "KERAS_BACKEND", "broken", True, backend, "unset KERAS_BACKEND", "tinykit trains on Keras's TensorFlow backend"
        )


def package_checks(quick: bool = False) -> Iterator[Check]:
    """Declared packages, then optional ones; `quick`: nothing is imported."""
    declared = requirements()
    for requirement in declared:
        if requirement.applies:
            yield package_check(requirement, needed=requirement.name.lower() not in _OPTIONAL, quick=quick)
    names = {requirement.name.lower() for requirement in declared}
    for name in ("pyserial", "pyocd"):
        if name not in names:
            yield package_check(Requirement(name, ""), needed=False, quick=True)


def package_check(requirement: Requirement, *, needed: bool, quick: bool) -> Check:
    """One package."""
    name, text = requirement.name, f"{requirement.name}{requirement.versions}"
    why, mend = _OPTIONAL.get(name.lower(), ""), pip_install(text)
    try:
        version = metadata.version(name)
        there = importlib.util.find_spec(_module(name)) is not None
    except (metadata.PackageNotFoundError, ModuleNotFoundError, ValueError):
        return Check("packages", name, "missing", needed, "not installed", mend, why)
    if not there:
        return Check("packages", name, "broken", needed, f"{version}, without its module {_module(name)}", f"{mend} --force-reinstall", why)
    if not satisfies(version, requirement.versions):
        return Check("packages", name, "broken", needed, f"{version}; expected {requirement.versions}", mend, why)
    if name in _LOADED and not quick:
        works, words = run([sys.executable, "-c", _LOADED[name]], _IMPORT_SECONDS)
        if not works:
            return Check("packages", name, "broken", needed, f"{version}; cannot be imported: {words}", f"{mend} --force-reinstall", why)
    return Check("packages", name, "ok", needed, version)


def _module(name: str) -> str:
    special = {"pyserial": "serial", "ziglang": "ziglang", "tensorflow-model-optimization": "tensorflow_model_optimization"}
    return special.get(name.lower()) or _MODULES.get(name) or name.replace("-", "_")
