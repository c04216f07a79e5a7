"""Trials in earnest: what cannot fit is not trained, nothing is chosen by the test split, and one whole tuning in quicktest."""

import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinykit.boards.table import Budget
from tinykit.config.loading import load_config
from tinykit.config.tune import TuneLimits
from tinykit.data.dataset import Dataset, Split
from tinykit.errors import BudgetError, ConfigError, DataError, ModelError, Terminated
from tinykit.locking import hold
from tinykit.recipe.interrupt import StopFlag
from tinykit.recipe.services import Services
from tinykit.search.trials import Trial, Trials
from tinykit.search.tuner.attempt import Attempts, TrialServices, check_task, judged, keeps_size, limits_of
from tinykit.search.tuner.desk import Task
from tinykit.search.tuner.proposing import Proposal
from tinykit.search.tuner.run import _Tuning, tune
from tinykit.search.tuner.tables import table

VALUES = {
    "model.options.filters": [16, 32, 32],
    "steps.train.learning_rate": 0.005,
    "steps.train.label_smoothing": 0.0,
    "steps.quantize.bits": None,
}


def splits(train=4, val=3, test=2):
    def split(count, value):
        return Split(np.full((count, 1), value, np.float32), np.zeros(count, np.int64))

    return Dataset("made", "made", True, ("a", "b"), split(train, 0), split(val, 1), split(test, 2), "0")


def test_the_accuracy_of_a_trial_is_that_of_val(tmp_path, monkeypatch):
    monkeypatch.setattr(Services, "finish", lambda self, *arguments, **more: "outputs")
    seen = []
    monkeypatch.setattr(Services, "score", lambda self, model, dataset, chain: seen.append(dataset.test) or 0.75)
    dataset = splits()
    context = SimpleNamespace(dataset=dataset, chain=None)
    assert TrialServices().finish(None, context, SimpleNamespace(path=tmp_path), rows=(), budget=None) == "outputs"
    assert seen == [dataset.val] and json.loads((tmp_path / "val.json").read_text()) == {"accuracy": 0.75}


def test_data_without_val_are_refused():
    check_task(splits())
    with pytest.raises(DataError, match="no val split"):
        check_task(splits(val=0))
    with pytest.raises(ModelError, match="is for classification"):
        check_task(dataclasses.replace(splits(), task="anomaly"))


@pytest.mark.parametrize(
    "recipe,known",
    [("int8", True), ("ptq", True), ("mixed_precision", False), ("prune_quantize", False), ("sparse_quantize", False)],
)
def test_only_recipes_that_keep_the_size_are_judged_by_their_twin(recipe, known):
    assert keeps_size(load_config("digits", [f"recipe={recipe}"])) is known


def test_violations_are_counted_by_how_much():
    limits = limits_of(Budget(1000, 500, (), 90), TuneLimits(cycles=10, instructions=80))
    assert limits == {"flash": 1000, "ram": 500, "cycles": 10, "instructions": 80}
    figures = {"flash": 1500, "ram": 500, "cycles": 11, "instructions": 80}
    assert judged(figures, limits, ()) == (("flash: 1,500 of 1,000", "cycles: 11 of 10"), 0.6)
    assert judged({"flash": None}, {"flash": 10}, ["it does not link"]) == (("it does not link",), 1.0)
    assert judged({"flash": 9}, {"flash": 10}, ()) == ((), 0.0)


def attempts(tmp_path, *overrides):
    config = load_config("tune_digits", overrides)
    return Attempts(config, tmp_path, quicktest=True, stop=StopFlag(), log=lambda line: None)


def test_what_cannot_fit_is_not_trained_and_values_that_do_not_go_together_are_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("tinykit.recipe.runner.run", lambda *arguments, **more: pytest.fail("trained"))
    made = attempts(tmp_path, "budget.flash=9kB")
    found = made(Task(0, Proposal(VALUES)))
    assert found.status == "infeasible" and found.accuracy is None and found.reached is None
    assert found.predicted["flash"] > 9000 and found.predicted["macs"] > 0
    assert found.violations[0].startswith("flash: ") and found.excess == pytest.approx(found.predicted["flash"] / 9000 - 1, abs=1e-6)
    found = made(Task(1, Proposal({**VALUES, "model.options.filters": [16, -1]})))
    assert found.status == "infeasible" and "filters" in found.violations[0] and found.predicted is None
    found = made(Task(2, Proposal({**VALUES, "steps.quantize.bits": {"nonesuch": 4}})))
    assert found.status == "infeasible" and "nonesuch" in found.violations[0]
    assert not (tmp_path / "trials").exists()


def test_a_machine_without_a_compiler_finds_nothing_out(tmp_path, monkeypatch):
    def predict(graph, target):
        raise ConfigError("no compiler")

    monkeypatch.setattr("tinykit.search.tuner.attempt.predict_graph", predict)
    with pytest.raises(ConfigError, match="no compiler"):
        attempts(tmp_path)(Task(0, Proposal(VALUES)))


