"""Packed tensors and weights of 4 and 2 bits: every kernel at every combination of widths against the reference executor, every tensor."""

import dataclasses
import itertools

import numpy as np
import pytest
from bundles import Case, Comparison, make_case, run_on_board, run_on_host
from engine_host import compare, needs_cc, random_inputs, spread_engine, tampered
from narrow_samples import WIDTHS, chain, combinations, layers, mixed_ranges, one_operand, two_operands
from random_networks import random_network

from tinykit.boards.table import board
from tinykit.engine import registry
from tinykit.engine.generate import build_engine, generate
from tinykit.engine.goal import SIZE
from tinykit.engine.lower import plan_problem
from tinykit.engine.memory import is_packed, random_samples
from tinykit.engine.select import Preference
from tinykit.graph import ir
from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.replay import replay, replay_graph

pytestmark = [needs_cc, pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")]
SAMPLES = 8
BOARDS = pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng"])


def spread(graph: ir.Graph, name: str, reverse: bool) -> Case:
    """A network whose tensors do not touch, in one direction."""
    return Case(spread_engine(graph, reverse, name), random_samples(graph, SAMPLES, 1))


def planned(graph: ir.Graph, name: str) -> Case:
    """A network whose tensors overlap as the planner likes; the plan is proved."""
    case = make_case(graph, name, SAMPLES, 1)
    assert replay(case.engine.problem, case.engine.plan) == []
    assert replay_graph(case.graph, case.engine.problem, case.engine.plan) == []
    return case


def check(found: Comparison, tally, where: str = "host") -> None:
    tally(f"engine vs reference, packed tensors, {where}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def in_place(case: Case) -> int:
    """Steps whose output overlaps an input."""
    count = 0
    for step in case.engine.problem.steps:
        (first, size), others = case.engine.where(step.output), [case.engine.where(t) for t in step.inputs]
        count += any(o < first + size and first < o + n for o, n in others)
    return count


# ---------------------------------------------------------------- multiply-accumulate: 27 combinations, and both books of 2 bits


@pytest.mark.parametrize("weights", WIDTHS)
def test_layers(weights, tally, tmp_path) -> None:
    """Every kernel from one input, forward or in reverse."""
    cases = [spread(layers(i, weights, o, odd), f"n{i}{o}{'x' * odd}", bool(n % 2)) for n, (i, o, odd) in enumerate(combinations(weights))]
    check(run_on_host(cases, tmp_path), tally)
    packed = [c for c in cases if any(is_packed(c.graph.tensors[op.output]) for op in c.graph.ops)]
    assert {c.engine.plan.reversed == frozenset() for c in packed} == {True, False}


@pytest.mark.parametrize("weights", WIDTHS)
def test_layers_the_other_way_round(weights, tally, tmp_path) -> None:
    """The other direction, under sanitizers."""
    cases = [
        spread(layers(i, weights, o, odd), f"n{i}{o}{'x' * odd}", not n % 2)
        for n, (i, o, odd) in enumerate(combinations(weights))
        if n % 3 == weights // 2 % 3
    ]
    check(run_on_host(cases, tmp_path, sanitize=True, optimize="-O1"), tally, "host ASan + UBSan")


@pytest.fixture(scope="module")
def chains() -> dict[tuple[int, int, int, bool], Case]:
    found = {}
    for w in WIDTHS:
        for i, o, odd in combinations(w):
            found[i, w, o, odd] = planned(chain(i, w, o, odd), f"c{i}{w}{o}{'x' * odd}")
    return found


@pytest.mark.parametrize("sanitize", [True, False])
def test_chains(chains, sanitize, tally, tmp_path) -> None:
    """Layers that write over what they read, half of them under sanitizers, in arenas that are not a byte too large."""
    some = list(chains.values())[sanitize::2]
    check(run_on_host(some, tmp_path, sanitize=sanitize, optimize="-O1"), tally, "host ASan + UBSan" if sanitize else "host")


def test_chains_overlap_in_both_directions(chains, monkeypatch) -> None:
    """What the test above relies on; and without the fast kernels' buffers memory really is as much smaller as its bits are fewer."""
    packed = [case for key, case in chains.items() if key[0] < 8 or key[2] < 8]
    assert min(map(in_place, packed)) >= 1 and sum(map(in_place, packed)) >= 3 * len(packed)
    assert {bool(case.engine.plan.reversed) for case in packed} == {True, False}
    monkeypatch.setattr(registry, "FAST", {})
    same = {key[0]: case.graph for key, case in chains.items() if key[0] == key[1] == key[2] and not key[3]}
    arenas = {bits: build_engine(graph, "net").plan.arena_bytes for bits, graph in same.items()}
    assert arenas[4] <= arenas[8] / 2 + 16 and arenas[2] <= arenas[8] / 4 + 16


@BOARDS
def test_emulated(chains, name, tally, tmp_path) -> None:
    """Each width of input, of weights and of output with each other width of another one."""
    few = [chains[i, w, o, w == 2 and i == 4] for i, w in itertools.product(WIDTHS, repeat=2) for o in (WIDTHS[(i + w) // 2 % 3],)]
    few = [dataclasses.replace(case, samples={t: v[:3] for t, v in case.samples.items()}) for case in few]
    check(run_on_board(few, board(name), tmp_path), tally, f"emulated {name}")


# ---------------------------------------------------------------- the other operations


@pytest.mark.parametrize("i", WIDTHS)
def test_two_operands(i, tally, tmp_path) -> None:
    graphs = {f"n{j}{o}": two_operands(i, j, o) for j, o in itertools.product(WIDTHS, repeat=2)}
    cases = [spread(graph, name, bool(n % 2)) for n, (name, graph) in enumerate(graphs.items())]
    check(run_on_host([*cases, *(planned(graph, f"p{name}") for name, graph in graphs.items())], tmp_path, optimize="-O1"), tally)


@pytest.mark.parametrize("i", WIDTHS)
def test_one_operand(i, tally, tmp_path) -> None:
    graphs = {f"n{o}": one_operand(i, o) for o in WIDTHS}
    assert {op.kind for graph in graphs.values() for op in graph.ops} >= {"table", "softmax", "argmax", "mean", "average_pool", "max_pool"}
    cases = [spread(graph, f"{name}{'r' * reverse}", reverse) for name, graph in graphs.items() for reverse in (False, True)]
    check(run_on_host(cases, tmp_path), tally)
    check(run_on_host([planned(g, n) for n, g in graphs.items()], tmp_path, sanitize=True, optimize="-O1"), tally, "host ASan + UBSan")


def test_ranges_of_different_widths(tally, tmp_path) -> None:
    graph = mixed_ranges()
    cases = [spread(graph, "f", False), spread(graph, "r", True), planned(graph, "p")]
    check(run_on_host(cases, tmp_path, sanitize=True, optimize="-O1"), tally, "host ASan + UBSan")


def test_tables_have_an_entry_a_code() -> None:
    for bits in WIDTHS:
        graph = one_operand(bits, 8)
        op = next(op for op in graph.ops if isinstance(op, ir.Table))
        flash = {call.op: call.flash for call in spread_engine(graph).calls}
        assert flash[op.name] == 1 << bits


# ---------------------------------------------------------------- random networks


@pytest.fixture(scope="module")
def random_cases() -> list[Case]:
    return [make_case(random_network(seed, narrow=True), f"n{seed}", 4, seed) for seed in range(12)]


def test_random_networks(random_cases, tally, tmp_path) -> None:
    for case in random_cases:
        assert replay_graph(case.graph, case.engine.problem, case.engine.plan) == [], case.name
    bits = {t.bits for case in random_cases for t in case.graph.activations()}
    assert bits >= {2, 4, 8} and sum(map(in_place, random_cases)) > 10
    check(run_on_host(random_cases, tmp_path, sanitize=True, optimize="-O1"), tally, "random networks, host ASan + UBSan")


@BOARDS
def test_random_networks_emulated(random_cases, name, tally, tmp_path) -> None:
    check(run_on_board(random_cases[:6], board(name), tmp_path), tally, f"random networks, emulated {name}")


# ---------------------------------------------------------------- the comparison can fail

PLANTED = {
    "the high nibble first": (4, 8, "tk_get4", ">> ((i & 1) * 4)", ">> ((~i & 1) * 4)"),
    "a neighbour is lost": (8, 4, "tk_put4", "(*byte & ~(15 << shift))", "(*byte & 0)"),
    "2-bit fields backwards": (2, 8, "tk_get2", ">> ((i & 3) * 2)", ">> ((3 - (i & 3)) * 2)"),
    "one bit too few": (8, 2, "tk_put2", "~(3 << shift)", "~(1 << shift)"),
    "weights without a sign": (8, 8, "tk_weight2", "<< (30 - (i & 3) * 2)) >> 30", "<< (29 - (i & 3) * 2)) >> 30"),
    "the other book": (8, 8, "tk_odd2", "2 * tk_weight2(packed, i) + 1", "2 * tk_weight2(packed, i) - 1"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault) -> None:
    i, o, helper, old, new = PLANTED[fault]
    graph = layers(i, 2, o, helper == "tk_odd2")
    engine, inputs = build_engine(graph, "net", Preference(SIZE)), random_inputs(graph)
    assert compare(engine, inputs).mismatches == 0
    assert compare(tampered(engine, old, new), inputs).mismatches > 0


def test_an_access_that_claims_too_little_is_caught() -> None:
    """Each unit claims only the last element of what it reads: the plan that follows is refused by what the graph says."""
    caught = 0
    for bits in (4, 2):
        graph = chain(bits, 8, bits)
        problem = plan_problem(graph)
        assert replay_graph(graph, problem, make_plan(problem)) == []
        steps = []
        for step in problem.steps:
            reads = {t: np.where(r[:, 1:] > bits, np.stack([r[:, 1] - bits, r[:, 1]], 1), r) for t, r in step.access.reads.items()}
            steps.append(dataclasses.replace(step, access=dataclasses.replace(step.access, reads=reads)))
        false = dataclasses.replace(problem, steps=tuple(steps))
        plan = make_plan(false)
        assert replay(false, plan) == []
        caught += replay_graph(graph, false, plan) != []
    assert caught == 2


def test_a_wrong_direction_shows_in_the_values() -> None:
    """A step that runs from the wrong end of what it overlaps: the proof says so, and the engine's values differ."""
    graph = chain(4, 4, 8)
    engine = build_engine(graph, "net")
    inputs, wrong = random_inputs(graph), 0
    assert compare(engine, inputs).mismatches == 0
    for step in engine.problem.steps:
        turned = dataclasses.replace(engine.plan, reversed=engine.plan.reversed ^ {step.name})
        if step.access.reversible and wrong < 2 and replay_graph(graph, engine.problem, turned):
            wrong += compare(generate(graph, engine.problem, turned, "net"), inputs).mismatches > 0
    assert wrong == 2
