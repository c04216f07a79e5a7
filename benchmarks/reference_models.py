"""The four int8 reference models of MLPerf Tiny: reader, reference executor and simplifier against TFLM's interpreter, on real inputs.

Example:
    TINYKIT_DATA=folder python benchmarks/reference_models.py

Writes benchmarks/reference_models.md. Exit code 1 where an element differs. The folder holds reference_models/*_int8.tflite and the .npz
sets that the inputs come from (see benchmarks/README.md).
"""

import datetime
import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
INNER = 100


def inputs(data: Path) -> dict[str, np.ndarray]:
    """Stored int8 inputs of each model: at most 500 real samples, for the autoencoder every window of 20 clips."""

    def x(name: str) -> np.ndarray:
        return np.load(data / f"{name}.npz", allow_pickle=False)["x"]

    people = np.pad(x("person_inria_64x32")[::5][:500], ((0, 0), (16, 16), (32, 32), (0, 0)), mode="edge")
    clips = x("ad01_toycar_logmel")[:20]
    windows = np.concatenate([np.stack([c[i : i + 5].reshape(-1) for i in range(196)]) for c in clips])
    return {
        "vww_96": (people.astype(np.int16) - 128).astype(np.int8),
        "kws_ref_model": x("kws01_mfcc")[:500],
        "ic_pretrainedResnet": (x("cifar10_test")[:500].astype(np.int16) - 128).astype(np.int8),
        "ad01": windows,
    }


def main() -> None:
    from tinykit.graph.costs import total_macs
    from tinykit.graph.reader import read_tflite
    from tinykit.graph.simplify import simplify
    from tinykit.graph.writer import write_tflite
    from tinykit.verify.compare import compare_tflm

    if "TINYKIT_DATA" not in os.environ:
        raise SystemExit("set TINYKIT_DATA to the folder with reference_models/ and the .npz sets")
    data = Path(os.environ["TINYKIT_DATA"])
    rows, bad = [], 0
    for name, x in inputs(data).items():
        shipped = (data / "reference_models" / f"{name}_int8.tflite").read_bytes()
        graph = read_tflite(shipped)
        simple = simplify(graph).graph
        written = write_tflite(simple)
        found = [
            compare_tflm(graph, shipped, x),
            compare_tflm(graph, shipped, x[:INNER], "all"),
            compare_tflm(simple, shipped, x),
            compare_tflm(simple, None, x[:INNER], "all"),
        ]
        bad += sum(c.mismatches for c in found)
        cells = [f"{c.mismatches} of {c.elements:,}" for c in found]
        sizes = f"{len(shipped):,} -> {len(written):,}"
        rows.append(f"| {name} | {len(x)} | {' | '.join(cells)} | {total_macs(graph):,} -> {total_macs(simple):,} | {sizes} |")
        print(rows[-1], flush=True)
    head = (
        f"# MLPerf Tiny int8 reference models\n\n{datetime.date.today().isoformat()}, `python benchmarks/reference_models.py`, "
        "measured on the host. "
        f"Differing elements, TFLM's interpreter against the reference executor; inner tensors on {INNER} inputs.\n\n"
        "| model | inputs | outputs | every tensor | simplified: outputs | simplified: every tensor | MACs | .tflite bytes, as written |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    (HERE / "reference_models.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
