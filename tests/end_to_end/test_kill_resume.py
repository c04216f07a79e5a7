"""Killed at random moments of every phase, and the same command again: the same artefacts, byte for byte, as without interruption.

The moments come from the seed TINYKIT_KILL_SEED (default 0), told by lines of output; benchmarks/kill_resume.py does more of the same.
"""

import json
import os
import random
import re
import signal
from pathlib import Path

import pytest
import run_directories as rd

SEED = int(os.environ.get("TINYKIT_KILL_SEED", "0"))
CONFIG = """\
task: digits
data:
  name: digits
  preprocess: [{scale: {by: 0.0625}}]
  augment: [{shift: {pixels: 1}}]
  batch_size: 64
model: {name: cnn, options: {filters: [4], dropout: 0.1}}
recipe: int8
steps:
  train: {epochs: 6, learning_rate: 0.005}
  quantize: {epochs: 3}
budget: {board: nano33ble}
check: {samples: 64}
"""
COMMAND = ("-m", "tinykit.train", "--config", "cheap.yaml", "--workdir", "w")
ROOT = Path(__file__).parents[2]


def folder(base: Path, name: str) -> Path:
    """An empty folder with the configuration, outside any source tree."""
    made = base / name
    made.mkdir()
    (made / "cheap.yaml").write_text(CONFIG)
    return made


def start(cwd: Path, moment: rd.Moment | None = None, sent: int = signal.SIGKILL, hash_seed: int = 1) -> rd.Ended:
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed)}
    return rd.run_until(COMMAND, cwd, cwd / "w", moment, sent, environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, output) of a run that nobody interrupts."""
    cwd = folder(tmp_path_factory.mktemp("whole"), "run")
    ended = start(cwd)
    assert ended.code == 0, ended.text
    return cwd, ended


def test_two_whole_runs_with_one_seed_are_the_same_byte_for_byte(whole, tmp_path):
    cwd = folder(tmp_path, "again")
    ended = start(cwd, hash_seed=2)
    assert ended.code == 0, ended.text
    assert rd.differing(whole[0] / "w", cwd / "w") == []
    names = set(rd.comparable(cwd / "w"))
    assert {"model.keras", "model.tflite", "firmware.elf", "engine/cheap.c", "golden.npz", "report.html", "lock"} <= names
    assert len(names) > 30


def test_ten_kills_and_two_sigterms_end_with_the_artefacts_of_a_run_without_them(whole, tmp_path):
    rng = random.Random(SEED)
    plan = [(phase, moment, signal.SIGKILL) for phase, moment in rd.moments(whole[1], 10, rng)]
    for chosen in rng.sample(range(2, len(plan) - 2), 2):  # in phases in which there is something to end
        phase, moment, _ = plan[chosen]
        plan.insert(chosen, (phase, moment, signal.SIGTERM))
    plan.append(("before DONE", rd.Moment(file="metrics.json"), signal.SIGKILL))
    cwd, kills, told = folder(tmp_path, "killed"), 0, []
    for number, (phase, moment, sent) in enumerate(plan):
        ended = start(cwd, moment, sent, hash_seed=number)
        told.append(f"{phase}, {moment}: signal {int(sent)}, exit code {ended.code} after {ended.lines[-1:]}")
        shown = "\n".join(told)
        if sent == signal.SIGTERM and ended.signalled and ended.code:
            assert ended.code == 143 and ended.lines[-1] == "error: ended by SIGTERM; the same command resumes", f"{shown}\n{ended.text}"
        elif ended.signalled and ended.code:
            kills += 1
            assert ended.code == -signal.SIGKILL, f"{shown}\n{ended.text}"
        else:
            assert ended.code == 0, f"{shown}\n{ended.text}"
    last = start(cwd)
    print("\n".join(told))
    assert last.code == 0, last.text
    assert kills >= 10, "\n".join(told)
    assert rd.differing(whole[0] / "w", cwd / "w") == [], "\n".join(told)
    assert not [p for p in (cwd / "w").rglob("*") if p.name.startswith(".tmp-") or p.name == "checkpoint"]
    again = start(cwd)
    assert again.code == 0 and "nothing to do: this run is complete" in again.text


def test_the_comparison_sees_what_is_different_and_passes_over_times(tmp_path):
    metrics = {"accuracy": {"float": 0.5}, "seconds": {"total": 1.0}}
    for name in ("a", "b"):
        (tmp_path / name / "steps/01_train").mkdir(parents=True)
        (tmp_path / name / "tensorboard").mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
        (tmp_path / name / "steps/01_train/report.json").write_text(json.dumps({"seconds": 1.5, "report": {}}))
        (tmp_path / name / "metrics.jsonl").write_text('{"time": 1.5, "step": "train", "epoch": 1, "loss": 0.5}\n')
        (tmp_path / name / "report.html").write_text('<td class="num">1.5 s</td><td class="num">5 %</td>')
        (tmp_path / name / "model.keras").write_bytes(b"weights")
    a, b = tmp_path / "a", tmp_path / "b"
    (b / "metrics.json").write_text(json.dumps({**metrics, "seconds": {"total": 2.0}}))
    (b / "steps/01_train/report.json").write_text(json.dumps({"seconds": 9.5, "report": {}}))
    (b / "metrics.jsonl").write_text(2 * '{"time": 7.5, "step": "train", "epoch": 1, "loss": 0.5}\n')
    (b / "report.html").write_text('<td class="num">3 min 1 s</td><td class="num">5 %</td>')
    (b / "tensorboard/events").write_text("")
    assert rd.differing(a, b) == []
    (b / "metrics.json").write_text(json.dumps({**metrics, "accuracy": {"float": 0.25}}))
    (b / "steps/01_train/report.json").write_text(json.dumps({"seconds": 1.5, "report": {"epochs": 1}}))
    (b / "metrics.jsonl").write_text('{"time": 1.5, "step": "train", "epoch": 1, "loss": 0.25}\n')
    (b / "report.html").write_text('<td class="num">1.5 s</td><td class="num">6 %</td>')
    (b / "model.keras").write_bytes(b"weightz")
    (b / "more").write_text("")
    assert rd.differing(a, b) == ["metrics.json", "metrics.jsonl", "model.keras", "more", "report.html", "steps/01_train/report.json"]


def test_every_phase_is_told_by_a_line_and_later_lines_stand_in_for_it():
    whole = rd.Ended(lines=[
        "tinykit 0.1.0", "step 1/2 train", "  epoch 1/2  loss", "  kept the weights of epoch 2/2", "done 1/2 train", "step 2/2 quantize",
        "  calibrated 6 scales", "  epoch 1/1", "  kept the weights", "done 2/2", "outputs", "  plan: arena", "  linked: gcc",
        "  parity: engine vs", "done: w/report.html",
    ], times=[float(i) for i in range(15)])  # fmt: skip
    found = rd.moments(whole, len(rd.PHASES), random.Random(0))
    assert [phase for phase, _ in found] == [phase for phase, _ in rd.PHASES]
    assert all(0 <= moment.delay <= 3 for _, moment in found)
    epochs = dict(found)["train: epochs"].line
    assert re.search(epochs, "outputs") and not re.search(epochs, "step 1/2 train")
