"""Which channels go: criteria and budgets by hand, cuts where the arena is fullest, and what cannot be reached."""

import keras
import numpy as np
import pytest
from shrinkable import L, random_network

from tinykit.errors import BudgetError, ModelError
from tinykit.models import build_model, count_macs
from tinykit.models.macs import layer_macs
from tinykit.shrink.budget import Limits, cut, rounded_up, towards
from tinykit.shrink.channels import channel_map
from tinykit.shrink.costs import Costs, Sizes
from tinykit.shrink.criteria import scores
from tinykit.shrink.engine import engine_sizes
from tinykit.shrink.surgery import shrink

NO_LIMITS = Limits(1, {}, {})


def dense_network(norm=True):
    """Two inputs, four hidden units, one output; the kernel of the first layer counts its columns."""
    inputs = L.Input((2,))
    x = L.Dense(4, name="a")(inputs)
    x = L.BatchNormalization(name="n")(x) if norm else x
    model = keras.Model(inputs, L.Dense(1, name="b")(L.ReLU()(x)))
    model.get_layer("a").set_weights([np.array([[3.0, 1, 0, 2], [4, 0, 0, 0]]), np.zeros(4)])
    model.get_layer("b").set_weights([np.array([[1.0], [2], [5], [-1]]), np.zeros(1)])
    if norm:
        model.get_layer("n").gamma.assign([1.0, -4.0, 0.0, 3.0])
    return model


def scored(model, criterion, batches=()):
    found = channel_map(model)
    group = next(g for g in found.removable() if g.layers == ("a",))
    loss = lambda y, output: keras.ops.mean(keras.ops.square(y - output))  # noqa: E731
    return scores(found, criterion, batches, loss)[group.channels]


def test_norms_and_batch_norm_by_hand():
    assert scored(dense_network(), "l1") == pytest.approx(np.array([7, 1, 0, 2]) / 2.5)
    assert scored(dense_network(), "l2") == pytest.approx(np.array([5, 1, 0, 2]) / 2)
    assert scored(dense_network(), "bn_scale") == pytest.approx(np.array([1, 4, 0, 3]) / 2)
    with pytest.raises(ModelError, match="no batch normalisation with a scale; choose l1, l2 or taylor"):
        scored(dense_network(norm=False), "bn_scale")


def test_gradients_and_activations_by_hand():
    model = dense_network(norm=False)
    x, y = np.array([[1.0, 0.0]], np.float32), np.array([[1.0]], np.float32)
    hidden, readers = np.array([3.0, 1, 0, 2]), np.array([1.0, 2, 5, -1])
    error = (hidden * readers).sum() - 1
    assert scored(model, "taylor", [(x, y)]) == pytest.approx((2 * error * hidden * readers) ** 2)
    assert scored(model, "activation", [(x, y), (2 * x, y)]) == pytest.approx(hidden / hidden.mean())
    with pytest.raises(ModelError, match="scores are not finite"):
        scored(model, "taylor", [(x * np.float32("nan"), y)])


