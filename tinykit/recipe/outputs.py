"""What a run leaves behind: the `.tflite`, its C array and op resolver, golden vectors, tables, the checks and the report's material."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit import atomic
from tinykit.boards.table import Budget
from tinykit.engine.estimate import ram_estimate
from tinykit.export.arena import arena_json, memory_row
from tinykit.export.c_array import model_data
from tinykit.export.golden import golden_npz
from tinykit.export.resolver import op_resolver_header
from tinykit.export.tables import COLUMNS, layers_csv
from tinykit.graph import costs, encodings, ir, reference
from tinykit.graph.simplify import Removed, simplify
from tinykit.graph.writer import Written, write, write_tflite
from tinykit.quant.lowering import lower
from tinykit.quant.model import QuantizedModel
from tinykit.recipe import anomaly, ledger
from tinykit.recipe.checks import Checked, Count, check
from tinykit.recipe.engine import EngineResult, build_and_check
from tinykit.recipe.merge import merge
from tinykit.recipe.rundir import RunDir
from tinykit.recipe.step import StepContext
from tinykit.report.data import ReportData, read_curves
from tinykit.report.report import write_report

if TYPE_CHECKING:
    import keras

    from tinykit.engine.generate import Engine

GOLDEN_SAMPLES = 16
HOST_MACS = 20_000_000_000
"""Multiply-accumulates that the comparison on this computer may cost: about ten seconds."""
SHOWN_MISTAKES = 12
_HELD = ("encoding", "file_bytes_as_int8", "file_bytes", "reason")
"""Columns of layers.csv that say how the .tflite holds an op's weights."""
_STORED = ("storage", "weights_dense", "weights_stored", "slices", "instructions_dense", "decode_instructions", "storage_reason")
"""Columns of layers.csv that say how the engine holds an op's weights: those of `tinykit.boards.storage`."""
_NO_TFLM = {"a": "TFLM", "b": "reference", "scope": "outputs", "mismatches": None, "elements": None, "samples": None}
"""A comparison that was not made, for the report's table; its notes say why."""


@dataclass
class Outputs:
    """What `finish` found.

    Attributes:
        metrics: keys of metrics.json.
        report: the material of the report (metrics, ledger and verdict are added by the runner).
        problems: why the firmware does not fit its budget, and what would help; empty where it fits.
    """

    metrics: dict[str, Any]
    report: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def integer_graph(model: QuantizedModel, name: str, simplified: bool = True) -> tuple[ir.Graph, ir.Graph, Removed | None]:
    """(the graph as lowered, the graph to deploy, what the simplifier removed)."""
    graph = lower(model, name)
    if not simplified:
        return graph, graph, None
    result = simplify(graph)
    return graph, result.graph, result.removed


def footprint(model: keras.Model, simplified: bool = True) -> ledger.Footprint:
    """Size of a network for the ledger: bytes of its `.tflite`, RAM of the engine (the planned arena and an estimated stack), MACs.

    A float model is sized as the int8 network that it would become: neither figure depends on the values of its weights.

    Raises:
        ModelError: it has layers without an exact integer counterpart.
    """
    if not isinstance(model, QuantizedModel):
        model, simplified = _as_integers(model), False
    _, graph, _ = integer_graph(model, "model", simplified)
    return ledger.Footprint(len(write_tflite(graph)), ram_estimate(graph), costs.total_macs(graph))


def _as_integers(model: keras.Model) -> QuantizedModel:
    """A float model as an integer network with ranges from noise; its shapes are right, its values are not."""
    from tinykit.quant.calibrate import calibrate
    from tinykit.quant.convert import InputRange, build_quantized

    quantized = build_quantized(model, InputRange(1.0 / 32, 0))
    noise = np.random.default_rng(0).normal(0, 1, (4, *quantized.sample_shape)).astype(np.float32)
    calibrate(quantized, [noise], "minmax")
    return quantized


