"""Whole plans by hand: chains, residuals, aliases, edges, and what is refused."""

import dataclasses

import numpy as np
import pytest
from plan_samples import ConvolutionNet, chain, fork, pixels, pointwise_chain, random_convolutions, random_problem, rows, whole

from tinykit.errors import ModelError
from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.problem import Access, Plan, Problem, Step
from tinykit.graph.plan.replay import replay


def proved(problem: Problem) -> Plan:
    """The plan, replayed, its bookkeeping checked."""
    plan = make_plan(problem)
    assert replay(problem, plan) == []
    assert plan == make_plan(problem)
    assert set(plan.offsets) == set(problem.sizes)
    assert plan.lower_bound <= plan.arena_bytes
    assert plan.arena_bytes % problem.alignment == 0
    assert [entry.step for entry in plan.timeline] == [problem.steps[n].name for n in plan.order]
    for entry in plan.timeline:
        ends = [offset + size for offset, size in (*entry.tensors.values(), entry.scratch)]
        assert entry.least <= plan.lower_bound
        assert max(ends) <= entry.footprint <= plan.arena_bytes
        step = next(s for s in problem.steps if s.name == entry.step)
        assert {problem.owner(t) for t in (*step.inputs, step.output)} <= set(entry.tensors)
    return plan


def test_widening_by_pixels() -> None:
    """8 -> 16 -> 32 -> 16 channels over 48 x 48 pixels, reads and writes of a pixel interleaved: the largest tensor and one pixel."""
    plan = proved(pointwise_chain([8, 16, 32, 16], 48 * 48))
    assert plan.arena_bytes == plan.lower_bound == 48 * 48 * 32 + 16


def test_buffered_pixels_cost_nothing() -> None:
    assert proved(pointwise_chain([8, 16, 32, 16], 48 * 48, buffered=True)).arena_bytes == 48 * 48 * 32


@pytest.mark.parametrize("channels", [[8, 32, 8, 32, 8, 32, 8], [32, 8, 32, 8, 32], [4, 8, 16, 8, 4, 12, 24, 4]])
def test_alternating_widths_need_both_directions(channels: list[int]) -> None:
    count = 100
    plan = proved(pointwise_chain(channels, count))
    assert plan.arena_bytes == plan.lower_bound <= max(channels) * count + max(channels)
    assert plan.reversed and len(plan.reversed) < len(channels) - 1
    forward = pointwise_chain(channels, count)
    only = tuple(dataclasses.replace(s, access=dataclasses.replace(s.access, reversible=False)) for s in forward.steps)
    assert proved(dataclasses.replace(forward, steps=only)).arena_bytes >= plan.arena_bytes


def test_forward_only_drifts_downwards() -> None:
    """Without reverse, each of ten windows moves one reach further: the arena holds them all, or a step runs disjoint."""
    accesses = [dataclasses.replace(rows(f"t{n}", 50, 1, 4, 4), reversible=False) for n in range(10)]
    plan = proved(chain([200] * 11, accesses))
    assert plan.arena_bytes == 200 + 10 * 8
    both = proved(chain([200] * 11, [rows(f"t{n}", 50, 1, 4, 4) for n in range(10)]))
    assert both.arena_bytes == both.lower_bound == 208


@pytest.mark.parametrize("seed", range(12))
def test_convolution_networks_reach_their_bound(seed: int) -> None:
    """Networks like those in use: no plan is possible that takes less."""
    plan = proved(random_convolutions(seed, 2 + seed))
    assert plan.arena_bytes == plan.lower_bound
    assert plan.order_exact


def test_visual_wake_words() -> None:
    """The first layers of the reference network (96 x 96 x 3, width 0.25), which decide its arena: 36,864 bytes and one pixel's slack."""
    net = ConvolutionNet((96, 96, 3))
    x = net.conv("x", 8, 3, 2)
    for channels, stride in ((16, 1), (32, 2), (32, 1), (64, 2)):
        x = net.conv(net.conv(x, net.shapes[x][2], 3, stride), channels, 1)
    plan = proved(net.problem(x))
    assert plan.arena_bytes == plan.lower_bound == 48 * 48 * 16 + 16


def residual() -> Problem:
    """x -> a -> b; y = a + b: `a` is kept for the sum."""
    sizes = {"x": 60, "a": 80, "b": 80, "y": 80}
    steps = (
        Step("first", ("x",), "a", pixels({"x": 3}, 4, 20)),
        Step("second", ("a",), "b", rows("a", 20, 2, 4, 4)),
        Step("sum", ("a", "b"), "y", pixels({"a": 4, "b": 4}, 4, 20, buffered=True)),
    )
    return Problem(sizes, steps, ("x",), ("y",))


