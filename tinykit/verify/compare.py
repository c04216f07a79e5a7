"""Counts the elements in which the reference executor and an interpreter differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import flatfile, ir, reference
from tinykit.graph.writer import write_tflite
from tinykit.verify.runner import Runner
from tinykit.verify.tflm import TflmRunner

MEMORY = 128 << 20  # bytes of inner tensors held at once


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        mismatches: elements that differ.
        elements: elements compared.
        samples: inputs compared.
        first: the first difference (tensor, sample, index, both values), None where there is none.
    """

    mismatches: int
    elements: int
    samples: int
    first: str | None = None

    def __str__(self) -> str:
        tail = f"; first: {self.first}" if self.first else ""
        return f"{self.mismatches} of {self.elements} elements differ, {self.samples} samples{tail}"


Samples = np.ndarray | dict[str, np.ndarray]


def compare_tflm(graph: ir.Graph, tflite: bytes | None, x: Samples, tensors: str = "outputs", processes: int = 1) -> Comparison:
    """The reference executor against TFLM.

    Args:
        graph: the integer graph.
        tflite: the file to run; None writes one from the graph.
        x: stored inputs [N, *input shape] (float32 where the input is float); a dict by input name for several inputs.
        tensors: "outputs", or "all" for the result of every operator as well (those of `tflite` that the graph knows by name).
        processes: see Runner.run.

    Raises:
        ModelError, OracleMissing.
    """
    if tensors not in {"outputs", "all"}:
        raise ModelError(f"tensors is {tensors!r}, expected 'outputs' or 'all'")
    names: Sequence[str] = graph.outputs
    if tensors == "all":
        if tflite is None:
            tflite, names = write_tflite(graph, debug_outputs=True), [op.output for op in graph.ops]
        else:
            tflite, names = flatfile.with_all_outputs(tflite)
    elif tflite is None:
        tflite = write_tflite(graph)
    return compare_runner(graph, TflmRunner(tflite), names, x, processes)


def compare_runner(graph: ir.Graph, runner: Runner, names: Sequence[str], x: Samples, processes: int = 1) -> Comparison:
    """The reference executor against any runner, whose outputs are the graph's tensors `names` (unknown names are left out)."""
    inputs = _stored(graph, x if isinstance(x, dict) else {graph.inputs[0]: x})
    samples = len(inputs[graph.inputs[0]])
    sample_bytes = 8 * sum(graph.tensors[op.output].size for op in graph.ops) + 1
    step = max(1, min(samples, MEMORY // sample_bytes, 4096))
    mismatches = elements = 0
    first: str | None = None
    for start in range(0, samples, step):
        part = {name: values[start : start + step] for name, values in inputs.items()}
        expected, got = reference.run_all(graph, part), runner.run([part[name] for name in graph.inputs], processes)
        for name, theirs in zip(names, got):
            if name not in expected:
                continue
            ours = np.broadcast_to(expected[name], (len(theirs), *expected[name].shape[1:]))
            if theirs.size != ours.size:
                raise ModelError(f"tensor {name!r}: the reference gives {list(ours.shape)}, the interpreter {list(theirs.shape)}")
            theirs = theirs.reshape(ours.shape)
            wrong = ours != theirs
            count = int(np.count_nonzero(wrong))
            mismatches, elements = mismatches + count, elements + ours.size
            if count and first is None:
                at = tuple(int(v) for v in np.argwhere(wrong)[0])
                first = f"tensor {name!r}, sample {start + at[0]}, index {list(at[1:])}: reference {ours[at]}, interpreter {theirs[at]}"
    if not elements:
        raise ModelError(f"graph {graph.name!r}: nothing was compared")
    return Comparison(mismatches, elements, samples, first)


def _stored(graph: ir.Graph, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs in the types that a .tflite has. Raises ModelError for a missing input or integers that an int8 tensor does not hold."""
    stored = {}
    for name in graph.inputs:
        if name not in x:
            raise ModelError(f"graph {graph.name!r}: no samples for input {name!r}")
        values = np.asarray(x[name])
        if graph.tensors[name].dtype != ir.Dtype.FLOAT and values.dtype != np.int8:
            if values.dtype.kind not in "iu" or (values.size and (values.min() < -128 or values.max() > 127)):
                raise ModelError(f"graph {graph.name!r}: input {name!r} expects stored integers -128..127, got {values.dtype}")
            values = values.astype(np.int8)
        stored[name] = values
    return stored
