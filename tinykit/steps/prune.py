"""Structured pruning: channels that matter least disappear, and what is left learns to do without them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from tinykit import atomic
from tinykit.config.sizes import parse_size
from tinykit.errors import BudgetError, ConfigError, ModelError
from tinykit.recipe.registry import step_class
from tinykit.recipe.step import CHECKPOINT, StepContext, StepResult
from tinykit.shrink.budget import UNITS, Limits, cut, rounded_up, towards
from tinykit.shrink.channels import ChannelMap, channel_map, matching
from tinykit.shrink.costs import ENGINE, MEASURES, Costs, Measure, Sizes
from tinykit.shrink.criteria import Batch, Criterion, scores
from tinykit.shrink.surgery import shrink
from tinykit.steps.fitting import check_task, rebuilds, uncompiled
from tinykit.steps.floats import ends_in_softmax, float_loss
from tinykit.steps.integers import check_float
from tinykit.steps.teaching import TaughtFloatOptions, check_teachers, fit_taught, teacher_models

if TYPE_CHECKING:
    import keras

_BATCH = 16
"""Samples of one gradient: the mean over many would hide what single samples need."""


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
    cycles: float | int | None = Field(
        default=None, description="cycles on the emulated budget.board to reach: a share below 1, or a number"
    )
    layers: dict[str, float] = Field(
        default={}, description="shares of channels to keep by hand, by patterns of names, such as {'conv2d_3': 0.5, 'dense*': 1.0}"
    )
    criterion: Criterion = Field(default="taylor", description="what says how much a channel matters")
    samples: int = Field(default=1024, ge=16, le=1_000_000, description="training samples that taylor and activation look at")
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
            raise ValueError("nothing to reach: give one or more of macs, flash, ram, cycles, layers; macs: 0.5 halves the work")
        return self

    def wanted(self) -> dict[Measure, float]:
        """The targets that are given."""
        return {m: getattr(self, m) for m in MEASURES if getattr(self, m) is not None}


class Prune:
    """Removes channels until a budget of multiply-accumulates, flash, RAM or cycles is kept, in rounds with training between them.

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
            ConfigError: a pattern of `layers` names no group of channels; cycles without a compiler.
            BudgetError: a target is out of reach even with the fewest channels everywhere.
        """
        check_float(model)
        if context.config.config.model.path is None and not any(getattr(step_class(name), "trains", False) for name in context.before()):
            raise ModelError(
                f"step {context.label}: the model has random weights, which do not say what matters: put `train` or `distill` before it, "
                "or give model.path"
            )
        if options.epochs or (options.rounds > 1 and options.round_epochs):
            check_task(model, options, context)
            check_teachers(model, options, context)
        _Pruning(model, options, context).check()

    def run(self, model: keras.Model, options: PruneOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            BudgetError: a target cannot be reached.
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        if context.quicktest:
            options = options.model_copy(update={"rounds": 1, "samples": min(options.samples, 64)})
        pruning = _Pruning(model, options, context)
        default = context.float_model if context.float_model is not None else model
        trains = options.epochs or (options.rounds > 1 and options.round_epochs)
        teachers = teacher_models(options, context, default) if options.taught and trains else []
        values: dict[str, Any] = {}
        for number in range(1, options.rounds + 1):
            model = pruning.smaller(model, number)
            values = pruning.trained(model, number, teachers)
        return StepResult(uncompiled(model), {"parameters": model.count_params(), **pruning.report(model), **values})


class _Pruning:
    """One pruning: what it starts from, and what it wants to reach."""

    def __init__(self, model: keras.Model, options: PruneOptions, context: StepContext) -> None:
        self.options, self.context = options, context
        self.found = channel_map(model)
        self.costs = self._costs(self.found)
        everything = self.found.everything()
        wanted = options.wanted()
        self.start: dict[Measure, float] = {m: float(self.costs.exact(m, everything)) for m in wanted}
        self.goal = {m: value * self.start[m] if value < 1 else float(value) for m, value in wanted.items()}
        self.sizes = {group.layers: len(group.channels) for group in self.found.removable()}
        self.shares = self._named_shares()

    def _costs(self, found: ChannelMap) -> Costs:
        wanted = self.options.wanted()
        if not ENGINE & set(wanted):
            return Costs(found)
        from tinykit.boards.table import emulated_board
        from tinykit.engine.goal import GOALS
        from tinykit.shrink.engine import engine_sizes

        config = self.context.config.config
        board = emulated_board(config.budget.board) if "cycles" in wanted else None
        measure = engine_sizes(board, GOALS[config.engine.optimize])

        def sizes(model: keras.Model) -> Sizes:
            self.context.stop.check()
            return measure(model)

        return Costs(found, sizes)

    def _named_shares(self) -> dict[tuple[str, ...], float]:
        """Group -> the share of its channels to keep by hand; the last pattern that fits counts."""
        found: dict[tuple[str, ...], float] = {}
        problems = []
        for pattern, share in self.options.layers.items():
            groups = list(matching(self.found.groups, pattern))
            kept = [f"{group.name} ({group.kept})" for group in groups if group.kept and share < 1]
            if not groups:
                names = ", ".join(group.name for group in self.found.removable())
                problems.append(
                    f"step {self.context.label}: layers: no layer with channels of its own is called {pattern!r}; there are {names}"
                )
            if kept and not any(not group.kept for group in groups):
                problems.append(f"step {self.context.label}: layers: {pattern!r} cannot lose channels: {'; '.join(kept)}")
            found |= {group.layers: share for group in groups if not group.kept}
        if problems:
            raise ConfigError(problems)
        return found

    def check(self) -> None:
        """Raises ModelError where nothing can go, BudgetError where a target is out of reach."""
        if not self.found.removable():
            kept = "; ".join(f"{name}: {reason}" for name, reason in self.found.kept())
            raise ModelError(f"step {self.context.label}: model {self.found.model.name!r} has no channels that may go: {kept}")
        limits, alive = self._limits(self.options.rounds), self.found.everything()
        for group in self.found.removable():
            alive[group.channels[limits.fewest(group) :]] = False
        problems = []
        for measure, target in self.goal.items():
            least = self.costs.exact(measure, alive)
            if least > target:
                problems.append(
                    f"step {self.context.label}: {target:,.0f} {UNITS[measure]} are wanted, {least:,.0f} are the fewest that pruning can "
                    f"reach: raise {measure}, or lower least ({self.options.least:g}) or multiple ({self.options.multiple})"
                )
        if problems:
            raise BudgetError(problems)

    def _limits(self, number: int) -> Limits:
        """How far groups may be cut in a round."""
        done, multiple = number / self.options.rounds, self.options.multiple
        floors = {layers: math.ceil(self.options.least * size) for layers, size in self.sizes.items()}
        shares = {
            layers: min(self.sizes[layers], rounded_up(max(1, round(share**done * self.sizes[layers])), multiple))
            for layers, share in self.shares.items()
        }
        return Limits(multiple, floors, shares)

    def smaller(self, model: keras.Model, number: int) -> keras.Model:
        """The network after the cut of a round (from 1). An interrupted run makes the cut that it had made."""
        found = channel_map(model)
        file = self.context.folder / CHECKPOINT / f"cut_{number}.json"
        alive = found.everything()
        if file.is_file():
            alive[_stored(file, found)] = False
        else:
            alive = self._chosen(found, number)
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(file, {"removed": np.flatnonzero(~alive).tolist(), "channels": found.count})
        costs, everything = Costs(found), found.everything()
        gone = [f"{g.name} {len(g.channels)} -> {int(alive[g.channels].sum())}" for g in found.removable() if not alive[g.channels].all()]
        self.context.log(
            f"round {number}/{self.options.rounds}: {costs.macs(everything):,} -> {costs.macs(alive):,} MACs; channels: "
            f"{', '.join(gone) or 'none removed'}"
        )
        return shrink(found, alive)

    def _chosen(self, found: ChannelMap, number: int) -> np.ndarray:
        costs = self._costs(found) if number > 1 else Costs(found, self.costs.engine)
        targets = towards(self.start, self.goal, number, self.options.rounds)
        self.context.log(f"scores channels by {self.options.criterion}")
        return cut(found, self._scores(found), costs, targets, self._limits(number))

    def _scores(self, found: ChannelMap) -> np.ndarray:
        from keras import ops

        loss = float_loss(self.options, self.context, ends_in_softmax(found.model))
        return scores(found, self.options.criterion, self._batches(), lambda y, output: ops.mean(loss(y, output)))

    def _batches(self) -> Iterator[Batch]:
        """Samples of the training split, drawn by the step's seed, with their targets."""
        train = self.context.dataset.train
        count = min(self.options.samples, len(train))
        chosen = np.sort(np.random.default_rng(self.context.seed).choice(len(train), count, replace=False))
        size = min(_BATCH, count)
        for i in range(0, count - size + 1, size):
            self.context.stop.check()
            part = chosen[i : i + size]
            x = np.asarray(self.context.chain.apply(train.x[part]), np.float32)
            yield x, x if rebuilds(self.options, self.context) else train.y[part]

    def trained(self, model: keras.Model, number: int, teachers: list[tuple[keras.Model, bool]]) -> dict[str, Any]:
        """Trains the network of a round in place."""
        last = number == self.options.rounds
        changes: dict[str, Any] = {} if last else {"schedule": "constant", "keep": "last", "patience": None, "warmup_epochs": 0.0}
        options = self.options.model_copy(update={"epochs": self.options.epochs if last else self.options.round_epochs, **changes})
        if not options.epochs:
            return {}
        own = replace(self.context, folder=self.context.folder / CHECKPOINT / f"round_{number}", seed=self.context.seed + number)
        return fit_taught(model, options, own, teachers)

    def report(self, model: keras.Model) -> dict[str, Any]:
        """Channels and costs before and after."""
        found = channel_map(model)
        now = {group.layers: len(group.channels) for group in found.removable()}
        groups = [{"layers": list(layers), "before": size, "after": now.get(layers, size)} for layers, size in self.sizes.items()]
        kept = [{"layers": name, "reason": reason} for name, reason in self.found.kept()]
        macs = {"before": Costs(self.found).macs(self.found.everything()), "after": Costs(found).macs(found.everything())}
        for row in kept:
            self.context.log(f"kept whole: {row['layers']}: {row['reason']}")
        return {"groups": groups, "kept": kept, "macs": macs}


def _stored(file: Path, found: ChannelMap) -> list[int]:
    """The channels that an interrupted run removed."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        removed, count = [int(i) for i in stored["removed"]], stored["channels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; delete {file.parent} to run the step from its beginning") from error
    if count != found.count or any(not 0 <= i < count for i in removed):
        raise ModelError(f"{file}: does not fit the model; delete {file.parent} to run the step from its beginning")
    return removed
