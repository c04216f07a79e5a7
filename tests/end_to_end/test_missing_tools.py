"""Without tflite-micro (there are wheels for one system only) everything works and says what was not measured; without a compiler or the
emulator the error comes before a training does, and names the command that installs what is missing.

What is taken away is hidden from Python's import system by a sitecustomize.py, as if it had never been installed.
"""

import json
import subprocess
import sys

import pytest
from hiding import hiding


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """without(modules, program, arguments...): runs a program that does not see the modules; with `path` also with another PATH."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "bin").mkdir()

    def run(hidden: str, program: str, *arguments: str, empty_path: bool = False) -> subprocess.CompletedProcess:
        environment = hiding(folder / "hides", hidden, folder / "bin" if empty_path else None)
        command = [sys.executable, "-m", f"tinykit.{program}", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False, env=environment)
        assert "Traceback" not in done.stderr
        return done

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def trained(without):
    """A quick run without tflite-micro: (its folder, what it said)."""
    done = without("tflite_micro", "train", "--config", "digits", "--quicktest")
    assert done.returncode == 0, done.stdout + done.stderr
    return without.folder / "runs/digits-quicktest", done


def test_training_without_tflite_micro(trained):
    folder, done = trained
    parity = json.loads((folder / "metrics.json").read_text())["parity"]
    assert parity["tflm_vs_reference"] is None
    assert parity["keras_vs_reference"] == 0 and parity["engine_vs_reference"] == 0 and parity["samples"] > 0
    said = next(line for line in done.stdout.splitlines() if "TFLM" in line)
    assert said.startswith(
        "  note: parity with TFLM was not measured: TFLM's interpreter, tflite-micro, is not installed (No module named "
    )
    assert "pip install tflite-micro==" in said
    assert "parity: TFLM" not in done.stdout
    page = (folder / "report.html").read_text()
    assert "parity with TFLM was not measured: TFLM&#39;s interpreter, tflite-micro, is not installed" in page
    assert "TFLM = reference" in page, "the table of comparisons has the row, not measured"


@pytest.mark.parametrize("program", ["compile", "bench", "profile"])
def test_a_tflite_without_tflite_micro_and_without_starting_tensorflow(without, trained, program):
    arguments = {"compile": ["--out", "built"], "bench": ["--board", "nano33ble"], "profile": []}[program]
    done = without("tflite_micro,ai_edge_litert,keras", program, "--model", str(trained[0] / "model.tflite"), *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_schema_of_the_format_is_needed(without, trained):
    done = without("tflite_micro,ai_edge_litert,tensorflow", "profile", "--model", str(trained[0] / "model.tflite"))
    assert done.returncode == 2
    assert "needs the format's schema" in done.stderr


def test_no_compiler(without, trained):
    missing = "error: toolchain: no compiler for Arm microcontrollers found"
    done = without("ziglang", "train", "--config", "digits", "--workdir", "no_compiler", empty_path=True)
    assert done.returncode == 2
    assert "step 1/" not in done.stdout, "told before the training, not after"
    lines = done.stderr.splitlines()
    assert lines[0].startswith(missing) and "`pip install ziglang` or `sudo apt-get install gcc-arm-none-eabi`" in lines[0]
    assert lines[1].startswith("error: no C compiler for this computer found") and len(lines) == 2
    done = without("ziglang", "compile", "--model", str(trained[0] / "model.tflite"), "--out", "never", empty_path=True)
    assert done.returncode == 2 and done.stderr.startswith(missing)


def test_no_emulator(without, trained):
    done = without("unicorn", "train", "--config", "digits", "--workdir", "no_emulator")
    assert done.returncode == 2 and "step 1/" not in done.stdout
    assert done.stderr == (
        "error: the Python package unicorn, which emulates the boards, is not installed; install it: `pip install unicorn`\n"
    )
    done = without("unicorn", "compile", "--model", str(trained[0] / "model.tflite"), "--out", "never")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the Python module 'unicorn' is not installed; install tinykit again")


def test_a_float_recipe_needs_neither(without):
    done = without(
        "unicorn,ziglang,tflite_micro", "train", "--config", "digits", "--set", "recipe=float", "--quicktest", "--workdir", "float"
    )
    assert done.returncode == 0, done.stderr
