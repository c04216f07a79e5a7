"""arena.json: RAM of the activations, each figure with where it comes from."""

from collections.abc import Iterable
from typing import Any

from tinykit.export.tables import as_mapping

_HOST_NOTE = "TFLM's interpreter on this computer, whose pointers are twice as long as a microcontroller's"


def arena_json(memory: Iterable[Any], *, host_bytes: int | None = None, estimate: Any | None = None) -> dict[str, Any]:
    """The content of arena.json.

    Args:
        memory: `tinykit.graph.costs.StepMemory` of every op in execution order, or mappings; `op`, `total` and the bytes by tensor in
            `live` (or `tensors`).
        host_bytes: arena that TFLM's interpreter used on this computer; None: not measured.
        estimate: `tinykit.graph.costs.ArenaEstimate` or a mapping with `activations`, `persistent`, `total`, `error_note`; None: not made.

    Returns:
        `host` (bytes, source, note), `estimate` (bytes, activations, persistent, source), `peak` (op, bytes, source): the most bytes
        alive at one op, a lower bound for planners that neither work in place nor overlap buffers, and `ops`: bytes by tensor at each op.
        All sizes in bytes; what is not known is None, never 0.
    """
    steps = [memory_row(step) for step in memory]
    highest = max(steps, key=lambda step: step["total"], default=None)
    return {
        "host": {
            "bytes": host_bytes,
            "source": None if host_bytes is None else "measured(host)",
            "note": None if host_bytes is None else _HOST_NOTE,
        },
        "estimate": _estimate(estimate),
        "peak": {
            "op": None if highest is None else highest["op"],
            "bytes": None if highest is None else highest["total"],
            "source": None if highest is None else "counted(graph)",
        },
        "ops": [{"op": step["op"], "bytes": step["total"], "tensors": step["tensors"]} for step in steps],
    }


def memory_row(step: Any) -> dict[str, Any]:
    """One step of the liveness analysis as {op, total, tensors: {name: bytes}}, the form in which reports take it."""
    values = as_mapping(step)
    tensors = values["live"] if "live" in values else values["tensors"]
    return {"op": values["op"], "total": int(values["total"]), "tensors": {name: int(size) for name, size in tensors.items()}}


def _estimate(estimate: Any | None) -> dict[str, Any]:
    """The 32-bit estimate, labelled with its model and error."""
    if estimate is None:
        return {"bytes": None, "activations": None, "persistent": None, "source": None}
    values = as_mapping(estimate)
    return {
        "bytes": values["total"],
        "activations": values["activations"],
        "persistent": values["persistent"],
        "source": f"estimated(TFLM on a 32-bit microcontroller, {values['error_note']})",
    }


def plan_json(plan: Any, hints: Iterable[str]) -> dict[str, Any]:
    """The engine's arena as planned, for arena.json.

    Args:
        plan: `tinykit.graph.plan.problem.Plan`.
        hints: what would lower it, in words.

    Returns:
        `bytes`, `lower_bound`, `order` ('optimal' or 'heuristic'), `peak` (layer, bytes), `tensors` (name -> offset), and `layers` in the
        order of execution: what lies where while each runs (tensor -> [offset, bytes]), and the direction in which it works.
    """
    peak = max(plan.timeline, key=lambda step: step.least, default=None)
    return {
        "bytes": plan.arena_bytes,
        "lower_bound": plan.lower_bound,
        "order": "optimal" if plan.order_exact else "heuristic",
        "source": "planned; input and output included",
        "peak": {"layer": None if peak is None else peak.step, "bytes": None if peak is None else peak.least},
        "tensors": dict(plan.offsets),
        "layers": [
            {
                "layer": step.step,
                "bytes": step.footprint,
                "least": step.least,
                "tensors": {name: list(place) for name, place in step.tensors.items()},
                "scratch": list(step.scratch) if step.scratch[1] else None,
                "reversed": step.step in plan.reversed,
            }
            for step in plan.timeline
        ],
        "hints": list(hints),
    }
