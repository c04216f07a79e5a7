"""A search that is killed goes on as it would have: no trial is lost, none is tried twice, and the set of trials is the same."""

import dataclasses
import json
import random

import pytest
from tuner_stubs import METHODS, Study, row, section

from tinykit.errors import ConfigError
from tinykit.search.trials import Trial
from tinykit.search.tuner.proposing import score


class Killed(BaseException):
    """As sudden as SIGKILL for what is tested: nothing handles it."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    found = {}

    def rows(method):
        if method not in found:
            found[method] = Study(tmp_path_factory.mktemp(method), section(method)).run()
        return found[method]

    return rows


@pytest.mark.parametrize("method", METHODS)
def test_ten_kills_leave_the_same_trials(tmp_path, uninterrupted, method):
    rng, tries = random.Random(5), []
    kills = set(rng.sample(range(len(uninterrupted(method)) + 9), 10))

    def attempt(task):
        tries.append(task.key)
        count = len(tries) - 1
        if count in kills and rng.random() < 0.5:
            raise Killed
        found = row(task)
        if count in kills:
            (tmp_path / "trials.jsonl").open("ab").write(found.to_json().encode()[: rng.randrange(1, 40)])  # cut off while it is written
            raise Killed
        return found

    killed = 0
    while True:
        study = Study(tmp_path, section(method), attempt=attempt)
        try:
            study.run()
            break
        except Killed:
            killed += 1
    assert killed == 10
    assert study.ledger.rows == uninterrupted(method)
    assert len(tries) == len(study.ledger.rows) + 10
    assert len({each.key for each in study.ledger.rows}) == len(study.ledger.rows)
    assert [json.loads(line)["number"] for line in (tmp_path / "trials.jsonl").read_text().splitlines()] == list(range(len(tries) - 10))


@pytest.mark.parametrize("method", METHODS)
def test_what_was_being_tried_need_not_be_known(tmp_path, uninterrupted, method):
    rows = uninterrupted(method)
    half = "".join(f"{each.to_json()}\n" for each in rows[: len(rows) // 2])
    (tmp_path / "trials.jsonl").write_text(half)
    assert Study(tmp_path, section(method)).run() == rows


def test_a_search_that_is_over_tries_nothing(tmp_path):
    tune = section("random", trials=3)
    Study(tmp_path, tune).run()
    again = Study(tmp_path, tune, attempt=lambda task: pytest.fail("tried again"))
    assert again.desk.over and len(again.run()) == 3


def test_no_trial_begins_when_the_time_is_over(tmp_path):
    def slow(task):
        return dataclasses.replace(row(task), seconds=10.0)

    rows = Study(tmp_path, section("random"), attempt=slow, seconds=25.0).run()
    assert len(rows) == 3, "the last one began after 20 seconds"
    assert Study(tmp_path, section("random"), attempt=pytest.fail, seconds=25.0).run() == rows


def test_a_seed_gives_other_trials_and_the_same_seed_the_same(tmp_path):
    keys = [[each.key for each in Study(tmp_path / str(n), section("random", trials=4), seed).run()] for n, seed in enumerate((1, 1, 2))]
    assert keys[0] == keys[1] and not set(keys[0]) & set(keys[2])


def test_a_small_space_ends_when_all_of_it_was_tried(tmp_path):
    small = {"data.batch_size": {"values": [8, 16, 32]}, "steps.train.learning_rate": {"values": [0.01, 0.1]}}
    parameters = {**small, "model.options.filters": {"values": [[8]]}}
    for method in ("random", "bayesian", "nsga2"):
        rows = Study(tmp_path / method, section(method, trials=50, parameters=parameters)).run()
        assert len(rows) == 6 == len({each.key for each in rows})


def test_a_ledger_of_something_else_is_refused(tmp_path):
    Study(tmp_path, section("random", trials=2)).run()
    other = {"data.batch_size": {"values": [1]}}
    with pytest.raises(ConfigError, match=r"expected values of data\.batch_size"):
        Study(tmp_path, section("random", trials=2, parameters=other))
    (tmp_path / "running.json").write_text("{")
    with pytest.raises(ConfigError, match=r"running\.json: cannot be read.*delete it"):
        Study(tmp_path, section("random", trials=2))


def test_an_error_of_an_attempt_is_no_result(tmp_path):
    def attempt(task):
        raise ConfigError("a full disk")

    study = Study(tmp_path, section("random"), attempt=attempt)
    with pytest.raises(ConfigError, match="a full disk"):
        study.run()
    assert not study.ledger.rows and not list(tmp_path.glob("keras_tuner*"))


def test_bayesian_proposals_go_where_trials_were_good(tmp_path):
    """One parameter with its best value at 0.37; the first three settings are those of a random search."""
    parameters = {"steps.train.label_smoothing": {"least": 0.0, "most": 0.9}}

    def attempt(task):
        away = task.proposal.values["steps.train.label_smoothing"] - 0.37
        return Trial(task.key, "stub", {}, "trained", (), {}, accuracy=1 - away**2, values=task.proposal.values, number=task.number)

    tune = section("bayesian", trials=8, parameters=parameters)
    rows = Study(tmp_path / "bayesian", tune, attempt=attempt).run()
    first = Study(tmp_path / "random", section("random", trials=3, parameters=parameters), attempt=attempt).run()
    assert rows[:3] == first
    assert max(score(row) for row in rows[3:]) > 1 - 0.03**2


def test_hyperband_promotes_the_best_of_each_round(tmp_path):
    rows = Study(tmp_path, section("hyperband")).run()
    by_key = {each.key: each for each in rows}
    promoted = [each for each in rows if each.stage["after"]]
    assert {each.stage["epochs"] for each in rows} == {1, 3, 9} and len(promoted) >= 3
    for each in promoted:
        parent = by_key[each.stage["after"]]
        assert parent.values == each.values and parent.stage["bracket"] == each.stage["bracket"]
        assert (parent.stage["round"], parent.stage["epochs"]) == (each.stage["round"] - 1, each.stage["first_epoch"])
    first = [each for each in rows if each.stage["bracket"] == 2 and each.stage["round"] == 0]
    chosen = {each.stage["after"] for each in promoted}
    kept = [each for each in first if each.key in chosen]
    least = min(score(each) for each in kept)
    assert all(score(each) <= least for each in first if each not in kept)


def test_hyperband_refuses_a_space_that_is_too_small(tmp_path):
    with pytest.raises(ConfigError, match="compares .* different settings"):
        Study(tmp_path, section("hyperband", parameters={"data.batch_size": {"values": [8, 16]}}))
