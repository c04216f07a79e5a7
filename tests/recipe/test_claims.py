"""What steps promise: orders that would undo it are refused with the configuration, and what a step breaks is told when it has worked."""

from types import SimpleNamespace

import fakes
import numpy as np
import pytest

from tinykit.config.loading import load_config
from tinykit.errors import ConfigError, ModelError
from tinykit.recipe.claims import CLAIMS, Evidence, broken, conflicts
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
    small, large, unknown = Evidence(Footprint(macs=5)), Evidence(Footprint(macs=6)), Evidence(Footprint())
    assert broken(("macs",), small, large) == ["6 multiply-accumulates, where 5 were reached"]
    assert broken(("macs",), large, small) == broken(("macs",), small, unknown) == broken((), small, large) == []


def evidence(clusters=0, **layers):
    return Evidence(Footprint(), lambda: {name: np.asarray(values) for name, values in layers.items()}, clusters)


def test_zeros_that_are_filled():
    before = evidence(a=[[0.0, 1.5], [0.0, -2.0]], b=[[0.0, 1.0]])
    assert broken(("sparsity",), before, evidence(a=[[0, 0], [0, -127]], b=[[0, 5]])) == [], "more zeros are no harm"
    assert broken(("sparsity",), before, evidence(a=[[1, 3], [0, 4]], b=[[0, 1]])) == ["layer 'a': 1 of 2 weights that were 0 are not"]
    assert broken(("sparsity",), before, evidence(a=[[0, 1]])) == [
        "layer 'a' is not there any more, or has another shape",
        "layer 'b' is not there any more, or has another shape",
    ]


def test_values_that_are_no_longer_shared():
    tensor, channel = np.arange(12.0).reshape(6, 2) % 3, np.arange(12.0).reshape(6, 2) % 3 + [0, 7]
    free = np.arange(12.0).reshape(6, 2)
    before = evidence(3, a=tensor, b=channel, c=free)
    assert broken(("clusters",), before, evidence(a=-tensor, b=channel * 2, c=free + 1)) == []
    assert broken(("clusters",), before, evidence(a=channel, b=channel, c=free)) == [
        "layer 'a': 6 different weights in a tensor, of 3 at most"
    ]
    assert broken(("clusters",), before, evidence(a=tensor, b=free, c=free)) == [
        "layer 'b': 6 different weights in a channel, of 3 at most"
    ]


class Fills(fakes.FakeServices):
    """Of two weights one is 0 after the first step, and none after the second."""

    def weights(self, model):
        return {"a": np.array([[0.0 if model.value < 0.5 else 1.0, 2.0]])}


def test_weights_are_measured_on_the_model_that_the_promising_step_left(monkeypatch):
    monkeypatch.setattr(fakes.Train, "promises", ("sparsity",), raising=False)
    monkeypatch.setattr(fakes.Add, "keeps", ("sparsity",), raising=False)
    with pytest.raises(ModelError, match="step add: breaks what train had done: layer 'a': 1 of 1 weights that were 0 are not"):
        run(fakes.config(), "w", services=Fills(), log=lambda line: None)


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
