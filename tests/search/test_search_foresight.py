"""What is foreseen of a winner says what it is a prediction of. No TensorFlow: only what needs no network."""

import dataclasses
from pathlib import Path

import pytest

from tinykit.boards.table import Budget, emulated_board
from tinykit.config.loading import load_config
from tinykit.engine.goal import BALANCED
from tinykit.errors import BudgetError
from tinykit.search import foresight
from tinykit.search.foresight import foresee
from tinykit.search.predict import Prediction, Target
from tinykit.search.trials import Trial

TWIN = {"flash": 11_000, "ram": 1_400, "instructions": 5, "cycles": 7}
WINNER = Trial("abc", "dnas", {"stages": []}, "trained", (), {"macs": 1, "flash": 1, "ram": 1}, TWIN, 0.9)
TARGET = Target(emulated_board(None), Budget(12_000, 2_000), BALANCED)


def foreseen(*overrides):
    return foresee(Path("none.keras"), load_config("digits", overrides), WINNER, TARGET, None)


def test_without_integers_it_is_the_twin():
    assert foreseen("recipe=float") == {**TWIN, "of": "the untrained twin"}


@pytest.mark.parametrize(
    ("recipe", "steps"), [("prune_quantize", "prune"), ("decompose_quantize", "decompose"), ("sparse_quantize", "sparsify")]
)
def test_what_steps_will_change_is_said_not_to_be_in_it(recipe, steps):
    found = foreseen(f"recipe={recipe}")
    assert {key: found[key] for key in TWIN} == TWIN and f"what {steps}" in found["of"] and "is not in it" in found["of"]


def test_the_integer_step_decides_where_it_can_be_foreseen(monkeypatch):
    calls = []
    monkeypatch.setattr(foresight, "_integers", lambda file, config, step, *_: calls.append((str(file), step.name)) or ("graph", [8, 4]))
    monkeypatch.setattr(foresight, "compile_graph", lambda graph, board, out, **options: calls.append(options))
    monkeypatch.setattr(foresight, "figures", lambda *_: Prediction(13_000, 900, 1, 2, ("flash: too many",), 600))
    found = foreseen("recipe=int8")
    assert found == {
        "flash": 13_000, "ram": 900, "instructions": 1, "cycles": 2, "of": "the trial's weights through quantize, without its training",
        "weight_bits": [8, 4], "arena": 600, "problems": ["flash: too many"],
    }  # fmt: skip
    assert calls[0] == ("none.keras", "quantize") and calls[1]["budget"] == TARGET.budget and calls[1]["goal"] is BALANCED


def test_a_recipe_that_finds_no_bits_is_told_with_the_twin(monkeypatch):
    def refused(*_):
        raise BudgetError("no choice of bits fits")

    monkeypatch.setattr(foresight, "_integers", refused)
    found = foreseen("recipe=mixed_precision")
    assert found == {**TWIN, "of": "the untrained twin", "problems": ["no choice of bits fits"]}
    assert dataclasses.asdict(WINNER)["predicted"] == TWIN
