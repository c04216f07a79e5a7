"""One conversation with every device: a board on a serial port, QEMU, an emulated board in this process."""

import importlib
import os
import re
import time
from typing import Any, Protocol

from tinykit.boards.answers import Inference, Info, fault_text, laps, parse_info, scores, shown
from tinykit.errors import ConfigError, TinykitError, one_line

BAUD = 115200
TIMEOUT_SECONDS = 10.0
_CHUNK = 31
"""Bytes of input a command: what MLPerf Tiny's runner sends, for the monitor's commands have at most 80 characters."""
_POLL_SECONDS = 0.1
_LONGEST_LINE = 1 << 20
"""`m-results` has some six characters for each byte of output: enough for 160 KiB of it."""
_LONGEST_ANSWER = 4 << 20
"""Characters of all lines of an answer: `db print` has three for each byte of input, enough for a megabyte of it."""
_MOST_BEFORE = 1 << 16
"""Characters that a device may have sent before it answers the first command."""
_PATIENCE = 30
"""Times the timeout: what a device that is never silent, and never done either, is given for one answer."""
_NUMBER, _KNOWN = r"\d{1,10}", r"\d{1,10}|unknown"
_NAME = 64
"""Characters of a name that are looked at."""


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


class Device:
    """A device that runs the monitor image. What it says is not trusted: lines and answers are bounded, numbers are checked.

    Args:
        stream: bytes to and from it.
        timeout: seconds that it may be silent; an inference that takes longer needs more.

    Every method raises DeviceError if the device answers with an error, with nonsense, or not at all.
    """

    def __init__(self, stream: Stream, timeout: float = TIMEOUT_SECONDS) -> None:
        self._stream = stream
        self._timeout = timeout
        self._unread = b""

    def close(self) -> None:
        """Gives the port back, where the stream is one."""
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()

    @property
    def timeout(self) -> float:
        """Seconds that the device may be silent."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds

    def wait_ready(self) -> list[str]:
        """Lines up to the first `m-ready`: after a reset, the banner."""
        return self._answer("reset")

    def synchronise(self) -> None:
        """Brings a device that is somewhere in a conversation, or just starting, to the start of a command.

        A word that it cannot know is sent, and the error that repeats this word marks the place from which on answers belong to questions.
        """
        word = f"sync-{os.urandom(4).hex()}"
        self._send(f"%{word}%".encode("ascii"))
        left, found = _MOST_BEFORE, False
        while not found:
            if left <= 0:
                raise DeviceError(
                    f"reset: expected an answer to {word}, got {_MOST_BEFORE:,} characters without one; does it run monitor.elf?"
                )
            lines = self._lines_to_ready("reset", left)
            left -= sum(map(len, lines)) + len("m-ready")
            found = any(word in line for line in lines)

    def command(self, text: str) -> list[str]:
        """Sends `text` and returns the lines of the answer, without the last, `m-ready`."""
        self._send(text.encode("ascii") + b"%")
        return self._answer(text)

    def command_bytes(self, data: bytes) -> None:
        """Sends anything at all, and does not wait; `synchronise` finds the way back."""
        self._send(data)

    def name(self) -> str:
        """The board's name."""
        return one_line(self._bracket("name", "m-name-dut-["), _NAME)

    def model(self) -> str:
        """The model's name."""
        return one_line(self._bracket("profile", "m-model-["), _NAME)

    def info(self) -> Info:
        """What the firmware's network is like."""
        text = self._bracket("x-info", "m-x-info-[")
        try:
            return parse_info(text)
        except ValueError:
            raise DeviceError(f"x-info: expected name, form of the input and four numbers, got {one_line(text)!r}") from None

    def timestamp(self) -> int:
        """Microseconds by the device's own clock, modulo 2^32."""
        answer = self.command("timestamp")
        try:
            (time_us,) = laps(answer)
        except ValueError:
            raise DeviceError(f"timestamp: expected a time, got {shown(answer)}") from None
        return time_us

    def load(self, data: bytes) -> None:
        """Sends the network's input: all inputs, one behind the other."""
        answer = self.command(f"db load {len(data)}")
        for start in range(0, len(data), _CHUNK):
            answer = self.command("db " + data[start : start + _CHUNK].hex())
        if "m-load-done" not in answer:
            raise DeviceError(f"db load {len(data)}: expected m-load-done after the last byte, got {shown(answer)}")

    def infer(self, inferences: int = 1, warmups: int = 0) -> Inference:
        """Runs the network on what was loaded, `warmups` times untimed and `inferences` times timed."""
        command = f"infer {inferences} {warmups}"
        answer = self.command(command)
        try:
            first, last = laps(answer)
            return Inference((last - first) % (1 << 32), scores(answer))
        except ValueError:
            raise DeviceError(f"{command}: expected two times and the scores, got {shown(answer)}") from None

    def results(self) -> tuple[float, ...]:
        """The last inference's scores."""
        answer = self.command("results")
        try:
            return scores(answer)
        except ValueError:
            raise DeviceError(f"results: expected scores, got {shown(answer)}") from None

    def output(self) -> bytes:
        """The last inference's output, exactly: all outputs, one behind the other."""
        text = self._bracket("x-out", "m-x-out-[")
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise DeviceError(f"x-out: expected hexadecimal bytes, got {one_line(text)!r}") from None

    def self_test(self) -> int:
        """Runs the self-test vector; bytes of its output that are wrong."""
        return self._number("x-self")

    def stack(self) -> int:
        """Bytes of stack used so far, the monitor's own included."""
        return self._number("x-stack")

    def ram(self) -> tuple[int | None, int]:
        """Bytes of static data, the monitor's own included (None where it cannot tell), and of the arena."""
        static, arena = self._parts("x-ram", rf"({_KNOWN}),({_NUMBER})")
        return _known(static), int(arena)

    def cycles(self) -> int | None:
        """Core cycles of the last inference, by the device's own counter, modulo 2^32; None where it has none that is known."""
        return _known(self._parts("x-cyc", f"({_KNOWN})")[0])

    def _number(self, command: str) -> int:
        return int(self._parts(command, f"({_NUMBER})")[0])

    def _parts(self, command: str, pattern: str) -> tuple[str, ...]:
        """The groups of what `command` answers."""
        text = self._bracket(command, f"m-{command}-[")
        found = re.fullmatch(pattern, text, re.ASCII)
        if found is None:
            raise DeviceError(f"{command}: expected {re.compile(pattern).groups} number(s), got {one_line(text)!r}")
        return found.groups()

    def _bracket(self, command: str, prefix: str) -> str:
        answer = self.command(command)
        for line in answer:
            if line.startswith(prefix) and line.endswith("]"):
                return line[len(prefix) : -1]
        raise DeviceError(f"{command}: expected a line {prefix}...], got {shown(answer)}")

    def _answer(self, command: str) -> list[str]:
        lines = self._lines_to_ready(command)
        for line in lines:
            if line.startswith("e-["):
                raise DeviceError(f"{command}: the device answered {one_line(line)}{fault_text(line)}")
        return lines

    def _lines_to_ready(self, command: str, most: int = _LONGEST_ANSWER) -> list[str]:
        """Lines up to `m-ready`, of at most so many characters together."""
        lines: list[str] = []
        length, end = 0, time.monotonic() + _PATIENCE * self._timeout
        while True:
            line = self._line(command, lines)
            if line == "m-ready":
                return lines
            length += len(line) + 1
            if length > most or time.monotonic() > end:
                raise DeviceError(
                    f"{command}: expected an answer that ends with m-ready, got {length:,} characters without one, last {shown(lines)}; "
                    "does the device run monitor.elf, at this baud rate?"
                )
            if line:
                lines.append(line)

    def _line(self, command: str, before: list[str]) -> str:
        deadline = time.monotonic() + self._timeout
        end = deadline + _PATIENCE * self._timeout
        while b"\n" not in self._unread:
            received = self._receive()
            self._unread += received
            if received and len(self._unread) < _LONGEST_LINE:
                deadline = time.monotonic() + self._timeout
            if b"\n" not in self._unread and (time.monotonic() > min(deadline, end) or len(self._unread) >= _LONGEST_LINE):
                got = shown([*before, *([self._unread[:80].decode(errors="replace")] if self._unread else [])])
                raise DeviceError(
                    f"{command}: expected an answer that ends with m-ready, got {got} and then nothing for {self._timeout:g} s; "
                    "does the device run monitor.elf, at this baud rate?"
                )
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace").strip()

    def _receive(self) -> bytes:
        try:
            return self._stream.read(4096)
        except OSError as problem:  # pyserial's SerialException is one: the cable was pulled
            raise DeviceError(f"the device is gone: {one_line(problem)}") from None

    def _send(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except OSError as problem:
            raise DeviceError(f"the device is gone, or takes nothing: {one_line(problem)}") from None


def _known(text: str) -> int | None:
    return None if text == "unknown" else int(text)


class _Port:
    """A pyserial port whose `read` returns what is there, instead of waiting until all that was asked for is."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def read(self, size: int, /) -> bytes:
        """See Stream.read."""
        first: bytes = self._port.read(1)
        return first + self._port.read(min(size - 1, self._port.in_waiting)) if first else b""

    def write(self, data: bytes, /) -> int | None:
        """See Stream.write."""
        written: int | None = self._port.write(data)
        return written

    def close(self) -> None:
        """Gives the port back."""
        self._port.close()


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
        stream: Stream = _Port(serial.Serial(port, baud, timeout=_POLL_SECONDS, write_timeout=timeout, exclusive=True))
    except (OSError, ValueError) as problem:  # pyserial's SerialException is an OSError
        raise DeviceError(f"port {port!r}: cannot be opened: {one_line(problem)}") from None
    device = Device(stream, timeout)
    try:
        device.synchronise()
    except DeviceError as problem:
        device.close()
        raise DeviceError(f"port {port!r}: {problem}") from None
    return device
