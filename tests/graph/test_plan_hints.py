"""Advice: names the right step and tensors, with the right numbers."""

from plan_samples import chain, pixels, pointwise_chain, random_problem, whole

from tinykit.graph.plan.hints import advice
from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.problem import Problem, Step


def test_names_the_peak_and_what_is_alive() -> None:
    sizes = {"x": 1000, "a": 3000, "y": 100, "z": 1100}
    steps = (
        Step("early", ("x",), "a", whole({"x": 1000}, 3000, scratch=40)),
        Step("late", ("a",), "y", whole({"a": 3000}, 100)),
        Step("last", ("x", "y"), "z", whole({"x": 1000, "y": 100}, 1100)),
    )
    problem = Problem(sizes, steps, ("x",), ("z",))
    plan = make_plan(problem)
    first, gap, following, together = advice(problem, plan)
    assert first == (
        "Step late needs the most memory, 4,100 B of the arena's 4,100 B: a 3,000 B (input), x 1,000 B (kept for later), y 100 B (output)."
    )
    assert gap == "No placement in any order of the steps takes less; only another network can, or kernels that overlap further."
    assert "If late needed half of that" in following
    assert together.startswith(
        "2 steps come within 5% of it (early, late); if each needed half, the arena could fall by 1,900 B to 2,200 B;"
    )
    assert "the arena could fall by 60 B to 4,040 B; step early would decide then, with 4,040 B." in following


def test_shared_bytes_and_the_largest_again() -> None:
    problem = pointwise_chain([8, 16, 2], 100)
    sentences = advice(problem, make_plan(problem))
    assert "of which 792 B can be shared" in sentences[0]
    only = chain([400, 800], [pixels({"t0": 4}, 8, 100, buffered=True)])
    assert advice(only, make_plan(only))[-1].startswith("The inputs, or the outputs, take 800 B by themselves")


def test_several_steps_near_the_peak() -> None:
    """Halving one of three equal steps wins nothing: the advice says which must shrink together, and what is left then."""
    problem = chain(
        [10, 400, 400, 400, 10], [whole({f"t{n}": a}, b) for n, (a, b) in enumerate(zip([10, 400, 400, 400], [400, 400, 400, 10]))]
    )
    sentences = advice(problem, make_plan(problem))
    assert "the arena would not fall" in sentences[2]
    assert "s1, s2" in sentences[3]


def test_names_of_converters_are_cut_and_long_lists_too() -> None:
    joined, long = "net/relu;net/conv/bias;net/conv", "network/" + "block/" * 8 + "output"
    steps = tuple(Step(f"s{n}", (a,), b, whole({a: 400}, 400)) for n, (a, b) in enumerate(zip([joined, *"abcdefg"], [*"abcdefg", long])))
    problem = Problem({t: 400 for t in (joined, *"abcdefg", long)}, steps, (joined,), (long,))
    first, _, _, together = advice(problem, make_plan(problem))
    assert "net/relu 400 B (input)" in first and ";" not in first
    assert "8 steps come within 5% of it (s0, s1, s2, s3, s4, s5 and 2 more)" in together
    only = Problem({joined: 100, long: 400}, (Step("s", (joined,), long, whole({joined: 100}, 400)),), (joined,), (long,))
    assert "network/block/blo...k/block/block/output 400 B (output)" in advice(only, make_plan(only))[0]


def test_no_steps() -> None:
    problem = Problem({"x": 10}, (), ("x",), ("x",))
    assert advice(problem, make_plan(problem)) == ["The network has no steps: its arena of 12 B holds its inputs and outputs."]


def test_gaps_are_stated() -> None:
    gaps = 0
    for seed in range(50):
        problem = random_problem(seed, 6, largest=100)
        plan = make_plan(problem)
        sentences = advice(problem, plan)
        gap = plan.arena_bytes - plan.lower_bound
        gaps += gap > 0
        assert (f"The arena is {gap:,} B above" in sentences[1]) == (gap > 0)
        assert all(s.endswith(".") for s in sentences)
    assert gaps
