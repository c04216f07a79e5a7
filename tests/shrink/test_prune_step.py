"""The step `prune`: what it reports, its rounds, a resume to the last bit, and what is refused before anything is trained."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pydantic
import pytest
from taught_runs import L, context, network, same, weights

from tinykit.boards.table import board
from tinykit.boards.toolchain import CROSS, find
from tinykit.errors import BudgetError, ConfigError, ModelError, Terminated
from tinykit.models import count_macs
from tinykit.shrink.engine import engine_sizes
from tinykit.steps.prune import Prune, PruneOptions


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def options(**values):
    return PruneOptions(**{"macs": 0.5, "rounds": 2, "epochs": 1, "learning_rate": 0.01, "samples": 32, "distill": 0.0, **values})


def pruned(folder, model=None, **values):
    keras.utils.set_random_seed(9)
    made, lines = context(folder)
    return Prune().run(model or network(), options(**values), made), lines


def test_halves_the_work_in_rounds():
    model = network()
    before = count_macs(model)
    result, lines = pruned("s", model)
    assert count_macs(result.model) <= before / 2
    assert not result.model.compiled
    assert result.report["macs"] == {"before": before, "after": count_macs(result.model)}
    assert [line.split(":")[0] for line in lines if line.startswith("round")] == ["round 1/2", "round 2/2"]
    assert [group["before"] for group in result.report["groups"]] == [16, 12]
    assert result.report["kept"] == [{"layers": "scores", "reason": "layer 'scores': its function softmax looks at all channels at once"}]
    assert count_macs(model) == before, "the model that it was given stays as it was"


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale", "taylor", "activation", "harm"])
def test_every_criterion_without_training(criterion):
    result, lines = pruned("s", criterion=criterion, rounds=1, epochs=0)
    assert count_macs(result.model) <= count_macs(network()) / 2
    assert not any(line.startswith("epoch") for line in lines)
    assert any(line.startswith("layers that make up for inputs that they lost: ") for line in lines)


def test_reconstruction_can_be_left_out():
    plain, with_it = (pruned(f"s{on}", rounds=1, epochs=0, reconstruct=on)[0] for on in (False, True))
    assert plain.report["groups"] == with_it.report["groups"] and not same(weights(plain), weights(with_it))


def test_shares_by_hand():
    result, _ = pruned("s", macs=None, layers={"first": 0.5, "*": 1.0, "sec*": 0.7}, rounds=1, epochs=0)
    assert {g["layers"][0]: g["after"] for g in result.report["groups"]} == {"first": 16, "second": 8}
    result, _ = pruned("t", macs=None, layers={"*": 1.0, "first": 0.5}, rounds=3, round_epochs=0, epochs=0)
    assert {g["layers"][0]: g["after"] for g in result.report["groups"]} == {"first": 8, "second": 12}


def test_flash_and_ram_of_the_engine():
    result, _ = pruned("s", macs=None, flash=0.9, ram=0.9, rounds=1, epochs=0, multiple=1)
    assert count_macs(result.model) < count_macs(network())


@pytest.mark.skipif(not any(map(find, CROSS)), reason="no compiler for Arm microcontrollers")
def test_instructions_are_counted_on_the_emulated_board():
    count = lambda model: sum(engine_sizes(board("nano33ble"))(model).instructions.values())  # noqa: E731
    result, _ = pruned("s", macs=None, instructions=0.7, rounds=1, epochs=0)
    assert 0.4 * count(network()) < count(result.model) <= 0.7 * count(network())


def test_two_runs_with_one_seed_are_the_same_to_the_last_bit():
    first = weights(pruned("a", distill=0.5)[0])
    assert same(first, weights(pruned("b", distill=0.5)[0]))


@pytest.mark.parametrize("killed", ["round_1", "round_2"])
def test_an_interrupted_pruning_goes_on_to_the_same_weights(killed):
    chosen = {"epochs": 2, "round_epochs": 2, "distill": 0.5}
    whole = weights(pruned("whole", **chosen)[0])
    made, _ = context("part")
    state = Path("part/checkpoint", killed, "checkpoint/state.json")
    made.show_progress = lambda done, total, **values: made.stop.ask() if state.exists() else None
    keras.utils.set_random_seed(9)
    with pytest.raises(Terminated):
        Prune().run(network(), options(**chosen), made)
    made, lines = context("part")
    again = Prune().run(network(), options(**chosen), made)
    assert any(line.startswith("goes on after epoch") for line in lines)
    assert same(whole, weights(again))


def test_a_damaged_cut_is_told():
    made, _ = context("s")
    Path("s/checkpoint").mkdir()
    for text in ("{", '{"removed": [1], "channels": 3}', '{"removed": [99999], "channels": 0}'):
        Path("s/checkpoint/cut_1.json").write_text(text)
        with pytest.raises(ModelError, match="delete s/checkpoint to run the step from its beginning"):
            Prune().run(network(), options(), made)


def test_quicktest_is_one_round():
    made, lines = context("s", quicktest=True)
    Prune().run(network(), options(rounds=5, epochs=30), made)
    assert [line.split("  ")[0] for line in lines if line.startswith(("round", "epoch"))][1:] == ["epoch 1/1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"macs": None}, "nothing to reach"),
        ({"macs": 1.5}, "between 0 and 1, or a whole number, got 1.5"),
        ({"macs": 0}, "between 0 and 1"),
        ({"flash": "12 apples"}, "expected a size"),
        ({"layers": {"a": 1.5}}, "shares above 0 and up to 1, got a: 1.5"),
        ({"criterion": "magic"}, "criterion"),
    ],
)
def test_options_that_are_refused(values, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        options(**values)


def refused(error, model=None, **values):
    made, _ = context("s")
    with pytest.raises(error) as caught:
        Prune().check_task(model or network(), options(**values), made)
    return str(caught.value)


def test_what_cannot_work_is_told_before_any_training():
    made, _ = context("s")
    Prune().check_task(network(), options(), made)
    text = refused(BudgetError, macs=10)
    assert text.startswith("step step: 10 MACs are wanted, ") and "raise macs, or lower least (0.125) or multiple (4)" in text
    assert "bytes of flash are wanted" in refused(BudgetError, macs=None, flash="1kB")
    assert "no layer with channels of its own is called 'third'; there are first, second" in refused(ConfigError, layers={"third": 0.5})
    assert "'scores' cannot lose channels" in refused(ConfigError, layers={"scores": 0.5})
    inputs = L.Input((7, 5, 1))
    bare = keras.Model(inputs, L.Dense(3, name="scores")(L.Flatten()(inputs)))
    assert "no channels that may go: scores: they are the network's output" in refused(ModelError, bare)
    made.config = dataclasses.replace(made.config, steps=())
    with pytest.raises(ModelError, match="the model has random weights.*put `train` or `distill` before it, or give model.path"):
        Prune().check_task(network(), options(), made)
    made, _ = context("s")
    text = refused(ModelError, macs=10, teacher=["none.keras"])
    assert "teacher 1: none.keras does not exist" in text and "10 MACs are wanted" in text, "every problem at once"
    two = keras.Model(inputs, L.Dense(2)(L.Conv2D(4, 1)(L.Flatten()(inputs)[:, None, None, :])))
    assert "the data have 3 classes" in refused(ModelError, two)


def test_integer_networks_are_refused():
    from tinykit.quant.convert import InputRange, build_quantized

    made, _ = context("s")
    with pytest.raises(ModelError, match="is an integer network already"):
        Prune().check_task(build_quantized(network(), InputRange(1 / 255, -128)), options(), made)


def test_an_autoencoder_can_be_pruned():
    made, _ = context("s")
    inputs = L.Input((7, 5, 1))
    x = L.Dense(24, activation="relu", name="code")(L.Flatten()(inputs))
    model = keras.Model(inputs, L.Reshape((7, 5, 1))(L.Dense(35, name="back")(x)))
    chosen = options(loss="mse", distill=0.5, rounds=1)
    Prune().check_task(model, chosen, made)
    result = Prune().run(model, chosen, made)
    assert result.model.output_shape == (None, 7, 5, 1)
    assert result.report["groups"] == [{"layers": ["code"], "before": 24, "after": 12}]
    assert np.isfinite(result.report["last_epoch"]["loss"])
