"""Searches from an empty folder, by either method, to firmware within the budget; on generated pictures where there are none."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinykit.boards.toolchain import choose
from tinykit.config.loading import load_config
from tinykit.errors import ConfigError
from tinykit.search.trials import Trials

pytest.importorskip("unicorn")
try:
    choose(None)
except ConfigError as missing:
    pytest.skip(str(missing), allow_module_level=True)

ROOT = Path(__file__).parents[2]
WANTED = os.environ.get("TINYKIT_SEARCHES", "digits:two_stage").split()
"""Configurations and methods; TINYKIT_SEARCHES="vww:dnas vww:two_stage" takes some minutes more."""


@pytest.mark.parametrize("name", WANTED)
def test_quicktest_of_a_search(name, tmp_path):
    config, method = name.split(":")
    environment = {key: value for key, value in os.environ.items() if key != "TINYKIT_DATA"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = ["-m", "tinykit.search", "--config", f"search_{config}.yaml", "--quicktest", "--set", f"search.method={method}"]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=3000, check=False, env=environment
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / f"search_{config}-quicktest"
    result = json.loads((folder / "search.json").read_text())
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["budget_met"] is True and result["method"] == method and result["quicktest"] is True
    assert [metrics["parity"][f"{side}_vs_reference"] for side in ("keras", "engine")] == [0, 0]
    assert (folder / "run" / "firmware.elf").exists()
    generated = config != "digits"
    assert result["synthetic"] is generated and metrics["data"]["synthetic"] is generated
    assert ("SYNTHETIC" in done.stdout) is generated and ("SYNTHETIC" in (folder / "search" / "pareto.html").read_text()) is generated
    rows = Trials(folder / "search" / "trials.jsonl").rows
    assert {row.searcher for row in rows} == {method} and len(rows) == result["trials"]["all"]
    for kind, share in (("flash", 0.03), ("ram", 0.03), ("cycles", 0.15)):
        slack = 1500 if kind == "flash" else 0
        assert abs(result["predicted"][kind] - result["real"][kind]) <= max(slack, share * result["real"][kind]), kind
    if method == "two_stage":
        check_spaces(folder, result, load_config(str(folder / "winner.yaml")))


def check_spaces(folder, result, winner):
    """One space was chosen, and the winner is preprocessed as it asks."""
    with (folder / "search" / "spaces.csv").open() as stream:
        spaces = list(csv.DictReader(stream))
    chosen = [row for row in spaces if row["chosen"] == "True"]
    assert len(spaces) > 1 and [row["space"] for row in chosen] == [result["space"]["space"]]
    macs = [float(row["mean_macs"]) for row in spaces if row["mean_macs"]]
    assert float(chosen[0]["mean_macs"]) == max(macs) and "QUICKTEST" in (folder / "search" / "spaces.html").read_text()
    sides = [int(side) for side in chosen[0]["resolution"].split("x")]
    assert winner.config.data.preprocess[0]["resize"]["size"] == sides
    assert winner.config.search is None and winner.config.model.name == "staged"
