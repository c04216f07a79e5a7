"""Decomposition of a plain network against the network that it starts from and against narrower ones, one row a run, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/decomposition.py             # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/decomposition.py narrow_0    # one row, again; start_0 has to be there for some
    python benchmarks/decomposition.py --table                         # only write the table again

Results are appended to benchmarks/decomposition.jsonl (the last of a row counts) and shown in benchmarks/decomposition.md.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from rows import Result, Runs, last_float, measured, mismatches, table_line

FOLDER = Path("runs/decomposition")
SEEDS = 3
FLOAT_EPOCHS, MORE_EPOCHS = 24, 8
WIDE, NARROW = "[64, 64, 128, 128]", "[44, 44, 92, 88]"
"""Filters of four 3x3 convolutions, 39.6 and 19.7 million multiply-accumulates."""
LEAST, WITHIN, SHARE = 0.78, 1.0, 0.5
"""Float accuracy that the start must have, points that may be lost, share of the multiply-accumulates that may be left."""


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: of the row.
        settings: what is set beside data and model.
        filters: of a network from scratch; None: the float network that `start` left.
        about: a line of the table's legend.
    """

    name: str
    settings: tuple[str, ...]
    filters: str | None
    about: str


def _after(recipe: str, step: str, *more: str) -> tuple[str, ...]:
    return (f"recipe={recipe}", f"steps.{step}.epochs={MORE_EPOCHS}", *more)


TASKS = (
    Task("start", ("recipe=int8", f"steps.train.epochs={FLOAT_EPOCHS}"), WIDE, f"the plain network, {FLOAT_EPOCHS} epochs"),
    Task("longer", ("recipe=int8", f"steps.train.epochs={FLOAT_EPOCHS + MORE_EPOCHS}"), WIDE, "the same, as long as all that follow"),
    Task("decompose", _after("decompose_quantize", "decompose"), None, f"`start`'s layers as chains, {MORE_EPOCHS} epochs with its logits"),
    Task("attention", _after("decompose_distill_quantize", "distill"), None, "the same, taught by its inner tensors too"),
    Task("prune", _after("prune_quantize", "prune", "steps.prune.rounds=1"), None, f"`start` pruned, {MORE_EPOCHS} epochs likewise"),
    Task(
        "narrow", ("recipe=int8", f"steps.train.epochs={FLOAT_EPOCHS + MORE_EPOCHS}"), NARROW,
        f"as many MACs from the beginning, {FLOAT_EPOCHS + MORE_EPOCHS} epochs",
    ),
)  # fmt: skip
ROWS = {f"{task.name}_{seed}": (task, seed) for seed in range(SEEDS) for task in TASKS}


