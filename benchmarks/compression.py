"""Sparse and clustered networks stored coded: bytes, RAM and instructions on an emulated nano33ble against the same network stored dense.

Example:
    TINYKIT_DATA=folder python benchmarks/compression.py

MLPerf Tiny's int8 networks for images and keywords with their shipped weights rounded: the smallest of each layer set to 0, or each weight
moved to the nearest of a layer's centroids (k-means in one dimension). What that does to accuracy is not looked at. Every element of each
layer is compared with the reference executor, every output of the `.tflite` with TFLM's interpreter. Writes benchmarks/compression.md.
Exit code 1 where an element differs, a target is missed, or decoding takes more instructions than its bound. Needs arm-none-eabi-gcc.
"""

import dataclasses
import datetime
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import build_firmware
from tinykit.boards.image import Image
from tinykit.boards.pipeline import firmware_sources
from tinykit.boards.table import board
from tinykit.boards.toolchain import choose
from tinykit.boards.verify import verify
from tinykit.compile import read_model
from tinykit.engine.decoders import NAMES
from tinykit.engine.generate import build_engine
from tinykit.engine.memory import random_samples
from tinykit.engine.select import Preference
from tinykit.engine.storage import AUTO, DENSE, StorageWish
from tinykit.graph import ir, reference
from tinykit.graph.writer import write
from tinykit.verify.tflm import TflmRunner

HERE = Path(__file__).parent
MODELS = ("ic_pretrainedResnet_int8", "kws_ref_model_int8")
SEED, SAMPLES = 0, 1
ZEROS, CENTROIDS = (0.5, 0.75, 0.9), (4, 16, 64)
ANY = 1000.0
"""A limit on decoding that no layer reaches."""
TARGETS = {"75 % zeros": 0.45, "16 centroids": 0.51}
"""Of the bytes of weights that are coded, in the smallest coding."""
_HEAD = """\
# Sparse and clustered weights, stored coded

{day}, seed {seed}, `TINYKIT_DATA=folder python benchmarks/compression.py`, {compiler}, -O3.
Everything is **emulated** (nano33ble), no physical board; one inference. Accuracy was not looked at: weights are the shipped ones, rounded.

`auto` is what `compile` does by itself: a layer is coded where that saves 20 % of its weights' bytes, decoding takes at most a quarter of
the layer's own instructions, and every byte by which the arena grows saves two of flash. Other rows: that coding in every layer where it
saves 20 %, however long decoding takes, a byte of RAM for half a byte of flash. Weights: bytes as kernels read them and as they are stored,
of all layers with weights (constants of channels not counted); coded: the share that is left in the layers that are coded. Flash: the
linked image without its self-test vector. Decode: instructions of decoders, a part of all.
Elements that differ from the reference executor: {wrong} of {elements:,}. Decoding of a layer took at most {bound:.2f} of its bound.

| network | weights | storage | layers | weights, bytes | coded | flash | of dense | arena | instructions | of dense | decode |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""
_TFLM_HEAD = """
The same networks as `.tflite`, for TFLM: each layer int8 or in the encoding with which the file is smallest; expanded by DECODE into TFLM's
arena before the layer runs. Output bytes that differ from the reference executor in TFLM's interpreter: {wrong} of {elements:,}.

| network | weights | encodings | file, bytes: int8 | as written | ratio | arena for the expanded weights |
|---|---|---|---|---|---|---|
"""


@dataclass
class Totals:
    """Over all rows."""

    wrong: int = 0
    elements: int = 0
    bound: float = 0.0


def pruned(weights: np.ndarray, share: float) -> np.ndarray:
    """The smallest of a layer's weights set to 0."""
    found = weights.copy()
    found.ravel()[np.argsort(np.abs(weights.astype(np.int64)), axis=None, kind="stable")[: int(share * weights.size)]] = 0
    return found


def clustered(weights: np.ndarray, count: int) -> np.ndarray:
    """Each weight moved to the nearest of `count` integers: Lloyd's algorithm from evenly spaced ones."""
    flat = weights.astype(np.float64).ravel()
    centres = np.linspace(flat.min(), flat.max(), count)
    for _ in range(20):
        nearest = np.abs(flat[:, None] - centres).argmin(axis=1)
        used = np.bincount(nearest, minlength=count)
        centres = np.where(used > 0, np.bincount(nearest, flat, count) / np.maximum(used, 1), centres)
    return np.round(centres)[nearest].astype(np.int8).reshape(weights.shape)


def variants(graph: ir.Graph) -> Iterator[tuple[str, ir.Graph]]:
    """(what was done to the weights, the network)."""

    def with_weights(change) -> ir.Graph:  # type: ignore[no-untyped-def]
        found = graph.copy()
        found.ops = [dataclasses.replace(op, weights=change(op.weights)) if isinstance(op, ir.Weighted) else op for op in graph.ops]
        return found

    for share in ZEROS:
        yield f"{share:.0%} zeros".replace("%", " %"), with_weights(lambda w, share=share: pruned(w, share))
    for count in CENTROIDS:
        yield f"{count} centroids", with_weights(lambda w, count=count: clustered(w, count))
    yield "75 % zeros, 16 centroids", with_weights(lambda w: pruned(clustered(w, 16), 0.75))


