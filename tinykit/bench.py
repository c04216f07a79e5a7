"""Benchmarks a .tflite on emulated boards, layer by layer; or on one board through a serial port, real or emulated.

Examples:
  python -m tinykit.bench --model model.tflite
  python -m tinykit.bench --model model.tflite --board nano33ble --board disco_f746ng --out build
  python -m tinykit.bench --model model.tflite --compare build/nano33ble
  python -m tinykit.bench --workdir runs/digits --board nucleo_l4r5zi --port /dev/ttyACM0 --flash --out build
  python -m tinykit.bench --model kws.tflite --board nano33ble --port emulated --data kws.npz --limit 200
  python -m tinykit.bench --model kws.tflite --board nano33ble --mlperf kws01 --serve

With --out the artefacts of every board are kept in DIR/<board>; --compare takes such a folder, or one that
`python -m tinykit.compile` wrote, and shows what changed. Instructions are counted exactly on the emulated board;
cycles are a model of a Cortex-M4 without wait states. Exit codes as those of compile.

With --port the board's firmware is asked instead (docs/hardware.md): golden vectors byte for byte, the board's own counter, a
data split streamed through the port. --serve makes an emulated board a pseudo-terminal for other programs.
"""

import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from tinykit.boards.table import DEFAULT_BOARD, firmware_board, firmware_boards
from tinykit.cli import expect_flags, run_program
from tinykit.compile import define_engine_flags
from tinykit.engine.goal import BALANCED
from tinykit.engine.storage import AUTO, StorageWish
from tinykit.errors import BudgetError, DataError, ParityError
from tinykit.hardware import shell

FLAGS = flags.FLAGS
TOTALS = ("instructions", "cycles", "macs")
_LIMIT = 16 << 20


@dataclass(frozen=True)
class Benchmark:
    """One board's result: report.json, and the rows of layers.csv as text."""

    report: Mapping[str, Any]
    layers: Sequence[Mapping[str, str]]


def read_benchmark(folder: Path) -> Benchmark:
    """What compile or bench left in a folder. Raises DataError where it is missing or damaged."""
    try:
        texts = [(folder / name).open(encoding="utf-8").read(_LIMIT) for name in ("report.json", "layers.csv")]
        report, layers = json.loads(texts[0]), list(csv.DictReader(texts[1].splitlines()))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: expected report.json and layers.csv as `python -m tinykit.compile` writes them ({error})") from None
    if not isinstance(report, dict) or not _is_ours(report) or not _rows_are_ours(layers):
        raise DataError(f"{folder}: report.json or layers.csv is not what `python -m tinykit.compile` writes")
    return Benchmark(report, layers)


