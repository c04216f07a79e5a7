"""Layers replaced by chains in Keras models, the choice of ranks, and the step."""

import itertools
import warnings

import numpy as np
import pytest

from tinykit.config.loading import load_config
from tinykit.data.dataset import Dataset, Split
from tinykit.data.preprocess import Chain as Preprocess
from tinykit.errors import BudgetError, ConfigError, ModelError
from tinykit.models.macs import count_macs, layer_macs
from tinykit.recipe.step import StepContext
from tinykit.shrink import factors, lowrank
from tinykit.shrink.chained import replaced, sites
from tinykit.steps.decompose import Decompose, DecomposeOptions

keras = pytest.importorskip("keras")
L = keras.layers


def network(seed=3):
    """Every kind of layer that can be replaced: strides, dilation, valid padding, a residual, a causal window."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((12, 10, 3))
    x = L.Conv2D(12, 3, padding="same", activation="relu", name="first")(inputs)
    y = L.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="strided")(x)
    y = L.BatchNormalization()(y)
    z = L.Conv2D(16, (3, 2), dilation_rate=2, padding="same", name="dilated", kernel_regularizer=keras.regularizers.L2(1e-4))(L.ReLU()(y))
    y = L.Add()([y, z])
    y = L.Conv2D(24, 1, strides=2, name="point")(y)
    y = L.Reshape((-1, 24))(y)
    y = L.Conv1D(20, 3, padding="causal", name="causal")(y)
    y = L.Conv1D(20, 2, name="line")(y)
    y = L.Dense(18, activation="relu", name="rows")(y)
    return keras.Model(inputs, L.Dense(5, name="last")(L.GlobalAveragePooling1D()(y)))


def chains(model, full):
    """A chain for every layer that takes one, by each method in turn."""
    found = {}
    for i, site in enumerate(sites(model)[0]):
        methods = [m for m in factors.methods_for(site.kernel) if not (site.causal and m in ("separable", "cp"))]
        method = methods[i % len(methods)]
        window, before, behind = int(np.prod(site.kernel.shape[:-2])), *site.kernel.shape[-2:]
        whole = {"svd": (min(before, behind),), "tucker": (before, behind), "separable": (min(window, behind),), "cp": (window * before,)}
        part = {"svd": (3,), "tucker": (2, 5), "separable": (1,), "cp": (4,)}
        found[site.name] = factors.METHODS[method](site.kernel, (whole if full else part)[method])
    return found


def test_full_rank_computes_the_same() -> None:
    model = network()
    x = np.random.default_rng(0).normal(size=(4, 12, 10, 3)).astype(np.float32)
    wanted = model.predict(x, verbose=0)
    for name, chain in chains(model, True).items():
        limit = 1e-2 if chain.method == "cp" else 1e-5
        got = replaced(model, {name: chain}).predict(x, verbose=0)
        assert np.abs(got - wanted).max() <= limit * np.abs(wanted).max(), name
    assert np.array_equal(replaced(model, {}).predict(x, verbose=0), wanted)


def test_a_replaced_layer_computes_its_composed_kernel() -> None:
    """At low ranks: the chain in place of the layer, and the layer with the chain's product as its kernel."""
    model = network()
    x = np.random.default_rng(0).normal(size=(4, 12, 10, 3)).astype(np.float32)
    for name, chain in chains(model, False).items():
        got = replaced(model, {name: chain}).predict(x, verbose=0)
        layer = model.get_layer(name)
        own = np.asarray(layer.kernel)
        layer.kernel.assign(chain.composed().reshape(own.shape))
        wanted = model.predict(x, verbose=0)
        layer.kernel.assign(own)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5, err_msg=name)


def test_costs_are_those_of_the_new_model() -> None:
    model = network()
    found, _ = sites(model)
    chosen = chains(model, False)
    macs = count_macs(model) + sum(chosen[s.name].macs(s.inputs, s.outputs) - s.macs for s in found)
    small = replaced(model, chosen)
    assert count_macs(small) == macs
    assert small.count_params() == model.count_params() + sum(chosen[s.name].parameters - s.kernel.size for s in found)
    assert sum(row.macs for row in layer_macs(model)) == count_macs(model)
    assert len({layer.name for layer in small.layers}) == len(small.layers)
    assert all(small.get_layer(f"dilated_{i}") is not None for i in (1, 2))


def test_layers_that_stay_are_said() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    shared = L.Conv2D(4, 3, padding="same", name="shared")
    x = L.Conv2D(8, 3, groups=2, name="grouped")(shared(shared(inputs)))
    x = L.Conv2D(8, 1, kernel_constraint="non_neg", name="held")(x)
    model = keras.Model(inputs, L.Dense(3, name="last")(L.Flatten()(x)))
    found, refused = sites(model)
    assert [site.name for site in found] == ["last"]
    assert set(refused) == {"shared", "grouped", "held"}
    assert "2 times" in refused["shared"] and "2 groups" in refused["grouped"] and "constrained" in refused["held"]


# ---------------------------------------------------------------- choice


def candidate(macs, harm, parameters=1):
    return lowrank.Candidate(None, macs, parameters, 0.0, harm)


def test_the_choice_is_the_best_of_all() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        offers = {
            f"l{i}": [candidate(int(m), float(h)) for m, h in zip(np.sort(rng.integers(1, 100, 4))[::-1], np.sort(rng.random(4)))]
            for i in range(4)
        }
        every = list(itertools.product(*offers.values()))
        limit = int(rng.integers(40, 300))
        fits = [choice for choice in every if sum(c.macs for c in choice) <= limit]
        if not fits:
            with pytest.raises(BudgetError):
                lowrank.least_harm(offers, limit)
            continue
        found = lowrank.least_harm(offers, limit)
        assert sum(c.macs for c in found.values()) <= limit
        assert sum(c.harm for c in found.values()) == pytest.approx(min(sum(c.harm for c in choice) for choice in fits), abs=1e-5)


