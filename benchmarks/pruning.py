"""Structured pruning against the network that it starts from, one row a run, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/pruning.py              # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/pruning.py prune_50_0   # one row, again
    python benchmarks/pruning.py --table                          # only write the table again

Results are appended to benchmarks/pruning.jsonl (the last of a row counts) and shown in benchmarks/pruning.md.
"""

from dataclasses import dataclass
from pathlib import Path

from resnet import START, Task, Tasks, accuracy_after, ratio, scores
from rows import Result, Runs, measured, mismatches, table_line

FOLDER = Path("runs/pruning")
WITHIN = 1.1
"""How much more than the share of multiply-accumulates that is wanted the share of instructions may be."""
AIM = 1.09
"""What is asked for: instructions are counted before training, whose weights change some kernels a little."""

LONG = ("learning_rate=0.003", "distill=1.0", "mix=0.5", "repeat_after=16", "keep=last")
"""For trainings of many epochs: the teacher alone, on sums of two images, which come again after 16 epochs. It knows the images of val,
which therefore cannot tell epochs apart: the last one is kept, whose learning rate is the least."""
LABELS = ("epochs=12", "learning_rate=0.001", "distill=0.25", "temperature=2.0", "keep=last")
"""For what comes after: mostly the labels, on single images, which the network has not learned by heart."""
INTEGERS = ("epochs=4", "learning_rate=0.001", "distill=0.25")
"""For the integers of what is left, which cost a narrow network more than a wide one: mostly the labels, and steps as long as before."""


@dataclass(frozen=True)
class Pruned(Task):
    """A row of the table; `share` of the multiply-accumulates may be left, WITHIN times it of the instructions; None: nothing is pruned."""

    share: float | None = None


def _pruned(name: str, share: float, within: float, epochs: int) -> Pruned:
    cut = (f"macs={share}", f"instructions={share * AIM:.4f}", f"epochs={epochs}", "rounds=2", *LONG)
    options = {"prune": cut, "distill": LABELS, "quantize": INTEGERS}
    sets = (f"steps.{step}.{option}" for step, more in options.items() for option in more)
    return Pruned(name, ("recipe=[train, prune, distill, quantize]", *sets), "distill", within, share)


TASKS = Tasks(
    (
        Pruned(START.name, START.settings),
        _pruned("prune_50", 0.5, 1.5, 75),
        _pruned("prune_33", 0.3333, 4.0, 60),
    )
)


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run. Raises SystemExit where it is no result."""
    found = measured(row, metrics, "accuracy", "parity", "flash", "ram", "macs", "instructions", "tflite_bytes", "seed")
    return found | {"pruned": accuracy_after(TASKS.rows[row][0].step, folder)}


def summary(task: Pruned, found: dict[str, Result]) -> str:
    """One line: accuracies against the float model, work and instructions against the unpruned integer network."""
    mine, start = TASKS.of(task, found), TASKS.of(TASKS.tasks[0], found)
    if not mine or not start:
        return f"| {task.name} | not measured | | | | | | | | |"
    reached = scores(task, mine, "pruned")
    macs, instructions = (ratio(key, mine, start) for key in ("macs", "instructions"))
    small = task.share is None or (macs <= task.share + 5e-4 and instructions <= WITHIN * task.share + 5e-4)
    falls = "" if task.share is None else f"{(1 - instructions) / (1 - macs):.3f}"
    cells = [*reached.cells(task), f"{macs:.3f}", f"{instructions:.3f}", falls, f"{max(r['seconds'] for r in mine):.0f}"]
    met = small and (task.within is None or reached.gap >= -task.within)
    return f"| {' | '.join([*cells, 'yes' if met else 'NO'])} |"


def table(found: dict[str, Result]) -> str:
    """The results as Markdown."""
    lines = [
        "# Structured pruning",
        "",
        "MLPerf Tiny's float ResNet-8 on CIFAR-10, 18,000 training images, tested on 5,000, by `python benchmarks/pruning.py`; 2 cores.",
        "The float model as it was given is what the rows are compared with; it was not trained further. MACs and instructions are",
        "shares of those of `start`, which is the same network made an int8 one. Instructions are emulated on nano33ble; no physical board",
        "was used. A row holds where its MACs are at most the share that was wanted, its float accuracy is within the points that are",
        "allowed, and its share of the instructions is at most the share of the MACs that was wanted, and a tenth of that.",
        "Falls: how much of the instructions is gone for each part of the MACs that is gone.",
        "Seconds are those of all steps. Where CPU s is n/a, the float steps were taken over from a run that began alike.",
        "",
        "| row | float top-1 pruned, % | against the start | allowed | int8, % | MACs | instructions | falls | longest run, s | holds |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(summary(task, found) for task in TASKS.tasks),
        "",
        "## Every run",
        "",
        "| row | float | pruned | int8 | MACs | instructions | flash | RAM | .tflite B | parity | seconds | CPU s | date | command |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_detail(row, found[row]) for row in TASKS.rows if row in found),
    ]
    return "\n".join(lines) + "\n"


def _detail(row: str, r: Result) -> str:
    scores = (r["accuracy"]["float"], r["pruned"], r["accuracy"]["integer"])
    cells = [row, *(None if s is None else f"{100 * s:.2f}" for s in scores), r["macs"], r["instructions"]]
    cells += [(r[key] or {}).get("total") for key in ("flash", "ram")]
    cells += [r["tflite_bytes"], mismatches(r), f"{r['seconds']:.0f}", r.get("cpu_seconds"), r["date"]]
    return table_line(cells, RUNS.command(row))


RUNS = Runs("pruning", FOLDER, TASKS.arguments(), kept, table)


if __name__ == "__main__":
    RUNS.main()