@pytest.mark.parametrize("error,status", [(BudgetError("too large"), "infeasible"), (ModelError("the loss became NaN"), "failed")])
def test_a_run_that_comes_to_nothing_is_a_row(tmp_path, monkeypatch, error, status):
    def run(*arguments, **more):
        raise error

    monkeypatch.setattr("tinykit.recipe.runner.run", run)
    found = attempts(tmp_path)(Task(0, Proposal({**VALUES, "model.options.filters": [8, 8, 16]})))
    assert (found.status, found.violations) == (status, tuple(error.problems)) and found.excess == 1.0


def test_a_trial_of_hyperband_goes_on_from_the_one_before(tmp_path):
    made = attempts(tmp_path, "tune.method=hyperband", "tune.trials=null")
    stage = {"bracket": 1, "round": 1, "epochs": 9, "first_epoch": 3, "after": "parent"}
    config = made._staged(Task(1, Proposal(VALUES, stage)), made.config)
    assert config.steps[0].options["epochs"] == 9 and config.config.model.name == "cnn"  # the one before is gone
    before = tmp_path / "trials" / "parent" / "steps" / "01_train" / "model.keras"
    before.parent.mkdir(parents=True)
    before.write_bytes(b"")
    config = made._staged(Task(1, Proposal(VALUES, stage)), made.config)
    assert config.steps[0].options["epochs"] == 6 and config.steps[0].options["when"] == "always"
    assert config.config.model.path == str(before.absolute()) and config.config.model.name is None


def test_a_trial_that_another_process_still_runs_is_waited_for(tmp_path):
    made, folder = attempts(tmp_path), tmp_path / "trials" / "one"
    folder.mkdir(parents=True)
    made._wait_for(folder)
    (folder / "lock").touch()
    made._wait_for(folder)
    with (folder / "lock").open("a+") as held:
        assert hold(held)
        made.stop.ask()
        with pytest.raises(Terminated):
            made._wait_for(folder)


def stub(key, accuracy, epochs=None):
    stage = None if epochs is None else {"epochs": epochs, "bracket": 0, "round": 0, "first_epoch": 0, "after": None}
    figures = {"flash": 1, "ram": 1, "cycles": 1, "instructions": 1, "macs": 1}
    return Trial(key, "stub", {}, "trained", (), {}, accuracy=accuracy, number=0, stage=stage, reached=figures, values={"a": 1})


def test_the_winner_is_the_best_that_fits_and_had_all_epochs(tmp_path):
    trials = Trials(tmp_path / "trials.jsonl")
    tuning = _Tuning.__new__(_Tuning)
    trials.add(dataclasses.replace(stub("large", 0.99), status="infeasible", violations=("flash: 2 of 1",), excess=1.0))
    with pytest.raises(BudgetError, match="none of the 1 trials keeps the limits"):
        tuning._winner(trials)
    for row in (stub("early", 0.95, 1), stub("late", 0.9, 9), stub("worse", 0.8, 9)):
        trials.add(row)
    assert tuning._winner(trials).key == "late"
    rows = {row["key"]: row for row in table(trials.rows, trials.rows[2])}
    assert rows["late"]["winner"] and not rows["large"]["pareto"] and rows["large"]["violations"] == "flash: 2 of 1"


def test_a_whole_tuning_in_quicktest_and_again(tmp_path):
    lines: list[str] = []
    config = load_config("tune_digits", ["tune.trials=2", "tune.method=random"])
    result = tune(config, tmp_path / "run", quicktest=True, log=lines.append)
    assert result["trials"]["all"] == 2 and result["run"]["parity"]["engine_vs_reference"] == 0 and result["quicktest"] is True
    rows = Trials(tmp_path / "run" / "search" / "trials.jsonl").rows
    assert [row.number for row in rows] == [0, 1] and all(row.status == "trained" for row in rows)
    for row in rows:
        folder = tmp_path / "run" / "search" / "trials" / row.key
        assert json.loads((folder / "val.json").read_text())["accuracy"] == row.accuracy
        assert json.loads((folder / "metrics.json").read_text())["flash"]["total"] == row.reached["flash"]
    winner = load_config(str(tmp_path / "run" / "winner.yaml"))
    assert winner.config.tune is None and winner.config.model.options["filters"] == result["winner"]["values"]["model.options.filters"]
    assert any("which begins alike: not run again" in line for line in lines)  # the winner's steps are its trial's
    table_rows = list(csv.DictReader((tmp_path / "run" / "search" / "pareto.csv").open()))
    assert {line["key"] for line in table_rows} == {row.key for row in rows}
    page = (tmp_path / "run" / "search" / "pareto.html").read_text()
    assert "QUICKTEST" in page and "train.learning_rate" in page
    before = (tmp_path / "run" / "search" / "trials.jsonl").read_bytes()
    assert tune(config, tmp_path / "run", quicktest=True, log=lines.append) == result
    assert (tmp_path / "run" / "search" / "trials.jsonl").read_bytes() == before
    assert Path(tmp_path / "run" / "run" / "report.html").is_file()
