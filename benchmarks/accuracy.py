"""Accuracy and parity of whole runs, one row each, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/accuracy.py                   # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/accuracy.py digits_0 har_2    # these rows, again
    python benchmarks/accuracy.py --table                               # only write the table again

Each row is one `python -m tinykit.train` in its own run directory; a row that was interrupted goes on where it stopped. Results are
appended to benchmarks/accuracy.jsonl (the last of a row counts) and shown in benchmarks/accuracy.md. The result of a quick test, or
of synthetic data, is refused.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from rows import PARITIES, Result, Runs, measured, mismatches, table_line

LIMIT_SECONDS = 20 * 60

# How far the integer model may be from the float one, on average over the seeds.
POINTS, SAMPLES, AREA = 0.3, 2, 0.01


@dataclass(frozen=True)
class Task:
    """One command, run with several seeds.

    Attributes:
        name: the row's name, without the seed.
        arguments: what stands after `python -m tinykit.train`; $TINYKIT_DATA is replaced.
        seeds: how many seeds, from 0 on: 3, or 1 where a run takes more than 5 minutes.
        further: the float model is somebody's, and only the integer one is trained further on these data: their distance says nothing.
    """

    name: str
    arguments: tuple[str, ...]
    seeds: int = 3
    further: bool = False

    @property
    def rows(self) -> dict[str, int]:
        """The seed of each row."""
        return {f"{self.name}_{seed}": seed for seed in range(self.seeds)}


def _reference(file: str, *more: str) -> tuple[str, ...]:
    return ("--set", f"model.path=$TINYKIT_DATA/reference_models/{file}", *more)


TASKS = (
    Task("digits", ("--config", "digits")),
    Task("fashion_mnist", ("--config", "fashion_mnist"), seeds=1),
    Task("cifar10", ("--config", "cifar10"), seeds=1),
    Task("cifar10_reference_ptq", ("--config", "cifar10", *_reference("ic_pretrainedResnet.h5", "--set", "recipe=ptq"))),
    Task("cifar10_reference", ("--config", "cifar10", *_reference("ic_pretrainedResnet.h5")), further=True),
    Task("words3", ("--config", "words3")),
    Task("wakewords5", ("--config", "wakewords5")),
    Task("digits10", ("--config", "digits10")),
    Task("har", ("--config", "har")),
    Task("person_inria", ("--config", "person")),
    Task("ad01", ("--config", "ad")),
    Task("ad01_reference", ("--config", "ad", *_reference("ad01.h5")), seeds=1),
)
SEEDS = {row: seed for task in TASKS for row, seed in task.rows.items()}
TASK_OF = {row: task for task in TASKS for row in task.rows}


def _arguments(row: str) -> list[str]:
    return [*TASK_OF[row].arguments, "--seed", str(SEEDS[row])]


def checked(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run's metrics.

    Raises:
        SystemExit: the run was a quick test, its data were synthetic, its seed is another one, or a parity is missing.
    """
    kept = measured(row, metrics, "accuracy", "disagreements", "parity", "tflite_bytes", "seed")
    if metrics["seed"] != SEEDS[row]:
        raise SystemExit(f"{row}: refused: seed {metrics['seed']}, expected {SEEDS[row]}")
    missing = [key for key in PARITIES if metrics["parity"].get(key) is None]
    if missing:
        raise SystemExit(f"{row}: refused: parity not measured: {', '.join(missing)} (tflite_micro and a compiler are needed)")
    return kept


def allowed(result: Result) -> float:
    """How far apart float and integer may be, in the metric's own unit (a share of 1)."""
    if result["accuracy"]["metric"] == "auc":
        return AREA
    return max(POINTS / 100, SAMPLES / result["test_samples"])


def _score(value: float, metric: str) -> str:
    return f"{value:.4f}" if metric == "auc" else f"{100 * value:.2f} %"


def _mean(found: list[Result], key: str) -> float:
    return statistics.fmean(r["accuracy"][key] for r in found)


def verdict(task: Task, found: list[Result]) -> str:
    """One line of the first table: means over the seeds, and whether the integer model is as near as it should be."""
    metric, limit = found[0]["accuracy"]["metric"], allowed(found[0])
    gap = _mean(found, "integer") - _mean(found, "float")
    shown = f"{gap:+.4f}" if metric == "auc" else f"{100 * gap:+.2f}"
    bound = f"{limit:.2f}" if metric == "auc" else f"{100 * limit:.2f}"
    slowest = max(r["seconds"] for r in found)
    holds = "yes" if abs(gap) <= limit + 1e-12 and slowest <= LIMIT_SECONDS else "NO"
    if task.further:
        bound, holds = "", "not judged"
    name = "AUC" if metric == "auc" else "accuracy"
    cells = [task.name, name, len(found), _score(_mean(found, "float"), metric), _score(_mean(found, "integer"), metric), shown, bound]
    return f"| {' | '.join(map(str, cells))} | {slowest:.0f} | {holds} |"


def detail(row: str, result: Result) -> str:
    """One line of the second table."""
    accuracy = result["accuracy"]
    cells = [row, *(_score(accuracy[key], accuracy["metric"]) for key in ("float", "integer")), result["disagreements"]]
    cells += [result["test_samples"], mismatches(result), result["tflite_bytes"], f"{result['seconds']:.0f}"]
    cells += [result["seed"], result["date"]]
    return table_line(cells, RUNS.command(row))


def table(found: dict[str, Result]) -> str:
    """The results as Markdown."""
    lines = [
        "# Accuracy and parity",
        "",
        "Measured on the host by `python benchmarks/accuracy.py`, 2 cores. Accuracy is top-1 on the whole test split, the integer one that",
        "of the integer graph (which the emulated board and TFLM repeat byte for byte); for ad01 it is the area under the ROC curve.",
        "",
        f"Means over the seeds. The integer model should be within {POINTS} points or {SAMPLES} samples of the float model, whichever is",
        f"more (AUC: within {AREA}), and no run should take more than {LIMIT_SECONDS // 60} minutes. Where a float model that was given is",
        "compared with an integer one that was trained further on these images, nothing is judged; the row with ptq trains neither.",
        "",
        "| task | metric | seeds | float | integer | integer - float | allowed | longest run, s | holds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        mine = [found[row] for row in task.rows if row in found]
        if len(mine) == task.seeds:
            lines.append(verdict(task, mine))
        else:
            lines.append(f"| {task.name} | {len(mine)} of {task.seeds} runs measured | | | | | | | |")
    lines += [
        "",
        "Every run. Disagreements are test samples for which float and integer model choose different classes; mismatches are elements:",
        "Keras against the reference (every tensor), TFLM against the reference, the C engine on the emulated board against the reference.",
        "",
        "| row | float | integer | disagree | samples | mismatches | .tflite B | seconds | seed | date | python -m tinykit.train |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [detail(row, found[row]) for row in SEEDS if row in found]
    return "\n".join(lines) + "\n"


RUNS = Runs("accuracy", Path("runs/bench"), {row: _arguments(row) for row in SEEDS}, checked, table, codes=(0, 3))


if __name__ == "__main__":
    RUNS.main()
