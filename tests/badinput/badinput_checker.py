"""Runs one kind of bad input and says what the program did wrong: its exit code, its lines, what it left behind."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SECONDS = 120

RECORDS = frozenset({"command.txt", "config.resolved.yaml", "env.json", "inputs.json", "QUICKTEST", "lock"})
"""What a run directory may hold of a run that never began its first step: whole files that say what was asked for. None is a result."""


@dataclass(frozen=True)
class Result:
    """How a program ended.

    Attributes:
        code: its exit code; negative: ended by that signal.
        out, err: what it wrote.
    """

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Expected:
    """How a program must end.

    Attributes:
        code: its exit code.
        problems: lines that begin with 'error: '.
        details: whether indented lines may follow them (each difference of two configurations, each way to save memory).
        says: what the lines must hold: the place, and what was expected or what to do.
    """

    code: int = 2
    problems: int = 1
    details: bool = False
    says: Sequence[str] = field(default_factory=tuple)


def tree(folder: Path) -> dict[str, str]:
    """Every entry below a folder: relative path -> 'folder', 'link', 'special', or the hash of its bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "folder"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "special"
    return found


def left_behind(folder: Path, before: Mapping[str, str], workdir: str | None, leaves: Sequence[str] = ()) -> list[str]:
    """What changed below `folder` and must not have.

    Args:
        before: `tree` of it before the program ran.
        workdir: the run directory, relative; whole RECORDS may appear there, and its lock may change.
        leaves: patterns of what else may appear there; never DONE, nor an unfinished file.
    """
    after = tree(folder)
    faults = [f"removed: {name}" for name in before if name not in after]
    parents = set() if workdir is None else {str(part) for part in (Path(workdir), *Path(workdir).parents)}
    for name, content in after.items():
        path = Path(name)
        training = workdir is not None and any(fnmatch(name, f"{workdir}/{pattern}") for pattern in leaves)
        record = workdir is not None and str(path.parent) == str(Path(workdir)) and path.name in RECORDS
        if name in before:
            if before[name] != content and not (record and path.name == "lock"):
                faults.append(f"changed: {name}")
        elif content == "folder" and name in parents:
            continue
        elif not record and (not training or path.name.startswith(".tmp") or path.name == "DONE"):
            faults.append(f"left behind: {name}")
        elif path.suffix == ".json":
            json.loads((folder / name).read_text())  # whole, or not there
    return faults


def faults_of(result: Result, expected: Expected) -> list[str]:
    """What is wrong with an exit code and with what a program said."""
    faults = []
    if result.code != expected.code:
        faults.append(f"exit code {result.code}, expected {expected.code}")
    if "Traceback" in result.err + result.out:
        faults.append("a traceback")
    lines = result.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    details = [line for line in lines if line.startswith("  ")]
    if len(errors) != expected.problems:
        faults.append(f"{len(errors)} lines begin with 'error: ', expected {expected.problems}")
    if details and not expected.details:
        faults.append("lines that belong to no problem of their own")
    if lines and not lines[0].startswith("error: ") or len(errors) + len(details) != len(lines):
        faults.append("lines on standard error of another form than 'error: ...'")
    if any(line.startswith("error") for line in result.out.splitlines()):
        faults.append("an error on standard output")
    faults += [f"does not say {word!r}" for word in expected.says if word not in "\n".join(errors + details)]
    return faults


class Server:
    """A process that runs command lines: see badinput_server.py.

    Args:
        mode: 'light' or 'heavy'.
    """

    def __init__(self, mode: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("TINYKIT_DATA", None)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "badinput_server.py"), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=HERE,
        )
        if self._read() != "ready":
            raise RuntimeError(f"the {mode} server did not start")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, request: dict[str, Any]) -> int:
        """The exit code of one command line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def run_forked(
    server: Server,
    module: str,
    arguments: Sequence[str],
    folder: Path,
    scratch: Path,
    *,
    environment: Mapping[str, str | None],
    file_limit: int | None = None,
    output: str | None = None,
) -> Result:
    """Runs a module in a process forked from `server`; `scratch` takes its standard streams and its temporary files,
    unless `output` is where standard output goes."""
    out, err, temporary = scratch / "out" if output is None else Path(output), scratch / "err", scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    code = server.run(
        {
            "module": module,
            "arguments": list(arguments),
            "folder": str(folder),
            "out": str(out),
            "err": str(err),
            "environment": {"TMPDIR": str(temporary), **environment},
            "file_limit": file_limit,
            "seconds": SECONDS,
        }
    )
    return Result(code, out.read_text(errors="replace") if output is None else "", err.read_text(errors="replace"))


def run_alone(command: Sequence[str], folder: Path, scratch: Path, environment: Mapping[str, str | None]) -> Result:
    """Runs a command as a user does, in a process of its own."""
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    variables.pop("TINYKIT_DATA", None)
    for name, value in environment.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, timeout=SECONDS, check=False)
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
