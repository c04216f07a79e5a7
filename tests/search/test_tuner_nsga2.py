"""NSGA-II against its definitions taken literally."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuner_stubs import Study, section

from tinykit.dominance import dominates, fronts
from tinykit.search.trials import Trial
from tinykit.search.tuner.nsga2 import Individual, Nsga2, beats, child, crowding, ranked, survivors
from tinykit.search.tuner.space import TuneSpace

EXCESS = st.sampled_from([0.0, 0.0, 0.5, 1.0, math.inf])
INDIVIDUALS = st.lists(st.builds(Individual, st.just((0.5,)), st.tuples(st.integers(0, 3), st.integers(0, 3)), EXCESS), max_size=14)


def better(one, other):
    """Constrained domination, in the words of the paper."""
    if not one.excess and other.excess:
        return True
    if one.excess and other.excess:
        return one.excess < other.excess
    return not one.excess and dominates(one.merits, other.merits)


@given(INDIVIDUALS)
def test_fronts_are_what_is_left_when_better_ones_are_taken_away(individuals):
    found = fronts(individuals, beats)
    left = list(range(len(individuals)))
    for front in found:
        literal = [i for i in left if not any(better(individuals[j], individuals[i]) for j in left)]
        assert front == literal
        left = [i for i in left if i not in front]
    assert not left


@given(INDIVIDUALS, st.integers(1, 14))
def test_survivors_are_whole_fronts_and_the_loneliest_of_the_next(individuals, size):
    kept = survivors(individuals, size)
    assert len(kept) == min(size, len(individuals))
    ranks = ranked(individuals)
    chosen = sorted(ranks, key=lambda index: (ranks[index], index))[:size]
    worst = max((ranks[index] for index in chosen), default=None)
    assert all(ranks[index] >= worst for index in ranks if index not in chosen)


def test_crowding_is_the_sum_of_the_sides_of_the_box_around_each():
    merits = [(0.0, 10.0), (1.0, 8.0), (4.0, 2.0), (5.0, 0.0)]
    assert crowding(merits) == [math.inf, 4 / 5 + 8 / 10, 4 / 5 + 8 / 10, math.inf]
    assert crowding([(1.0, 1.0)]) == [math.inf] and crowding([]) == []
    assert crowding([(1.0, 2.0)] * 3)[1] == 0.0


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_children_stay_in_range_and_take_what_has_no_order_from_a_parent(seed, count):
    rng = np.random.default_rng(seed)
    one, other = tuple(rng.random(count)), tuple(rng.random(count))
    genes = child(one, other, [True] * count, rng)
    assert all(0 <= gene < 1 for gene in genes) and len(genes) == count


def test_equal_parents_have_equal_children_but_for_mutations():
    rng = np.random.default_rng(0)
    parent = (0.25, 0.5, 0.75, 0.1, 0.9)
    changed = sum(a != b for _ in range(200) for a, b in zip(child(parent, parent, [True, False] * 2 + [True], rng), parent))
    assert 100 < changed < 320  # one of five on average, 200 times


def test_genes_and_values_are_each_others_inverse():
    tune = section("nsga2")
    made = Nsga2(TuneSpace(tune.parameters), tune.aims(), 6, 0)
    for seed in range(20):
        values = made.drawing.new(seed, lambda found: False, 0)
        assert made.decoded(made.genes(values)) == values


def test_it_comes_to_the_front(tmp_path):
    """ZDT1 (Zitzler et al. 2000) with three variables: its front is where the last two are 0; random ones are 0.5 on average."""
    names = ["steps.train.label_smoothing", "steps.train.weight_decay", "model.options.dropout"]
    tune = section("nsga2", trials=100, population=10, objectives=["accuracy", "flash"],
                   parameters={name: {"least": 0.0, "most": 1.0} for name in names})  # fmt: skip

    def attempt(task):
        first, *others = (task.proposal.values[name] for name in names)
        g = 1 + 9 * sum(others) / len(others)
        reached = {"flash": g * (1 - math.sqrt(first / g))}
        return Trial(task.key, "stub", {}, "trained", (), {}, accuracy=1 - first, reached=reached,
                     values=task.proposal.values, number=task.number)  # fmt: skip

    rows = Study(tmp_path, tune, attempt=attempt).run()
    away = [sum(row.values[name] for name in names[1:]) / 2 for row in rows]
    assert sum(away[-20:]) / 20 < 0.2 < 0.4 < sum(away[:10]) / 10
    assert max(row.accuracy for row in rows[-20:]) - min(row.accuracy for row in rows[-20:]) > 0.5  # and it is spread over the front


def test_a_generation_waits_for_the_one_before(tmp_path):
    study = Study(tmp_path, section("nsga2"), lease=60.0)
    handed = [study.desk.create_trial(f"worker{n}") for n in range(7)]
    assert [each.status for each in handed] == ["RUNNING"] * 6 + ["IDLE"]


@pytest.mark.parametrize("aims", [["accuracy", "accuracy"], ["accuracy"], ["speed", "flash"]])
def test_objectives_that_make_no_front_are_refused(aims):
    with pytest.raises(ValueError, match="objectives"):
        section("nsga2", objectives=aims)
