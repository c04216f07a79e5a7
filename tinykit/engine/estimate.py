"""What a network will take on a board, before anything is compiled: the arena planned, the constants counted, the rest estimated."""

from __future__ import annotations

from tinykit.engine.generate import Engine
from tinykit.engine.lower import planned
from tinykit.graph import ir
from tinykit.graph.plan.problem import Plan

STACK_BYTES = 400
"""Stack of an inference; the MLPerf Tiny reference models use 172 to 392 bytes (`benchmarks/engine.md`)."""

# Code of a linked bench image, -O3 on a Cortex-M4 (`benchmarks/engine.md`): start-up and runtime, each distinct kernel, each layer's call.
_CODE_BASE, _CODE_FUNCTION, _CODE_CALL = 800, 650, 48


def ram_bytes(plan: Plan) -> int:
    """Bytes of RAM: the planned arena, with input and output in it, and an estimate of the stack."""
    return plan.arena_bytes + STACK_BYTES


def ram_estimate(graph: ir.Graph) -> int:
    """`ram_bytes` of a graph's plan.

    Raises:
        ModelError: an op has no kernel, or the graph is malformed.
    """
    return ram_bytes(planned(graph).plan)


def code_estimate(engine: Engine) -> int:
    """Bytes of code and runtime in flash."""
    functions = len({call.function for call in engine.calls})
    return _CODE_BASE + _CODE_FUNCTION * functions + _CODE_CALL * len(engine.calls)
