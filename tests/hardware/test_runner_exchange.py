"""The exchange of MLPerf Tiny's runner, as its sources have it: what it sends, how it reads, what it looks for in the answers."""

import queue
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import monitor_elf, needs_compiler, needs_pyserial, task_like  # noqa: E402

from tinykit.boards.table import board  # noqa: E402
from tinykit.engine.memory import inputs_of  # noqa: E402
from tinykit.graph import reference  # noqa: E402
from tinykit.hardware.ports import served  # noqa: E402

pytestmark = [needs_compiler, needs_pyserial]


class Runner:
    """One character at a time into lines, from a thread; a command's answer ends with the line that holds m-ready; 31 bytes a `db`."""

    def __init__(self, port: str) -> None:
        import serial

        self._port = serial.Serial(port, 115200, timeout=0.1)
        self._lines: queue.Queue[str] = queue.Queue()
        self._running = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        text = ""
        while self._running:
            character = self._port.read(1).decode()  # strict: a byte that is no ASCII ends the runner
            if character == "\n":
                self._lines.put(text)
                text = ""
            elif character and character not in "\r\0":
                text += character

    def send(self, command: str) -> list[str]:
        self._port.write(command.encode() + b"%")
        lines = []
        while True:
            line = self._lines.get(timeout=60)
            lines += [line] if line else []
            if "m-ready" in line:
                return lines

    def until_silent(self) -> None:
        while True:
            try:
                self._lines.get(timeout=1)
            except queue.Empty:
                return

    def load(self, data: bytes) -> list[str]:
        self.send(f"db load {len(data)}")
        for start in range(0, len(data), 31):
            answer = self.send("db " + data[start : start + 31].hex())
        return answer

    def close(self) -> None:
        self._running = False
        self._thread.join()
        self._port.close()


def found(pattern: str, lines: list[str]) -> list[str]:
    return [match[1] for match in (re.match(pattern, line) for line in lines) if match]


@pytest.mark.parametrize("name", ["nano33ble", "nucleo_l4r5zi"])
def test_an_accuracy_run(tmp_path, name):
    graph = task_like("ic01")
    tensor = inputs_of(graph)[0]
    with served(board(name), monitor_elf(tmp_path, graph, name, "ic01")) as port:
        runner = Runner(port)
        try:
            runner.until_silent()  # the banner, where the board was reset just now
            assert found(r"^m-name-dut-\[([^]]+)]$", runner.send("name")) == [name]
            profile = runner.send("profile")
            assert found(r"^m-model-\[([^]]+)]$", profile) == ["ic01"]
            assert found(r"^m-profile-\[([^]]+)]$", profile) == ["ULPMark for tinyML Firmware V0.0.1"]
            assert len(found(r"^m-lap-us-([0-9]+)$", runner.send("timestamp"))) == 1
            for seed in range(3):
                pixels = np.random.default_rng(seed).integers(0, 256, tensor.size).astype(np.uint8)
                assert runner.load(pixels.tobytes()) == ["m-load-done", "m-ready"]
                answer = runner.send("infer 1 0")
                assert "m-infer-done" in answer and len(found(r"^m-lap-us-([0-9]+)$", answer)) == 2
                scores = np.array([float(part) for part in found(r"^m-results-\[([^]]+)\]$", answer)[0].split(",")])
                stored = (pixels.astype(np.int16) - 128).astype(np.int8).reshape(1, *tensor.shape)
                want = reference.run_all(graph, {tensor.name: stored})[graph.outputs[0]][0]
                result = graph.tensors[graph.outputs[0]]
                assert np.abs(scores - (want.astype(float) - result.zero_point) * result.scale).max() <= 0.0006
            laps = [int(lap) for lap in found(r"^m-lap-us-([0-9]+)$", runner.send("infer 5 1"))]
            assert laps[1] > laps[0]
        finally:
            runner.close()
