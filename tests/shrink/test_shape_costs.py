"""What operations cost by their shapes: parts that are found again, what was measured, and cuts by them that keep two targets."""

import keras
import numpy as np
import pytest

from tinykit.models import build_model
from tinykit.models.macs import layer_macs
from tinykit.shrink.budget import Limits, cut
from tinykit.shrink.channels import channel_map
from tinykit.shrink.costs import Costs, Sizes
from tinykit.shrink.shapes import ShapeCosts


def test_the_parts_of_a_cost_are_found_from_a_few_shapes():
    rng = np.random.default_rng(0)
    shapes = [(9.0 * r * w, float(r), float(w)) for r, w in rng.integers(1, 17, (7, 2)) * 4]
    true = lambda shape: float(np.dot((0.75, 9.3, 6.0, 70.0), (*shape, 1.0)))  # noqa: E731
    costs = ShapeCosts()
    for shape in shapes:
        costs.learn({"conv": shape}, {"conv": true(shape)})
    for shape in [(9.0 * 8 * 8, 8.0, 8.0), (9.0 * 64 * 4, 64.0, 4.0)]:
        assert costs.cost("conv", shape) == pytest.approx(true(shape), rel=1e-6)


def test_what_was_measured_counts_and_one_shape_scales_with_its_work():
    costs = ShapeCosts()
    assert costs.cost("conv", (10.0, 2.0, 5.0)) == 0.0
    costs.learn({"conv": (10.0, 2.0, 5.0), "pool": (0.0, 0.0, 8.0)}, {"conv": 30, "pool": 16})
    assert costs.cost("conv", (5.0, 1.0, 5.0)) == 15.0 and costs.cost("pool", (0.0, 0.0, 4.0)) == 8.0
    costs.learn({"conv": (5.0, 1.0, 5.0)}, {"conv": 29})
    assert costs.cost("conv", (10.0, 2.0, 5.0)) == 30.0 and costs.cost("conv", (5.0, 1.0, 5.0)) == 29.0
    assert 0.0 <= costs.cost("conv", (2.0, 1.0, 2.0)) <= 30.0, "no part of a cost is negative"


def engine(model):
    """Kernels that widen what they read: wide layers cost hardly more than their products, narrow ones twice as much."""
    counts = {layer.name: layer.macs for layer in layer_macs(model) if layer.macs}
    reads = {layer.name: layer.input.shape[-1] for layer in model.layers if hasattr(layer, "kernel")}
    return Sizes(0, 0, {}, {}, {name: int(macs + 400 * reads.get(name, 0) + 20_000) for name, macs in counts.items()})


def test_a_cut_keeps_multiply_accumulates_and_instructions():
    keras.utils.set_random_seed(0)
    found = channel_map(build_model("resnet8", (16, 16, 3), 10, {}))
    value = np.random.default_rng(0).uniform(1, 2, found.count)
    measured = []
    costs = Costs(found, lambda model: measured.append(engine(model)) or measured[-1])
    half = 0.5 * costs.macs(found.everything())
    alone = cut(found, value, Costs(found), {"macs": half}, Limits(4, {}, {}))
    targets = {"macs": half, "instructions": 0.97 * costs.exact("instructions", alone)}
    alive = cut(found, value, costs, targets, Limits(4, {}, {}))
    assert costs.macs(alive) <= targets["macs"] and costs.exact("instructions", alive) <= targets["instructions"]
    assert len(measured) < 40, "most steps are estimated"


def test_probes_make_estimates_exact_where_costs_are_sums_of_parts():
    found = channel_map(build_model("resnet8", (16, 16, 3), 10, {}))
    costs, scaled = Costs(found, engine), Costs(found, engine)
    costs.probe(lambda group: 4)
    for each in (costs, scaled):
        each.measure(found.everything())
    alive = found.everything()
    for group in found.removable():
        alive[group.channels[len(group.channels) // 2 :]] = False
    estimates = [each.estimate("instructions", alive) for each in (costs, scaled)]
    truth = scaled.exact("instructions", alive)
    assert estimates[0] == pytest.approx(truth, rel=0.01) and abs(estimates[1] / truth - 1) > 0.05
