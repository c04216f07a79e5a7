"""What a report is made from. Plain values, so that a run directory's files fill it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ReportData:
    """Everything that report.html can show. Sizes are bytes, accuracies 0 to 1, times seconds; None or empty: not known, not shown.

    Attributes:
        title: name of the run.
        quicktest: the run was a quick test: the report says so loudly.
        command: the command line that made the run.
        config_yaml: the resolved configuration.
        env: versions and machine, as in env.json.
        metrics: as in metrics.json.
        data: name, source, synthetic, sizes {split: samples}, sha256, class_names.
        ledger: one dict a step: step, accuracy, tflite_bytes, ram_bytes, macs, seconds, verdict.
        budget: board, flash, ram (bytes).
        layers: one dict an op: name, kind, input_shape, output_shape, macs, weight_bits, activation_bits, weight_bytes, bias_bytes,
            live_bytes; as `tinykit.graph.costs.LayerRow`; encoding in the .tflite; of a linked engine also kernel, instructions,
            instructions_per_mac, cycles.
        memory: the RAM timeline, one dict an op in execution order: op, total, tensors {name: bytes}.
        confusion: counts of the integer model on the test split, [true class][predicted class].
        machines: for anomalies, one dict a machine: machine, normal, anomalous (clips), float, integer (areas under the ROC curve).
        disagreements: count of the samples for which float and integer model choose different classes, samples compared.
        parity: one dict a comparison: a, b, mismatches, elements, samples, scope.
        curves: step -> one dict an epoch (epoch, loss, accuracy, val_loss, ...); `read_curves` makes it.
        ops: methods of TFLM's MicroMutableOpResolver: "AddConv2D".
        arena: host_bytes, estimate_bytes, note.
        plan: the engine's arena, as `tinykit.export.arena.plan_json`; empty: not planned.
        allocation: bits and bytes of every layer, what was tried, three picks: a step's allocation.json.
        simplifier: macs_before, macs_after, channels_before, channels_after.
        skipped: what was left out, and why.
        notes: remarks and warnings.
        examples: misclassified samples: image (uint8 array [H, W], [H, W, 1] or [H, W, 3]), true, predicted (names of classes), index.
        sources: where figures of `metrics` come from, by key ("ram.total": "measured(nano33ble, /dev/ttyACM0)"), where the usual
            label is wrong; also "ledger.ram_bytes" and "arena.estimate_bytes".
    """

    title: str
    quicktest: bool = False
    command: str = ""
    config_yaml: str = ""
    env: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    budget: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    confusion: list[list[int]] | None = None
    machines: list[dict[str, Any]] = field(default_factory=list)
    disagreements: dict[str, Any] = field(default_factory=dict)
    parity: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ops: list[str] = field(default_factory=list)
    arena: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    allocation: dict[str, Any] = field(default_factory=dict)
    simplifier: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    examples: list[dict[str, Any]] | None = None
    sources: dict[str, str] = field(default_factory=dict)

    def metric(self, path: str) -> Any:
        """The value at 'accuracy.integer' in `metrics`; None where it is missing."""
        value: Any = self.metrics
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read_curves(jsonl: str) -> dict[str, list[dict[str, Any]]]:
    """Training curves from the text of metrics.jsonl: step -> its records that have an epoch, each epoch once (the last record of it wins).

    A line that is no JSON object, such as one that a kill cut off, is passed over.
    """
    curves: dict[str, dict[Any, dict[str, Any]]] = {}
    for line in jsonl.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("epoch") is not None and "step" in record:
            values = {key: value for key, value in record.items() if key not in {"time", "step"}}
            curves.setdefault(str(record["step"]), {})[record["epoch"]] = values
    return {step: [rows[epoch] for epoch in sorted(rows)] for step, rows in curves.items()}
