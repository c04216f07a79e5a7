"""One benchmark of one board through a serial port: build, flash or emulate, measure, report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinykit import atomic
from tinykit.boards.table import Board, firmware_board
from tinykit.compile import Model, compile_model, read_model
from tinykit.engine.goal import BALANCED
from tinykit.engine.memory import random_samples
from tinykit.engine.storage import AUTO, StorageWish
from tinykit.errors import BudgetError, ConfigError, ParityError
from tinykit.hardware.flash import flash
from tinykit.hardware.measure import Findings, measure
from tinykit.hardware.ports import EMULATED, connected, provenance
from tinykit.hardware.report import device_report
from tinykit.hardware.samples import Samples, from_config, from_npz, from_run, golden_samples, only_input

GOLDEN_SAMPLES = 16
STREAMED_SAMPLES = 200
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Source:
    """What is benchmarked, and with what.

    Attributes:
        model: the .tflite file.
        workdir: a run directory, whose golden vectors and test split are used; None: the vectors are random.
        data: an .npz file with inputs x and class indices y; None: none.
        config, overrides: a configuration whose test split is streamed; None: none.
        samples: how many inputs are streamed at most; 0: all.
    """

    model: Path
    workdir: Path | None = None
    data: Path | None = None
    config: str | None = None
    overrides: Sequence[str] = ()
    samples: int = STREAMED_SAMPLES

    @property
    def name(self) -> str | None:
        """Prefix of the C names: a run's own name, for every run's file is called model.tflite; None: the file's."""
        return (
            None
            if self.workdir is None
            else re.sub(r"\W", "_", f"run_{self.workdir.resolve().name}", flags=re.ASCII)[:_LONGEST_NAME].lower()
        )

    def golden(self, model: Model) -> np.ndarray:
        """Stored inputs to compare byte for byte."""
        path = self.workdir / "golden.npz" if self.workdir else None
        if path is not None and path.is_file():
            return golden_samples(path, model.deployed)
        return random_samples(model.deployed, GOLDEN_SAMPLES)[only_input(model.deployed).name]

    def stream(self, model: Model) -> Samples | None:
        """Samples to stream, None where there are none."""
        if self.data is not None:
            return from_npz(self.data, model.deployed, self.samples)
        if self.config is not None:
            return from_config(self.config, self.overrides, model.deployed, self.samples)
        if self.workdir is not None:
            return from_run(self.workdir, model.deployed, self.samples)
        return None


@dataclass(frozen=True)
class Build:
    """How the image is built: as the flags of `compile` say."""

    simplified: bool = True
    toolchain: str | None = None
    optimize: str = BALANCED.name
    autotune: bool = False
    level: str | None = None
    task: str | None = None
    storage: str = AUTO
    storage_limit: float = StorageWish.limit


def build_monitor_for(source: Source, board: Board, out: Path, build: Build, log: Callable[[str], None]) -> dict[str, Any]:
    """Compiles for `board` into `out`; returns its report.

    Raises:
        BudgetError: there is no monitor.elf, because it does not fit. A smaller budget is no error here.
    """
    try:
        compile_model(
            source.model, board.name, out, simplified=build.simplified, name=source.name, toolchain=build.toolchain,
            optimize=build.optimize, autotune=build.autotune, level=build.level, storage=build.storage,
            storage_limit=build.storage_limit, samples=2, task=build.task, log=log,
        )  # fmt: skip
    except BudgetError:
        if not (out / "report.json").is_file():
            raise
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if report["monitor"]["elf"] is None:
        raise BudgetError(f"monitor.elf for {board.name}: {report['monitor']['why']}")
    return report


def bench_device(
    source: Source,
    board_name: str,
    port: str,
    out: Path,
    *,
    build: Build | None = None,
    flashed: bool = False,
    timeout: float | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Benchmarks a board behind a serial port, or an emulated one; returns what `out`/report.json holds.

    Args:
        port: of the board; 'emulated': a board in this process, behind a pseudo-terminal.
        out: folder of what is built, as `compile` leaves it; report.json there gets the key `device`.
        flashed: flashes monitor.elf first.
        timeout: seconds that the device may be silent.

    Raises:
        ParityError: a byte differs from the reference executor; report.json has been written.
        DeviceError, FlashError, BudgetError, ConfigError, DataError, ModelError.
    """
    board, build = firmware_board(board_name), build or Build()
    if flashed and port == EMULATED:
        raise ConfigError("--flash: an emulated board is not flashed; name the port of a real one")
    model = read_model(source.model, build.simplified)
    golden, stream = source.golden(model), source.stream(model)
    report = build_monitor_for(source, board, out, build, log)
    elf = out / "monitor.elf"
    if flashed:
        flash(board, elf, log=log)
    origin = provenance(board.name, port)
    with connected(board, port, elf, timeout) as device:
        findings = measure(device, board.name, model.deployed, golden, stream, measured=origin.measured, log=log)
    report["device"] = device_report(findings, board, origin, stream)
    atomic.write_json(out / "report.json", report)
    check(findings, report["device"])
    return report


def check(findings: Findings, report: Mapping[str, Any]) -> None:
    """Raises ParityError where the device's outputs are not the reference executor's."""
    if not findings.mismatches:
        return
    first = findings.golden.first or (findings.stream.first if findings.stream else None) or "the self-test's output"
    raise ParityError(
        f"{report['provenance']}: {findings.mismatches} output bytes differ from the reference executor; first: {first}; "
        "does the board run the monitor.elf of this very network? --flash brings it there"
    )
