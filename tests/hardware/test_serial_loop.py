"""The whole loop on emulated boards behind a pseudo-terminal: name, load, infer, results, golden vectors, accuracy, report."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import BOARDS, device_of, digits_like, model_file, monitor_elf, needs_compiler, needs_pyserial, task_like  # noqa: E402

from tinykit.boards.serial_harness import DeviceError  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.engine.memory import inputs_of, random_samples  # noqa: E402
from tinykit.errors import ParityError  # noqa: E402
from tinykit.hardware import measure as measuring  # noqa: E402
from tinykit.hardware.measure import measure  # noqa: E402
from tinykit.hardware.ports import EMULATED, Provenance, served  # noqa: E402
from tinykit.hardware.report import device_lines, device_report  # noqa: E402
from tinykit.hardware.session import Build, Source, bench_device  # noqa: E402

ROOT = Path(__file__).parents[2]
DATA = os.environ.get("TINYKIT_DATA")
pytestmark = [needs_compiler, needs_pyserial]


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tinykit.bench", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, env=environment)


@pytest.mark.parametrize("name", BOARDS)
def test_digits_through_the_command_line(tmp_path, name, tally):
    """Real digits, preprocessed as the configuration says; the network's weights are random: only equality matters here."""
    model = model_file(tmp_path, digits_like())
    done = bench(
        "--model", model, "--board", name, "--port", "emulated", "--config", "digits", "--limit", "12", "--out", "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / name / "report.json").read_text())
    device = report["device"]
    assert (device["name"], device["network"], device["answers_as"], device["input_form"]) == (name, "tiny", "tiny", "stored")
    assert device["provenance"] == f"emulated({name})" and device["port"] == "emulated"
    assert device["latency_ms"] is None and device["clock_ratio"] is None and device["cycles"] > report["instructions"] > 0
    assert "emulated" in device["sources"]["cycles"] and device["sources"]["latency"].startswith("none")
    tally("serial loop, output bytes", device["golden"]["mismatches"], device["golden"]["bytes"])
    assert device["golden"] == {"samples": 16, "bytes": 160, "mismatches": 0, "first": None} and device["self_test_mismatches"] == 0
    assert device["streamed"]["samples"] == 12 and device["streamed"]["available"] == 450 and device["streamed"]["mismatches"] == 0
    assert device["accuracy"]["device"] == device["accuracy"]["reference"]
    assert report["monitor"]["elf"] == "monitor.elf" and (tmp_path / "out" / name / "monitor.elf").is_file()
    assert report["monitor"]["target"] == ("arduino" if name == "nano33ble" else "bare")
    assert f"[emulated({name})]" in done.stdout and "no latency" in done.stdout and "\nlatency:" not in done.stdout


@pytest.mark.skipif(not DATA, reason="TINYKIT_DATA names no folder with the MLPerf Tiny reference models")
@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize(
    ("model", "task", "data"), [("kws_ref_model", "kws01", "kws01_mfcc"), ("ic_pretrainedResnet", "ic01", "cifar10_test")]
)
def test_reference_models_on_real_samples(tmp_path, name, model, task, data, monkeypatch, tally):
    """A few of each; benchmarks/serial_loop.py does 200."""
    monkeypatch.setattr("tinykit.hardware.session.GOLDEN_SAMPLES", 2)
    folder = Path(str(DATA))
    source = Source(folder / "reference_models" / f"{model}_int8.tflite", data=folder / f"{data}.npz", samples=4)
    report = bench_device(source, name, EMULATED, tmp_path, build=Build(task=task), log=lambda line: None)["device"]
    tally("serial loop, output bytes", report["streamed"]["mismatches"], report["streamed"]["bytes"])
    assert report["answers_as"] == task and report["streamed"]["mismatches"] == 0 and report["golden"]["mismatches"] == 0
    assert report["accuracy"]["device"] == report["accuracy"]["reference"]


def interruptible() -> None:
    """In the server's process: SIGINT as a terminal has it, for this process may have been started with it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_served_board_is_a_port_for_other_programs(tmp_path, how, code):
    """bench --serve in one process, bench --port in another; whoever serves it, its figures are emulated."""
    model = model_file(tmp_path, digits_like())
    command = [sys.executable, "-m", "tinykit.bench", "--model", str(model), "--board", "nucleo_l4r5zi", "--serve"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    (tmp_path / "temporary").mkdir()
    environment["TMPDIR"] = str(tmp_path / "temporary")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    server = subprocess.Popen(command, text=True, cwd=tmp_path, env=environment, preexec_fn=interruptible, **pipes)
    try:
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("serving: "))
        port = line.split()[1].rstrip(",")
        for _ in range(2):  # a port that was closed can be opened again
            done = bench("--model", model, "--board", "nucleo_l4r5zi", "--port", port, "--out", "out", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        device = json.loads((tmp_path / "out/nucleo_l4r5zi/report.json").read_text())["device"]
        assert device["provenance"] == "emulated(nucleo_l4r5zi)" and device["port"] == port and device["latency_ms"] is None
        other = bench("--model", model, "--board", "nano33ble", "--port", port, cwd=tmp_path)
        assert other.returncode == 2 and "calls itself 'nucleo_l4r5zi'; expected 'nano33ble'" in other.stderr, other.stderr
        server.send_signal(how)
        rest, problems = server.communicate(timeout=60)
        assert server.returncode == code and "ended" in rest + problems and "Traceback" not in problems, problems
        assert list((tmp_path / "temporary").iterdir()) == []
    finally:
        server.kill()
        server.communicate()


def test_another_network_on_the_board_is_noticed(tmp_path):
    """Of other sizes: told at once. Of the same sizes: bytes differ, the report says so, and the exit code is 4."""
    large, same = model_file(tmp_path, task_like("kws01"), "large"), model_file(tmp_path, digits_like(seed=6), "same")
    with served(board("nano33ble"), monitor_elf(tmp_path, digits_like(), "nano33ble")) as port:
        with pytest.raises(
            DeviceError, match=r"holds network 'tiny' with 64 bytes of input and 10 of output; 'large' has 490 and 12: flash"
        ):
            bench_device(Source(large), "nano33ble", port, tmp_path / "l", log=lambda line: None)
        with pytest.raises(ParityError, match=r"emulated\(nano33ble\): \d+ output bytes differ .*--flash brings it there"):
            bench_device(Source(same), "nano33ble", port, tmp_path / "s", log=lambda line: None)
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    assert report["device"]["golden"]["mismatches"] > 0 and report["device"]["golden"]["first"].startswith("sample 0, byte ")


def test_a_board_that_miscomputes_is_noticed(tmp_path):
    """Of the self-test, by a bit that flash has lost."""
    from tinykit.boards.emulator import EmulatedBoard
    from tinykit.boards.image import Image
    from tinykit.boards.serial_harness import BoardStream, Device

    graph = digits_like()
    run = EmulatedBoard(board("nano33ble"), Image.load(monitor_elf(tmp_path, graph, "nano33ble")))
    device = Device(BoardStream(run), timeout=20)
    device.wait_ready()
    x = random_samples(graph, 4)[inputs_of(graph)[0].name]
    assert measure(device, "nano33ble", graph, x, None, measured=False).mismatches == 0
    address = run.address_of("tk_selftest_output")
    run.write(address, bytes([run.read(address, 1)[0] ^ 1]))
    found = measure(device, "nano33ble", graph, x, None, measured=False)
    assert (found.self_test, found.golden.mismatches, found.mismatches) == (1, 0, 1)


def test_a_real_boards_figures_are_called_measured(tmp_path, monkeypatch):
    """The part of the harness that only a real port takes, with an emulated board in its place."""
    monkeypatch.setattr(measuring, "_LATENCY_SECONDS", 0.02)
    monkeypatch.setattr(measuring, "_CLOCK_SECONDS", 0.05)
    graph = digits_like()
    x = random_samples(graph, 2)[inputs_of(graph)[0].name]
    with device_of(monitor_elf(tmp_path, graph, "nucleo_l4r5zi"), "nucleo_l4r5zi") as device:
        found = measure(device, "nucleo_l4r5zi", graph, x, None, measured=True)
        assert device.timeout == 20
    origin = Provenance("nucleo_l4r5zi", "/dev/ttyACM0", True)
    report = device_report(found, board("nucleo_l4r5zi"), origin, None)
    assert report["provenance"] == "measured(nucleo_l4r5zi, /dev/ttyACM0)"
    assert report["latency_ms"] == pytest.approx(report["cycles"] / 4e6 * 1e3, rel=0.05)  # at the clock after reset, 4 MHz
    assert report["inferences_timed"] >= 1 and len(found.timing.cycles) == 5
    assert report["sources"]["cycles"] == "measured(nucleo_l4r5zi, /dev/ttyACM0), the core's cycle counter"
    text = "\n".join(device_lines(report))
    assert "latency: " in text and "measured(nucleo_l4r5zi, /dev/ttyACM0)" in text and "emulated" not in text
    assert "warning: the board's clock runs" in text  # an emulated board's clock stands still while nobody asks


def test_a_monitor_that_does_not_fit_is_told(tmp_path, monkeypatch):
    """firmware.elf fits where the monitor's buffer for the input does not; compile says so and goes on, bench --port cannot."""
    from tinykit.boards import pipeline
    from tinykit.boards.monitor import Monitor

    monkeypatch.setattr(pipeline, "build_monitor", lambda *a, **k: Monitor(None, "4,000 bytes of RAM too many"))
    from tinykit.compile import compile_model
    from tinykit.errors import BudgetError

    lines: list[str] = []
    report = compile_model(model_file(tmp_path, digits_like()), "nano33ble", tmp_path / "out", samples=1, log=lines.append)
    assert (
        report["monitor"] == {"elf": None, "why": "4,000 bytes of RAM too many"} and "no monitor.elf: 4,000 bytes of RAM too many" in lines
    )
    with pytest.raises(BudgetError, match=r"monitor.elf for nano33ble: 4,000 bytes"):
        bench_device(Source(tmp_path / "tiny.tflite"), "nano33ble", EMULATED, tmp_path / "o", log=lambda line: None)


def test_a_large_input_leaves_no_room_for_the_monitor(tmp_path):
    """Really too large, not pretended: 40,000 bytes of input twice in 96 KiB with a layer between."""
    from hardware_nets import nets

    from tinykit.boards.pipeline import compile_graph

    net = nets.Net(2)
    x = net.conv(net.input((200, 200, 1)), out=2, kernel=(3, 3), stride=(2, 2))
    net.dense(net.pool("average", x, window=(20, 20), stride=(20, 20)), out=3)
    compiled = compile_graph(net.done(), board("nucleo_f401re"), tmp_path, samples=1, monitor=True)
    assert compiled.ram < 98_304
    if compiled.monitor.build is None:
        assert "RAM" in str(compiled.monitor.problem) and not (tmp_path / "monitor.elf").exists()
    else:
        assert (tmp_path / "monitor.elf").exists()


def test_samples_of_a_file(tmp_path):
    """Stored integers, pixels, real values: the same inputs; everything else is refused with what was expected."""
    from tinykit.errors import DataError
    from tinykit.hardware.samples import from_npz, spread

    graph = digits_like()
    stored = np.arange(-128, -128 + 64, dtype=np.int16).astype(np.int8).reshape(1, 8, 8, 1).repeat(5, 0)
    labels = np.arange(5)
    forms = {"stored": stored, "pixels": (stored.astype(np.int16) + 128).astype(np.uint8)}
    forms["real"] = ((stored.astype(np.float32) + 128) / 255).astype(np.float32)
    for name, x in forms.items():
        np.savez(tmp_path / f"{name}.npz", x=x, y=labels)
        read = from_npz(tmp_path / f"{name}.npz", graph, 3)
        assert (read.x == stored[:3]).all() and read.y.tolist() == [0, 1, 3] and read.available == 5, name
    assert spread(10, 0).tolist() == list(range(10)) and spread(3, 200).tolist() == [0, 1, 2] and spread(0, 5).size == 0
    for x, y, words in [
        (stored[:0], labels[:0], r"expected \[N, 8, 8, 1\] for the network.s input, got \[0, 8, 8, 1\]"),
        (stored[:, :4], labels, r"expected \[N, 8, 8, 1\] for the network's input, got \[5, 4, 8, 1\]"),
        (stored, labels[:3], r"array 'y': expected \[5\] class indices"),
        (stored, labels - 1, r"classes -1..3; the network has 10 scores"),
        (stored, labels + 7, r"classes 7..11; the network has 10 scores; without labels"),
        (stored.astype(np.int64), labels, "expected float32, uint8 pixels or int8 as the network stores it, got int64"),
    ]:
        np.savez(tmp_path / "bad.npz", x=x, y=y)
        with pytest.raises(DataError, match=words):
            from_npz(tmp_path / "bad.npz", graph, 0)


def test_labels_of_an_autoencoder_are_no_classes(tmp_path):
    """Its largest output says nothing of the class; bytes are compared all the same."""
    from tinykit.hardware.samples import from_npz

    np.savez(tmp_path / "ad.npz", x=np.zeros((3, 640), np.int8), y=np.array([0, 1, 1]))
    read = from_npz(tmp_path / "ad.npz", task_like("ad01"), 0)
    assert read.y is None and read.x.shape == (3, 640)
