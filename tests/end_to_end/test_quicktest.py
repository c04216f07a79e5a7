"""--quicktest runs any configuration's whole pipeline without its data, and marks everything that it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS)
def test_quicktest_of_every_config(config, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TINYKIT_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "tinykit.train", "--config", config, "--quicktest"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / f"{config}-quicktest"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["quicktest"] is True
    assert metrics["parity"]["keras_vs_reference"] == 0 and metrics["parity"]["tflm_vs_reference"] == 0
    assert metrics["data"]["synthetic"] is (config != "digits")
    assert (folder / "QUICKTEST").exists() and "QUICKTEST" in (folder / "report.html").read_text() and "QUICKTEST" in done.stdout
