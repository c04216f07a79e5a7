"""Accuracy at 8, 4 and 2 bits against a float model that was trained as long on the same images, one row each, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py                   # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py optimum_35_0      # one row, again; needs the run of start_0
    python benchmarks/mixed_precision.py --table                               # only write the table again

The network is MLPerf Tiny's float ResNet-8. Results are appended to benchmarks/mixed_precision.jsonl (the last of a row counts) and shown
in benchmarks/mixed_precision.md. Budgets are of the linked engine; the allocators get nothing else.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from rows import Result, Runs, measured, mismatches, table_line

SEEDS = 3
GIVEN = "$TINYKIT_DATA/reference_models/ic_pretrainedResnet.h5"
FOLDER = Path("runs/bits")
EPOCHS, RATE = 7, 0.001


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: without the seed.
        settings: what is set beside the common settings.
        within: how many points below the float model are allowed; None for the float models themselves.
        share: of the int8 network's constants (weights and per-channel tables) at most; None for no limit.
        given: a float model, trained further as it was given; the others start from row `start` of the same seed.
    """

    name: str
    settings: tuple[str, ...]
    within: float | None = None
    share: float | None = None
    given: bool = False


def _float(epochs: int) -> tuple[str, ...]:
    steps = ("when=always", "keep=last", f"epochs={epochs}", f"learning_rate={RATE}")
    return ("recipe=float", *(f"steps.train.{option}" for option in steps))


def _quantize(*settings: str) -> tuple[str, ...]:
    return ("recipe=int8", *(f"steps.quantize.{option}" for option in (f"epochs={EPOCHS}", f"learning_rate={RATE}", *settings)))


def _budget(allocator: str, flash: str) -> tuple[str, ...]:
    return (*_quantize(f"bits={allocator}"), f"budget.flash={flash}")


START = Task("start", _float(EPOCHS), given=True)
FLOAT = Task("float", _float(2 * EPOCHS), given=True)
INT8 = Task("w8a8", _quantize(), within=0.2)
TASKS = (
    START,
    FLOAT,
    INT8,
    Task("w4a8", _quantize("bits={'*': 4}", "harm_limit=0.1"), within=0.5),
    Task("w4a4", _quantize("bits={'*': 4, '*/output': 4}", "harm_limit=0.1", "output_harm_limit=0.01"), within=1.0),
    Task("rule_50", _budget("rule", "48kB"), within=0.7, share=0.50),
    Task("optimum_50", _budget("optimum", "48kB"), within=0.7, share=0.50),
    Task("rule_35", _budget("rule", "35kB"), within=1.2, share=0.35),
    Task("optimum_35", _budget("optimum", "35kB"), within=1.2, share=0.35),
    Task("rule_27", _budget("rule", "27kB"), within=2.5, share=0.27),
    Task("optimum_27", _budget("optimum", "27700"), within=2.5, share=0.27),
)
ROWS = {f"{task.name}_{seed}": (task, seed) for seed in range(SEEDS) for task in TASKS}


def _arguments(task: Task, seed: int) -> list[str]:
    model = GIVEN if task.given else f"{FOLDER / f'start_{seed}'}/model.keras"
    sets = (f"model.path={model}", *task.settings)
    return ["--config", "cifar10", *(word for s in sets for word in ("--set", s)), "--seed", str(seed)]


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run's metrics and of its layers.csv. Raises SystemExit where the run is no result."""
    found = measured(row, metrics, "accuracy", "parity", "flash", "ram", "instructions", "tflite_bytes", "seed")
    if ROWS[row][0].given:
        return found | {"weight_bits": [], "activation_bits": []}
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


def _score(task: Task, result: Result) -> float:
    """Top-1 in percent."""
    score: float = result["accuracy"]["float" if task.given else "integer"]
    return 100 * score


def summary(task: Task, found: dict[str, Result]) -> str:
    """One line of the first table."""
    mine, whole = _of(task, found), _of(INT8, found)
    floats = [r for r in _of(FLOAT, found) if r["seed"] in {m["seed"] for m in mine}]
    if not mine:
        return f"| {task.name} | not measured | | | | | | |"
    scores = [_score(task, r) for r in mine]
    spread = f"{statistics.fmean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f}), {len(mine)} seed{'s' * (len(mine) > 1)}"
    if task.given or not floats:
        return f"| {task.name} | {spread} | | | | | | |"
    gap = statistics.fmean(scores) - statistics.fmean(_score(FLOAT, r) for r in floats)
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
        f"`python benchmarks/mixed_precision.py`. `start` is {EPOCHS} epochs of float training; each integer row goes on from there for",
        f"{EPOCHS} more. `float`, which they are compared with, is trained as long, {2 * EPOCHS} epochs, on the same images; the model as",
        "it was given scores 86.82 %. Settings were chosen with test figures of seed 0 in sight. Constants are the linked image's weights",
        "and per-channel tables; the share is of those of w8a8. Flash and RAM are of the linked engine, emulated on nano33ble; no physical",
        "board was used.",
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
    cells = [row, f"{_score(task, r):.2f}", " ".join(map(str, r["weight_bits"])), " ".join(map(str, r["activation_bits"]))]
    cells += [(r[key] or {}).get("total") for key in ("flash", "ram")]
    cells += [r["instructions"], r["tflite_bytes"], mismatches(r), f"{r['seconds']:.0f}", r["date"]]
    return table_line(cells, RUNS.command(row))


RUNS = Runs("mixed_precision", FOLDER, {row: _arguments(*of) for row, of in ROWS.items()}, kept, table)


if __name__ == "__main__":
    RUNS.main()
