"""The second stage with stub training: every architecture that is looked at is a row, and a kill neither loses nor repeats one."""

import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from search_spaces import series_space

from tinykit.boards.table import Budget, emulated_board
from tinykit.config.search import SearchConfig
from tinykit.engine.goal import BALANCED
from tinykit.errors import BudgetError, Terminated
from tinykit.recipe.interrupt import StopFlag
from tinykit.search import winner as module
from tinykit.search.gap import Gap
from tinykit.search.predict import Prediction, Target
from tinykit.search.trials import Trials
from tinykit.search.winner import Contest, model_file

pytest.importorskip("tensorflow")

from tinykit.search.twostage import oneshot  # noqa: E402
from tinykit.search.twostage.evolved import evolved  # noqa: E402

TWO = {"population": 4, "generations": 2}


class Killed:
    """Stops a search at its n-th line with a word, as a kill would."""

    def __init__(self, word, number):
        self.word, self.left = word, number

    def __call__(self, line):
        self.left -= self.word in line
        if self.left == 0:
            raise Terminated("stopped")


def contest(folder, log=lambda line: None, flash=2_000):
    space = series_space()
    stages = [stage.model_dump() for stage in space.stages]
    options = SearchConfig.model_validate({"method": "two_stage", "stages": stages, "two_stage": TWO})
    folder.mkdir(exist_ok=True)
    context = SimpleNamespace(seed=3, folder=folder, quicktest=False, log=log, stop=StopFlag())
    target = Target(emulated_board(None), Budget(flash, None), BALANCED)
    gap = Gap({"flash": 300, "ram": 0}, {"flash": 10, "ram": 0})
    return Contest(SimpleNamespace(space=space), options, target, Trials(folder / "trials.jsonl"), gap, context)


@pytest.fixture
def work(monkeypatch):
    """What was trained, predicted and judged, with stubs that do none of it."""
    seen = []

    class OneShot:
        def __init__(self, net, options, context):
            self.file = context.folder / "trained"

        def run(self):
            if not self.file.exists():
                seen.append("trained")
                self.file.touch()

    class Inherited:
        def __init__(self, net, options, context):
            self.context = context

        def accuracy(self, architecture):
            return zlib.crc32(architecture.key.encode()) % 97 / 97

        def keep(self, architecture):
            file = model_file(self.context.folder, architecture.key)
            file.parent.mkdir(exist_ok=True)
            file.touch()

    def sizes(options):
        return 400 + sum(20 * stage["filters"] * stage["repeats"] for stage in options["stages"])

    def predict(options, shape, classes, target):
        seen.append(json.dumps(options))
        flash = sizes(options)
        problems = (f"flash: {flash:,} bytes",) if flash > target.budget.flash else ()
        return Prediction(flash, 100, 1, flash, problems)

    monkeypatch.setattr(oneshot, "OneShot", OneShot)
    monkeypatch.setattr(oneshot, "Inherited", Inherited)
    monkeypatch.setattr(module, "predict", predict)
    monkeypatch.setattr(module, "estimate", lambda options, *_: {"flash": sizes(options), "ram": 100})
    return seen


@pytest.mark.parametrize(("word", "number"), [("trial ", 1), ("trial ", 5), ("trial ", 9), ("generation 1", 1), ("generation 2", 1)])
def test_a_search_that_is_killed_goes_on_to_the_same_trials(tmp_path, work, word, number):
    best, *_ = evolved(contest(tmp_path / "whole"))
    whole = sorted(work)
    work.clear()
    with pytest.raises(Terminated):
        evolved(contest(tmp_path / "cut", Killed(word, number)))
    partly = (tmp_path / "cut" / "trials.jsonl").read_bytes()
    assert evolved(contest(tmp_path / "cut"))[0] == best
    assert sorted(work) == whole and len(set(whole)) == len(whole)
    found, truth = (Trials(tmp_path / name / "trials.jsonl") for name in ("cut", "whole"))
    assert found.path.read_bytes().startswith(partly) and found.rows == truth.rows
    assert model_file(tmp_path / "cut", best.key).exists()


def test_every_architecture_is_a_row_and_the_best_that_fits_wins(tmp_path, work):
    best, *_ = evolved(contest(tmp_path, flash=720))
    rows = Trials(tmp_path / "trials.jsonl").rows
    assert {row.searcher for row in rows} == {"two_stage"} and len({row.key for row in rows}) == len(rows)
    refused = [row for row in rows if row.status == "infeasible"]
    assert refused and all(row.violations and row.accuracy is None for row in refused)
    assert all(row.predicted["flash"] <= 720 for row in rows if row.status == "trained")
    assert best.accuracy == max(row.accuracy for row in rows if row.status == "trained")


def test_a_draw_that_is_too_large_is_a_row_beside_what_was_made_of_it(tmp_path, work):
    made = contest(tmp_path, flash=720)
    made.judge = lambda architecture: zlib.crc32(architecture.key.encode()) % 97 / 97
    space = made.space
    sure = {d.name: np.eye(len(d.values))[len(d.values) - 1] for d in space.decisions}  # the widest, and nothing else, is ever drawn
    best = made.run(sure)
    widest = space.architecture({d.name: len(d.values) - 1 for d in space.decisions}).key
    rows = {row.key: row for row in made.trials.rows}
    assert rows[widest].status == "infeasible" and rows[widest].violations and rows[widest].accuracy is None
    assert best and all(row.status == "trained" and row.predicted["flash"] <= 720 for row in best)
    assert widest not in {row.key for row in best}


def test_where_nothing_fits_it_says_so_before_anything_is_trained(tmp_path, work):
    made = contest(tmp_path, flash=500)
    with pytest.raises(BudgetError, match="none of the 1 architectures that were looked at fits"):
        made.check()
    assert made.trials.rows[-1].status == "infeasible" and "planned, not linked, 500 allowed" in made.trials.rows[-1].violations[0]
    assert work == []
    with pytest.raises(BudgetError):
        evolved(contest(tmp_path, flash=500))


def test_a_gap_that_is_too_large_refuses_nothing_that_a_plan_allows(tmp_path, work):
    made = contest(tmp_path)
    made.gap = {"flash": 1_900, "ram": 0}
    made.judge = lambda architecture: 0.5
    made.check()
    assert made.look({decision.name: 0 for decision in made.space.decisions}, "").status == "trained"
    assert made.gap == made.trials.rows[0].gap != {"flash": 1_900, "ram": 0}
    made.gap = {"flash": 1_900, "ram": 0}
    most = {decision.name: len(decision.values) - 1 for decision in made.space.decisions}
    assert made.target.budget.flash * 1.05 > 1_000 and made.look(most, "").status == "trained"


def test_what_weights_alone_make_too_large_is_not_even_planned(tmp_path, work, monkeypatch):
    monkeypatch.setattr(module, "estimate", lambda *_: pytest.fail("planned"))
    made = contest(tmp_path, flash=600)
    most = {decision.name: len(decision.values) - 1 for decision in made.space.decisions}
    row = made.look(most, "")
    assert row.counted["flash"] > 600 and row.predicted is None and "bytes of flash counted, 600 allowed" in row.violations[0]
