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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SAMPLES, SEED = 20, 0
_HEAD = """\
# MLPerf Tiny reference models on the engine

{day}, seed {seed}, `TINYKIT_DATA=folder python benchmarks/engine.py`, {compiler}, -O3, one build for all columns.

Everything is **emulated** (nano33ble), no physical board; cycles are a model of a Cortex-M4 without wait states. RAM = arena with
input and output + static + stack. Flash: vectors, start-up, runtime, code, tables and weights; the self-test vector is not counted.
{samples} inputs each: noise, smooth patterns, both extremes. The bar is TFLM with CMSIS-NN, its build of the smallest flash, emulated
in the same way.

| model | RAM, bytes (arena + static + stack) | bar / reach / aim | flash, bytes | bar / reach / aim | instructions | bar / reach | cycles \
| board vs reference, every tensor | TFLM vs reference, every tensor | board vs TFLM, output bytes | arena's lower bound |
|{rule}
"""


@dataclass(frozen=True)
class Goal:
    """One row: (bar, reach, aim) of RAM and flash in bytes, bar and reach of instructions."""

    model: str
    simplified: bool
    ram: tuple[int, int, int]
    flash: tuple[int, int, int]
    instructions: tuple[int, int]


# The bar is TFLM with CMSIS-NN in its build of the smallest flash, emulated in the same way.
GOALS = (
    Goal("vww_96_int8", True, (102_300, 42_000, 38_500), (386_900, 65_000, 50_000), (24_101_516, 45_000_000)),
    Goal("vww_96_int8", False, (102_300, 42_000, 38_500), (386_900, 257_000, 243_000), (24_101_516, 80_000_000)),
    Goal("kws_ref_model_int8", True, (24_500, 11_000, 9_200), (107_600, 45_000, 37_000), (7_697_709, 30_000_000)),
    Goal("ic_pretrainedResnet_int8", True, (56_600, 38_000, 35_500), (149_900, 100_000, 90_000), (29_863_913, 100_000_000)),
    Goal("ad01_int8", True, (3_800, 1_800, 1_300), (305_300, 280_000, 275_000), (582_890, 1_900_000)),
)


def run(goal: Goal, data: Path, out: Path) -> tuple[str, bool]:
    """A row of the table, and whether it is as it should be."""
    from tinykit.boards.pipeline import compile_graph, report_json
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
        f"{count:,}", f"{goal.instructions[0]:,} / {goal.instructions[1]:,}", f"{report['cycles']:,}",
        f"{parity['engine_vs_reference']} of {parity['elements']:,}", f"{tflm.mismatches} of {tflm.elements:,}",
        f"{bytes_differ} of {outputs.size:,}", f"{report['arena']['lower_bound']:,}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |", good and exact


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
    rows, fine = [], True
    for goal in GOALS:
        with tempfile.TemporaryDirectory() as out:
            row, good = run(goal, Path(os.environ["TINYKIT_DATA"]), Path(out))
        rows.append(row)
        fine = fine and good
        print(row, flush=True)
    day = datetime.date.today().isoformat()
    head = _HEAD.format(day=day, seed=SEED, samples=SAMPLES, compiler=choose("gcc").version, rule="---|" * 12)
    (HERE / "engine.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    sys.exit(not fine)


if __name__ == "__main__":
    main()
