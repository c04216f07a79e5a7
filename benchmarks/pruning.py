"""Structured pruning against the network that it starts from, one row a run, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/pruning.py              # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/pruning.py prune_50_0   # one row, again
    python benchmarks/pruning.py --table                          # only write the table again

Results are appended to benchmarks/pruning.jsonl (the last of a row counts) and shown in benchmarks/pruning.md.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from rows import Result, Runs, measured, mismatches, table_line

FOLDER = Path("runs/pruning")
SEEDS = 3
MODEL = "$TINYKIT_DATA/reference_models/ic_pretrainedResnet.h5"


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: of the row.
        settings: what is set beside the model.
        share: of the multiply-accumulates that may be left; None where nothing is pruned.
        within: how many points below the float model that it starts from are allowed.
    """

    name: str
    settings: tuple[str, ...]
    share: float | None = None
    within: float | None = None


def _pruned(name: str, share: float, within: float, epochs: int) -> Task:
    options = (f"macs={share}", f"epochs={epochs}", "distill=0.9")
    return Task(name, ("recipe=prune_quantize", *(f"steps.prune.{option}" for option in options)), share, within)


TASKS = (
    Task("start", ("recipe=int8",)),
    _pruned("prune_50", 0.5, 1.5, 20),
    _pruned("prune_33", 0.3333, 4.0, 24),
)
ROWS = {f"{task.name}_{seed}": (task, seed) for task in TASKS for seed in range(SEEDS)}


def arguments(task: Task, seed: int) -> list[str]:
    """Of a row's run."""
    sets = (f"model.path={MODEL}", *task.settings)
    return ["--config", "cifar10", *(word for s in sets for word in ("--set", s)), "--seed", str(seed)]


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run. Raises SystemExit where it is no result."""
    found = measured(row, metrics, "accuracy", "parity", "flash", "ram", "macs", "instructions", "tflite_bytes", "seed")
    reports = sorted((folder / "steps").glob("*_prune/report.json"))
    pruned = json.loads(reports[0].read_text(encoding="utf-8")) if reports else None
    return found | {"pruned": None if pruned is None else pruned["accuracy"]}


def _of(task: Task, found: dict[str, Result]) -> list[Result]:
    return [found[row] for row in (f"{task.name}_{seed}" for seed in range(SEEDS)) if row in found]


def summary(task: Task, found: dict[str, Result]) -> str:
    """One line: accuracies against the float model, work and instructions against the unpruned integer network."""
    mine, start = _of(task, found), _of(TASKS[0], found)
    if not mine or not start:
        return f"| {task.name} | not measured | | | | | | | |"
    given = 100 * statistics.fmean(r["accuracy"]["float"] for r in mine)
    scores = [100 * (r["accuracy"]["float"] if task.share is None else r["pruned"]) for r in mine]
    integer = 100 * statistics.fmean(r["accuracy"]["integer"] for r in mine)
    macs, instructions = (
        statistics.fmean(r[key] for r in mine) / statistics.fmean(r[key] for r in start) for key in ("macs", "instructions")
    )
    gap = statistics.fmean(scores) - given
    met = task.share is None or (macs <= task.share + 5e-4 and gap >= -(task.within or 0.0) and abs(instructions / macs - 1) <= 0.1)
    cells = [task.name, f"{statistics.fmean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f}), {len(mine)} seeds", f"{gap:+.2f}"]
    cells += [f"{-task.within:.1f}" if task.within is not None else "", f"{integer:.2f}", f"{macs:.3f}", f"{instructions:.3f}"]
    cells += [f"{max(r['seconds'] for r in mine):.0f}", "yes" if met else "NO"]
    return f"| {' | '.join(cells)} |"


def table(found: dict[str, Result]) -> str:
    """The results as Markdown."""
    lines = [
        "# Structured pruning",
        "",
        "MLPerf Tiny's float ResNet-8 on CIFAR-10, 18,000 training images, tested on 5,000, by `python benchmarks/pruning.py`; 2 cores.",
        "The float model as it was given is what the rows are compared with; it was not trained further. MACs and instructions are",
        "shares of those of `start`, which is the same network made an int8 one. Instructions are emulated on nano33ble; no physical board",
        "was used. A row holds where its MACs are at most the share that was wanted, its float accuracy is within the points that are",
        "allowed, and its instructions fall in proportion to its MACs, within 10 %.",
        "",
        "| row | float top-1 after pruning, % | against the start | allowed | int8, % | MACs | instructions | longest run, s | holds |",
        "|---|---|---|---|---|---|---|---|---|",
        *(summary(task, found) for task in TASKS),
        "",
        "## Every run",
        "",
        "| row | float | pruned | int8 | MACs | instructions | flash | RAM | .tflite B | parity | seconds | CPU s | date | command |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_detail(row, found[row]) for row in ROWS if row in found),
    ]
    return "\n".join(lines) + "\n"


def _detail(row: str, r: Result) -> str:
    scores = (r["accuracy"]["float"], r["pruned"], r["accuracy"]["integer"])
    cells = [row, *(None if s is None else f"{100 * s:.2f}" for s in scores), r["macs"], r["instructions"]]
    cells += [(r[key] or {}).get("total") for key in ("flash", "ram")]
    cells += [r["tflite_bytes"], mismatches(r), f"{r['seconds']:.0f}", r.get("cpu_seconds"), r["date"]]
    return table_line(cells, RUNS.command(row))


RUNS = Runs("pruning", FOLDER, {row: arguments(task, seed) for row, (task, seed) in ROWS.items()}, kept, table)


if __name__ == "__main__":
    RUNS.main()
