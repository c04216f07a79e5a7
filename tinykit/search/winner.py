"""From probabilities to one network: candidates are predicted on the board, those that fit are trained a little, the best on val wins."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinykit import atomic
from tinykit.config.loading import ResolvedConfig
from tinykit.config.search import SearchConfig
from tinykit.errors import BudgetError
from tinykit.recipe.step import StepContext
from tinykit.search.candidates import draws, grown, narrowest, over, shrunk
from tinykit.search.costs import CostModel
from tinykit.search.gap import Gap
from tinykit.search.predict import Target, estimate, predict, with_dropout
from tinykit.search.space import Architecture, Space
from tinykit.search.trials import Trial, Trials

if TYPE_CHECKING:
    import keras

    from tinykit.search.supernet import Supernet
    from tinykit.steps.floats import FloatOptions

_ATTEMPTS = 10
"""Architectures looked at for each one that is wanted."""
_CORRECTIONS = 3
"""Images that a choice may need until it is known how much smaller it must be."""
_DOUBT = 0.05
"""By which share a plan may exceed the budget and an image is tried all the same."""
_FINALISTS = 3
"""Trained candidates that the recipe may choose from: what it makes of the best one may not fit."""
_BATCHES = 16
"""Batches that renew the statistics of batch normalisation."""
UNITS = {"macs": "multiply-accumulates", "flash": "bytes of flash", "ram": "bytes of RAM"}


class Contest:
    """The trials of one search.

    Args:
        net: the trained supernet, whose weights candidates begin with.
        target: what they are linked for.
        trials: what was tried before; an architecture that is there is not tried again.
        gap: of the middle of the space; a trial says better what the board takes beyond what is counted.
        context: data and logging; its folder keeps the trained candidates.
        judge: the accuracy on val of an architecture that fits; None: it is trained a little and kept.
    """

    def __init__(
        self, net: Supernet, options: SearchConfig, target: Target, trials: Trials, gap: Gap, context: StepContext,
        judge: Callable[[Architecture], float] | None = None,
    ) -> None:  # fmt: skip
        self.judge = judge or self._trained
        self.net, self.options, self.target, self.trials, self.context = net, options, target, trials, context
        self.space: Space = net.space
        self.costs = CostModel(self.space, options.weight_bits)
        self.gap, self.beside = dict(gap.counted), gap.planned

    def limits(self) -> dict[str, float | None]:
        """What an architecture may count, as far as is known."""
        return count_limits(self.options, self.target, self.gap)

    def check(self) -> None:
        """Raises BudgetError where the narrowest architecture of the space cannot fit; nothing is trained then."""
        for kind in UNITS:
            indices = narrowest(self.costs, kind)
            if self._refused(self.space.architecture(indices), self.costs.counted(indices)):
                self.look(indices, "the narrowest")
                raise BudgetError(self._refusal(kind))

    def run(self, probabilities: Mapping[str, np.ndarray]) -> list[Trial]:
        """The best trials, the best first.

        Raises:
            BudgetError: no architecture was found that fits.
        """
        wanted = 2 if self.context.quicktest else self.options.candidates
        fitting: set[str] = set()
        for attempt, drawn in enumerate(draws(self.space, probabilities, self.context.seed)):
            if len(fitting) >= wanted or attempt >= _ATTEMPTS * wanted:
                break
            how = "drawn" if attempt else "likeliest"
            if over(self.costs.counted(drawn), self.limits()):
                self.look(drawn, how)  # a row of its own: what was too large is told too
            found = self._fitting(drawn, how, probabilities)
            fitting |= {found.key} if found is not None else set()
        return self.finalists()

    def finalists(self) -> list[Trial]:
        """The best trials so far, the best first. Raises BudgetError where none fits."""
        best = self.trials.trained()
        if not best:
            raise BudgetError(self._refusal("flash"))
        return best[:_FINALISTS]

    def _fitting(self, drawn: dict[str, int], how: str, probabilities: Mapping[str, np.ndarray]) -> Trial | None:
        """The trial of a choice made as small as it must be, and as large as it may be; an image that is larger than was counted corrects
        what may be counted."""
        for _ in range(_CORRECTIONS):
            smaller = shrunk(drawn, probabilities, self.costs, self.limits())
            if smaller is None:
                return None
            larger = grown(smaller, probabilities, self.costs, self.limits())
            found = self.look(larger, how if larger == drawn else f"{how}, made {'larger' if smaller == drawn else 'to fit'}")
            if found.status == "trained":
                return found
        return None

    def look(self, indices: dict[str, int], how: str) -> Trial:
        """The trial of a choice: from the file, or made. A safe point."""
        self.context.stop.check()
        architecture = self.space.architecture(indices)
        trial = self.trials.find(architecture.key)
        if trial is None:
            trial = self._try(indices, architecture)
            self.trials.add(trial)
            shutil.rmtree(self._checkpoint(architecture), ignore_errors=True)
            self._tell(trial, architecture, how)
        if trial.gap is not None:
            self.gap = trial.gap
        return trial

    def _try(self, indices: dict[str, int], architecture: Architecture) -> Trial:
        begun = time.monotonic()
        counted = self.costs.counted(indices)
        options = with_dropout(architecture.options(), self.options.dropout)
        trial = Trial(architecture.key, self.options.method, architecture.options(), "infeasible", (), counted)
        refused = self._refused(architecture, counted)
        if refused:
            return dataclasses.replace(trial, violations=refused, seconds=round(time.monotonic() - begun, 3))
        predicted = predict(options, self.space.input_shape, self.space.classes, self.target)
        trial = dataclasses.replace(trial, predicted=predicted.as_dict(), violations=predicted.problems)
        accuracy = None if predicted.problems else self.judge(architecture)
        status = trial.status if predicted.problems else "trained"
        return dataclasses.replace(trial, status=status, accuracy=accuracy, seconds=round(time.monotonic() - begun, 3))

    def _refused(self, architecture: Architecture, counted: Mapping[str, int]) -> tuple[str, ...]:
        """Why an architecture cannot fit, as far as that is known without an image; empty where it may.

        Weights alone, or multiply-accumulates, may be too many. What counts too much only with the gap of another architecture is planned.
        """
        budget = self.target.budget
        sure: dict[str, float | None] = {"macs": self.options.macs, "flash": budget.flash}
        above = over(counted, sure)
        if above or not over(counted, self.limits()):
            return tuple(f"{counted[kind]:,} {UNITS[kind]} counted, {sure[kind]:,.0f} allowed" for kind in above)
        planned = estimate(architecture.options(), self.space.input_shape, self.space.classes, self.target)
        sizes = {kind: planned[kind] + self.beside[kind] for kind in planned}
        allowed: dict[str, float | None] = {"flash": budget.flash, "ram": budget.ram}
        above = {kind: share for kind, share in over(sizes, allowed).items() if share > _DOUBT}
        return tuple(f"{sizes[kind]:,} {UNITS[kind]} planned, not linked, {allowed[kind]:,.0f} allowed" for kind in above)

    def _trained(self, architecture: Architecture) -> float:
        """On val, after a short training from the supernet's weights; the trained network is kept."""
        import keras

        from tinykit.models.registry import build_model
        from tinykit.recipe.kerasfile import save_model
        from tinykit.search.supernet import inherit
        from tinykit.steps.fitting import fit, uncompiled
        from tinykit.steps.floats import compile_float

        keras.utils.set_random_seed(self.context.seed)
        options = with_dropout(architecture.options(), self.options.dropout)
        model = build_model("staged", self.space.input_shape, self.space.classes, options)
        inherit(model, self.net)
        renew_statistics(model, self.context)
        if self.options.trial_epochs:
            folder = self._checkpoint(architecture)
            context = dataclasses.replace(self.context, folder=folder, label=f"trial {architecture.key}", log=_silent)
            own = trial_options(self.context.config, self.options)
            compile_float(model, own, context, True)
            fit(model, own, context)
        file = model_file(self.context.folder, architecture.key)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file) as temporary:
            save_model(uncompiled(model), temporary)
        return val_accuracy(model, self.context)

    def _checkpoint(self, architecture: Architecture) -> Path:
        return self.context.folder / "trials" / architecture.key

    def _tell(self, trial: Trial, architecture: Architecture, how: str) -> None:
        words = f" ({how})" if how else ""
        if trial.status == "infeasible":
            self.context.log(f"trial {trial.key}{words}: {architecture}: does not fit: {trial.violations[0]}")
            return
        predicted = trial.predicted or {}
        self.context.log(
            f"trial {trial.key}{words}: {architecture}: val accuracy {100 * (trial.accuracy or 0):.2f} %, flash {predicted['flash']:,}, "
            f"RAM {predicted['ram']:,}, cycles {predicted['cycles'] or 0:,}"
        )

    def _refusal(self, kind: str) -> list[str]:
        counted = self.costs.counted(narrowest(self.costs, kind))
        shown = ", ".join(f"{counted[kind]:,} {UNITS[kind]}" for kind in counted)
        return [
            f"search: none of the {len(self.trials.rows)} architectures that were looked at fits; the narrowest of the space counts "
            f"{shown}: choose smaller stages, or a larger budget",
            *(f"  {row.key}: {line}" for row in self.trials.rows[-3:] for line in row.violations[:1]),
        ]


