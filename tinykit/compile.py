"""Compiles a .tflite to C and firmware, and proves it byte for byte on an emulated board.

Examples:
  python -m tinykit.compile --model model.tflite --board nano33ble --out build
  python -m tinykit.compile --model model.tflite --board disco_f746ng --out build --toolchain zig --name wakeword
  python -m tinykit.compile --model model.tflite --board nano33ble --out build --no-simplify --samples 64

DIR then holds engine/ (C99 sources for any project), firmware.elf (the bench image, as it would be flashed), monitor.elf (the one
that talks over the serial line, see `python -m tinykit.bench --port`), report.json, layers.csv and arena.json.
Exit codes: 0 done, 2 bad input, 3 it does not fit the board, 4 a byte differs from the reference.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from tinykit.boards.table import DEFAULT_BOARD, firmware_board, firmware_boards
from tinykit.cli import expect_flags, run_program
from tinykit.config.catalogue import check_name
from tinykit.config.sizes import format_size
from tinykit.engine import generate
from tinykit.engine.goal import BALANCED, GOALS
from tinykit.engine.storage import AUTO, CHOICES, StorageWish
from tinykit.errors import BudgetError, ModelError
from tinykit.graph import ir
from tinykit.graph.reader import read_tflite
from tinykit.graph.simplify import simplify

FLAGS = flags.FLAGS
LARGEST_MODEL = 64 << 20


@dataclass(frozen=True)
class Model:
    """A `.tflite` as it was read.

    Attributes:
        path: its file.
        sha256: of its bytes.
        graph: as it is in the file.
        deployed: what is compiled: the simplified graph, unless that was not wanted.
        summary: what the simplifier did, in words.
    """

    path: Path
    sha256: str
    graph: ir.Graph
    deployed: ir.Graph
    summary: str


def read_model(path: Path, simplified: bool = True) -> Model:
    """Reads and simplifies a `.tflite`. Raises ModelError: no such file, or it holds what cannot be represented exactly."""
    if not path.is_file():
        what = "a folder; expected a .tflite file" if path.is_dir() else "no plain file" if path.exists() else "no such file"
        raise ModelError(f"{path}: {what}")
    if path.stat().st_size > LARGEST_MODEL:
        raise ModelError(f"{path}: {path.stat().st_size:,} bytes; at most {LARGEST_MODEL:,} are read")
    data = path.read_bytes()
    graph = dataclasses.replace(read_tflite(data, path.name), name=path.stem)
    if not simplified:
        return Model(path, hashlib.sha256(data).hexdigest(), graph, graph, "not simplified")
    result = simplify(graph)
    return Model(path, hashlib.sha256(data).hexdigest(), graph, result.graph, str(result.removed))


def compile_model(
    path: Path,
    board_name: str,
    out: Path,
    *,
    simplified: bool = True,
    name: str | None = None,
    toolchain: str | None = None,
    optimize: str = BALANCED.name,
    autotune: bool = False,
    level: str | None = None,
    storage: str = AUTO,
    storage_limit: float = StorageWish.limit,
    samples: int = 16,
    seed: int = 0,
    task: str | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, object]:
    """Compiles a `.tflite` file; returns what report.json holds.

    Args:
        storage, storage_limit: as the flags of these names.

    `task`: the MLPerf Tiny task (kws01, ic01, vww01, ad01) as which monitor.elf answers.

    Raises:
        BudgetError: it does not fit the board. What could be built has been written.
        ParityError: a byte differs from the reference executor.
        ModelError, ConfigError: bad input.
    """
    from tinykit.boards.artefacts import claimed, write_artefacts
    from tinykit.boards.pipeline import compile_graph, report_json
    from tinykit.boards.storage import storage_lines
    from tinykit.boards.toolchain import check_optimize, choose
    from tinykit.engine.mlperf import check_task

    check_name("storage", storage, list(CHOICES))
    check_name("optimize", optimize, list(GOALS))  # before an earlier result is given up, as all that follows
    if level is not None:
        check_optimize(level)
    choose(toolchain)
    board = firmware_board(board_name)
    model = read_model(path, simplified)
    log(f"{path.name}: {len(model.graph.ops)} ops; simplifier: {model.summary}")
    prefix = generate.check_name(name) if name else None
    if task is not None:
        check_task(task, model.deployed)
    with claimed(out):
        compiled = compile_graph(
            model.deployed, board, out, name=prefix, toolchain=toolchain, goal=GOALS[optimize], autotune=autotune, level=level,
            storage=StorageWish(storage, storage_limit), samples=samples, seed=seed, monitor=True, task=task, log=log,
        )  # fmt: skip
        report = report_json(compiled, model=path.name, source=model.sha256)
        write_artefacts(compiled, out, report)
    sizes = compiled.build.sizes
    log(
        f"flash {format_size(sizes.total)} (weights {format_size(sizes.weights)}, tables {format_size(sizes.tables)}, "
        f"code {format_size(sizes.code + sizes.runtime)}); RAM {format_size(compiled.ram)} (arena {format_size(sizes.arena)}, "
        f"static {format_size(sizes.static)}, stack {format_size(compiled.stack)})"
    )
    run = compiled.verification.run
    if run is not None and run.cycle_bracket is None:
        log(f"{run.instructions:,} instructions, {run.cycles:,} cycles by the model of a Cortex-M4; emulated({board.name})")
    elif run is not None and run.cycle_bracket is not None:
        least, most = run.cycle_bracket
        log(f"{run.instructions:,} instructions, {least:,} to {most:,} cycles (not validated for a Cortex-M7); emulated({board.name})")
    for line in storage_lines(compiled):
        log(line)
    problems = compiled.problems()
    if problems:
        raise BudgetError(problems)
    log(f"done: {out / 'firmware.elf'}")
    return report


def define_engine_flags() -> None:
    """Declares the flags that decide how an engine is made."""
    goals = "speed: quick kernels wherever the board's RAM has room; balanced: at most 1 kB of RAM more for them; size: the least flash."
    tuned = "Counts every variant of every kernel on the emulated board instead of estimating it; counts are kept in the cache."
    level = "The compiler's level, -O0 to -O3, -Os, -Oz or -Og. Default: gcc -O3, zig -Os; size: -Os, speed: -O3 for both."
    flags.DEFINE_enum("optimize", BALANCED.name, list(GOALS), goals)
    flags.DEFINE_bool("autotune", False, tuned)
    flags.DEFINE_string("compiler_level", None, level)
    define_storage_flags()


def define_storage_flags() -> None:
    """Declares the flags that decide how weights lie in flash."""
    stored = "How weights lie in flash. dense: as kernels read them; auto: each layer's smallest coding where it pays; or one coding."
    flags.DEFINE_enum("storage", AUTO, list(CHOICES), stored)
    limit = "Instructions of decoding a layer's weights, as a share of the layer's own, beyond which it stays dense."
    flags.DEFINE_float("storage_limit", StorageWish.limit, limit, lower_bound=0, upper_bound=1000)


def define_flags() -> None:
    """Declares this program's flags."""
    flags.DEFINE_string("model", None, "The .tflite file: integers inside, int8 or float32 at its ends.")
    flags.DEFINE_string("board", DEFAULT_BOARD, f"Board to build for and to emulate: {', '.join(firmware_boards())}.")
    flags.DEFINE_string("out", None, "Folder for the results; it is made if it is missing.")
    flags.DEFINE_enum("toolchain", None, ["gcc", "zig"], "Compiler. Default: arm-none-eabi-gcc where it is installed, else ziglang.")
    define_engine_flags()
    flags.DEFINE_string("name", None, "Prefix of the C names. Default: the file's name.")
    flags.DEFINE_string("mlperf", None, "MLPerf Tiny task as which monitor.elf answers: kws01, ic01, vww01 or ad01.")
    flags.DEFINE_bool("simplify", True, "Removes, exactly, what cannot influence a result; --no-simplify keeps it.")
    flags.DEFINE_integer("samples", 16, "Random inputs to verify with.", lower_bound=1, upper_bound=100_000)
    flags.DEFINE_integer("seed", 0, "Seed of these inputs.", lower_bound=0)


def _work(argv: Sequence[str]) -> None:
    expect_flags(argv, ("model", "out"))
    compile_model(
        Path(FLAGS.model), FLAGS.board, Path(FLAGS.out), simplified=FLAGS.simplify, name=FLAGS.name,
        toolchain=FLAGS.toolchain, optimize=FLAGS.optimize, autotune=FLAGS.autotune, level=FLAGS.compiler_level,
        storage=FLAGS.storage, storage_limit=FLAGS.storage_limit, samples=FLAGS.samples, seed=FLAGS.seed, task=FLAGS.mlperf,
        log=lambda line: print(line, flush=True),
    )  # fmt: skip


if __name__ == "__main__":
    run_program(define_flags, _work)
