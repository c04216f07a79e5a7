"""The monitor in Python, as its protocol is documented: what must be answered to any bytes at all. And bytes to try it with.

Everything is compared but times and counts, which are patterns; so a monitor that loses a byte, a command or an `m-ready` is noticed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

LONGEST = 80
NUMBER = r"\d+"
MOST_INFERENCES = 3
"""Longer ones say nothing more, and take their time."""


def _command(data: bytes) -> str | None:
    """The text of a command: line ends and zeros are ignored, other unprintable bytes are '?'. None: it is too long."""
    text = "".join(chr(b) if 32 <= b <= 126 else "?" for b in data if b not in b"\r\n\0")
    return text if len(text) <= LONGEST else None


def _number(word: str) -> int | None:
    return int(word) if re.fullmatch(r"[0-9]{1,9}", word) else None


class MonitorModel:
    """The state of a monitor and its answers.

    Args:
        name: of the board.
        model: the network's C name.
        sizes: bytes of input and output.
        run: input bytes -> output bytes.
        vector: the input of the self-test.
        scores: output bytes -> the text between the brackets of m-results.
    """

    def __init__(
        self, name: str, model: str, sizes: tuple[int, int], run: Callable[[bytes], bytes], vector: bytes, scores: Callable[[bytes], str]
    ) -> None:
        self.name, self.model, self.size, self.outputs = name, model, *sizes
        self.run, self.vector, self.scores = run, vector, scores
        self.input, self.output = bytearray(self.size), b""
        self.announced = self.received = 0

    def answer(self, data: bytes) -> list[str]:
        """Patterns of the lines that answer a command (bytes without its '%'), without the last, m-ready."""
        text = _command(data)
        if text is None:
            return [re.escape(f"e-[command longer than {LONGEST} characters]")]
        word, *rest = [part for part in text.split(" ") if part] or [""]
        known: dict[str, Callable[[list[str]], list[str]]] = {
            "name": lambda _: [re.escape(f"m-name-dut-[{self.name}]")],
            "profile": lambda _: [re.escape("m-profile-[ULPMark for tinyML Firmware V0.0.1]"), re.escape(f"m-model-[{self.model}]")],
            "timestamp": lambda _: [f"m-lap-us-{NUMBER}"],
            "db": self._db,
            "infer": self._infer,
            "results": lambda _: self._if_output(lambda: [self._results()]),
            "x-out": lambda _: self._if_output(lambda: [re.escape(f"m-x-out-[{self.output.hex()}]")]),
            "x-self": lambda _: self._self_test(),
            "x-stack": lambda _: [rf"m-x-stack-\[{NUMBER}\]"],
            "x-ram": lambda _: [rf"m-x-ram-\[{NUMBER},{NUMBER}\]"],
            "x-cyc": lambda _: [rf"m-x-cyc-\[{NUMBER}\]"],
            "x-info": lambda _: [rf"m-x-info-\[{self.model},stored,{self.size},{self.size},{self.outputs},{NUMBER}\]"],
            "help": lambda _: [r"m-help-\[[a-z -]+\]"],
        }
        if word not in known:
            return [re.escape(f"e-[Unknown command: {word}]")]
        return known[word](rest)

    def too_long(self, data: bytes) -> bool:
        """Whether the command asks for more inferences than a test has time for."""
        words = (_command(data) or "").split()
        if words[:1] != ["infer"]:
            return False
        counts = [_number(word) for word in words[1:3]]
        asked = sum(count or 0 for count in counts) + (0 if len(counts) == 2 else 10)
        return asked > MOST_INFERENCES and not (counts and counts[0] in (None, 0)) and not (len(counts) == 2 and counts[1] is None)

    def _db(self, rest: list[str]) -> list[str]:
        if not rest:
            return [re.escape("e-[db: expected load, print or bytes]")]
        if rest[0] == "load":
            return self._load(_number(rest[1]) if len(rest) > 1 else None)
        if rest[0] == "print":
            pairs = [f"-{byte:02x}" for byte in self.input[: self.received]]
            return [re.escape("m-buffer" + "".join(pairs[i : i + 8])) for i in range(0, len(pairs), 8)]
        return self._bytes(rest[0])

    def _load(self, size: int | None) -> list[str]:
        self.announced = self.received = 0
        if size is None or not 0 < size <= self.size:
            return [re.escape(f"e-[db load: expected a number of bytes from 1 to {self.size}]")]
        self.input, self.announced = bytearray(self.size), size
        return [re.escape(f"m-[Expecting {size} bytes]")]

    def _bytes(self, text: str) -> list[str]:
        lines = []
        for i in range(0, len(text), 2):
            pair = text[i : i + 2]
            if not re.fullmatch(r"[0-9a-fA-F]{2}", pair):
                return [*lines, re.escape("e-[db: expected pairs of hexadecimal digits]")]
            if self.received == self.announced:
                return [*lines, re.escape(f"e-[db: more bytes than the announced {self.announced}]")]
            self.input[self.received] = int(pair, 16)
            self.received += 1
            if self.received == self.announced:
                lines.append("m-load-done")
        return lines

    def _infer(self, rest: list[str]) -> list[str]:
        count = _number(rest[0]) if rest else 1
        if not count:
            return [re.escape("e-[infer: expected a number of inferences of at least 1]")]
        warmups = _number(rest[1]) if len(rest) > 1 else 10
        if warmups is None:
            return [re.escape("e-[infer: expected a number of warm-up inferences]")]
        self.output = self.run(bytes(self.input))
        laps = [f"m-lap-us-{NUMBER}"] * 2
        return [f"m-warmup-start-{warmups}", "m-warmup-done", f"m-infer-start-{count}", *laps, "m-infer-done", self._results()]

    def _self_test(self) -> list[str]:
        self.output = self.run(self.vector)
        return [re.escape("m-x-self-[0]")]

    def _if_output(self, lines: Callable[[], list[str]]) -> list[str]:
        return lines() if self.output else [re.escape("e-[no inference yet: send infer first]")]

    def _results(self) -> str:
        return re.escape(f"m-results-[{self.scores(self.output)}]")


def differences(model: MonitorModel, sent: bytes, received: bytes) -> str | None:
    """Where the answers to `sent` (commands, each with its '%') are not the model's; None where all are."""
    if any(b not in b"\r\n" and not 32 <= b <= 126 for b in received):
        return "an answer has bytes that are no printable ASCII"
    lines = [line.strip() for line in received.decode("ascii").split("\n")]
    lines = [line for line in lines if line]
    for number, command in enumerate(sent.split(b"%")[:-1]):
        for pattern in [*model.answer(command), "m-ready"]:
            line = lines.pop(0) if lines else "nothing"
            if not re.fullmatch(pattern, line):
                return f"command {number}, {command!r}: expected {pattern}, got {line!r}"
    return f"answers to nothing: {lines[:3]}" if lines else None


