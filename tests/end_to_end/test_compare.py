"""Three recipes on real digits in one command, killed in the second: the same command goes on, and each is what it is alone."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import run_directories as rd

ROOT = Path(__file__).parents[2]
RECIPES = ("int8", "ptq", "prune_quantize")
QUICK = ("-m", "tinykit.train", "--config", "digits", "--quicktest")
COMMAND = (*QUICK, "--compare", ",".join(RECIPES), "--workdir", "w")


def test_compared_recipes_share_their_training_and_are_what_they_are_alone(tmp_path):
    environment = {"PYTHONPATH": str(ROOT)}
    killed = rd.run_until(COMMAND, tmp_path, tmp_path / "w", rd.Moment(line=r"^recipe 2/3"), signal.SIGKILL, environment)
    assert killed.signalled and not (tmp_path / "w/comparison.json").exists()
    done = rd.run_until(COMMAND, tmp_path, tmp_path / "w", environment=environment)
    assert done.code == 0, done.text
    assert sum(line.startswith("  epoch 1/1") for line in killed.lines + done.lines) == 4, "train once, quantize, prune, quantize"
    assert done.text.count("begins alike: not run again") >= 1 and "nothing to do: this run is complete" in done.text
    trained = {name: (tmp_path / "w" / name / "steps/01_train/model.keras").read_bytes() for name in RECIPES}
    assert len(set(trained.values())) == 1

    found = json.loads((tmp_path / "w/comparison.json").read_text())
    assert found["quicktest"] is True and [row["recipe"] for row in found["recipes"]] == list(RECIPES)
    for row in found["recipes"]:
        own = json.loads((tmp_path / "w" / row["recipe"] / "metrics.json").read_text())
        assert (row["integer"], row["flash"]) == (own["accuracy"]["integer"], own["flash"]["total"]) and row["instructions"] > 0
    rows = list(csv.DictReader((tmp_path / "w/comparison.csv").open()))
    assert float(rows[2]["macs"]) <= 0.5 * float(rows[0]["macs"])
    assert "QUICKTEST" in (tmp_path / "w/comparison.html").read_text()
    assert (tmp_path / "w/accuracy_flash.png").read_bytes().startswith(b"\x89PNG")

    alone = subprocess.run(
        [sys.executable, *QUICK, "--set", "recipe=prune_quantize", "--workdir", "alone"],
        cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    for name in ("model.keras", "model.tflite", "firmware.elf", "golden.npz", "steps/02_prune/model.keras"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "w/prune_quantize" / name).read_bytes(), name
