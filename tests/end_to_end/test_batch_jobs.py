"""The examples of docs/batch_jobs.md, as they are in docs/examples/batch: run by a plain shell, and with stand-ins for Slurm."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BATCH = ROOT / "docs/examples/batch"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")


def run(command, cwd, **environment):
    env = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=900, check=False)


def test_two_tasks_by_a_plain_shell_and_the_same_command_again(tmp_path):
    done = run(["sh", str(BATCH / "local.sh"), "--quicktest"], tmp_path, TASKS="0 2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task 0: exit code 0" in done.stdout and "task 2: exit code 0" in done.stdout and "task 1" not in done.stdout
    for name, seed, steps in (("seed0", 0, ["01_train", "02_quantize"]), ("narrow_ptq", 0, ["01_train", "02_ptq"])):
        folder = tmp_path / "runs/batch" / name
        metrics = json.loads((folder / "metrics.json").read_text())
        assert (metrics["seed"], metrics["quicktest"]) == (seed, True)
        assert sorted(p.name for p in (folder / "steps").iterdir()) == steps
        assert (folder / "DONE").exists() and "--flagfile=" in (folder / "command.txt").read_text()
    assert "- 8\n    - 16\n    - 16" in (tmp_path / "runs/batch/narrow_ptq/config.resolved.yaml").read_text()
    again = run(["sh", str(BATCH / "local.sh"), "--quicktest"], tmp_path, TASKS="0 2")
    assert again.returncode == 0 and again.stdout.count("nothing to do: this run is complete") == 2


def stand_in(folder, name, text):
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("ends", "requeued"), [(143, ["requeue 7_1"]), (0, []), (2, [])])
def test_the_slurm_script_picks_its_task_and_requeues_on_sigterm(tmp_path, ends, requeued):
    stand_in(tmp_path, "srun", f'echo "$@" > srun.txt\nexit {ends}\n')
    stand_in(tmp_path, "scontrol", 'echo "$@" >> scontrol.txt\n')
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "PATH": path, "PYTHON": "python"}
    done = run(["bash", str(BATCH / "slurm.sh")], tmp_path, **slurm)
    assert done.returncode == ends, done.stderr
    assert (tmp_path / "srun.txt").read_text() == "python -m tinykit.train --flagfile=common.flags --flagfile=tasks/1.flags\n"
    asked = tmp_path / "scontrol.txt"
    assert (asked.read_text().splitlines() if asked.exists() else []) == requeued


def test_the_array_has_a_file_a_task_and_each_a_directory_of_its_own():
    first, last = re.search(r"--array=(\d+)-(\d+)", (BATCH / "slurm.sh").read_text()).groups()
    tasks = sorted((BATCH / "tasks").iterdir())
    assert [p.name for p in tasks] == [f"{n}.flags" for n in range(int(first), int(last) + 1)]
    workdirs = [re.search(r"^--workdir=(\S+)$", p.read_text(), re.MULTILINE)[1] for p in tasks]
    assert len(set(workdirs)) == len(tasks)


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_tells_of_flag_files(tmp_path, flag):
    done = run([sys.executable, "-m", "tinykit.train", flag], tmp_path)
    assert done.returncode == 0 and "--flagfile" in done.stdout


def test_the_page_shows_the_files_as_they_are():
    page = (ROOT / "docs/batch_jobs.md").read_text()
    for name in ("common.flags", "tasks/2.flags"):
        flags = [line for line in (BATCH / name).read_text().splitlines() if not line.startswith("#")]
        assert "\n".join([f"# {name}", *flags]) in page