def _is_ours(report: Mapping[str, Any]) -> bool:
    """Whether a report's figures, those that are compared, are numbers or not known."""
    parts = [report.get(key) for key in ("flash", "ram")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    figures = [report.get(key) for key in TOTALS] + [value for part in parts for value in (part or {}).values()]
    return all(value is None or type(value) in (int, float) for value in figures)


def _rows_are_ours(layers: Sequence[Mapping[str, str]]) -> bool:
    """Whether there are rows, each with a name and counts or nothing."""
    numbers = (row.get("instructions") or "0" for row in layers)
    return bool(layers) and all(row.get("name") for row in layers) and all(text.isdecimal() for text in numbers)


def bench(model: Path, boards: Sequence[str], out: Path, *, simplified: bool = True, toolchain: str | None = None,
          optimize: str = BALANCED.name, autotune: bool = False, level: str | None = None,
          storage: str = AUTO, storage_limit: float = StorageWish.limit, samples: int = 2) -> list[Benchmark]:  # fmt: skip
    """Compiles for every board and counts; each verifies `samples` inputs. Results stay in out/<board>.

    Raises:
        BudgetError, ParityError, ModelError, ConfigError: as `tinykit.compile.compile_model`; a smaller budget is no error here.
    """
    from tinykit.compile import compile_model

    for board in boards:
        firmware_board(board)  # before hours go into the others
    found = []
    for board in boards:
        folder = out / board
        try:
            compile_model(model, board, folder, simplified=simplified, toolchain=toolchain, optimize=optimize, autotune=autotune,
                          level=level, storage=storage, storage_limit=storage_limit, samples=samples, log=lambda line: None)  # fmt: skip
        except BudgetError:
            if not (folder / "report.json").is_file():
                raise
        found.append(read_benchmark(folder))
    return found


def _number(text: str | int | None) -> str:
    return "" if text in (None, "") else f"{int(text):,}"


def _change(now: str | int | None, before: str | int | None) -> str:
    """'-12.5 %', '=' for no change, '' where there is nothing to compare."""
    if now in (None, "") or before in (None, "", "0", 0):
        return ""
    ratio = float(now or 0) / float(before or 1) - 1
    return f"{100 * ratio:+.1f} %" if ratio else "="


def show(result: Benchmark, before: Benchmark | None = None) -> None:
    """Prints the table of one board, and what changed against an earlier result."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    report = result.report
    console = Console(width=None if sys.stdout.isatty() else 150)
    title = f"{report['model']} on {report['board']}, emulated; {report['toolchain']['compiler']}"
    table = Table(title=escape(title), title_justify="left")
    for heading, justify in (("layer", "left"), ("shape", "left"), ("kernel", "left"), *((h, "right") for h in
                             ("MACs", "instructions", "per MAC", "cycles", "RAM B", "flash B"))):  # fmt: skip
        table.add_column(heading, justify=justify, no_wrap=heading != "layer", overflow="fold")  # type: ignore[arg-type]
    if before is not None:
        table.add_column("change", justify="right")
    earlier = {row["name"]: row for row in before.layers} if before else {}
    for row in result.layers:
        cells = [row["name"], f"{row['input_shape']} > {row['output_shape']}", row["kernel"].removeprefix("tk_"), _number(row["macs"]),
                 _number(row["instructions"]), row["instructions_per_mac"], _number(row["cycles"]), _number(row["ram"]),
                 _number(row["flash"])]  # fmt: skip
        if before is not None:
            cells.append(_change(row["instructions"], earlier.get(row["name"], {}).get("instructions")))
        table.add_row(*map(escape, cells))
    console.print(table)
    for line in _summary(report, before.report if before else None):
        console.print(line, highlight=False, markup=False)


def _summary(report: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[str]:
    old = before or {}

    def part(key: str, inner: str, label: str) -> str:
        value, earlier = report[key][inner], old.get(key, {}).get(inner)
        change = _change(value, earlier)
        return f"{label} {value:,}{f' ({change})' if change else ''}"

    totals = [f"{key} {report[key]:,}" + (f" ({c})" if (c := _change(report[key], old.get(key))) else "") for key in TOTALS]
    return [
        f"total: {', '.join(totals)} [emulated({report['board']}); cycles by a model]",
        f"flash: {part('flash', 'total', 'total')} B = {part('flash', 'weights', 'weights')}, {part('flash', 'tables', 'tables')}, "
        f"{part('flash', 'code', 'code')} [linked; the self-test vector of {report['self_test_bytes']:,} B not counted]",
        f"RAM: {part('ram', 'total', 'total')} B = {part('ram', 'arena', 'arena')}, {part('ram', 'static', 'static')}, "
        f"{part('ram', 'stack', 'stack')} [linked; stack emulated]; lower bound of the arena {report['arena']['lower_bound']:,}",
        f"parity: {report['parity']['engine_vs_reference']} of {report['parity']['elements']:,} elements differ over "
        f"{report['parity']['samples']} samples; budget {'met' if report['budget_met'] else 'NOT met'}",
    ]


def define_flags() -> None:
    """Declares this program's flags."""
    flags.DEFINE_string("model", None, "The .tflite file. Default: model.tflite of --workdir.")
    flags.DEFINE_multi_string("board", [DEFAULT_BOARD], f"Board to emulate, may be repeated: {', '.join(firmware_boards())}.")
    flags.DEFINE_string("out", None, "Keeps what is built in DIR/<board>. Default: a temporary folder.")
    flags.DEFINE_string("compare", None, "Folder of an earlier result to compare with.")
    flags.DEFINE_enum("toolchain", None, ["gcc", "zig"], "Compiler. Default: arm-none-eabi-gcc where it is installed, else ziglang.")
    define_engine_flags()
    flags.DEFINE_bool("simplify", True, "Removes, exactly, what cannot influence a result; --no-simplify keeps it.")
    flags.DEFINE_integer("samples", 2, "Inputs to verify with before anything is shown.", lower_bound=1, upper_bound=100_000)
    shell.define_flags()


def _work(argv: Sequence[str]) -> None:
    expect_flags(argv, () if FLAGS.workdir else ("model",))
    if shell.wanted():
        shell.work()
        return
    _emulate()


def _emulate() -> None:
    before = read_benchmark(Path(FLAGS.compare)) if FLAGS.compare else None
    with tempfile.TemporaryDirectory(prefix="tinykit-bench-") as temporary:
        results = bench(Path(FLAGS.model), list(dict.fromkeys(FLAGS.board)), Path(FLAGS.out or temporary), toolchain=FLAGS.toolchain,
                        simplified=FLAGS.simplify, optimize=FLAGS.optimize, autotune=FLAGS.autotune, level=FLAGS.compiler_level,
                        storage=FLAGS.storage, storage_limit=FLAGS.storage_limit, samples=FLAGS.samples)  # fmt: skip
    for result in results:
        if before is not None and before.report.get("model") != result.report["model"]:
            print(f"note: {FLAGS.compare} holds another model, {before.report.get('model')!r}")
        show(result, before)
    wrong = [str(r.report["board"]) for r in results if r.report["parity"]["engine_vs_reference"]]
    if wrong:
        raise ParityError(f"elements differ on {', '.join(wrong)}")


if __name__ == "__main__":
    run_program(define_flags, _work)
