"""Accuracy and parity of whole runs, one row each, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/accuracy.py                # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/accuracy.py digits_int8_0  # one row, again

Each row is one `python -m tinykit.train` in its own run directory; a row that was interrupted goes on where it stopped. Results are
appended to benchmarks/accuracy.jsonl (the last of a row counts) and shown in benchmarks/accuracy.md.
"""

import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, TABLE = HERE / "accuracy.jsonl", HERE / "accuracy.md"
REFERENCE = ["--set", "model.path=$TINYKIT_DATA/reference_models/ic_pretrainedResnet.h5"]

ROWS: dict[str, list[str]] = {
    **{f"digits_int8_{seed}": ["--config", "digits", "--seed", str(seed)] for seed in range(3)},
    "digits_ptq_0": ["--config", "digits", "--set", "recipe=ptq"],
    "resnet8_reference_ptq_0": ["--config", "cifar10", *REFERENCE, "--set", "recipe=ptq"],
    **{
        f"resnet8_reference_int8_{seed}": ["--config", "cifar10", *REFERENCE, "--set", "recipe=int8", "--seed", str(seed)]
        for seed in range(3)
    },
    "fashion_mnist_int8_0": ["--config", "fashion_mnist"],
}


def command(row: str) -> list[str]:
    """The arguments after `python -m tinykit.train`, with $TINYKIT_DATA as it is written in the table."""
    return [*ROWS[row], "--workdir", f"runs/bench/{row}"]


def run(row: str) -> dict:
    """Runs one row and returns its result. Raises SystemExit with the program's words where it fails."""
    data = os.environ.get("TINYKIT_DATA", "")
    arguments = [a.replace("$TINYKIT_DATA", data) for a in command(row)]
    done = subprocess.run([sys.executable, "-m", "tinykit.train", *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{row}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    metrics = json.loads((Path("runs/bench") / row / "metrics.json").read_text(encoding="utf-8"))
    return {"row": row, "date": datetime.date.today().isoformat(), "seed": metrics["seed"], "metrics": metrics}


def results() -> dict[str, dict]:
    """The last result of each row."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {r["row"]: r for r in map(json.loads, lines)}


def table(found: dict[str, dict]) -> str:
    """The results as Markdown."""
    head = [
        "# Accuracy and parity",
        "",
        "Measured on the host by `python benchmarks/accuracy.py`, 2 cores. Accuracy is top-1 on the whole test split, the integer one",
        "that of the integer graph; disagreements are samples for which float and integer model choose different classes; parity is",
        "mismatching elements, Keras against the reference (every tensor) and TFLM against the reference.",
        "",
        "| row | float | integer | disagree | samples | parity | .tflite B | seconds | seed | date | python -m tinykit.train |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        if row not in found:
            continue
        r, m = found[row], found[row]["metrics"]
        parity = f"{m['parity']['keras_vs_reference']} / {m['parity']['tflm_vs_reference']}"
        accuracy = f"{100 * m['accuracy']['float']:.2f} | {100 * m['accuracy']['integer']:.2f}"
        cells = [accuracy, m["disagreements"], m["parity"]["samples"], parity, m["tflite_bytes"], f"{m['seconds']['total']:.0f}"]
        cells += [r["seed"], r["date"], f"`{' '.join(command(row))}`"]
        head.append(f"| {row} | {' | '.join(map(str, cells))} |")
    return "\n".join(head) + "\n"


def main() -> None:
    wanted = sys.argv[1:]
    unknown = [row for row in wanted if row not in ROWS]
    if unknown:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    for row in wanted or [row for row in ROWS if row not in results()]:
        folder = Path("runs/bench") / row
        if wanted and (folder / "DONE").exists():
            shutil.rmtree(folder)
        print(row, flush=True)
        result = run(row)
        with RESULTS.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result) + "\n")
        TABLE.write_text(table(results()), encoding="utf-8")
    TABLE.write_text(table(results()), encoding="utf-8")


if __name__ == "__main__":
    main()
