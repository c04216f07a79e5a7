"""--quicktest runs any configuration's whole pipeline without its data, and marks everything that it writes.

Two configurations by default; TINYKIT_ALL_CONFIGS=1, which .ci/run sets, takes all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALL = sorted(p.stem for p in (ROOT / "configs").glob("*.yaml"))
CONFIGS = ALL if os.environ.get("TINYKIT_ALL_CONFIGS") else ["digits", "kws"]


@pytest.mark.parametrize("config", CONFIGS)
def test_quicktest_of_every_config(config, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TINYKIT_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "tinykit.train", "--config", config, "--quicktest"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / f"{config}-quicktest"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["quicktest"] is True
    parity = metrics["parity"]
    assert [parity[f"{side}_vs_reference"] for side in ("keras", "tflm", "engine")] == [0, 0, 0]
    assert metrics["instructions"] > 0 and (folder / "firmware.elf").exists()
    assert metrics["data"]["synthetic"] is (config != "digits")
    assert (folder / "QUICKTEST").exists() and "QUICKTEST" in (folder / "report.html").read_text() and "QUICKTEST" in done.stdout
