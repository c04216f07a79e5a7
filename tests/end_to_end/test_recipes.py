"""Recipes on real digits beyond the default one: ptq, a float model alone, a user's own file, refusals before training."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from tinykit.graph import ir
from tinykit.graph.reader import read_tflite

L = keras.layers
QUICK = ["--set", "steps.train.epochs=8"]


def tinykit(folder, *arguments):
    command = [sys.executable, "-m", "tinykit.train", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def metrics(folder, name="digits"):
    return json.loads((folder / "runs" / name / "metrics.json").read_text())


def test_ptq_stays_near_the_float_model(tmp_path):
    done = tinykit(tmp_path, "--config", "digits", "--set", "recipe=ptq", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    m = metrics(tmp_path)
    assert m["accuracy"]["float"] - m["accuracy"]["integer"] <= 0.01
    assert m["parity"]["keras_vs_reference"] == 0 and m["parity"]["tflm_vs_reference"] == 0
    assert json.loads((tmp_path / "runs/digits/steps/02_ptq/report.json").read_text())["step"] == "ptq"


def test_a_float_recipe_ends_without_an_integer_network_and_says_so(tmp_path):
    done = tinykit(tmp_path, "--config", "digits", "--set", "recipe=float", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    m = metrics(tmp_path)
    assert m["accuracy"]["integer"] is None and m["parity"]["keras_vs_reference"] is None
    assert not (tmp_path / "runs/digits/model.tflite").exists()
    assert m["tflite_bytes"] is None and m["budget_met"] is None, "no such file was written"
    page = (tmp_path / "runs/digits/report.html").read_text()
    assert "float model" in page and "size of the .tflite file" not in page


def test_a_users_own_model_is_quantised_without_training_it(tmp_path):
    i = L.Input((8, 8, 1))
    x = L.Conv2D(4, 3, activation="relu")(i)
    keras.Model(i, L.Dense(10)(L.Flatten()(x))).save(tmp_path / "mine.keras")
    done = tinykit(tmp_path, "--config", "digits", "--set", "model.path=mine.keras", "--set", "recipe=ptq")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped: model.path" in done.stdout
    assert metrics(tmp_path)["parity"]["tflm_vs_reference"] == 0
    few = tinykit(
        tmp_path, "--config", "digits", "--set", "model.path=mine.keras", "--set", "recipe=ptq", "--set", "check.samples=7", "--workdir=few"
    )
    assert few.returncode == 0, few.stdout + few.stderr
    m = json.loads((tmp_path / "few/metrics.json").read_text())
    assert m["parity"]["samples"] == 7
    assert m["accuracy"] == metrics(tmp_path)["accuracy"], "of the whole test split, however few samples were compared"
    assert m["disagreements"] == metrics(tmp_path)["disagreements"]


def test_a_model_that_does_not_suit_the_data_is_refused(tmp_path):
    i = L.Input((8, 8, 1))
    keras.Model(i, L.Dense(3)(L.Flatten()(i))).save(tmp_path / "three.keras")
    done = tinykit(tmp_path, "--config", "digits", "--set", "model.path=three.keras")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "gives an output of shape [3], but the data have 10 classes: expected [10]" in done.stderr


def test_unsupported_layers_are_all_named_before_any_training(tmp_path):
    i = L.Input((8, 8, 1))
    x = L.Conv2DTranspose(4, 3, name="up")(i)
    x = L.LayerNormalization(name="norm")(x)
    keras.Model(i, L.Dense(10)(L.Flatten()(x))).save(tmp_path / "mine.keras")
    options = ["--set", "model.path=mine.keras", "--set", "steps.train.when=always"]
    done = tinykit(tmp_path, "--config", "digits", *options)
    assert done.returncode == 2
    assert "'up'" in done.stderr and "'norm'" in done.stderr
    assert "epoch 1" not in done.stdout and "Traceback" not in done.stderr


def test_a_budget_that_is_not_met_is_exit_code_3_with_everything_written(tmp_path):
    done = tinykit(tmp_path, "--config", "digits", "--set", "budget.flash=4kB", "--quicktest")
    assert done.returncode == 3, done.stdout + done.stderr
    assert metrics(tmp_path, "digits-quicktest")["budget_met"] is False
    assert (tmp_path / "runs/digits-quicktest/model.tflite").exists()


@pytest.mark.parametrize("switch", ["simplify=false", "tflite.keep_names=true"])
def test_switches_change_the_file_and_no_output(tmp_path, switch):
    done = tinykit(tmp_path, "--config", "digits", "--set", switch, "--quicktest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert metrics(tmp_path, "digits-quicktest")["parity"]["tflm_vs_reference"] == 0
    named = b"conv2d" in (tmp_path / "runs/digits-quicktest/model.tflite").read_bytes()
    assert named == (switch == "tflite.keep_names=true")


def test_half_of_the_work_is_pruned_away_and_the_rest_is_exact(tmp_path):
    settings = ["recipe=prune_quantize", "steps.prune.rounds=2", "steps.prune.epochs=2", "steps.quantize.epochs=1"]
    done = tinykit(tmp_path, "--config", "digits", *QUICK, *(word for s in settings for word in ("--set", s)))
    assert done.returncode == 0, done.stdout + done.stderr
    m, steps = metrics(tmp_path), tmp_path / "runs/digits/steps"
    before, after = (json.loads((steps / name / "report.json").read_text())["footprint"] for name in ("01_train", "02_prune"))
    assert after["macs"] <= before["macs"] / 2 and m["macs"] <= after["macs"]
    assert after["tflite_bytes"] < before["tflite_bytes"] and after["ram_bytes"] <= before["ram_bytes"]
    assert m["parity"] == {**m["parity"], "keras_vs_reference": 0, "tflm_vs_reference": 0, "engine_vs_reference": 0}
    assert m["accuracy"]["integer"] > m["accuracy"]["float"] - 0.1
    assert "kept whole: logits" in done.stdout


def test_zeros_and_shared_values_reach_the_integers_that_are_written(tmp_path):
    short = ("train.epochs=4", "sparsify.rise_epochs=2", "sparsify.epochs=1", "cluster.epochs=1", "quantize.epochs=1")
    sets = [word for option in short for word in ("--set", f"steps.{option}")]
    done = tinykit(tmp_path, "--config", "digits", "--set", "recipe=cluster_huffman", *sets)
    assert done.returncode == 0, done.stdout + done.stderr
    parity = metrics(tmp_path)["parity"]
    assert not any(parity[key] for key in ("keras_vs_reference", "tflm_vs_reference", "engine_vs_reference"))
    weights = [op.weights for op in read_tflite(tmp_path / "runs/digits/model.tflite").ops if isinstance(op, ir.Weighted)]
    assert sum((w == 0).sum() for w in weights) / sum(w.size for w in weights) > 0.7
    assert all(len(np.unique(w)) <= 16 for w in weights[1:-1])
