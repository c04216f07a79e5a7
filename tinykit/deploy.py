"""Makes firmware that a person opens, builds and flashes: an Arduino library, or a project for CMake, PlatformIO or Mbed.

Examples:
  python -m tinykit.deploy --workdir runs/digits --target arduino --board nano33ble
  python -m tinykit.deploy --model model.tflite --target cmake --board disco_f746ng --out build/wakeword --name wakeword
  python -m tinykit.deploy --workdir runs/digits --target arduino --engine tflm
  python -m tinykit.deploy --model kws_ref_model_int8.tflite --target mbed --mlperf kws01
  python -m tinykit.deploy --workdir runs/digits --target arduino --force

The network is linked for the board and answers its golden vectors there, emulated, before anything is written. Files that you edited
since an earlier deploy stay as they are and are named; --force writes them anew and keeps yours as *.bak. Exit codes: 0 done, 2 bad
input, 3 it does not fit the board, 4 a byte differs from the reference.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from absl import flags

from tinykit.boards.table import DEFAULT_BOARD, firmware_board, firmware_boards
from tinykit.cli import expect_flags, run_program
from tinykit.compile import define_storage_flags
from tinykit.config.catalogue import check_name
from tinykit.config.sizes import format_size
from tinykit.engine.mlperf import check_task
from tinykit.engine.storage import AUTO, CHOICES, StorageWish
from tinykit.errors import ConfigError
from tinykit.packaging.folder import Written, write_folder
from tinykit.packaging.lint import lint_library
from tinykit.packaging.measure import measure
from tinykit.packaging.network import network_of_model, network_of_run
from tinykit.packaging.package import Package
from tinykit.packaging.registry import TARGETS, Target
from tinykit.packaging.tflm import ARDUINO_LIBRARY, check_on_host, tflm_model

FLAGS = flags.FLAGS
ENGINES = ("tinykit", "tflm")


def deploy(
    target: str,
    board_name: str,
    *,
    workdir: Path | None = None,
    model: Path | None = None,
    out: Path | None = None,
    name: str | None = None,
    engine: str = "tinykit",
    task: str | None = None,
    storage: str = AUTO,
    storage_limit: float = StorageWish.limit,
    force: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Writes the package of a run or of a `.tflite`; returns its folder.

    Args:
        target: a key of TARGETS.
        workdir, model: one of the two: a finished run, or a `.tflite`.
        out: default: deploy/<target> in `workdir`, or deploy/<name>/<target> in the current folder.
        name: prefix of the C names; default: the run's or the file's.
        storage, storage_limit: how the weights of a `.tflite` lie in flash, see `tinykit.engine.storage`; a run has chosen already.
        engine: what computes: 'tinykit' (generated C, no dependency), or 'tflm' (TensorFlow Lite Micro).
        task: MLPerf Tiny task as which the package's monitor answers; None: none.
        force: files that were edited are saved as *.bak and written anew.

    Raises:
        ConfigError, ModelError: bad input; nothing has been written.
        BudgetError: the network does not fit the board.
        ParityError: the emulated board answers a golden vector with another byte.
    """
    if (workdir is None) == (model is None):
        raise ConfigError("expected one of --workdir=FOLDER (a finished run) and --model=FILE.tflite")
    check_name("target", target, list(TARGETS))
    check_name("engine", engine, list(ENGINES))
    check_name("storage", storage, list(CHOICES))
    board, kind = firmware_board(board_name), TARGETS[target]
    _check_engine(engine, target)
    wish = StorageWish(storage, storage_limit)
    network = network_of_run(workdir, name) if workdir is not None else network_of_model(model or Path(), name, wish)
    if task is not None:
        check_task(task, network.graph)
    log(f"{network.title}: {network.origin}; symbols begin with {network.name}_")
    measured = measure(network, board, kind.reserve if kind.reserve in board.reserves else "bare")
    vectors = f"{measured.vectors} golden vector{'s' if measured.vectors != 1 else ''}"
    sizes = f"flash {format_size(measured.flash)}, RAM {format_size(measured.ram)}; emulated({board.name})"
    log(f"checked: {vectors}, every output byte right; {sizes}")
    package = Package(network, board, measured, task=task)
    if engine == "tflm":
        package = _with_tflm(package, kind, log)
    folder = out or (workdir / "deploy" / target if workdir is not None else Path("deploy") / network.name / target)
    files = {path: data.encode() if isinstance(data, str) else data for path, data in kind.files(package).items()}
    archive = kind.archive.format(library=package.library) if kind.archive is not None else None
    if archive is not None:
        _check_library({path: data for path, data in files.items() if path.startswith(f"{archive}/")})
    _tell(write_folder(folder, files, archive=archive, force=force), log)
    log(f"done: {folder}")
    step = kind.next_step.format(library=package.library, out=shlex.quote(str(folder)))
    log(f"next: {step}" + ("; with -DTFLM_ROOT=FOLDER, the sources of TFLM" if engine == "tflm" and kind.tflm == "sources" else ""))
    return folder


