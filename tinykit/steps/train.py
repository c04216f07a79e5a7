"""Float training."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tinykit.recipe.step import StepContext, StepResult
from tinykit.steps.fitting import check_task, fit, uncompiled
from tinykit.steps.floats import FloatOptions, compile_float, ends_in_softmax
from tinykit.steps.integers import check_float

if TYPE_CHECKING:
    import keras


class TrainOptions(FloatOptions):
    """Options of `train`."""

    when: Literal["scratch", "always"] = Field(default="scratch", description="scratch: skipped where model.path gives trained weights")


class Train:
    """Trains the float network with the configuration's data and augmentation.

    Example: {train: {epochs: 40, learning_rate: 0.002, label_smoothing: 0.1}}

    Bit for bit the same in two runs with one seed on one machine, also when interrupted and resumed.
    """

    name: ClassVar[str] = "train"
    Options: ClassVar[type[TrainOptions]] = TrainOptions
    saved_with: ClassVar[tuple[str, ...]] = ()
    needs_float: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    keeps: ClassVar[tuple[str, ...]] = ("macs",)

    def check_task(self, model: "keras.Model", options: TrainOptions, context: StepContext) -> None:
        """Raises ModelError if the model's output does not suit the data; called before any step runs."""
        if self._skipped(options, context):
            return
        check_float(model)
        check_task(model, options, context)

    def run(self, model: "keras.Model", options: TrainOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        if self._skipped(options, context):
            context.log("skipped: model.path gives trained weights (train anyway: steps.train.when=always)")
            return StepResult(None, {"skipped": "model.path gives trained weights"})
        compile_float(model, options, context, ends_in_softmax(model))
        report = {"parameters": model.count_params(), **fit(model, options, context)}
        return StepResult(uncompiled(model), report)

    @staticmethod
    def _skipped(options: TrainOptions, context: StepContext) -> bool:
        return context.config.config.model.path is not None and options.when == "scratch"