def finish(model: keras.Model, context: StepContext, rundir: RunDir, *, rows: Sequence[ledger.Row], budget: Budget) -> Outputs:
    """Writes and checks everything that can be made of the last step's model.

    Args:
        model: a quantised model; of a float model only the data is described.
        context: as for a step.
        rundir: where the files go.

    Returns:
        Accuracy, parity, sizes, and the report's material. A mismatch is in `parity`, not an exception: the files are there to be looked
        at.
    """
    material = _common(context, rundir)
    if not isinstance(model, QuantizedModel):
        material["notes"].append("The recipe ends with a float model: there is no integer network to write, check or deploy.")
        return Outputs({"tflite_bytes": None}, material)
    config = context.config.config
    graph, deployed, removed = integer_graph(model, context.config.name, config.simplify)
    written = write(deployed, keep_names=config.tflite.keep_names)
    tflite = written.tflite
    if removed is not None:
        context.log(f"simplifier: {removed}")
    count = min(config.check.samples or len(context.dataset.test.y), len(context.dataset.test.y))
    x = _Inputs(context)
    checked = check(model, graph, deployed, tflite, x.part, count, context.progress, config.check.litert)
    for c in checked.counts:
        context.log(f"parity: {c.a} vs {c.b}, {c.scope}: {c.mismatches} of {c.elements} elements differ, {c.samples} samples")
        if c.first:
            context.log(f"  first: {c.first}")
    for note in checked.notes:
        context.log(f"note: {note}")
    golden = reference.quantize_input(graph, x.part(0, min(GOLDEN_SAMPLES, len(checked.outputs))))
    engine = build_and_check(
        deployed,
        config.budget.board,
        rundir.path,
        budget,
        config.engine,
        golden,
        lambda e: _on_host(e, checked.outputs, x, context),
        context.log,
        context.progress,
    )
    checked.counts += engine.counts
    layers = _layers(deployed, engine, written)
    arena = _write(rundir.path, deployed, written, checked, golden, engine, layers)
    atomic.write_json(rundir.path / "classes.json", list(context.dataset.class_names))
    material |= {"layers": layers, **_material(deployed, removed, checked, arena, engine, written)}
    metrics = _metrics(deployed, tflite, checked)
    merge(metrics, engine.metrics)
    if context.dataset.task == "anomaly":
        _judge_clips(metrics, material, model, graph, checked, context, x)
    else:
        _judge_predictions(metrics, material, _predictions(model, checked, context, x), context, x)
    return Outputs(metrics, material, engine.problems)


