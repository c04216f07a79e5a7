"""Differentiable search: its limits tighten, penalties are of what is above them, and decisions end within them."""

import math

import numpy as np
import pytest
from search_spaces import SPACES, context, stage

tf = pytest.importorskip("tensorflow")

from tinykit.config.search import SearchConfig  # noqa: E402
from tinykit.errors import Terminated  # noqa: E402
from tinykit.search.costs import CostModel  # noqa: E402
from tinykit.search.dnas import Dnas  # noqa: E402
from tinykit.search.space import Space  # noqa: E402
from tinykit.search.supernet import Supernet  # noqa: E402


def searcher(space, folder, limits, more=(), **options):
    stages = [s.model_dump() for s in space.stages]
    made = SearchConfig.model_validate({"stages": stages, "epochs": 12, "warmup_epochs": 2, "learning_rate": 0.01, **options})
    return Dnas(Supernet(space, 0), made, limits, context(space, folder, count=96, batch_size=4, **dict(more)))


def tiny_space():
    return Space([stage(["conv"], 4, 32, kernels=[3, 5], stride=2), stage(["separable"], 4, 32)], (12, 4), 3)


def even_macs(space):
    return CostModel(space)({d.name: np.full(len(d.values), 1 / len(d.values)) for d in space.decisions}).macs


def test_limits_tighten_from_what_the_undecided_network_costs(tmp_path):
    space = tiny_space()
    even = even_macs(space)
    made = searcher(space, tmp_path, {"macs": even / 8, "flash": 1e9, "ram": None}, tightening=0.6)  # 6 of 10 epochs
    limits = [made.limit("macs", epoch) for epoch in range(12)]
    assert limits[:2] == pytest.approx([even, even])
    assert [a / b for a, b in zip(limits[1:], limits[2:8], strict=False)] == pytest.approx([8 ** (1 / 6)] * 6)
    assert limits[7:] == pytest.approx([even / 8] * 5)
    assert [made.limit("flash", epoch) for epoch in range(12)] == [1e9] * 12, "never less than what is allowed"
    assert made.limit("ram", 3) == math.inf
    at_once = searcher(space, tmp_path, {"macs": even / 8}, tightening=0)
    assert [at_once.limit("macs", epoch) for epoch in range(2, 12)] == [even / 8] * 10


@pytest.mark.parametrize("name", sorted(SPACES))
def test_penalties_by_hand(tmp_path, name):
    space = SPACES[name]()
    limits = {"macs": 1_000.0, "flash": None, "ram": 100.0}
    made = searcher(space, tmp_path, limits, penalty={"macs": 2.0, "flash": 3.0, "ram": 0.5})
    rng = np.random.default_rng(5)
    for variable in made.net.logits.values():
        variable.assign(rng.normal(0, 1, variable.shape))
    cost = CostModel(space)(made.net.probabilities())
    found = float(made.penalty(tf.constant([500.0, 1.0, 50.0])))
    assert found == pytest.approx(2 * (cost.macs / 500 - 1) + 0.5 * (cost.ram / 50 - 1), rel=1e-5)
    assert float(made.penalty(tf.constant([2 * cost.macs, 1.0, 2 * cost.ram]))) == 0


def test_decisions_follow_the_limit_and_end_within_it(tmp_path):
    space = tiny_space()
    even = even_macs(space)
    seen = []
    note = {"write_metrics": lambda label, values, step: seen.append(values["expected_macs"])}
    made = searcher(space, tmp_path, {"macs": even / 4}, note, tightening=0.8)
    made.run()
    assert seen[0] == seen[1] == pytest.approx(even, rel=1e-3), "nothing is decided yet"
    assert seen[-1] <= 1.1 * even / 4
    for epoch, macs in enumerate(seen[2:], 2):
        assert macs > 0.85 * made.limit("macs", epoch), "penalties end where the limit is"


def test_a_search_that_was_stopped_goes_on_to_the_same_decisions(tmp_path):
    space = tiny_space()

    def whole(folder, more=()):
        return searcher(space, folder, {"macs": even_macs(space) / 4}, more, epochs=3, warmup_epochs=1)

    straight = whole(tmp_path / "a")
    straight.run()
    stopped = whole(tmp_path / "b")
    stopped.context.show_progress = lambda done, total, **_: stopped.context.stop.ask() if stopped.checkpoint.path.exists() else None
    with pytest.raises(Terminated):
        stopped.run()
    again = whole(tmp_path / "b")
    again.run()
    for name, variable in straight.net.logits.items():
        np.testing.assert_array_equal(variable.numpy(), again.net.logits[name].numpy())
