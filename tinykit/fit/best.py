"""The allocation of least harm that the engine can be built with: the integer program, its limits corrected by plans and images."""

from __future__ import annotations

from collections.abc import Callable

from tinykit.fit.meter import Meter
from tinykit.fit.search import Fitted
from tinykit.quant.allocation.accounting import peak_bytes, total_weight_bytes
from tinykit.quant.allocation.network import Bits, Network, eight_bits
from tinykit.quant.allocation.optimum import Limits, Prices, optimum
from tinykit.quant.allocation.rule import Outcome

_ROUNDS = 40
"""Each round tightens a limit; a step of one halving is far more than a fortieth of any."""
_TIGHTER = 0.97


def fit_optimum(
    network: Network, meter: Meter, prices: Prices, flash: int | None, ram: int | None, log: Callable[[str], None] = lambda line: None
) -> Fitted:
    """The allocation of least harm within the limits.

    The program counts as the rule's accounting does; what the engine overlaps, and what it links besides weights, is measured on the
    program's last answer and taken into the next question, until the answer fits.

    Args:
        prices: see `tinykit.fit.sensitivity`.
        flash, ram: of the engine, in bytes; None for no limit.
    """
    bits = eight_bits(network)
    weights, peak = _limits(network, meter, bits, flash, ram, None, None)
    for _ in range(_ROUNDS):
        outcome = optimum(network, prices, Limits(weights, peak))
        planned, linked = meter.planned(outcome.bits), meter.linked(outcome.bits)
        if not outcome.feasible:
            sizes = f"flash {linked.flash:,} and RAM {planned.ram:,} bytes"
            reason = f"no choice of bits fits; with the fewest bits the engine takes {sizes}"
            return Fitted(Outcome(outcome.bits, (reason,)), planned, linked)
        over = [
            f"{name} {used:,} of {limit:,} bytes"
            for name, used, limit in (("flash", linked.flash, flash), ("RAM", planned.ram, ram))
            if limit is not None and used > limit
        ]
        if not over:
            return Fitted(outcome, planned, linked)
        log(", ".join(over))
        weights, peak = _limits(network, meter, outcome.bits, flash, ram, weights, peak)
    return Fitted(Outcome(outcome.bits, (f"no allocation was found that fits: {', '.join(over)}",)), planned, linked)


def _limits(
    network: Network, meter: Meter, bits: Bits, flash: int | None, ram: int | None, weights: int | None, peak: int | None
) -> tuple[int | None, int | None]:
    """(weight bytes, peak) to ask for next, never more than before, from what `bits` really takes."""
    if flash is not None:
        beside = meter.linked(bits).flash - total_weight_bytes(network, bits)
        room = max(flash - beside, 1)
        weights = room if weights is None else min(room, weights)
    if ram is not None:
        used = meter.planned(bits).ram
        if used > ram:
            share = _TIGHTER * ram / used
            now = peak_bytes(network, bits)
            peak = max(int(share * (now if peak is None else min(now, peak))), 1)
    return weights, peak
