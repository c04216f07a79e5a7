"""The engine of a run: generated, linked, run on the emulated board, compared with the reference executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.boards.table import Budget, emulated_board
from tinykit.config.schema import EngineConfig
from tinykit.errors import BudgetError
from tinykit.graph import ir
from tinykit.recipe.budget import storage_wish
from tinykit.recipe.checks import Count

if TYPE_CHECKING:
    from tinykit.boards.pipeline import Compiled
    from tinykit.engine.generate import Engine
    from tinykit.engine.goal import Goal

HOST_INNER = 16


@dataclass
class EngineResult:
    """What is known of a run's engine.

    Attributes:
        metrics: keys of metrics.json.
        counts: comparisons that were made.
        layers: rows of the report's table of layers, by name of the op: what the emulated run adds.
        arena: the plan, for arena.json.
        problems: why it does not fit; empty where it does.
        notes: remarks for the report.
        sources: where figures come from, for the report.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    counts: list[Count] = field(default_factory=list)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    arena: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


def build_and_check(
    graph: ir.Graph,
    board_name: str | None,
    folder: Path,
    budget: Budget,
    wanted: EngineConfig,
    stored: np.ndarray,
    host: Callable[[Engine], Count],
    log: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> EngineResult:
    """Builds the engine of `graph` into folder/engine, folder/firmware.elf and folder/monitor.elf, and proves it.

    Args:
        board_name: the budget's board; None and 'host' emulate the default board.
        wanted: what the engine is made best for.
        stored: stored integers [N, ...] to run on the emulated board.
        host: compares the engine, compiled for this computer, over the whole test split.
        progress: called as progress(done, total) between emulated inferences; a safe point.
    """
    from tinykit.boards.artefacts import planned_arena, write_engine
    from tinykit.boards.pipeline import compile_graph, cycles_source, layer_table
    from tinykit.engine.generate import build_engine
    from tinykit.engine.goal import SIZE
    from tinykit.engine.select import Preference

    target = emulated_board(board_name)
    wish = storage_wish(wanted, budget)
    result = EngineResult()

    def build(goal: Goal) -> Compiled:
        return compile_graph(
            graph, target, folder, inputs=stored, budget=budget, goal=goal, autotune=wanted.autotune,
            storage=wish, monitor=True, log=log,
            progress=progress, parity_error=False,
        )  # fmt: skip

    try:
        compiled = _compiled(wanted, build, log, result.notes)
    except BudgetError as error:
        engine = build_engine(graph, preference=Preference(SIZE, storage=wish))
        result.problems, result.arena = error.problems, planned_arena(engine)
        result.notes.append(f"The engine cannot be linked for {target.name}: it does not fit; it was compared on this computer only.")
        result.counts.append(host(engine))
        result.metrics = {"parity": {"engine_vs_reference": result.counts[0].mismatches}}
        return result
    write_engine(compiled, folder / "engine")
    result.counts = [_emulated(compiled), host(compiled.engine)]
    result.arena = planned_arena(compiled.engine)
    result.layers = {row["name"]: row for row in layer_table(compiled)}
    result.problems = compiled.problems()
    result.metrics = _metrics(compiled, sum(c.mismatches for c in result.counts))
    made = compiled.build
    level = next((flag for flag in made.flags if flag.startswith("-O")), "")
    result.notes.append(f"Engine built with {made.compiler}, {level}, and emulated on {target.name}: no physical board was used.")
    result.sources = {"cycles": cycles_source(target)}
    return result


def _compiled(wanted: EngineConfig, build: Callable[[Goal], Compiled], log: Callable[[str], None], notes: list[str]) -> Compiled:
    """The engine that was wanted; where it does not fit, the smallest one, with a note. Raises BudgetError where neither links."""
    from tinykit.engine.goal import GOALS, SIZE

    goal = GOALS[wanted.optimize]
    if goal is not SIZE:
        try:
            compiled = build(goal)
            problems = compiled.problems()
            if not problems:
                return compiled
        except BudgetError as error:
            problems = error.problems
        log(f"with optimize: {goal.name} the engine does not fit ({problems[0]}); it is built again with optimize: {SIZE.name}")
        notes.append(f"With the kernels of optimize: {goal.name} the engine does not fit; it was built with those of {SIZE.name}.")
    return build(SIZE)


def _emulated(compiled: Compiled) -> Count:
    found = compiled.verification
    scope = f"{compiled.verification.compared}, emulated {compiled.board.name}"
    return Count("engine", "reference", scope, found.mismatches, found.elements, found.samples, found.first)


def _metrics(compiled: Compiled, mismatches: int) -> dict[str, Any]:
    from tinykit.boards.storage import storage_json

    sizes, run = compiled.build.sizes, compiled.verification.run
    return {
        "parity": {"engine_vs_reference": mismatches},
        "flash": {"total": sizes.total, "weights": sizes.weights, "tables": sizes.tables, "code": sizes.total - sizes.weights},
        "ram": {"total": compiled.ram, "arena": sizes.arena, "static": sizes.static, "stack": compiled.stack},
        "instructions": None if run is None else run.instructions,
        "cycles": None if run is None else run.cycles,
        "board": compiled.board.name,
        "storage": storage_json(compiled),
    }