def row(graph: ir.Graph, storage: str, dense: tuple[int, int] | None, totals: Totals) -> tuple[list[str], tuple[int, int], float | None]:
    """(cells, (flash, instructions), share of bytes that is left in coded layers) of one storage."""
    wish = StorageWish(storage) if storage in (AUTO, DENSE) else StorageWish(storage, ANY)
    engine, target, tools = build_engine(graph, "net", Preference(storage=wish)), board("nano33ble"), choose("gcc")
    samples = random_samples(graph, SAMPLES, SEED)
    with tempfile.TemporaryDirectory() as folder:
        sources = firmware_sources(engine, samples)
        build = build_firmware(sources, target, Path(folder), toolchain=tools, target="bare", optimize="-O3")
        found = verify(EmulatedBoard(target, Image.load(build.elf)), engine, samples)
    run = found.run
    if run is None or not run.calls:
        raise SystemExit(f"{graph.name}: the calls of its layers cannot be counted")
    totals.wrong, totals.elements = totals.wrong + found.mismatches, totals.elements + found.elements
    known = [call.storage for call in engine.calls if call.storage is not None]
    coded = [own for own in known if own.scheme is not None]
    for call, profile in zip(engine.calls, run.calls, strict=True):
        if call.storage is not None and call.storage.scheme is not None:
            decoding = sum(profile.functions.get(name, 0) for name in NAMES)
            totals.bound = max(totals.bound, decoding / call.storage.instructions)
    share = sum(own.bytes for own in coded) / sum(own.dense_bytes for own in coded) if coded else None
    before = dense or (build.sizes.total, run.instructions)
    schemes = sorted({str(own.scheme) for own in coded})
    sizes = f"{sum(own.dense_bytes for own in known):,} -> {sum(own.bytes for own in known):,}"
    cells = [
        storage + (f" ({', '.join(schemes)})" if storage == AUTO and schemes else ""),
        f"{len(coded)} of {len(known)}" if known else "0",
        sizes if known else f"{engine.weight_bytes:,} with constants",
        "" if share is None else f"{share:.3f}",
        f"{build.sizes.total:,}",
        f"{build.sizes.total / before[0]:.2f}",
        f"{engine.plan.arena_bytes:,}",
        f"{run.instructions:,}",
        f"{run.instructions / before[1]:.2f}",
        f"{sum(run.functions.get(name, (0, 0))[0] for name in NAMES):,}",
    ]
    return cells, (build.sizes.total, run.instructions), share


def tflm_row(graph: ir.Graph, totals: Totals) -> list[str]:
    """Encodings, bytes as int8 and as written, their ratio, bytes of the largest expanded tensor; outputs compared with TFLM's."""
    plain, written = write(graph, lut=False).tflite, write(graph)
    (name,) = graph.inputs
    x = random_samples(graph, SAMPLES, SEED)[name]
    truth = reference.run_all(graph, {name: x})[graph.outputs[0]]
    got = TflmRunner(written.tflite).run(x.astype(np.int8))[0].reshape(truth.shape)
    totals.wrong, totals.elements = totals.wrong + int((got != truth).sum()), totals.elements + truth.size
    kinds = [e.encoding for e in written.encodings]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    scratch = max(e.scratch for e in written.encodings)
    return [counts, f"{len(plain):,}", f"{len(written.tflite):,}", f"{len(written.tflite) / len(plain):.2f}", f"{scratch:,}"]


def main() -> None:
    """Measures all rows and writes compression.md."""
    data = os.environ.get("TINYKIT_DATA")
    if not data:
        raise SystemExit("set TINYKIT_DATA to a folder with reference_models/")
    rows, tflm_rows, missed, totals, tflm_totals = [], [], [], Totals(), Totals()
    for model in MODELS:
        graph = read_model(next(Path(data).rglob(f"{model}.tflite"))).deployed
        cells, dense, _ = row(graph, DENSE, None, totals)
        rows.append(f"| {model} | as shipped | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
        for what, changed in variants(graph):
            shares = []
            for storage in (AUTO, *(("bitmap",) if "zeros" in what else ("lut",)), "huffman", "ans"):
                cells, _, share = row(changed, storage, dense, totals)
                shares += [] if share is None else [share]
                rows.append(f"| {model} | {what} | {' | '.join(cells)} |")
                print(rows[-1], flush=True)
            if what in TARGETS and min(shares) > TARGETS[what]:
                missed.append(f"{model}, {what}: {min(shares):.3f}, target {TARGETS[what]}")
            tflm_rows.append(f"| {model} | {what} | {' | '.join(tflm_row(changed, tflm_totals))} |")
            print(tflm_rows[-1], flush=True)
    head = _HEAD.format(
        day=datetime.date.today().isoformat(), seed=SEED, compiler=choose("gcc").version, wrong=totals.wrong, elements=totals.elements,
        bound=totals.bound,
    )  # fmt: skip
    targets = ", ".join(f"{what} {target}" for what, target in TARGETS.items())
    verdict = f"\nTargets for `coded`, the smallest coding: {targets}. " + ("Missed: " + "; ".join(missed) if missed else "None is missed.")
    tflm_head = _TFLM_HEAD.format(wrong=tflm_totals.wrong, elements=tflm_totals.elements)
    text = head + "\n".join(rows) + "\n" + verdict + "\n" + tflm_head + "\n".join(tflm_rows) + "\n"
    (HERE / "compression.md").write_text(text, encoding="utf-8")
    print(verdict)
    sys.exit(bool(totals.wrong or tflm_totals.wrong or missed or totals.bound > 1))


if __name__ == "__main__":
    main()
