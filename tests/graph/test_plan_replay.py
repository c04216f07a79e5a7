"""The replay: agrees with a plain simulation, accepts good plans, and catches planted faults."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_samples import chain, moved, pixels, pointwise_chain, random_problem, rows, simulate, whole

from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.problem import Access, Plan, Problem, Step
from tinykit.graph.plan.replay import replay


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([1, 2, 4, 16]), st.sampled_from([8, 8, 4, 2, 1]))
def test_plans_of_random_networks(seed: int, steps: int, alignment: int, bits: int) -> None:
    problem = random_problem(seed, steps, largest=40, alignment=alignment, bits=bits)
    plan = make_plan(problem)
    assert replay(problem, plan) == []
    assert simulate(problem, plan)
    assert plan == make_plan(problem)


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_the_simulation_on_damaged_plans(seed: int) -> None:
    """Random networks, some of packed elements, one buffer or scratch moved, or one direction turned: both find the same plans faulty."""
    random, bits = np.random.default_rng(seed), (8, 4, 8, 2)[seed // 4 % 4]
    problem = random_problem(seed, 2 + seed % 4, largest=240 // bits, bits=bits)
    plan = make_plan(problem)
    for _ in range(6):
        damaged = _damaged(problem, plan, random)
        if damaged is not None:
            assert (replay(problem, damaged) == []) == simulate(problem, damaged)


def _damaged(problem: Problem, plan: Plan, random: np.random.Generator) -> Plan | None:
    kind = random.integers(3)
    if kind == 0:
        turn = str(random.choice([s.name for s in problem.steps if s.access.reversible] or [""]))
        return dataclasses.replace(plan, reversed=plan.reversed ^ {turn}) if turn else None
    if kind == 1 and plan.scratch:
        name = str(random.choice(list(plan.scratch)))
        place = int(random.integers(plan.arena_bytes // 4 + 1)) * 4
        return dataclasses.replace(plan, scratch={**plan.scratch, name: place}, arena_bytes=plan.arena_bytes + 64)
    tensor = str(random.choice(list(problem.sizes)))
    by = int(random.integers(-3, 4)) * 4
    return moved(plan, tensor, by, problem) if plan.offsets[tensor] + by >= 0 else None


def test_random_damage_is_mostly_caught() -> None:
    """The comparison above would mean nothing if damaged plans were all sound."""
    random, caught = np.random.default_rng(0), 0
    for seed in range(60):
        problem = random_problem(seed, 4, largest=30)
        damaged = _damaged(problem, make_plan(problem), random)
        caught += damaged is not None and replay(problem, damaged) != []
    assert caught > 20


def tight() -> tuple[Problem, Plan]:
    """Widening and narrowing over 30 pixels, then a window of 5: a plan with no byte to spare."""
    u = 30
    problem = chain(
        [u * 4, u * 8, u * 4, u * 4, 8],
        [pixels({"t0": 4}, 8, u), pixels({"t1": 8}, 4, u), rows("t2", u, 2, 4, 4), whole({"t3": u * 4}, 8, scratch=12)],
    )
    plan = make_plan(problem)
    assert plan.arena_bytes == plan.lower_bound == u * 8 + 4
    assert replay(problem, plan) == []
    return problem, plan


def test_catches_an_offset_moved_by_one_step() -> None:
    """Moved either way, the widest tensor overwrites what is still read before or after it."""
    problem, plan = tight()
    caught = [replay(problem, moved(plan, "t1", by, problem)) for by in (-4, 4) if plan.offsets["t1"] + by >= 0]
    assert any(caught)
    message = next(m for messages in caught for m in messages)
    assert message.startswith("step 's0': unit ") or message.startswith("step 's1': unit ")
    assert "has written" in message


def test_catches_a_wrong_direction() -> None:
    problem, plan = tight()
    for name in ("s0", "s1"):
        wrong = dataclasses.replace(plan, reversed=plan.reversed ^ {name})
        assert any(f"step {name!r}: unit " in m for m in replay(problem, wrong))
    wrong = dataclasses.replace(plan, reversed=plan.reversed | {"s3"})
    assert replay(problem, wrong) == ["step 's3' cannot run in reverse"]


def test_catches_a_small_arena_and_bad_offsets() -> None:
    problem, plan = tight()
    assert "of an arena of 240" in replay(problem, dataclasses.replace(plan, arena_bytes=plan.arena_bytes - 4))[0]
    assert any("takes bytes -" in m for m in replay(problem, moved(plan, "t1", -400, problem)))
    assert replay(problem, moved(plan, "t4", 2, problem))[0].endswith("off the alignment")
    lost = dataclasses.replace(plan, offsets={t: o for t, o in plan.offsets.items() if t != "t2"})
    assert replay(problem, lost) == ["tensor 't2' has no place"]


def test_catches_scratch_over_live_bytes() -> None:
    problem, plan = tight()
    over_input = dataclasses.replace(plan, scratch={"s3": plan.offsets["t3"] + 8})
    assert any("was last written by the scratch of step 's3'" in m for m in replay(problem, over_input))
    over_output = dataclasses.replace(plan, scratch={"s3": plan.offsets["t4"]}, arena_bytes=plan.arena_bytes + 4)
    assert any("its scratch at" in m and "overlaps its output" in m for m in replay(problem, over_output))
    none = dataclasses.replace(plan, scratch={})
    assert replay(problem, none) == ["scratch of step 's3' has no place"]


def test_catches_scratch_over_a_tensor_kept_for_later() -> None:
    sizes = {"x": 8, "a": 8, "y": 8}
    steps = (Step("first", ("x",), "a", whole({"x": 8}, 8, scratch=8)), Step("second", ("x", "a"), "y", whole({"x": 8, "a": 8}, 8)))
    problem = Problem(sizes, steps, ("x",), ("y",))
    plan = make_plan(problem)
    assert replay(problem, plan) == []
    extra = Problem({**sizes, "z": 8}, steps, ("x", "z"), ("y", "z"))
    good = make_plan(extra)
    assert replay(extra, good) == []
    bad = dataclasses.replace(good, scratch={"first": good.offsets["z"]})
    assert replay(extra, bad) == [
        "output 'z' at the end: byte 0 (arena byte {}) was last written by the scratch of step 'first'".format(good.offsets["z"])
    ]


def test_catches_a_wrong_order() -> None:
    problem, plan = tight()
    swapped = dataclasses.replace(plan, order=(0, 2, 1, 3))
    assert any("step 's2' reads 't2'" in m for m in replay(problem, swapped))
    assert "does not run each of the 4 steps once" in replay(problem, dataclasses.replace(plan, order=(0, 1, 2, 2)))[0]


def test_catches_outputs_that_are_not_complete() -> None:
    """A kernel that leaves the last bytes of its output unwritten."""
    access = whole({"x": 8}, 6)
    problem = Problem({"x": 8, "y": 8}, (Step("s", ("x",), "y", access),), ("x",), ("y",))
    assert replay(problem, make_plan(problem))[0].startswith("output 'y' at the end: byte 6 (arena byte")


def test_two_names_at_two_places() -> None:
    """An alias that the plan puts elsewhere than its owner."""
    steps = (Step("s", ("a",), "y", whole({"a": 8}, 4)),)
    problem = Problem({"x": 8, "a": 8, "y": 4}, steps, ("x",), ("y",), {"a": "x"})
    plan = make_plan(problem)
    assert plan.offsets["a"] == plan.offsets["x"]
    wrong = dataclasses.replace(plan, offsets={**plan.offsets, "a": 4}, arena_bytes=16)
    assert replay(problem, wrong)


def test_in_place_kernels_keep_copies() -> None:
    """A kernel that may run in place although its units say otherwise: at the very address, and nowhere near it."""
    access = dataclasses.replace(rows("x", 10, 3, 4, 4), in_place=frozenset({"x"}), reversible=False)
    problem = Problem({"x": 40, "y": 40}, (Step("s", ("x",), "y", access),), ("x",), ("y",))
    plan = make_plan(problem)
    assert plan.arena_bytes == 40
    assert replay(problem, plan) == []
    assert replay(problem, moved(plan, "x", 4, problem))
    assert replay(problem, moved(plan, "y", 4, problem))


def test_large_networks_are_fast() -> None:
    """40,000 units a step, 30 steps."""
    problem = pointwise_chain([1, 2] * 15 + [1], 40_000)
    plan = make_plan(problem)
    assert plan.arena_bytes <= 80_000 + 8
    assert replay(problem, plan) == []


def test_packed_elements_in_place() -> None:
    """15 elements of 4 bits become 15 of 2 bits in the first bytes of the same memory; a unit that reads too late is caught."""
    u = np.arange(15)[:, None]
    reads, writes = u * 4 + [0, 4], u * 2 + [0, 2]
    step = Step("s", ("x",), "y", Access({"x": reads}, writes, buffered=True))
    problem = Problem({"x": 8, "y": 4}, (step,), ("x",), ("y",), alignment=1, bits={"x": 60, "y": 30})
    plan = make_plan(problem)
    assert plan.arena_bytes == 8 and plan.offsets["y"] == plan.offsets["x"]
    assert replay(problem, plan) == [] and simulate(problem, plan)
    late = dataclasses.replace(problem, steps=(dataclasses.replace(step, access=Access({"x": reads[::-1].copy()}, writes, buffered=True)),))
    assert not simulate(late, plan)
    assert replay(late, plan)[0] == "step 's': unit 10 reads bits 16..20 of 'x', into which unit 8 has written"


def test_catches_a_packed_output_whose_last_element_is_missing() -> None:
    access = Access({"x": np.array([[0, 28]])}, np.array([[0, 24]]))
    problem = Problem({"x": 4, "y": 4}, (Step("s", ("x",), "y", access),), ("x",), ("y",), bits={"x": 28, "y": 28})
    assert replay(problem, make_plan(problem))[0].startswith("output 'y' at the end: byte 3 (arena byte")