def arguments(task: Task, seed: int) -> list[str]:
    """Of a row's run."""
    if task.filters is None:
        model = [f"model.path={FOLDER}/start_{seed}/steps/01_train/model.keras"]
    else:
        model = ["model.name=cnn", f"model.options={{filters: {task.filters}, strides: [1, 2, 1, 2]}}"]
    return ["--config", "cifar10", *(word for s in (*model, *task.settings) for word in ("--set", s)), "--seed", str(seed)]


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run. Raises SystemExit where it is no result."""
    found = measured(row, metrics, "accuracy", "parity", "flash", "ram", "macs", "instructions", "tflite_bytes", "seed")
    last = last_float(folder)
    return found | {"smaller": last["accuracy"], "float_macs": last["footprint"]["macs"]}


def _of(task: Task, found: dict[str, Result]) -> list[Result]:
    return [found[row] for row in (f"{task.name}_{seed}" for seed in range(SEEDS)) if row in found]


def _mean(results: list[Result], key: str) -> float:
    return statistics.fmean(r[key] for r in results)


def summary(task: Task, found: dict[str, Result]) -> str:
    """One line: means over the seeds, and shares of the network that `start` is."""
    mine, start = _of(task, found), _of(TASKS[0], found)
    if not mine or not start:
        return f"| {task.name} | not measured | | | | | | | {task.about} |"
    before, now = 100 * _mean(start, "smaller"), 100 * _mean(mine, "smaller")
    integer = 100 * statistics.fmean(r["accuracy"]["integer"] for r in mine)
    scores = [100 * r["smaller"] for r in mine]
    macs, instructions = (_mean(mine, key) / _mean(start, key) for key in ("macs", "instructions"))
    flash = statistics.fmean(r["flash"]["total"] for r in mine) / statistics.fmean(r["flash"]["total"] for r in start)
    cells = [task.name, f"{now:.2f} ({min(scores):.2f} to {max(scores):.2f}), {len(mine)} seeds", f"{now - before:+.2f}", f"{integer:.2f}"]
    cells += [f"{macs:.3f}", f"{instructions:.3f}", f"{flash:.3f}", f"{max(r['seconds'] for r in mine):.0f}", task.about]
    return f"| {' | '.join(cells)} |"


def verdict(found: dict[str, Result]) -> list[str]:
    """Whether what is wanted of the chains holds, and who wins at equal multiply-accumulates; sentences."""
    start, chains, narrow = (_of(task, found) for task in (TASKS[0], TASKS[2], TASKS[5]))
    if not (start and chains and narrow):
        return ["Not all rows were measured; nothing can be said."]
    before, now, rival = (100 * _mean(results, "smaller") for results in (start, chains, narrow))
    share = _mean(chains, "macs") / _mean(start, "macs")
    seeds = f"{min(map(len, (start, chains, narrow)))} of {SEEDS} seeds"
    met = before >= 100 * LEAST and before - now <= WITHIN and share <= SHARE + 5e-4
    wins = "the chains win" if now > rival else "the narrower network wins" if rival > now else "neither wins"
    return [
        f"Wanted: a start of at least {100 * LEAST:.0f} %, at most half of its multiply-accumulates, at most {WITHIN:.0f} point lost: "
        f"{'this holds' if met else 'this does NOT hold'} ({before:.2f} %, {share:.3f}, {now - before:+.2f} points; {seeds}).",
        f"At equal multiply-accumulates and equally many epochs {wins}: {now:.2f} against {rival:.2f} % ({seeds}).",
    ]


def table(found: dict[str, Result]) -> str:
    """The results as Markdown."""
    lines = [
        "# Decomposition",
        "",
        f"A plain network of four 3x3 convolutions ({WIDE[1:-1]} channels) on CIFAR-10, 18,000 training images, tested on 5,000, by",
        "`python benchmarks/decomposition.py`; 2 cores. Shares are of `start`. Instructions are emulated on nano33ble; no physical board",
        "was used. Float accuracy is that of the last float network, before it was made an int8 one.",
        "",
        *(f"* {sentence}" for sentence in verdict(found)),
        "",
        "| row | float top-1, % | against the start | int8, % | MACs | instructions | flash | longest run, s | what it is |",
        "|---|---|---|---|---|---|---|---|---|",
        *(summary(task, found) for task in TASKS),
        "",
        "## Every run",
        "",
        "| row | float | int8 | MACs | instructions | flash | RAM | .tflite B | parity | seconds | CPU s | date | command |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_detail(row, found[row]) for row in ROWS if row in found),
    ]
    return "\n".join(lines) + "\n"


def _detail(row: str, r: Result) -> str:
    cells = [row, f"{100 * r['smaller']:.2f}", f"{100 * r['accuracy']['integer']:.2f}", r["macs"], r["instructions"]]
    cells += [(r[key] or {}).get("total") for key in ("flash", "ram")]
    cells += [r["tflite_bytes"], mismatches(r), f"{r['seconds']:.0f}", r.get("cpu_seconds"), r["date"]]
    return table_line(cells, RUNS.command(row))


RUNS = Runs("decomposition", FOLDER, {row: arguments(task, seed) for row, (task, seed) in ROWS.items()}, kept, table)


if __name__ == "__main__":
    RUNS.main()