def test_residual_add_runs_in_place() -> None:
    plan = proved(residual())
    assert plan.arena_bytes == plan.lower_bound == 160
    assert plan.offsets["y"] in {plan.offsets["a"], plan.offsets["b"]}


def test_add_of_a_tensor_to_itself() -> None:
    problem = Problem({"x": 10, "y": 10}, (Step("s", ("x", "x"), "y", pixels({"x": 1}, 1, 10, buffered=True)),), ("x",), ("y",))
    assert proved(problem).arena_bytes == 12  # 10 bytes, to the alignment


def test_input_that_is_read_again_stays_apart() -> None:
    """x is needed by both steps: the first must not overlap it, the second may."""
    sizes = {"x": 40, "a": 40, "y": 40}
    element = pixels({"x": 1}, 1, 40, buffered=True)
    steps = (Step("one", ("x",), "a", element), Step("two", ("x", "a"), "y", pixels({"x": 1, "a": 1}, 1, 40, buffered=True)))
    assert proved(Problem(sizes, steps, ("x",), ("y",))).arena_bytes == 80
    assert proved(Problem(sizes, steps, ("x",), ("x", "y"))).arena_bytes == 80  # y in place of a; x is an output and stays


def test_reshape_shares_bytes() -> None:
    """a, its alias b and b's alias c are one buffer; a step reads it under its last name, and it dies there."""
    sizes = {"x": 40, "a": 40, "b": 40, "c": 40, "y": 40}
    steps = (Step("s0", ("x",), "a", whole({"x": 40}, 40)), Step("s1", ("c",), "y", pixels({"c": 1}, 1, 40, buffered=True)))
    problem = Problem(sizes, steps, ("x",), ("y",), {"b": "a", "c": "b"})
    plan = proved(problem)
    assert plan.arena_bytes == 80
    assert plan.offsets["a"] == plan.offsets["b"] == plan.offsets["c"]
    kept = proved(dataclasses.replace(problem, outputs=("y", "b")))  # an alias that is an output keeps its owner
    assert abs(kept.offsets["a"] - kept.offsets["y"]) >= 40


def test_step_that_writes_under_an_alias() -> None:
    """The buffer's owner may be the name of the later tensor."""
    problem = Problem({"x": 8, "a": 8, "y": 8}, (Step("s", ("x",), "a", whole({"x": 8}, 8)),), ("x",), ("y",), {"a": "y"})
    assert proved(problem).arena_bytes == 16


def test_two_inputs_and_two_outputs() -> None:
    sizes = {"p": 40, "q": 24, "a": 40, "b": 16, "c": 8}
    steps = (
        Step("s0", ("p", "q"), "a", pixels({"p": 5, "q": 3}, 5, 8)),
        Step("s1", ("a",), "b", pixels({"a": 5}, 2, 8)),
        Step("s2", ("b",), "c", whole({"b": 16}, 8)),
    )
    plan = proved(Problem(sizes, steps, ("p", "q"), ("b", "c")))
    assert plan.lower_bound >= 64  # both inputs are there at the start
    assert abs(plan.offsets["p"] - plan.offsets["q"]) >= 24


def test_input_that_nobody_reads() -> None:
    """It takes memory at the start and none later."""
    steps = (Step("s", ("x",), "y", whole({"x": 8}, 40)),)
    plan = proved(Problem({"x": 8, "y": 40, "unused": 40}, steps, ("x", "unused"), ("y",)))
    assert plan.arena_bytes == 48


def test_scratch_lies_apart_and_aligned() -> None:
    problem = chain([7, 9], [whole({"t0": 7}, 9, scratch=5)], alignment=1)
    plan = proved(problem)
    assert plan.arena_bytes == 8 + 12 + 8
    assert plan.scratch["s0"] % 4 == 0
    assert plan.timeline[0].scratch == (plan.scratch["s0"], 5)


@pytest.mark.parametrize("alignment", [1, 2, 8, 16])
def test_alignment(alignment: int) -> None:
    problem = chain([10, 30, 10], [pixels({"t0": 1}, 3, 10), pixels({"t1": 3}, 1, 10)], alignment)
    plan = proved(problem)
    assert all(offset % alignment == 0 for offset in plan.offsets.values())
    if alignment == 1:
        assert plan.arena_bytes == 31


