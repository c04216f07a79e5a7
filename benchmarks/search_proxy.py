"""How well multiply-accumulates predict the engine's emulated cycles within a backbone, and how far counted bytes are from linked ones.

Examples:
    python benchmarks/search_proxy.py                    # all backbones
    python benchmarks/search_proxy.py search_kws --count 8
    python benchmarks/search_proxy.py --table            # writes the table again

Random architectures of the spaces of configs/search_*.yaml, untrained, int8; each is planned, linked and run once on the emulated board,
with every byte compared with the reference executor. Rows are kept in benchmarks/search_proxy.jsonl: the same command goes on where it
ended. Writes benchmarks/search_proxy.md.
"""

import argparse
import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rows import append, read

from tinykit.boards.table import Budget, emulated_board
from tinykit.config.loading import load_config
from tinykit.data.preprocess import Chain
from tinykit.data.registry import load_dataset
from tinykit.engine.goal import BALANCED
from tinykit.errors import ConfigError
from tinykit.search.costs import CostModel
from tinykit.search.predict import Target, predict
from tinykit.search.space import Space

HERE = Path(__file__).parent
ROWS = HERE / "search_proxy.jsonl"
BACKBONES = {
    "search_kws": "DS-CNN, 49 x 10 features",
    "search_har": "one-dimensional, windows of 128 x 9",
    "search_cifar10": "MobileNetV1 and V2 blocks, 32 x 32",
    "search_digits": "convolutions and separable blocks, 8 x 8",
    "search_vww": "MobileNetV2, 96 x 96",
}
_MOST_DRAWS = 10_000
_HEAD = """\
# What the search counts, and what the board does

{day}, `python benchmarks/search_proxy.py`. Everything is **emulated** (nano33ble), no physical board; cycles are the cycle model's.

Random architectures of the space of each configuration (every choice of every decision equally likely), untrained, int8, engine `balanced`.
r squared: of a straight line through multiply-accumulates and cycles. Error: of that line, in percent of the cycles. Gap: linked flash less
counted weights, biases, multipliers and shifts (12 bytes a channel beside the weights), and RAM of image and run less counted activations,
in bytes: least, median, most.

| configuration | backbone | networks | MACs | cycles | r squared | error, median | error, most | gap of flash | gap of RAM |
|---|---|---|---|---|---|---|---|---|---|
"""


def space_of(name: str) -> Space:
    """The space of a configuration; only the shape of its data matters."""
    config = load_config(name).config
    if config.search is None:
        raise ConfigError(f"{name}: has no section `search`")
    data = load_dataset(config.data.name, config.data.options, seed=0, quicktest=True)
    shape = Chain.parse(config.data.preprocess).output_shape(data.input_shape)
    return Space(config.search.stages, shape, len(data.class_names))


def measure(name: str, count: int) -> None:
    """Adds the rows of a backbone that are missing."""
    space = space_of(name)
    costs, rng = CostModel(space), np.random.default_rng(0)
    target = Target(emulated_board(None), Budget(None, None), BALANCED)
    known = {row["key"] for row in read(ROWS) if row["config"] == name}
    for number in range(count):
        indices = space.drawn(rng)
        architecture = space.architecture(indices)
        if architecture.key in known:
            continue
        found = predict(architecture.options(), space.input_shape, space.classes, target)
        counted = costs(space.one_hot(indices)).as_dict()
        append(ROWS, {"config": name, "key": architecture.key, "counted": counted, "found": found.as_dict()})
        print(f"{name} {number + 1}/{count}: {architecture}: {counted['macs']:,} MACs, {found.cycles or 0:,} cycles", flush=True)


def counted_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a backbone that could be linked, counted as the search counts today."""
    space, rng = space_of(name), np.random.default_rng(0)
    costs, known = CostModel(space), {row["key"]: row for row in read(ROWS) if row["config"] == name and row["found"]["cycles"]}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(_MOST_DRAWS):
        indices = space.drawn(rng)
        row = known.get(space.architecture(indices).key)
        if row is not None:
            found[row["key"]] = {**row, "counted": costs(space.one_hot(indices)).as_dict()}
        if len(found) == len(known):
            return list(found.values())
    raise ConfigError(f"{ROWS}: has rows of {name} that its space does not draw; delete them")


def line(name: str, rows: list[dict[str, Any]]) -> str:
    """The table's row of a backbone."""
    macs, cycles = (np.array(v, float) for v in zip(*((r["counted"]["macs"], r["found"]["cycles"]) for r in rows)))
    fit = np.polyval(np.polyfit(macs, cycles, 1), macs)
    r2 = 1 - np.sum((cycles - fit) ** 2) / np.sum((cycles - cycles.mean()) ** 2)
    errors = 100 * np.abs(fit - cycles) / cycles
    gaps = {kind: np.array([r["found"][kind] - r["counted"][kind] for r in rows]) for kind in ("flash", "ram")}
    shown = [f"{int(g.min()):,}, {int(np.median(g)):,}, {int(g.max()):,}" for g in gaps.values()]
    spans = [f"{v.min() / 1e6:.2f} to {v.max() / 1e6:.2f} M" for v in (macs, cycles)]
    cells = [name, BACKBONES[name], len(rows), *spans, f"{r2:.4f}", f"{np.median(errors):.1f} %", f"{errors.max():.1f} %", *shown]
    return f"| {' | '.join(map(str, cells))} |\n"


def main() -> None:
    """Measures what the command line names, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", help=f"of {', '.join(BACKBONES)}")
    parser.add_argument("--count", type=int, default=24, help="networks of each")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    unknown = [name for name in options.configs if name not in BACKBONES]
    if unknown:
        raise SystemExit(f"no such configuration: {', '.join(unknown)}; there are {', '.join(BACKBONES)}")
    for name in [] if options.table else options.configs or BACKBONES:
        measure(name, options.count)
    found = {name: counted_rows(name) for name in BACKBONES}
    body = "".join(line(name, rows) for name, rows in found.items() if len(rows) > 2)
    (HERE / "search_proxy.md").write_text(_HEAD.format(day=datetime.date.today().isoformat()) + body, encoding="utf-8")


if __name__ == "__main__":
    main()
