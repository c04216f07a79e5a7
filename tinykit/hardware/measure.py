"""What a device that runs the monitor image is asked, and what came of it. The truth is the reference executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.boards.answers import Info
from tinykit.boards.serial_harness import Device, DeviceError
from tinykit.engine.access import tensor_bytes
from tinykit.engine.memory import inputs_of, outputs_of, pack, unpack
from tinykit.graph import ir, reference
from tinykit.hardware.samples import Samples, only_input

_AT_ONCE = 16
_LATENCY_SECONDS = 2.0
_MOST_INFERENCES = 10_000
_CLOCK_SECONDS = 2.0
_SINGLE_RUNS = 5


@dataclass
class Comparison:
    """Output bytes of a device against the reference executor.

    Attributes:
        samples: inferences.
        compared: bytes.
        mismatches: bytes that differ.
        first: the first difference in words.
    """

    samples: int = 0
    compared: int = 0
    mismatches: int = 0
    first: str | None = None

    def add(self, got: bytes, want: bytes) -> None:
        """Compares one sample's output."""
        wrong = [i for i, (a, b) in enumerate(zip(got, want)) if a != b] + list(range(min(len(got), len(want)), max(len(got), len(want))))
        if wrong and self.first is None:
            self.first = f"sample {self.samples}, byte {wrong[0]} of {len(want)}: {len(wrong)} bytes of its output differ"
        self.samples += 1
        self.compared += len(want)
        self.mismatches += len(wrong)


@dataclass
class Accuracy:
    """Top-1 over streamed samples, in samples that were right: of the device, of the reference executor."""

    device: int = 0
    reference: int = 0


@dataclass(frozen=True)
class Timing:
    """What the board's own counter says.

    Attributes:
        cycles: of one inference without the copy of its input: each of some runs; empty where the board has no counter that is known.
        microseconds, inferences: of so many inferences together, by the board's clock; None on an emulated board.
        clock_ratio: the board's seconds by the host's; 1 where the core clock is what the firmware takes it for; None: not looked at.
    """

    cycles: tuple[int, ...]
    microseconds: int | None = None
    inferences: int | None = None
    clock_ratio: float | None = None


@dataclass(frozen=True)
class Findings:
    """Everything that is known of a device.

    Attributes:
        info, name, model: what its firmware says of itself.
        self_test: wrong bytes of the vector in its flash.
        golden: the golden vectors.
        timing: the counter.
        stream: the outputs of the streamed samples, None where none were streamed.
        accuracy: top-1 of them, None where they have no class indices.
        stack, static, arena: bytes, by the firmware's own account; the monitor's own included. `static` is None where it cannot tell.
    """

    info: Info
    name: str
    model: str
    self_test: int
    golden: Comparison
    timing: Timing
    stream: Comparison | None
    accuracy: Accuracy | None
    stack: int
    static: int | None
    arena: int

    @property
    def mismatches(self) -> int:
        """Bytes that are wrong, of all that were compared."""
        return self.self_test + self.golden.mismatches + (self.stream.mismatches if self.stream else 0)


def wire_bytes(kind: str, tensor: ir.Tensor, stored: bytes) -> bytes:
    """An input as `db` takes it, from its stored bytes; kind: see tinykit.engine.mlperf.Task."""
    if kind == "pixels":
        return (np.frombuffer(stored, np.uint8) ^ 0x80).tobytes()
    if kind == "float32":
        values = np.frombuffer(stored, np.int8).astype(np.float32) - np.float32(tensor.zero_point)
        return (values * np.float32(tensor.scale)).astype("<f4").tobytes()
    return stored


def identify(device: Device, board: str, graph: ir.Graph) -> tuple[Info, str, str]:
    """What the firmware says of itself: (info, name of the board, name of the model).

    Raises:
        DeviceError: it is another board's firmware, or another network's.
    """
    name = device.name()
    if name != board:
        raise DeviceError(
            f"the device calls itself {name!r}; expected {board!r}: give its name as --board, or flash monitor.elf of {board}"
        )
    info, model = device.info(), device.model()
    sizes = sum(map(tensor_bytes, inputs_of(graph))), sum(map(tensor_bytes, outputs_of(graph)))
    if (info.input_bytes, info.output_bytes) != sizes:
        raise DeviceError(
            f"the firmware on {board} holds network {info.model!r} with {info.input_bytes:,} bytes of input and "
            f"{info.output_bytes:,} of output; {graph.name!r} has {sizes[0]:,} and {sizes[1]:,}: flash this network's monitor.elf (--flash)"
        )
    return info, name, model


