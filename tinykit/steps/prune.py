"""Structured pruning: channels that matter least disappear, and what is left learns to do without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tinykit.config.sizes import parse_size
from tinykit.recipe.step import StepContext, StepResult
from tinykit.shrink.costs import MEASURES, Measure
from tinykit.shrink.criteria import Criterion
from tinykit.steps.fitting import uncompiled
from tinykit.steps.lasting import check_lasting
from tinykit.steps.pruning import Pruning
from tinykit.steps.teaching import TaughtFloatOptions, check_shrinking, needed_teachers

if TYPE_CHECKING:
    import keras


class PruneOptions(TaughtFloatOptions):
    """Options of `prune`."""

    macs: float | int | None = Field(
        default=None, description="multiply-accumulates to reach: a share below 1 of what there is, or a number"
    )
    flash: float | int | str | None = Field(
        default=None, description="the engine's flash to reach: a share below 1, or a size such as 60kB"
    )
    ram: float | int | str | None = Field(
        default=None, description="the engine's RAM to reach, by cutting where the planned arena is fullest: a share below 1, or a size"
    )
    instructions: float | int | None = Field(
        default=None,
        description="instructions on the emulated budget.board to reach: a share below 1, or a number; macs: 0.5 with instructions: 0.55 "
        "keeps them in proportion",
    )
    cycles: float | int | None = Field(
        default=None, description="cycles on the emulated budget.board to reach: a share below 1, or a number"
    )
    layers: dict[str, float] = Field(
        default={}, description="shares of channels to keep by hand, by patterns of names, such as {'conv2d_3': 0.5, 'dense*': 1.0}"
    )
    criterion: Literal["harm", Criterion] = Field(
        default="harm",
        description="what says how much a channel matters; harm: what the outputs change without a group's least channels by l2, at "
        "a few sizes",
    )
    samples: int = Field(default=1024, ge=16, le=1_000_000, description="training samples that taylor and activation look at")
    reconstruct: bool = Field(
        default=True, description="before training, layers make up for the inputs that they lose, by least squares on up to 512 samples"
    )
    multiple: int = Field(
        default=4, ge=1, le=64, description="numbers of channels are multiples of this; the engine's kernels read 4 at once"
    )
    least: float = Field(default=0.125, ge=0, le=1, description="share of its channels that every layer keeps at least")
    rounds: int = Field(default=4, ge=1, le=100, description="cuts; each takes the same factor")
    round_epochs: int = Field(default=1, ge=0, le=100_000, description="passes of training after each cut but the last")
    epochs: int = Field(default=6, ge=0, le=100_000, description="passes after the last cut; 0: no training")

    @field_validator("flash", "ram")
    @classmethod
    def _sizes(cls, value: float | int | str | None) -> float | int | None:
        return parse_size(value) if isinstance(value, str) else value

    @field_validator(*MEASURES)
    @classmethod
    def _positive(cls, value: float | int | None) -> float | int | None:
        if value is not None and not (0 < value < 1 or (value >= 1 and value == int(value))):
            raise ValueError(f"expected a share between 0 and 1, or a whole number, got {value}")
        return value

    @field_validator("layers")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        wrong = [f"{name}: {share}" for name, share in value.items() if not 0 < share <= 1]
        if wrong:
            raise ValueError(f"expected shares above 0 and up to 1, got {', '.join(wrong)}")
        return value

    @model_validator(mode="after")
    def _some_target(self) -> PruneOptions:
        if not self.layers and not self.wanted():
            raise ValueError(
                "nothing to reach: give one or more of macs, flash, ram, instructions, cycles, layers; macs: 0.5 halves the work"
            )
        return self

    def wanted(self) -> dict[Measure, float]:
        """The targets that are given."""
        return {m: getattr(self, m) for m in MEASURES if getattr(self, m) is not None}

    @property
    def longest(self) -> int:
        """Epochs of the longest training, between cuts or after them."""
        return max(self.epochs, self.round_epochs if self.rounds > 1 else 0)


class Prune:
    """Removes channels until a budget of multiply-accumulates, flash, RAM, instructions or cycles is kept, with training between rounds.

    Channels that depend on each other (through sums, concatenations, depthwise convolutions, gates) go together. The network that is left
    is an ordinary Keras model, and computes what the network with these channels at 0 computes.

    Example: {prune: {macs: 0.5, rounds: 4, epochs: 6, learning_rate: 0.001}}
    """

    name: ClassVar[str] = "prune"
    Options: ClassVar[type[PruneOptions]] = PruneOptions
    saved_with: ClassVar[tuple[str, ...]] = ()
    needs_float: ClassVar[bool] = True
    promises: ClassVar[tuple[str, ...]] = ("macs",)
    keeps: ClassVar[tuple[str, ...]] = ("macs",)

    def check_task(self, model: keras.Model, options: PruneOptions, context: StepContext) -> None:
        """What can be told before any step runs.

        Raises:
            ModelError: model, data and teachers do not suit each other; nothing can be pruned.
            ConfigError: a pattern of `layers` names no group of channels; instructions or cycles without a compiler.
            BudgetError: a target is out of reach even with the fewest channels everywhere.
        """
        check_shrinking(model, options, context, lambda: _check_plan(model, options, context))

    def run(self, model: keras.Model, options: PruneOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            BudgetError: a target cannot be reached.
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        if context.quicktest:
            options = options.model_copy(update={"rounds": 1, "samples": min(options.samples, 64)})
        pruning = Pruning(model, options, context)
        teachers = needed_teachers(options, context, model)
        values: dict[str, Any] = {}
        for number in range(1, options.rounds + 1):
            model = pruning.smaller(model, number)
            values = pruning.trained(model, number, teachers)
        return StepResult(uncompiled(model), {"parameters": model.count_params(), **pruning.report(model), **values})


def _check_plan(model: keras.Model, options: PruneOptions, context: StepContext) -> None:
    """Raises what `Prune.check_task` says of channels and targets."""
    pruning = Pruning(model, options, context)
    pruning.check()
    names = [name for group in pruning.found.removable() for name in group.layers]
    check_lasting(options.layers, names, model, f"steps.{context.label}.layers", context)
