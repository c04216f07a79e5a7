"""A run that is killed before any one operation on its files, and repeated, leaves what an uninterrupted run leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinykit

HERE = Path(__file__).resolve().parent
ROOT = Path(tinykit.__file__).resolve().parent.parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks; this system cannot")
def test_killed_before_any_operation_on_files(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(HERE / "crash_points.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["points"] > 100, "every open, rename and removal of the run"
