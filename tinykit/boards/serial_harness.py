"""One conversation with every device: a board on a serial port, QEMU, an emulated board in this process."""

import importlib
import re
import time
from dataclasses import dataclass
from typing import Protocol

from tinykit.errors import ConfigError, TinykitError

BAUD = 115200
TIMEOUT_SECONDS = 10.0
_CHUNK = 31
"""Bytes of input a command: what MLPerf Tiny's runner sends, for the monitor's commands have at most 80 characters."""
_POLL_SECONDS = 0.1
_LONGEST_LINE = 1 << 20
"""`m-results` has some six characters for each byte of output: enough for 160 KiB of it."""

_FAULTS = {
    1 << 0: "instruction fetch where execution is forbidden",
    1 << 1: "data access that is forbidden",
    1 << 8: "instruction fetch from no memory",
    1 << 9: "data access to no memory, at bfar",
    1 << 10: "data access to no memory, some instructions earlier",
    1 << 12: "exception frame pushed to no memory: stack overflow?",
    1 << 16: "undefined instruction",
    1 << 17: "jump to an even address",
    1 << 19: "floating-point instruction with the FPU off",
    1 << 24: "unaligned access by an instruction that needs alignment",
    1 << 25: "division by zero",
}
"""Bits of Arm's Configurable Fault Status Register."""


class DeviceError(TinykitError):
    """A device does not answer, answers an error, or says what nobody can understand."""


class Stream(Protocol):
    """Bytes to and from a device: a pyserial port, or anything else with these two."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; waits a moment for the first one, and returns b"" if none came."""

    def write(self, data: bytes, /) -> int | None:
        """Sends all of `data`."""


class SerialBoard(Protocol):
    """An emulated board in this process (tinykit.boards.emulator.EmulatedBoard)."""

    def run_until_input(self) -> None:
        """Runs until the program waits for a byte."""

    def serial_write(self, data: bytes, /) -> None:
        """Bytes for the program."""

    def serial_read(self) -> bytes:
        """What it has sent since the last call."""


class BoardStream:
    """The serial line of an emulated board in this process, which runs whenever somebody reads."""

    def __init__(self, board: SerialBoard) -> None:
        self._board = board

    def read(self, size: int, /) -> bytes:
        """See Stream.read; `size` is not looked at."""
        self._board.run_until_input()
        return self._board.serial_read()

    def write(self, data: bytes, /) -> int | None:
        """See Stream.write."""
        self._board.serial_write(data)
        return len(data)


@dataclass(frozen=True)
class Inference:
    """Answer to `infer`.

    Attributes:
        microseconds: of all inferences together, by the device's own clock.
        results: the scores as the device printed them, to three decimals.
    """

    microseconds: int
    results: tuple[float, ...]


