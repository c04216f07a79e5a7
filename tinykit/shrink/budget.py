"""Which channels go so that a network keeps a budget, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinykit.errors import BudgetError
from tinykit.shrink.channels import ChannelMap, Group
from tinykit.shrink.costs import ENGINE, TIMED, Costs, Measure

Targets = Mapping[Measure, float]
UNITS: dict[Measure, str] = {
    "macs": "MACs", "flash": "bytes of flash", "ram": "bytes of RAM", "instructions": "instructions", "cycles": "cycles",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How far groups may be cut.

    Attributes:
        multiple: numbers of channels are multiples of this, where a group has as many.
        floors: group (its layers) -> the fewest channels it keeps.
        shares: group -> the number of channels it is to have whatever the budget says.
    """

    multiple: int
    floors: Mapping[tuple[str, ...], int]
    shares: Mapping[tuple[str, ...], int]

    def fewest(self, group: Group) -> int:
        """Channels that a group must keep."""
        if group.layers in self.shares:
            return min(self.shares[group.layers], len(group.channels))
        floor = max(self.floors.get(group.layers, 1), 1)
        return min(len(group.channels), rounded_up(floor, self.multiple))


def rounded_up(count: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `count`."""
    return -(-count // multiple) * multiple


def towards(start: Mapping[Measure, float], goal: Targets, done: int, rounds: int) -> dict[Measure, float]:
    """The targets of round `done` (from 1) of `rounds`: the same factor every time, from the costs at the start to the goal."""
    return {m: goal[m] if done == rounds else start[m] * (goal[m] / start[m]) ** (done / rounds) for m in goal if start[m] > goal[m]}


def cut(found: ChannelMap, scores: np.ndarray, costs: Costs, targets: Targets, limits: Limits) -> np.ndarray:
    """Chooses the channels that stay.

    Groups that have a share of their own are cut to it first. Then, as long as a cost is above its target, the group goes on losing its
    least channels where that loses least for what it saves: of multiply-accumulates, of flash, of instructions, of cycles, and of RAM only
    where the planner's arena is fullest, which is planned again after each cut. Cuts that the last ones made needless are taken back, the
    dearest first.

    Args:
        scores: what is lost with each channel [found.count].
        targets: the most that each cost may be.

    Returns:
        The mask of the channels that stay [found.count].

    Raises:
        BudgetError: no cut that is allowed meets the targets.
    """
    alive = found.everything()
    for group in found.removable():
        if group.layers in limits.shares:
            alive[_least(group, scores, alive, len(group.channels) - limits.fewest(group))] = False
    return _Search(found, scores, costs, targets, limits, alive).run()


def _least(group: Group, scores: np.ndarray, alive: np.ndarray, count: int) -> np.ndarray:
    """The `count` channels of a group that matter least; of equals the last."""
    left = group.channels[alive[group.channels]]
    order = sorted(left.tolist(), key=lambda channel: (scores[channel], -channel))
    return np.array(order[: max(count, 0)], dtype=np.int64)


class _Search:
    """One greedy descent."""

    def __init__(self, found: ChannelMap, scores: np.ndarray, costs: Costs, targets: Targets, limits: Limits, alive: np.ndarray) -> None:
        self.found, self.scores, self.costs, self.targets, self.limits, self.alive = found, scores, costs, targets, limits, alive
        self.measured = bool(ENGINE & set(targets))
        self.made: dict[tuple[str, ...], list[np.ndarray]] = {}

    def run(self) -> np.ndarray:
        if set(TIMED) & set(self.targets):
            self.costs.probe(self.limits.fewest)
        if self.measured:
            self.costs.measure(self.alive)
        while over := self._over():
            group, channels = self._cheapest(over)
            self.alive[channels] = False
            self.made.setdefault(group.layers, []).append(channels)
            if "ram" in over:
                self.costs.measure(self.alive)
        self._restore()
        return self.alive

    def _restore(self) -> None:
        """Takes back what the targets have room for; in each group the last cut first, so that its least channels stay away.

        What estimates say has room is measured before it is believed; a group that then has none is asked no more.
        """
        groups = list(self.made.values())
        while fitting := [cuts for cuts in groups if cuts and self._fits(cuts[-1], exact=False)]:
            dearest = max(fitting, key=lambda cuts: float(self.scores[cuts[-1]].sum()))
            if self.measured and not self._fits(dearest[-1], exact=True):
                groups = [cuts for cuts in groups if cuts is not dearest]
                continue
            self.alive[dearest.pop()] = True

    def _fits(self, channels: np.ndarray, exact: bool) -> bool:
        """Whether the targets are met with these channels back."""
        trial = self.alive.copy()
        trial[channels] = True
        cost = self.costs.exact if exact else self.costs.estimate
        return all(cost(m, trial) <= target for m, target in self.targets.items())

    def _over(self) -> dict[Measure, float]:
        """By how much each cost is above its target; what estimates say is met is measured before it is believed."""
        over = self._above(exact=False)
        if not over and self.measured:
            self.costs.measure(self.alive)
            over = self._above(exact=True)
        return over

    def _above(self, exact: bool) -> dict[Measure, float]:
        cost = self.costs.exact if exact else self.costs.estimate
        now = {m: float(cost(m, self.alive)) for m in self.targets}
        return {m: now[m] - self.targets[m] for m in self.targets if now[m] > self.targets[m]}

    def _cheapest(self, over: Mapping[Measure, float]) -> tuple[Group, np.ndarray]:
        """The next channels to go. Raises BudgetError where no group has any that helps."""
        now = {m: self.costs.estimate(m, self.alive) for m in over}
        best: tuple[float, Group, np.ndarray] | None = None
        for group in self.found.removable():
            channels = self._step(group)
            if not len(channels):
                continue
            trial = self.alive.copy()
            trial[channels] = False
            gain = sum((now[m] - self.costs.estimate(m, trial)) / over[m] for m in over)
            price = float(self.scores[channels].sum()) / gain if gain > 1e-12 else np.inf
            if gain > 1e-12 and (best is None or price < best[0]):
                best = price, group, channels
        if best is None:
            raise BudgetError(self._out_of_reach())
        return best[1:]

    def _step(self, group: Group) -> np.ndarray:
        """The channels that a group loses next: down to the next multiple; none where it may lose no more."""
        left, fewest = int(self.alive[group.channels].sum()), self.limits.fewest(group)
        if group.layers in self.limits.shares or left <= fewest:
            return np.array([], dtype=np.int64)
        target = max(fewest, (left - 1) // self.limits.multiple * self.limits.multiple)
        return _least(group, self.scores, self.alive, left - target)

    def _out_of_reach(self) -> list[str]:
        """One line a cost: how far cuts can bring it, and what stands in the way."""
        kept = [f"{name} ({reason})" for name, reason in self.found.kept()]
        lines = []
        for m, target in self.targets.items():
            least = self.costs.exact(m, self.alive)
            if least > target:
                lines.append(
                    f"{least:,.0f} {UNITS[m]} are the fewest that pruning can reach, {target:,.0f} are wanted: raise the target, lower "
                    f"`least` or `multiple`; kept whole: {', '.join(kept) or 'none'}"
                )
        return lines or ["no cut helps to meet the targets"]
