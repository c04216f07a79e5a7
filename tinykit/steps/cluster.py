"""Weights that share few values, so that a weight is stored as the number of its value."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from tinykit.errors import ConfigError, ModelError
from tinykit.quant.kept import SCALED
from tinykit.recipe.step import CHECKPOINT, StepContext, StepResult
from tinykit.steps.fitting import uncompiled
from tinykit.steps.keeping import MOST_CLUSTERS
from tinykit.steps.lasting import check_lasting
from tinykit.steps.paying import Trial, tried
from tinykit.steps.sparsify import check_names
from tinykit.steps.teaching import TaughtFloatOptions, check_shrinking, fit_taught, needed_teachers

if TYPE_CHECKING:
    import keras

    from tinykit.shrink.clusters import Table
    from tinykit.shrink.kernels import Kernel


class ClusterOptions(TaughtFloatOptions):
    """Options of `cluster`."""

    clusters: int = Field(
        default=16, ge=2, le=MOST_CLUSTERS, description="most values of a tensor, or of a channel; 0 is one of them where zeros stay"
    )
    table: Literal["tensor", "channel"] = Field(
        default="tensor", description="values of a whole tensor, or of each output channel; the engine stores one table, or one a channel"
    )
    start: Literal["kmeans++", "density", "linear"] = Field(default="kmeans++", description="where k-means begins")
    layers: dict[str, Literal["tensor", "channel", "free"]] = Field(
        default={},
        description="tables by patterns of names, such as {'dense*': 'channel', 'conv2d': 'free'}; free: no table. The first and the last "
        "layer stay free unless they are named",
    )
    if_smaller: bool = Field(
        default=False,
        description="only layers whose weights are stored coded by then; where the linked image would not become smaller the step is "
        "skipped, and the report says so",
    )
    epochs: int = Field(default=4, ge=0, le=100_000, description="passes during which the values are trained; 0: none")
    learning_rate: float = Field(default=2e-4, gt=0, le=100, description="the highest of the schedule")

    @field_validator("layers")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        if any(not name for name in value):
            raise ValueError("expected names of layers or patterns of names, got an empty one")
        return value


class Cluster:
    """Moves the weights of each layer to few values by k-means, and trains the values: members of a cluster stay equal (Han et al. 2016).

    First centroids are tensorflow-model-optimization's. Weights that are 0 by the promise of a step before stay 0. Later steps keep the
    clusters: `distill`, `quantize`, `ptq`; the integers of a tensor (or channel) are then no more than its values.

    Example: {cluster: {clusters: 16, table: tensor, epochs: 4, layers: {dense: channel}}}
    """

    name: ClassVar[str] = "cluster"
    Options: ClassVar[type[ClusterOptions]] = ClusterOptions
    saved_with: ClassVar[tuple[str, ...]] = ()
    needs_float: ClassVar[bool] = True
    promises: ClassVar[tuple[str, ...]] = ("macs", "clusters")
    keeps: ClassVar[tuple[str, ...]] = ("macs", "sparsity", "clusters")

    def check_task(self, model: keras.Model, options: ClusterOptions, context: StepContext) -> None:
        """What can be told before any step runs.

        Raises:
            ModelError: model, data and teachers do not suit each other; no layer takes part.
            ConfigError: a pattern of names that fits no layer, or only one that a step before may replace.
        """

        def plan() -> None:
            tables = _tables(model, options, context)
            names = [kernel.name for kernel, _ in tables]
            check_lasting(options.layers, names, model, f"steps.{context.label}.layers", context)

        check_shrinking(model, options, context, plan)

    def run(self, model: keras.Model, options: ClusterOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        from tinykit.shrink.clusters import mirrored, shared
        from tinykit.shrink.held import Held
        from tinykit.shrink.kernels import kernels

        zero, tables, trial = bool(context.promising("sparsity")), _tables(model, options, context), None
        if options.if_smaller:
            trial = _trial(model, options, zero, context)
            if not trial.pays:
                return trial.skipped(context)
            tables = [(kernel, table) for kernel, table in tables if kernel.name in trial.coded]
        teachers = needed_teachers(options, context, model)
        gains, channels = mirrored(model)
        if channels:
            context.log(f"mirrored {channels} channels with a negative batch norm, so that all channels can share a table")
        for number, (kernel, table) in enumerate(tables, 1):
            kernel.variable.assign(shared(kernel, options.clusters, options.start, table, zero))
            context.progress(number, len(tables))
        context.log(f"{len(tables)} layers share at most {options.clusters} values: {', '.join(kernel.name for kernel, _ in tables)}")
        values: dict[str, Any] = {}
        if options.epochs:
            own = replace(context, folder=context.folder / CHECKPOINT / "values")
            own.folder.mkdir(parents=True, exist_ok=True)
            held = Held(model, zero, options.clusters, gains)
            values = fit_taught(model, options, own, teachers, [held.callback()])
        used = {kernel.name: table for kernel, table in tables}
        rows = [
            {"layer": kernel.name, "weights": kernel.size, "table": used.get(kernel.name), "values": _values(kernel)}
            for kernel in kernels(model)
        ]
        _checked(rows, options, context)
        values |= {"trial": trial.report()} if trial is not None else {}
        return StepResult(uncompiled(model), {"clusters": options.clusters, "layers": rows, **values})


def _trial(model: keras.Model, options: ClusterOptions, zero: bool, context: StepContext) -> Trial:
    """What the shared values do to the engine."""
    from tinykit.quant.kept import Kept
    from tinykit.shrink.clusters import mirrored, shared

    def change(copy: keras.Model) -> None:
        mirrored(copy)
        for kernel, table in _tables(copy, options, context):
            kernel.variable.assign(shared(kernel, options.clusters, options.start, table, zero))

    return tried(model, change, Kept(zero, options.clusters), context)


def _values(kernel: Kernel) -> tuple[int, int]:
    """(different weights in the tensor, most in a channel)."""
    from tinykit.quant.kept import most_values

    return most_values(kernel.columns(kernel.values()))


def _checked(rows: list[dict[str, Any]], options: ClusterOptions, context: StepContext) -> None:
    """Raises ModelError where a layer has more values than it may have."""
    found = {row["layer"]: row["values"][row["table"] == "channel"] for row in rows if row["table"] is not None}
    problems = [
        f"step {context.label}: layer {name!r} has {count:,} different weights, of {options.clusters} at most"
        for name, count in found.items()
        if count > options.clusters
    ]
    if problems:
        raise ModelError(problems)


def _scaled(model: keras.Model) -> set[str]:
    """Layers whose input channels are scaled one by one; none where the model cannot become an integer network, and it does not matter."""
    from tinykit.quant.fuse import fuse
    from tinykit.quant.kept import scaled_inputs

    try:
        return scaled_inputs(fuse(model))
    except ModelError:
        return set()


def _tables(model: keras.Model, options: ClusterOptions, context: StepContext) -> list[tuple[Kernel, Table]]:
    """The layers that take part, and what kind of table they have.

    A dense layer with batch norm behind it has a table a channel in any case: its integers have one scale, so that gains that differ give
    its channels other integers. A layer whose input channels are scaled one by one stays free.

    Raises:
        ConfigError, ModelError: a pattern fits no layer, or gives a table to one that has to stay free; no layer takes part.
    """
    from fnmatch import fnmatchcase

    from tinykit.shrink.clusters import normed
    from tinykit.shrink.kernels import kernels

    found = kernels(model)
    check_names(options.layers, [kernel.name for kernel in found], f"steps.{context.label}.layers")
    inner = {kernel.name for kernel in (found[1:-1] if len(found) > 2 else found)}
    named = {k.name: table for k in found for pattern, table in options.layers.items() if fnmatchcase(k.name, pattern)}
    norms, scaled, problems = normed(model), _scaled(model), []
    tables: list[tuple[Kernel, Table]] = []
    for kernel in found:
        table = named.get(kernel.name, options.table if kernel.name in inner else "free")
        if table == "tensor" and kernel.kind == "Dense" and len(kernel.layer.input.shape) == 2 and kernel.layer.name in norms:
            table = "channel"
        if table != "free" and kernel.name in scaled:
            if named.get(kernel.name, "free") != "free":
                problems.append(f"step {context.label}: layers: layer {kernel.name!r} cannot share values: {SCALED}: give it 'free'")
            table = "free"
        if table != "free" and kernel.size > options.clusters:
            tables.append((kernel, table))
    if problems:
        raise ConfigError(problems)
    if not tables:
        raise ModelError(
            f"step {context.label}: no layer takes part: the first and the last layer stay free unless `layers` names them, and so does "
            f"one of at most {options.clusters} weights, or behind a scale a channel; there are "
            f"{', '.join(kernel.name for kernel in found) or 'none'}"
        )
    return tables
