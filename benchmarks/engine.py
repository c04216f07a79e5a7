"""The MLPerf Tiny reference models as engines on an emulated nano33ble, against TFLM + CMSIS-NN and the targets of this project.

Example:
    TINYKIT_DATA=folder python benchmarks/engine.py

Each model: 20 inputs, every tensor of the emulated board against the reference executor, every tensor of TFLM's interpreter against it too,
and the board's output bytes against TFLM's. Writes benchmarks/engine.md. Exit code 1 where an element differs or a target is missed. Needs
arm-none-eabi-gcc, because all figures come from one compiler.
"""

import datetime
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinykit.graph import ir
from tinykit.graph.windows import kernel_of

HERE = Path(__file__).parent
SAMPLES, SEED = 20, 0
_HEAD = """\
# MLPerf Tiny reference models on the engine

{day}, seed {seed}, `TINYKIT_DATA=folder python benchmarks/engine.py`, {compiler}, -O3, one build for all columns.

Everything is **emulated** (nano33ble), no physical board; cycles are a model of a Cortex-M4 without wait states. RAM = arena with
input and output + static + stack. Flash: vectors, start-up, runtime, code, tables and weights; the self-test vector is not counted.
{samples} inputs each: noise, smooth patterns, both extremes. The bar is TFLM with CMSIS-NN, its build of the smallest flash, emulated
in the same way.

| model | RAM, bytes (arena + static + stack) | bar / limit / aim | flash, bytes | bar / limit / aim \
| instructions | bar / reach / aim | cycles \
| board vs reference, every tensor | TFLM vs reference, every tensor | board vs TFLM, output bytes | arena's lower bound |
|{rule}
"""

_KINDS = """
## By kind of layer

Requantisation, packing and loops included. CMSIS-NN: TFLM of 2026-08 with the CMSIS-NN that it pins, -O3, counted on the same kind of
emulator in the network as it was shipped.

| model | kind | layers | MACs | instructions | a MAC | CMSIS-NN, a MAC |
|---|---|---|---|---|---|---|
"""
_LAYERS = """
## Every layer

| model | layer | kind | input | output | MACs | instructions | a MAC |
|---|---|---|---|---|---|---|---|
"""
_REST = """
## Peers

Recorded on the same kind of emulator, instructions of one inference; sources: tensorflow/tflite-micro with ARM-software/CMSIS-NN (2026-08),
mit-han-lab/tinyengine, EEESlab/CMix-NN, each at its head of that month.

| model | TFLM, reference kernels | TFLM + CMSIS-NN, -O3 | TinyEngine, integer requantisation | TinyEngine, float requantisation (inexact) |
|---|---|---|---|---|
| vww_96_int8 | 116.63 M | 24.72 M | 24.45 M (differs from TFLM) | 19.71 M (differs from TFLM) |
| kws_ref_model_int8 | 48.64 M | 7.85 M | refused | refused |
| ic_pretrainedResnet_int8 | 132.04 M | 29.87 M | 25.62 M (no valid inference) | does not link |
| ad01_int8 | 1.95 M | 0.58 M | 0.80 M (differs from TFLM) | 0.77 M (differs from TFLM) |

One layer 16x16x32 -> 32, instructions a MAC: 3x3 CMSIS-NN 1.93, TinyEngine 2.19, CMix-NN 2.16; pointwise 2.70, 3.00, 2.76; depthwise 3x3
8.78, 6.60 (float requantisation), 10.9.

## What the cycle model leaves out

Cycles are counted for a Cortex-M4 that never waits: flash without wait states or prefetch misses, no bus contention, no interrupt. A load
costs 2, or 1 behind another load or store; on a board at its full clock flash waits, and code that runs in long straight lines suffers more
than a loop that stays in a cache line or in a flash accelerator's buffer. Instructions are counted exactly; cycles are not board latency.
"""


@dataclass(frozen=True)
class Goal:
    """One row: (bar, limit, aim) of RAM and flash in bytes and of instructions.

    Attributes:
        recorded: kind of layer -> instructions a multiply-accumulate of TFLM with CMSIS-NN -O3, emulated in the same way.
    """

    model: str
    simplified: bool
    ram: tuple[int, int, int]
    flash: tuple[int, int, int]
    instructions: tuple[int, int, int]
    recorded: dict[str, float]


# The bar is TFLM with CMSIS-NN in its build of the smallest flash, emulated in the same way. Flash may grow over what portable C took by
# 25, 25, 12, 20 and 4 kB, RAM by 1 kB.
GOALS = (
    Goal("vww_96_int8", True, (102_300, 38_192, 38_500), (386_900, 68_882, 50_000), (24_101_516, 6_500_000, 4_800_000), {}),
    Goal("vww_96_int8", False, (102_300, 38_200, 38_500), (386_900, 264_238, 243_000), (24_101_516, 11_000_000, 9_000_000),
         {"conv2d 3x3": 6.16, "depthwise_conv2d 3x3": 8.85, "conv2d 1x1": 2.35, "fully_connected": 2.93}),
    Goal("kws_ref_model_int8", True, (24_500, 9_780, 9_200), (107_600, 44_574, 37_000), (7_697_709, 4_000_000, 3_000_000),
         {"conv2d 10x4": 3.47, "depthwise_conv2d 3x3": 8.33, "conv2d 1x1": 2.09, "fully_connected": 3.23}),
    Goal("ic_pretrainedResnet_int8", True, (56_600, 34_704, 35_500), (149_900, 105_342, 90_000), (29_863_913, 15_000_000, 12_000_000),
         {"conv2d 3x3": 2.17, "conv2d 1x1": 3.75, "fully_connected": 3.34}),
    Goal("ad01_int8", True, (3_800, 1_940, 1_300), (305_300, 276_220, 275_000), (582_890, 420_000, 340_000), {"fully_connected": 2.20}),
)  # fmt: skip


