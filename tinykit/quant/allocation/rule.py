"""The memory-driven rule for mixed precision: Rusci et al., MLSys 2020 (arXiv:1905.13082), algorithms 1 and 2.

Activations are cut until every step fits into RAM, by sweeps forward (which may halve a step's output) and backward (which may halve an
input); then weights are cut until everything fits into flash, the largest layers first. The published algorithm knows chains of layers;
here a step may also have several tensors in memory (a residual's other branch), of which the largest is cut. The published code does not
return where RAM limits cannot be met; this one says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tinykit.quant.allocation.accounting import Granularity, flash_bytes, peak_bytes, step_bits
from tinykit.quant.allocation.network import Activation, Bits, Network, Step, eight_bits

DELTA = 0.05  # layers whose share of the weights is this near to the largest share count as equally large


@dataclass(frozen=True)
class Outcome:
    """What a rule decided.

    Attributes:
        bits: the allocation; where there is none that fits, how far the rule came.
        reasons: why it does not fit, one line each; empty when it does.
    """

    bits: Bits
    reasons: tuple[str, ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether both limits are met."""
        return not self.reasons


def allocate(network: Network, flash: int | None, ram: int | None, granularity: Granularity = Granularity.PER_CHANNEL) -> Outcome:
    """The rule's allocation.

    Args:
        flash, ram: limits in bytes; None: no limit.
    """
    reasons = []
    bits = eight_bits(network)
    if ram is not None:
        bits, reason = cut_activations(network, bits, ram)
        reasons += [reason] if reason else []
    if flash is not None:
        bits, reason = cut_weights(network, bits, flash, granularity)
        reasons += [reason] if reason else []
    return Outcome(bits, tuple(reasons))


# ---------------------------------------------------------------- activations


def cut_activations(network: Network, bits: Bits, ram: int) -> tuple[Bits, str]:
    """Halves activations until every step takes at most `ram` bytes. Returns the bits and, where that fails, the reason."""
    forward, idle = True, 0
    while idle < 2:
        done, before = True, bits
        for step in network.steps if forward else reversed(network.steps):
            bits, finished, stuck = _relieve(network, step, bits, ram, forward)
            if stuck:
                return bits, stuck
            done &= finished
        if done:
            return bits, ""
        forward, idle = not forward, idle + 1 if bits == before else 0
    return bits, f"the activations need {peak_bytes(network, bits):,} bytes of RAM, of {ram:,}"  # no sweep found anything to halve


def _relieve(network: Network, step: Step, bits: Bits, ram: int, forward: bool) -> tuple[Bits, bool, str]:
    """Halves what this direction may halve until the step fits.

    Returns:
        (bits, whether it fits, why nothing can be halved or "")."""
    while step_bits(step, bits) > 8 * ram:
        target = target_of(network, step, bits)
        if target is None:
            need = -(-step_bits(step, bits) // 8)
            return bits, False, f"layer {step.name!r} needs {need:,} bytes of RAM at the fewest bits, of {ram:,}"
        if (target is step.result) != forward:
            return bits, False, ""
        bits = halve_group(bits, target.group)
    return bits, True, ""


def target_of(network: Network, step: Step, bits: Bits) -> Activation | None:
    """The activation to halve: the one with more bits; of equal bits the larger one, the output where they are equal."""

    def free(a: Activation) -> bool:
        return a.group not in network.fixed and bits.of(a) > 2

    inputs = [a for a in step.live if free(a)]
    source = max(inputs, key=lambda a: a.elements * bits.of(a), default=None)
    if source is None or not free(step.result):
        return step.result if free(step.result) else source
    if bits.of(source) != bits.of(step.result):
        return source if bits.of(source) > bits.of(step.result) else step.result
    return source if source.elements > step.result.elements else step.result


def halve_group(bits: Bits, group: int) -> Bits:
    """One group of activations at half its bits."""
    return replace(bits, groups=(*bits.groups[:group], bits.groups[group] // 2, *bits.groups[group + 1 :]))


# ---------------------------------------------------------------- weights


def cut_weights(network: Network, bits: Bits, flash: int, granularity: Granularity) -> tuple[Bits, str]:
    """Halves weights until everything takes at most `flash` bytes. Returns the bits and, where that fails, the reason."""
    for cut in weight_cuts(network, bits):
        bits = cut
        if flash_bytes(network, bits, granularity) <= flash:
            return bits, ""
    least = flash_bytes(network, bits, granularity)
    return bits, f"the weights need {least:,} bytes of flash with 2 bits each, of {flash:,}"


def weight_cuts(network: Network, bits: Bits, least: Sequence[int] = ()) -> Iterator[Bits]:
    """`bits`, then the same with one layer's weights halved after the other, to the end.

    The sequence does not depend on any limit, so that a smaller limit is a longer part of it: never more bits in any layer.

    Args:
        least: bits below which a layer's weights are halved only when no others are left to halve, of each layer; none: the published rule.
    """
    floors = tuple(least) or (2,) * len(bits.weights)
    while True:
        yield bits
        sizes = [layer.weights * width for layer, width in zip(network.layers, bits.weights, strict=True)]
        total = sum(sizes)
        shares = {i: sizes[i] / total for i, width in enumerate(bits.weights) if width > floors[i]}
        shares = shares or {i: sizes[i] / total for i, width in enumerate(bits.weights) if width > 2}
        if not shares:
            return
        largest = max(shares.values())
        index = min(i for i, share in shares.items() if share > largest - DELTA)
        widths = list(bits.weights)
        widths[index] //= 2
        bits = replace(bits, weights=tuple(widths))
