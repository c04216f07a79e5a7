"""What takes flash and RAM: the parts of the linked program, the engine's plan, TFLM's arena, and the activations alive at each op."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinykit.report import numbers
from tinykit.report.arena_map import COLOURS, ArenaMap, arena_map, peak_step
from tinykit.report.data import ReportData

_PARTS = (
    ("Flash", "flash", ("weights", "code")),
    ("RAM", "ram", ("arena", "static", "stack")),
)
PLANNED = "planned"


def part_sizes(data: ReportData, key: str) -> list[tuple[str, int]]:
    """(name, bytes) of the parts of 'flash' or 'ram' that are known."""
    names = next(parts for _, name, parts in _PARTS if name == key)
    return [(name, size) for name in names if (size := data.metric(f"{key}.{name}")) is not None]


def memory_split(data: ReportData, sources: Mapping[str, str]) -> list[dict[str, Any]]:
    """Flash and RAM of the linked program as pieces of a bar; what is not known is left out."""
    rows = []
    for title, key, _ in _PARTS:
        parts, total = part_sizes(data, key), data.metric(f"{key}.total")
        if not parts or total is None:
            continue
        pieces = [
            {
                "name": name,
                "colour": colour,
                "size": f"{size:,} B",
                "share": numbers.percent(size, total),
                "width": numbers.length(size, total),
                "source": sources.get(f"{key}.{name}", ""),
            }
            for colour, (name, size) in enumerate(parts, 1)
        ]
        rows.append({"title": title, "total": f"{total:,} B", "source": sources.get(f"{key}.total", ""), "pieces": pieces})
    return rows


def plan_view(data: ReportData) -> dict[str, Any] | None:
    """The engine's arena as planned: its map, the facts beside it, what would lower it, and both as tables; None without a plan."""
    plan, drawing = data.plan, arena_map(data.plan)
    if drawing is None:
        return None
    steps = plan["layers"]
    return {
        "map": drawing,
        "bytes": int(plan["bytes"]),
        "size": numbers.size(plan["bytes"]),
        "source": plan.get("source") or PLANNED,
        "tflm": tflm_text(data),
        "facts": _facts(plan, drawing),
        "hints": [_readable(str(hint), plan) for hint in plan.get("hints") or []],
        "steps": [_step_row(step, index == drawing.peak) for index, step in enumerate(steps)],
    }


def tflm_text(data: ReportData) -> str:
    """'TFLM about 3.0 kB (estimated)'; '' where it is not known."""
    estimate = data.arena.get("estimate_bytes")
    return "" if estimate is None else f"TFLM about {numbers.size(estimate)} (estimated)"


def _facts(plan: Mapping[str, Any], drawing: ArenaMap) -> list[tuple[str, str, str]]:
    """(name, value, remark) for the list beside the map."""
    least = plan["layers"][peak_step(plan["layers"])].get("least")
    facts = [("Arena", f"{plan['bytes']:,} B", "input and output included")]
    remark = "" if least is None else f"needs {least:,} B wherever its tensors lie"
    facts.append(("Peak layer", f"{drawing.peak + 1} {numbers.short(drawing.steps[drawing.peak])}", remark))
    bound = plan.get("lower_bound")
    if bound is not None:
        gap = plan["bytes"] - bound
        reached = "reached: no gap" if not gap else f"gap {gap:,} B, {numbers.percent(gap, plan['bytes'])} of the arena"
        facts.append(("Lower bound", f"{bound:,} B", reached))
    order = {"optimal": "proved best among all valid orders", "heuristic": "the best that was found, not proved"}
    if plan.get("order"):
        facts.append(("Order of layers", str(plan["order"]), order.get(plan["order"], "")))
    return facts


def _readable(hint: str, plan: Mapping[str, Any]) -> str:
    """A hint in which names that converters have joined are cut as everywhere else."""
    for name in sorted(plan.get("tensors") or {}, key=len, reverse=True):
        if numbers.short(name) != name:
            hint = hint.replace(name, numbers.short(name))
    return hint


