"""The flags of `python -m tinykit.bench` that make it talk to a board, and what it does then."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import flags

from tinykit.boards.table import firmware_board
from tinykit.errors import ConfigError, Terminated

FLAGS = flags.FLAGS
_NEED_PORT = ("flash", "data", "config", "workdir", "timeout", "dry_run")
_SERVE_SECONDS = 0.2


def define_flags() -> None:
    """Declares them."""
    flags.DEFINE_string("port", None, "Serial port of a board that runs monitor.elf, or 'emulated': a board behind a pseudo-terminal.")
    flags.DEFINE_bool("flash", False, "Flashes monitor.elf with pyOCD first; where that is not possible, says what else would do it.")
    flags.DEFINE_bool("dry_run", False, "With --flash: builds monitor.elf and prints the commands that would flash it, nothing more.")
    flags.DEFINE_bool("serve", False, "Serves an emulated board on a pseudo-terminal, for any other program, until it is interrupted.")
    flags.DEFINE_string("mlperf", None, "MLPerf Tiny task as which the firmware answers: kws01, ic01, vww01 or ad01.")
    flags.DEFINE_string("workdir", None, "A finished run: its model.tflite, golden vectors and test split are used.")
    flags.DEFINE_string("data", None, "An .npz file with inputs x and class indices y, to be streamed through the port.")
    flags.DEFINE_string("config", None, "A configuration, whose test split is streamed.")
    flags.DEFINE_multi_string("set", [], "Changes a value of --config: a.b=value; may be repeated.")
    flags.DEFINE_integer("limit", 200, "Most samples to stream, evenly spaced; 0: all.", lower_bound=0)
    flags.DEFINE_float("timeout", None, "Seconds that the device may be silent. Default: 10, emulated 120.", lower_bound=0.1)


def wanted() -> bool:
    """Whether the flags ask for a device. Raises ConfigError with every flag that makes no sense as it stands."""
    problems = []
    if FLAGS.port is None and not (FLAGS.flash and FLAGS.dry_run):
        problems += [f"--{name} needs --port" for name in _NEED_PORT if FLAGS[name].value and not (FLAGS.serve and name == "workdir")]
    if FLAGS.serve and FLAGS.port is not None:
        problems.append("--serve serves a port, --port opens one: give one of them")
    if FLAGS.dry_run and not FLAGS.flash:
        problems.append("--dry_run belongs to --flash")
    if FLAGS.set and not FLAGS.config:
        problems.append("--set changes a --config; there is none")
    if sum(bool(FLAGS[name].value) for name in ("data", "config")) > 1:
        problems.append("--data and --config both name samples: give one of them")
    device = FLAGS.port is not None or FLAGS.serve or FLAGS.dry_run
    if device and len(FLAGS.board) != 1:
        problems.append(f"--port, --serve: expected one --board, got {', '.join(FLAGS.board)}")
    if device and FLAGS.compare:
        problems.append("--compare compares emulated layers; it cannot be combined with --port or --serve")
    if problems:
        raise ConfigError(problems)
    return device


def work() -> None:
    """Does what the flags say.

    Raises:
        TinykitError: anything that the user can act on.
    """
    from tinykit.hardware.report import device_lines
    from tinykit.hardware.session import Build, Source, bench_device, build_monitor_for

    workdir = Path(FLAGS.workdir) if FLAGS.workdir else None
    source = Source(
        Path(FLAGS.model) if FLAGS.model else Path(FLAGS.workdir) / "model.tflite", workdir, Path(FLAGS.data) if FLAGS.data else None,
        FLAGS.config, tuple(FLAGS.set), FLAGS.limit,
    )  # fmt: skip
    build = Build(
        FLAGS.simplify, FLAGS.toolchain, FLAGS.optimize, FLAGS.autotune, FLAGS.compiler_level, FLAGS.mlperf, FLAGS.storage,
        FLAGS.storage_limit,
    )  # fmt: skip
    board = firmware_board(FLAGS.board[0])
    with _folder(FLAGS.out) as parent:
        out = parent / board.name
        if FLAGS.serve or FLAGS.dry_run:
            build_monitor_for(source, board, out, build, _say)
            if FLAGS.serve:
                serve(board.name, out / "monitor.elf")
            else:
                from tinykit.hardware.flash import flash

                flash(board, out / "monitor.elf", dry_run=True, log=_say)
            return
        report = bench_device(source, board.name, FLAGS.port, out, build=build, flashed=FLAGS.flash, timeout=FLAGS.timeout, log=_say)
        for line in device_lines(report["device"]):
            _say(line)
        if FLAGS.out:
            _say(f"done: {out / 'report.json'}")


def serve(board_name: str, elf: Path) -> None:
    """An emulated board on a pseudo-terminal until Ctrl-C. Raises Terminated: SIGTERM came, as to any server."""
    from tinykit.hardware.ports import served

    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        with served(firmware_board(board_name), elf) as path:
            _say(f"serving: {path}, 115200 baud, {board_name} [emulated: its times are no latency]; Ctrl-C ends it")
            while not stop.wait(_SERVE_SECONDS):
                continue
        raise Terminated("ended by SIGTERM")
    except KeyboardInterrupt:
        _say("ended")
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _folder(out: str | None) -> Iterator[Path]:
    """Where results stay; a temporary folder where nobody wants them."""
    if out:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="tinykit-bench-") as temporary:
        yield Path(temporary)


def _say(line: str) -> None:
    print(line, flush=True)