def run(goal: Goal, data: Path, out: Path) -> tuple[str, list[str], list[str], bool]:
    """A row of the table, rows of the tables by kind of layer and by layer, and whether all is as it should be."""
    from tinykit.boards.pipeline import compile_graph, layer_table, report_json
    from tinykit.boards.table import board
    from tinykit.compile import read_model
    from tinykit.verify.compare import compare_tflm
    from tinykit.verify.tflm import TflmRunner

    path = data / "reference_models" / f"{goal.model}.tflite"
    model = read_model(path, goal.simplified)
    rng = np.random.default_rng(SEED)
    t = model.graph.tensors[model.graph.inputs[0]]
    x = _inputs(rng, t.shape)
    compiled = compile_graph(model.deployed, board("nano33ble"), out, toolchain="gcc", inputs=x, seed=SEED, parity_error=False)
    report = report_json(compiled, model=path.name, source=model.sha256)
    tflm = compare_tflm(model.graph, path.read_bytes(), x, "all")
    outputs = np.stack(compiled.verification.results)
    bytes_differ = int((outputs != TflmRunner(path.read_bytes()).run(x)[0].reshape(outputs.shape)).sum())
    ram, flash, count = report["ram"]["total"], report["flash"]["total"], report["instructions"]
    parity = report["parity"]
    good = ram <= goal.ram[1] and flash <= goal.flash[1] and count <= goal.instructions[1]
    exact = not (parity["engine_vs_reference"] or tflm.mismatches or bytes_differ)
    cells = [
        goal.model + ("" if goal.simplified else " --no-simplify"),
        f"{ram:,} ({report['ram']['arena']:,} + {report['ram']['static']:,} + {report['ram']['stack']:,})",
        f"{goal.ram[0]:,} / {goal.ram[1]:,} / {goal.ram[2]:,}",
        f"{flash:,}", f"{goal.flash[0]:,} / {goal.flash[1]:,} / {goal.flash[2]:,}",
        f"{count:,}", f"{goal.instructions[0]:,} / {goal.instructions[1]:,} / {goal.instructions[2]:,}", f"{report['cycles']:,}",
        f"{parity['engine_vs_reference']} of {parity['elements']:,}", f"{tflm.mismatches} of {tflm.elements:,}",
        f"{bytes_differ} of {outputs.size:,}", f"{report['arena']['lower_bound']:,}",
    ]  # fmt: skip
    layers = layer_table(compiled)
    return f"| {' | '.join(cells)} |", _kinds(goal, cells[0], layers, model.deployed), _each(cells[0], layers), good and exact


def _each(title: str, layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows: instructions of each layer, of each multiply-accumulate where it has some."""
    rows = []
    for layer in layers:
        count, macs = int(layer["instructions"] or 0), int(layer["macs"] or 0)
        shapes = ("x".join(map(str, layer[key])) for key in ("input_shape", "output_shape"))
        cells = [
            title,
            layer["name"].split("/")[-1],
            layer["kind"],
            *shapes,
            f"{macs:,}",
            f"{count:,}",
            f"{count / macs:.2f}" if macs else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _kinds(goal: Goal, title: str, layers: Sequence[Mapping[str, Any]], graph: ir.Graph) -> list[str]:
    """Rows: instructions of each kind of layer, of each multiply-accumulate where a layer has some."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    windows = {op.name: " {}x{}".format(*kernel_of(op)) for op in graph.ops if isinstance(op, (ir.Conv2D, ir.DepthwiseConv2D))}
    for layer in layers:
        found.setdefault(layer["kind"] + windows.get(layer["name"], ""), []).append(layer)
    rows = []
    for kind, mine in found.items():
        count, macs = (sum(int(layer[key] or 0) for layer in mine) for key in ("instructions", "macs"))
        bar = f"{goal.recorded[kind]:.2f}" if kind in goal.recorded else ""
        cells = [title, kind, f"{len(mine)}", f"{macs:,}", f"{count:,}", f"{count / macs:.2f}" if macs else "", bar]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _inputs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """int8 [20, *shape]: noise, blocks of equal values (smooth pictures), and both extremes."""
    x = rng.integers(-128, 128, (SAMPLES, *shape)).astype(np.int8)
    size = int(np.prod(shape))
    for i in range(8, 16):
        block = 4 << (i % 4)
        x[i] = np.repeat(rng.integers(-128, 128, -(-size // block)), block)[:size].reshape(shape)
    x[-2], x[-1] = -128, 127
    return x


def main() -> None:
    from tinykit.boards.toolchain import choose

    if "TINYKIT_DATA" not in os.environ:
        raise SystemExit("set TINYKIT_DATA to the folder with reference_models/")
    rows, kinds, layers, fine = [], [], [], True
    for goal in GOALS:
        with tempfile.TemporaryDirectory() as out:
            row, mine, each, good = run(goal, Path(os.environ["TINYKIT_DATA"]), Path(out))
        rows.append(row)
        kinds += mine
        layers += each
        fine = fine and good
        print(row, flush=True)
    day = datetime.date.today().isoformat()
    head = _HEAD.format(day=day, seed=SEED, samples=SAMPLES, compiler=choose("gcc").version, rule="---|" * 12)
    parts = (head, rows), (_KINDS, kinds), (_LAYERS, layers)
    text = "".join(title + "\n".join(lines) + "\n" for title, lines in parts) + _REST
    (HERE / "engine.md").write_text(text, encoding="utf-8")
    sys.exit(not fine)


if __name__ == "__main__":
    main()