def measure(
    device: Device,
    board: str,
    graph: ir.Graph,
    golden: np.ndarray,
    stream: Samples | None,
    *,
    measured: bool,
    log: Callable[[str], None] = lambda line: None,
) -> Findings:
    """The whole conversation.

    Args:
        golden: stored inputs [N, *shape] to compare byte for byte.
        stream: more of them, with labels.
        measured: it is a real board: its clock is looked at, and inferences are timed.

    Raises:
        DeviceError: it is not the board or network that was expected, or does not answer as it should.
    """
    info, name, model = identify(device, board, graph)
    self_test = device.self_test()
    log(f"self-test: {self_test} bytes differ")
    compared, _ = _compare(device, info, graph, golden, None, log, "golden vectors")
    timing = _timing(device, measured)
    found, accuracy = (None, None) if stream is None else _compare(device, info, graph, stream.x, stream.y, log, "samples")
    static, arena = device.ram()
    return Findings(info, name, model, self_test, compared, timing, found, accuracy, device.stack(), static, arena)


def _truth(graph: ir.Graph, x: np.ndarray) -> Iterator[tuple[bytes, bytes, np.ndarray]]:
    """For each sample the stored bytes of the input and of all outputs, and the first output's values, by the reference executor."""
    for start in range(0, len(x), _AT_ONCE):
        given = {graph.inputs[0]: x[start : start + _AT_ONCE]}
        count = len(given[graph.inputs[0]])
        values = reference.run_all(graph, given)
        outputs = {t: np.broadcast_to(values[t], (count, *values[t].shape[1:])) for t in graph.outputs}
        for i in range(count):
            yield pack(inputs_of(graph), given, i), pack(outputs_of(graph), outputs, i), outputs[graph.outputs[0]][i]


def _compare(
    device: Device, info: Info, graph: ir.Graph, x: np.ndarray, y: np.ndarray | None, log: Callable[[str], None], what: str
) -> tuple[Comparison, Accuracy | None]:  # fmt: skip
    tensor = only_input(graph)
    found, accuracy = Comparison(), Accuracy() if y is not None else None
    told = 0
    for i, (given, want, scores) in enumerate(_truth(graph, x)):
        device.load(wire_bytes(info.wire, tensor, given))
        device.infer()
        got = device.output()
        found.add(got, want)
        if accuracy is not None and y is not None:
            accuracy.reference += int(np.argmax(scores) == y[i])
            accuracy.device += int(len(got) == len(want) and np.argmax(first_output(graph, got)) == y[i])
        if 10 * (i + 1) // len(x) > told and len(x) >= 50:
            told = 10 * (i + 1) // len(x)
            log(f"{what}: {i + 1} of {len(x)}, {found.mismatches} bytes differ")
    log(f"{what}: {found.mismatches} of {found.compared:,} bytes differ, {found.samples} samples")
    return found, accuracy


def first_output(graph: ir.Graph, data: bytes) -> np.ndarray:
    """Values of the first output, from the bytes of all of them."""
    tensor = outputs_of(graph)[0]
    return unpack(tensor, data[: tensor_bytes(tensor)])


def _timing(device: Device, measured: bool) -> Timing:
    device.infer(1, 1)
    cycles = [device.cycles()]
    if not measured:
        return Timing(_known(cycles))
    single = device.infer(1, 0).microseconds
    for _ in range(_SINGLE_RUNS - 1):
        device.infer(1, 0)
        cycles.append(device.cycles())
    count = max(1, min(_MOST_INFERENCES, int(_LATENCY_SECONDS * 1e6 / max(1, single))))
    usual = device.timeout
    device.timeout = usual + 3 * count * single / 1e6
    try:
        total = device.infer(count, 1).microseconds
    finally:
        device.timeout = usual
    return Timing(_known(cycles), total, count, _clock_ratio(device))


def _known(cycles: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(count for count in cycles if count is not None)


def _clock_ratio(device: Device) -> float:
    """Seconds of the board by seconds of the host: far from 1 where the core does not run at the clock that the firmware assumes."""
    device.timestamp()
    first, begin = device.timestamp(), time.monotonic()
    time.sleep(_CLOCK_SECONDS)
    last, end = device.timestamp(), time.monotonic()
    return ((last - first) % (1 << 32)) / 1e6 / (end - begin)
