"""What the host sends and what the monitor answers: MLPerf Tiny's forms of input, float and wide scores."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import device_of, digits_like, monitor_elf, needs_compiler, nets, task_like  # noqa: E402

from tinykit.boards.table import board  # noqa: E402
from tinykit.boards.toolchain import find  # noqa: E402
from tinykit.engine.memory import inputs_of, outputs_of, pack, random_samples  # noqa: E402
from tinykit.engine.mlperf import TASKS, check_task, float_literal  # noqa: E402
from tinykit.errors import ConfigError  # noqa: E402
from tinykit.graph import ir, reference  # noqa: E402
from tinykit.hardware.measure import first_output, identify, wire_bytes  # noqa: E402

pytestmark = needs_compiler


def truth(graph: ir.Graph, x: np.ndarray) -> bytes:
    """All outputs of one sample as bytes."""
    return pack(outputs_of(graph), reference.run_all(graph, {graph.inputs[0]: x[None]}), 0)


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("task", sorted(TASKS))
def test_tasks_of_mlperf_tiny(tmp_path, task, toolchain, tally):
    """The runner's script decides what is sent by the name; the answer is the reference's to the same input as it is stored."""
    if not find(toolchain):
        pytest.skip(f"{toolchain} is not installed")
    graph = task_like(task)
    tensor, name = inputs_of(graph)[0], "nucleo_l4r5zi"
    with device_of(monitor_elf(tmp_path, graph, name, task, toolchain), name) as device:
        info, _, model = identify(device, name, graph)
        assert (model, info.wire) == (task, TASKS[task].wire)
        assert info.wire_bytes == TASKS[task].inputs * (4 if info.wire == "float32" else 1)
        assert info.clock_hz == board(name).reset_hz
        for x in random_samples(graph, 3, seed=3)[tensor.name]:
            stored = x.astype(np.int8)
            sent = wire_bytes(info.wire, tensor, stored.tobytes())
            if info.wire == "pixels":
                assert (np.frombuffer(sent, np.uint8).astype(int) - 128 == stored.ravel()).all()
            device.load(sent)
            scores = device.infer().results
            got, want = device.output(), truth(graph, stored)
            tally(f"monitor against reference, {task}", sum(a != b for a, b in zip(got, want)), len(want))
            assert got == want
            if task == "ad01":
                result = outputs_of(graph)[0]
                reals = (first_output(graph, want).astype(np.float64) - result.zero_point) * result.scale
                error = np.mean((reals.ravel() - np.frombuffer(sent, "<f4").astype(np.float64)) ** 2)
                assert scores[0] == pytest.approx(error, rel=1e-4, abs=1e-3) and len(scores) == 1
        shown = "".join(line.removeprefix("m-buffer") for line in device.command("db print"))
        assert bytes.fromhex(shown.replace("-", "")) == sent


def test_floats_are_quantised_as_the_reference_firmware_does_it(tmp_path):
    """Half away from zero, clamped; what is no number becomes an end, not a trap."""
    graph = task_like("ad01")
    tensor = inputs_of(graph)[0]
    values = np.zeros(640, np.float32)
    special = [0.0, 0.194, 0.196, -0.194, -0.196, 1e30, -1e30, np.inf, -np.inf, 14.8, 15.0]
    values[: len(special)] = special
    with device_of(monitor_elf(tmp_path, graph, "nano33ble", "ad01"), "nano33ble") as device:
        quotient = values / np.float32(tensor.scale)
        away = np.sign(quotient) * np.floor(np.abs(np.clip(quotient, -1000, 1000)) + np.float32(0.5))
        stored = np.clip(away + tensor.zero_point, -128, 127).astype(np.int8)
        for data in (values, np.where(np.arange(640) == 639, np.float32(np.nan), values)):
            device.load(data.astype("<f4").tobytes())
            device.command("infer 1 0")
            if not np.isnan(data).any():
                assert device.output() == truth(graph, stored)
        assert device.name() == "nano33ble"


def test_networks_that_cannot_do_a_task_are_refused():
    with pytest.raises(ConfigError, match=r"--mlperf=ic01: expected one int8 input of 3,072 elements and one int8 output of 10"):
        check_task("ic01", digits_like())
    with pytest.raises(ConfigError, match="unknown MLPerf Tiny task 'kws1'; did you mean 'kws01'"):
        check_task("kws1", digits_like())
    assert check_task("kws01", task_like("kws01")).wire == "stored"


@pytest.mark.parametrize("value", [0.1, 1.0, 3.5e-6, 0.5847029089927673])
def test_literals_are_exact(value):
    literal = float_literal(value)
    assert literal.endswith("f") and np.float32(float.fromhex(literal[:-1])) == np.float32(value)


@pytest.mark.parametrize("last", ["dequantize", "argmax"])
def test_scores_of_32_bits(tmp_path, last):
    """Real values behind DEQUANTIZE, indices behind ARG_MAX."""
    net = nets.Net(11)
    y = net.dense(net.input((4, 4, 2)), out=5)
    net.dequantize(y) if last == "dequantize" else net.argmax(y, 0)
    graph = net.done()
    with device_of(monitor_elf(tmp_path, graph, "nano33ble"), "nano33ble") as device:
        for x in random_samples(graph, 4)[graph.inputs[0]]:
            device.load(x.astype(np.int8).tobytes())
            scores = device.infer().results
            want = np.atleast_1d(reference.run_all(graph, {graph.inputs[0]: x[None]})[graph.outputs[0]][0])
            assert len(scores) == want.size
            assert np.abs(np.array(scores) - want).max() <= 0.0006
            assert device.output() == want.astype("<f4" if last == "dequantize" else "<i4").tobytes()
