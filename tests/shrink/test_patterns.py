"""Which weights become zero, against what is defined by brute force; and what training must not undo."""

import itertools

import keras
import numpy as np
import pytest
from sparse_nets import network

from tinykit.shrink.held import Held
from tinykit.shrink.kernels import Kernel, kernels, weight_columns
from tinykit.shrink.patterns import from_blocks, lamp, refused, scores, zeros_of
from tinykit.shrink.sparse import Plan, Sparsifier, chosen, common_share, sparsity
from tinykit.shrink.tfmot import Masks, two_of_four


def kernel(values, depthwise=False):
    return Kernel("k", keras.Variable(np.asarray(values, np.float32)), depthwise, "Conv2D", None)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_run_is_what_a_channel_reads_at_one_tap():
    values = drawn(3, 2, 5, 7)
    k = kernel(values)
    for out, tap in itertools.product(range(7), range(6)):
        np.testing.assert_array_equal(k.runs(values)[6 * out + tap], values[tap // 2, tap % 2, :, out])
    np.testing.assert_array_equal(k.from_runs(k.runs(values)), values)
    depthwise = kernel(drawn(3, 3, 4, 2), depthwise=True)
    np.testing.assert_array_equal(depthwise.columns(depthwise.values())[:, 5], depthwise.values()[:, :, 2, 1].ravel())


def test_two_of_four_by_brute_force():
    runs = drawn(9, 12, seed=1)
    mask = two_of_four(runs)
    for row, group in itertools.product(range(9), range(3)):
        own = np.abs(runs[row, 4 * group : 4 * group + 4])
        best = max(itertools.combinations(range(4), 2), key=lambda pair: own[list(pair)].sum())
        assert set(np.flatnonzero(mask[row, 4 * group : 4 * group + 4])) == set(best)


def test_masks_keep_the_largest_and_follow_the_polynomial():
    masks, weights = Masks(0.75, 10), np.abs(drawn(5, 7, 8))
    for update in range(1, 11):
        share = 0.75 * (1 - (1 - update / 10) ** 3)
        mask = masks.largest(weights, update)
        assert abs((~mask).sum() - share * weights.size) <= 1
        assert weights[mask].min() > weights[~mask].max(initial=0)


def test_equal_scores_are_cut_to_the_count_that_is_wanted():
    mask = Masks(0.5, 0).largest(np.ones(40), 0)
    assert mask.sum() == 20


def test_zeros_of_two_in_four():
    k = kernel(np.array([0, 0, 0, 1, 0, 1, 1, 1], np.float32).reshape(1, 1, 8, 1))
    assert zeros_of(k, k.values(), "2of4", 4) == 3 and zeros_of(k, k.values(), "weights", 4) == 4


@pytest.mark.parametrize("channels", [8, 11])
def test_blocks_by_brute_force(channels):
    k = kernel(drawn(3, 1, channels, 3))
    found = scores(k, "blocks", 4)
    assert found.shape == (9, -(-channels // 4))
    for out, tap, block in itertools.product(range(3), range(3), range(found.shape[1])):
        own = k.values()[tap, 0, 4 * block : 4 * block + 4, out]
        np.testing.assert_allclose(found[3 * out + tap, block], np.abs(own).mean(), rtol=1e-6)
    mask = found > np.median(found)
    values = k.values() * from_blocks(k, mask, 4)
    zeros = int((values == 0).sum())
    assert zeros_of(k, values, "blocks", 4) == zeros_of(k, values, "weights", 4) == zeros > 0
    row, block = np.argwhere(~mask)[0]
    runs = k.runs(values).copy()
    runs[row, 4 * block] = 1
    length = min(4, channels - 4 * block)
    assert zeros_of(k, k.from_runs(runs), "blocks", 4) == zeros - length, "a block with one weight counts no zeros"


def test_lamp_by_its_formula():
    weights = np.abs(drawn(50, seed=3))
    found = lamp(weights)
    for score, weight in zip(found, weights):
        np.testing.assert_allclose(score, weight**2 / (weights[weights >= weight] ** 2).sum(), rtol=1e-5)
    assert found.max() == 1
    np.testing.assert_array_equal(lamp(np.zeros(3)), 0)


def test_what_cannot_have_a_pattern():
    assert "3 input channels are no multiple of 4" in refused(kernel(drawn(3, 3, 3, 8)), "2of4", 4)
    assert "does not sum over input channels" in refused(kernel(drawn(3, 3, 8, 1), True), "2of4", 4)
    assert "fewer than a block of 4" in refused(kernel(drawn(3, 3, 3, 8)), "blocks", 4)
    assert refused(kernel(drawn(3, 3, 3, 8)), "weights", 4) is refused(kernel(drawn(1, 1, 8, 8)), "2of4", 4) is None


@pytest.mark.parametrize(("pattern", "scope"), [("weights", "layer"), ("weights", "network"), ("blocks", "network"), ("2of4", "layer")])
def test_a_plan_is_reached(pattern, scope):
    found = kernels(network())
    part, shares = chosen(found, {"third": 0.5, "dw": 0})
    assert [k.name for k in part] == ["second", "third", "hidden"], "the first and the last layer and depthwise ones stay dense"
    common = 0.5 if pattern == "2of4" else common_share(found, part, shares, 0.6)
    sparsifier = Sparsifier(Plan(tuple(part), {} if pattern == "2of4" else shares, common, pattern, 4, scope), 0)
    sparsifier.update(0)
    assert not sparsifier.broken()
    if pattern != "2of4":
        assert abs(sparsity(found) - 0.6) < 0.01
    part[0].variable.assign(part[0].values() + 1)
    assert sparsifier.broken()


def test_what_is_held_stays_after_any_step():
    model = network()
    part = {k.name: k for k in kernels(model)}
    second, third = part["second"], part["third"]
    second.variable.assign(np.where(np.abs(second.values()) < 0.05, 0, second.values()))
    third.variable.assign(np.round(third.values() * 4) / 4)
    before = weight_columns(model)
    held = Held(model, zeros=True, clusters=16)
    held.read()
    moved = {name: k.values() + drawn(*k.variable.shape, seed=4) for name, k in part.items()}
    for name, values in moved.items():
        part[name].variable.assign(values)
    held.restore()
    after = weight_columns(model)
    np.testing.assert_array_equal(after["second"] == 0, before["second"] == 0)
    free = before["second"] != 0
    np.testing.assert_array_equal(after["second"][free], second.columns(moved["second"])[free])
    for value in np.unique(before["third"]):
        members = before["third"] == value
        mean = third.columns(moved["third"])[members].mean(dtype=np.float64)
        np.testing.assert_allclose(after["third"][members], 0 if value == 0 else mean, rtol=1e-6)
    np.testing.assert_array_equal(after["scores"], part["scores"].columns(moved["scores"]), "dense layers are not touched")
