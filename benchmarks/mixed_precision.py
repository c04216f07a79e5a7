"""Accuracy at 8, 4 and 2 bits against a float model that was trained as long on the same images, one row each, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py                   # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py optimum_35_0      # one row, again
    python benchmarks/mixed_precision.py --table                               # only write the table again

The network is MLPerf Tiny's float ResNet-8. Results are appended to benchmarks/mixed_precision.jsonl (the last of a row counts) and shown
in benchmarks/mixed_precision.md. Budgets are of the linked engine; the allocators get nothing else.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from rows import Result, Runs, measured, mismatches, table_line

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


def _arguments(task: Task, seed: int) -> list[str]:
    return [*COMMON, *(word for s in task.settings for word in ("--set", s)), "--seed", str(seed)]


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run's metrics and of its layers.csv. Raises SystemExit where the run is no result."""
    found = measured(row, metrics, "accuracy", "parity", "flash", "ram", "instructions", "tflite_bytes", "seed")
    layers = [text.split(",") for text in (folder / "layers.csv").read_text(encoding="utf-8").splitlines()]
    weights, outputs = layers[0].index("weight_bits"), layers[0].index("activation_bits")
    return found | {
        "weight_bits": [int(r[weights]) for r in layers[1:] if r[weights] != "0"],
        "activation_bits": [int(r[outputs]) for r in layers[1:]],
    }


def _of(task: Task, found: dict[str, Result]) -> list[Result]:
    return [found[f"{task.name}_{seed}"] for seed in range(SEEDS) if f"{task.name}_{seed}" in found]


def _constants(result: Result) -> int:
    """Bytes of the linked image's weights and per-channel tables."""
    return result["flash"]["weights"] + result["flash"]["tables"]


def summary(task: Task, found: dict[str, Result]) -> str:
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


def table(found: dict[str, Result]) -> str:
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


def _detail(row: str, task: Task, r: Result) -> str:
    score = r["accuracy"]["float" if task is FLOAT else "integer"]
    cells = [row, f"{100 * score:.2f}", " ".join(map(str, r["weight_bits"])), " ".join(map(str, r["activation_bits"]))]
    cells += [r["flash"]["total"], r["ram"]["total"], r["instructions"], r["tflite_bytes"], mismatches(r), f"{r['seconds']:.0f}", r["date"]]
    return table_line(cells, RUNS.command(row))


RUNS = Runs("mixed_precision", Path("runs/bits"), {row: _arguments(*of) for row, of in ROWS.items()}, kept, table)


if __name__ == "__main__":
    RUNS.main()
