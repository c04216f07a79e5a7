"""What cannot work is told before any training: no step calls `fit`; and what steps before have changed is no reason to fail late."""

import dataclasses
from itertools import product

import keras
import numpy as np
import pytest
from taught_runs import L, context, data, network

from tinykit.config.loading import load_config
from tinykit.errors import ConfigError, TinykitError
from tinykit.recipe.interrupt import StopFlag
from tinykit.recipe.registry import step_class
from tinykit.recipe.runner import run
from tinykit.recipe.services import Services
from tinykit.steps.decompose import Decompose, DecomposeOptions
from tinykit.steps.sparsify import Sparsify, SparsifyOptions

OPTIONS = {
    "train": "{epochs: 1}", "prune": "{macs: 0.5}", "decompose": "{macs: 0.7}", "sparsify": "{sparsity: 0.5}", "cluster": "{clusters: 8}",
    "distill": "{teacher: [t.keras]}", "quantize": "{epochs: 1}", "ptq": "{}",
}  # fmt: skip
UNDONE = {
    **{(promised, late): "would undo" for promised in ("sparsify", "cluster") for late in ("train", "prune", "decompose")},
    ("cluster", "sparsify"): "would undo",
    **{(made, late): "needs a float model" for made in ("quantize", "ptq") for late in OPTIONS},
}
"""Pairs of steps that are refused with the configuration; every other pair may stand in a recipe."""


@pytest.mark.parametrize(("first", "second"), product(OPTIONS, OPTIONS))
def test_every_pair_of_steps_is_allowed_or_refused_with_the_configuration(first, second):
    recipe = f"recipe=[{{{first}: {OPTIONS[first]}}}, {{{second}: {OPTIONS[second]}}}]"
    if (first, second) not in UNDONE:
        assert [step.name for step in load_config("digits", [recipe]).steps] == [first, second]
        return
    with pytest.raises(ConfigError) as caught:
        load_config("digits", [recipe])
    assert UNDONE[first, second] in str(caught.value) and repr(first) in str(caught.value) and repr(second) in str(caught.value)


LATE = [
    "{prune: {macs: 10}}",
    "{prune: {macs: 0.5, layers: {'*': 1.0}}}",
    "{prune: {layers: {third: 0.5}}}",
    "{prune: {macs: 0.5, multiple: 2}}, {sparsify: {pattern: 2of4}}",
    "{sparsify: {sparsity: 0.99}}",
    "{sparsify: {pattern: blocks, block: 64, layers: {'*': 0.5}}}",
    "{cluster: {layers: {third: tensor}}}",
    "{decompose: {macs: 0.01}}",
    "{decompose: {methods: [svd], layers: [second]}}",
    "{decompose: {macs: 0.9}}, {cluster: {layers: {second: tensor}}}",
    "{decompose: {macs: 0.9}}, {prune: {layers: {second: 0.5}}}",
    "{decompose: {macs: 0.9}}, {quantize: {bits: {second: 4}}}",
    "{distill: {teacher: [none.keras]}}",
    "{distill: {teacher: [five.keras]}}",
    "{distill: {teacher: [five.keras, {name: cnn}]}}",
    "{sparsify: {sparsity: 0.3, layers: {'*': 0.3}}}, {quantize: {bits: {'*': 2}}}",
    "{cluster: {layers: {'*': tensor}}}, {quantize: {equalize: true}}",
]


@pytest.mark.parametrize("steps", LATE)
def test_no_training_begins_before_a_refusal(steps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network(classes=5).save("five.keras")
    network().save("m.keras")
    fits = []
    monkeypatch.setattr(keras.Model, "fit", lambda *arguments, **named: fits.append(arguments))
    settings = [f"recipe=[train, {steps}]", "model.path=m.keras", "data.batch_size=11", "data.preprocess=[{divide: {by: 255}}]"]
    services = Services()
    monkeypatch.setattr(services, "load_dataset", lambda *arguments, **named: data(), raising=False)
    with pytest.raises(TinykitError) as caught:
        run(load_config("digits", settings), "w", services=services, stop=StopFlag(), log=lambda line: None, command="made by a test")
    assert not fits and not list((tmp_path / "w").glob("steps/*")), str(caught.value)


def follow(folder, text):
    """The context of the last step of a recipe, the lines that it logs, and its options."""
    made, lines = context(folder)
    config = load_config("digits", [f"recipe=[{text}]"])
    spec = config.steps[-1]
    options = step_class(spec.name).Options.model_validate(spec.options)
    return dataclasses.replace(made, config=dataclasses.replace(made.config, steps=config.steps), label=spec.label), lines, options


def test_zeros_in_what_a_pruning_left_go_as_far_as_they_can(tmp_path):
    """Pruning leaves fewer channels than a block has in one layer, and a share of inner weights that is too small for the sparsity."""
    model = wide(8, 16)
    chosen = "{pattern: blocks, block: 16, sparsity: 0.9, rise_epochs: 0, epochs: 0, layers: {mid: 0.5}}"
    made, lines, options = follow(tmp_path, f"{{prune: {{macs: 0.5}}}}, {{sparsify: {chosen}}}")
    result = Sparsify().run(model, options, made)
    assert any(line.startswith("mid stays dense: it cannot have pattern blocks any more: 8 input channels") for line in lines)
    assert any(line.startswith("sparsity 0.9 of the smaller network cannot be reached") for line in lines)
    assert {row["layer"]: row["sparsity"] > 0 for row in result.report["layers"]}["mid"] is False
    made, _, options = follow(tmp_path, f"{{sparsify: {chosen}}}")
    with pytest.raises(TinykitError, match="8 input channels are fewer than a block of 16"):
        Sparsify().run(model, SparsifyOptions.model_validate(options.model_dump()), made)


def wide(first, second):
    """Three convolutions, so that `mid` and `point` are inner ones."""
    keras.utils.set_random_seed(5)
    inputs = L.Input((7, 5, 1))
    x = L.Conv2D(first, 3, padding="same", activation="relu", name="first")(inputs)
    x = L.Conv2D(second, 3, activation="relu", name="mid")(x)
    x = L.Conv2D(second, 1, activation="relu", name="point")(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="scores")(L.GlobalAveragePooling2D()(x)))


def test_a_rule_that_makes_nothing_cheaper_changes_nothing(tmp_path):
    """Whether it does depends on trained weights, so it is no error after hours of training."""
    made, lines = context(tmp_path)
    model = network()
    kernel = model.get_layer("second").kernel
    kernel.assign(np.linalg.qr(np.random.default_rng(0).normal(size=(144, 144)))[0][:, :12].reshape(kernel.shape))  # all directions count
    result = Decompose().run(model, DecomposeOptions(ranks="energy", energy=0.999, epochs=0, layers=("second",)), made)
    assert result.model is None and result.report["layers"] == {}
    assert lines == ["no layer is replaced: none becomes cheaper with ranks: energy"]
