"""The checker itself can fail: programs that do one thing wrong are caught, and one that does everything right is not."""

import subprocess
import sys
from pathlib import Path

import badinput_checker as checker
import pytest
from badinput_catalogue import BEGIN, END, PAGE, kinds, page_with, table

GOOD = """\
import sys
print("error: c.yaml:3: unknown key 'sed'; did you mean 'seed'?", file=sys.stderr)
sys.exit(2)
"""
EXPECTED = checker.Expected(says=("c.yaml:3", "did you mean 'seed'?"))


def faults(tmp_path: Path, program: str, expected: checker.Expected = EXPECTED, workdir: str | None = None, leaves=()) -> str:
    """What the checker finds about a program that runs in a folder with a finished run."""
    folder, scratch = tmp_path / "here", tmp_path / "scratch"
    (folder / "run").mkdir(parents=True)
    scratch.mkdir()
    (folder / "run" / "metrics.json").write_text("{}")
    (folder / "run" / "lock").write_text("1")
    before = checker.tree(folder)
    result = checker.run_alone([sys.executable, "-c", program], folder, scratch, {})
    return "; ".join(checker.faults_of(result, expected) + checker.left_behind(folder, before, workdir, leaves))


def test_a_good_program_is_not_blamed(tmp_path):
    assert faults(tmp_path, GOOD) == ""


PRINT = "import sys; print({!r}, file=sys.stderr); "
WRITE = "from pathlib import Path; Path({!r}).write_text('x')\n" + GOOD


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("{}['key']", "a traceback"),
        ("{}['key']", "exit code 1, expected 2"),
        ("import sys; print('Traceback (most recent call last):')\n" + GOOD, "a traceback"),
        (GOOD.replace("exit(2)", "exit(1)"), "exit code 1, expected 2"),
        (GOOD.replace("exit(2)", "exit(0)"), "exit code 0, expected 2"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9, expected 2"),
        (PRINT.format("error: wrong") + GOOD, "2 lines begin with 'error: ', expected 1"),
        (PRINT.format("Keras: it went wrong") + GOOD, "of another form than"),
        (PRINT.format("  and this besides") + GOOD, "lines that belong to no problem of their own"),
        ("import warnings; warnings.warn('old')\n" + GOOD, "of another form than"),
        (GOOD.replace("error: ", ""), "0 lines begin with 'error: ', expected 1"),
        (GOOD.replace("file=sys.stderr", "file=sys.stdout"), "an error on standard output"),
        (GOOD.replace("c.yaml:3", "c.yaml"), "does not say 'c.yaml:3'"),
        (GOOD.replace("; did you mean 'seed'?", ""), "does not say \"did you mean 'seed'?\""),
        (WRITE.format("run/.tmp-12-model.keras"), "left behind: run/.tmp-12-model.keras"),
        (WRITE.format("model.tflite"), "left behind: model.tflite"),
        (WRITE.format("run/DONE"), "left behind: run/DONE"),
        (WRITE.format("run/metrics.json"), "changed: run/metrics.json"),
        (WRITE.format("run/lock"), "changed: run/lock"),
        ("from pathlib import Path; Path('run/metrics.json').unlink()\n" + GOOD, "removed: run/metrics.json"),
        ("import os; os.mkdir('out')\n" + GOOD, "left behind: out"),
    ],
)
def test_a_program_that_does_one_thing_wrong_is_caught(tmp_path, program, fault):
    assert fault in faults(tmp_path, program)


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("run/command.txt", ""),
        ("run/lock", ""),
        ("run/metrics.jsonl", ""),
        ("run/.tmp-12-env.json", "left behind"),
        ("run/DONE", "left behind"),
        ("run/model.keras", "left behind"),
        ("env.json", "left behind"),
    ],
)
def test_a_run_directory_may_hold_whole_records_and_no_more(tmp_path, file, fault):
    found = faults(tmp_path, WRITE.format(file), workdir="run", leaves=("metrics.jsonl",))
    assert fault in found and bool(found) == bool(fault)


def test_half_a_record_is_caught(tmp_path):
    with pytest.raises(ValueError):
        faults(tmp_path, WRITE.format("run/env.json"), workdir="run")


def test_details_are_taken_where_they_are_expected(tmp_path):
    program = GOOD + ""
    program = program.replace("sys.exit", "print('  seed: 1 before, 2 now', file=sys.stderr)\nsys.exit")
    assert faults(tmp_path, program, checker.Expected(details=True, says=("seed: 1 before",))) == ""


def test_the_server_forks_programs_with_their_exit_codes(tmp_path):
    """Exit codes, streams, tracebacks, the limit of a file's size, and a package that must not be imported."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name, text in {
        "fine": "print('hello')",
        "ends": "import sys; sys.exit(3)",
        "breaks": "{}['key']",
        "imports": "import tensorflow",
        "writes": "with open('file', 'w') as stream:\n    stream.write('x' * 5000)",
    }.items():
        (folder / f"program_{name}.py").write_text(text)
    server = checker.Server("light")
    try:
        results = {}
        for name in ("fine", "ends", "breaks", "imports", "writes"):
            results[name] = checker.run_forked(server, f"program_{name}", [], folder, tmp_path, environment={}, file_limit=4000)
    finally:
        server.close()
    assert [results[name].code for name in ("fine", "ends", "breaks", "imports", "writes")] == [0, 3, 1, 1, 1]
    assert results["fine"].out == "hello\n"
    assert (
        "KeyError" in results["breaks"].err and "imported too early" in results["imports"].err and "File too large" in results["writes"].err
    )


def test_the_page_lists_the_kinds():
    """Made by `python tests/badinput/badinput_catalogue.py`."""
    text = PAGE.read_text(encoding="utf-8")
    assert BEGIN in text and END in text
    assert page_with(text) == text, "docs/errors.md is not of today: python tests/badinput/badinput_catalogue.py"
    assert table().count("\n") == len(kinds()) + 1


def test_the_catalogue_is_a_program(tmp_path):
    """It finds its modules from any folder."""
    code = f"import sys; sys.path.insert(0, {str(checker.HERE)!r}); import badinput_catalogue; print(len(badinput_catalogue.kinds()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=None)
    assert int(done.stdout) == len(kinds())
