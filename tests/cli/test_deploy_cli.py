"""python -m tinykit.deploy, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "packaging"))
sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402

from tinykit.graph.writer import write_tflite  # noqa: E402

ROOT = Path(__file__).parents[2]


def deploy(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tinykit.deploy", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False, env=environment)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    net = nets.Net(8)
    net.dense(net.input((12,)), out=3)
    path = tmp_path_factory.mktemp("models") / "my wake-word.tflite"
    path.write_bytes(write_tflite(net.done()))
    return path


@pytest.fixture(scope="module")
def package(model) -> Path:
    done = deploy("--model", model, "--target", "arduino", cwd=model.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("symbols begin with my_wake_word_")
    assert lines[1].startswith("checked: 8 golden vectors, every output byte right; flash ") and lines[1].endswith("emulated(nano33ble)")
    assert lines[2] == "done: deploy/my_wake_word/arduino" and lines[3].startswith("next: Arduino IDE: ")
    return model.parent / "deploy/my_wake_word/arduino"


def test_the_package_is_complete(package):
    names = {str(p.relative_to(package)) for p in package.rglob("*") if p.is_file()}
    library = "MyWakeWordNet"
    assert {f"{library}.zip", f"{library}/library.properties", f"{library}/src/{library}.h", f"{library}/README.md"} <= names
    assert {f"{library}/examples/{name}/{name}.ino" for name in ("SerialInfer", "SelfTest")} <= names
    assert not [name for name in names if ".tmp" in name]
    assert "{{" not in "".join(p.read_text() for p in (package / library).rglob("*") if p.is_file())


def test_no_machine_path_is_written(package):
    for path in package.rglob("*"):
        if path.is_file() and path.suffix != ".zip":
            assert str(package.parent.parent.parent) not in path.read_text() and str(ROOT) not in path.read_text()


def test_the_same_model_gives_the_same_bytes(model, package, tmp_path):
    done = deploy("--model", model, "--target", "arduino", "--out", tmp_path / "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for path in package.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(package)).read_bytes(), path


def test_edits_survive_and_force_saves_them(model, package):
    sketch = package / "MyWakeWordNet/examples/SelfTest/SelfTest.ino"
    original = sketch.read_text()
    sketch.write_text("// mine\n" + original)
    again = deploy("--model", model, "--target", "arduino", cwd=model.parent)
    assert again.returncode == 0 and "kept: MyWakeWordNet/examples/SelfTest/SelfTest.ino, which was edited" in again.stdout
    assert sketch.read_text().startswith("// mine\n")
    forced = deploy("--model", model, "--target", "arduino", "--force", cwd=model.parent)
    assert forced.returncode == 0 and "yours is MyWakeWordNet/examples/SelfTest/SelfTest.ino.bak" in forced.stdout
    assert sketch.read_text() == original and sketch.with_name("SelfTest.ino.bak").read_text().startswith("// mine\n")
    sketch.with_name("SelfTest.ino.bak").unlink()


def test_bad_input_is_told_without_a_traceback(model, tmp_path):
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    (tmp_path / "run").mkdir()
    flags = {  # as a user types them
        ("--model", model): "--target is missing",
        ("--target", "arduino"): "expected one of --workdir=FOLDER",
        ("--model", "none.tflite", "--target", "cmake"): "none.tflite: no such file",
        ("--model", model, "--target", "arduino", "--out", "broken.tflite"): "expected a folder that can be written to",
    }
    for arguments, message in flags.items():
        done = deploy(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, (arguments, done.stderr)
    assert {p.name for p in tmp_path.iterdir()} == {"broken.tflite", "run"}


@pytest.mark.parametrize(
    "changed,message",
    [
        ({"workdir": Path("run")}, "expected one of --workdir=FOLDER"),
        ({"target": "ardunio"}, "did you mean 'arduino'"),
        ({"board_name": "nano33bel"}, "did you mean 'nano33ble'"),
        ({"board_name": "host"}, "runs no firmware"),
        ({"engine": "tlfm"}, "did you mean 'tflm'"),
        ({"name": "Upper Case"}, "expected lower-case letters"),
        ({"model": Path("broken.tflite")}, "broken.tflite"),
        ({"model": None, "workdir": Path("nowhere")}, "--workdir nowhere: no such folder"),
        ({"model": None, "workdir": Path("run")}, "holds no finished run"),
    ],
)
def test_bad_arguments_are_told_and_nothing_is_written(changed, message, model, tmp_path, monkeypatch):
    from tinykit.deploy import deploy as function
    from tinykit.errors import TinykitError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    (tmp_path / "run").mkdir()
    arguments = {"target": "arduino", "board_name": "nano33ble", "model": model, "log": lambda line: None} | changed
    with pytest.raises(TinykitError) as caught:
        function(**arguments)
    assert message in str(caught.value) and caught.value.exit_code == 2
    assert {p.name for p in tmp_path.iterdir()} == {"broken.tflite", "run"}


def test_a_network_that_does_not_fit_is_refused(tmp_path):
    net = nets.Net(9)
    x = net.conv(net.input((160, 160, 4)), out=16)
    net.dense(net.pool("average", x), out=2)
    (tmp_path / "big.tflite").write_bytes(write_tflite(net.done()))
    done = deploy("--model", "big.tflite", "--target", "arduino", cwd=tmp_path)
    assert done.returncode == 3 and "RAM" in done.stderr and "Traceback" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"big.tflite"}


def test_help_shows_examples_and_needs_no_tensorflow(tmp_path):
    done = deploy("--help", cwd=tmp_path)
    assert done.returncode == 0 and "--target arduino --board nano33ble" in done.stdout
    code = "import sys, tinykit.deploy\nprint([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert shown.stdout.strip() == "[]"