def _step_row(step: Mapping[str, Any], peak: bool) -> dict[str, Any]:
    """A row of the table that says what the map shows."""
    return {
        "name": str(step["layer"]),
        "peak": peak,
        "least": numbers.count(step.get("least")),
        "tensors": [(numbers.short(name), name, _range(*place)) for name, place in step["tensors"].items()],
        "scratch": _range(*step["scratch"]) if step.get("scratch") else "–",
        "direction": "last to first" if step.get("reversed") else "first to last",
    }


def _range(offset: int, size: int) -> str:
    return f"{size:,} B at {offset:,}"


def arena_rows(data: ReportData, peak: int | None) -> list[dict[str, str]]:
    """The engine's and TFLM's arenas, with bars; empty where TFLM's is not known at all.

    Args:
        peak: most bytes of activations alive at one op.
    """
    estimate, host = data.arena.get("estimate_bytes"), data.arena.get("host_bytes")
    if estimate is None and host is None:
        return []
    rows: list[tuple[str, int | None, str]] = []
    if data.plan.get("bytes") is not None:
        rows.append(("This engine", data.plan["bytes"], data.plan.get("source") or PLANNED))
    if peak is not None:
        rows.append(("Activations alive at the peak, none overlapping", peak, "counted(graph)"))
    source = data.sources.get("arena.estimate_bytes", "estimated(TFLM's planner, persistent part fitted)")
    rows.append(("TFLM on a 32-bit microcontroller", estimate, source))
    rows.append(("TFLM on this computer", host, "measured(host)"))
    most = max(value for _, value, _ in rows if value is not None)
    return [
        {
            "name": name,
            "bytes": numbers.count(value),
            "bar": "" if value is None else numbers.length(value, most),
            "source": "" if value is None else source,
        }
        for name, value, source in rows
    ]


def memory_view(memory: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The RAM timeline: for each op its tensors as pieces of a bar, the peak marked, and what the peak is made of."""
    if not memory:
        return None
    totals = [int(step["total"]) for step in memory]
    peak = totals.index(max(totals))
    order = list(dict.fromkeys(name for step in memory for name in step["tensors"]))
    colour = {name: index % COLOURS + 1 for index, name in enumerate(order)}
    rows = [
        {
            "op": step["op"],
            "label": numbers.short(step["op"]),
            "total": numbers.size(total),
            "peak": index == peak,
            "pieces": [
                {"name": name, "colour": colour[name], "size": f"{value:,} B", "width": numbers.length(value, totals[peak])}
                for name, value in step["tensors"].items()
                if value
            ],
        }
        for index, (step, total) in enumerate(zip(memory, totals, strict=True))
    ]
    parts = [(name, int(value)) for name, value in memory[peak]["tensors"].items() if value]
    return {
        "rows": rows,
        "op": numbers.short(memory[peak]["op"]),
        "peak": totals[peak],
        "parts": [
            {"name": name, "label": numbers.short(name), "colour": colour[name], "size": f"{value:,} B"}
            for name, value in sorted(parts, key=lambda part: -part[1])
        ],
        "next": _next_peak(memory, totals, peak),
    }


def _next_peak(memory: Sequence[Mapping[str, Any]], totals: Sequence[int], peak: int) -> str:
    """What would lower the peak: how far the next op is below it."""
    others = [(total, index) for index, total in enumerate(totals) if index != peak]
    if not others:
        return ""
    total, index = max(others, key=lambda other: (other[0], -other[1]))
    name = numbers.short(memory[index]["op"])
    if total == totals[peak]:
        return f"{name} needs just as much: both must shrink before the peak does."
    return f"The next op below it is {name} with {total:,} B: lowering this op alone saves at most {totals[peak] - total:,} B."
