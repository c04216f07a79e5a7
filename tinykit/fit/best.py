"""The allocation of least harm that the engine can be built with: integer programs, their limits corrected by plans, images and runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tinykit.fit.meter import Meter
from tinykit.fit.search import Fitted
from tinykit.quant.allocation.accounting import peak_bytes, total_weight_bytes
from tinykit.quant.allocation.network import WIDTHS, Bits, Network, eight_bits
from tinykit.quant.allocation.optimum import Limits, Prices, optimum
from tinykit.quant.allocation.rule import Outcome

_ROUNDS = 40
"""Each round tightens a limit; a step of one halving is far more than a fortieth of any."""
_TIGHTER = 0.97


@dataclass(frozen=True)
class Allowed:
    """What the engine may take; None: no limit.

    Attributes:
        flash, ram: bytes.
        instructions: executed by one inference, on the emulated board.
    """

    flash: int | None = None
    ram: int | None = None
    instructions: int | None = None


def fit_optimum(network: Network, meter: Meter, prices: Prices, allowed: Allowed, log: Callable[[str], None] = lambda line: None) -> Fitted:
    """The allocation of least harm within the limits.

    The program counts as the rule's accounting does; what the engine overlaps, links besides weights and executes is measured on the
    program's last answer and taken into the next question, until the answer fits. Each width of weights brings kernels of its own into
    the image, so the question is asked for every set of widths, and the best answer of all is taken.

    Args:
        prices: see `tinykit.fit.sensitivity`.
    """
    search = _Search(network, meter, prices, allowed, log)
    best: Fitted | None = None
    for widths in (w for n in range(len(WIDTHS), 0, -1) for w in itertools.combinations(WIDTHS, n)):
        found = search.among(widths, None if best is None else prices.of(best.outcome.bits))
        if found is not None and found.outcome.feasible:
            best = found
    return best if best is not None else search.refusal()


class _Search:
    """Questions about one network."""

    def __init__(self, network: Network, meter: Meter, prices: Prices, allowed: Allowed, log: Callable[[str], None]) -> None:
        self.network, self.meter, self.prices, self.allowed, self.log = network, meter, prices, allowed, log
        self.costs = self._costs() if allowed.instructions is not None else ()
        self._refused: Fitted | None = None

    def _costs(self) -> tuple[Mapping[int, float], ...]:
        """Instructions of each layer by the width of its weights."""
        runs = {w: self.meter.executed(replace(eight_bits(self.network), weights=(w,) * len(self.network.layers))) for w in WIDTHS}
        return tuple({w: float(run.layers.get(layer.name, 0)) for w, run in runs.items()} for layer in self.network.layers)

    def among(self, widths: tuple[int, ...], enough: float | None) -> Fitted | None:
        """The best answer with weights of these widths; None where there is none that is better than `enough`."""
        limits = self._tightened(
            Limits(costs=self.costs), replace(eight_bits(self.network), weights=(widths[0],) * len(self.network.layers))
        )
        best: Fitted | None = None
        seen: set[Bits] = set()
        for _ in range(_ROUNDS):
            outcome = optimum(self.network, self.prices, limits, widths)
            bits, harm = outcome.bits, self.prices.of(outcome.bits)
            over = self._over(bits)
            worse = enough is not None and harm >= enough
            if (over and worse) or (not outcome.feasible and best is not None):
                return best
            if not over:  # also where the program's limits were too tight for the fewest bits, which fit all the same
                if not worse:
                    best, enough = self._fitted(Outcome(bits)), harm
                before, limits = limits, self._widened(limits, bits)
                if limits == before or bits in seen:
                    return best
                seen.add(bits)
                continue
            if not outcome.feasible:
                reason = f"no choice of bits fits; with the fewest bits the engine takes {', '.join(self._taken(bits))}"
                self._refuse(Outcome(bits, (reason,)))
                return None
            self.log(", ".join(over))
            limits = self._tightened(limits, bits)
        if best is None:
            self._refuse(Outcome(outcome.bits, (f"no allocation was found that fits: {', '.join(over)}",)))
        return best

    def refusal(self) -> Fitted:
        """The first answer that did not fit: of all widths together."""
        if self._refused is None:
            raise AssertionError("every question was answered")
        return self._refused

    def _refuse(self, outcome: Outcome) -> None:
        self._refused = self._refused or self._fitted(outcome)

    def _fitted(self, outcome: Outcome) -> Fitted:
        return Fitted(outcome, self.meter.planned(outcome.bits), self.meter.linked(outcome.bits))

    def _uses(self, bits: Bits) -> list[tuple[str, int, int | None, str]]:
        """(name, amount, limit, unit) of what the engine takes with these bits."""
        uses = [
            ("flash", self.meter.linked(bits).flash, self.allowed.flash, "bytes"),
            ("RAM", self.meter.planned(bits).ram, self.allowed.ram, "bytes"),
        ]
        if self.allowed.instructions is not None:
            uses.append(("time", self.meter.executed(bits).total, self.allowed.instructions, "instructions"))
        return uses

    def _over(self, bits: Bits) -> list[str]:
        return [
            f"{name} {used:,} of {limit:,} {unit}" for name, used, limit, unit in self._uses(bits) if limit is not None and used > limit
        ]

    def _taken(self, bits: Bits) -> list[str]:
        return [f"{name} {used:,} {unit}" for name, used, _, unit in self._uses(bits)]

    def _widened(self, limits: Limits, bits: Bits) -> Limits:
        """The limits with the room that `bits` leaves in flash and time: an answer on the way may have linked kernels that this one needs
        not, or have spent more between its layers."""
        weights, cost = limits.weight_bytes, limits.cost
        if self.allowed.flash is not None and weights is not None:
            weights = max(self.allowed.flash - self.meter.linked(bits).flash + total_weight_bytes(self.network, bits), weights)
        if cost is not None:
            cost = max(self._cost_limit(bits), cost)
        return replace(limits, weight_bytes=weights, cost=cost)

    def _cost_limit(self, bits: Bits) -> float:
        """Of the layers' instructions together, if as much is spent between them as with `bits`."""
        counted = sum(costs[width] for costs, width in zip(self.costs, bits.weights, strict=True))
        return max((self.allowed.instructions or 0) - (self.meter.executed(bits).total - counted), 1.0)

    def _tightened(self, limits: Limits, bits: Bits) -> Limits:
        """The limits to ask with next, never wider than before, from what `bits` really takes."""
        weights, peak, cost = limits.weight_bytes, limits.ram, limits.cost
        if self.allowed.flash is not None:
            beside = self.meter.linked(bits).flash - total_weight_bytes(self.network, bits)
            weights = _lesser(max(self.allowed.flash - beside, 1), weights)
        if self.allowed.ram is not None:
            used = self.meter.planned(bits).ram
            if used > self.allowed.ram:
                share = _TIGHTER * self.allowed.ram / used
                peak = max(int(share * _lesser(peak_bytes(self.network, bits), peak)), 1)
        if self.allowed.instructions is not None:
            cost = min(self._cost_limit(bits), math.inf if cost is None else cost)
        return replace(limits, weight_bytes=weights, ram=peak, cost=cost)


def _lesser(new: int, old: int | None) -> int:
    return new if old is None else min(new, old)
