"""What an inference costs, layer by layer: instructions, cycles, instructions a multiply-accumulate."""

from collections.abc import Mapping
from typing import Any

from tinykit.report import numbers
from tinykit.report.data import ReportData

_MAX_BARS = 30
UNKNOWN = "–"


def effort_view(data: ReportData, sources: Mapping[str, str]) -> dict[str, Any] | None:
    """Layers whose instructions are known, most first, with the lengths of their bars in percent of the longest; None: none is known.

    Args:
        sources: label of 'instructions' and 'cycles'.
    """
    known = [layer for layer in data.layers if layer.get("instructions") is not None]
    if not known:
        return None
    ordered = sorted(known, key=lambda layer: -layer["instructions"])
    cycles = [layer["cycles"] for layer in known if layer.get("cycles") is not None]
    instructions = [layer["instructions"] for layer in known]
    rows = [
        {
            "name": layer.get("name", ""),
            "detail": layer.get("kernel") or layer.get("kind", ""),
            "instructions": _cell(layer["instructions"], sum(instructions), max(instructions)),
            "cycles": _cell(layer.get("cycles"), sum(cycles), max(cycles, default=0)),
            "per_mac": per_mac(layer.get("instructions_per_mac")),
        }
        for layer in ordered[:_MAX_BARS]
    ]
    return {
        "rows": rows,
        "hidden": len(known) - len(rows),
        "cycles": bool(cycles),
        "totals": _totals(data, sources),
        "sources": sources,
        "most": f"{numbers.short(str(ordered[0].get('name', '')))} takes {numbers.percent(max(instructions), sum(instructions))} of the"
        " instructions."
        if len(known) > 1 and sum(instructions)
        else "",
    }


def per_mac(value: float | None) -> str:
    """'3.79'; '–' where it is not known or there are no multiply-accumulates."""
    return UNKNOWN if value is None else f"{value:.2f}"


def whole_per_mac(data: ReportData) -> str:
    """Instructions of the whole inference for each multiply-accumulate, '' where one is not known."""
    instructions, macs = data.metric("instructions"), data.metric("macs")
    return "" if instructions is None or not macs else f"{instructions / macs:.2f}"


def _totals(data: ReportData, sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """('455,192 instructions', where it comes from) of the whole inference."""
    keys = ("instructions", "cycles")
    return [(f"{data.metric(key):,} {key}", sources.get(key, "")) for key in keys if data.metric(key) is not None]


def _cell(value: int | None, total: int, most: int) -> dict[str, str] | None:
    if value is None:
        return None
    return {"value": numbers.count(value), "share": numbers.percent(value, total), "bar": numbers.length(value, most)}
