"""Layers with weights of 4 and 2 bits against the same layers with 8, instructions on an emulated nano33ble.

Example:
    TINYKIT_DATA=folder python benchmarks/narrow.py

One layer a network, random weights and inputs; int8 in and out. Then two of MLPerf Tiny's int8 networks with their weights rounded to fewer
bits, where TINYKIT_DATA names a folder that has them. Every element of each layer is compared with the reference executor. Writes
benchmarks/narrow.md. Exit code 1 where an element differs or a limit is missed. Needs arm-none-eabi-gcc.
"""

import datetime
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinykit.graph import build, ir, windows

if TYPE_CHECKING:
    from tinykit.boards.pipeline import Compiled

HERE = Path(__file__).parent
SEED, SAMPLES = 0, 2
_ROOM = 60_000  # bytes
_HEAD = """\
# Weights of 4 and 2 bits

{day}, seed {seed}, `TINYKIT_DATA=folder python benchmarks/narrow.py`, {compiler}, -O3.
Everything is **emulated** (nano33ble), no physical board.

One layer a network, int8 in and out, random weights over all values, outputs not clamped; the arena has room for the buffers.
Instructions of the layer with requantisation and all loops, and the ratio to the same layer with int8 weights. Ternary: -1, 0, 1.
Four levels: -3, -1, 1, 3. Elements that differ from the reference executor, all layers: {wrong} of {elements:,}.

| layer | MACs | int8 | 4 bits | ratio | ternary | ratio | four levels | ratio |
|---|---|---|---|---|---|---|---|---|
"""
LIMITS = {"4 bits": 1.12, "ternary": 0.75, "four levels": 0.85}
"""Of a convolution's ratio."""
OTHER_LIMIT = 1.10
"""Of a depthwise or dense layer's ratio, whatever its weights."""


def _uniform(low: int, high: int) -> Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]:
    return lambda rng, shape: rng.integers(low, high + 1, shape)


@dataclass(frozen=True)
class Weights:
    """A kind of weights: their bits, how they are drawn, and how large they are (root mean square)."""

    bits: int
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    size: float


KINDS = {
    "int8": Weights(8, _uniform(-127, 127), 73.0),
    "4 bits": Weights(4, _uniform(-7, 7), 4.3),
    "ternary": Weights(2, _uniform(-1, 1), 0.82),
    "four levels": Weights(2, lambda rng, shape: 2 * rng.integers(-2, 2, shape) + 1, 2.2),
}
PACKED = {"4, 4 bits": (4, KINDS["4 bits"]), "4, ternary": (4, KINDS["ternary"]), "2, ternary": (2, KINDS["ternary"])}
"""Bits of inputs and outputs, and weights."""
_PACKED_HEAD = """
The same with packed inputs and outputs, of 4 or 2 bits each; the ratio is to int8 throughout.

| layer | int8 | 4, weights of 4 bits | ratio | 4, ternary | ratio | 2, ternary | ratio |
|---|---|---|---|---|---|---|---|
"""
NETWORKS = ("kws_ref_model_int8", "ic_pretrainedResnet_int8")
NETWORK_LIMITS = {"4 bits": 1.10, "ternary": 1.0, "four levels": 1.0}
_NETWORK_HEAD = """
Whole networks, int8 activations, all weights rounded from the shipped 8 bits to fewer (which says nothing of accuracy). Limits: 4 bits
1.10, 2 bits 1.00.

| network | int8 | 4 bits | ratio | ternary | ratio | four levels | ratio |
|---|---|---|---|---|---|---|---|
"""
Shape = tuple[int, int, int]
LAYERS: tuple[tuple[str, Shape, int, int], ...] = (  # kind, input, output channels, window
    ("conv2d", (16, 16, 32), 32, 3), ("conv2d", (8, 8, 64), 64, 3), ("conv2d", (4, 4, 256), 64, 3), ("conv2d", (5, 7, 13), 11, 3),
    ("conv2d", (16, 16, 32), 32, 1), ("conv2d", (8, 8, 64), 64, 1), ("conv2d", (5, 7, 13), 11, 1),
    ("depthwise_conv2d", (16, 16, 32), 32, 3), ("depthwise_conv2d", (8, 8, 64), 64, 3), ("depthwise_conv2d", (5, 7, 13), 13, 3),
    ("fully_connected", (1, 1, 256), 64, 1), ("fully_connected", (1, 1, 77), 11, 1),
)  # fmt: skip


