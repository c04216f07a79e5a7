"""Sparse weights: those that matter least become zero, single ones or in patterns, and stay zero to the last integer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tinykit.config.catalogue import nearest
from tinykit.errors import ConfigError, ModelError
from tinykit.recipe.step import CHECKPOINT, StepContext, StepResult
from tinykit.steps.fitting import batches_of, uncompiled
from tinykit.steps.lasting import check_lasting
from tinykit.steps.paying import Trial, tried
from tinykit.steps.teaching import TaughtFloatOptions, check_shrinking, fit_taught, needed_teachers

if TYPE_CHECKING:
    import keras

    from tinykit.shrink.kernels import Kernel
    from tinykit.shrink.sparse import Plan, Sparsifier

_UPDATES = 20
"""Of the masks, an epoch."""


class SparsifyOptions(TaughtFloatOptions):
    """Options of `sparsify`."""

    sparsity: float | None = Field(
        default=None, gt=0, lt=1,
        description="share of the weights of all dense and convolution layers that become 0; null: 0.75; of 2of4 it follows",
    )  # fmt: skip
    pattern: Literal["weights", "blocks", "2of4"] = Field(
        default="weights",
        description="single weights; blocks along the input channels; or two of every four weights along the input channels, at once",
    )
    block: int = Field(default=4, ge=2, le=64, description="weights of a block")
    scope: Literal["layer", "network"] = Field(
        default="layer",
        description="layer: each is as sparse as the others, by magnitude; network: weights of all layers are compared, by LAMP scores",
    )
    layers: dict[str, float] = Field(
        default={},
        description="shares by hand, by patterns of names, such as {'conv2d_3': 0.5, 'dense*': 0}; 0: stays dense. The first and the last "
        "layer and depthwise ones stay dense unless they are named",
    )
    if_smaller: bool = Field(
        default=False,
        description="only layers whose weights are stored coded by then; where the linked image would not become smaller the step is "
        "skipped, and the report says so",
    )
    rise_epochs: int = Field(default=4, ge=0, le=100_000, description="passes during which sparsity rises; 0: at once")
    epochs: int = Field(default=6, ge=0, le=100_000, description="passes afterwards; 0: none")

    @field_validator("layers")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        wrong = [f"{name}: {share}" for name, share in value.items() if not 0 <= share < 1]
        if wrong:
            raise ValueError(f"expected shares from 0 up to below 1, got {', '.join(wrong)}")
        return value

    @model_validator(mode="after")
    def _fixed(self) -> SparsifyOptions:
        if self.pattern == "2of4":
            given = [f"sparsity: {self.sparsity:g}"] if self.sparsity not in (None, 0.5) else []
            given += [f"layers: {name}: {share:g}" for name, share in self.layers.items() if share not in (0, 0.5)]
            if given:
                raise ValueError(
                    f"pattern 2of4 makes half of a layer's weights 0: leave sparsity out, layers have 0 or 0.5; got {', '.join(given)}"
                )
        return self

    @property
    def wanted(self) -> float:
        """Share of zeros in the network, for patterns other than 2of4."""
        return 0.75 if self.sparsity is None else self.sparsity

    @property
    def longest(self) -> int:
        """Epochs of the longer training, while zeros become more or afterwards."""
        return max(self.epochs, self.rise_epochs)


class Sparsify:
    """Makes weights zero by magnitude, along a polynomial schedule, while the network is trained (Zhu and Gupta 2017).

    Masks and schedule are tensorflow-model-optimization's. Later steps keep the zeros: `cluster`, `distill`, `quantize`, `ptq`.

    Example: {sparsify: {sparsity: 0.75, pattern: blocks, rise_epochs: 4, epochs: 8}}
    """

    name: ClassVar[str] = "sparsify"
    Options: ClassVar[type[SparsifyOptions]] = SparsifyOptions
    saved_with: ClassVar[tuple[str, ...]] = ()
    needs_float: ClassVar[bool] = True
    promises: ClassVar[tuple[str, ...]] = ("macs", "sparsity")
    keeps: ClassVar[tuple[str, ...]] = ("macs", "sparsity")

    def check_task(self, model: keras.Model, options: SparsifyOptions, context: StepContext) -> None:
        """What can be told before any step runs.

        Raises:
            ModelError: model, data and teachers do not suit each other; layers that cannot have the pattern.
            ConfigError: a pattern of names that fits no layer, or only one that a step before may replace; a sparsity that the layers that
                take part cannot reach; a `prune` before that need not leave channels in fours.
        """
        where = f"steps.{context.label}"

        def plan() -> None:
            names = [kernel.name for kernel in plan_of(model, options, context).kernels]
            check_lasting(options.layers, names, model, f"{where}.layers", context)
            if odd := _odd_multiples(context) if options.pattern == "2of4" else []:
                raise ConfigError(
                    f"{where}: pattern 2of4 needs input channels in fours, and {' and '.join(odd)}: give prune a multiple of 4, or "
                    "choose pattern: weights"
                )

        check_shrinking(model, options, context, plan)

    def run(self, model: keras.Model, options: SparsifyOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        from tinykit.shrink.kernels import kernels
        from tinykit.shrink.sparse import sparsity

        if context.quicktest:
            options = options.model_copy(update={"rise_epochs": min(options.rise_epochs, 1), "epochs": min(options.epochs, 1)})
        plan, trial = plan_of(model, options, context, as_far_as_possible=bool(context.promising("macs"))), None
        if options.if_smaller:
            trial = _trial(model, plan, options, context)
            if not trial.pays:
                return trial.skipped(context)
            plan = replace(plan, kernels=_paying(plan.kernels, trial, context))
        teachers = needed_teachers(options, context, model)
        values = _Training(model, plan, options, context, teachers).run()
        found = kernels(model)
        context.log(f"{sparsity(found):.4f} of {sum(kernel.size for kernel in found):,} weights are 0")
        rows = [{"layer": kernel.name, "weights": kernel.size, "sparsity": sparsity([kernel])} for kernel in found]
        report: dict[str, Any] = {"sparsity": sparsity(found), "pattern": options.pattern, "layers": rows}
        report |= {"trial": trial.report()} if trial is not None else {}
        return StepResult(uncompiled(model), {**report, **values})


def _trial(model: keras.Model, plan: Plan, options: SparsifyOptions, context: StepContext) -> Trial:
    """What the zeros do to the engine."""
    from tinykit.quant.kept import Kept
    from tinykit.shrink.kernels import kernels
    from tinykit.shrink.sparse import Sparsifier

    def change(copy: keras.Model) -> None:
        names = {kernel.name for kernel in plan.kernels}
        own = tuple(kernel for kernel in kernels(copy) if kernel.name in names)
        Sparsifier(replace(plan, kernels=own), 0).update(0)

    return tried(model, change, Kept(zeros=True), context)


def _paying(found: tuple[Kernel, ...], trial: Trial, context: StepContext) -> tuple[Kernel, ...]:
    """The layers whose weights are coded."""
    for kernel in found:
        if kernel.name not in trial.coded:
            context.log(f"{kernel.name} stays dense: its zeros would save nothing")
    return tuple(kernel for kernel in found if kernel.name in trial.coded)


def _odd_multiples(context: StepContext) -> list[str]:
    """Prunings before the step that need not leave numbers of channels in fours, for a message."""
    from tinykit.recipe.registry import step_class

    found = []
    for spec in context.promising("macs"):
        multiple = getattr(step_class(spec.name).Options.model_validate(spec.options), "multiple", 4)
        found += [f"step {spec.label!r} before it leaves them in multiples of {multiple}"] if multiple % 4 else []
    return found


def plan_of(model: keras.Model, options: SparsifyOptions, context: StepContext, as_far_as_possible: bool = False) -> Plan:
    """What becomes how sparse.

    Args:
        as_far_as_possible: for a network that steps before have made smaller than the one that was checked: layers that cannot have the
            pattern any more stay dense, a sparsity out of reach becomes the highest there is, and the log says so.

    Raises:
        ConfigError, ModelError: see `Sparsify.check_task`; every problem at once.
    """
    from tinykit.shrink.kernels import kernels
    from tinykit.shrink.patterns import refused
    from tinykit.shrink.sparse import MOST, Plan, chosen, common_share

    where, found = f"step {context.label}", kernels(model)
    check_names(options.layers, [kernel.name for kernel in found], f"steps.{context.label}.layers")
    part, shares = chosen(found, options.layers)
    if not part:
        raise ModelError(
            f"{where}: no layer takes part: the first and the last layer and depthwise ones stay dense unless `layers` names them; "
            f"there are {', '.join(kernel.name for kernel in found) or 'none'}"
        )
    unfit = {kernel.name: refused(kernel, options.pattern, options.block) for kernel in part}
    if as_far_as_possible and any(reason is None for reason in unfit.values()):
        for name, reason in unfit.items():
            if reason:
                context.log(f"{name} stays dense: it cannot have pattern {options.pattern} any more: {reason}")
        part = [kernel for kernel in part if not unfit[kernel.name]]
        shares, unfit = {kernel.name: shares[kernel.name] for kernel in part if kernel.name in shares}, {}
    problems = [
        f"{where}: layer {name!r} cannot have pattern {options.pattern}: {reason}; leave it dense with steps.{context.label}.layers="
        f"{{'{name}': 0}}, or choose pattern: weights"
        for name, reason in unfit.items()
        if reason
    ]
    if problems:
        raise ModelError(problems)
    if options.pattern == "2of4":
        return Plan(tuple(part), {}, 0.5, options.pattern, options.block, "layer")
    common = common_share(found, part, shares, options.wanted)
    if common > MOST and as_far_as_possible:
        context.log(f"sparsity {options.wanted:g} of the smaller network cannot be reached: its layers get {MOST:g}")
        common = MOST
    if common > MOST:
        most = sum(kernel.size * shares.get(kernel.name, MOST) for kernel in part) / sum(kernel.size for kernel in found)
        raise ConfigError(
            f"{where}: sparsity {options.wanted:g} of the network cannot be reached: with {MOST:g} of the weights of the {len(part)} "
            f"layers that take part it is {most:.3f}; lower it, or name more layers in `layers`"
        )
    return Plan(tuple(part), shares, common, options.pattern, options.block, options.scope)


def check_names(patterns: Any, names: list[str], where: str) -> None:
    """Raises ConfigError for patterns that fit no layer."""
    from fnmatch import filter as fitting

    problems = [
        f"{where}: no dense or convolution layer is called {pattern!r}{nearest(pattern, names)}"
        for pattern in patterns
        if not fitting(names, pattern)
    ]
    if problems:
        raise ConfigError(problems)


class _Training:
    """The rise of sparsity, then training of what is left; each has a checkpoint of its own, an epoch at a time."""

    def __init__(self, model: keras.Model, plan: Plan, options: SparsifyOptions, context: StepContext, teachers: Any) -> None:
        from tinykit.shrink.held import Held

        self.model, self.plan, self.options, self.context, self.teachers = model, plan, options, context, teachers
        self.held = Held(model, zeros=True)

    def run(self) -> dict[str, Any]:
        """Trains the model in place."""
        from tinykit.shrink.sparse import Sparsifier

        at_once = self.plan.pattern == "2of4" or not self.options.rise_epochs
        if at_once:
            sparsifier = Sparsifier(self.plan, 0)
            self.context.log(f"sparsity {sparsifier.update(0):.4f} of {len(self.plan.kernels)} layers, at once")
            self._fit("rise", self.options.rise_epochs)
        else:
            sparsifier = self._rise()
        values = self._fit("last", self.options.epochs)
        problems = sparsifier.broken()
        if problems:
            raise ModelError([f"step {self.context.label}: {problem}" for problem in problems])
        return values

    def _rise(self) -> Sparsifier:
        from tinykit.shrink.sparse import Sparsifier, schedule

        steps = batches_of(self.options, self.context)[1]
        every = max(1, steps // _UPDATES)
        sparsifier = Sparsifier(self.plan, self.options.rise_epochs * steps // every)
        self._fit("rise", self.options.rise_epochs, schedule(sparsifier, every, steps, self.held.read, self.context.log))
        return sparsifier

    def _fit(self, name: str, epochs: int, *callbacks: Any) -> dict[str, Any]:
        if not epochs:
            return {}
        changes: dict[str, Any] = {} if name == "last" else {"schedule": "constant", "keep": "last", "patience": None}
        changes |= {"warmup_epochs": 0.0} if name == "last" and self.options.rise_epochs else {}
        own = replace(self.context, folder=self.context.folder / CHECKPOINT / name, seed=self.context.seed + (name == "last"))
        own.folder.mkdir(parents=True, exist_ok=True)
        options = self.options.model_copy(update={"epochs": epochs, **changes})
        return fit_taught(self.model, options, own, self.teachers, [self.held.callback(), *callbacks])
