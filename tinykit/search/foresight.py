"""What a recipe will make of a search's winner, before it is trained in earnest.

A candidate is judged by its untrained twin. The recipe may choose other bits for it, and what training does to weights and ranges decides
which kernels may run. The winner has weights already, those of its trial: here they go through the recipe's integer step without any
training (fused, bits chosen, calibrated), and that network is linked and run.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from tinykit.boards.pipeline import compile_graph
from tinykit.config.loading import ResolvedConfig, StepSpec
from tinykit.errors import BudgetError, ModelError
from tinykit.graph import ir
from tinykit.recipe.budget import storage_wish
from tinykit.recipe.registry import step_class
from tinykit.recipe.step import StepContext
from tinykit.search.predict import Target, figures
from tinykit.search.trials import Trial

_TRAINS_ONLY = ("train", "distill")
"""Steps that change no shapes."""


def foresee(file: Path, config: ResolvedConfig, winner: Trial, target: Target, context: StepContext) -> dict[str, Any]:
    """flash, ram, instructions, cycles of the network that the recipe is expected to give; `of` says what they are figures of.

    Args:
        file: the winner as its trial left it.
        config: the winner's own.

    `problems` says why that network does not fit, as far as it is known; the recipe may still succeed.
    """
    integers = next((step for step in config.steps if getattr(step_class(step.name), "makes_integers", False)), None)
    twin = {**(winner.predicted or {}), "of": "the untrained twin"}
    if integers is None:
        return twin
    before = config.steps[: config.steps.index(integers)]
    unknown = [step.label for step in before if step.name not in _TRAINS_ONLY]
    if unknown:  # what they leave of the network is not known before they have worked
        return {**twin, "of": f"the untrained twin; what {', '.join(unknown)} will change is not in it"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            graph, bits = _integers(file, config, integers, context, Path(folder))
            stored = storage_wish(config.config.engine, target.budget)
            compiled = compile_graph(
                graph, target.board, Path(folder), goal=target.goal, budget=target.budget, samples=1, storage=stored
            )  # fmt: skip
        except BudgetError as error:
            return {**twin, "problems": error.problems}
    found = figures(compiled, target)
    told = {"of": f"the trial's weights through {integers.label}, without its training", "weight_bits": bits}
    return {**found.as_dict(), **told, **({"problems": list(found.problems)} if found.problems else {})}


def _integers(file: Path, config: ResolvedConfig, step: StepSpec, context: StepContext, folder: Path) -> tuple[ir.Graph, list[int]]:
    """The integer graph that a step makes of a model file without training, and the bits of each layer's weights."""
    from tinykit.models import load_model
    from tinykit.quant.lowering import lower
    from tinykit.steps.integers import CalibrationOptions, prepare

    options = step_class(step.name).Options.model_validate(step.options)
    if not isinstance(options, CalibrationOptions):
        raise ModelError(f"step {step.label}: makes integers, and has no options of calibration")
    own = dataclasses.replace(context, config=config, folder=folder, label=step.label)
    prepared = prepare(load_model(str(file)), options, own)
    graph = lower(prepared.build(prepared.bits))
    return graph, [op.weight_bits for op in graph.ops if isinstance(op, ir.Weighted)]
