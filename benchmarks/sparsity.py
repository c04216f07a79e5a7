"""Zeros and shared values against the network that they start from, one row a run, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/sparsity.py               # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/sparsity.py cluster_16_0  # one row, again
    python benchmarks/sparsity.py --table                           # only write the table again

Results are appended to benchmarks/sparsity.jsonl (the last of a row counts) and shown in benchmarks/sparsity.md.
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from resnet import START, Task, Tasks, accuracy_after, scores
from rows import Result, Runs, measured, mismatches, table_line

FOLDER = Path("runs/sparsity")
CODINGS = ("bitmap", "lut", "huffman", "ans")
ANY = 1000.0
"""A limit on decoding that no layer reaches."""


@dataclass(frozen=True)
class Sparse(Task):
    """A row of the table.

    Attributes:
        zeros: share of the integer weights that has to be 0.
        values: most different integers that a layer but the first and the last may have.
        stored: share of the int8 weights' bytes that the engine may store.
    """

    zeros: float | None = None
    values: int | None = None
    stored: float | None = None


def _sparse(name: str, within: float, zeros: float, stored: float | None, *options: str) -> Sparse:
    sets = ("rise_epochs=8", "epochs=30", "learning_rate=0.003", "distill=1.0", "mix=0.5", "keep=last", "scope=network", *options)
    return Sparse(
        name, ("recipe=sparse_quantize", *(f"steps.sparsify.{option}" for option in sets)), "sparsify", within, zeros, None, stored
    )


TASKS = Tasks(
    (
        Sparse(START.name, START.settings),
        _sparse("sparse_75", 1.5, 0.75, 0.45, "sparsity=0.75", "pattern=weights"),
        _sparse("blocks_75", 1.5, 0.75, 0.45, "sparsity=0.75", "pattern=blocks"),
        _sparse("two_of_four", 1.5, 0.49, None, "sparsity=null", "pattern=2of4"),
        Sparse("cluster_16", ("recipe=[train, {cluster: {clusters: 16}}, quantize]",), "cluster", 1.0, None, 16, 0.51),
        Sparse("sparse_cluster", ("recipe=cluster_huffman", "steps.sparsify.distill=0.9"), "cluster", 1.5, 0.75, 16, 0.45),
    )
)


_COLUMNS = (
    *("row", "float top-1 afterwards, %", "against the start", "allowed", "int8, %", "zeros", "values", "bits a weight", "stored"),
    *("in the smallest coding", "instructions", "seconds", "holds"),
)
_DETAILS = (
    *("row", "float", "afterwards", "int8", "zeros", "values", "stored", *CODINGS, "instructions", "flash", "RAM", ".tflite B", "parity"),
    *("seconds", "CPU s", "date", "command"),
)


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run and of the weights in its `model.tflite`. Raises SystemExit where it is no result."""
    found = measured(row, metrics, "accuracy", "parity", "flash", "ram", "instructions", "tflite_bytes", "storage", "seed")
    file = folder / "model.tflite"
    return found | {"float_after": accuracy_after(TASKS.rows[row][0].step, folder), **weights(file), "codings": codings(file)}


def codings(file: Path) -> dict[str, float]:
    """Coding -> bytes of all weights with it wherever it saves a fifth of a layer, however long decoding takes, against dense ones."""
    from tinykit.engine.generate import build_engine
    from tinykit.engine.select import Preference
    from tinykit.engine.storage import StorageWish
    from tinykit.graph.reader import read_tflite

    graph, found = read_tflite(file), {}
    for coding in CODINGS:
        engine = build_engine(graph, "net", Preference(storage=StorageWish(coding, ANY)))
        layers = [call.storage for call in engine.calls if call.storage is not None]
        found[coding] = sum(layer.bytes for layer in layers) / sum(layer.dense_bytes for layer in layers)
    return found


def weights(file: Path) -> Result:
    """Share of zeros of all weights, most different integers in a layer but the first and the last, and bits a weight of the best code that
    looks at one weight of a layer at a time (its entropy)."""
    from tinykit.graph import ir
    from tinykit.graph.reader import read_tflite

    layers = [op.weights.ravel() for op in read_tflite(file).ops if isinstance(op, ir.Weighted)]
    total = sum(layer.size for layer in layers)
    bits = sum(layer.size * entropy(layer) for layer in layers)
    return {
        "zeros": sum(int((layer == 0).sum()) for layer in layers) / total,
        "values": max(len(np.unique(layer)) for layer in layers[1:-1]),
        "entropy": bits / total,
    }


