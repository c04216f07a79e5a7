"""Architectures that a search proposes: the likeliest first, then draws, each as small as it must and as large as it may be by count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from tinykit.search.costs import CostModel
from tinykit.search.space import Space

Indices = dict[str, int]
_SHRINKS = ("filters", "expanded", "repeats", "kernel")
_LEAST = 1e-9


def over(counted: Mapping[str, int], limits: Mapping[str, float | None]) -> dict[str, float]:
    """By which share each cost is above its limit."""
    return {kind: counted[kind] / limit - 1 for kind, limit in limits.items() if limit is not None and counted[kind] > limit}


def draws(space: Space, probabilities: Mapping[str, np.ndarray], seed: int) -> Iterator[Indices]:
    """The likeliest choice, then choices by their probabilities, without end."""
    yield {name: int(np.argmax(p)) for name, p in probabilities.items()}
    rng = np.random.default_rng([seed, 1])
    while True:
        yield space.drawn(rng, probabilities)


def shrunk(
    indices: Indices, probabilities: Mapping[str, np.ndarray], costs: CostModel, limits: Mapping[str, float | None]
) -> Indices | None:
    """The choice with widths, depths and kernels reduced until the counted costs keep their limits; None where they cannot.

    Each move is the one that loses least probability for what it takes off the excess.
    """
    now = dict(indices)
    while excess := _excess(now, costs, limits):
        best: tuple[float, Indices] | None = None
        for name, index in _moves(now, costs.space):
            trial = {**now, name: index}
            gain = excess - _excess(trial, costs, limits)
            if gain <= 0:
                continue
            chances = probabilities[name]
            loss = math.log(max(chances[now[name]], _LEAST)) - math.log(max(chances[index], _LEAST))
            price = max(loss, 0.0) / gain - gain * 1e-6  # of equals the move that helps most
            if best is None or price < best[0]:
                best = price, trial
        if best is None:
            return None
        now = best[1]
    return now


def grown(indices: Indices, probabilities: Mapping[str, np.ndarray], costs: CostModel, limits: Mapping[str, float | None]) -> Indices:
    """A choice that keeps its limits, with widths, depths and kernels raised as long as it does: being smaller wins nothing below them.

    Each move is the one to what is likeliest, against what is there now; of equals the cheapest.
    """
    now = dict(indices)
    while True:
        best: tuple[tuple[float, float], Indices] | None = None
        for name, index in _moves(now, costs.space, larger=True):
            trial = {**now, name: index}
            counted = costs.counted(trial)
            if over(counted, limits):
                continue
            chances = probabilities[name]
            gain = math.log(max(chances[index], _LEAST)) - math.log(max(chances[now[name]], _LEAST))
            merit = gain, -float(counted["macs"])
            if best is None or merit > best[0]:
                best = merit, trial
        if best is None:
            return now
        now = best[1]


def narrowest(costs: CostModel, kind: str) -> Indices:
    """The choice that costs least of one kind: the smallest width, depth and kernel everywhere, and the kinds of blocks that cost least."""
    return _extreme(costs, kind, least=True)


def widest(costs: CostModel, kind: str) -> Indices:
    """The choice with the largest width, depth and kernel everywhere, and the kinds of blocks that then cost most of one kind."""
    return _extreme(costs, kind, least=False)


def _extreme(costs: CostModel, kind: str, least: bool) -> Indices:
    sign = 1 if least else -1
    now = {d.name: int(np.argmin([sign * value for value in d.values])) for d in costs.space.decisions}

    def cost(indices: Indices) -> int:
        return sign * costs.counted(indices)[kind]

    before: Indices = {}
    while before != now:  # of a maximum, a stage's choice shows only once no other stage needs more
        before = now
        for decision in costs.space.decisions:
            if decision.name.endswith(".block"):
                now = min(({**now, decision.name: i} for i in range(len(decision.values))), key=cost)
    return now


def _excess(indices: Indices, costs: CostModel, limits: Mapping[str, float | None]) -> float:
    return sum(over(costs.counted(indices), limits).values())


def _moves(indices: Indices, space: Space, larger: bool = False) -> Iterator[tuple[str, int]]:
    """(decision, index) of each next smaller choice, or larger one."""
    sign = -1 if larger else 1
    for decision in space.decisions:
        if decision.name.rpartition(".")[2] not in _SHRINKS:
            continue
        own = decision.values[indices[decision.name]]
        beyond = [(sign * value, i) for i, value in enumerate(decision.values) if sign * value < sign * own]
        if beyond:
            yield decision.name, max(beyond)[1]
