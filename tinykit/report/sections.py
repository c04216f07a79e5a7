"""Turns ReportData into the rows that the template prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinykit.export.tables import shape_text
from tinykit.report import numbers
from tinykit.report.data import ReportData
from tinykit.report.effort import UNKNOWN, per_mac
from tinykit.report.verdict import wilson

_MAX_GRID = 40  # classes; a larger confusion matrix is not drawn
_MAX_PAIRS = 6
_MAX_BARS = 30


def accuracy_rows(data: ReportData) -> list[dict[str, str]]:
    """Float and integer model on the test split: model, score, interval, samples."""
    metric = data.metric("accuracy.metric")
    rows = []
    for name, key in (("float", "float"), ("integer", "integer")):
        value = data.metric(f"accuracy.{key}")
        samples = integer_samples(data) if key == "integer" else data.metric("data.test_samples")
        interval = ""
        if value is not None and samples and metric == "top1":
            low, high = wilson(value * samples, samples)
            interval = f"{100 * low:.2f} to {100 * high:.2f} %"
        rows.append({"model": name, "score": numbers.score(value, metric), "interval": interval, "samples": numbers.count(samples)})
    return rows if any(data.metric(f"accuracy.{key}") is not None for key in ("float", "integer")) else []


def integer_samples(data: ReportData) -> int | None:
    """Samples that the integer model's accuracy was taken on: those of the confusion matrix, else the test split."""
    total = sum(int(value) for row in data.confusion or [] for value in row)
    return total or data.metric("data.test_samples")


def partial_samples(data: ReportData) -> str:
    """'500' where the integer model saw only so many samples of the test split, else ''."""
    seen, samples = integer_samples(data), data.metric("data.test_samples")
    return f"{seen:,}" if seen is not None and samples is not None and seen < samples else ""


def accuracy_change(data: ReportData) -> str:
    """'+0.22 points against float', '' where one is missing."""
    before, after = data.metric("accuracy.float"), data.metric("accuracy.integer")
    if before is None or after is None:
        return ""
    if data.metric("accuracy.metric") == "auc":
        return f"{after - before:+.4f} against float".replace("-", "−")
    change = f"{100 * (after - before):+.2f}".replace("-", "−")
    return "same as float" if after == before else f"{change} points against float"


def machine_rows(data: ReportData) -> list[dict[str, str]]:
    """Areas under the ROC curve of each machine, for anomalies: machine, normal, anomalous, float, integer."""
    return [
        {
            "machine": str(row.get("machine", "?")),
            "normal": numbers.count(row.get("normal")),
            "anomalous": numbers.count(row.get("anomalous")),
            "float": numbers.score(row.get("float"), "auc"),
            "integer": numbers.score(row.get("integer"), "auc"),
        }
        for row in data.machines
    ]


def disagreement_text(data: ReportData) -> str:
    """The sentence about samples for which float and integer model choose different classes."""
    count, samples = data.disagreements.get("count"), data.disagreements.get("samples")
    if count is None or not samples:
        return ""
    return (
        f"Float and integer model choose different classes for {count:,} of {samples:,} samples"
        f" ({numbers.percent(count, samples)}), measured(host)."
    )


def confusion_view(data: ReportData) -> dict[str, Any] | None:
    """The confusion matrix: names, rows of cells (count, shade, right), share of each class that is right, the most frequent mistakes."""
    matrix = data.confusion
    if matrix is None or len(matrix) == 0:
        return None
    classes = len(matrix)
    given = list(data.data.get("class_names") or [])
    names = [str(given[index]) if index < len(given) else str(index) for index in range(classes)]
    rows, mistakes = [], []
    for true, row in enumerate(matrix):
        counts = [int(value) for value in row]
        total = sum(counts)
        cells = [
            {"count": value, "shade": _shade(value, total), "right": true == predicted}  # of one predicted class
            for predicted, value in enumerate(counts)
        ]
        right = counts[true] if true < len(counts) else 0
        recall = numbers.percent(right, total) if total else "no samples"
        rows.append({"name": names[true], "cells": cells, "total": total, "recall": recall})
        wrong = [(value, predicted) for predicted, value in enumerate(counts[:classes]) if value and predicted != true]
        mistakes += [(value, names[true], names[predicted]) for value, predicted in wrong]
    mistakes.sort(key=lambda mistake: (-mistake[0], mistake[1], mistake[2]))
    return {
        "names": names,
        "rows": rows,
        "draw": classes <= _MAX_GRID,
        "pairs": mistakes[:_MAX_PAIRS],
        "wrong": sum(mistake[0] for mistake in mistakes),
        "total": sum(row["total"] for row in rows),
    }


def _shade(value: int, total: int) -> int:
    """Strength of a cell's colour in percent: visible for a single sample."""
    return 0 if not value or not total else round(8 + 72 * value / total)


