"""The step `sparsify`: what it reaches and reports, a resume to the last bit, and what is refused before anything is trained."""

import dataclasses
from pathlib import Path

import keras
import pydantic
import pytest
from sparse_nets import L, inside, network
from taught_runs import same, weights

from tinykit.config.loading import load_config
from tinykit.errors import ConfigError, ModelError, Terminated
from tinykit.shrink.kernels import weight_columns
from tinykit.steps.distill import Distill, DistillOptions
from tinykit.steps.keeping import check_kept
from tinykit.steps.quantize import QuantizeOptions
from tinykit.steps.sparsify import Sparsify, SparsifyOptions


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def options(**values):
    return SparsifyOptions(**{"sparsity": 0.6, "rise_epochs": 0, "epochs": 0, "learning_rate": 0.01, "distill": 0.0, **values})


def sparsified(folder, **values):
    keras.utils.set_random_seed(9)
    made, lines = inside(folder, "sparsify")
    return Sparsify().run(network(), options(**values), made), lines


def zeros(model):
    return {name: float((values == 0).mean()) for name, values in weight_columns(model).items()}


@pytest.mark.parametrize(
    ("values", "equal"),
    [
        ({}, ("second", "third", "hidden")),
        ({"scope": "network", "pattern": "blocks"}, ()),
        ({"layers": {"f*": 0.3, "hidden": 0}}, ("second", "third")),
    ],
)
def test_sparsity_of_the_network_without_training(values, equal):
    result, _ = sparsified("s", **values)
    found, sizes = zeros(result.model), {name: w.size for name, w in weight_columns(result.model).items()}
    assert result.report["sparsity"] == pytest.approx(0.6, abs=0.01)
    assert sum(found[n] * sizes[n] for n in found) / sum(sizes.values()) == pytest.approx(0.6, abs=0.01)
    assert found["dw"] == found["scores"] == 0
    assert found["first"] == pytest.approx(0.3 if "layers" in values else 0, abs=0.02)
    for name in equal:
        assert found[name] == pytest.approx(found[equal[0]], abs=0.02), "each layer is as sparse as the others"


def test_two_of_four():
    result, lines = sparsified("s", pattern="2of4", sparsity=None, layers={"dw": 0})
    assert {n: share for n, share in zeros(result.model).items() if share} == {"second": 0.5, "third": 0.5, "hidden": 0.5}
    assert any(line.startswith("sparsity 0.5000 of 3 layers, at once") for line in lines)


CHOSEN = {"rise_epochs": 2, "epochs": 1, "distill": 0.5}


def test_it_rises_and_stays_and_an_interrupted_run_goes_on_to_the_same_weights():
    whole, lines = sparsified("whole", **CHOSEN)
    reached = [float(line.split()[1]) for line in lines if line.startswith("sparsity")]
    assert len(reached) == 2 and 0.1 < reached[0] < reached[1]
    assert whole.report["sparsity"] == pytest.approx(0.6, abs=0.01) and not whole.model.compiled
    made, _ = inside("part", "sparsify")
    state = Path("part/checkpoint/rise/checkpoint/state.json")
    made.show_progress = lambda done, total, **values: made.stop.ask() if state.exists() else None
    keras.utils.set_random_seed(9)
    with pytest.raises(Terminated):
        Sparsify().run(network(), options(**CHOSEN), made)
    again, lines = sparsified("part", **CHOSEN)
    assert any(line.startswith("goes on after epoch 1/2") for line in lines)
    assert same(weights(whole), weights(again))


