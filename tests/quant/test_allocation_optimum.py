"""The integer program against a search through every allocation; bits by hand."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.errors import ConfigError
from tinykit.quant.allocation.accounting import peak_bytes, total_weight_bytes
from tinykit.quant.allocation.network import WIDTHS, Bits, chain
from tinykit.quant.allocation.optimum import Limits, Prices, optimum
from tinykit.quant.allocation.pattern import by_pattern

harms = st.floats(0, 10).map(lambda x: round(x, 3))


@st.composite
def problems(draw):
    count = draw(st.integers(1, 3))
    size = st.integers(1, 300)
    of = lambda n: draw(st.lists(size, min_size=n, max_size=n))  # noqa: E731
    network = chain("chain", of(count + 1), of(count), of(count))
    tables = [{8: 0.0, 4: draw(harms), 2: draw(harms)} for _ in range(count + network.groups)]
    prices = Prices(tuple(tables[:count]), tuple(tables[count:]))
    costs = tuple({w: draw(st.integers(0, 50)) for w in WIDTHS} for _ in range(count))
    pick = lambda top: draw(st.one_of(st.none(), st.integers(1, top)))  # noqa: E731
    return network, prices, Limits(pick(500), pick(600), pick(100), costs)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_nothing_within_the_limits_is_better(problem):
    network, prices, limits = problem
    free = [(8,) if g in network.fixed else WIDTHS for g in range(network.groups)]
    feasible = []
    for groups in itertools.product(*free):
        for weights in itertools.product(WIDTHS, repeat=len(network.layers)):
            bits = Bits(groups, weights)
            if within(network, bits, limits):
                feasible.append(prices.of(bits))
    found = optimum(network, prices, limits)
    assert found.feasible == bool(feasible)
    if feasible:
        assert within(network, found.bits, limits)
        assert prices.of(found.bits) == pytest.approx(min(feasible), abs=1e-4)


def within(network, bits, limits) -> bool:
    cost = sum(costs[w] for costs, w in zip(limits.costs, bits.weights, strict=True))
    return (
        (limits.weight_bytes is None or total_weight_bytes(network, bits) <= limits.weight_bytes)
        and (limits.ram is None or peak_bytes(network, bits) <= limits.ram)
        and (limits.cost is None or cost <= limits.cost)
    )


def test_without_limits_nothing_is_cut_even_where_it_would_cost_nothing():
    network = chain("two", [10, 20, 30], [40, 50], [4, 6])
    free = Prices(tuple({8: 0.0, 4: 0.0, 2: 0.0} for _ in range(2)), tuple({8: 0.0, 4: 0.0, 2: 0.0} for _ in range(3)))
    assert optimum(network, free, Limits()).bits == Bits((8, 8, 8), (8, 8))


def test_bits_by_hand():
    network = chain("three", [10, 20, 30, 5], [40, 50, 60], [4, 6, 8])
    assert by_pattern(network, {}) == Bits((8,) * 4, (8,) * 3)
    assert by_pattern(network, {"*": 4, "layer 1": 2, "*/output": 4}) == Bits((8, 4, 4, 8), (4, 2, 4))
    assert by_pattern(network, {"layer 0": 2, "*": 8}) == Bits((8,) * 4, (8,) * 3)  # the later one counts


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ({"layer 0": 3}, "expected 8, 4 or 2 bits, received 3"),
        ({"layer 0": True}, "received True"),
        ({"layr 0": 4}, "did you mean 'layer 0'?"),
        ({"layer 9/output": 4}, "matches no layer's output"),
        ({"layer 2/output": 4}, "must stay at 8 bits"),
    ],
)
def test_wrong_bits_by_hand(patterns, words):
    network = chain("three", [10, 20, 30, 5], [40, 50, 60], [4, 6, 8])
    with pytest.raises(ConfigError, match="bits: ") as caught:
        by_pattern(network, patterns)
    assert words in str(caught.value)
