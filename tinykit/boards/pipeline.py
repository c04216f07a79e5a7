"""From an integer graph to a verified firmware image: plan, generate, link, run on the emulated board, compare every byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinykit.boards.autotune import Tuner
from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import Build, build_firmware
from tinykit.boards.image import Image
from tinykit.boards.linker import STACK_BYTES
from tinykit.boards.monitor import Monitor, build_monitor, monitor_json
from tinykit.boards.profiling import CallProfile, with_enough_stack
from tinykit.boards.storage import Twin, build_twin, coded_layers, stays_dense, storage_json, storage_row
from tinykit.boards.table import Board, Budget
from tinykit.boards.toolchain import Toolchain, check_optimize, choose
from tinykit.boards.verify import Verification, verify
from tinykit.config.sizes import format_size
from tinykit.engine.generate import Engine, build_engine
from tinykit.engine.goal import BALANCED, Goal
from tinykit.engine.lower import executed
from tinykit.engine.memory import Samples, as_samples, inputs_of, outputs_of, pack, random_samples
from tinykit.engine.mlperf import check_task
from tinykit.engine.select import Preference
from tinykit.engine.selftest import firmware_header, selftest_header, selftest_source
from tinykit.engine.storage import AS_IT_PAYS, DENSE, StorageWish
from tinykit.errors import BudgetError, ParityError
from tinykit.graph import costs, ir, reference
from tinykit.graph.plan.hints import advice
from tinykit.graph.plan.replay import replay_graph

DEFAULT_SAMPLES = 16
LEVELS = {
    "speed": {"gcc": "-O3", "zig": "-O3"},
    "balanced": {"gcc": "-O3", "zig": "-Os"},
    "size": {"gcc": "-Os", "zig": "-Os"},
}
"""The compiler's level by goal and toolchain."""


@dataclass(frozen=True)
class Compiled:
    """A verified image.

    Attributes:
        engine: the generated network.
        board: what it was built for.
        build: the linked image and its sizes.
        verification: the comparison with the reference executor, and the counts of the first inference.
        budget: what it may take.
        vector: the input of the self-test, one sample of every input by name.
        monitor: what became of monitor.elf, None where it was not wanted.
        dense: the same network with all weights as kernels read them; None where nothing is coded, or where that does not fit.
    """

    engine: Engine
    board: Board
    build: Build
    verification: Verification
    budget: Budget
    vector: Samples
    monitor: Monitor | None = None
    dense: Twin | None = None

    @property
    def stack(self) -> int:
        """High-water mark of the stack in bytes, over all inferences."""
        return self.verification.stack

    @property
    def ram(self) -> int:
        """Arena, with input and output in it, static data and stack, in bytes."""
        sizes = self.build.sizes
        return sizes.arena + sizes.static + self.stack

    def problems(self) -> list[str]:
        """What does not fit the budget, and what would help; empty where all fits."""
        sizes = self.build.sizes
        ram = f"arena {sizes.arena:,}, static {sizes.static:,}, stack {self.stack:,}"
        flash = f"weights {sizes.weights:,}, tables {sizes.tables:,}, code {sizes.code + sizes.runtime:,}"
        return _over(self.engine, self.board, self.budget, (self.ram, ram), (sizes.total, flash))


def _over(engine: Engine, board: Board, budget: Budget, ram: tuple[int, str], flash: tuple[int, str]) -> list[str]:
    """Messages for what is beyond the budget; ram, flash: bytes and what they are made of."""
    found = []
    if budget.ram is not None and ram[0] > budget.ram:
        found += ram_problem(engine, board, budget.ram, *ram)
    if budget.flash is not None and flash[0] > budget.flash:
        found += flash_problem(engine, board, budget.flash, *flash)
    return found


def ram_problem(engine: Engine, board: Board, limit: int, used: int, parts: str) -> list[str]:
    """Messages for a network that needs too much RAM."""
    peak = max(engine.plan.timeline, key=lambda step: step.least, default=None)
    where = f", most of it at layer {peak.step!r}" if peak is not None else ""
    return [
        f"RAM: {used:,} bytes ({parts}){where}; {board.name} has {limit:,}: {used - limit:,} bytes too many",
        *(f"  {line}" for line in advice(engine.problem, engine.plan)),
    ]


