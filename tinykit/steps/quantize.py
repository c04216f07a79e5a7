"""Integer-exact quantisation-aware training: what the last epoch scores is what the board computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tinykit.recipe.step import CHECKPOINT, StepContext, StepResult
from tinykit.steps.allocation import check_bits
from tinykit.steps.fitting import FitOptions, check_task, fit, rebuilds, uncompiled
from tinykit.steps.integers import CalibrationOptions, IntegerStep, Prepared, describe, prepare
from tinykit.steps.keeping import check_kept
from tinykit.steps.stages import at_least, lowered
from tinykit.steps.teaching import TeacherOptions, check_teachers, logits_teacher

if TYPE_CHECKING:
    import keras

    from tinykit.quant.model import QuantizedModel


class QuantizeOptions(CalibrationOptions, FitOptions, TeacherOptions):
    """Options of `quantize`."""

    epochs: int = Field(default=2, ge=0, le=100_000, description="passes over the training split; 0: calibration only")
    learning_rate: float = Field(default=2e-4, gt=0, le=100, description="of Adam, the highest of the schedule")
    keep: Literal["best", "last"] = Field(default="last", description="which epoch's weights, judged on val")
    distill: float = Field(default=0.7, ge=0, le=1, description="share of the loss that compares with the teacher's logits")
    temperature: float = Field(default=2.0, gt=0, le=100, description="of the distillation")
    batch_norm: Literal["frozen", "update"] = Field(
        default="frozen", description="frozen: folded for good; update: gamma, beta and moving statistics go on learning"
    )
    freeze_statistics: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="with batch_norm: update, the moving statistics stay as they are after this share of the epochs",
    )
    stages: list[Literal[8, 4]] = Field(
        default=[], description="widths that lower tensors are trained at first, such as [8, 4]: 8 bits everywhere, then none below 4"
    )
    stage_epochs: int = Field(default=1, ge=1, le=100_000, description="passes of each of these stages, besides epochs")


class Quantize(IntegerStep):
    """Trains the int8 network itself. The forward pass is the board's integer arithmetic, activations and weights have learned steps
    (LSQ, Esser et al. 2020), and the float model, or another teacher, may guide it by its logits (Hinton et al. 2015).

    Example:
        {quantize: {epochs: 2, learning_rate: 0.0002, distill: 0.7}}
    """

    name: ClassVar[str] = "quantize"
    Options: ClassVar[type[QuantizeOptions]] = QuantizeOptions

    def check_task(self, model: keras.Model, options: QuantizeOptions, context: StepContext) -> None:
        """Raises ModelError if the model's output does not suit the data, BudgetError if no bits can meet the budget; called before any
        step runs; ConfigError if bits cannot keep what is promised."""
        check_kept(options, context)
        if options.epochs:
            check_task(model, options, context)
            check_teachers(model, options, context)
        check_bits(model, options, context)

    def run(self, model: keras.Model, options: QuantizeOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            ModelError: layers without an exact integer counterpart; the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        teacher = logits_teacher(options, context, model) if options.distill and options.epochs else None
        prepared = prepare(model, options, context, options.batch_norm)
        quantized = self._in_stages(prepared, options, context, teacher)
        values = self._train(quantized, options, context, teacher) if options.epochs else {}
        return StepResult(uncompiled(quantized), {**describe(quantized), **values})

    def _in_stages(
        self, prepared: Prepared, options: QuantizeOptions, context: StepContext, teacher: Callable[[Any], Any] | None
    ) -> QuantizedModel:
        """The network with its final bits, after the stages with more."""
        bits = prepared.bits
        if bits is None or not options.epochs:
            return prepared.build(bits)
        wider = [(w, at_least(bits, w)) for w in options.stages if at_least(bits, w) != bits]
        quantized = prepared.build(wider[0][1] if wider else bits)
        for i, (width, wide) in enumerate(wider):
            quantized = lowered(prepared, quantized, wide) if i else quantized
            context.log(f"stage: no tensor below {width} bits")
            stage = options.model_copy(update={"epochs": options.stage_epochs, "schedule": "constant", "keep": "last", "patience": None})
            self._train(quantized, stage, replace(context, folder=context.folder / CHECKPOINT / f"stage_{width}"), teacher)
        return lowered(prepared, quantized, bits) if wider else quantized

    def _train(
        self, quantized: QuantizedModel, options: QuantizeOptions, context: StepContext, teacher: Callable[[Any], Any] | None
    ) -> dict[str, Any]:
        import keras

        autoencoder = rebuilds(options, context)
        loss = "mse" if autoencoder else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metrics = [] if autoencoder else ["accuracy"]
        weight = 0.0 if autoencoder else options.distill
        quantized.compile(keras.optimizers.Adam(options.learning_rate), loss, metrics=metrics, jit_compile=False)
        with quantized.training_on_logits(teacher, weight, options.temperature):
            return fit(quantized, options, context, [_freeze_statistics(options)] if options.batch_norm == "update" else [])


def _freeze_statistics(options: QuantizeOptions) -> keras.callbacks.Callback:
    """Stops moving statistics after `freeze_statistics` of the epochs: at low bits they would follow the noise of rounding to the end."""
    import keras

    class FreezeStatistics(keras.callbacks.Callback):
        """See `_freeze_statistics`."""

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Switches them on or off."""
            self.model.learn_statistics(epoch < options.freeze_statistics * options.epochs)

    return FreezeStatistics()