def _check_engine(engine: str, target: str) -> None:
    if engine == "tflm" and TARGETS[target].tflm is None:
        others = ", ".join(name for name, entry in TARGETS.items() if entry.tflm)
        raise ConfigError(f"--engine tflm: not for target {target!r}; it is there for {others}; or use --engine tinykit")


def _with_tflm(package: Package, kind: Target, log: Callable[[str], None]) -> Package:
    """The same package with TFLM in the place of our engine."""
    model = tflm_model(package.network, ARDUINO_LIBRARY if kind.tflm == "library" else None)
    for note in model.notes:
        log(f"tflm: {note}")
    checked = check_on_host(model)
    log(f"tflm: golden vectors: {checked}")
    return replace(package, tflm=model, checked=checked)


def _check_library(files: Mapping[str, bytes]) -> None:
    problems = lint_library(files)
    if problems:
        raise ConfigError([f"the library would not pass Arduino's rules (a defect of tinykit): {problem}" for problem in problems])


def _tell(written: Written, log: Callable[[str], None]) -> None:
    """What happened to files that were there before."""
    for path in written.edited:
        log(f"kept: {path}, which was edited since it was written; --force writes it anew and keeps yours as a .bak")
    for path, backup in written.saved.items():
        log(f"written anew: {path}; yours is {backup}")
    for path in written.removed:
        log(f"removed: {path}, of an earlier deploy")


def define_flags() -> None:
    """Declares this program's flags."""
    flags.DEFINE_string("workdir", None, "Folder of a finished run of `python -m tinykit.train`.")
    flags.DEFINE_string("model", None, "Or a .tflite file: integers inside, int8 or float32 at its ends.")
    flags.DEFINE_string("target", None, f"Kind of project: {', '.join(TARGETS)}.")
    flags.DEFINE_string("board", DEFAULT_BOARD, f"Board: {', '.join(firmware_boards())}.")
    flags.DEFINE_string("out", None, "Folder of the package. Default: WORKDIR/deploy/TARGET, or deploy/NAME/TARGET.")
    flags.DEFINE_string("name", None, "Prefix of the C names. Default: the run's or the file's name.")
    flags.DEFINE_string("engine", "tinykit", "What computes: tinykit (generated C) or tflm (TensorFlow Lite Micro, which you install).")
    flags.DEFINE_string("mlperf", None, "MLPerf Tiny task as which the package's monitor answers: kws01, ic01, vww01 or ad01.")
    define_storage_flags()
    flags.DEFINE_bool("force", False, "Writes edited files anew; yours are kept as *.bak.")


def _work(argv: Sequence[str]) -> None:
    expect_flags(argv, ("target",))

    def path(text: str | None) -> Path | None:
        return Path(text) if text else None

    deploy(
        FLAGS.target, FLAGS.board, workdir=path(FLAGS.workdir), model=path(FLAGS.model), out=path(FLAGS.out), name=FLAGS.name,
        engine=FLAGS.engine, task=FLAGS.mlperf, storage=FLAGS.storage, storage_limit=FLAGS.storage_limit,
        force=FLAGS.force, log=lambda line: print(line, flush=True),
    )  # fmt: skip


if __name__ == "__main__":
    run_program(define_flags, _work)