def _on_host(engine: Engine, truth: np.ndarray, x: _Inputs, context: StepContext) -> Count:
    """The engine on this computer over the test split, or over as much of it as HOST_MACS allow: outputs only."""
    from tinykit.boards.host import HostEngine

    count = min(len(truth), max(GOLDEN_SAMPLES, HOST_MACS // max(1, costs.total_macs(engine.graph))))
    found = Count("engine on this computer", "reference", "outputs")
    with HostEngine(engine) as host:
        for start in range(0, count, 256):
            context.stop.check()
            stop = min(start + 256, count)
            given = reference.quantize_input(engine.graph, x.part(start, stop))
            found.add(engine.graph.outputs[0], start, truth[start:stop], host.run(given)[0])
            found.samples = stop
            context.progress(stop, count)
    context.log(f"parity: engine vs reference, on this computer: {found.mismatches} of {found.elements} elements differ, {count} samples")
    return found


class _Inputs:
    """Preprocessed test samples, made when they are needed."""

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def part(self, first: int, last: int) -> np.ndarray:
        """Float32 samples [last - first, ...]."""
        return self._context.chain.apply(self._context.dataset.test.x[first:last])


def _common(context: StepContext, rundir: RunDir) -> dict[str, Any]:
    data, path = context.dataset, rundir.path
    return {
        "title": context.config.name,
        "command": (path / "command.txt").read_text(encoding="utf-8").strip(),
        "config_yaml": (path / "config.resolved.yaml").read_text(encoding="utf-8"),
        "data": {
            "name": data.name,
            "source": data.source,
            "synthetic": data.synthetic,
            "sizes": {"train": len(data.train.y), "val": len(data.val.y), "test": len(data.test.y)},
            "sha256": data.split_sha256,
            "class_names": list(data.class_names),
        },
        "notes": [],
    }


def _write(
    path: Path,
    graph: ir.Graph,
    written: Written,
    checked: Checked,
    golden: np.ndarray,
    engine: EngineResult,
    layers: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Writes the files; returns the content of arena.json."""
    tflite = written.tflite
    atomic.write_bytes(path / "model.tflite", tflite)
    for name, text in model_data(tflite).items():
        atomic.write_text(path / name, text)
    atomic.write_text(path / "op_resolver.h", op_resolver_header(written.methods))
    atomic.write_text(path / "layers.csv", layers_csv(layers, (*COLUMNS, *_HELD, *_STORED)))
    arena = arena_json(costs.liveness(graph), host_bytes=checked.arena_bytes, estimate=costs.tflm_arena_estimate(graph))
    arena["engine"] = engine.arena
    atomic.write_json(path / "arena.json", arena)
    source, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    vectors = golden_npz(
        golden,
        checked.outputs[: len(golden)].astype(np.int8),
        input_quantization=(source.scale, source.zero_point),
        output_quantization=(result.scale, result.zero_point),
        model_sha256=hashlib.sha256(tflite).hexdigest(),
    )
    atomic.write_bytes(path / "golden.npz", vectors)
    return arena


def _layers(graph: ir.Graph, engine: EngineResult, written: Written) -> list[dict[str, Any]]:
    """Rows of layers.csv and of the report: what an op is, what the emulated run says about it, and how the .tflite holds its weights."""
    held = {e.op: dict(zip(_HELD, (e.encoding, e.bytes_before, e.bytes_after, e.reason))) for e in written.encodings}
    extra = ("kernel", "instructions", "instructions_per_mac", "cycles", "ram", "flash", *_STORED)
    rows = [dataclasses.asdict(row) for row in costs.layer_rows(graph)]
    return [row | {key: engine.layers.get(row["name"], {}).get(key) for key in extra} | held.get(row["name"], {}) for row in rows]


def _metrics(graph: ir.Graph, tflite: bytes, checked: Checked) -> dict[str, Any]:
    keras_side, tflm = checked.count("Keras"), checked.count("TFLM")
    inner = checked.count("TFLM, inner tensors")
    return {
        "parity": {
            "keras_vs_reference": None if keras_side is None else keras_side.mismatches,
            "tflm_vs_reference": None if tflm is None else tflm.mismatches + (inner.mismatches if inner else 0),
            "samples": len(checked.outputs),
        },
        "macs": costs.total_macs(graph),
        "tflite_bytes": len(tflite),
    }


def _material(
    deployed: ir.Graph,
    removed: Removed | None,
    checked: Checked,
    arena: dict[str, Any],
    engine: EngineResult,
    written: Written,
) -> dict[str, Any]:
    estimate = arena["estimate"]
    found: dict[str, Any] = {
        "memory": [memory_row(step) for step in costs.liveness(deployed)],
        "parity": [c.row() for c in checked.counts] + ([] if checked.count("TFLM") else [_NO_TFLM]),
        "ops": written.methods,
        "arena": {"host_bytes": arena["host"]["bytes"], "estimate_bytes": estimate["bytes"], "note": estimate["source"]},
        "skipped": checked.notes,
        "notes": [*engine.notes, *filter(None, [encodings.note(written.encodings)])],
        "sources": engine.sources,
        "plan": engine.arena or {},
    }
    if removed is not None:
        found["simplifier"] = {
            "macs_before": removed.macs[0],
            "macs_after": removed.macs[1],
            "channels_before": removed.total_channels[0],
            "channels_after": removed.total_channels[1],
        }
    return found


def _predictions(model: QuantizedModel, checked: Checked, context: StepContext, x: _Inputs) -> np.ndarray | None:
    """The class that the integer network chooses for each test sample [N]; None where its output is not one value a class.

    The reference executor's for the samples that were checked; for the others (check.samples) those of the Keras model, which the check
    has shown to be the same network.
    """
    if checked.outputs.ndim != 2 or checked.outputs.shape[1] != len(context.dataset.class_names):
        return None
    count = len(context.dataset.test.y)
    parts = [checked.outputs.argmax(axis=1)]
    for start in range(len(checked.outputs), count, 1024):
        context.stop.check()
        parts.append(np.asarray(model.predict(x.part(start, min(start + 1024, count)), verbose=0)).argmax(axis=1))
    return np.concatenate(parts)


def _judge_predictions(
    metrics: dict[str, Any], material: dict[str, Any], predicted: np.ndarray | None, context: StepContext, x: _Inputs
) -> None:
    """Adds the accuracy of the integer network, the confusion matrix, and where it and the float model disagree."""
    if predicted is None:
        return
    data = context.dataset
    classes, count, labels = len(data.class_names), len(predicted), data.test.y
    metrics["accuracy"] = {"integer": float(np.mean(predicted == labels)), "metric": "top1"}
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    material["confusion"] = confusion.tolist()
    material["examples"] = _mistakes(data, labels, predicted)
    if context.float_model is not None:
        parts = [np.asarray(context.float_model.predict(x.part(i, min(i + 1024, count)), verbose=0)) for i in range(0, count, 1024)]
        differ = int((np.concatenate(parts).argmax(axis=1) != predicted).sum())
        material["disagreements"] = {"count": differ, "samples": count}
        metrics["disagreements"] = differ
        context.log(
            f"accuracy: integer {metrics['accuracy']['integer']:.4f}; float and integer model disagree on {differ} of {count} samples"
        )


def _judge_clips(
    metrics: dict[str, Any],
    material: dict[str, Any],
    model: QuantizedModel,
    graph: ir.Graph,
    checked: Checked,
    context: StepContext,
    x: _Inputs,
) -> None:
    """Adds the areas under the ROC curve of an integer autoencoder, overall and for each machine."""
    found, shown = anomaly.judge(model, context.float_model, graph, checked.outputs, context.dataset, x.part)
    metrics |= found
    material["notes"] = [*material["notes"], *shown.pop("notes", [])]
    material |= shown
    if found:
        by_machine = ", ".join(f"{row['machine']}: {ledger.format_accuracy(row['integer'], 'auc')}" for row in found["auc_by_machine"])
        context.log(f"AUC: integer {found['accuracy']['integer']:.4f}; machine {by_machine}")


def _mistakes(data: Any, labels: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """The first misclassified samples that are images."""
    shape = data.test.x.shape[1:]
    if len(shape) != 3 or shape[2] not in (1, 3) or data.test.x.dtype != np.uint8:
        return []
    top = max(int(data.test.x.max()), 1)
    names = data.class_names
    wrong = np.flatnonzero(labels != predicted)[:SHOWN_MISTAKES]
    return [
        {
            "image": (data.test.x[i].astype(np.uint16) * 255 // top).astype(np.uint8),
            "true": names[labels[i]],
            "predicted": names[predicted[i]],
            "index": int(i),
        }
        for i in wrong
    ]


def report(
    outputs: Outputs, rundir: RunDir, metrics: dict[str, Any], rows: Sequence[ledger.Row], budget: Budget, board: str | None
) -> None:
    """Writes report.html from the outputs, the finished metrics and the ledger."""
    ledger_rows = [
        {
            "step": r.step,
            "accuracy": r.accuracy,
            **dataclasses.asdict(r.footprint),
            "seconds": r.seconds,
            "verdict": ledger.verdict(r.footprint, budget),
        }
        for r in rows
    ]
    log = rundir.path / "metrics.jsonl"
    curves = read_curves(log.read_text(encoding="utf-8")) if log.exists() else {}
    data = ReportData(
        quicktest=bool(metrics.get("quicktest")),
        env=rundir.read("env.json"),
        metrics=metrics,
        ledger=ledger_rows,
        budget={"board": board, "flash": budget.flash, "ram": budget.ram},
        curves=curves,
        allocation=_allocation(rundir),
        **outputs.report,
    )
    write_report(rundir.path / "report.html", data)


def _allocation(rundir: RunDir) -> dict[str, Any]:
    """What the last step that chose bits wrote about it; empty where none did."""
    from tinykit.steps.allocation import ALLOCATION

    files = sorted((rundir.path / "steps").glob(f"*/{ALLOCATION}"))
    return rundir.read(str(files[-1].relative_to(rundir.path))) if files else {}
