"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002): trials that are good at several things at once, under limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.config.tune import Objective
from tinykit.dominance import dominates, fronts
from tinykit.search.trials import Trial
from tinykit.search.tuner.proposing import Drawing, Nothing, Past, Proposal, known, seed_of
from tinykit.search.tuner.space import TuneSpace, Values, key_of

Genes = tuple[float, ...]
"""One number from 0 to 1 for each parameter."""
_CROSSED = 0.9
"""Chance that two parents are mixed at all."""
_SPREAD = 15.0
"""Distribution index of crossover: the larger, the nearer children are to their parents."""
_MUTATION_SPREAD = 20.0
_ATTEMPTS = 50
"""Children that may be known already until a random setting takes their place."""


@dataclass(frozen=True)
class Individual:
    """A trial that is over.

    Attributes:
        genes: what it was.
        merits: what it reached, more is better; empty where nothing was measured.
        excess: by how much it breaks limits; 0: it keeps them.
    """

    genes: Genes
    merits: tuple[float, ...]
    excess: float = 0.0


def beats(one: Individual, other: Individual) -> bool:
    """Constrained domination (definition 1 of the paper)."""
    if one.excess or other.excess:
        return one.excess < other.excess
    return dominates(one.merits, other.merits)


def crowding(merits: Sequence[Sequence[float]]) -> list[float]:
    """Distance of each of one front to its neighbours, summed over the objectives, each as a share of its range; infinity at the ends."""
    distances = [0.0] * len(merits)
    for place in range(len(merits[0]) if merits else 0):
        order = sorted(range(len(merits)), key=lambda index: merits[index][place])
        low, high = merits[order[0]][place], merits[order[-1]][place]
        distances[order[0]] = distances[order[-1]] = math.inf
        if not high > low or not math.isfinite(high - low):
            continue
        for before, index, after in zip(order, order[1:], order[2:]):
            distances[index] += (merits[after][place] - merits[before][place]) / (high - low)
    return distances


def ranked(individuals: Sequence[Individual]) -> dict[int, tuple[int, float]]:
    """Index -> (front, minus crowding distance): the smaller, the better."""
    found: dict[int, tuple[int, float]] = {}
    for rank, front in enumerate(fronts(individuals, beats)):
        merits = [individuals[index].merits for index in front]
        distances = crowding(merits) if all(merits) else [0.0] * len(front)
        found |= {index: (rank, -distance) for index, distance in zip(front, distances)}
    return found


def survivors(individuals: Sequence[Individual], size: int) -> list[Individual]:
    """The best `size`: front by front, of the last one those that stand most alone."""
    ranks = ranked(individuals)
    return [individuals[index] for index in sorted(ranks, key=lambda index: (ranks[index], index))[:size]]


def _tournament(population: Sequence[Individual], ranks: dict[int, tuple[int, float]], rng: np.random.Generator) -> Individual:
    one, other = rng.choice(len(population), 2, replace=len(population) < 2)
    return population[min(int(one), int(other), key=lambda index: ranks[index])]


def child(one: Genes, other: Genes, ordered: Sequence[bool], rng: np.random.Generator) -> Genes:
    """Simulated binary crossover and polynomial mutation; what has no order is taken from one parent, or drawn anew."""
    mixed = rng.random() < _CROSSED
    genes = []
    for a, b, has_order in zip(one, other, ordered):
        gene = (_crossed(a, b, rng) if has_order else (a, b)[int(rng.integers(2))]) if mixed else a
        if rng.random() < 1 / len(one):
            gene = _mutated(gene, rng) if has_order else float(rng.random())
        genes.append(min(max(gene, 0.0), np.nextafter(1.0, 0.0)))
    return tuple(float(gene) for gene in genes)


def _crossed(a: float, b: float, rng: np.random.Generator) -> float:
    u = rng.random()
    spread = (2 * u) ** (1 / (_SPREAD + 1)) if u <= 0.5 else (1 / (2 * (1 - u))) ** (1 / (_SPREAD + 1))
    return 0.5 * ((a + b) + (1 if rng.random() < 0.5 else -1) * spread * (b - a))


def _mutated(gene: float, rng: np.random.Generator) -> float:
    u = rng.random()
    shift = (2 * u) ** (1 / (_MUTATION_SPREAD + 1)) - 1 if u < 0.5 else 1 - (2 * (1 - u)) ** (1 / (_MUTATION_SPREAD + 1))
    return gene + shift


def merits(row: Trial, aims: Sequence[Objective]) -> tuple[float, ...]:
    """What a trial reached, more is better; empty where something was not measured."""
    reached = [row.accuracy if aim == "accuracy" else row.figures.get(aim) for aim in aims]
    if any(value is None for value in reached):
        return ()
    return tuple(float(value or 0) if aim == "accuracy" else -float(value or 0) for aim, value in zip(aims, reached))


class Nsga2:
    """NSGA-II as a Proposer. Trial n is a child of generation n // population; it waits until all earlier generations are over.

    Args:
        aims: what is made good at once.
        population: trials of a generation.
        seed: of the run.
    """

    def __init__(self, space: TuneSpace, aims: Sequence[Objective], population: int, seed: int) -> None:
        self.space, self.aims, self.population, self.seed = space, tuple(aims), population, seed
        self.hyperparameters = {hp.name: hp for hp in space.hyperparameters().space}
        self.ordered = [space.ordered(key) for key in self.hyperparameters]
        self.drawing = Drawing(space, space.hyperparameters())

    def propose(self, number: int, past: Sequence[Past]) -> Proposal | Nothing:
        """See Proposer."""
        born = number // self.population * self.population
        tried = known(past)
        values: Values | None = None
        if born:
            before = [each for each in past if each.number < born]
            if len(before) < born or any(each.row is None for each in before):
                return Nothing.YET
            values = self._child([self._individual(each) for each in before], number, tried)
        if values is None:
            values = self.drawing.new(seed_of(self.seed, number), lambda found: key_of(found) in tried, len(tried))
        return Nothing.LEFT if values is None else Proposal(values)

    def _child(self, before: Sequence[Individual], number: int, tried: set[str]) -> Values | None:
        """A new setting from two parents; None where all children are known."""
        parents: list[Individual] = []
        for start in range(0, len(before), self.population):
            parents = survivors([*parents, *before[start : start + self.population]], self.population)
        ranks = ranked(parents)
        rng = np.random.default_rng([self.seed, number])
        for _ in range(_ATTEMPTS):
            one, other = _tournament(parents, ranks, rng), _tournament(parents, ranks, rng)
            values = self.decoded(child(one.genes, other.genes, self.ordered, rng))
            if key_of(values) not in tried:
                return values
        return None

    def _individual(self, past: Past) -> Individual:
        row = past.row
        reached = merits(row, self.aims) if row is not None and row.status == "trained" else ()
        excess = 0.0 if reached else (row.excess if row is not None else 0.0) or math.inf
        return Individual(self.genes(past.proposal.values), reached, excess)

    def genes(self, values: Values) -> Genes:
        """Values of the configuration as numbers from 0 to 1, by the parameters' scales."""
        proposed = self.space.encoded(values)
        return tuple(float(hp.value_to_prob(proposed[key])) for key, hp in self.hyperparameters.items())

    def decoded(self, genes: Genes) -> Values:
        """The values that genes stand for."""
        return self.space.decoded({key: hp.prob_to_value(gene) for (key, hp), gene in zip(self.hyperparameters.items(), genes)})