def flash_problem(engine: Engine, board: Board, limit: int, used: int, parts: str) -> list[str]:
    """Messages for a network that needs too much flash."""
    largest = sorted(engine.calls, key=lambda call: -call.flash)[:3]
    return [
        f"flash: {used:,} bytes ({parts}); {board.name} has {limit:,}: {used - limit:,} bytes too many",
        f"  the largest layers: {', '.join(f'{call.op!r} {call.flash:,} bytes' for call in largest)}",
        "  what would help: fewer channels in these layers (width multiplier, pruning), or fewer bits for their weights",
    ]


def check_before_linking(engine: Engine, board: Board, budget: Budget) -> None:
    """Refuses what cannot fit whatever the compiler does. Raises BudgetError."""
    constants = engine.weight_bytes + engine.table_bytes
    problems = _over(engine, board, budget, (engine.plan.arena_bytes, "the arena alone"), (constants, "weights and tables alone"))
    if problems:
        raise BudgetError(problems)


def engine_sources(engine: Engine, samples: Samples) -> dict[str, str]:
    """The network's C files with a self-test vector made of the first sample: what a user adds to a project."""
    given, expected = _vector(engine, samples)
    return {
        **engine.files,
        f"{engine.name}_selftest.h": selftest_header(engine.name, given, expected),
        f"{engine.name}_selftest.c": selftest_source(engine.name, given, expected),
    }


def _vector(engine: Engine, samples: Samples) -> tuple[bytes, bytes]:
    graph = engine.graph
    first = {name: np.asarray(values)[:1] for name, values in samples.items()}
    truth = reference.run_all(graph, first)
    return pack(inputs_of(graph), first, 0), pack(outputs_of(graph), truth, 0)


def firmware_sources(engine: Engine, samples: Samples, task: str | None = None) -> dict[str, str]:
    """What the firmware's build needs of the network; `task`: the MLPerf Tiny task as which the monitor answers."""
    given, expected = _vector(engine, samples)
    return {
        **engine.files,
        "tk_model.h": firmware_header(engine.name, inputs_of(engine.graph)[0], outputs_of(engine.graph)[0], task),
        "tk_selftest.h": selftest_header("tk", given, expected),
        "tk_selftest.c": selftest_source("tk", given, expected),
    }


def _silent(line: str) -> None:
    """Takes a line of progress and drops it."""


def _no_progress(done: int, total: int) -> None:
    """Takes a count of progress and drops it."""