def stored(result: Result) -> float:
    """Bytes of weights that the engine stores, as a share of the int8 weights' bytes."""
    storage = result["storage"]
    return storage["weights_stored"] / storage["weights_dense"] if storage else 1.0


def quick(result: Result) -> float | None:
    """Instructions with decoding, as a share of those without; None where nothing is coded or the dense twin does not fit."""
    dense = (result["storage"] or {}).get("dense")
    return result["instructions"] / dense["instructions"] if dense else None


def entropy(values: np.ndarray) -> float:
    """Bits a value."""
    counts = np.unique(values, return_counts=True)[1]
    return -sum(n / values.size * math.log2(n / values.size) for n in counts.tolist())


def summary(task: Sparse, found: dict[str, Result]) -> str:
    """One line: accuracies against the float model, and what the integer weights are like."""
    mine = TASKS.of(task, found)
    if not mine:
        return f"| {task.name} | not measured | | | | | | | | | | | |"
    reached = scores(task, mine, "float_after")
    zeros, values = min(r["zeros"] for r in mine), max(r["values"] for r in mine)
    met = task.within is None or reached.gap >= -task.within
    met = met and (task.zeros is None or zeros >= task.zeros) and (task.values is None or values <= task.values)
    share, slower = max(stored(r) for r in mine), [quick(r) for r in mine]
    met = met and (task.stored is None or share <= task.stored)
    cells = [*reached.cells(task), f"{zeros:.3f}", str(values), f"{statistics.fmean(r['entropy'] for r in mine):.2f}"]
    least, coding = min((max(r["codings"][coding] for r in mine), coding) for coding in CODINGS)
    cells += [f"{share:.3f}", f"{least:.3f} ({coding})" if least < 1 else "", f"{max(slower):.3f}" if None not in slower else ""]
    cells += [f"{max(r['seconds'] for r in mine):.0f}", "yes" if met else "NO"]
    return f"| {' | '.join(cells)} |"


def table(found: dict[str, Result]) -> str:
    """The results as Markdown."""
    lines = [
        "# Zeros and shared values",
        "",
        "MLPerf Tiny's float ResNet-8 on CIFAR-10, 18,000 training images, tested on 5,000, by `python benchmarks/sparsity.py`; 2 cores.",
        "The float model as it was given is what the rows are compared with; it was not trained further. Zeros, values (the most different",
        "integers in a layer but the first and the last) and entropy (bits a weight, a layer at a time) are of the integer weights in",
        "model.tflite. Stored is the engine's bytes of weights as a share of the dense int8 ones, whole network, the worst seed, as the",
        "engine chooses by itself (codings whose decoding is not too long); next to it one coding in every layer where it saves a fifth of",
        "the bytes, however long decoding takes. Instructions are emulated on nano33ble, as the engine chooses, as a share of those of the",
        "same network with dense weights. No physical board was used.",
        "A row holds where its float accuracy is within the points that are allowed, its integer weights are as sparse, or have as few",
        "values, as was wanted, and no more is stored than was wanted (0.45 with 75 % zeros, 0.51 with 16 values).",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
        *(summary(task, found) for task in TASKS.tasks),
        "",
        "## Every run",
        "",
        f"| {' | '.join(_DETAILS)} |",
        "|---" * len(_DETAILS) + "|",
        *(_detail(row, found[row]) for row in TASKS.rows if row in found),
    ]
    return "\n".join(lines) + "\n"


def _detail(row: str, r: Result) -> str:
    accuracies = (r["accuracy"]["float"], r["float_after"], r["accuracy"]["integer"])
    cells = [
        row,
        *(None if s is None else f"{100 * s:.2f}" for s in accuracies),
        f"{r['zeros']:.3f}",
        r["values"],
        f"{stored(r):.3f}",
        *(f"{r['codings'][coding]:.3f}" for coding in CODINGS),
        r["instructions"],
    ]
    cells += [(r[key] or {}).get("total") for key in ("flash", "ram")]
    cells += [r["tflite_bytes"], mismatches(r), f"{r['seconds']:.0f}", r.get("cpu_seconds"), r["date"]]
    return table_line(cells, RUNS.command(row))


RUNS = Runs("sparsity", FOLDER, TASKS.arguments(), kept, table)


if __name__ == "__main__":
    RUNS.main()
