"""Training that follows a teacher."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tinykit.errors import ModelError
from tinykit.recipe.step import StepContext, StepResult
from tinykit.steps.fitting import check_task, uncompiled
from tinykit.steps.integers import check_float
from tinykit.steps.keeping import held_callbacks
from tinykit.steps.teaching import TaughtFloatOptions, check_teachers, fit_taught, needed_teachers

if TYPE_CHECKING:
    import keras


class DistillOptions(TaughtFloatOptions):
    """Options of `distill`."""

    epochs: int = Field(default=20, ge=1, le=100_000, description="passes over the training split")


class Distill:
    """Trains the float network by a teacher's logits beside the targets (Hinton et al. 2015), and on wish by what the teacher looks at
    inside (attention transfer, hints). The teacher is a file, a run directory, a model that is trained first, or the mean of several.

    Example: {distill: {teacher: [runs/large], epochs: 20, distill: 0.7, temperature: 4.0}}
    """

    name: ClassVar[str] = "distill"
    Options: ClassVar[type[DistillOptions]] = DistillOptions
    saved_with: ClassVar[tuple[str, ...]] = ()
    needs_float: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    keeps: ClassVar[tuple[str, ...]] = ("macs", "sparsity", "clusters")

    def check_task(self, model: "keras.Model", options: DistillOptions, context: StepContext) -> None:
        """Raises ModelError if model, teachers and data do not suit each other; called before any step runs."""
        check_float(model)
        check_task(model, options, context)
        if not options.taught:
            raise ModelError(f"step {context.label}: distill is 0 and there is no transfer: nothing is taught; use `train`")
        if not options.teacher and set(context.before()) <= {"train"}:
            raise ModelError(
                f"step {context.label}: the teacher would be the model itself; name one, such as "
                f"steps.{context.label}.teacher=[runs/large], or put the step behind one that makes the model smaller"
            )
        check_teachers(model, options, context)

    def run(self, model: "keras.Model", options: DistillOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            ModelError: a teacher cannot be read; the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        report = fit_taught(model, options, context, needed_teachers(options, context, model), held_callbacks(model, context))
        return StepResult(uncompiled(model), {"parameters": model.count_params(), **report})
