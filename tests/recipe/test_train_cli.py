"""The command line: help, errors without traceback and without TensorFlow, flag files, the schema."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tinykit
from tinykit.train import exit_code

ROOT = Path(tinykit.__file__).resolve().parent.parent


def cli(*arguments, cwd, environment=None):
    command = [sys.executable, "-m", "tinykit.train", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_misspelt_key_is_told_fast_and_without_tensorflow(tmp_path):
    blocker = tmp_path / "block"
    for package in ("tensorflow", "keras"):
        (blocker / package).mkdir(parents=True)
        (blocker / package / "__init__.py").write_text("raise RuntimeError('imported too early')\n")
    begun = time.monotonic()
    code, out, error = cli(
        "--config=digits", "--set=data.nmae=3", "--set=recipe=float", "--set=steps.train.epoks=1", cwd=tmp_path,
        environment={"PYTHONPATH": f"{blocker}:{ROOT}"},
    )  # fmt: skip
    assert (code, out) == (2, "")
    assert error.splitlines() == [
        "error: --set data.nmae: unknown key 'nmae' in data; did you mean 'name'?",
        "error: --set steps.train.epoks: unknown key 'epoks' in train; did you mean 'epochs'?",
    ]
    assert time.monotonic() - begun < 10, "about half a second on an idle machine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--confi=digits",), "unknown flag --confi; did you mean --config?"),
        (("--config=digitz",), "no config 'digitz'; did you mean 'digits'?"),
        ((), "--config is missing; shipped configurations: ad, cifar10, digits, "),
        (("digits.yaml",), "unexpected argument 'digits.yaml'; did you mean --config=digits.yaml?"),
        (("--config=digits", "--seed=-1"), "flag --seed"),
    ],
)
def test_wrong_flags(tmp_path, arguments, message):
    code, out, error = cli(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert message in error
    assert error.startswith("error: ")


def test_help_has_examples_and_ends_with_0(tmp_path):
    code, out, _ = cli("--help", cwd=tmp_path)
    assert code == 0
    assert "python -m tinykit.train --config digits" in out
    assert "--workdir" in out


def test_flags_from_a_file(tmp_path):
    (tmp_path / "job.flags").write_text("--config=digits\n--set=recipe=float\n--set=seed=-1\n--set=data.nmae=1\n")
    code, _, error = cli("--flagfile=job.flags", cwd=tmp_path)
    assert code == 2
    assert len(error.splitlines()) == 2


def test_flags_from_a_file_that_is_no_text(tmp_path):
    (tmp_path / "job.flags").write_bytes(b"\xff\xfe\x00")
    code, _, error = cli("--flagfile=job.flags", cwd=tmp_path)
    assert code == 2 and error.startswith("error: --flagfile: expected UTF-8 text: ")


def test_errors_of_the_system_are_told_without_a_traceback(capsys):
    def full():
        raise OSError(28, "No space left on device", "w/model.keras")

    assert exit_code(full) == 2
    assert capsys.readouterr().err.startswith("error: [Errno 28] No space left on device: 'w/model.keras'")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">/dev/full", "| head -1"])
def test_output_that_goes_nowhere(tmp_path, redirection):
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = f"'{sys.executable}' -m tinykit.train --print_schema {redirection}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == (2 if "full" in redirection else 0)
    assert "Traceback" not in done.stderr


def test_print_schema(tmp_path):
    code, out, _ = cli("--print_schema", cwd=tmp_path)
    assert code == 0
    schema = json.loads(out)
    assert schema["title"] == "tinykit configuration"
    assert "epochs" in schema["properties"]["steps"]["properties"]["train"]["properties"]
