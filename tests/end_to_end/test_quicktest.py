"""--quicktest runs any configuration's whole pipeline without its data, and marks everything that it writes.

Two configurations by default; .ci/run names one of each kind of data in TINYKIT_CONFIGS, which may also be `all`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALL = sorted(p.stem for p in (ROOT / "configs").glob("*.yaml") if not p.stem.startswith("search_"))
WANTED = os.environ.get("TINYKIT_CONFIGS", "digits kws").split()
CONFIGS = ALL if WANTED == ["all"] else WANTED


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
