"""The main job, as a newcomer types it: one command, real handwritten digits, an exact int8 network."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FILES = (
    "command.txt config.resolved.yaml env.json metrics.json metrics.jsonl model.keras model.tflite model_data.h model_data.cc "
    "op_resolver.h layers.csv arena.json golden.npz report.html DONE steps/01_train/DONE steps/02_quantize/DONE"
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


def test_accuracy_parity_and_time(run):
    folder, _ = run
    metrics = json.loads((folder / "runs/digits/metrics.json").read_text())
    assert metrics["data"]["synthetic"] is False and metrics["data"]["test_samples"] == 450
    assert metrics["accuracy"]["integer"] >= 0.97
    assert metrics["accuracy"]["float"] - metrics["accuracy"]["integer"] <= 0.005
    parity = metrics["parity"]
    assert (parity["keras_vs_reference"], parity["tflm_vs_reference"], parity["samples"]) == (0, 0, 450)
    assert metrics["budget_met"] is True and "quicktest" not in metrics
    assert metrics["flash"]["total"] is None and metrics["instructions"] is None


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