def layer_rows(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every op in execution order, as text."""
    return [
        {
            "name": layer.get("name", ""),
            "kind": layer.get("kind", ""),
            "shapes": f"{_shape(layer.get('input_shape'))} → {_shape(layer.get('output_shape'))}",
            "macs": numbers.count(layer.get("macs")),
            "bits": f"{layer.get('weight_bits') or '–'} / {layer.get('activation_bits') or '–'}" + _encoding(layer),
            "weights": numbers.count(layer.get("weight_bytes")),
            "stored": _stored(layer),
            "stored_why": layer.get("storage_reason") or "",
            "biases": numbers.count(layer.get("bias_bytes")),
            "live": numbers.count(layer.get("live_bytes")),
            "kernel": layer.get("kernel") or UNKNOWN,
            "instructions": _known(layer.get("instructions")),
            "per_mac": per_mac(layer.get("instructions_per_mac")),
            "cycles": _known(layer.get("cycles")),
        }
        for layer in layers
    ]


def _stored(layer: Mapping[str, Any]) -> str:
    """How the engine holds the weights: their coding, bytes before and after, instructions before and after."""
    coding = layer.get("storage")
    if coding in (None, "dense"):
        return coding or ""
    before, after = layer.get("instructions_dense"), layer.get("instructions")
    text = f"{coding}: {layer['weights_dense']:,} → {layer['weights_stored']:,} B"
    return text + (f", {before:,} → {after:,} instructions" if before is not None and after is not None else "")


def _encoding(layer: Mapping[str, Any]) -> str:
    """How the .tflite holds weights that have fewer than 8 bits."""
    return f", {layer['encoding']}" if layer.get("encoding") and layer.get("weight_bits") != 8 else ""


def _known(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _shape(shape: Any) -> str:
    return "?" if shape is None else shape_text(shape).replace("x", "×")


def layer_bars(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Layers with weights or multiply-accumulates, largest first, with the lengths of their bars in percent of the largest."""
    weighed = [(_constant_bytes(layer), layer.get("macs") or 0, layer) for layer in layers]
    counted = sorted((entry for entry in weighed if entry[0] or entry[1]), key=lambda entry: (-entry[0], -entry[1]))
    total_bytes, total_macs = sum(entry[0] for entry in counted), sum(entry[1] for entry in counted)
    most_bytes, most_macs = max((entry[0] for entry in counted), default=0), max((entry[1] for entry in counted), default=0)
    rows = [
        {
            "name": layer.get("name", ""),
            "detail": f"{layer.get('kind', '')}, {layer.get('weight_bits') or '–'}-bit weights",
            "size": numbers.size(size),
            "size_share": numbers.percent(size, total_bytes),
            "size_bar": numbers.length(size, most_bytes),
            "macs": numbers.macs(macs),
            "macs_share": numbers.percent(macs, total_macs),
            "macs_bar": numbers.length(macs, most_macs),
        }
        for size, macs, layer in counted[:_MAX_BARS]
    ]
    return {
        "rows": rows,
        "hidden": len(counted) - len(rows),
        "others": len(layers) - len(counted),
        "bytes": numbers.size(total_bytes),
        "macs": numbers.macs(total_macs),
    }


def _constant_bytes(layer: Mapping[str, Any]) -> int:
    return (layer.get("weight_bytes") or 0) + (layer.get("bias_bytes") or 0)


def parity_rows(data: ReportData) -> list[dict[str, Any]]:
    """One row a comparison: pair, scope, result, elements, samples, exact."""
    rows, board = [], data.metric("board") or data.budget.get("board") or "board"
    for entry in data.parity:
        wrong = entry.get("mismatches")
        rows.append(
            {
                "pair": f"{entry.get('a', '?')} = {entry.get('b', '?')}",
                "scope": entry.get("scope") or "outputs",
                "exact": None if wrong is None else wrong == 0,
                "result": numbers.NOT_MEASURED if wrong is None else "identical" if wrong == 0 else f"{wrong:,} differ",
                "elements": numbers.count(entry.get("elements")),
                "samples": numbers.count(entry.get("samples")),
                "source": f"emulated({board})" if emulated(entry) else "measured(host)",
            }
        )
    return rows


def emulated(entry: Mapping[str, Any]) -> bool:
    """Was one side of a comparison run on an emulated board? Its scope says so."""
    return "emulated" in str(entry.get("scope") or "")


def simplifier_text(simplifier: Mapping[str, Any]) -> list[str]:
    """Sentences about what the exact simplifier removed."""
    texts = []
    for name, word in (("macs", "multiply-accumulates"), ("channels", "channels")):
        before, after = simplifier.get(f"{name}_before"), simplifier.get(f"{name}_after")
        if before is None or after is None:
            continue
        if before == after:
            texts.append(f"{before:,} {word}: nothing to remove")
        else:
            texts.append(f"{before:,} → {after:,} {word} ({numbers.percent(before - after, before)} removed)")
    return texts


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as ('versions.numpy', '2.4') pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", numbers.plain(value)))
    return pairs