def test_order_changes_where_it_helps() -> None:
    """Two branches from one input, both widened first as given: running each to its end saves the widest tensor."""
    sizes = {"x": 8, "a": 100, "b": 100, "c": 4, "d": 4, "y": 4}
    steps = (
        Step("wide a", ("x",), "a", whole({"x": 8}, 100)),
        Step("wide b", ("x",), "b", whole({"x": 8}, 100)),
        Step("narrow a", ("a",), "c", whole({"a": 100}, 4)),
        Step("narrow b", ("b",), "d", whole({"b": 100}, 4)),
        Step("sum", ("c", "d"), "y", pixels({"c": 1, "d": 1}, 1, 4, buffered=True)),
    )
    plan = proved(Problem(sizes, steps, ("x",), ("y",)))
    assert plan.arena_bytes == 8 + 100 + 4
    assert plan.order in {(0, 2, 1, 3, 4), (1, 3, 0, 2, 4)}
    assert plan.order_exact


def test_wide_networks() -> None:
    """Too many orders to search them all: the plan says so, and its bound is that of the orders it looked at."""
    plan = proved(fork(24))
    assert not plan.order_exact
    assert plan.arena_bytes < 200
    beam = make_plan(random_problem(3, 40, largest=40))
    assert beam.lower_bound <= beam.arena_bytes
    assert replay(random_problem(3, 40, largest=40), beam) == []


def test_networks_without_steps() -> None:
    plan = proved(Problem({"x": 10}, (), ("x",), ("x",)))
    assert (plan.order, plan.arena_bytes, plan.lower_bound, plan.timeline) == ((), 12, 12, ())
    flat = proved(Problem({"x": 10, "y": 10}, (), ("x",), ("y",), {"y": "x"}))
    assert flat.offsets == {"x": 0, "y": 0}
    empty = proved(Problem({}, (), (), ()))
    assert empty.arena_bytes == 0


def test_tensors_without_bytes() -> None:
    none = np.zeros((0, 2), np.int64)
    problem = Problem({"x": 8, "y": 0}, (Step("s", ("x",), "y", Access({"x": none}, none)),), ("x",), ("y",))
    assert proved(problem).arena_bytes == 8


GOOD = residual()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": {"x": 60, "a": 80, "b": 80}}, "output 'y' has no size"),
        ({"bits": {"x": 472}}, "tensor 'x' has 60 bytes for 472 bits"),
        ({"sizes": {**GOOD.sizes, "x": -4}}, "tensor 'x' has -4 bytes"),
        ({"sizes": {**GOOD.sizes, "z": 4}}, "tensor 'z' is neither an input nor written by a step"),
        ({"steps": GOOD.steps[::-1]}, "step 'sum' reads 'a' before it is written"),
        ({"steps": GOOD.steps + GOOD.steps[2:]}, "two steps are named 'sum'"),
        ({"inputs": ("x", "a")}, "step 'first' writes 'a', whose bytes hold a tensor already"),
        ({"inputs": ("q",)}, "input 'q' has no size"),
        ({"aliases": {"p": "a"}}, "alias 'p' has no size"),
        ({"aliases": {"a": "b", "b": "a"}}, "alias 'a' goes in a circle: a -> b -> a"),
        ({"aliases": {"x": "x"}}, "alias 'x' goes in a circle: x -> x"),
        ({"aliases": {"big": "x"}, "sizes": {**GOOD.sizes, "big": 64}}, "alias 'big' has 64 bytes, more than 'x'"),
        ({"alignment": 3}, "alignment 3 is not a power of two"),
    ],
)
def test_refuses_contradictions(changes: dict, message: str) -> None:
    with pytest.raises(ModelError, match="memory plan: ") as caught:
        make_plan(dataclasses.replace(GOOD, **changes))
    assert any(message in p for p in caught.value.problems)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reads": {}}, "its access reads [], its inputs are ['x']"),
        ({"reads": {"x": np.zeros((3, 2), int)}}, "ranges of 'x' are int64 [3, 2], expected integers [20, 2]"),
        ({"reads": {"x": np.full((20, 2), 481)}}, "ranges of 'x' leave its 480 bits"),
        ({"reads": {"x": np.tile([4, 2], (20, 1))}}, "ranges of 'x' leave its 480 bits, or end before they start"),
        ({"reads": {"x": np.zeros((20, 2))}}, "ranges of 'x' are float64 [20, 2]"),
        ({"writes": GOOD.steps[0].access.writes[::-1]}, "writes of 'a' do not ascend"),
        ({"scratch": -1}, "scratch of -1 bytes"),
        ({"in_place": frozenset({"b"})}, "in place of ['b'], which it does not read"),
    ],
)
def test_refuses_impossible_accesses(changes: dict, message: str) -> None:
    step = dataclasses.replace(GOOD.steps[0], access=dataclasses.replace(GOOD.steps[0].access, **changes))
    with pytest.raises(ModelError) as caught:
        make_plan(dataclasses.replace(GOOD, steps=(step, *GOOD.steps[1:])))
    assert any(f"step 'first': {message}" in p for p in caught.value.problems)
