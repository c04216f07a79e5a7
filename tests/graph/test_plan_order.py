"""Orders: the least peak against all orders, beyond the exact search, ties."""

import numpy as np
import pytest
from plan_samples import all_orders, fork, random_problem, whole

from tinykit.graph.plan.network import index
from tinykit.graph.plan.order import OrderSearch, step_bytes
from tinykit.graph.plan.problem import Problem, Step


def peak(network, order) -> int:
    return max([*step_bytes(network, order), network.edge_bytes()])


@pytest.mark.parametrize("seed", range(150))
def test_least_peak_of_all_orders(seed: int) -> None:
    network = index(random_problem(seed, 1 + seed % 6, largest=60))
    found = OrderSearch(network).best()
    least = min(peak(network, order) for order in all_orders(network))
    assert found.exact
    assert found.bound == least == peak(network, found.order)
    orders = set(all_orders(network))
    assert found.order in orders
    if peak(network, tuple(range(len(network.outputs)))) == least:
        assert found.order == tuple(range(len(network.outputs)))


@pytest.mark.parametrize("seed", range(40))
def test_more_orders_keep_to_the_ceiling(seed: int) -> None:
    network = index(random_problem(seed, 6, largest=60))
    search = OrderSearch(network)
    found = search.best()
    for order in search.more(found, found.bound + 8, 4):
        assert order in set(all_orders(network))
        assert peak(network, order) <= found.bound + 8
    smallest = next(search.more(found, found.bound, 1))
    sums = [sum(step_bytes(network, o)) for o in all_orders(network) if peak(network, o) <= found.bound]
    assert sum(step_bytes(network, smallest)) == min(sums)


@pytest.mark.parametrize("seed", range(40))
def test_beam_is_valid_and_never_worse_than_the_given_order(seed: int) -> None:
    network = index(random_problem(seed, 14, largest=200))
    exact, beam = OrderSearch(network).best(), OrderSearch(network, states=1, beam=3).best()
    assert sorted(beam.order) == list(range(14))
    assert exact.exact
    assert exact.bound <= beam.bound <= peak(network, range(14))
    if not beam.exact:
        return
    assert beam.bound == exact.bound


def test_branches_one_after_the_other() -> None:
    network = index(fork(3))
    found = OrderSearch(network).best()
    assert peak(network, range(7)) == 8 + 3 * 40
    assert found.bound == 8 + 40 + 2 * 4  # x is dead once the last branch has widened
    kinds = [n % 3 if n < 6 else -1 for n in found.order]
    assert kinds[0] == kinds[1] and kinds[2] == kinds[3] and kinds[4] == kinds[5]


def test_wide_network_beyond_the_exact_search() -> None:
    """24 branches have 3^24 sets of finished steps: a beam finds a good order, not proved best."""
    network = index(fork(24))
    found = OrderSearch(network).best()
    assert not found.exact
    assert sorted(found.order) == list(range(49))
    assert found.bound < 8 + 24 * 40 / 4
    assert peak(network, found.order) == found.bound


def test_single_steps_prove_an_order() -> None:
    """A chain needs no search: no order can do with less than its largest step."""
    network = index(Problem({"x": 8, "y": 8}, (Step("s", ("x",), "y", whole({"x": 8}, 8)),), ("x",), ("y",)))
    assert OrderSearch(network, states=0).best().exact


def test_same_answer_every_time() -> None:
    network = index(random_problem(5, 12, largest=200))
    assert OrderSearch(network).best() == OrderSearch(network).best()
    assert np.array_equal(*(list(OrderSearch(network).more(OrderSearch(network).best(), 10**6, 3)) for _ in range(2)))
