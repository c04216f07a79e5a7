"""What the steps that make an integer network share: options, building, calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from tinykit.errors import ModelError
from tinykit.quant.kept import NOTHING_KEPT, Kept
from tinykit.recipe.step import StepContext
from tinykit.steps.allocation import BitOptions, choose_bits, drawn
from tinykit.steps.keeping import to_keep

if TYPE_CHECKING:
    import keras

    from tinykit.quant.allocation.network import Bits
    from tinykit.quant.convert import InputRange
    from tinykit.quant.model import QuantizedModel
    from tinykit.quant.program import Program


_LEAST_SCALE = 1e-12
_LARGEST_INPUT = 1e12
"""Beyond these, sums of squares leave float32."""


class CalibrationOptions(BitOptions):
    """Options that `ptq` and `quantize` have in common."""

    calibration_samples: int = Field(default=512, ge=1, le=100_000, description="training samples that the ranges come from")
    calibration: Literal["mse", "minmax"] = Field(default="mse", description="mse: least squared error; minmax: no clipping")
    bias_correction: bool = Field(default=True, description="take the mean error of weight rounding out of the biases")
    equalize: bool | None = Field(
        default=None,
        description="even out the weights of neighbouring dense layers, which have one step each; null: where the data are for anomalies"
        " and no weights share values",
    )
    preserve: tuple[Literal["sparsity", "clusters"], ...] = Field(
        default=(), strict=False,
        description="of a model that is sparse or clustered already: weights that are 0 stay 0, layers of at most 256 values keep their"
        " number; what steps before it promise is kept in any case",
    )  # fmt: skip


def input_range(context: StepContext) -> InputRange:
    """How the network's input is quantised: without error where preprocessing maps raw 8-bit integers by one scale and offset, else from
    the least and largest value of the training split."""
    from tinykit.quant.convert import InputRange

    x = context.dataset.train.x
    affine = context.chain.affine(x.dtype)
    if affine is not None and not _LEAST_SCALE < affine[0] < _LARGEST_INPUT:
        affine = None  # a falling, vanishing or vast scale: the range of the samples serves, or is refused
    if affine is not None and x.dtype == np.uint8:
        exact = InputRange.from_affine(*affine)
        if exact is not None:
            return exact
    if affine is not None and x.dtype == np.int8:
        scale, offset = affine
        zero = -offset / scale
        if abs(zero - round(zero)) < 1e-3 and -128 <= round(zero) <= 127:
            return InputRange(float(np.float32(scale)), int(round(zero)))
    extremes = [context.chain.apply(x[i : i + 1024]) for i in range(0, len(x), 1024)]
    low, high = min(float(e.min()) for e in extremes), max(float(e.max()) for e in extremes)
    if max(high, -low) > _LARGEST_INPUT:
        raise ModelError(
            f"the preprocessed training samples reach from {low:.3g} to {high:.3g}; scale them to about -1..1 in data.preprocess"
        )
    if not np.isfinite([low, high]).all():
        raise ModelError("the preprocessed training samples contain NaN or infinity; check data.preprocess")
    return InputRange.from_samples(np.array([low, high]))


def check_float(model: keras.Model) -> None:
    """Raises ModelError if `model` is an integer network, such as the `model.keras` of an earlier run."""
    from tinykit.quant.model import QuantizedModel

    if isinstance(model, QuantizedModel):
        raise ModelError(f"model {model.name!r} is an integer network already (recipe `float` checks and writes it as it is)")


def check_layers(model: keras.Model) -> None:
    """Raises ModelError with every layer that has no exact integer counterpart."""
    from tinykit.quant.fuse import fuse

    check_float(model)
    fuse(model)


class IntegerStep:
    """Base of the steps that make an integer network of a float one."""

    saved_with: ClassVar[tuple[str, ...]] = ("tinykit.quant.model",)
    makes_integers: ClassVar[bool] = True
    needs_float: ClassVar[bool] = True
    keeps: ClassVar[tuple[str, ...]] = ("macs", "sparsity", "clusters")

    def check(self, model: keras.Model) -> None:
        """Raises ModelError with every layer that has no exact integer counterpart; called before any step runs."""
        check_layers(model)


@dataclass(frozen=True)
class Prepared:
    """All that integer networks of one float model are made from.

    Attributes:
        program: the fused float model.
        input_range: of the network's input.
        bits: what was chosen; None for 8 everywhere.
        samples: preprocessed training samples that ranges come from.
        kept: what the integer weights keep of the float ones.
    """

    program: Program
    input_range: InputRange
    bits: Bits | None
    samples: list[np.ndarray]
    options: CalibrationOptions
    context: StepContext
    kept: Kept = NOTHING_KEPT

    def build(self, bits: Bits | None) -> QuantizedModel:
        """The calibrated network with these bits."""
        from tinykit.quant.calibrate import correct_biases

        quantized = self.uncalibrated(bits)
        self.calibrate(quantized)
        if self.options.bias_correction:
            correct_biases(quantized)
        return quantized

    def uncalibrated(self, bits: Bits | None) -> QuantizedModel:
        """The network with the float model's weights; the steps of its activations are not set."""
        from tinykit.quant.convert import from_program

        return from_program(self.program, self.input_range, bits, self.options.codebook, self.kept)

    def calibrate(self, quantized: QuantizedModel) -> None:
        """Sets the steps of all activations."""
        from tinykit.quant.calibrate import calibrate

        calibrate(quantized, self.samples, self.options.calibration, self.context.seed)
        count = sum(map(len, self.samples))
        self.context.log(f"calibrated {len(quantized.quantizers)} scales on {count} training samples")


def prepare(model: keras.Model, options: CalibrationOptions, context: StepContext, batch_norm: str = "frozen") -> Prepared:
    """Fuses a float model and chooses bits.

    Raises:
        ModelError: unsupported layers, or a model that is quantised already.
        BudgetError: no choice of bits meets the budget.
        ConfigError: patterns of bits that name nothing.
    """
    from tinykit.quant.convert import fused_program
    from tinykit.quant.model import QuantizedModel

    if isinstance(model, QuantizedModel):
        raise ModelError(f"step {context.label}: the model is an integer network already; one of `quantize` and `ptq` is enough")
    kept = to_keep(options, context)
    equalized = context.dataset.task == "anomaly" and kept.clusters is None if options.equalize is None else options.equalize
    program, scale = fused_program(model, batch_norm, equalized), input_range(context)
    raw = drawn(context, options.calibration_samples)
    samples = [context.chain.apply(raw[i : i + 128]) for i in range(0, len(raw), 128)]
    prepared = Prepared(program, scale, None, samples, options, context, kept)
    return replace(prepared, bits=choose_bits(prepared))


def describe(quantized: QuantizedModel) -> dict[str, Any]:
    """Plain facts about a quantised model for a step's report."""
    layers = quantized.weighted_layers()
    return {
        "operations": len(quantized.nodes),
        "weights": int(sum(np.prod(n.kernel_shape) for n in layers)),
        "weight_bits": sorted({n.weight_bits for n in layers}),
        "activation_bits": sorted({q.bits for q in quantized.quantizers}),
    }
