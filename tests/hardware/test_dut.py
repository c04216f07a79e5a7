"""On a real board: pytest tests/hardware/test_dut.py --dut=/dev/ttyACM0 --board=nucleo_l4r5zi [--flash | --dut-model=FILE.tflite]

Without --dut all of it skips. The same tests run against an emulated board that `python -m tinykit.bench --serve` serves: --dut=/dev/pts/N.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import digits_like, monitor_elf  # noqa: E402

from tinykit.boards.serial_harness import Device, DeviceError, open_port  # noqa: E402
from tinykit.boards.table import firmware_board  # noqa: E402
from tinykit.engine.memory import random_samples  # noqa: E402
from tinykit.graph import ir  # noqa: E402
from tinykit.hardware.flash import flash  # noqa: E402
from tinykit.hardware.measure import measure  # noqa: E402
from tinykit.hardware.ports import EMULATED_TIMEOUT_SECONDS, provenance  # noqa: E402
from tinykit.hardware.report import CLOCK_TOLERANCE, device_lines, device_report  # noqa: E402
from tinykit.hardware.samples import only_input  # noqa: E402


@pytest.fixture(scope="module")
def target(request):
    """(port, board) of the device; skips where there is none."""
    port, name = request.config.getoption("--dut"), request.config.getoption("--board")
    if not port:
        pytest.skip("no board: connect one and give --dut=PORT --board=NAME (docs/hardware.md)")
    if not name:
        pytest.fail("--dut needs --board=NAME, one of the board table's")
    return port, firmware_board(name)


@pytest.fixture(scope="module")
def flashed(request, target, tmp_path_factory) -> ir.Graph | None:
    """The network that is on the board, None where nobody said which."""
    _, board = target
    if request.config.getoption("--flash"):
        graph = digits_like()
        flash(board, monitor_elf(tmp_path_factory.mktemp("dut"), graph, board.name))
        return graph
    model = request.config.getoption("--dut-model")
    if model is None:
        return None
    from tinykit.compile import read_model

    return read_model(Path(model)).deployed


@pytest.fixture(scope="module")
def device(target, flashed):
    port, board = target
    pytest.importorskip("serial", reason="pyserial is not installed: pip install pyserial")
    device = open_port(port, timeout=10 if provenance(board.name, port).measured else EMULATED_TIMEOUT_SECONDS)
    yield device
    device.close()


def test_it_is_the_board_that_was_named(device: Device, target):
    _, board = target
    assert device.name() == board.name
    assert device.info().clock_hz == board.reset_hz


def test_the_self_test_passes(device: Device):
    assert device.self_test() == 0


def test_garbage_and_long_commands_leave_it_alive(device: Device, target):
    _, board = target
    rng = np.random.default_rng(2)
    for size in (1, 80, 81, 500):
        device.command_bytes(bytes(b for b in rng.integers(0, 256, size).astype(np.uint8).tobytes() if b != ord("%")))
        device.synchronise()
        assert device.name() == board.name
    with pytest.raises(DeviceError, match="command longer than 80 characters"):
        device.command("x" * 200)
    assert device.name() == board.name


def test_outputs_timing_and_memory(device: Device, target, flashed, tally, capsys):
    """Golden vectors byte for byte; on a real board a clock that runs as the firmware assumes, and a latency."""
    if flashed is None:
        pytest.skip("which network is on the board? give --flash, or --dut-model=FILE.tflite")
    port, board = target
    origin = provenance(board.name, port)
    x = random_samples(flashed, 16)[only_input(flashed).name]
    found = measure(device, board.name, flashed, x, None, measured=origin.measured)
    tally(f"device against reference, {origin}", found.golden.mismatches, found.golden.compared)
    assert found.mismatches == 0
    assert 0 < found.stack < board.ram_bytes
    report = device_report(found, board, origin, None)
    if origin.measured:
        assert report["latency_ms"] > 0 and abs(found.timing.clock_ratio - 1) < CLOCK_TOLERANCE
    else:
        assert report["latency_ms"] is None
    with capsys.disabled():
        print("", *device_lines(report), sep="\n")
