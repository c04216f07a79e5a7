"""Proves that the implementations of one integer network agree, on real samples: Keras, the reference executor, TFLM's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.graph import ir, reference

if TYPE_CHECKING:
    from tinykit.quant.model import QuantizedModel

CHUNK_BYTES = 64 << 20
INNER_SAMPLES = 16


@dataclass
class Count:
    """A comparison in the making: elements that differ, elements compared, samples, the first difference."""

    a: str
    b: str
    scope: str
    mismatches: int = 0
    elements: int = 0
    samples: int = 0
    first: str | None = None

    def add(self, name: str, start: int, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Compares one tensor of a chunk of samples that begins at `start`."""
        theirs = theirs.reshape(ours.shape)
        wrong = ours != theirs
        count = int(np.count_nonzero(wrong))
        self.mismatches += count
        self.elements += ours.size
        if count and self.first is None:
            at = tuple(int(v) for v in np.argwhere(wrong)[0])
            self.first = f"tensor {name!r}, sample {start + at[0]}, index {list(at[1:])}: {self.a} {theirs[at]}, {self.b} {ours[at]}"

    def row(self) -> dict[str, Any]:
        """Plain values for the report."""
        names = ("a", "b", "scope", "mismatches", "elements", "samples")
        return {k: getattr(self, k) for k in names}


@dataclass
class Checked:
    """What the checks found.

    Attributes:
        outputs: stored outputs [N, ...] of the reference executor.
        counts: the comparisons that were made.
        arena_bytes: of TFLM's interpreter on this computer; None where it is not installed.
        notes: what could not be checked, and why.
    """

    outputs: np.ndarray
    counts: list[Count] = field(default_factory=list)
    arena_bytes: int | None = None
    notes: list[str] = field(default_factory=list)

    def count(self, a: str) -> Count | None:
        """The whole comparison of `a` with the reference executor."""
        return next((c for c in self.counts if c.a == a), None)


def check(
    model: QuantizedModel,
    graph: ir.Graph,
    simplified: ir.Graph,
    tflite: bytes,
    samples: Callable[[int, int], np.ndarray],
    count: int,
    progress: Callable[[int, int], None],
    litert: bool = False,
) -> Checked:
    """Runs every implementation on the same samples and counts the elements that differ.

    Args:
        model: the Keras model; every tensor of it is compared with the reference executor.
        graph: the graph lowered from it.
        simplified: what `tflite` was written from. Its outputs in TFLM are compared with those of `graph` in the reference executor, so
            that the simplifier is checked too; its inner tensors on the first samples.
        samples: (first, last) -> float32 inputs [last - first, ...].
        count: samples in all.
        litert: compare LiteRT's reference kernels as well (its kernels round differently in places, so it need not agree).
    """
    from tinykit.quant.model import stored_numpy

    keras_side = Count("Keras", "reference", "every tensor")
    oracles, notes, arena = _oracles(tflite, graph, litert)
    output = graph.outputs[0]
    per_sample = 8 * sum(t.size for t in graph.activations())
    step = max(1, min(count, CHUNK_BYTES // per_sample, 256))
    outputs = []
    for start in range(0, count, step):
        x = samples(start, min(start + step, count))
        stored = reference.quantize_input(graph, x)
        truth = reference.run_all(graph, stored)
        for name, value in stored_numpy(model, x).items():
            keras_side.add(name, start, truth[name], value)
        keras_side.samples += len(x)
        for comparison, runner in oracles:
            comparison.add(output, start, truth[output], runner.run(stored)[0])
            comparison.samples += len(x)
        outputs.append(truth[output])
        progress(min(start + step, count), count)
    counts = [keras_side, *(c for c, _ in oracles)]
    if arena is not None:
        counts.append(_inner(simplified, reference.quantize_input(graph, samples(0, min(count, INNER_SAMPLES)))))
    return Checked(np.concatenate(outputs), counts, arena, notes)


def _oracles(tflite: bytes, graph: ir.Graph, litert: bool) -> tuple[list[tuple[Count, Any]], list[str], int | None]:
    """The interpreters that are installed, what is missing, and TFLM's arena."""
    from tinykit.verify.runner import OracleMissing
    from tinykit.verify.tflm import TflmRunner

    oracles: list[tuple[Count, Any]] = []
    notes: list[str] = []
    arena = None
    try:
        runner = TflmRunner(tflite)
        arena = runner.arena_used
        oracles.append((Count("TFLM", "reference", "outputs"), runner))
    except OracleMissing as missing:
        notes.append(f"parity with TFLM was not measured: {missing}")
    if litert:
        from tinykit.graph.writer import write_tflite
        from tinykit.verify.litert import LiteRtRunner

        try:
            oracles.append((Count("LiteRT", "reference", "outputs"), LiteRtRunner(write_tflite(graph, keep_names=True))))
        except OracleMissing as missing:
            notes.append(f"parity with LiteRT was not measured: {missing}")
    return oracles, notes, arena


def _inner(simplified: ir.Graph, stored: np.ndarray) -> Count:
    """Every tensor of the simplified graph in TFLM, on a few samples."""
    from tinykit.verify.compare import compare_tflm

    found = compare_tflm(simplified, None, stored, tensors="all")
    return Count("TFLM, inner tensors", "reference", "every tensor", found.mismatches, found.elements, found.samples, found.first)
