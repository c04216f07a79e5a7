"""Cuts bits until the engine's own plan and image fit: the memory-driven rule with the engine's figures in the place of its accounting.

The published rule counts a step's inputs and outputs side by side. The engine overlaps them, and links code and tables besides; so an
allocation that the rule accepts may not fit, and one that it refuses may. Here activations are halved where the plan is full, and weights
are cut in the rule's order until the linked image fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinykit.fit.meter import Linked, Meter, Planned
from tinykit.quant.allocation.accounting import total_weight_bytes
from tinykit.quant.allocation.network import Bits, Network, eight_bits
from tinykit.quant.allocation.rule import Outcome, halve_group, target_of, weight_cuts

_DOUBT = 2048
"""What is counted to be beyond the limit by more bytes is believed without a link, unless the last layer of some width has gone, and with
it that width's kernels: otherwise a cut brings one kernel into the image, or takes one out."""


@dataclass(frozen=True)
class Fitted:
    """An allocation and what it takes.

    Attributes:
        outcome: the bits, and why they do not fit where they do not.
        planned: the engine's RAM.
        linked: its flash.
    """

    outcome: Outcome
    planned: Planned
    linked: Linked


def fit(
    network: Network,
    meter: Meter,
    flash: int | None,
    ram: int | None,
    log: Callable[[str], None] = lambda line: None,
    least: Sequence[int] = (),
) -> Fitted:
    """The allocation with the most bits, in the rule's order, that the engine can be built with.

    Args:
        flash, ram: limits in bytes, None for no limit.
        least: bits that the weights of each layer keep as long as others can be halved (`rule.weight_cuts`).
    """
    bits, reasons = eight_bits(network), []
    if ram is not None:
        bits, reason = _fit_ram(network, meter, bits, ram, log)
        reasons += [reason] if reason else []
    if flash is not None:
        bits, reason = _fit_flash(network, meter, bits, flash, log, least)
        reasons += [reason] if reason else []
    return Fitted(Outcome(bits, tuple(reasons)), meter.planned(bits), meter.linked(bits))


def _fit_ram(network: Network, meter: Meter, bits: Bits, ram: int, log: Callable[[str], None]) -> tuple[Bits, str]:
    steps = {step.name: step for step in network.steps}
    while (now := meter.planned(bits)).ram > ram:
        full = [steps[name] for name in now.peak if name in steps]
        targets = [(step, target) for step in full[:1] if (target := target_of(network, step, bits)) is not None]
        if not targets:
            where = f" at layer {full[0].name!r}" if full else ""
            return bits, f"the engine needs {now.ram:,} bytes of RAM{where} at the fewest bits, of {ram:,}"
        step, target = targets[0]
        bits = halve_group(bits, target.group)
        log(f"RAM {now.ram:,} of {ram:,} bytes: {target.name} at {bits.of(target)} bits, for layer {step.name}")
    return bits, ""


def _fit_flash(
    network: Network, meter: Meter, bits: Bits, flash: int, log: Callable[[str], None], least: Sequence[int]
) -> tuple[Bits, str]:
    """The first of the rule's cuts whose image fits. Between two images only the weights change much, and these are counted."""
    last, widths = meter.linked(bits).flash, set(bits.weights)
    beside = last - total_weight_bytes(network, bits)
    for cut in weight_cuts(network, bits, least):
        bits = cut
        if beside + total_weight_bytes(network, bits) > flash + _DOUBT and widths <= set(bits.weights):
            continue
        last, widths = meter.linked(bits).flash, set(bits.weights)
        if last <= flash:
            return bits, ""
        beside = last - total_weight_bytes(network, bits)
        log(f"flash {last:,} of {flash:,} bytes")
    return bits, f"the engine needs {meter.linked(bits).flash:,} bytes of flash with 2 bits for every weight, of {flash:,}"