def compile_graph(
    graph: ir.Graph,
    board: Board,
    out: Path,
    *,
    name: str | None = None,
    toolchain: str | None = None,
    goal: Goal = BALANCED,
    autotune: bool = False,
    level: str | None = None,
    storage: StorageWish = AS_IT_PAYS,
    budget: Budget | None = None,
    inputs: np.ndarray | Samples | None = None,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    parity_error: bool = True,
    monitor: bool = False,
    task: str | None = None,
    log: Callable[[str], None] = _silent,
    progress: Callable[[int, int], None] = _no_progress,
) -> Compiled:
    """Builds `out`/firmware.elf for a board and proves it on the emulated board.

    Args:
        graph: what to build, after the simplifier if it is wanted.
        budget: default: the board's, less what its first target reserves.
        inputs: stored integers to verify with; default: `samples` random ones.
        toolchain: 'gcc' or 'zig'; default: gcc where it is installed.
        goal: what the engine is made best for.
        autotune: every variant of every kernel is counted on the emulated board, instead of estimated.
        level: the compiler's, one of toolchain.OPTIMIZE_LEVELS; default: the goal's, see LEVELS.
        storage: how weights may lie in flash.
        parity_error: False leaves a difference to the caller, who finds it in `Compiled.verification`.
        monitor: builds `out`/monitor.elf too, where it fits.
        task: the MLPerf Tiny task as which the monitor answers; default: under the network's own name.

    Raises:
        BudgetError: it cannot be linked into the board's memory. A budget that is smaller than the memory is judged by
            `Compiled.problems`, when everything is known.
        ParityError: a byte differs from the reference executor.
        ModelError: the engine has no kernel for an op.
        ConfigError: no such toolchain or optimisation level, or a task that the network cannot do.
    """
    if task is not None:
        check_task(task, graph)
    tools = choose(toolchain)
    level = check_optimize(LEVELS[goal.name][tools.name] if level is None else level)
    vectors = random_samples(graph, samples, seed) if inputs is None else as_samples(graph, inputs)
    limits = budget or board.budget()
    room = None if board.ram_bytes is None else max(0, limits.ram or board.ram_bytes) - STACK_BYTES
    preference = Preference(goal, room, storage=storage.within(limits.flash, room))
    if autotune and goal.fast:
        tuner = Tuner(board, tools, level, lambda made: firmware_sources(made, vectors), log)
        preference = replace(preference, measured=tuner.measure(graph, room))
    first = {name: values[:1] for name, values in vectors.items()}

    def proved(engine: Engine) -> tuple[Build, Verification]:
        _check_plan(engine, board, log)
        return _build_and_verify(engine, board, out, vectors, tools, level, parity_error, log, progress)

    engine = build_engine(graph, name, preference)
    (build, verification), dense = proved(engine), None
    if coded_layers(engine):
        plain = build_engine(graph, name, replace(preference, storage=StorageWish(DENSE)))
        dense = build_twin(plain, firmware_sources(plain, first), board, tools, level)
        if dense is not None and dense.flash <= build.sizes.total:
            log(f"storage: the image would be {build.sizes.total - dense.flash:,} bytes larger with coded weights, so they stay dense")
            engine, dense = stays_dense(plain, engine, build.sizes.total - dense.flash), None
            build, verification = proved(engine)
    told = _monitor(engine, board, out, first, tools, level, verification.stack, task, log) if monitor else None
    return Compiled(engine, board, build, verification, limits, first, told, dense)


def _check_plan(engine: Engine, board: Board, log: Callable[[str], None]) -> None:
    """Says what was planned. Raises ParityError where the plan is wrong, BudgetError where it cannot fit the board's memory."""
    plan = engine.plan
    log(
        f"plan: arena {format_size(plan.arena_bytes)} for {len(engine.calls)} layers "
        f"(lower bound {format_size(plan.lower_bound)}, order {'optimal' if plan.order_exact else 'by heuristic'})"
    )
    faults = replay_graph(engine.graph, engine.problem, plan)
    if faults:
        raise ParityError([f"the memory plan of {engine.graph.name!r} is wrong (a defect of tinykit): {fault}" for fault in faults[:5]])
    check_before_linking(engine, board, Budget(board.flash_bytes, board.ram_bytes))


def _monitor(
    engine: Engine, board: Board, out: Path, vector: Samples, tools: Toolchain, level: str, stack: int, task: str | None,
    log: Callable[[str], None],
) -> Monitor:  # fmt: skip
    sources = firmware_sources(engine, vector, task)
    monitor = build_monitor(sources, board, out, toolchain=tools, optimize=level, stack=stack)
    if monitor.problem is not None:
        log(f"no monitor.elf: {monitor.problem}")
    return monitor


def _build_and_verify(
    engine: Engine, board: Board, out: Path, vectors: Samples, tools: Toolchain, level: str, parity_error: bool,
    log: Callable[[str], None], progress: Callable[[int, int], None],
) -> tuple[Build, Verification]:  # fmt: skip
    """Links with as much stack as the network needs, and compares. Raises ParityError; see `compile_graph`."""
    sources = firmware_sources(engine, vectors)

    def attempt(stack: int) -> tuple[Build, Verification]:
        build = build_firmware(sources, board, out, toolchain=tools, target="bare", optimize=level, stack_bytes=stack)
        log(f"linked: {build.compiler}: flash {format_size(build.sizes.total)}")
        return build, verify(EmulatedBoard(board, Image.load(build.elf)), engine, vectors, progress)

    build, verification = with_enough_stack(attempt, board, log)
    log(
        f"verified: {verification.mismatches} of {verification.elements:,} elements differ over {verification.samples} samples, "
        f"{verification.compared}, emulated({board.name})"
    )
    if verification.stray:
        raise ParityError(f"{build.elf.name}: {verification.stray}")
    if verification.mismatches and parity_error:
        raise ParityError(f"{build.elf.name}: {verification.mismatches} elements differ; first: {verification.first}")
    return build, verification


