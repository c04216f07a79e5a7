"""Scores by measured harm: the convex curve below the points, the sizes that are tried, and what a cut by them spares."""

import itertools

import keras
import numpy as np
import pytest
from shrinkable import L

from tinykit.shrink.budget import Limits, cut
from tinykit.shrink.channels import channel_map
from tinykit.shrink.costs import Costs
from tinykit.shrink.harms import _slopes, harms


def below(curve, count):
    """The greatest convex curve below points, by brute force: the least of all chords at each place; beyond the last, its last slope."""
    last = curve[-1][0]
    values = [
        min(
            a[1] + (b[1] - a[1]) * (place - a[0]) / (b[0] - a[0]) if a != b else a[1]
            for a, b in itertools.product(curve, curve)
            if a[0] <= place <= b[0] and (a != b or a[0] == place)
        )
        for place in range(last + 1)
    ]
    steps = np.diff(values).tolist()
    return np.array(steps + steps[-1:] * (count - last))


@pytest.mark.parametrize(
    "curve",
    [
        [(0, 0.0), (4, 1.0), (8, 4.0)],
        [(0, 0.0), (4, 3.0), (8, 4.0), (12, 4.5)],
        [(0, 0.0), (3, 0.0), (5, 2.0), (6, 2.0), (11, 9.0)],
        [(0, 0.0), (4, 2.0), (8, 2.0), (12, 10.0)],
    ],
)
def test_slopes_are_those_of_the_convex_curve_below_the_points(curve):
    found = _slopes(curve, 13)
    np.testing.assert_allclose(found, below(curve, 13), rtol=1e-4, atol=1e-9)
    assert (np.diff(found) > 0).all(), "the order in which channels go is kept"


def two_groups(useful):
    """Two layers side by side whose outputs are summed up; channels of the one listed in `useful` alone carry anything."""
    inputs = L.Input((6,))
    a, b = (L.Dense(8, activation="relu", name=name)(inputs) for name in "ab")
    outputs = L.Dense(3, name="out")(L.Concatenate()([a, b]))
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    for name in "ab":
        kernel = rng.normal(0, 1, (6, 8))
        kernel[:, 4:] *= 0.1  # the second half goes first
        model.get_layer(name).set_weights([kernel, rng.normal(0, 0.1, 8)])
    readers = rng.normal(0, 1, (16, 3))
    readers[[i for i in range(16) if i not in useful]] = 0
    model.get_layer("out").set_weights([readers, np.zeros(3)])
    return model


def measured(model, limits, seen=None):
    found = channel_map(model)
    x = np.random.default_rng(1).normal(0, 1, (64, 6)).astype(np.float32)
    truth = np.asarray(model(x))
    order = np.concatenate([np.linalg.norm(model.get_layer(name).get_weights()[0], axis=0) for name in "ab"])
    whole = np.zeros(found.count)
    for name, part in zip("ab", np.split(order, 2), strict=True):
        whole[found.outputs[name]] = part

    def harm(smaller):
        return float(np.mean((np.asarray(smaller(x)) - truth) ** 2))

    def progress(done, total):
        if seen is not None:
            seen.append((done, total))

    return found, harms(found, whole, limits, harm, [x], 0, progress)


def test_a_group_that_nobody_needs_goes_whatever_its_weights():
    model = two_groups(useful=range(8))
    seen = []
    limits = Limits(1, {}, {})
    found, scores = measured(model, limits, seen)
    needed, idle = (scores[found.outputs[name]] for name in "ab")
    assert idle.sum() < 1e-6 < 1e-2 < needed.sum()
    assert needed[4:].max() < needed[:4].min(), "the least channels go first"
    assert seen == [(i, 8) for i in range(9)]  # 6, 4, 2 and 1 of 8 channels, of either
    costs = Costs(found)
    alive = cut(found, scores, costs, {"macs": 0.6 * costs.macs(found.everything())}, limits)
    assert alive[found.outputs["a"]].all() and alive[found.outputs["b"]].sum() < 8


def test_what_has_a_share_of_its_own_is_not_tried():
    seen = []
    found, scores = measured(two_groups(useful=range(16)), Limits(4, {}, {("a",): 4}), seen)
    assert len(seen) == 1 + 1  # 4 of 8 channels of b: three quarters, half and the fewest are the same in fours, or all
    assert scores[found.outputs["a"]].max() < 1e-6 < scores[found.outputs["b"]].max()