class Device:
    """A device that runs the monitor image.

    Args:
        stream: bytes to and from it.
        timeout: seconds that it may be silent; an inference that takes longer needs more.

    Every method raises DeviceError if the device answers with an error, with nonsense, or not at all.
    """

    def __init__(self, stream: Stream, timeout: float = TIMEOUT_SECONDS) -> None:
        self._stream = stream
        self._timeout = timeout
        self._unread = b""

    def wait_ready(self) -> list[str]:
        """Lines up to the first `m-ready`: after a reset, the banner."""
        return self._answer("reset")

    def synchronise(self) -> None:
        """Brings a device that is somewhere in a conversation to the start of a command."""
        self._stream.write(b"%")
        self._lines_to_ready("%")
        deadline = time.monotonic() + 2 * _POLL_SECONDS
        while time.monotonic() < deadline:
            if self._stream.read(4096):
                deadline = time.monotonic() + 2 * _POLL_SECONDS
        self._unread = b""

    def command(self, text: str) -> list[str]:
        """Sends `text` and returns the lines of the answer, without the last, `m-ready`."""
        self._stream.write(text.encode("ascii") + b"%")
        return self._answer(text)

    def name(self) -> str:
        """The board's name."""
        return self._bracket("name", "m-name-dut-[")

    def model(self) -> str:
        """The model's name."""
        return self._bracket("profile", "m-model-[")

    def load(self, data: bytes) -> None:
        """Sends the network's input: all inputs, one behind the other."""
        answer = self.command(f"db load {len(data)}")
        for start in range(0, len(data), _CHUNK):
            answer = self.command("db " + data[start : start + _CHUNK].hex())
        if "m-load-done" not in answer:
            raise DeviceError(f"db load {len(data)}: expected m-load-done after the last byte, got {_shown(answer)}")

    def infer(self, inferences: int = 1, warmups: int = 0) -> Inference:
        """Runs the network on what was loaded, `warmups` times untimed and `inferences` times timed."""
        command = f"infer {inferences} {warmups}"
        answer = self.command(command)
        laps = [line.removeprefix("m-lap-us-") for line in answer if line.startswith("m-lap-us-")]
        try:
            first, last = (int(lap) for lap in laps)
            return Inference((last - first) % (1 << 32), _scores(answer))
        except ValueError:
            raise DeviceError(f"{command}: expected two times and the scores, got {_shown(answer)}") from None

    def results(self) -> tuple[float, ...]:
        """The last inference's scores."""
        answer = self.command("results")
        try:
            return _scores(answer)
        except ValueError:
            raise DeviceError(f"results: expected scores, got {_shown(answer)}") from None

    def output(self) -> bytes:
        """The last inference's output, exactly: all outputs, one behind the other."""
        text = self._bracket("x-out", "m-x-out-[")
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise DeviceError(f"x-out: expected hexadecimal bytes, got {text!r}") from None

    def self_test(self) -> int:
        """Runs the self-test vector; bytes of its output that are wrong."""
        return self._numbers("x-self", 1)[0]

    def stack(self) -> int:
        """Bytes of stack used so far, the monitor's own included."""
        return self._numbers("x-stack", 1)[0]

    def ram(self) -> tuple[int, int]:
        """Bytes of static data, the monitor's own included, and of the arena."""
        static, arena = self._numbers("x-ram", 2)
        return static, arena

    def cycles(self) -> int:
        """Core cycles of the last inference, by the device's own counter, modulo 2^32."""
        return self._numbers("x-cyc", 1)[0]

    def _numbers(self, command: str, count: int) -> list[int]:
        text = self._bracket(command, f"m-{command}-[")
        values = [int(part) for part in text.split(",") if part.isdigit()]
        if len(values) != count:
            raise DeviceError(f"{command}: expected {count} number(s), got {text!r}")
        return values

    def _bracket(self, command: str, prefix: str) -> str:
        answer = self.command(command)
        for line in answer:
            if line.startswith(prefix) and line.endswith("]"):
                return line[len(prefix) : -1]
        raise DeviceError(f"{command}: expected a line {prefix}...], got {_shown(answer)}")

    def _answer(self, command: str) -> list[str]:
        lines = self._lines_to_ready(command)
        for line in lines:
            if line.startswith("e-["):
                raise DeviceError(f"{command}: the device answered {line}{_fault_text(line)}")
        return lines

    def _lines_to_ready(self, command: str) -> list[str]:
        lines: list[str] = []
        while True:
            line = self._line(command, lines)
            if line == "m-ready":
                return lines
            if line:
                lines.append(line)

    def _line(self, command: str, before: list[str]) -> str:
        deadline = time.monotonic() + self._timeout
        while b"\n" not in self._unread:
            received = self._stream.read(4096)
            self._unread += received
            if received and len(self._unread) < _LONGEST_LINE:
                deadline = time.monotonic() + self._timeout
            elif time.monotonic() > deadline or received:
                got = _shown([*before, *([self._unread[:80].decode(errors="replace")] if self._unread else [])])
                raise DeviceError(
                    f"{command}: expected an answer that ends with m-ready, got {got} and then nothing for {self._timeout:g} s; "
                    "does the device run monitor.elf, at this baud rate?"
                )
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace").strip()


def open_port(port: str, baud: int = BAUD, timeout: float = TIMEOUT_SECONDS) -> Device:
    """The device on a serial port ('/dev/ttyACM0', 'COM3').

    Raises:
        ConfigError: pyserial is not installed.
        DeviceError: the port cannot be opened, or nobody answers there.
    """
    try:
        serial = importlib.import_module("serial")
    except ModuleNotFoundError:
        raise ConfigError(f"port {port!r}: serial ports need pyserial; install it: `pip install pyserial`") from None
    try:
        stream: Stream = serial.Serial(port, baud, timeout=_POLL_SECONDS)
    except (OSError, ValueError) as problem:  # pyserial's SerialException is an OSError
        raise DeviceError(f"port {port!r}: cannot be opened: {problem}") from None
    device = Device(stream, timeout)
    device.synchronise()
    return device


def _scores(answer: list[str]) -> tuple[float, ...]:
    """Raises ValueError if there are none in `answer`."""
    for line in answer:
        if line.startswith("m-results-[") and line.endswith("]"):
            return tuple(float(part) for part in line[len("m-results-[") : -1].split(","))
    raise ValueError("no m-results")


def _fault_text(line: str) -> str:
    """What the fault status of a line `e-[fault: cfsr 0x...` means, "" for other lines."""
    match = re.match(r"e-\[fault: cfsr 0x([0-9a-f]{8})", line)
    if match is None:
        return ""
    status = int(match[1], 16)
    reasons = [text for bit, text in _FAULTS.items() if status & bit]
    return f" ({', '.join(reasons) or 'an unknown reason'})"


def _shown(lines: list[str]) -> str:
    text = " | ".join(lines[-4:])
    return repr(text) if text else "nothing"