def test_first_order_agrees_with_taking_the_channel_away():
    """For an infinitely small share of a channel the loss changes by that share of the first-order term, also through gates and sums."""
    model = random_network(11)
    found = channel_map(model)
    x = np.random.default_rng(0).normal(0, 1, (3, *model.input_shape[1:])).astype(np.float32)
    y = np.array([0, 1, 2])
    loss = lambda t, p: keras.ops.mean(keras.losses.sparse_categorical_crossentropy(t, p))  # noqa: E731
    first = np.sqrt(scores(found, "taylor", [(x, y)], loss))
    base, eps = float(loss(y, model(x, training=False))), 1e-2
    for group in found.removable():
        channel = group.channels[0]
        smaller = keras.models.clone_model(model)
        smaller.set_weights(model.get_weights())
        for name, use in found.uses.items():
            if use.kind in ("mix", "separable"):
                layer = smaller.get_layer(name)
                kernel = layer.kernel if use.kind == "mix" else layer.pointwise_kernel
                reads = np.repeat(use.reads, kernel.shape[-2] // len(use.reads))
                kernel.assign(np.asarray(kernel) * np.where(reads == channel, 1 - eps, 1.0)[:, None])
        change = (float(loss(y, smaller(x, training=False))) - base) / eps
        assert abs(change) == pytest.approx(first[channel], rel=0.05, abs=2e-3)


def test_the_cheapest_channels_go_in_multiples():
    found = channel_map(build_model("resnet8", (16, 16, 3), 10, {}))
    costs = Costs(found)
    value = np.random.default_rng(0).uniform(1, 2, found.count)
    target = 0.5 * costs.macs(found.everything())
    alive = cut(found, value, costs, {"macs": target}, Limits(4, {}, {}))
    assert 0.46 * costs.macs(found.everything()) < costs.macs(alive) <= target
    for group in found.removable():
        if gone := sorted(group.channels[~alive[group.channels]].tolist(), key=lambda c: value[c]):
            back = alive.copy()
            back[gone[-4:]] = True
            assert costs.macs(back) > target, "what the target has room for is left"
    assert count_macs(shrink(found, alive)) == costs.macs(alive)
    for group in found.removable():
        left = group.channels[alive[group.channels]]
        gone = group.channels[~alive[group.channels]]
        assert len(left) % 4 == 0 and len(left) >= 4
        assert not len(gone) or value[gone].max() <= value[left].min()


def test_what_several_measured_targets_have_room_for_is_left():
    """Cycles are twice the work of wide layers and thrice that of others here, so that estimates between two measurements are wrong."""

    def cycles(model):
        return {layer.name: layer.macs * (2 if layer.macs > 100_000 else 3) for layer in layer_macs(model)}

    found = channel_map(build_model("resnet8", (16, 16, 3), 10, {}))
    costs, everything = Costs(found, lambda model: Sizes(0, 0, {}, cycles(model))), found.everything()
    value = np.random.default_rng(0).uniform(1, 2, found.count)
    targets = {"macs": 0.5 * costs.macs(everything), "cycles": 0.45 * costs.exact("cycles", everything)}
    alive = cut(found, value, costs, targets, Limits(4, {}, {}))
    assert all(costs.exact(measure, alive) <= target for measure, target in targets.items())
    for group in found.removable():
        if gone := sorted(group.channels[~alive[group.channels]].tolist(), key=lambda c: value[c]):
            back = alive.copy()
            back[gone[-4:]] = True
            assert any(costs.exact(measure, back) > target for measure, target in targets.items())


def test_floors_and_shares_are_kept():
    found = channel_map(build_model("resnet8", (16, 16, 3), 10, {}))
    first, second, *_ = found.removable()
    limits = Limits(4, {g.layers: 9 for g in found.removable()}, {first.layers: 8})
    alive = cut(found, np.ones(found.count), Costs(found), {"macs": 0.6 * Costs(found).macs(found.everything())}, limits)
    assert int(alive[first.channels].sum()) == 8
    assert all(int(alive[g.channels].sum()) >= 12 for g in found.removable() if g is not first)
    with pytest.raises(BudgetError, match=r"MACs are the fewest that pruning can reach, 10 are wanted.*kept whole: logits"):
        cut(found, np.ones(found.count), Costs(found), {"macs": 10}, limits)
    assert second is not first


def test_schedule_takes_the_same_factor_every_round():
    start, goal = {"macs": 16.0, "ram": 100.0}, {"macs": 2.0, "ram": 200.0}
    assert [towards(start, goal, i, 3) for i in (1, 2, 3)] == [{"macs": pytest.approx(8)}, {"macs": pytest.approx(4)}, {"macs": 2.0}]
    assert [rounded_up(n, 4) for n in (1, 4, 5)] == [4, 4, 8]


def wide_then_narrow():
    """The arena is fullest between a and b, whatever c has."""
    inputs = L.Input((12, 12, 1))
    x = L.Conv2D(16, 3, padding="same", activation="relu", name="a")(inputs)
    x = L.Conv2D(16, 3, padding="same", strides=2, activation="relu", name="b")(x)
    x = L.Conv2D(64, 3, padding="same", activation="relu", name="c")(x)
    return keras.Model(inputs, L.Dense(3, name="d")(L.GlobalAveragePooling2D()(x)))


def test_ram_is_cut_where_the_arena_is_fullest():
    found = channel_map(wide_then_narrow())
    costs, everything = Costs(found, engine_sizes(None)), found.everything()
    start = costs.exact("ram", everything)
    alive = cut(found, np.ones(found.count), costs, {"ram": 0.8 * start}, Limits(2, {}, {}))
    left = {g.name: int(alive[g.channels].sum()) for g in found.removable()}
    assert left["c"] == 64 or left["a"] < 16, left
    assert costs.exact("ram", alive) <= 0.8 * start
    live = costs.measure(everything).live
    assert any(name.startswith(("a", "b", "c")) for name in live)


def test_flash_is_measured_on_the_engine():
    found = channel_map(wide_then_narrow())
    costs, everything = Costs(found, engine_sizes(None)), found.everything()
    start = costs.exact("flash", everything)
    target = start - 5000
    alive = cut(found, np.ones(found.count), costs, {"flash": target}, Limits(2, {}, {}))
    assert target - 1500 < engine_sizes(None)(shrink(found, alive)).flash <= target


def test_estimates_go_on_from_the_last_measurement():
    found = channel_map(wide_then_narrow())
    sizes = Sizes(1000, 500, {"a": 100, "input": 50}, {"a": 80, "b": 40, "d": 8})
    costs, alive = Costs(found, lambda model: sizes), found.everything()
    costs.measure(alive)
    a = next(g for g in found.removable() if g.name == "a")
    alive[a.channels[:8]] = False
    assert costs.estimate("ram", alive) == 500 - 50
    assert costs.estimate("cycles", alive) == 40 + 20 + 8
    weights = 8 * 9 + 8 * 9 * 16
    assert costs.estimate("flash", alive) == 1000 - weights - 8 * 9
