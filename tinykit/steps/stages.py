"""Low bits by degrees: an integer network is trained with more bits first, and hands what it has learned to one with fewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinykit.quant.allocation.network import Bits
    from tinykit.quant.model import QuantizedModel
    from tinykit.steps.integers import Prepared


def at_least(bits: Bits, width: int) -> Bits:
    """The allocation with no tensor below `width` bits."""
    from tinykit.quant.allocation.network import Bits

    return Bits(tuple(max(b, width) for b in bits.groups), tuple(max(b, width) for b in bits.weights))


def lowered(prepared: Prepared, trained: QuantizedModel, bits: Bits) -> QuantizedModel:
    """The network with other bits and what `trained` has learned: weights, biases, batch norm, and the steps of tensors whose bits stay.

    The steps of the others are set anew, to the least squared error: of the weights as they are now, and of activations on the
    calibration samples.
    """
    model = prepared.uncalibrated(bits)
    for old, new in zip(trained.weighted_layers(), model.weighted_layers(), strict=True):
        new.take_over(old)
    prepared.calibrate(model)
    for before, after in zip(trained.quantizers, model.quantizers, strict=True):
        if before.bits == after.bits and before.fixed is None:
            after.log_step.assign(before.log_step)
            after.zero_point.assign(before.zero_point)
    model.keep_representable()
    return model
