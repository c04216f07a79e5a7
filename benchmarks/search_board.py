"""What a search says of its network on the board before it is trained, against what the trained one takes there, one row a search.

Example:
    TINYKIT_DATA=folder python benchmarks/search_board.py             # every row that has no result yet
    TINYKIT_DATA=folder python benchmarks/search_board.py har_4       # one row, again
    python benchmarks/search_board.py --table                         # only write the table again

A row is `python -m tinykit.search` as it comes, with recipe mixed_precision, once with weights of 8 bits and the configuration's own
budget, once with 4 bits and less flash. Results are appended to benchmarks/search_board.jsonl (the last of a row counts) and shown in
benchmarks/search_board.md.
"""

import json
from pathlib import Path

from rows import PARITIES, Result, Runs, mismatches, refuse_unreal, table_line

FOLDER = Path("runs/search_board")
SHARES = {"flash": 0.03, "ram": 0.03, "cycles": 0.15}
"""How far a prediction may be from what it predicts, as a share of that."""
BYTES = 1536
"""How far a prediction of flash may be all the same."""


def _arguments(config: str, *sets: str) -> list[str]:
    return ["--config", config, *(word for s in ("recipe=mixed_precision", *sets) for word in ("--set", s)), "--seed", "0"]


ROWS = {
    "words3_8": _arguments("search_words3"),
    "words3_4": _arguments("search_words3", "search.weight_bits=4", "budget.flash=14kB"),
    "wakewords5_8": _arguments("search_wakewords5"),
    "wakewords5_4": _arguments("search_wakewords5", "search.weight_bits=4", "budget.flash=14kB"),
    "har_8": _arguments("search_har"),
    "har_4": _arguments("search_har", "search.weight_bits=4", "budget.flash=11kB"),
    "cifar10_8": _arguments("search_cifar10"),
}


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps. Raises SystemExit where the run is no result."""
    refuse_unreal(row, metrics)
    result = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    layers = [text.split(",") for text in (folder / "run" / "layers.csv").read_text(encoding="utf-8").splitlines()]
    at = layers[0].index("weight_bits")
    bits = [int(r[at]) for r in layers[1:] if r[at] != "0"]
    keys = ("accuracy", "macs", "parity", "budget_met")
    return (
        {key: metrics[key] for key in keys} | {key: result[key] for key in ("counted", "twin", "predicted", "real")} | {"weight_bits": bits}
    )


def off(result: Result, kind: str) -> float:
    """By which share a prediction is too large."""
    return float(result["predicted"][kind]) / result["real"][kind] - 1


def missed(result: Result) -> list[str]:
    """What does not hold of a row; nothing where all does."""
    found = [kind for kind, share in SHARES.items() if abs(off(result, kind)) > share]
    if "flash" in found and abs(result["predicted"]["flash"] - result["real"]["flash"]) <= BYTES:
        found.remove("flash")
    exact = all(not result["parity"][key] for key in PARITIES)
    return found + (["bytes"] if not exact else []) + (["budget"] if not result["budget_met"] else [])


def _cells(row: str, r: Result) -> list[object]:
    sizes = [f"{r['predicted'][kind]:,} / {r['real'][kind]:,} ({off(r, kind):+.1%})" for kind in SHARES]
    scores = [f"{100 * r['accuracy'][kind]:.2f}" for kind in ("float", "integer")]
    bits = " ".join(map(str, r["weight_bits"]))
    return [
        row,
        *scores,
        f"{r['macs']:,}",
        bits,
        *sizes,
        mismatches(r),
        f"{r['seconds']:.0f}",
        ", ".join(missed(r)) or "all holds",
        r["date"],
    ]


def table(found: dict[str, Result]) -> str:
    """The results as Markdown."""
    heading = ("row", "float", "integer", "MACs", "weight bits", *(f"{kind}, predicted / real" for kind in SHARES))
    heading += ("parity", "seconds", "missed", "date", "command")
    lines = [
        "# Predictions of a search, and what its network takes",
        "",
        "`python benchmarks/search_board.py`: each row is one whole search; everything is emulated (nano33ble), no physical board was",
        "used. Predicted: of the winner before its final training, through the recipe's integer step, linked and run. Real: of the trained",
        f"network. Wanted: flash within {SHARES['flash']:.0%} or {BYTES:,} bytes, RAM within {SHARES['ram']:.0%}, cycles within "
        f"{SHARES['cycles']:.0%}, no byte that differs, the budget kept.",
        "",
        f"| {' | '.join(heading)} |",
        "|---" * len(heading) + "|",
        *(table_line(_cells(row, found[row]), RUNS.command(row)) for row in ROWS if row in found),
    ]
    return "\n".join(lines) + "\n"


RUNS = Runs("search_board", FOLDER, ROWS, kept, table, module="tinykit.search", metrics="run/metrics.json")


if __name__ == "__main__":
    RUNS.main()