def test_distill_afterwards_holds_the_zeros():
    sparse, _ = sparsified("s")
    before = weight_columns(sparse.model)
    made, _ = inside("d", "distill", "recipe=[train, sparsify, {distill: {epochs: 1}}]")
    after = weight_columns(Distill().run(sparse.model, DistillOptions(epochs=1, learning_rate=0.01), made).model)
    for name in before:
        assert not after[name][before[name] == 0].any()
        assert (after[name] != before[name])[before[name] != 0].mean() > 0.5, "the others are trained"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sparsity": 1.0}, "less than 1"),
        ({"pattern": "2of4"}, "2of4 makes half of a layer's weights 0: leave sparsity out.*got sparsity: 0.6"),
        ({"pattern": "2of4", "sparsity": None, "layers": {"a": 0.3}}, "got layers: a: 0.3"),
        ({"layers": {"a": 1.0}}, "from 0 up to below 1, got a: 1.0"),
        ({"pattern": "3:4"}, "pattern"),
    ],
)
def test_options_that_are_refused(values, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        options(**values)


def refused(error, model=None, **values):
    made, _ = inside("s", "sparsify")
    with pytest.raises(error) as caught:
        Sparsify().check_task(model or network(), options(**values), made)
    return str(caught.value)


def test_what_cannot_work_is_told_before_any_training():
    made, _ = inside("s", "sparsify")
    Sparsify().check_task(network(), options(epochs=1), made)
    inputs = L.Input((7, 5, 1))
    x = L.Conv2D(6, 3, name="b")(L.Conv2D(4, 3, name="a")(inputs))
    odd = keras.Model(inputs, L.Dense(3, name="d")(L.Flatten()(L.Conv2D(5, 1, name="c")(x))))
    text = refused(ModelError, odd, pattern="2of4", sparsity=None)
    assert "layer 'c' cannot have pattern 2of4: 6 input channels are no multiple of 4; leave it dense with" in text and "'b'" not in text
    assert "fewer than a block of 8" in refused(ModelError, odd, pattern="blocks", block=8)
    assert "sparsity 0.98 of the network cannot be reached" in refused(ConfigError, sparsity=0.98)
    assert "no dense or convolution layer is called 'fourth'; known: dw, first" in refused(ConfigError, layers={"fourth": 0.5})
    assert "no layer takes part" in refused(ModelError, layers={"*": 0})
    made.config = dataclasses.replace(made.config, steps=())
    with pytest.raises(ModelError, match="the model has random weights.*put `train` or `distill` before it, or give model.path"):
        Sparsify().check_task(network(), options(), made)
    two = keras.Model(inputs, L.Dense(2)(L.Dense(8)(L.Dense(8)(L.Flatten()(inputs)))))
    assert "the data have 3 classes" in refused(ModelError, two, epochs=1)
    text = refused(ModelError, epochs=1, teacher=["none.keras"], layers={"fourth": 0.5})
    assert "none.keras does not exist" in text and "'fourth'" in text, "every problem at once"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "[train, sparsify, {prune: {macs: 0.5}}]",
            "step 'prune' would undo what 'sparsify' before it has done: weights that are 0 stay 0",
        ),
        ("[train, sparsify, decompose]", "step 'decompose' would undo"),
        ("[sparsify, train]", "step 'train' would undo"),
        ("[train, cluster, sparsify]", "step 'sparsify' would undo what 'cluster' before it has done: weights that share a value"),
        ("[train, quantize, sparsify]", "step 'sparsify' needs a float model, but 'quantize' before it"),
        ("[train, {cluster: {clusters: 1}}]", "clusters"),
    ],
)
def test_orders_that_are_refused(recipe, message):
    with pytest.raises(ConfigError) as caught:
        load_config("digits", [f"recipe={recipe}"])
    assert message in str(caught.value)


def test_sensible_orders_are_taken():
    for recipe in ("[train, {prune: {macs: 0.5}}, sparsify, cluster, distill, quantize]", "[train, decompose, sparsify, sparsify, ptq]"):
        load_config("digits", [f"recipe={recipe}"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": "optimum"}, "may choose 2 bits, whose four levels -3, -1, 1, 3 have no 0.*codebook=ternary"),
        ({"bits": {"*": 4, "second": 2}}, "gives weights 2 bits"),
        ({"equalize": True}, "equalize: a factor for each row"),
    ],
)
def test_bits_that_cannot_keep_what_is_promised(values, message):
    made, _ = inside("s", "quantize")
    with pytest.raises(ConfigError, match=message):
        check_kept(QuantizeOptions(**values), made)
    check_kept(QuantizeOptions(**{**values, "codebook": "ternary", "equalize": None}), made)
    made.config = load_config("digits", ["recipe=[train, quantize]"])
    check_kept(QuantizeOptions(**values), made)


def test_four_bits_can_keep_zeros():
    made, _ = inside("s", "quantize")
    check_kept(QuantizeOptions(bits={"*": 4, "*/output": 2}), made)