def test_the_least_work_within_a_harm_is_the_best_of_all() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        offers = {
            f"l{i}": [candidate(int(m), h) for m, h in zip(np.sort(rng.integers(1, 100, 4))[::-1], [0.0, *np.sort(rng.random(3))])]
            for i in range(4)
        }
        limit = float(rng.random())
        found = lowrank.least_work(offers, limit)
        fits = [choice for choice in itertools.product(*offers.values()) if sum(c.harm for c in choice) <= limit]
        assert sum(c.harm for c in found.values()) <= limit + 1e-6
        assert sum(c.macs for c in found.values()) <= min(sum(c.macs for c in choice) for choice in fits)


def test_offers_are_cheaper_and_none_is_beaten() -> None:
    for site in sites(network())[0]:
        first, *others = lowrank.offered(site, tuple(factors.METHODS))
        assert first.chain is None and first.macs == site.macs
        for c in others:
            assert c.macs < site.macs and c.parameters < site.kernel.size
            assert not any(o.macs <= c.macs and o.error <= c.error for o in others if o is not c)


# ---------------------------------------------------------------- the step


def context(folder, **options):
    rng = np.random.default_rng(1)

    def split(n):
        y = np.arange(n) % 5
        x = rng.integers(0, 100, (n, 12, 10, 3))
        x[np.arange(n), 2 * y] += 120
        return Split(x.astype(np.uint8), y.astype(np.int64))

    config = load_config("digits", ["recipe=float", "data.batch_size=16", "data.preprocess=[{divide: {by: 255}}]"])
    data = Dataset("bars", "made", True, tuple("abcde"), split(80), split(20), split(20), "0" * 64)
    lines: list[str] = []
    return StepContext(
        data, Preprocess.parse(config.config.data.preprocess), config, 3, folder, label="decompose", log=lines.append, **options
    ), lines


def test_the_step_meets_its_budget_and_trains(tmp_path) -> None:
    model = network()
    before = count_macs(model)
    made, lines = context(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = Decompose().run(model, DecomposeOptions(epochs=1, macs=0.6), made)
    assert result.report["before"]["macs"] == before and count_macs(result.model) == result.report["after"]["macs"] <= 0.6 * before
    assert result.report["epochs"] == 1 and any("error of the weights" in line for line in lines)
    again, _ = context(tmp_path)  # the same folder: what was chosen and trained is taken up
    repeated = Decompose().run(network(), DecomposeOptions(epochs=1, macs=0.6), again)
    for a, b in zip(result.model.get_weights(), repeated.model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_what_is_not_worth_it_stays_as_it_is(tmp_path) -> None:
    made, lines = context(tmp_path)
    result = Decompose().run(network(), DecomposeOptions(epochs=1, ranks="harm", harm=1e-9), made)
    assert result.model is None and result.report["layers"] == {} and result.report["after"] == result.report["before"]
    assert lines == ["no layer is replaced: none becomes cheaper within a harm of 1e-09"], "and nothing is trained"


def test_chains_that_take_more_cycles_are_left_out(tmp_path, monkeypatch) -> None:
    options, model = DecomposeOptions(epochs=0, ranks="harm", harm=100.0), network()
    whole = [layer.name for layer in model.layers]

    def cycles(self, tried):
        names = [layer.name for layer in tried.layers]
        return 900 if names != whole and "strided" in names else 1000  # only what replaces `strided` is not quicker

    monkeypatch.setattr("tinykit.steps.decompose._Choice._cycles", cycles)
    made, lines = context(tmp_path)
    result = Decompose().run(model, options, made)
    assert count_macs(result.model) == result.report["after"]["macs"] < 0.6 * result.report["before"]["macs"]
    assert "strided" not in result.report["layers"] and len(result.report["layers"]) > 3
    assert "strided: stays: 1,000 cycles with a chain, 1,000 without" in lines


@pytest.mark.parametrize("rule", ["energy", "evidence"])
def test_rules_replace_only_what_becomes_cheaper(tmp_path, rule) -> None:
    model = network()
    low = np.outer(*np.random.default_rng(0).normal(size=(2, 20))).astype(np.float32)[:, :18]  # rank 1
    model.get_layer("rows").kernel.assign(low)
    made, _ = context(tmp_path)
    result = Decompose().run(model, DecomposeOptions(epochs=0, ranks=rule, energy=0.99, layers=("rows", "point")), made)
    assert result.report["layers"]["rows"] == {"method": "svd", "ranks": [1]}
    assert result.report["after"]["macs"] < result.report["before"]["macs"]


def test_what_cannot_be_is_refused_before_anything_is_trained(tmp_path) -> None:
    made, _ = context(tmp_path)
    with pytest.raises(ConfigError, match="no dense or convolution layer is called 'rowz'.*did you mean 'rows'"):
        Decompose().check_task(network(), DecomposeOptions(layers=("rowz",)), made)
    with pytest.raises(BudgetError, match="more than macs: 0.01"):
        Decompose().run(network(), DecomposeOptions(macs=0.01, epochs=0), made)
    plain = keras.Sequential([keras.Input((4,)), L.ReLU()])
    with pytest.raises(ModelError, match="no dense or convolution layer"):
        Decompose().check_task(plain, DecomposeOptions(), made)
    three = keras.Sequential([keras.Input((12, 10, 3)), L.Flatten(), L.Dense(3)])
    with pytest.raises(ModelError, match="5 classes"):
        Decompose().check_task(three, DecomposeOptions(), made)
