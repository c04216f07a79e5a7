"""What the monitor's answers mean: times, scores, fault registers. They come from a device and are not trusted."""

import math
import re
from dataclasses import dataclass

from tinykit.errors import one_line

_SHOWN = 200
"""Characters of a line that a message repeats."""

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


@dataclass(frozen=True)
class Inference:
    """Answer to `infer`.

    Attributes:
        microseconds: of all inferences together, by the device's own clock.
        results: the scores as the device printed them, to three decimals.
    """

    microseconds: int
    results: tuple[float, ...]


@dataclass(frozen=True)
class Info:
    """Answer to `x-info`.

    Attributes:
        model: the network's C name.
        wire: what a byte of `db` is: 'stored', 'pixels' or 'float32' (tinykit.engine.mlperf.Task).
        wire_bytes: that `db load` takes for one inference.
        input_bytes, output_bytes: of the network's inputs and outputs as they are stored.
        clock_hz: the core clock that the firmware reckons its times with.
    """

    model: str
    wire: str
    wire_bytes: int
    input_bytes: int
    output_bytes: int
    clock_hz: int


def parse_info(text: str) -> Info:
    """What stands between the brackets of `m-x-info-[...]`. Raises ValueError where it is something else."""
    match = re.fullmatch(r"(\w{1,64}),(stored|pixels|float32),(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,10})", text, re.ASCII)
    if match is None:
        raise ValueError(one_line(text))
    return Info(match[1], match[2], *(int(match[k]) for k in range(3, 7)))


def scores(answer: list[str]) -> tuple[float, ...]:
    """Raises ValueError if there are none in `answer`."""
    for line in answer:
        if line.startswith("m-results-[") and line.endswith("]"):
            found = tuple(float(part) for part in line[len("m-results-[") : -1].split(","))
            if all(map(math.isfinite, found)):
                return found
    raise ValueError("no m-results")


def laps(answer: list[str]) -> list[int]:
    """The times of an answer. Raises ValueError where one is no number."""
    times = [line.removeprefix("m-lap-us-") for line in answer if line.startswith("m-lap-us-")]
    if not all(re.fullmatch(r"\d{1,10}", text, re.ASCII) for text in times):
        raise ValueError("no time")
    return [int(text) for text in times]


def fault_text(line: str) -> str:
    """What the fault status of a line `e-[fault: cfsr 0x...` means, "" for other lines."""
    match = re.match(r"e-\[fault: cfsr 0x([0-9a-f]{8})", line)
    if match is None:
        return ""
    status = int(match[1], 16)
    reasons = [text for bit, text in _FAULTS.items() if status & bit]
    return f" ({', '.join(reasons) or 'an unknown reason'})"


def shown(lines: list[str]) -> str:
    text = " | ".join(line[:_SHOWN] for line in lines[-4:])
    return repr(text) if text else "nothing"
