"""Recipe `mixed_precision` on real digits: the linked firmware meets the budget, or the run ends with the reason."""

import json
import subprocess
import sys

QUICK = ["--set", "steps.train.epochs=8", "--set", "steps.quantize.epochs=2"]


def tinykit(folder, *arguments):
    command = [sys.executable, "-m", "tinykit.train", "--config", "digits", "--set", "recipe=mixed_precision", *QUICK, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def test_the_linked_firmware_meets_the_budget(tmp_path, tally):
    done = tinykit(tmp_path, "--set", "budget.flash=14kB", "--set", "budget.ram=900")
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs/digits"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["budget_met"] is True
    assert metrics["flash"]["total"] <= 14_000 and metrics["ram"]["total"] <= 900
    assert metrics["accuracy"]["float"] - metrics["accuracy"]["integer"] <= 0.03
    parity = metrics["parity"]
    assert [parity[f"{side}_vs_reference"] for side in ("keras", "tflm", "engine")] == [0, 0, 0]
    tally("mixed precision run, TFLM vs reference", parity["tflm_vs_reference"], 10 * parity["samples"])
    allocation = json.loads((run / "steps/02_quantize/allocation.json").read_text())
    widths = {row["name"]: row["weight_bits"] for row in allocation["layers"] if row["weight_bits"]}
    assert min(widths.values()) < 8
    layers = [line.split(",") for line in (run / "layers.csv").read_text().splitlines()]
    column = layers[0].index("weight_bits")
    assert {row[0]: int(row[column]) for row in layers[1:] if row[column] != "0"} == widths
    assert {name for point in allocation["tried"] for name in point["picks"]} == {"quality", "balanced", "compact"}
    assert any(not point["fits"] for point in allocation["tried"]), "8 bits everywhere is too large for this budget"
    page = (run / "report.html").read_text()
    assert 'id="bits"' in page and "compact" in page


def test_an_impossible_budget_ends_with_the_reason(tmp_path):
    done = tinykit(tmp_path, "--set", "budget.flash=3kB")
    assert done.returncode == 3
    assert "quantize: with 2 bits wherever they are possible the engine takes" in done.stderr
    assert "of flash without code, of 3,000" in done.stderr and "epoch" not in done.stdout, "told before anything is trained"


def test_a_budget_that_code_breaks_ends_with_the_reason(tmp_path):
    done = tinykit(tmp_path, "--set", "budget.flash=6500", "--set", "steps.train.epochs=1")
    assert done.returncode == 3
    assert "no choice of bits fits" in done.stderr and "flash" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs/digits/model.tflite").exists()


def test_bits_by_hand_that_name_nothing(tmp_path):
    done = tinykit(tmp_path, "--set", "steps.quantize.bits={'conv2d_77': 4}")
    assert done.returncode == 2 and "epoch" not in done.stdout
    assert "bits: 'conv2d_77' matches no layer with weights; did you mean 'conv2d" in done.stderr
