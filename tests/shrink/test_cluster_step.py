"""The step `cluster`: k-means against brute force, mirrored channels, what it reaches, a resume, and what is refused."""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from sparse_nets import L, inside, network
from taught_runs import same, weights

from tinykit.errors import ConfigError, ModelError, Terminated
from tinykit.quant.kept import Kept, most_values
from tinykit.shrink.clusters import clustered, mirrored
from tinykit.shrink.kernels import weight_columns
from tinykit.steps.cluster import Cluster, ClusterOptions
from tinykit.steps.integers import CalibrationOptions
from tinykit.steps.keeping import to_keep
from tinykit.steps.ptq import Ptq, PtqOptions


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def options(**values):
    return ClusterOptions(**{"clusters": 8, "epochs": 0, "learning_rate": 0.01, "distill": 0.0, **values})


def run(folder, model=None, recipe="recipe=[train, cluster]", **values):
    keras.utils.set_random_seed(9)
    made, lines = inside(folder, "cluster", recipe)
    return Cluster().run(model or network(), options(**values), made), lines


def best(values, count):
    """Least squared error of `count` clusters of sorted values, by trying every split."""
    ordered, least = np.sort(values.astype(np.float64)), np.inf
    for ends in itertools.combinations(range(1, len(ordered)), count - 1):
        least = min(least, sum(((part - part.mean()) ** 2).sum() for part in np.split(ordered, ends)))
    return least


@pytest.mark.parametrize("start", ["kmeans++", "density", "linear"])
def test_k_means_is_near_the_best_of_all_splits(start):
    values = np.random.default_rng(2).normal(0, 0.5, 24).astype(np.float32)
    found = clustered(values, 4, start, zero=False)
    assert len(np.unique(found)) <= 4
    assert ((found - values) ** 2).sum() <= 1.6 * best(values, 4)
    for value in np.unique(found):
        np.testing.assert_allclose(value, values[found == value].mean(), rtol=1e-5)


def test_zeros_are_a_cluster_of_their_own():
    values = np.random.default_rng(2).normal(0, 0.5, 60).astype(np.float32)
    values[::3] = 0
    found = clustered(values, 5, "kmeans++", zero=True)
    np.testing.assert_array_equal(found == 0, values == 0)
    assert len(np.unique(found)) <= 5
    few = np.float32([0, 1, 1, 2])
    np.testing.assert_array_equal(clustered(few, 3, "kmeans++", zero=True), few)


def test_mirrored_channels_compute_the_same():
    model = network()
    x = np.random.default_rng(0).uniform(0, 1, (4, 7, 5, 1)).astype(np.float32)
    before = np.asarray(model(x))
    gains, count = mirrored(model)
    assert count > 3 and len(gains) == 3 and all((np.asarray(gamma) > 0).all() for gamma in gains)
    np.testing.assert_allclose(np.asarray(model(x)), before, atol=1e-6)
    assert mirrored(model)[1] == 0


def test_tables_by_layer():
    result, _ = run("s", layers={"dw": "channel", "third": "free"})
    tables = {row["layer"]: row["table"] for row in result.report["layers"]}
    assert tables == {"first": None, "second": "tensor", "dw": "channel", "third": None, "hidden": "channel", "scores": None}
    found = {name: most_values(w) for name, w in weight_columns(result.model).items()}
    assert found["second"][0] <= 8 and found["hidden"][1] <= 8 < found["hidden"][0] and found["third"][0] > 90


def test_values_are_trained_zeros_stay_and_a_resume_ends_with_the_same_weights():
    recipe = "recipe=[train, {sparsify: {sparsity: 0.6}}, {cluster: {clusters: 8}}]"

    def sparse():
        model = network()
        for name in ("second", "third"):
            kernel = model.get_layer(name).kernel
            kernel.assign(np.where(np.abs(kernel) < 0.06, 0, kernel))
        return model

    start, zeros = run("start", sparse(), recipe)[0], weight_columns(sparse())
    whole, _ = run("whole", sparse(), recipe, epochs=2, distill=0.5)
    for name, found in weight_columns(whole.model).items():
        assert ((found == 0) == (zeros[name] == 0)).all(), name
        if name not in ("first", "scores"):
            assert most_values(found)[name == "hidden"] <= 8
            assert not np.array_equal(found, weight_columns(start.model)[name])
    norms = [layer.gamma for layer in whole.model.layers if hasattr(layer, "gamma")]
    assert all((np.asarray(gamma) >= 0).all() for gamma in norms)
    made, _ = inside("part", "cluster", recipe)
    state = Path("part/checkpoint/values/checkpoint/state.json")
    made.show_progress = lambda done, total, **values: made.stop.ask() if state.exists() else None
    keras.utils.set_random_seed(9)
    with pytest.raises(Terminated):
        Cluster().run(sparse(), options(epochs=2, distill=0.5), made)
    again, lines = run("part", sparse(), recipe, epochs=2, distill=0.5)
    assert any(line.startswith("goes on after epoch 1/2") for line in lines)
    assert same(weights(whole), weights(again))


def test_ptq_afterwards_keeps_the_number_of_integers():
    result, _ = run("s")
    made, _ = inside("p", "ptq", "recipe=[train, {cluster: {clusters: 8}}, ptq]")
    quantized = Ptq().run(result.model, PtqOptions(), made).model
    for name, codes in weight_columns(quantized).items():
        if name not in ("first", "scores"):
            assert most_values(codes)[name == "hidden"] <= 8, name


def test_a_clustered_file_is_kept_on_wish():
    made, _ = inside("s", "ptq", "recipe=[train, ptq]")
    assert to_keep(CalibrationOptions(), made) == Kept(False, None)
    assert to_keep(CalibrationOptions(preserve=["sparsity", "clusters"]), made) == Kept(True, 256)


def refused(error, model=None, **values):
    made, _ = inside("s", "cluster", "recipe=[train, cluster]")
    with pytest.raises(error) as caught:
        Cluster().check_task(model or network(), options(**values), made)
    return str(caught.value)


def test_what_cannot_work_is_told_before_any_training():
    made, _ = inside("s", "cluster", "recipe=[train, cluster]")
    Cluster().check_task(network(), options(epochs=1), made)
    assert "is called 'fourth'; known: dw, first" in refused(ConfigError, layers={"fourth": "free"})
    assert "no layer takes part" in refused(ModelError, layers={"*": "free"})
    inputs = L.Input((7, 5, 1))
    two = keras.Model(inputs, L.Dense(2)(L.Dense(8)(L.Dense(8)(L.Flatten()(inputs)))))
    assert "the data have 3 classes" in refused(ModelError, two, epochs=1)
