"""Serial ports: which there are, what hangs on them, and how figures that come through one are labelled."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.image import Image
from tinykit.boards.serial_harness import TIMEOUT_SECONDS, Device, DeviceError, open_port
from tinykit.boards.table import Board
from tinykit.errors import one_line

EMULATED = "emulated"
"""Stands for a port: a board that is emulated in this process."""
EMULATED_TIMEOUT_SECONDS = 120.0
"""An emulated inference of 100 million instructions takes some seconds, on a busy computer a minute."""

_USB = {
    (0x2341, 0x805A): ("nano33ble",),
    (0x2341, 0x005A): ("nano33ble",),
    (0x0483, 0x374B): ("disco_f746ng", "nucleo_f446re", "nucleo_f401re", "disco_l475_iot1", "nucleo_l4r5zi", "nucleo_h743zi"),
    (0x0483, 0x374E): ("nucleo_l4r5zi", "nucleo_h743zi"),
}
"""USB vendor and product: Arduino's Nano 33 BLE (its bootloader: 0x005a), ST-Link/V2-1, STLINK-V3. Which boards may hang on it."""


@dataclass(frozen=True)
class Port:
    """A serial port of this computer.

    Attributes:
        path: its name.
        usb: vendor and product, None where it is not on USB.
        text: what the system calls it.
    """

    path: str
    usb: tuple[int, int] | None
    text: str

    @property
    def boards(self) -> tuple[str, ...]:
        """Boards of the table that it may belong to."""
        return _USB.get(self.usb, ()) if self.usb else ()


def list_ports() -> list[Port] | None:
    """Serial ports on USB, by name; None where pyserial, which finds them, is not installed."""
    try:
        tools: Any = importlib.import_module("serial.tools.list_ports")
    except ModuleNotFoundError:
        return None
    found = [
        Port(entry.device, (entry.vid, entry.pid), one_line(entry.description, 80)) for entry in tools.comports() if entry.vid is not None
    ]
    return sorted(found, key=lambda port: port.path)


def is_pseudo_terminal(port: str) -> bool:
    """Whether a port is served by a program on this computer, and so is no board's."""
    path = os.path.realpath(port)
    return path.startswith("/dev/pts/") or Path(path).name.startswith("ttys") and not Path(path).name.startswith("ttyS")


@dataclass(frozen=True)
class Provenance:
    """Where figures come from.

    Attributes:
        board: name of the board.
        port: the serial port, 'emulated' for a board in this process.
        measured: it is a real board's.
    """

    board: str
    port: str
    measured: bool

    def __str__(self) -> str:
        return f"measured({self.board}, {self.port})" if self.measured else f"emulated({self.board})"


def provenance(board: str, port: str) -> Provenance:
    """That of figures through `port`."""
    return Provenance(board, port, port != EMULATED and not is_pseudo_terminal(port))


@contextmanager
def connected(board: Board, port: str, elf: Path | None = None, timeout: float | None = None) -> Iterator[Device]:
    """The device on `port`, ready for commands; closed when the block ends.

    Args:
        port: a serial port, or 'emulated': then `elf`, a monitor image, runs on the emulated board behind a pseudo-terminal.
        timeout: seconds that it may be silent; default: 10, emulated 120.

    Raises:
        ConfigError: pyserial is not installed.
        DeviceError: nobody answers.
    """
    if port != EMULATED:
        device = _opened(board, port, timeout or TIMEOUT_SECONDS)
        try:
            yield device
        finally:
            device.close()
        return
    if elf is None:
        raise ValueError("an emulated board needs an image")
    with served(board, elf) as path:
        device = open_port(path, timeout=timeout or EMULATED_TIMEOUT_SECONDS)
        try:
            yield device
        finally:
            device.close()


def _opened(board: Board, port: str, timeout: float) -> Device:
    try:
        return open_port(port, timeout=timeout)
    except DeviceError as problem:
        where = f"  the monitor of {board.name} talks through {board.uart.host}" if board.uart is not None else ""
        raise DeviceError([*problem.problems, *([where] if where and Path(port).exists() else [])]) from None


@contextmanager
def served(board: Board, elf: Path) -> Iterator[str]:
    """An emulated board with a monitor image; gives the path of the pseudo-terminal that any program can open."""
    emulated = EmulatedBoard(board, Image.load(elf))
    try:
        yield emulated.pty()
    finally:
        emulated.close()
