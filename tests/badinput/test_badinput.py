"""Every kind of bad input, through the program that a user starts: one line per problem, exit code 2, nothing half-written."""

import os
import sys
from pathlib import Path

import badinput_checker as checker
import pytest
from badinput_catalogue import kinds
from badinput_kind import Kind

KINDS = kinds()


class _Servers:
    """The forking servers, started when they are first needed."""

    def __init__(self) -> None:
        self._running: dict[str, checker.Server] = {}
        self._broken: set[str] = set()

    def __getitem__(self, mode: str) -> checker.Server:
        if mode in self._broken:
            pytest.fail(f"the {mode} server did not start")
        if mode not in self._running:
            self._broken.add(mode)
            self._running[mode] = checker.Server(mode)
            self._broken.remove(mode)
        return self._running[mode]

    def close(self) -> None:
        for server in self._running.values():
            server.close()


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    """Relative paths mean the test's own folder, also where TINYKIT_DATA is set for other tests."""
    monkeypatch.delenv("TINYKIT_DATA", raising=False)


@pytest.fixture(scope="module")
def servers():
    running = _Servers()
    yield running
    running.close()


def attempt(kind: Kind, folder: Path, scratch: Path, servers: _Servers) -> tuple[checker.Result, list[str]]:
    """Makes the input, runs the program, and says what it did wrong."""
    try:
        arguments = kind.make(folder)
        return _attempt(kind, arguments, folder, scratch, servers)
    finally:
        kind.undo(folder)


def _attempt(kind: Kind, arguments, folder: Path, scratch: Path, servers: _Servers) -> tuple[checker.Result, list[str]]:
    before = checker.tree(folder)
    module = f"tinykit.{kind.program}"
    if kind.alone:
        result = checker.run_alone([sys.executable, "-m", module, *arguments], folder, scratch, kind.environment)
    else:
        server = servers["heavy" if kind.heavy else "light"]
        result = checker.run_forked(
            server, module, arguments, folder, scratch, environment=kind.environment, file_limit=kind.file_limit, output=kind.out
        )
    faults = checker.faults_of(result, kind.expected)
    faults += checker.left_behind(folder, before, kind.workdir, kind.leaves)
    faults += [f"left behind among the temporary files: {name}" for name in os.listdir(scratch / "tmp")]
    return result, faults


@pytest.mark.parametrize("kind", KINDS, ids=[f"{kind.group}-{kind.name}".replace(" ", "_") for kind in KINDS])
def test_kind(kind, tmp_path, servers):
    if reason := kind.skip():
        pytest.skip(reason)
    folder, scratch = tmp_path / "here", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    result, faults = attempt(kind, folder, scratch, servers)
    if os.environ.get("BADINPUT_SHOW"):
        print(f"\n### {kind.group}: {kind.name} -> {result.code}\n{result.err}", file=sys.__stdout__)
    assert not faults, "\n".join([*faults, "--- standard error", result.err, "--- standard output", result.out])


def test_a_run_that_a_full_disk_ended_is_resumed(tmp_path, servers):
    """The same command, when there is room again."""
    from badinput_places import training

    folder, scratch = tmp_path / "here", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    arguments = training(folder)
    codes = [
        checker.run_forked(servers["heavy"], "tinykit.train", arguments, folder, scratch, environment={}, file_limit=limit).code
        for limit in (12_000, None)
    ]
    assert codes == [2, 0] and (folder / "w" / "DONE").is_file() and (folder / "w" / "model.keras").is_file()
    assert not [file for file in folder.rglob("*") if file.name.startswith(".tmp")]


def test_there_are_many_kinds():
    assert len(KINDS) >= 70
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(kind.why for kind in KINDS if kind.expected.code != 2)
    assert all(len(kind.expected.says) >= 2 for kind in KINDS), "the place, and what was expected or what to do"