def layer_table(compiled: Compiled) -> list[dict[str, Any]]:
    """One row a layer in the order of execution: what it is, what it costs, where each figure comes from being the image and its run.

    RAM is the arena's bytes in use while it runs; flash its own tables, without code that layers share. Instructions and cycles are None
    where `Verification.unprofiled` says why."""
    engine = compiled.engine
    ops: Mapping[str, ir.Op] = {op.name: op for op in executed(engine.graph)}
    run = compiled.verification.run
    profiles: list[CallProfile] | list[None] = run.calls if run is not None and run.calls else [None] * len(engine.calls)
    rows = []
    for call, memory, profile in zip(engine.calls, engine.plan.timeline, profiles):
        op = ops[call.op]
        macs = costs.op_macs(engine.graph, op)
        rows.append(
            {
                "name": op.name,
                "kind": op.kind,
                "kernel": call.function,
                "input_shape": engine.graph.tensors[op.inputs[0]].shape,
                "output_shape": engine.graph.tensors[op.output].shape,
                "macs": macs,
                "instructions": profile.instructions if profile else None,
                "instructions_per_mac": round(profile.instructions / macs, 3) if macs and profile else None,
                "cycles": profile.cycles if profile else None,
                "ram": memory.footprint,
                "flash": call.flash,
                **storage_row(call, profile, compiled.dense),
            }
        )
    return rows


def cycles_source(board: Board) -> str:
    """Where a count of cycles comes from; the model is that of a Cortex-M4, for an M7 it is no more than an upper bound."""
    bound = "upper bound on a Cortex-M7, not validated; " if board.core == "cortex-m7f" else ""
    return f"estimated(cycle model of a Cortex-M4 without wait states, {bound}instructions emulated({board.name}))"


def report_json(compiled: Compiled, *, model: str, source: str) -> dict[str, Any]:
    """The content of report.json: the keys of metrics.json where they apply, and how each was obtained.

    Args:
        model: name of the model's file.
        source: sha256 of its bytes.
    """
    build, verification, plan = compiled.build, compiled.verification, compiled.engine.plan
    sizes, run = build.sizes, verification.run
    emulated = f"emulated({compiled.board.name})"
    return {
        "model": model,
        "model_sha256": source,
        "board": compiled.board.name,
        "parity": {"engine_vs_reference": verification.mismatches, "elements": verification.elements, "samples": verification.samples},
        "flash": {"total": sizes.total, "weights": sizes.weights, "tables": sizes.tables, "code": sizes.code + sizes.runtime},
        "self_test_bytes": sizes.selftest,
        "ram": {"total": compiled.ram, "arena": sizes.arena, "static": sizes.static, "stack": compiled.stack},
        "arena": {"bytes": plan.arena_bytes, "lower_bound": plan.lower_bound, "order_exact": plan.order_exact},
        "storage": storage_json(compiled),
        "macs": costs.total_macs(compiled.engine.graph),
        "instructions": None if run is None else run.instructions,
        "cycles": None if run is None else run.cycles,
        "cycle_bracket": None if run is None or run.cycle_bracket is None else list(run.cycle_bracket),
        "instruction_classes": None if run is None else dict(run.histogram),
        "functions": None if run is None else {name: {"instructions": i, "cycles": c} for name, (i, c) in run.functions.items()},
        "monitor": monitor_json(compiled.monitor),
        "budget": {"flash": compiled.budget.flash, "ram": compiled.budget.ram},
        "budget_met": not compiled.problems(),
        "toolchain": {"name": build.toolchain, "compiler": build.compiler, "flags": list(build.flags)},
        "sources": {
            "flash": "linked image",
            "ram": f"linked image; stack {emulated}",
            "instructions": emulated,
            "cycles": cycles_source(compiled.board),
            "parity": f"{emulated}, {verification.compared}",
        },
    }
