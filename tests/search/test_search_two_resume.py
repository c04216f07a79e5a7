"""A whole two-stage search, ended in every phase, goes on to the same space, trials and winner; with stubs for what takes time."""

import json
import zlib

import pytest

from tinykit.config.loading import load_config
from tinykit.errors import BudgetError, Terminated
from tinykit.recipe.interrupt import StopFlag
from tinykit.search import foresight, gap, winner
from tinykit.search.predict import Prediction
from tinykit.search.run import search
from tinykit.search.twostage import choice
from tinykit.search.winner import model_file

pytest.importorskip("tensorflow")

from tinykit.search.twostage import oneshot  # noqa: E402

SET = [
    "search.method=two_stage", "search.two_stage.resolutions=[6,8]", "search.two_stage.draws=5", "search.two_stage.population=4",
    "search.two_stage.generations=2", "search.start=inherited", "recipe=int8",
]  # fmt: skip
METRICS = {
    "flash": {"total": 1}, "ram": {"total": 1, "arena": 1}, "instructions": 1, "cycles": 1,
    "accuracy": None, "parity": None, "budget_met": True, "board": "nano33ble",
}  # fmt: skip


class Stubs:
    """What was planned, linked, trained and run."""

    def __init__(self, patch):
        self.work, self.too_large = [], set()
        patch.setattr(winner, "predict", self.predict)
        patch.setattr(gap, "predict", self.predict)
        for module in (choice, gap, winner):
            patch.setattr(module, "estimate", self.estimate)
        patch.setattr(oneshot, "OneShot", self.training)
        patch.setattr(oneshot, "Inherited", self.inherited)
        patch.setattr(foresight, "foresee", self.foresee)
        patch.setattr("tinykit.recipe.runner.run", self.run)

    def _done(self, *what):
        self.work.append(json.dumps(what))

    def predict(self, options, shape, classes, target):
        self._done("linked", options, shape)
        sizes = self._sizes(options, shape)
        problems = [kind for kind in sizes if sizes[kind] > getattr(target.budget, kind)]
        return Prediction(sizes["flash"], sizes["ram"], 1, sizes["flash"], tuple(problems), 5)

    def estimate(self, options, shape, classes, target):
        self._done("planned", options, shape)
        return self._sizes(options, shape)

    @staticmethod
    def _sizes(options, shape):
        return {"flash": 7_000 + sum(40 * s["filters"] * s["repeats"] for s in options["stages"]), "ram": 25 * shape[0] * shape[1]}

    def training(self, net, options, context):
        def run():
            if not (context.folder / "trained").exists():
                self._done("trained", net.space.input_shape)
                (context.folder / "trained").touch()
            context.log("epoch 1/1")

        return type("Training", (), {"run": staticmethod(run)})

    def inherited(self, net, options, context):
        def keep(architecture):
            model_file(context.folder, architecture.key).parent.mkdir(exist_ok=True)
            model_file(context.folder, architecture.key).touch()

        judge = staticmethod(lambda architecture: zlib.crc32(architecture.key.encode()) % 97 / 97)
        return type("Judge", (), {"accuracy": judge, "keep": staticmethod(keep)})

    def foresee(self, file, config, trial, target, context):
        self._done("foreseen", config.config.data.preprocess)
        assert file.exists() and context.chain.output_shape((8, 8, 1))[:2] == tuple(config.config.data.preprocess[0]["resize"]["size"])
        return {**trial.predicted, "of": "a stub", **({"problems": ["too large"]} if trial.key in self.too_large else {})}

    def run(self, config, folder, *, stop, **options):
        stop.check()
        self._done("run", config.config.data.preprocess)
        return METRICS


def results(folder):
    """What a search leaves, without times."""
    rows = [json.loads(line) for line in (folder / "search" / "trials.jsonl").read_text().splitlines()]
    plain = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    files = ["search/spaces.csv", "search/draws.jsonl", "search/gap.json", "search.json"]
    winner_lines = [line for line in (folder / "winner.yaml").read_text().splitlines() if "path:" not in line]
    return plain, [(folder / name).read_text() for name in files], winner_lines


def test_it_goes_on_in_every_phase(tmp_path, monkeypatch):
    stubs = Stubs(monkeypatch)
    config = load_config("search_digits", SET)
    search(config, tmp_path / "whole", log=lambda line: None, command="x")
    truth, work = results(tmp_path / "whole"), sorted(stubs.work)
    assert len([row for row in truth[0] if row["status"] == "trained"]) >= 4
    stubs.work.clear()
    lines: list[str] = []
    for word in ("spaces: ", "<- searched", "epoch 1/1", "trial ", "generation 1", "winner: "):
        stop = StopFlag()

        def ended(line, word=word, stop=stop):
            lines.append(line)
            if word in line:
                stop.ask()

        with pytest.raises(Terminated):
            search(config, tmp_path / "cut", log=ended, command="x", stop=stop)
        assert any(word in line for line in lines), word
    found = search(config, tmp_path / "cut", log=lines.append, command="x")
    assert results(tmp_path / "cut") == truth and sorted(stubs.work) == work
    assert (
        found["space"]["chosen"] is True and found["predicted"]["of"] == "a stub" and found["gap"]["arena"] == 1 - found["counted"]["ram"]
    )
    assert any("nothing to do" in line for line in lines) is False
    search(config, tmp_path / "cut", log=lines.append, command="x")
    assert any("nothing to do" in line for line in lines)


def test_the_next_best_is_taken_where_the_recipe_would_make_the_best_too_large(tmp_path, monkeypatch):
    stubs = Stubs(monkeypatch)
    config = load_config("search_digits", SET)
    lines: list[str] = []

    def winner_of(folder):
        found = search(config, folder, log=lines.append, command="x")
        assert found["winner"]["key"] in (folder / "winner.yaml").read_text()
        return found["winner"]["key"], found["predicted"].get("problems")

    best, _ = winner_of(tmp_path / "best")
    stubs.too_large.add(best)
    second, problems = winner_of(tmp_path / "second")
    assert second != best and problems is None
    assert any(f"{best} would not fit: the next best" in line for line in lines)
    rows = [json.loads(line) for line in (tmp_path / "second" / "search" / "trials.jsonl").read_text().splitlines()]
    stubs.too_large |= {row["key"] for row in rows}
    assert winner_of(tmp_path / "none") == (best, ["too large"])  # the recipe may succeed all the same


def test_where_no_space_fits_the_spaces_are_written_and_nothing_is_trained(tmp_path, monkeypatch):
    stubs = Stubs(monkeypatch)
    config = load_config("search_digits", [*SET, "budget.ram=800"])
    with pytest.raises(BudgetError, match="none of the 20 architectures that were drawn from 4 spaces fits"):
        search(config, tmp_path, log=lambda line: None, command="x")
    assert (tmp_path / "search" / "spaces.csv").read_text().count("\n") == 5 and (tmp_path / "search" / "spaces.html").exists()
    assert not any("trained" in each for each in stubs.work) and not (tmp_path / "winner.yaml").exists()
