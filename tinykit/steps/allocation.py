"""Which bits the tensors of a network get in a run: by rule, by integer programming, or by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinykit import atomic
from tinykit.errors import BudgetError
from tinykit.recipe.registry import step_class
from tinykit.recipe.step import CHECKPOINT, StepContext
from tinykit.steps.lasting import check_lasting

if TYPE_CHECKING:
    import keras

    from tinykit.fit.meter import EngineMeter
    from tinykit.fit.preview import Preview
    from tinykit.fit.search import Fitted
    from tinykit.fit.sensitivity import Probe
    from tinykit.graph import ir
    from tinykit.quant.allocation.network import Bits, Network
    from tinykit.quant.allocation.optimum import Prices
    from tinykit.steps.integers import Prepared

CHOSEN = "bits.json"
"""In the step's checkpoint: what an interrupted run had chosen."""

ALLOCATION = "allocation.json"
"""In the step's folder: bits and bytes of every layer, what was tried, three picks; for the report."""

SENSITIVITY_SAMPLES = 256
_ATTEMPTS = 4
"""At allocations that fit also as calibrated."""


class BitOptions(BaseModel):
    """Options of steps that choose bits."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    bits: Literal["rule", "optimum"] | dict[str, int] | None = Field(
        default=None,
        description="null: 8 everywhere; rule: the memory-driven rule under the budget; optimum: least measured harm under the budget;"
        " or patterns by hand, NAME for weights and NAME/output for activations, such as {'*': 4, 'conv2d_7': 2, '*/output': 4}",
    )
    codebook: Literal["four_levels", "ternary"] = Field(
        default="four_levels", description="of 2-bit weights: -3, -1, 1, 3, or -1, 0, 1, which runs faster and learns worse"
    )
    pick: Literal["quality", "balanced", "compact"] = Field(
        default="quality",
        description="with bits: optimum: the least harm that fits the budget, or the least linked flash, where it saves a tenth, at a tenth"
        " (balanced) or half (compact) of the harm of knowing nothing, before training",
    )
    harm_limit: float | None = Field(
        default=None,
        gt=0,
        description="with bits by hand: weights that alone change the outputs by more (nats) at their bits are given twice as many;"
        " with bits: rule, weights are halved below that only when no others are left to halve",
    )
    output_harm_limit: float | None = Field(
        default=None,
        gt=0,
        description="with bits by hand: the same for activations, which training mends less than weights; null: harm_limit",
    )

    @model_validator(mode="after")
    def _limits_have_bits(self) -> BitOptions:
        by_hand = isinstance(self.bits, dict)
        if self.harm_limit is not None and not (by_hand or self.bits == "rule"):
            raise ValueError("harm_limit goes with bits by hand or bits: rule: set bits, or leave harm_limit out")
        if self.output_harm_limit is not None and not by_hand:
            raise ValueError("output_harm_limit goes with bits by hand: set bits to patterns, or leave output_harm_limit out")
        return self


def check_bits(model: keras.Model, options: BitOptions, context: StepContext) -> None:
    """What can be told before anything is trained, whatever the weights will be.

    Raises:
        BudgetError: the network is too large even with 2 bits everywhere.
        ConfigError: patterns that name nothing.
        ModelError: layers without an exact integer counterpart.
    """
    from tinykit.engine.goal import SIZE
    from tinykit.fit.meter import EngineMeter
    from tinykit.fit.preview import preview
    from tinykit.quant.allocation.network import fewest_bits
    from tinykit.quant.allocation.pattern import OUTPUT, by_pattern
    from tinykit.quant.fuse import fuse
    from tinykit.recipe.budget import resolve_budget

    if options.bits is None:
        return
    found = preview(fuse(model))
    if isinstance(options.bits, dict):
        by_pattern(found.network, options.bits)
        layers = [pattern.removesuffix(OUTPUT) for pattern in options.bits]
        check_lasting(layers, [layer.name for layer in found.network.layers], model, f"steps.{context.label}.bits", context)
        return
    if any("macs" in getattr(step_class(name), "promises", ()) for name in context.before()):
        return  # the network that gets bits will be a smaller one
    least, meter, budget = fewest_bits(found.network), EngineMeter(found, None, goal=SIZE), resolve_budget(context.config)
    sizes = (("flash without code", meter.constants(least), budget.flash), ("RAM", meter.planned(least).ram, budget.ram))
    problems = [
        f"{context.label}: with 2 bits wherever they are possible the engine takes {used:,} bytes of {name}, of {limit:,}: choose a "
        "smaller model, or a larger budget"
        for name, used, limit in sizes
        if limit is not None and used > limit
    ]
    if problems:
        raise BudgetError(problems)


def choose_bits(prepared: Prepared) -> Bits | None:
    """The allocation that the options ask for, None for 8 bits everywhere. An interrupted run goes on with what it had chosen.

    Args:
        prepared: the float network, and what its integer networks are made with.

    Raises:
        BudgetError: no allocation fits.
        ConfigError: patterns that name nothing.
    """
    from tinykit.quant.allocation.network import Bits

    if prepared.options.bits is None:
        return None
    file = prepared.context.folder / CHECKPOINT / CHOSEN
    if file.is_file():
        stored = json.loads(file.read_text(encoding="utf-8"))
        return Bits(tuple(stored["groups"]), tuple(stored["weights"]))
    bits = _Choice(prepared).make()
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(file, {"groups": list(bits.groups), "weights": list(bits.weights)})
    return bits


def drawn(context: StepContext, most: int) -> np.ndarray:
    """At most so many raw samples of the training split [N, ...], drawn by the step's seed, in the order of the split."""
    return context.dataset.train.x[drawn_numbers(context, most)]