def conversation(rng: random.Random, commands: int, size: int) -> Iterator[bytes]:
    """Commands with their '%': good ones, damaged ones, bytes that are none. `size`: bytes of the network's input."""
    for _ in range(commands):
        yield _damaged(rng, _good(rng, size)).replace(b"%", b"") + b"%"


def _good(rng: random.Random, size: int) -> bytes:
    data = rng.randbytes(rng.choice([1, 2, 26, 31, 38]))
    return rng.choice(
        [
            b"name", b"profile", b"timestamp", b"results", b"x-out", b"x-self", b"x-stack", b"x-ram", b"x-cyc", b"x-info", b"help",
            b"db", b"db print", b"db load %d" % size,
            b"db load %d" % rng.choice([0, 1, size - 1, size + 1, 10**9, rng.randrange(2 * size)]),
            *[b"db " + data.hex().encode()] * 6, b"db " + data.hex().upper().encode(), b"db " + data.hex().encode()[:-1],
            b"infer %d %d" % (rng.randrange(3), rng.randrange(2)), b"infer 1 0", b"infer", b"infer x", b"infer 1 -1",
        ]
    )  # fmt: skip


def _damaged(rng: random.Random, command: bytes) -> bytes:
    """Mostly unchanged; else with bits, bytes, blanks or line ends too many or too few, or something else altogether."""
    kind = rng.randrange(14)
    at = rng.randrange(len(command) + 1)
    if kind == 0 and command:
        place = rng.randrange(len(command))
        return command[:place] + bytes([command[place] ^ 1 << rng.randrange(8)]) + command[place + 1 :]
    if kind == 1:
        return command[:at]
    if kind == 2:
        return command[:at] + rng.randbytes(rng.randrange(1, 6)) + command[at:]
    if kind == 3:
        return command[:at] + b" " * rng.choice([1, 2, 60, 81, 200]) + command[at:]
    if kind == 4:
        return command[:at] + rng.choice([b"\r\n", b"\0", b"\n\n", b"\r" * 90]) + command[at:]
    if kind == 5:
        return rng.randbytes(rng.choice([0, 1, 79, 80, 81, 300, 2000]))
    if kind == 6:
        return (command + b" ") * rng.choice([2, 20])
    if kind == 7:
        return command.ljust(rng.choice([79, 80, 81]), rng.choice([b"x", b" ", b"0"]))
    return command
