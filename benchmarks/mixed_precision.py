"""Accuracy at 8, 4 and 2 bits against a float model that was trained as long on the same data, one row each, resumable.

Example:
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py                   # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/mixed_precision.py optimum_35_0      # one row, again; needs the run of start_0
    python benchmarks/mixed_precision.py --table                               # only write the table again

Results are appended to benchmarks/mixed_precision.jsonl (the last of a row counts) and shown in benchmarks/mixed_precision.md. Budgets are
of the linked engine; the allocators get nothing else.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from rows import Result, Runs, measured, mismatches, table_line

FOLDER = Path("runs/bits")


@dataclass(frozen=True)
class Task:
    """A row of a table.

    Attributes:
        name: of the row.
        settings: what is set beside the common settings.
        within: how many points below the float model are allowed; None for the float models themselves.
        share: of the int8 network's constants (weights and per-channel tables) at most; None for no limit.
    """

    name: str
    settings: tuple[str, ...]
    within: float | None = None
    share: float | None = None

    @property
    def is_float(self) -> bool:
        """Whether a float model is trained."""
        return self.settings[0] == "recipe=float"


@dataclass(frozen=True)
class Network:
    """A table: rows that start from one float training.

    Attributes:
        config: its configuration.
        title: what is compared, for the reader.
        epochs, rate: of the integer training.
        budgets: name -> (flash, share of the int8 network's constants that is wanted, points below float that are allowed).
        start: settings of the float training that every row but `float` begins with.
        baseline: settings of the float training of row `float`, after `start` where that is not `given`.
        seeds: how many.
        given: a float model that `start` and `float` begin with; else `start` trains from scratch and `float` goes on from it.
        by_hand: further options of `quantize` where bits are not chosen under a budget.
        chosen_rate: learning rate where they are; None: `rate`.
    """

    config: str
    title: str
    epochs: int
    rate: float
    budgets: dict[str, tuple[str, float, float]]
    start: tuple[str, ...]
    baseline: tuple[str, ...]
    seeds: int = 1
    given: str = ""
    by_hand: tuple[str, ...] = ()
    chosen_rate: float | None = None

    @property
    def prefix(self) -> str:
        """Of the names of its rows."""
        return "" if self.given else f"{self.config}_"

    def tasks(self) -> list[Task]:
        """Its rows without seeds: the float models first, then int8."""

        def quantize(*settings: str, rate: float = self.rate) -> tuple[str, ...]:
            options = (f"epochs={self.epochs}", f"learning_rate={rate}", *settings)
            return ("recipe=int8", *(f"steps.quantize.{option}" for option in options))

        found = [Task("start", ("recipe=float", *self.start)), Task("float", ("recipe=float", *self.baseline))]
        found.append(Task("w8a8", quantize(*self.by_hand), 0.2))
        found.append(Task("w4a8", quantize(*self.by_hand, "bits={'*': 4}", "harm_limit=0.1"), 0.5))
        four = quantize(*self.by_hand, "bits={'*': 4, '*/output': 4}", "harm_limit=0.1", "output_harm_limit=0.01")
        found.append(Task("w4a4", four, 1.0))
        for name, (flash, share, within) in self.budgets.items():
            allocator = name.split("_")[0]
            spared = ("harm_limit=1.0",) if allocator == "rule" else ()
            bits = quantize(f"bits={allocator}", *spared, rate=self.chosen_rate or self.rate)
            found.append(Task(name, (*bits, f"budget.flash={flash}", "engine.optimize=size"), within, share))
        return found

    def arguments(self, task: Task, seed: int) -> list[str]:
        """Of a row's run."""
        start = f"{FOLDER / f'{self.prefix}start_{seed}'}/model.keras"
        model = self.given if task.is_float else start
        if not self.given:
            model = "" if task.name == "start" else start
        sets = (*((f"model.path={model}",) if model else ()), *task.settings)
        return ["--config", self.config, *(word for s in sets for word in ("--set", s)), "--seed", str(seed)]


def _train(epochs: int, rate: float) -> tuple[str, ...]:
    """A float training that goes on from a model."""
    return tuple(f"steps.train.{option}" for option in ("when=always", "keep=last", f"epochs={epochs}", f"learning_rate={rate}"))


ALLOWED = {"50": 0.7, "35": 1.2, "27": 2.5}
"""Points below float, by percent of int8's constants."""


def _from_scratch(
    config: str, title: str, epochs: int, rate: float, by_hand: tuple[str, ...] = (), chosen_rate: float | None = None, **flash: str
) -> Network:
    title += f", from scratch: `start` is the configuration's own training; each integer row, and `float`, goes on for {epochs} epochs."
    budgets = {name: (size, float(name[-2:]) / 100, ALLOWED[name[-2:]]) for name, size in flash.items()}
    return Network(config, title, epochs, rate, budgets, (), _train(epochs, rate), by_hand=by_hand, chosen_rate=chosen_rate)


NETWORKS = (
    Network(
        "cifar10",
        "MLPerf Tiny's float ResNet-8, trained further on 18,000 images of CIFAR-10 and tested on 5,000. `start` is 7 epochs of float "
        "training, each integer row goes on from there for 7 more; `float`, which they are compared with, is trained for 14; the model as "
        "it was given scores 86.82 %. Rows under a budget are built with `engine.optimize=size`, where tables a channel are 3 bytes; the "
        "rule has `harm_limit: 1.0`.",
        7,
        0.001,
        {
            f"{allocator}_{share}": (flash, int(share) / 100, ALLOWED[share])
            for share, flash in (("50", "44kB"), ("35", "33300"), ("27", "26600"))
            for allocator in ("rule", "optimum")
        },
        _train(7, 0.001),
        _train(14, 0.001),
        seeds=3,
        given="$TINYKIT_DATA/reference_models/ic_pretrainedResnet.h5",
    ),
    _from_scratch(
        "words3",
        "Three spoken words, a DS-CNN of three blocks (0.416 of int8's constants with 2 bits everywhere)",
        10,
        0.001,
        optimum_50="6950",
    ),
    _from_scratch("wakewords5", "Five wake words, a DS-CNN of two blocks (0.405 with 2 bits everywhere)", 10, 0.001, optimum_50="5700"),
    _from_scratch(
        "har",
        "Human activities (one of 475 windows is 0.21 points), a 1-D convolutional network (0.293 of int8's constants with 2 bits "
        "everywhere), taught by the float one nearly alone where bits are set by hand",
        10,
        0.001,
        ("distill=0.95",),
        optimum_50="8800",
        optimum_35="6900",
    ),
    _from_scratch(
        "fashion_mnist",
        "Fashion-MNIST, a small CNN (0.282 of int8's constants with 2 bits everywhere), without distillation but for rows under a budget "
        "(with it int8 scored 88.90 %, as `start`, which was the teacher; without it weights of 2 bits scored 88.16 %)",
        7,
        0.001,
        ("distill=0.0",),
        optimum_50="9000",
        optimum_35="7300",
    ),
    _from_scratch(
        "person",
        "Persons in 64 x 32 pixels, a small CNN, at three times the learning rate under a budget (else weights of 2 bits scored 93.65 %)",
        10,
        0.001,
        chosen_rate=0.003,
        optimum_50="27000",
        optimum_35="20000",
        optimum_27="15600",
    ),
)
ROWS = {
    f"{network.prefix}{task.name}_{seed}": (network, task, seed)
    for network in NETWORKS
    for seed in range(network.seeds)
    for task in network.tasks()
}


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps of a run's metrics and of its layers.csv. Raises SystemExit where the run is no result."""
    found = measured(row, metrics, "accuracy", "parity", "flash", "ram", "instructions", "tflite_bytes", "seed")
    if ROWS[row][1].is_float:
        return found | {"weight_bits": [], "activation_bits": []}
    layers = [text.split(",") for text in (folder / "layers.csv").read_text(encoding="utf-8").splitlines()]
    weights, outputs = layers[0].index("weight_bits"), layers[0].index("activation_bits")
    return found | {
        "weight_bits": [int(r[weights]) for r in layers[1:] if r[weights] != "0"],
        "activation_bits": [int(r[outputs]) for r in layers[1:]],
    }


def _of(network: Network, name: str, found: dict[str, Result]) -> list[Result]:
    rows = [f"{network.prefix}{name}_{seed}" for seed in range(network.seeds)]
    return [found[row] for row in rows if row in found]


def _constants(result: Result) -> int:
    """Bytes of the linked image's weights and per-channel tables."""
    total: int = result["flash"]["weights"] + result["flash"]["tables"]
    return total


def _score(task: Task, result: Result) -> float:
    """Top-1 in percent."""
    score: float = result["accuracy"]["float" if task.is_float else "integer"]
    return 100 * score


def summary(network: Network, task: Task, found: dict[str, Result]) -> str:
    """One line of a network's table."""
    mine, whole = _of(network, task.name, found), _of(network, "w8a8", found)
    floats = [r for r in _of(network, "float", found) if r["seed"] in {m["seed"] for m in mine}]
    if not mine:
        return f"| {task.name} | not measured | | | | | | |"
    scores = [_score(task, r) for r in mine]
    spread = f"{statistics.fmean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f}), {len(mine)} seed{'s' * (len(mine) > 1)}"
    if task.is_float or not floats:
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
        "Measured on the host, 2 cores, by `python benchmarks/mixed_precision.py`. Constants are the linked image's weights and",
        "per-channel tables; the share is of those of w8a8. Flash and RAM are of the linked engine, emulated on nano33ble; no physical",
        "board was used. CPU seconds are of both cores together: some rows had one of them, or other work beside them, and took",
        "longer. Settings were chosen with test figures of seed 0 in sight.",
    ]
    for network in NETWORKS:
        lines += ["", f"## {network.config}", "", network.title, ""]
        lines += [
            "| row | top-1, % | against float | allowed | constants, B | share of int8 | allowed | holds |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [summary(network, task, found) for task in network.tasks()]
    lines += ["", "## Every run", ""]
    names = "row | top-1 | weight bits | output bits | flash | RAM | instructions | .tflite B | parity | seconds | CPU s | date | command"
    lines += [f"| {names} |"]
    lines += ["|---" * len(names.split(" | ")) + "|"]
    lines += [_detail(row, task, found[row]) for row, (_, task, _) in ROWS.items() if row in found]
    return "\n".join(lines) + "\n"


def _detail(row: str, task: Task, r: Result) -> str:
    cells = [row, f"{_score(task, r):.2f}", " ".join(map(str, r["weight_bits"])), " ".join(map(str, r["activation_bits"]))]
    cells += [(r[key] or {}).get("total") for key in ("flash", "ram")]
    cells += [r["instructions"], r["tflite_bytes"], mismatches(r), f"{r['seconds']:.0f}", r.get("cpu_seconds"), r["date"]]
    return table_line(cells, RUNS.command(row))


RUNS = Runs("mixed_precision", FOLDER, {row: network.arguments(task, seed) for row, (network, task, seed) in ROWS.items()}, kept, table)


if __name__ == "__main__":
    RUNS.main()
