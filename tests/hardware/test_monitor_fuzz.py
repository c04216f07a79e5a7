"""Any bytes at all on the emulated UART: every command is answered as the model answers it, each with its m-ready, and nothing crashes."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import BOARDS, digits_like, monitor_elf, needs_compiler  # noqa: E402
from monitor_model import MonitorModel, conversation, differences  # noqa: E402

from tinykit.boards.emulator import EmulatedBoard  # noqa: E402
from tinykit.boards.image import Image  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.engine.memory import inputs_of, outputs_of, pack, random_samples  # noqa: E402
from tinykit.graph import ir, reference  # noqa: E402

COMMANDS = 400


def scores_of(tensor: ir.Tensor, data: bytes) -> str:
    """The text of m-results, in integers as the firmware has it."""
    q24 = round(float(np.float32(tensor.scale)) * (1 << 24))
    thousandths = [((q - tensor.zero_point) * q24 * 1000 + (1 << 23)) >> 24 for q in np.frombuffer(data, np.int8).astype(int).tolist()]
    return ",".join(f"{'-' if v < 0 else ''}{abs(v) // 1000}.{abs(v) % 1000:03d}" for v in thousandths)


def model_of(graph: ir.Graph, name: str) -> MonitorModel:
    """What must be answered by the monitor image of `graph` as hardware_nets.monitor_elf builds it."""
    (given,), (result,) = inputs_of(graph), outputs_of(graph)

    def run(data: bytes) -> bytes:
        x = np.frombuffer(data, np.int8).reshape(1, *given.shape)
        return pack([result], reference.run_all(graph, {given.name: x}), 0)

    vector = pack([given], random_samples(graph, 1), 0)
    return MonitorModel(name, "tiny", (given.size, result.size), run, vector, lambda data: scores_of(result, data))


def fuzz(elf: Path, name: str, graph: ir.Graph, seed: int, commands: int) -> str | None:
    """One conversation from reset, fed in pieces of any size; what is wrong with it, None where nothing is."""
    rng, model, run = random.Random(seed), model_of(graph, name), EmulatedBoard(board(name), Image.load(elf))
    run.run_until_input()
    banner = run.serial_read()
    if not banner.endswith(b"m-init-done\r\nm-ready\r\n"):
        return f"banner {banner!r}"
    sent = b"".join(c for c in conversation(rng, commands, model.size) if not model.too_long(c[:-1]))
    received, at = b"", 0
    while at < len(sent):
        step = rng.choice([1, 7, 81, 1000])
        run.serial_write(sent[at : at + step])
        at += step
        run.run_until_input()
        received += run.serial_read()
    return differences(model, sent, received)


@needs_compiler
@pytest.mark.parametrize("name", BOARDS)
def test_every_command_is_answered(tmp_path, name):
    graph = digits_like()
    elf = monitor_elf(tmp_path, graph, name)
    for seed in range(3):
        assert fuzz(elf, name, graph, seed, COMMANDS) is None, f"seed {seed}"


@needs_compiler
def test_the_fuzzer_notices(tmp_path):
    """A lost m-ready, a lost byte and a wrong score each."""
    graph = digits_like()
    model, sent = model_of(graph, "nano33ble"), b"name%db load 64%"
    right = b"m-name-dut-[nano33ble]\r\nm-ready\r\nm-[Expecting 64 bytes]\r\nm-ready\r\n"
    assert differences(model, sent, right) is None
    for wrong in (right[: -len(b"m-ready\r\n")], right.replace(b"64", b"63"), right + b"m-ready\r\n", right.replace(b"name-", b"name\xff")):
        assert differences(model_of(graph, "nano33ble"), sent, wrong) is not None
    assert model.too_long(b"infer 1 9") and model.too_long(b"infer") and not model.too_long(b"infer 1 0") and not model.too_long(b"infer x")
