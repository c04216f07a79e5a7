"""The simplifier on random graphs: every output and every kept inner tensor the same, and intervals that hold."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from simplify_graphs import OPS, check, inputs_for, mismatches, random_graph

from tinykit.graph import ir, reference
from tinykit.graph.passes import demand, ranges, slicing
from tinykit.graph.simplify import simplify

KINDS = st.lists(st.sampled_from(OPS), min_size=1, max_size=9)
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(KINDS, SEEDS)
def test_simplified_is_equal(kinds: list[str], seed: int) -> None:
    graph = random_graph(kinds, seed)
    assume(graph is not None)
    check(graph, seed)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(KINDS, SEEDS)
def test_intervals_hold(kinds: list[str], seed: int) -> None:
    graph = random_graph(kinds, seed)
    assume(graph is not None)
    intervals = ranges.value_ranges(graph)
    for name, values in reference.run_all(graph, inputs_for(graph, seed)).items():
        assert (values >= intervals[name].low).all(), name
        assert (values <= intervals[name].high).all(), name


def graphs(count: int) -> list[tuple[ir.Graph, int]]:
    found = []
    for seed in range(count):
        kinds = [str(k) for k in np.random.default_rng(seed).choice(OPS, 6)]
        graph = random_graph(kinds, seed)
        if graph is not None:
            found.append((graph, seed))
    return found


def test_the_random_graphs_exercise_every_pass() -> None:
    results = [simplify(graph) for graph, _ in graphs(250)]
    assert len(results) > 150
    assert sum(bool(r.removed.channels) for r in results) > len(results) // 2
    assert sum(bool(r.removed.ops) for r in results) > len(results) // 5
    assert sum(r.removed.macs[1] < r.removed.macs[0] for r in results) > len(results) // 3


def _no_padding(op: ir.Op) -> bool:
    return False


def _pad_without_its_value(graph: ir.Graph, op: ir.Pad, args: list[ranges.Interval]) -> ranges.Interval:
    return ranges.Interval(*(np.pad(end, op.amounts[-1], constant_values=op.value) for end in (args[0].low, args[0].high)))


@pytest.mark.parametrize("fault", ["foldable", "is_padded", "pad", "contributions"])
def test_faults_are_caught(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A deliberately wrong rule must show up as a mismatch on the random graphs."""
    if fault == "foldable":
        monkeypatch.setattr(demand, "foldable", lambda graph, op, x: x.constant)
    elif fault == "is_padded":
        monkeypatch.setattr(ranges, "is_padded", _no_padding)
    elif fault == "pad":
        monkeypatch.setitem(ranges._RULES, "pad", _pad_without_its_value)
    else:
        monkeypatch.setattr(slicing, "contributions", lambda graph, op, x, mask: np.zeros((len(op.bias), len(mask)), np.int64))
    assert any(mismatches(graph, simplify(graph), inputs_for(graph, seed))[0] for graph, seed in graphs(400))
