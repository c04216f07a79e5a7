"""Ports where nobody answers, or nobody who makes sense: bounded waits, and words that say what came."""

import os
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import needs_pyserial  # noqa: E402

from tinykit.boards.serial_harness import Device, DeviceError  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.hardware.ports import connected, is_pseudo_terminal, provenance  # noqa: E402

pytestmark = needs_pyserial


@contextmanager
def terminal(talk: Callable[[int], object]) -> Iterator[str]:
    """A pseudo-terminal with `talk(descriptor)` at the other end, again and again until the block ends."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                talk(ours)
            except BlockingIOError:
                time.sleep(0.001)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        stop.set()
        thread.join()
        os.close(ours)
        os.close(theirs)


def says(text: bytes, pause: float = 0.001) -> Callable[[int], object]:
    """A device that says the same again and again, whatever it is asked."""

    def talk(descriptor: int) -> None:
        os.write(descriptor, text * 50 if pause < 0.01 else text)
        time.sleep(pause)

    return talk


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (lambda descriptor: time.sleep(0.01), "reset: expected an answer that ends with m-ready, got nothing and then nothing for 0.15 s"),
        (lambda descriptor: os.write(descriptor, os.read(descriptor, 100)), "expected an answer that ends with m-ready, got '%sync-"),
        (says(b"Hello from a sketch\r\n"), "characters without one, last 'Hello from a sketch"),
        (says(b"m-ready\r\n"), "characters without one; does it run monitor.elf?"),
        (says(b"\x00\xff" * 50), "expected an answer"),
        (says(b".", 0.05), "expected an answer"),
    ],
    ids=["silent", "echo", "sketch", "only ready", "noise", "drip"],
)
def test_what_is_no_monitor(talk, words):
    with terminal(talk) as port, pytest.raises(DeviceError) as caught:
        with connected(board("nano33ble"), port, timeout=0.15):
            pass
    text = str(caught.value)
    assert words in text and port in text, text
    assert caught.value.problems[-1].startswith("  the monitor of nano33ble talks through pins D1 (TX) and D0 (RX)")
    assert all(len(line) < 2100 and line.isprintable() for line in caught.value.problems)


def test_a_board_that_is_unplugged():
    class Gone:
        def read(self, size, /):
            raise OSError("device reports readiness to read but returned no data")

        def write(self, data, /):
            return len(data)

    with pytest.raises(DeviceError, match="the device is gone: device reports readiness"):
        Device(Gone()).name()


def test_figures_of_pseudo_terminals_are_never_measured(tmp_path):
    assert provenance("nano33ble", "/dev/ttyACM0").measured and provenance("nano33ble", "COM3").measured
    assert provenance("nano33ble", "/dev/ttyS0").measured and provenance("nano33ble", "/dev/cu.usbmodem1101").measured
    assert str(provenance("nano33ble", "/dev/ttyACM0")) == "measured(nano33ble, /dev/ttyACM0)"
    for port in ("emulated", "/dev/pts/3", "/dev/ttys004"):
        assert str(provenance("nano33ble", port)) == "emulated(nano33ble)", port
    ours, theirs = os.openpty()
    link = tmp_path / "ttyACM0"
    link.symlink_to(os.ttyname(theirs))
    assert is_pseudo_terminal(str(link))
    os.close(ours)
    os.close(theirs)
