"""Accuracy at 8, 4 and 2 bits against a float model that was trained as long on the same images, one row each, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py                   # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py optimum_35_0      # one row, again
    python benchmarks/mixed_precision.py --table                               # only write the table again

The network is MLPerf Tiny's float ResNet-8. Results are appended to benchmarks/mixed_precision.jsonl (the last of a row counts) and shown
in benchmarks/mixed_precision.md. Budgets are of the linked engine; the allocators get nothing else.
"""

import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS, TABLE = HERE / "mixed_precision.jsonl", HERE / "mixed_precision.md"
SEEDS = 3
COMMON = ("--config", "cifar10", "--set", "model.path=$TINYKIT_DATA/reference_models/ic_pretrainedResnet.h5")
EPOCHS, RATE = 7, 0.001


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: without the seed.
        settings: what is set beside the common settings.
        within: how many points below the float model are allowed; None for the float model itself.
        share: of the int8 network's constants (weights and per-channel tables) at most; None for no limit.
    """

    name: str
    settings: tuple[str, ...]
    within: float | None = None
    share: float | None = None


def _quantize(*settings: str, epochs: int = EPOCHS, rate: float = RATE) -> tuple[str, ...]:
    return ("recipe=int8", f"steps.quantize.epochs={epochs}", f"steps.quantize.learning_rate={rate}", *settings)


def _budget(allocator: str, flash: str) -> tuple[str, ...]:
    return _quantize(f"steps.quantize.bits={allocator}", f"budget.flash={flash}")


FLOAT = Task(
    "float",
    ("recipe=float", "steps.train.when=always", "steps.train.keep=last")
    + (f"steps.train.epochs={EPOCHS}", f"steps.train.learning_rate={RATE}"),
)
INT8 = Task("w8a8", _quantize(epochs=2, rate=2e-4), within=0.2)
TASKS = (
    FLOAT,
    INT8,
    Task("w4a8", _quantize("steps.quantize.bits={'*': 4}", "steps.quantize.harm_limit=0.1"), within=0.5),
    Task("w4a4", _quantize("steps.quantize.bits={'*': 4, '*/output': 4}", "steps.quantize.harm_limit=0.1"), within=1.0),
    Task("rule_50", _budget("rule", "47kB"), within=0.7, share=0.50),
    Task("optimum_50", _budget("optimum", "47kB"), within=0.7, share=0.50),
    Task("rule_35", _budget("rule", "34900"), within=1.2, share=0.35),
    Task("optimum_35", _budget("optimum", "34900"), within=1.2, share=0.35),
    Task("rule_27", _budget("rule", "29kB"), within=2.5, share=0.27),
    Task("optimum_27", _budget("optimum", "29kB"), within=2.5, share=0.27),
)
ROWS = {f"{task.name}_{seed}": (task, seed) for task in TASKS for seed in range(SEEDS)}


def command(row: str) -> list[str]:
    """The arguments after `python -m tinykit.train`, with $TINYKIT_DATA as it is written in the table."""
    task, seed = ROWS[row]
    return [*COMMON, *(word for s in task.settings for word in ("--set", s)), "--seed", str(seed), "--workdir", f"runs/bits/{row}"]


def run(row: str) -> dict[str, Any]:
    """Runs one row. Raises SystemExit with the program's words where it fails."""
    folder = Path("runs/bits") / row
    arguments = [a.replace("$TINYKIT_DATA", os.environ.get("TINYKIT_DATA", "")) for a in command(row)]
    done = subprocess.run([sys.executable, "-m", "tinykit.train", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{row}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if metrics.get("quicktest") or metrics["data"]["synthetic"]:
        raise SystemExit(f"{row}: refused: a quick test's figures are no results")
    layers = [line.split(",") for line in (folder / "layers.csv").read_text(encoding="utf-8").splitlines()]
    weights, outputs = layers[0].index("weight_bits"), layers[0].index("activation_bits")
    kept = {key: metrics.get(key) for key in ("accuracy", "parity", "flash", "ram", "instructions", "tflite_bytes", "seed")}
    return {
        "row": row,
        "date": datetime.date.today().isoformat(),
        **kept,
        "test_samples": metrics["data"]["test_samples"],
        "seconds": metrics["seconds"]["total"],
        "weight_bits": [int(r[weights]) for r in layers[1:] if r[weights] != "0"],
        "activation_bits": [int(r[outputs]) for r in layers[1:]],
    }


def results() -> dict[str, dict[str, Any]]:
    """The last result of each row that there still is."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {r["row"]: r for r in map(json.loads, lines) if r["row"] in ROWS}


def _of(task: Task, found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [found[f"{task.name}_{seed}"] for seed in range(SEEDS) if f"{task.name}_{seed}" in found]


def _constants(result: dict[str, Any]) -> int:
    """Bytes of the linked image's weights and per-channel tables."""
    return result["flash"]["weights"] + result["flash"]["tables"]


def summary(task: Task, found: dict[str, dict[str, Any]]) -> str:
    """One line of the first table."""
    mine, floats, whole = _of(task, found), _of(FLOAT, found), _of(INT8, found)
    if not mine:
        return f"| {task.name} | not measured | | | | | | |"
    key = "float" if task is FLOAT else "integer"
    scores = [100 * r["accuracy"][key] for r in mine]
    spread = f"{statistics.fmean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f}), {len(mine)} seed{'s' * (len(mine) > 1)}"
    if task is FLOAT or not floats:
        return f"| {task.name} | {spread} | | | | | | |"
    gap = statistics.fmean(scores) - statistics.fmean(100 * r["accuracy"]["float"] for r in floats)
    constants = statistics.fmean(_constants(r) for r in mine)
    share = constants / statistics.fmean(_constants(r) for r in whole) if whole else None
    holds = task.within is None or gap >= -task.within - 1e-9
    small = task.share is None or (share is not None and share <= task.share + 5e-4)
    cells = [task.name, spread, f"{gap:+.2f}", f"{-task.within:.1f}" if task.within is not None else "", f"{constants:,.0f}"]
    cells += [f"{share:.3f}" if share is not None else "", f"{task.share:.2f}" if task.share else "", "yes" if holds and small else "NO"]
    return f"| {' | '.join(cells)} |"


def table(found: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "# Accuracy at 8, 4 and 2 bits",
        "",
        "MLPerf Tiny's float ResNet-8, trained further on 18,000 images of CIFAR-10 and tested on 5,000; measured on the host, 2 cores, by",
        "`python benchmarks/mixed_precision.py`. The float model of the comparison is trained as long on the same images; the model as it",
        "was given scores 86.82 %. Constants are the linked image's weights and per-channel tables; the share is of those of w8a8. Flash",
        "and RAM are of the linked engine, emulated on nano33ble; no physical board was used.",
        "",
        "| task | top-1, % | against float | allowed | constants, B | share of int8 | allowed | holds |",
        "|---|---|---|---|---|---|---|---|",
        *(summary(task, found) for task in TASKS),
        "",
        "| row | top-1 | weight bits | output bits | flash | RAM | instructions | .tflite B | parity | seconds | date | command |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, (task, _) in ROWS.items():
        if row in found:
            lines.append(_detail(row, task, found[row]))
    return "\n".join(lines) + "\n"


def _detail(row: str, task: Task, r: dict[str, Any]) -> str:
    score = r["accuracy"]["float" if task is FLOAT else "integer"]
    parity = " / ".join(str(r["parity"][key]) for key in ("keras_vs_reference", "tflm_vs_reference", "engine_vs_reference"))
    cells = [row, f"{100 * score:.2f}", " ".join(map(str, r["weight_bits"])), " ".join(map(str, r["activation_bits"]))]
    cells += [r["flash"]["total"], r["ram"]["total"], r["instructions"], r["tflite_bytes"], parity, f"{r['seconds']:.0f}", r["date"]]
    return f"| {' | '.join('n/a' if c is None else str(c) for c in cells)} | `{' '.join(command(row))}` |"


def main() -> None:
    wanted = [a for a in sys.argv[1:] if a != "--table"]
    unknown = [row for row in wanted if row not in ROWS]
    if unknown:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    missing = [] if "--table" in sys.argv else [row for row in ROWS if row not in results()]
    for row in wanted or missing:
        if wanted and (Path("runs/bits") / row / "DONE").exists():
            shutil.rmtree(Path("runs/bits") / row)
        print(row, flush=True)
        result = run(row)
        with RESULTS.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result) + "\n")
        TABLE.write_text(table(results()), encoding="utf-8")
    TABLE.write_text(table(results()), encoding="utf-8")


if __name__ == "__main__":
    main()
