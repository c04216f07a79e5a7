"""The scripts of docs/tuning.md, with stand-ins for Python and for Slurm: who is started as what, and what becomes of exit codes."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "docs/examples/tuning"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")


def stand_in(folder, name, text):
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)
    return str(folder / name)


def run(script, folder, *arguments, **environment):
    env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **environment}
    return subprocess.run(["bash", str(script), *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("code", [0, 2, 3])
def test_a_chief_and_its_workers_on_one_machine(tmp_path, code):
    chief = f"until [ $(wc -l <started.txt) = 4 ]; do sleep 0.1; done\nexit {code}"  # a chief that fails ends its workers
    python = stand_in(tmp_path, "python", f'echo "$@" >>started.txt\ncase "$*" in *--worker*) exit 0 ;; esac\n{chief}\n')
    done = run(JOBS / "local.sh", tmp_path, "--quicktest", PYTHON=python, WORKERS="3", PORT="7099")
    assert done.returncode == code
    common = f"-m tinykit.search --flagfile={JOBS / 'common.flags'} --chief 7099"
    started = sorted((tmp_path / "started.txt").read_text().splitlines())
    assert started == sorted([f"{common} --quicktest", *(f"{common} --worker worker{n} --quicktest" for n in (1, 2, 3))])


def test_workers_are_ended_with_their_chief(tmp_path):
    worker = "trap 'echo >>ended.txt; exit 143' TERM; echo >>begun.txt; while :; do sleep 0.1; done"
    chief = "until [ -s begun.txt ] && [ $(wc -l <begun.txt) = 2 ]; do sleep 0.1; done; exit 137"
    python = stand_in(tmp_path, "python", f'case "$*" in *--worker*) {worker} ;; esac\n{chief}\n')
    assert run(JOBS / "local.sh", tmp_path, PYTHON=python).returncode == 137
    assert len((tmp_path / "ended.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("task", "ends", "requeued"), [("0", 0, []), ("0", 143, ["requeue 7_0"]), ("3", 143, ["requeue 7_3"]), ("3", 2, [])]
)
def test_task_0_of_the_array_is_the_chief(tmp_path, task, ends, requeued):
    stand_in(tmp_path, "srun", f'echo "$@" >srun.txt\nexit {ends}\n')
    stand_in(tmp_path, "scontrol", 'echo "$@" >>scontrol.txt\n')
    stand_in(tmp_path, "hostname", "echo node9\n")
    if task != "0":
        (tmp_path / "chief.address").write_text("node9:7077\n")
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": task, "PYTHON": "python"}
    done = run(JOBS / "slurm.sh", tmp_path, "--quicktest", **slurm)
    assert done.returncode == ends, done.stderr
    role = "" if task == "0" else f" --worker task{task}"
    assert (tmp_path / "srun.txt").read_text() == f"python -m tinykit.search --flagfile=common.flags --chief node9:7077{role} --quicktest\n"
    asked = tmp_path / "scontrol.txt"
    assert (asked.read_text().splitlines() if asked.exists() else []) == requeued


def test_the_flags_are_flags():
    from tinykit.config.loading import load_config

    flags = dict(line.removeprefix("--").split("=") for line in (JOBS / "common.flags").read_text().splitlines() if line.startswith("--"))
    assert load_config(flags["config"]).config.tune is not None and flags["workdir"].startswith("runs/")