def drawn_numbers(context: StepContext, most: int) -> np.ndarray:
    """The numbers of these samples, rising."""
    count = len(context.dataset.train)
    return np.sort(np.random.default_rng(context.seed).choice(count, min(most, count), replace=False))


class _Choice:
    """One decision: the network as allocators see it, and the files that tell how it was made."""

    def __init__(self, prepared: Prepared) -> None:
        from tinykit.fit.preview import preview

        self.prepared = prepared
        self.program, self.input_range = prepared.program, prepared.input_range
        self.options, self.context = prepared.options, prepared.context
        self.found: Preview = preview(self.program, self.input_range, self.options.codebook, prepared.kept)
        self.network: Network = self.found.network

    def calibrated(self, bits: Bits) -> ir.Graph:
        """The integer network with these bits as it is before its training."""
        from tinykit.quant.lowering import lower

        silent = replace(self.prepared, context=replace(self.context, log=lambda line: None))
        return lower(silent.build(bits), self.program.name)

    def make(self) -> Bits:
        """The bits; allocation.json is written."""
        from tinykit.quant.allocation.pattern import by_pattern

        choice: dict[str, Any] = {}
        if isinstance(self.options.bits, dict):
            bits = by_pattern(self.network, self.options.bits)
            if self.options.harm_limit is not None or self.options.output_harm_limit is not None:
                bits = self._spared(bits)
        else:
            bits, choice = self._within_budget()
        atomic.write_json(self.context.folder / ALLOCATION, {"layers": self._rows(bits), **choice})
        return bits

    def _within_budget(self) -> tuple[Bits, dict[str, Any]]:
        from tinykit.boards.table import emulated_board
        from tinykit.engine.goal import GOALS
        from tinykit.fit.best import Allowed, fit_optimum
        from tinykit.fit.goals import fit_engine
        from tinykit.fit.search import fit
        from tinykit.recipe.budget import resolve_budget, storage_wish

        log = self.context.log
        budget = resolve_budget(self.context.config)
        config = self.context.config.config
        board, goal = emulated_board(config.budget.board), GOALS[config.engine.optimize]
        stored = storage_wish(config.engine, budget)
        if self.options.bits == "rule":
            least = self._least_weights()

            def by_rule(flash: int | None) -> tuple[Fitted, EngineMeter]:
                return fit_engine(self.found, board, goal, lambda m: fit(self.network, m, flash, budget.ram, log, least), log, stored)

            return self._surely(budget.flash, by_rule)[0].outcome.bits, {}
        probe = self._probe()
        prices = self._prices(probe)

        def best(flash: int | None) -> tuple[Fitted, EngineMeter]:
            allowed = Allowed(flash, budget.ram, budget.instructions)
            return fit_engine(self.found, board, goal, lambda m: fit_optimum(self.network, m, prices, allowed, log), log, stored)

        fitted, meter = self._surely(budget.flash, best)
        return self._picked(fitted, meter, prices, probe, budget)

    def _surely(self, most: int | None, attempt: Callable[[int | None], tuple[Fitted, EngineMeter]]) -> tuple[Fitted, EngineMeter]:
        """What fits also as calibrated, and with ranges that training has moved: they may need other kernels than the network that
        allocations are measured on. What is too much then is taken off the limit of the next attempt."""
        from tinykit.fit.meter import LINKED
        from tinykit.fit.preview import drifted

        found = fitted, meter = attempt(most)
        self._told(fitted)
        limit = most
        for _ in range(_ATTEMPTS):
            if most is None or limit is None or fitted.linked.source != LINKED:
                break
            graph = self.calibrated(fitted.outcome.bits)
            real = max(meter.of_graph(each).flash for each in (graph, drifted(graph)))
            if real <= most:
                return fitted, meter
            limit -= real - most
            self.context.log(
                f"with ranges as calibrated, or half, that takes {real:,} B of flash, {real - most:,} too many: {limit:,} B are asked for"
            )
            fitted, meter = attempt(limit)
            if not fitted.outcome.feasible:
                self.context.log("nothing smaller fits: training may find ranges that need less")
                break
            self._told(fitted)
            found = fitted, meter
        return found

    def _told(self, fitted: Fitted) -> Fitted:
        """Says what was found. Raises BudgetError where it does not fit."""
        bits = fitted.outcome.bits
        self.context.log(
            f"bits by {self.options.bits}: weights {' '.join(map(str, bits.weights))}, outputs "
            f"{' '.join(map(str, bits.activations(self.network)))}; flash {fitted.linked.flash:,} B ({fitted.linked.source}), "
            f"RAM {fitted.planned.ram:,} B (planned)"
        )
        if not fitted.outcome.feasible:
            raise BudgetError([f"{self.context.label}: {reason}" for reason in fitted.outcome.reasons])
        return fitted

    def _picked(self, fitted: Fitted, meter: Any, prices: Prices, probe: Probe, budget: Any) -> tuple[Bits, dict[str, Any]]:
        """The pick that the options ask for, and what else there was."""
        from tinykit.fit.picks import front, picks

        chosen = fitted.outcome.bits
        points = front(self.network, prices, probe, meter, chosen, budget.flash, budget.ram, self.context.progress)
        classes = len(self.context.dataset.class_names) if probe.classification else 1
        found = picks(points, chosen, classes)
        for name, point in found.items():
            mark = " <- trained" if name == self.options.pick else ""
            self.context.log(
                f"pick {name}: {point.weight_bytes:,} B of weights, flash {point.flash:,} B, RAM {point.ram:,} B, harm before training "
                f"{point.harm:.3f}{mark}"
            )
        tried = [
            {"weight_bytes": p.weight_bytes, "flash": p.flash, "ram": p.ram, "harm": p.harm, "fits": p.fits, "bits": list(p.bits.weights),
             "picks": [name for name, point in found.items() if point is p]}
            for p in points
        ]  # fmt: skip
        harm = "nats" if probe.classification else "share of the variance"
        result = {"tried": tried, "pick": self.options.pick, "harm": harm, "budget": {"flash": budget.flash, "ram": budget.ram}}
        return found[self.options.pick].bits, result

    def _probe(self) -> Probe:
        """The float network and samples of the training split."""
        from tinykit.fit.sensitivity import Probe
        from tinykit.quant.convert import from_program

        samples = np.asarray(self.context.chain.apply(drawn(self.context, SENSITIVITY_SAMPLES)), np.float32)
        model = from_program(self.program, self.input_range, codebook=self.options.codebook)
        return Probe(model, samples, self.context.dataset.task == "classification")

    def _prices(self, probe: Probe) -> Prices:
        """The harm of fewer bits for each tensor alone; kept as sensitivity.json."""
        from tinykit.fit.sensitivity import sensitivities

        prices = sensitivities(probe, self.network, self.context.progress)
        self.context.log("measured what fewer bits do to each tensor, on samples of the training split")
        layers = [layer.name for layer in self.network.layers]
        outputs = {step.name: dict(prices.groups[step.result.group]) for step in self.network.steps}
        weights = dict(zip(layers, map(dict, prices.weights), strict=True))
        atomic.write_json(self.context.folder / "sensitivity.json", {"weights": weights, "outputs": outputs})
        return prices

    def _least_weights(self) -> tuple[int, ...]:
        """For the rule: the fewest bits of each layer's weights whose harm stays within `harm_limit`; nothing where there is no limit."""
        if self.options.harm_limit is None:
            return ()
        prices = self._prices(self._probe())
        least = tuple(_wide_enough(table, 2, self.options.harm_limit) for table in prices.weights)
        kept = [f"{layer.name} {width}" for layer, width in zip(self.network.layers, least, strict=True) if width > 2]
        self.context.log(f"weights that are halved last, below these bits (harm {self.options.harm_limit:g}): {', '.join(kept) or 'none'}")
        return least

    def _spared(self, bits: Bits) -> Bits:
        """Twice the bits for tensors that do more harm alone than `harm_limit` and `output_harm_limit`."""
        from tinykit.quant.allocation.network import Bits

        prices, limit = self._prices(self._probe()), self.options.harm_limit or math.inf
        output_limit = self.options.output_harm_limit or limit
        spared = Bits(
            tuple(_wide_enough(prices.groups[g], width, output_limit) for g, width in enumerate(bits.groups)),
            tuple(_wide_enough(prices.weights[i], width, limit) for i, width in enumerate(bits.weights)),
        )
        names = [layer.name for layer, a, b in zip(self.network.layers, bits.weights, spared.weights) if a != b]
        names += [f"{step.name}/output" for step in self.network.steps if bits.of(step.result) != spared.of(step.result)]
        limits = f"{limit:g} (weights) or {output_limit:g} (activations)"
        self.context.log(f"more bits for tensors that change the outputs by more than {limits}: {', '.join(names) or 'none'}")
        return spared

    def _rows(self, bits: Bits) -> list[dict[str, Any]]:
        """One row a step: bits of weights and output, bytes of weights and output with 8 bits and now."""
        from tinykit.quant.allocation.accounting import packed_bytes

        rows, at = [], {layer.name: i for i, layer in enumerate(self.network.layers)}
        for step in self.network.steps:
            width = bits.weights[at[step.name]] if step.name in at else None
            now = None if width is None else packed_bytes(step.weights, width)
            output, elements = bits.of(step.result), step.result.elements
            rows.append(
                {"name": step.name, "weight_bits": width, "weight_bytes_before": step.weights or None, "weight_bytes": now,
                 "output_bits": output, "output_bytes_before": elements, "output_bytes": packed_bytes(elements, output)}
            )  # fmt: skip
        return rows


def _wide_enough(prices: Any, width: int, limit: float) -> int:
    while width < 8 and prices[width] > limit:
        width *= 2
    return width
