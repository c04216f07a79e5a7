"""Evolution: finds what brute force finds, keeps constraints, looks at nothing twice, is repeatable. No TensorFlow."""

import itertools

import numpy as np
import pytest
from search_spaces import image_space, series_space

from tinykit.boards.table import Budget
from tinykit.config.search import TwoStage
from tinykit.search.costs import CostModel
from tinykit.search.trials import Trial
from tinykit.search.twostage.evolution import Evolution, Merit
from tinykit.search.twostage.evolved import merit


class Judge:
    """An accuracy that no order of the choices gives away entirely, under a limit of multiply-accumulates."""

    def __init__(self, space, share):
        self.space, self.costs = space, CostModel(space)
        rng = np.random.default_rng(5)
        self.tastes = {d.name: np.linspace(0, 1, len(d.values)) + rng.normal(0, 0.3, len(d.values)) for d in space.decisions}
        self.pairs = rng.normal(0, 0.2, len(space.decisions))
        self.limit = share * self.macs({d.name: len(d.values) - 1 for d in space.decisions})
        self.looked = []

    def macs(self, indices):
        return self.costs(self.space.one_hot(indices)).as_dict()["macs"]

    def accuracy(self, indices):
        indices = self.space.indices(self.space.architecture(indices))
        values = [self.tastes[name][index] for name, index in indices.items()]
        return float(sum(values) + sum(w * a * b for w, a, b in zip(self.pairs, values, values[1:])))

    def __call__(self, indices):
        self.looked.append(self.space.architecture(indices).key)
        excess = self.macs(indices) / self.limit - 1
        return Merit(False, -excess) if excess > 0 else Merit(True, self.accuracy(indices))


def best_of_all(judge):
    names = [d.name for d in judge.space.decisions]
    every = (dict(zip(names, choice)) for choice in itertools.product(*(range(len(d.values)) for d in judge.space.decisions)))
    return max(judge.accuracy(indices) for indices in every if judge.macs(indices) <= judge.limit)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_optimum_of_a_small_space(seed):
    judge = Judge(image_space(), 0.4)
    found = Evolution(judge.space, TwoStage(population=32, generations=14, mutation=0.15), seed, judge).run()
    assert found[0].merit.fits and found[0].merit.value == pytest.approx(best_of_all(judge))
    assert len(judge.looked) == len(set(judge.looked)) < judge.space.size / 4


def test_it_is_better_than_as_many_random_architectures():
    gains = []
    for seed in range(5):
        judge = Judge(image_space(), 0.3)
        found = Evolution(judge.space, TwoStage(population=24, generations=8, mutation=0.15), seed, judge).run()
        rng, count = np.random.default_rng([seed, 9]), len(judge.looked)
        drawn = [judge(judge.space.drawn(rng)) for _ in range(count)]
        gains.append(found[0].merit.value - max(drawn).value)
    assert min(gains) >= 0 and np.mean(gains) > 0.3


def test_equal_seeds_look_at_the_same_and_others_do_not():
    looked = []
    for seed in (1, 1, 2):
        judge = Judge(image_space(), 0.3)
        Evolution(judge.space, TwoStage(population=6, generations=2), seed, judge).run()
        looked.append(judge.looked)
    assert looked[0] == looked[1] != looked[2]


def test_it_approaches_the_limits_where_nothing_random_fits():
    judge = Judge(image_space(), 0.125)
    lines = []
    found = Evolution(judge.space, TwoStage(population=12, generations=12, mutation=0.3), 0, judge, log=lines.append).run()
    assert found[0].merit.fits
    assert "none fits yet" in lines[0] and "none fits yet" not in lines[-1]


def test_architectures_refused_by_count_are_no_population():
    judge = Judge(image_space(), 0.25)
    merits = []

    def look(indices):
        found = judge(indices)
        merits.append(Merit(found.fits, found.value, considered=found.fits))
        return merits[-1]

    Evolution(judge.space, TwoStage(population=6, generations=0), 0, look).run()
    assert sum(each.considered for each in merits) == 6 < len(merits)


def test_a_space_of_few_architectures_ends():
    space = series_space()
    one = [stage.model_copy(update={"blocks": stage.blocks[:1], "kernels": stage.kernels[:1]}) for stage in space.stages]
    small = type(space)(one, space.input_shape, space.classes)
    judge = Judge(small, 1.0)
    found = Evolution(small, TwoStage(population=50, generations=3), 0, judge).run()
    assert len(judge.looked) == len(set(judge.looked)) == small.size == len(found)


def trial(accuracy=None, predicted=None, macs=10):
    status = "infeasible" if accuracy is None else "trained"
    return Trial("k", "two_stage", {}, status, (), {"macs": macs, "flash": 50, "ram": 5}, predicted, accuracy)


def test_who_fits_beats_who_does_not_and_less_excess_more():
    budget, limits = Budget(100, 10), {"macs": 10.0, "flash": 100.0, "ram": 10.0}

    def sizes(flash, ram, cycles):
        return {"flash": flash, "ram": ram, "instructions": None if flash is None else 1, "cycles": cycles}

    order = [
        trial(0.9, sizes(90, 9, 1000)),
        trial(0.9, sizes(90, 9, 2000)),
        trial(0.1, sizes(90, 9, 1)),
        trial(None, sizes(101, 10, 1)),
        trial(None, sizes(101, 11, 1)),
        trial(None, None, macs=15),
        trial(None, sizes(None, None, None)),
    ]
    found = [merit(each, budget, limits) for each in order]
    assert found == sorted(found, reverse=True) and len(set(found)) == len(found)
    assert [each.considered for each in found] == [True, True, True, True, True, False, True]