def count_limits(options: SearchConfig, target: Target, gap: Mapping[str, int]) -> dict[str, float | None]:
    """The most that an architecture may count: the budget, less what the board takes beyond."""
    flash, ram = target.budget.flash, target.budget.ram
    return {
        "macs": None if options.macs is None else float(options.macs),
        "flash": None if flash is None else max(float(flash - gap["flash"]), 1.0),
        "ram": None if ram is None else max(float(ram - gap["ram"]), 1.0),
    }


def trial_options(config: ResolvedConfig, options: SearchConfig) -> FloatOptions:
    """The training of a candidate: the recipe's step `train`, shorter, as it is what trains the winner that tells candidates apart."""
    from tinykit.steps.floats import FloatOptions

    given = next((step.options for step in config.steps if step.name == "train"), {"learning_rate": options.learning_rate})
    shared = {key: given[key] for key in FloatOptions.model_fields if key in given}
    return FloatOptions.model_validate({**shared, "epochs": options.trial_epochs, "keep": "last", "patience": None})


def model_file(folder: Path, key: str) -> Path:
    """Where a candidate is kept, as its trial left it."""
    return folder / "models" / f"{key}.keras"


def renew_statistics(model: keras.Model, context: StepContext) -> None:
    """The means and variances of batch normalisation over some batches: those of the supernet are of all architectures together."""
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for count, (x, _) in enumerate(context.batches("train", shuffle=True).take(_BATCHES)):
        for layer in layers:
            layer.momentum = count / (count + 1)  # the mean over the batches so far
        model(x, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def val_accuracy(model: keras.Model, context: StepContext) -> float:
    """Top-1 on val, 0 to 1; on train where there is no val."""
    from tinykit.recipe.score import top1

    split = context.dataset.val if len(context.dataset.val) else context.dataset.train
    outputs = np.concatenate(
        [model.predict(context.chain.apply(split.x[i : i + 2048]), batch_size=256, verbose=0) for i in range(0, len(split), 2048)]
    )
    return top1(outputs, split.y)


def _silent(message: str) -> None:
    """Says nothing: a trial is one line."""
