"""report.json of a device, and the lines that a person reads. No figure without where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from tinykit.boards.pipeline import cycles_source
from tinykit.boards.table import Board
from tinykit.hardware.measure import Comparison, Findings
from tinykit.hardware.ports import Provenance
from tinykit.hardware.samples import Samples

CLOCK_TOLERANCE = 0.03
"""An RC oscillator is within a percent or two; a core at another clock than the firmware assumes is off by a factor."""


def device_report(findings: Findings, board: Board, origin: Provenance, stream: Samples | None) -> dict[str, Any]:
    """The key `device` of report.json.

    `latency_ms` is null on an emulated board: what takes time there is this computer."""
    info, timing = findings.info, findings.timing
    report: dict[str, Any] = {
        "provenance": str(origin),
        "port": origin.port,
        "name": findings.name,
        "answers_as": findings.model,
        "network": info.model,
        "input_form": info.wire,
        "clock_hz": info.clock_hz,
        "self_test_mismatches": findings.self_test,
        "golden": _comparison(findings.golden),
        "cycles": int(median(timing.cycles)) if timing.cycles else None,
        "cycles_range": [min(timing.cycles), max(timing.cycles)] if timing.cycles else None,
        "latency_ms": None,
        "inferences_timed": timing.inferences,
        "clock_ratio": None if timing.clock_ratio is None else round(timing.clock_ratio, 4),
        "ram": {"static": findings.static, "arena": findings.arena, "stack": findings.stack},
        "streamed": None,
        "accuracy": None,
        "sources": _sources(board, origin),
    }
    if timing.microseconds is not None and timing.inferences:
        report["latency_ms"] = round(timing.microseconds / timing.inferences / 1000, 4)
    if findings.stream is not None and stream is not None:
        report["streamed"] = {**_comparison(findings.stream), "data": stream.source, "available": stream.available}
    if findings.stream is not None and findings.accuracy is not None:
        count = findings.stream.samples
        right = {"device": findings.accuracy.device, "reference": findings.accuracy.reference}
        report["accuracy"] = {"metric": "top1", "samples": count, **{who: n / count for who, n in right.items()}}
    return report


def _comparison(found: Comparison) -> dict[str, Any]:
    return {"samples": found.samples, "bytes": found.compared, "mismatches": found.mismatches, "first": found.first}


def _sources(board: Board, origin: Provenance) -> dict[str, str]:
    where = str(origin)
    cycles = f"{where}, the core's cycle counter" if origin.measured else cycles_source(board)
    latency = f"{where}, the board's clock" if origin.measured else "none: an emulated board takes no time of its own"
    return {"outputs": where, "cycles": cycles, "latency": latency, "ram": f"{where}, the firmware's own account, its buffers included"}


def device_lines(report: Mapping[str, Any]) -> list[str]:
    """The same for a person."""
    origin = report["provenance"]
    clock = f"{report['clock_hz'] / 1e6:g} MHz" if report["clock_hz"] else "a clock that is not known"
    cycles = "cycles not known: no counter" if report["cycles"] is None else f"{report['cycles']:,} cycles at {clock}"
    golden = report["golden"]
    lines = [
        f"device: {report['name']} with {report['network']}, answers as {report['answers_as']} [{origin}]",
        f"golden vectors: {golden['mismatches']} of {golden['bytes']:,} bytes differ, {golden['samples']} samples; "
        f"self-test: {report['self_test_mismatches']}",
    ]
    if report["latency_ms"] is not None:
        lines.append(f"latency: {report['latency_ms']:.3f} ms, {cycles}, over {report['inferences_timed']} inferences [{origin}]")
    else:
        lines.append(f"{cycles} [{report['sources']['cycles']}]; no latency: the board is emulated")
    ratio = report["clock_ratio"]
    if ratio is not None and abs(ratio - 1) > CLOCK_TOLERANCE:
        lines.append(
            f"warning: the board's clock runs {ratio:.3f} times as fast as the host's: its core is not at {clock}, the latency is wrong"
        )
    ram = report["ram"]
    static = "not told" if ram["static"] is None else f"{ram['static']:,}"
    lines.append(f"RAM: arena {ram['arena']:,}, static {static}, stack {ram['stack']:,} B, the monitor's included [{origin}]")
    if report["streamed"] is not None:
        lines.append(_streamed_line(report))
    return lines


def _streamed_line(report: Mapping[str, Any]) -> str:
    streamed, accuracy = report["streamed"], report["accuracy"]
    text = f"{streamed['samples']} of {streamed['available']} samples ({streamed['data']}): {streamed['mismatches']} of "
    text += f"{streamed['bytes']:,} output bytes differ from the reference"
    if accuracy is not None:
        text += f"; top-1 {100 * accuracy['device']:.2f} %, the reference {100 * accuracy['reference']:.2f} %"
    return f"{text} [{report['provenance']}]"
