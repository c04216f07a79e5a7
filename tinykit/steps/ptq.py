"""Post-training quantisation: an int8 network by calibration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tinykit.recipe.step import StepContext, StepResult
from tinykit.steps.allocation import check_bits
from tinykit.steps.integers import CalibrationOptions, IntegerStep, describe, prepare
from tinykit.steps.keeping import check_kept

if TYPE_CHECKING:
    import keras


class PtqOptions(CalibrationOptions):
    """Options of `ptq`."""


class Ptq(IntegerStep):
    """Makes the integer network of a float model without training it: ranges from training samples, biases corrected for the mean error
    that weight rounding causes (Nagel et al. 2019).

    Example:
        {ptq: {calibration_samples: 512}}
    """

    name: ClassVar[str] = "ptq"
    Options: ClassVar[type[PtqOptions]] = PtqOptions

    def check_task(self, model: keras.Model, options: PtqOptions, context: StepContext) -> None:
        """Raises BudgetError if no bits can meet the budget, ConfigError if they cannot keep what is promised; called before any step
        runs."""
        check_kept(options, context)
        check_bits(model, options, context)

    def run(self, model: keras.Model, options: PtqOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            ModelError: layers without an exact integer counterpart.
        """
        prepared = prepare(model, options, context)
        quantized = prepared.build(prepared.bits)
        return StepResult(quantized, describe(quantized))
