"""What steps promise: orders that would undo it are refused with the configuration, and what a step breaks is told when it has worked."""

from types import SimpleNamespace

import fakes
import pytest

from tinykit.config.loading import load_config
from tinykit.errors import ConfigError, ModelError
from tinykit.recipe.claims import CLAIMS, broken, conflicts
from tinykit.recipe.ledger import Footprint
from tinykit.recipe.registry import step_class, step_names
from tinykit.recipe.runner import run


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_claim_is_known():
    for name in step_names():
        step = step_class(name)
        assert set(getattr(step, "promises", ())) | set(getattr(step, "keeps", ())) <= set(CLAIMS)
        assert set(getattr(step, "promises", ())) <= set(step.keeps), f"{name} after {name}"


def test_orders_that_undo():
    prune = step_class("prune")
    grows = SimpleNamespace(keeps=())
    assert conflicts([("prune", prune), ("grow", grows)]) == [
        (1, "step 'grow' would undo what 'prune' before it has done: the network stays as small as it was made; put it before")
    ]
    assert conflicts([("grow", grows), ("prune", prune), ("prune", prune)]) == []


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "[train, quantize, {prune: {macs: 0.5}}]",
            "step 'prune' needs a float model, but 'quantize' before it",
        ),
        ("[train, ptq, {distill: {}}]", "step 'distill' needs a float model, but 'ptq' before it"),
        ("[train, prune]", "nothing to reach: give one or more of macs"),
        ("[train, {prune: {mac: 0.5}}]", "macs"),
    ],
)
def test_recipes_that_are_refused(recipe, message):
    with pytest.raises(ConfigError, match="recipe|prune") as caught:
        load_config("digits", [f"recipe={recipe}"])
    assert message in str(caught.value)


def test_the_shipped_recipe_is_in_order():
    config = load_config("digits", ["recipe=prune_quantize", "steps.prune.macs=0.33"])
    assert [step.name for step in config.steps] == ["train", "prune", "quantize"]
    assert config.steps[1].options["macs"] == 0.33


def test_broken_by_hand():
    small, large, unknown = Footprint(macs=5), Footprint(macs=6), Footprint()
    assert broken(("macs",), small, large) == ["6 multiply-accumulates, where 5 were reached"]
    assert broken(("macs",), large, small) == broken(("macs",), small, unknown) == broken((), small, large) == []


class Grows(fakes.FakeServices):
    """The network is larger after every step."""

    def __init__(self):
        super().__init__()
        self.macs = 10

    def footprint(self, model, *, simplified):
        self.macs += 1
        return Footprint(100, 50, self.macs)


def test_a_broken_promise_ends_the_run_before_the_step_is_done(monkeypatch):
    monkeypatch.setattr(fakes.Train, "promises", ("macs",), raising=False)
    with pytest.raises(ModelError, match="step add: breaks what train had done: 12 multiply-accumulates, where 11 were reached"):
        run(fakes.config(), "w", services=Grows(), log=lambda line: None)