def layer(kind: str, shape: Shape, out: int, window: int, weights: Weights, bits: int = 8) -> ir.Graph:
    """A network of one layer, the same but for its weights, and a larger tensor behind it, so that columns find room in the arena.

    Args:
        bits: of inputs and outputs.
    """
    rng = np.random.default_rng(SEED)
    dense, depthwise = kind == "fully_connected", kind == "depthwise_conv2d"
    pad = (window // 2,) * 4
    taps = window * window * (1 if depthwise else int(np.prod(shape)) if dense else shape[2])
    size = (out,) if dense else (*windows.output_size_2d(shape[:2], (window, window), (1, 1), (1, 1), pad), out)
    given = (int(np.prod(shape)),) if dense else shape
    high = -128 + (1 << bits) - 1
    width = {"bits": bits, "qmin": -128} if bits < 8 else {}
    tensors = {"x": ir.Tensor("x", given, 0.5, -128, **width), "y": ir.Tensor("y", size, 0.5, -125, **width)}
    axes = (out, taps) if dense else (window, window, out) if depthwise else (out, window, window, shape[2])
    values = weights.draw(rng, axes).astype(np.int8)
    if weights is KINDS["four levels"]:
        values.flat[0] = 3
    shift = -round(np.log2(np.sqrt(taps) * weights.size * (1 << bits) * 0.29 / (1 << bits - 2))) - rng.integers(0, 2, out)
    parameters = (rng.integers(-99, 99, out), rng.integers(1 << 30, (1 << 31) - 1, out), np.minimum(shift, -1))
    common = ("layer", ("x",), "y", values, *(p.astype(np.int32) for p in parameters), np.full(out, 0.01, np.float32), -128, high)
    made: ir.Op
    if dense:
        made = ir.FullyConnected(*common, weight_bits=weights.bits)
    else:
        cls = ir.DepthwiseConv2D if depthwise else ir.Conv2D
        made = cls(*common, weight_bits=weights.bits, stride=(1, 1), dilation=(1, 1), padding=pad)
    room_size = _ROOM * 8 // bits
    rows = room_size if dense else -(-room_size // (size[1] * out))
    tensors["z"] = ir.Tensor("z", (size[0] + rows, *size[1:]), 0.5, -125, **width)
    room = ir.Pad("room", ("y",), "z", ((0, rows), *((0, 0) for _ in size[1:])), -125)
    graph = ir.Graph(tensors, [made, room], ("x",), ("z",), {}, "layer")
    graph.validate()
    return graph


def compiled(graph: ir.Graph) -> "Compiled":
    """The network, built and compared on the emulated board."""
    from tinykit.boards.pipeline import compile_graph
    from tinykit.boards.table import board

    with tempfile.TemporaryDirectory() as out:
        return compile_graph(graph, board("nano33ble"), Path(out), toolchain="gcc", samples=SAMPLES, seed=SEED)


def measure(graph: ir.Graph) -> tuple[int, int, int, int]:
    """(instructions of the layer, its MACs, differing elements, elements)."""
    from tinykit.boards.pipeline import layer_table

    made = compiled(graph)
    row = layer_table(made)[0]
    return int(row["instructions"]), int(row["macs"]), made.verification.mismatches, made.verification.elements


def rounded(graph: ir.Graph, name: str) -> ir.Graph:
    """A network of int8 weights with those of one of KINDS in their place, scales, biases and multipliers changed accordingly."""
    if name == "int8":
        return graph
    result = graph.copy()
    for op in result.ops:
        if not isinstance(op, ir.Weighted):
            continue
        x, y = result.tensors[op.inputs[0]], result.tensors[op.output]
        depthwise = isinstance(op, ir.DepthwiseConv2D)
        flat = op.weights.reshape(-1, op.weights.shape[-1]).T if depthwise else op.weights.reshape(len(op.weights), -1)
        values, unit = _coarse(flat.astype(np.float64), name)
        op.weights = (values.T if depthwise else values).reshape(op.weights.shape).astype(np.int8)
        op.weight_bits = KINDS[name].bits
        op.weight_scale = (np.broadcast_to(op.weight_scale, len(op.bias)) * unit).astype(np.float32)
        op.bias = np.round(op.bias / unit).astype(np.int32)
        op.multiplier, op.shift = build.weight_multipliers(x, op.weight_scale, y, len(op.bias))
    result.validate()
    return result


def _coarse(weights: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights [out, taps] on few levels, and what a level stands for, a channel: 7 levels to the largest weight, the threshold and the mean
    of ternary weight networks (arXiv:1605.04711), or half a standard deviation."""
    size = np.abs(weights)
    if name == "4 bits":
        unit = size.max(axis=1) / 7
    elif name == "ternary":
        kept = size > 0.7 * size.mean(axis=1, keepdims=True)
        unit = (size * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
        return np.sign(weights) * kept, np.where(unit > 0, unit, 1.0)
    else:
        unit = np.sqrt((weights**2).mean(axis=1)) / 2
    unit = np.where(unit > 0, unit, 1.0)
    levels = weights / unit[:, None]
    return (np.round(levels) if name == "4 bits" else 2 * np.clip(np.floor(levels / 2), -2, 1) + 1), unit


def networks(data: Path) -> tuple[list[str], list[str], int, int]:
    """(lines of the table, limits that are missed, differing elements, elements)."""
    from tinykit.compile import read_model

    rows, missed, wrong, elements = [], [], 0, 0
    for network in NETWORKS:
        graph = read_model(data / "reference_models" / f"{network}.tflite").deployed
        counts: dict[str, int] = {}
        for name in KINDS:
            made = compiled(rounded(graph, name))
            counts[name] = made.verification.run.instructions
            wrong, elements = wrong + made.verification.mismatches, elements + made.verification.elements
        cells, over = _ratios(counts, NETWORK_LIMITS)
        missed += [f"{network}: {text}" for text in over]
        whole = f"{counts['int8']:,}"
        rows.append(f"| {' | '.join([network, whole, *cells])} |")
        print(rows[-1], flush=True)
    return rows, missed, wrong, elements


def _ratios(counts: Mapping[str, int], limits: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """(cells: instructions and their ratio to int8, for each kind of narrow weights; the limits that are missed, in words)."""
    cells, missed = [], []
    for name in list(KINDS)[1:]:
        ratio = counts[name] / counts["int8"]
        cells += [f"{counts[name]:,}", f"{ratio:.2f}"]
        if ratio > limits.get(name, ratio):
            missed.append(f"{name} {ratio:.3f}, limit {limits[name]}")
    return cells, missed


def main() -> None:
    from tinykit.boards.toolchain import choose

    rows, wrong, elements, missed = [], 0, 0, []
    for kind, shape, out, window in LAYERS:
        found = {name: measure(layer(kind, shape, out, window, weights)) for name, weights in KINDS.items()}
        title = f"{kind} {window}x{window}, {'x'.join(map(str, shape))} -> {out}"
        counts = {name: count for name, (count, *_) in found.items()}
        cells, over = _ratios(counts, LIMITS if kind == "conv2d" else dict.fromkeys(LIMITS, OTHER_LIMIT))
        cells = [title, f"{found['int8'][1]:,}", f"{counts['int8']:,}", *cells]
        missed += [f"{title}: {text}" for text in over]
        wrong += sum(f[2] for f in found.values())
        elements += sum(f[3] for f in found.values())
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    packed = []
    for kind, shape, out, window in LAYERS[:7]:
        cells = [f"{kind} {window}x{window}, {'x'.join(map(str, shape))} -> {out}"]
        whole = measure(layer(kind, shape, out, window, KINDS["int8"]))
        cells.append(f"{whole[0]:,}")
        for bits, weights in PACKED.values():
            count, _, differ, compared = measure(layer(kind, shape, out, window, weights, bits))
            cells += [f"{count:,}", f"{count / whole[0]:.2f}"]
            wrong, elements = wrong + differ, elements + compared
        packed.append(f"| {' | '.join(cells)} |")
        print(packed[-1], flush=True)
    data = os.environ.get("TINYKIT_DATA")
    whole_networks = ["| not measured: TINYKIT_DATA is not set | | | | | | | |"]
    if data:
        whole_networks, over, differ, compared = networks(Path(data))
        missed, wrong, elements = missed + over, wrong + differ, elements + compared
    day = datetime.date.today().isoformat()
    head = _HEAD.format(day=day, seed=SEED, compiler=choose("gcc").version, wrong=wrong, elements=elements)
    limits = ", ".join(f"{name} {limit:.2f}" for name, limit in LIMITS.items())
    text = (
        f"\nLimits of convolutions: {limits}; of other layers {OTHER_LIMIT:.2f}. "
        + ("Missed: " + "; ".join(missed) if missed else "None is missed.")
        + "\n"
    )
    parts = [head, *rows, text, _NETWORK_HEAD.rstrip("\n"), *whole_networks, _PACKED_HEAD.rstrip("\n"), *packed]
    (HERE / "narrow.md").write_text("\n".join(part.rstrip("\n") for part in parts) + "\n", encoding="utf-8")
    print(text)
    sys.exit(bool(wrong or missed))


if __name__ == "__main__":
    main()
