"""The second stage's search: a population of architectures, better from generation to generation. No TensorFlow.

Tournaments, crossover and mutation as in regularised evolution for architectures; who fits beats who does not, and of those that do not fit
the one that exceeds less. Sources: Once-for-all, arXiv:1908.09791, section 3.4; Deb's rules for constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tinykit.config.search import TwoStage
from tinykit.search.space import Space

Indices = dict[str, int]
_ATTEMPTS = 10
"""Architectures looked at for each one that is wanted: those that count too much cost nothing but are no population."""
_REPEATS = 50
"""Draws until an architecture is new; a space may have no other."""


@dataclass(frozen=True, order=True)
class Merit:
    """How good an architecture is; the larger the better.

    Attributes:
        fits: whether it keeps the limits.
        value: accuracy where it fits, less its excess where it does not.
        economy: less its cycles, among equals.
        considered: False: refused by count alone, without a plan.
    """

    fits: bool
    value: float
    economy: float = 0.0
    considered: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Member:
    """An architecture of the population: its indices and its merit."""

    key: str
    indices: Mapping[str, int]
    merit: Merit


class Evolution:
    """One search of a space. Equal seeds and merits give equal architectures in equal order.

    Args:
        look: the merit of an architecture.
        quicktest: a population of four and one generation.
    """

    def __init__(
        self, space: Space, options: TwoStage, seed: int, look: Callable[[Indices], Merit], quicktest: bool = False,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.space, self.options, self.seed, self.look, self.log = space, options, seed, look, log
        self.size = min(4, options.population) if quicktest else options.population
        self.generations = min(1, options.generations) if quicktest else options.generations
        self._seen: set[str] = set()

    def run(self) -> list[Member]:
        """The last population, the best first."""
        population = self._best(self._generation(self._random(np.random.default_rng([self.seed, 3, 0]))))
        for number in range(1, self.generations + 1):
            rng = np.random.default_rng([self.seed, 3, number])
            population = self._best([*population, *self._generation(self._children(population, rng))])
            best = population[0].merit
            shown = f"best {100 * best.value:.2f} % on val" if best.fits else "none fits yet"
            self.log(f"generation {number}/{self.generations}: {shown}, {sum(m.merit.fits for m in population)} of {len(population)} fit")
        return population

    def _best(self, members: list[Member]) -> list[Member]:
        return sorted(members, key=lambda member: (member.merit, member.key), reverse=True)[: self.size]

    def _generation(self, proposals: Iterator[Indices]) -> list[Member]:
        """New members, `size` of them considered; fewer where the space has no more."""
        found: list[Member] = []
        for _, indices in zip(range(_ATTEMPTS * self.size), proposals):
            member = Member(self.space.architecture(indices).key, indices, self.look(indices))
            found.append(member)
            if sum(each.merit.considered for each in found) >= self.size:
                break
        return found

    def _random(self, rng: np.random.Generator) -> Iterator[Indices]:
        yield from self._new(lambda: self.space.drawn(rng))

    def _children(self, population: list[Member], rng: np.random.Generator) -> Iterator[Indices]:
        yield from self._new(lambda: self._child(population, rng))

    def _new(self, propose: Callable[[], Indices]) -> Iterator[Indices]:
        """Proposals that were not looked at before; ends when none comes any more."""
        while True:
            for _ in range(_REPEATS):
                architecture = self.space.architecture(propose())
                if architecture.key not in self._seen:
                    self._seen.add(architecture.key)
                    yield self.space.indices(architecture)  # what it does not have is 0: equal architectures have equal indices
                    break
            else:
                return

    def _child(self, population: list[Member], rng: np.random.Generator) -> Indices:
        mother = self._parent(population, rng)
        if rng.random() < self.options.crossover:
            father = self._parent(population, rng)
            return {name: int((mother if rng.random() < 0.5 else father).indices[name]) for name in mother.indices}
        drawn = self.space.drawn(rng)
        return {name: drawn[name] if rng.random() < self.options.mutation else int(index) for name, index in mother.indices.items()}

    def _parent(self, population: list[Member], rng: np.random.Generator) -> Member:
        """The best of a tournament; the population is in order."""
        return population[int(rng.integers(len(population), size=self.options.tournament).min())]
