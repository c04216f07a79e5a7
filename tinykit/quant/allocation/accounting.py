"""The memory accounting of the memory-driven rule: Rusci et al., "Memory-driven mixed low precision quantization", MLSys 2020
(arXiv:1905.13082), eq. 6 and 7 and table 1.

It counts packed tensors and each layer's integer constants. What the engine links and plans is counted elsewhere; both are shown.
"""

from __future__ import annotations

from enum import StrEnum

from tinykit.quant.allocation.network import Bits, Network, Step


class Granularity(StrEnum):
    """One weight step a layer, or one an output channel."""

    PER_LAYER = "per_layer"
    PER_CHANNEL = "per_channel"


def step_bits(step: Step, bits: Bits) -> int:
    """Memory in bits while a step runs: everything alive, packed."""
    return sum(a.elements * bits.of(a) for a in step.activations)


def peak_bytes(network: Network, bits: Bits) -> int:
    """RAM: the largest of all steps, in bytes."""
    return max((-(-step_bits(step, bits) // 8) for step in network.steps), default=0)


def packed_bytes(elements: int, width: int) -> int:
    """Bytes of a packed tensor of `width` bits an element."""
    return -(-elements * width // 8)


def weight_bytes(network: Network, bits: Bits) -> list[int]:
    """Bytes of each layer's packed weights."""
    return [packed_bytes(layer.weights, width) for layer, width in zip(network.layers, bits.weights, strict=True)]


def total_weight_bytes(network: Network, bits: Bits) -> int:
    """Bytes of all packed weights."""
    return sum(weight_bytes(network, bits))


def constant_bytes(network: Network, bits: Bits, granularity: Granularity) -> list[int]:
    """Bytes of each layer's constants beside its weights.

    Per layer with batch norm folded into the weights: an int32 bias a channel and 20 bytes (multiplier, shift, zero points). Where weights
    or outputs have fewer than 8 bits folding costs accuracy, and the scale becomes one of the channel's own (integer channel
    normalisation): multiplier, shift and bias a channel. Per channel: a zero point of the weights besides. The last layer keeps one scale
    for its output.
    """
    result = []
    for i, (layer, width) in enumerate(zip(network.layers, bits.weights, strict=True)):
        n, last = layer.channels, i == len(network.layers) - 1
        normalised = width < 8 or bits.of(layer.result) < 8
        if granularity is Granularity.PER_CHANNEL:
            result.append(4 * n + n + 4 + 2 * n if last else 4 * n + n + 4 * n + n + 8)
        else:
            result.append(4 * n + n + 4 * n + 12 if normalised and not last else 4 * n + 20)
    return result


def flash_bytes(network: Network, bits: Bits, granularity: Granularity) -> int:
    """Flash: weights and constants, in bytes, without code."""
    return total_weight_bytes(network, bits) + sum(constant_bytes(network, bits, granularity))
