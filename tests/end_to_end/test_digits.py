"""The main job, as a newcomer types it: one command, real handwritten digits, an exact int8 network."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FILES = (
    "command.txt config.resolved.yaml env.json metrics.json metrics.jsonl model.keras model.tflite model_data.h model_data.cc "
    "op_resolver.h layers.csv arena.json golden.npz report.html DONE steps/01_train/DONE steps/02_quantize/DONE "
    "engine/digits.c engine/digits.h engine/digits_selftest.c firmware.elf firmware/linker.ld monitor.elf monitor/linker.ld classes.json"
).split()


def tinykit(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tinykit.train", *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    done = tinykit(folder, "--config", "digits.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


def test_accuracy_parity_and_time(run, tally):
    folder, _ = run
    metrics = json.loads((folder / "runs/digits/metrics.json").read_text())
    assert metrics["data"]["synthetic"] is False and metrics["data"]["test_samples"] == 450
    assert metrics["accuracy"]["integer"] >= 0.97
    assert metrics["accuracy"]["float"] - metrics["accuracy"]["integer"] <= 0.005
    parity = metrics["parity"]
    assert parity == {"keras_vs_reference": 0, "tflm_vs_reference": 0, "engine_vs_reference": 0, "samples": 450}
    assert metrics["budget_met"] is True and "quicktest" not in metrics
    assert _nulls(metrics) == ["storage"]  # no weights are worth coding here
    assert metrics["board"] == "nano33ble" and metrics["flash"]["total"] == metrics["flash"]["weights"] + metrics["flash"]["code"]
    ram = metrics["ram"]
    assert ram["total"] == ram["arena"] + ram["static"] + ram["stack"] and ram["stack"] > 0
    assert metrics["cycles"] > metrics["instructions"] > metrics["macs"]
    estimated = json.loads((folder / "runs/digits/steps/02_quantize/report.json").read_text())["footprint"]["ram_bytes"]
    assert abs(estimated - ram["total"]) < 300  # the ledger's estimate is of the program that is built in the end


def _nulls(values: dict, prefix: str = "") -> list[str]:
    """Keys that have no value."""
    found = [prefix + key for key, value in values.items() if value is None]
    return found + [k for key, value in values.items() if isinstance(value, dict) for k in _nulls(value, f"{prefix}{key}.")]


def test_the_image_in_the_run_directory_is_what_was_checked(run, tally):
    """firmware.elf again, by hand: the golden inputs on the emulated board give the golden outputs."""
    from tinykit.boards.emulator import EmulatedBoard
    from tinykit.boards.image import Image
    from tinykit.boards.profiling import run_inference
    from tinykit.boards.table import board
    from tinykit.export.golden import read_golden

    folder, _ = run
    golden = read_golden(folder / "runs/digits/golden.npz")
    arena = json.loads((folder / "runs/digits/arena.json").read_text())["engine"]
    emulated = EmulatedBoard(board("nano33ble"), Image.load(folder / "runs/digits/firmware.elf"))
    vector, memory = (emulated.image.symbol(name).address for name in ("tk_selftest_input", "tk_arena"))
    output = arena["layers"][-1]
    offset, nbytes = output["tensors"][[name for name, place in output["tensors"].items() if place[1] == 10][-1]]
    wrong = 0
    for x, y in zip(golden.input, golden.output):
        emulated.write(vector, x.tobytes())
        run_inference(emulated)
        wrong += int((np.frombuffer(emulated.read(memory + offset, nbytes), np.int8) != y).sum())
    tally("emulated board vs golden vectors", wrong, golden.output.size)
    assert wrong == 0


def test_every_output_is_there(run):
    folder, done = run
    assert [f for f in FILES if not (folder / "runs/digits" / f).exists()] == []
    assert done.stderr.strip() == ""
    assert "Traceback" not in done.stdout


def test_golden_vectors_are_what_tflm_computes(run):
    from tinykit.export.golden import read_golden
    from tinykit.verify.tflm import TflmRunner

    folder, _ = run
    golden = read_golden(folder / "runs/digits/golden.npz")
    theirs = TflmRunner((folder / "runs/digits/model.tflite").read_bytes()).run(golden.input)[0]
    assert len(golden.input) == 16 and np.array_equal(theirs, golden.output)


def test_the_keras_file_predicts_what_the_tflite_computes(run):
    import keras

    from tinykit.models import load_model
    from tinykit.verify.tflm import TflmRunner

    folder, _ = run
    model = load_model(folder / "runs/digits/model.keras")
    assert isinstance(model, keras.Model)
    x = np.random.default_rng(0).integers(0, 17, (50, 8, 8, 1))
    stored = (x * np.float64(0.0625) * (1 / np.float64(np.float32(0.0625))) - 128).astype(np.int8)
    theirs = TflmRunner((folder / "runs/digits/model.tflite").read_bytes()).run(stored)[0]
    assert np.array_equal(model.predict((x * 0.0625).astype(np.float32), verbose=0) * 256 - 128, theirs)


def test_the_same_command_again_changes_nothing(run):
    folder, _ = run
    before = {f: (folder / "runs/digits" / f).read_bytes() for f in FILES}
    again = tinykit(folder, "--config", "digits.yaml")
    assert again.returncode == 0 and "complete" in again.stdout
    assert {f: (folder / "runs/digits" / f).read_bytes() for f in FILES} == before


def test_another_configuration_in_the_same_directory_is_refused(run):
    folder, _ = run
    refused = tinykit(folder, "--config", "digits.yaml", "--set", "steps.train.epochs=3")
    assert refused.returncode == 2
    assert "train.epochs: 60 before, 3 now" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("board", ["nano33ble", "disco_f746ng"])
def test_the_run_becomes_an_arduino_library_that_knows_the_digits(run, board, tmp_path, tally):
    """deploy, then arduino-builder, then the emulated board: the sketch prints the class of every golden sample."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "packaging"))
    import arduino_builds as arduino

    from tinykit.deploy import deploy
    from tinykit.export.golden import read_golden

    arduino.need_tools()
    workdir = run[0] / "runs/digits"
    libraries = deploy("arduino", board, workdir=workdir, out=tmp_path / "package", log=lambda line: None)
    hardware = arduino.make_hardware(tmp_path / "hardware")
    examples = libraries / "DigitsNet/examples"
    elf = arduino.build_sketch(examples / "SelfTest", libraries, board, hardware, tmp_path / "self_test")
    assert arduino.Running(board, elf).lines()[-1] == "self-test passed: 8 of 8"
    elf = arduino.build_sketch(examples / "SerialInfer", libraries, board, hardware, tmp_path / "serial_infer")
    running = arduino.Running(board, elf)
    assert running.lines() == ["ready digits: send 64 bytes as 128 hexadecimal digits and a line end"]
    golden = read_golden(workdir / "golden.npz")
    answers = [running.ask(sample.tobytes().hex())[1] for sample in golden.input]
    wrong = sum(a != f"largest {out.argmax()} {out.argmax()}" for a, out in zip(answers, golden.output))
    tally(f"digits on the Arduino sketch, emulated {board}", wrong, len(answers))
    assert wrong == 0
