"""Decomposition: layers replaced by chains of cheaper ones."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from tinykit import atomic
from tinykit.config.catalogue import nearest
from tinykit.errors import BudgetError, ConfigError, ModelError
from tinykit.recipe.step import CHECKPOINT, StepContext, StepResult
from tinykit.steps.fitting import rebuilds, uncompiled
from tinykit.steps.lasting import check_lasting
from tinykit.steps.probing import OutputProbe
from tinykit.steps.teaching import TaughtFloatOptions, check_shrinking, fit_taught, needed_teachers

if TYPE_CHECKING:
    import keras

    from tinykit.shrink.chained import Site
    from tinykit.shrink.factors import Chain
    from tinykit.shrink.lowrank import Candidate

CHOSEN = "ranks.json"

Method = Literal["svd", "tucker", "separable", "cp"]


class DecomposeOptions(TaughtFloatOptions):
    """Options of `decompose`."""

    epochs: int = Field(default=10, ge=0, le=100_000, description="passes over the training split afterwards; 0: none")
    methods: tuple[Method, ...] = Field(
        default=("svd", "tucker", "separable"), min_length=1, strict=False,
        description="svd: dense and pointwise layers; tucker, separable, cp: layers with a window",
    )  # fmt: skip
    ranks: Literal["budget", "harm", "energy", "evidence"] = Field(
        default="budget",
        description="budget: the least measured harm within `macs`; harm: the fewest multiply-accumulates within `harm`, where that is "
        "quicker on budget.board, and no change where nothing is; energy: keep a share of the singular values' squares; evidence: EVBMF",
    )
    macs: float = Field(default=0.5, gt=0, lt=1, description="of the whole network's multiply-accumulates, for ranks: budget")
    harm: float = Field(
        default=0.05, gt=0, le=100, description="the most that the layers' harms may be in sum, for ranks: harm; Kullback-Leibler, in nats"
    )
    energy: float = Field(default=0.9, gt=0, lt=1, description="share that is kept, for ranks: energy")
    layers: tuple[str, ...] = Field(
        default=("*",), min_length=1, strict=False, description="patterns of names of layers that may be replaced"
    )


class Decompose:
    """Replaces dense, pointwise and convolution layers by chains of cheaper ones, then trains what came out.

    A layer is replaced only where that lowers its parameters and its multiply-accumulates. Methods: `tinykit.shrink.factors`.

    Example:
        {decompose: {macs: 0.4, epochs: 15}}
    """

    name: ClassVar[str] = "decompose"
    Options: ClassVar[type[DecomposeOptions]] = DecomposeOptions
    saved_with: ClassVar[tuple[str, ...]] = ()
    needs_float: ClassVar[bool] = True
    promises: ClassVar[tuple[str, ...]] = ("macs",)
    keeps: ClassVar[tuple[str, ...]] = ("macs",)

    def check_task(self, model: keras.Model, options: DecomposeOptions, context: StepContext) -> None:
        """What can be told before any step runs.

        Raises:
            ModelError: model, data and teachers do not suit each other; no layer can be decomposed, or none by the methods.
            ConfigError: a pattern of names that fits no layer, or only one that a step before may replace; no compiler or emulated board
                where cycles are to be compared.
            BudgetError: the smallest ranks take more than `macs`.
        """
        check_shrinking(model, options, context, lambda: _check_plan(model, options, context))

    def run(self, model: keras.Model, options: DecomposeOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            BudgetError: the smallest ranks take more than `macs`.
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        from tinykit.models.macs import count_macs
        from tinykit.shrink.chained import replaced

        before = {"macs": count_macs(model), "parameters": model.count_params()}
        chains = _Choice(model, options, context).chains()
        if not chains:
            limit = f"within a harm of {options.harm:g}" if options.ranks == "harm" else f"with ranks: {options.ranks}"
            context.log(f"no layer is replaced: none becomes cheaper {limit}")
            return StepResult(None, {"before": before, "after": before, "layers": {}})
        smaller = replaced(model, chains)
        after = {"macs": count_macs(smaller), "parameters": smaller.count_params()}
        context.log(
            f"decomposed {len(chains)} layers: {before['macs']:,} -> {after['macs']:,} multiply-accumulates, "
            f"{before['parameters']:,} -> {after['parameters']:,} parameters"
        )
        layers = {name: {"method": chain.method, "ranks": list(chain.ranks)} for name, chain in chains.items()}
        report: dict[str, Any] = {"before": before, "after": after, "layers": layers}
        if options.epochs:
            teachers = needed_teachers(options, context, model)
            report |= fit_taught(smaller, options, context, teachers)
        return StepResult(uncompiled(smaller), report)


def _check_plan(model: keras.Model, options: DecomposeOptions, context: StepContext) -> None:
    """Raises what `Decompose.check_task` says of layers, methods and ranks."""
    from tinykit.shrink.lowrank import offered, suitable

    wanted = _sites(model, options, context)
    names, where = [site.name for site in wanted], f"steps.{context.label}"
    check_lasting([p for p in options.layers if p != "*"], names, model, f"{where}.layers", context)
    usable = [method for method in options.methods if options.ranks in ("budget", "harm") or method in ("svd", "tucker")]
    if not any(suitable(site, usable) for site in wanted):
        raise ConfigError(
            f"{where}.methods: {', '.join(options.methods)} with ranks: {options.ranks} suit none of the layers {', '.join(names)}: svd is "
            "for dense and pointwise layers, the others for layers with a window, and energy and evidence know svd and tucker"
        )
    if options.ranks == "harm" and context.config.config.budget.board is not None:
        from tinykit.boards.table import emulated_board
        from tinykit.boards.toolchain import choose

        emulated_board(context.config.config.budget.board)
        choose(None)
    if options.ranks == "budget" and not context.promising("macs"):  # else another network will be decomposed
        _left(model, wanted, {site.name: offered(site, options.methods) for site in wanted}, options, context)


def _left(
    model: keras.Model, wanted: Sequence[Site], offers: Mapping[str, Sequence[Candidate]], options: DecomposeOptions, context: StepContext
) -> int:
    """The multiply-accumulates that are left for the layers together. Raises BudgetError where the smallest ranks take more."""
    from tinykit.models.macs import count_macs

    total, own = count_macs(model), sum(site.macs for site in wanted)
    left = int(options.macs * total) - (total - own)
    least = sum(min(c.macs for c in found) for found in offers.values())
    if least > left:
        raise BudgetError(
            f"step {context.label}: at the smallest ranks the network takes {total - own + least:,} multiply-accumulates of "
            f"{total:,}, more than macs: {options.macs:g}; give a larger share, more methods or more layers"
        )
    return left


def _sites(model: keras.Model, options: DecomposeOptions, context: StepContext) -> list[Site]:
    """The layers that the options allow. Raises ModelError or ConfigError where there is none."""
    from tinykit.shrink.chained import sites

    found, refused = sites(model)
    names = [*(site.name for site in found), *refused]
    if not names:
        raise ModelError(f"step {context.label}: the model has no dense or convolution layer")
    for pattern in options.layers:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"steps.{context.label}.layers: no dense or convolution layer is called {pattern!r}{nearest(pattern, names)}")
    wanted = [site for site in found if any(fnmatch.fnmatchcase(site.name, pattern) for pattern in options.layers)]
    if not wanted:
        raise ModelError([f"layer {name!r} cannot be decomposed: {reason}" for name, reason in refused.items()])
    return wanted


class _Choice:
    """One decision about a model."""

    def __init__(self, model: keras.Model, options: DecomposeOptions, context: StepContext) -> None:
        self.model, self.options, self.context = model, options, context
        self.sites = _sites(model, options, context)

    def chains(self) -> dict[str, Any]:
        """Layer -> chain. An interrupted run goes on with what it had chosen."""
        from tinykit.shrink import factors

        file = self.context.folder / CHECKPOINT / CHOSEN
        if file.is_file():
            kernels = {site.name: site.kernel for site in self.sites}
            stored = json.loads(file.read_text(encoding="utf-8"))
            return {name: factors.METHODS[method](kernels[name], tuple(ranks)) for name, (method, ranks) in stored.items()}
        found = {"budget": self._by_budget, "harm": self._by_harm}.get(self.options.ranks, self._by_rule)()
        chains = {name: candidate.chain for name, candidate in found.items() if candidate.chain is not None}
        for name, chain in chains.items():
            candidate = found[name]
            self.context.log(
                f"{name}: {chain.method} {'x'.join(map(str, chain.ranks))}, {candidate.macs:,} multiply-accumulates, "
                f"error of the weights {candidate.error:.2f}"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(file, {name: [chain.method, list(chain.ranks)] for name, chain in chains.items()})
        return chains

    def _by_rule(self) -> dict[str, Candidate]:
        from tinykit.shrink.lowrank import by_rule

        return {site.name: by_rule(site, self.options.methods, self.options.ranks, self.options.energy) for site in self.sites}

    def _by_budget(self) -> dict[str, Candidate]:
        from tinykit.shrink.lowrank import least_harm, offered

        offers = {site.name: offered(site, self.options.methods) for site in self.sites}
        left = _left(self.model, self.sites, offers, self.options, self.context)  # before any harm is measured
        return least_harm(self._measured(offers), left)

    def _by_harm(self) -> dict[str, Candidate]:
        from tinykit.shrink.lowrank import least_work, offered

        offers = {site.name: offered(site, self.options.methods) for site in self.sites}
        found = least_work(self._measured(offers), self.options.harm)
        return {
            name: candidate for name, candidate in found.items() if candidate.chain is not None and self._quicker(name, candidate.chain)
        }

    def _quicker(self, name: str, chain: Chain) -> bool:
        """Whether the network takes fewer cycles with one chain in its place: several small layers may take more than a large one.

        Counted on the emulated board; True where the configuration names none.
        """
        from tinykit.shrink.chained import replaced

        if self.context.config.config.budget.board is None:
            return True
        self.context.stop.check()
        alone, whole = self._cycles(replaced(self.model, {name: chain})), self._whole_cycles
        if alone >= whole:
            self.context.log(f"{name}: stays: {alone:,} cycles with a chain, {whole:,} without")
        return alone < whole

    @cached_property
    def _whole_cycles(self) -> int:
        return self._cycles(self.model)

    def _cycles(self, model: keras.Model) -> int:
        """Of the int8 engine of a float network, on the emulated board."""
        from tinykit.boards.table import emulated_board
        from tinykit.engine.goal import GOALS
        from tinykit.shrink.engine import engine_sizes

        config = self.context.config.config
        return sum(engine_sizes(emulated_board(config.budget.board), GOALS[config.engine.optimize])(model).cycles.values())

    def _measured(self, offers: dict[str, list[Candidate]]) -> dict[str, list[Candidate]]:
        from tinykit.shrink.lowrank import measured

        probe = OutputProbe(self.model, self.context, rebuilds(self.options, self.context))

        def harm(name: str, kernel: np.ndarray) -> float:
            """With another kernel in a layer, which has its own again afterwards."""
            layer = self.model.get_layer(name)
            own = np.asarray(layer.kernel)
            layer.kernel.assign(kernel.reshape(own.shape).astype(np.float32))
            try:
                return probe.harm(self.model)
            finally:
                layer.kernel.assign(own)

        return measured(offers, harm, self.context.progress)
