"""In which order the steps run: the least peak of bytes alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.graph.plan.network import Network

_STATES = 40_000  # sets of finished steps that the exact search visits at most
_BEAM = 64  # sets of finished steps kept after each step by the heuristic
_BEAM_WORK = 1 << 23  # beam times steps squared at most: above 362 steps the beam is narrower
_LEAST_BEAM = 8
_WORK = 2_000_000  # ways to go on that are looked at before no more orders are searched; counted, so that no plan depends on the machine

Order = tuple[int, ...]
_Weight = Callable[[int, int, int, int], int]  # (value so far, bytes that the step needs, step, position) -> value


@dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        order: an order with the least peak: the given one if it is among the best.
        bound: bytes that no placement of any order searched can do without.
        exact: all orders were searched.
    """

    order: Order
    bound: int
    exact: bool


def step_bytes(network: Network, order: Sequence[int]) -> list[int]:
    """Bytes that each step of an order needs under any placement: what is alive and its scratch, less what its output can share."""
    search = OrderSearch(network)
    done, alive, needs = 0, search.alive_at_start(), []
    for step in order:
        need, alive = search.advance(step, done, alive)
        done |= 1 << step
        needs.append(need)
    return needs


def _least(network: Network, step: int) -> int:
    """Bytes that a step needs in any order: nothing alive but what it reads and writes, and every input dying."""
    alive = sum(network.sizes[b] for b in (*network.inputs[step], network.outputs[step]))
    return alive + network.scratch[step] - network.saving(step, [b for b in network.inputs[step] if b not in network.end])


class OrderSearch:
    """Searches level by level over the sets of steps that can be finished together; for each set, the best way to reach it is kept.

    The exact search visits at most `states` sets, enough for about 30 steps of a network's width. The beam search keeps the `beam` best
    sets after each step, fewer of them in networks of many hundreds of steps. `looked` counts the ways to go on that were looked at.
    """

    def __init__(self, network: Network, states: int = _STATES, beam: int = _BEAM) -> None:
        steps = len(network.inputs)
        self.network, self.states, self.looked = network, states, 0
        self.beam = min(beam, max(_LEAST_BEAM, _BEAM_WORK // max(steps * steps, 1)))
        producer = {b: s for s, b in enumerate(network.outputs)}
        self._before = [sum(1 << producer[b] for b in inputs if b in producer) for inputs in network.inputs]
        self._mortal = [
            [(b, network.readers[b] & ~(1 << s)) for b in inputs if b not in network.end] for s, inputs in enumerate(network.inputs)
        ]
        self._costs: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}

    def alive_at_start(self) -> int:
        """Bytes of the inputs that a step or the end needs."""
        network = self.network
        return sum(network.sizes[b] for b in network.start if network.readers[b] or b in network.end)

    def advance(self, step: int, done: int, alive: int) -> tuple[int, int]:
        """(bytes that a step needs, bytes alive after it) when the steps `done` are finished and `alive` bytes are."""
        dying = tuple([b for b, others in self._mortal[step] if not others & ~done])
        cost = self._costs.get((step, dying))
        if cost is None:
            cost = self._costs[step, dying] = self._cost(step, dying)
        return alive + cost[0], alive + cost[1]

    def _cost(self, step: int, dying: tuple[int, ...]) -> tuple[int, int]:
        network, output = self.network, self.network.outputs[step]
        need = network.sizes[output] + network.scratch[step] - network.saving(step, dying)
        kept = network.sizes[output] if network.readers[output] or output in network.end else 0
        return need, kept - sum(network.sizes[b] for b in dying)

    def best(self) -> Found:
        """The order with the least peak: exact if the network is small enough, else never worse than the given order."""
        given = tuple(range(len(self.network.inputs)))
        least = max([_least(self.network, step) for step in given] + [self.network.edge_bytes()])  # of any order
        ceiling = max([*step_bytes(self.network, given), least])
        found, peak, exact = given, ceiling, True
        if peak > least:
            found, peak = self.run(peak, _by_peak, narrow=True) or (found, peak)
        if peak > least:
            proved = self.run(peak, _by_peak)
            exact = proved is not None
            found, peak = proved or (found, peak)
        peak = max(peak, least)
        return Found(given if ceiling == peak else found, peak, exact)

    def more(self, found: Found, ceiling: int, count: int) -> Iterator[Order]:
        """Up to `count` more orders whose peak is at most `ceiling` bytes, lazily: the smallest sum of needs, then whatever random weights
        (of a fixed seed) prefer. Fewer where so many steps can follow each other in any order that the search takes much work."""
        random = np.random.default_rng(0)
        for n in range(count):
            if self.looked > _WORK:
                return
            weight = _by_weight(random.integers(1000, size=(len(found.order),) * 2).tolist()) if n else _by_sum
            result = self.run(ceiling, weight, narrow=not found.exact)
            if result is None:
                return
            yield result[0]

    def run(self, ceiling: int, weight: _Weight, narrow: bool = False) -> tuple[Order, int] | None:
        """The order with the least value by `weight` in which no step needs more than `ceiling` bytes.

        Args:
            narrow: with a beam, else exact.

        Returns:
            The order and its peak; None where a beam lost every way, or there are more sets than may be visited.
        """
        level = {0: (0, 0, self.alive_at_start())}  # set -> (value, peak, alive)
        origins: list[dict[int, int]] = []  # for each level, set -> step that led to it
        visited = 0
        for position in range(len(self._before)):
            following, origin = self._next_level(level, position, ceiling, weight, None if narrow else self.states - visited)
            if not following:
                return None
            if narrow and len(following) > self.beam:
                following = dict(sorted(following.items(), key=lambda item: (*item[1], item[0]))[: self.beam])
                origin = {done: origin[done] for done in following}
            visited += len(following)
            level = following
            origins.append(origin)
        ((done, (_, peak, _)),) = level.items()
        order = []
        for origin in reversed(origins):
            order.append(origin[done])
            done ^= 1 << origin[done]
        return tuple(reversed(order)), peak

    def _next_level(
        self, level: dict[int, tuple[int, int, int]], position: int, ceiling: int, weight: _Weight, limit: int | None
    ) -> tuple[dict[int, tuple[int, int, int]], dict[int, int]]:
        """Every set with one step more; empty if there are more than `limit`."""
        following: dict[int, tuple[int, int, int]] = {}
        origin: dict[int, int] = {}
        for done, (value, peak, alive) in level.items():
            if limit is not None and len(following) > limit:
                return {}, {}
            for s, before in enumerate(self._before):
                if done >> s & 1 or before & ~done:
                    continue
                self.looked += 1
                need, left = self.advance(s, done, alive)
                if need > ceiling:
                    continue
                entry = (weight(value, need, s, position), max(peak, need), left)
                after = done | 1 << s
                if after not in following or entry < following[after]:
                    following[after], origin[after] = entry, s
        return following, origin


def _by_peak(value: int, need: int, step: int, position: int) -> int:
    return max(value, need)


def _by_weight(weights: list[list[int]]) -> _Weight:
    return lambda value, need, step, position: value + weights[position][step]


def _by_sum(value: int, need: int, step: int, position: int) -> int:
    return value + need
