"""A search on digits: from the space to firmware within the budget; and ended in the middle, twice, to the same trials."""

import json

import numpy as np
import pytest

from tinykit.boards.toolchain import choose
from tinykit.config.loading import load_config
from tinykit.errors import BudgetError, ConfigError, Terminated
from tinykit.recipe.interrupt import StopFlag
from tinykit.search import gap as search_gap
from tinykit.search import winner as search_winner
from tinykit.search.run import search
from tinykit.search.trials import Trials

pytest.importorskip("unicorn")
try:
    choose(None)
except ConfigError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SET = ["search.candidates=2", "search.trial_epochs=1", "check.samples=16", "recipe=int8", "steps.quantize.epochs=0"]
METRICS = {
    "flash": {"total": 1}, "ram": {"total": 1}, "instructions": 1, "cycles": 1,
    "accuracy": None, "parity": None, "budget_met": True, "board": "nano33ble",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(run directory, result, lines, predictions by options) of an uninterrupted search."""
    folder, lines, known = tmp_path_factory.mktemp("whole"), [], {}
    predict = search_gap.predict

    def remembered(options, *arguments):
        key = json.dumps(options, sort_keys=True)
        known[key] = known.get(key) or predict(options, *arguments)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_gap, "predict", remembered)
        patch.setattr(search_winner, "predict", remembered)
        result = search(load_config("search_digits", SET), folder / "run", quicktest=True, log=lines.append, command="x")
    return folder / "run", result, lines, remembered


def test_ends_with_firmware_within_the_budget(whole):
    folder, result, lines, _ = whole
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["budget_met"] is True and metrics["quicktest"] is True
    assert [metrics["parity"][f"{side}_vs_reference"] for side in ("keras", "engine")] == [0, 0]
    assert metrics["flash"]["total"] <= 12_000 and metrics["ram"]["total"] <= 2_000 and metrics["macs"] <= 60_000
    assert metrics["macs"] == result["counted"]["macs"]
    assert abs(result["predicted"]["flash"] - metrics["flash"]["total"]) <= max(1500, 0.03 * metrics["flash"]["total"])
    assert abs(result["predicted"]["ram"] - metrics["ram"]["total"]) <= 0.03 * metrics["ram"]["total"]
    assert abs(result["predicted"]["cycles"] - metrics["cycles"]) <= 0.15 * metrics["cycles"]
    assert result["predicted"]["of"] == "the trial's weights through quantize, without its training"
    assert set(result["predicted"]["weight_bits"]) == {8} and result["twin"]["flash"] <= 12_000 and result["method"] == "dnas"
    assert (folder / "run" / "firmware.elf").exists() and "QUICKTEST" in (folder / "search" / "pareto.html").read_text()
    assert any("winner" in line for line in lines)


def test_every_architecture_that_was_looked_at_is_a_row(whole):
    folder, result, _, _ = whole
    rows = Trials(folder / "search" / "trials.jsonl").rows
    assert len({row.key for row in rows}) == len(rows) == result["trials"]["all"]
    trained = [row for row in rows if row.status == "trained"]
    assert len(trained) >= 2 and all(row.predicted["flash"] <= 12_000 and row.predicted["ram"] <= 2_000 for row in trained)
    assert all(row.violations and row.accuracy is None for row in rows if row.status == "infeasible")
    assert result["winner"]["key"] == Trials(folder / "search" / "trials.jsonl").trained()[0].key
    assert (folder / "search" / "pareto.csv").read_text().count("\n") == len(rows) + 1


def test_a_search_that_is_ended_twice_goes_on_to_the_same_trials(whole, tmp_path, monkeypatch):
    folder, _, _, predict = whole
    monkeypatch.setattr(search_gap, "predict", predict)
    monkeypatch.setattr(search_winner, "predict", predict)
    monkeypatch.setattr("tinykit.recipe.runner.run", lambda *arguments, **options: METRICS)
    config, lines = load_config("search_digits", SET), []
    for word in ("epoch 1/", "trial "):
        stop = StopFlag()

        def ended(line, word=word, stop=stop):
            lines.append(line)
            if word in line:
                stop.ask()

        with pytest.raises(Terminated):
            search(config, tmp_path / "run", quicktest=True, log=ended, command="x", stop=stop)
    before = (tmp_path / "run" / "search" / "trials.jsonl").read_bytes()
    search(config, tmp_path / "run", quicktest=True, log=lines.append, command="x")
    found, truth = (Trials(path / "search" / "trials.jsonl") for path in (tmp_path / "run", folder))
    assert found.path.read_bytes().startswith(before) and before.count(b"\n") >= 1
    assert found.rows == truth.rows
    assert any("goes on after epoch 1/2" in line for line in lines)
    with np.load(tmp_path / "run" / "search" / "supernet.npz") as own, np.load(folder / "search" / "supernet.npz") as theirs:
        assert sorted(own) == sorted(theirs) and all(np.array_equal(own[name], theirs[name]) for name in own)
    with pytest.raises(ConfigError, match="search.candidates: 2 before, 3 now"):
        search(load_config("search_digits", [*SET, "search.candidates=3"]), tmp_path / "run", quicktest=True, log=lines.append)


def test_a_space_that_cannot_fit_is_refused_before_training(whole, tmp_path):
    lines = []
    config = load_config("search_digits", [*SET, "budget.ram=300"])
    with pytest.raises(BudgetError, match="none of the .* architectures that were looked at fits"):
        search(config, tmp_path / "run", quicktest=True, log=lines.append, command="x")
    rows = Trials(tmp_path / "run" / "search" / "trials.jsonl").rows
    assert rows and all(row.status == "infeasible" and row.violations for row in rows)
    assert not (tmp_path / "run" / "run").exists() and (tmp_path / "run" / "search" / "pareto.csv").exists()
