"""The supernet: with one-hot vectors it is the architecture, weights are slices, and costs pull decisions the right way."""

import numpy as np
import pytest
from search_spaces import SPACES, image_space

tf = pytest.importorskip("tensorflow")

from tinykit.models.registry import build_model  # noqa: E402
from tinykit.search.costs import CostModel  # noqa: E402
from tinykit.search.supernet import TENSORS, Supernet, inherit  # noqa: E402


def vectors(space, indices):
    return {name: tf.constant(v, tf.float32) for name, v in space.one_hot(indices).items()}


def shaken(net, rng):
    """Weights and statistics that make every channel and every shift count."""
    for name, variable in {**net.weights, **net.statistics}.items():
        noise = rng.uniform(0.5, 1.5, variable.shape) if name.endswith("variance") else rng.normal(0, 0.5, variable.shape)
        variable.assign(variable + noise)
    return net


@pytest.mark.parametrize("name", sorted(SPACES))
def test_an_architecture_computes_what_the_supernet_computes(name):
    space = SPACES[name]()
    rng = np.random.default_rng(3)
    net = shaken(Supernet(space, 0), rng)
    x = rng.normal(0, 1, (3, *space.input_shape)).astype(np.float32)
    most = {d.name: len(d.values) - 1 for d in space.decisions}
    for indices in [{d.name: 0 for d in space.decisions}, most, space.drawn(rng), space.drawn(rng)]:
        model = build_model("staged", space.input_shape, space.classes, {**space.architecture(indices).options(), "softmax": False})
        inherit(model, net)
        expected = net(tf.constant(x), vectors(space, indices), training=False).numpy()
        assert np.ptp(expected, axis=0).max() > 1e-2
        np.testing.assert_allclose(np.asarray(model(x, training=False)), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", sorted(SPACES))
def test_gradients_of_costs_are_those_of_finite_differences(name):
    space = SPACES[name]()
    rng = np.random.default_rng(4)
    point = {d.name: rng.dirichlet(np.ones(len(d.values))) for d in space.decisions}
    exact, relaxed = CostModel(space, 4), CostModel(space, 4, TENSORS)
    variables = {key: tf.Variable(tf.constant(value, tf.float32)) for key, value in point.items()}
    with tf.GradientTape(persistent=True) as tape:
        cost = relaxed(variables)
    for kind in ("macs", "flash", "ram"):
        assert float(getattr(cost, kind)) == pytest.approx(getattr(exact(point), kind), rel=1e-5)
        found = tape.gradient(getattr(cost, kind), variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for key, value in point.items():
            for i in range(len(value)):
                moved = [{**point, key: value + sign * 1e-5 * np.eye(len(value))[i]} for sign in (1, -1)]
                slope = (getattr(exact(moved[0]), kind) - getattr(exact(moved[1]), kind)) / 2e-5
                assert float(found[key][i]) == pytest.approx(slope, rel=1e-3, abs=1e-2), (kind, key, i)


def test_wider_and_deeper_costs_more():
    space = image_space()
    net = Supernet(space, 0)
    costs = CostModel(space, 8, TENSORS)
    for kind in ("macs", "flash"):
        with tf.GradientTape() as tape:
            value = getattr(costs(net.relaxed()), kind)
        gradients = tape.gradient(value, net.logits)
        for decision in space.decisions:
            aspect = decision.name.rpartition(".")[2]
            if aspect == "block" or len(decision.values) == 1:
                continue
            slopes = gradients[decision.name].numpy()
            assert np.all(np.diff(slopes[np.argsort(decision.values)]) > 0), (kind, decision.name)


def test_gates_are_reproducible_sharpen_and_are_one_hot_where_hard():
    net = Supernet(image_space(), 5)
    gates = {t: net.gates(tf.constant(7), tf.constant(t), False) for t in (5.0, 0.05)}
    for name, value in gates[5.0].items():
        assert float(tf.reduce_sum(value)) == pytest.approx(1, abs=1e-5)
        assert float(tf.reduce_max(gates[0.05][name])) >= float(tf.reduce_max(value)) - 1e-6
        assert np.array_equal(value, net.gates(tf.constant(7), tf.constant(5.0), False)[name])
    name = "stage1.filters"
    assert not np.array_equal(gates[5.0][name], net.gates(tf.constant(8), tf.constant(5.0), False)[name])
    with tf.GradientTape() as tape:
        hard = net.gates(tf.constant(7), tf.constant(5.0), True)[name]
        value = tf.reduce_sum(hard * tf.constant([1.0, 2.0, 3.0]))
    assert sorted(np.round(hard.numpy(), 6)) == [0, 0, 1]
    assert np.abs(tape.gradient(value, net.logits[name]).numpy()).max() > 1e-3
