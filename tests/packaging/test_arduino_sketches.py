"""The Arduino library and its sketches, built with the flags of the real cores, on the emulated boards."""

import shutil
from pathlib import Path

import arduino_builds as builds
import numpy as np
import pytest

from tinykit.boards.linker import STACK_BYTES
from tinykit.boards.serial_harness import BoardStream, Device
from tinykit.deploy import deploy
from tinykit.packaging.network import network_of_model, network_of_run


def _silent(line: str) -> None:
    """Drops a line of progress."""


@pytest.fixture(scope="module")
def hardware(tmp_path_factory) -> Path:
    builds.need_tools()
    return builds.make_hardware(tmp_path_factory.mktemp("arduino") / "hardware")


@pytest.fixture(scope="module", params=builds.BOARDS)
def package(request, tmp_path_factory, workdir) -> tuple[str, Path]:
    """(board, folder that holds the library) of the run."""
    out = tmp_path_factory.mktemp("package of") / request.param
    return request.param, deploy("arduino", request.param, workdir=workdir, out=out, log=_silent)


def scores_of(interface, output: bytes) -> list[str]:
    port = interface.outputs[0]
    real = np.float32(port.scale.rstrip("f")) * (np.frombuffer(output, np.int8).astype(np.float32) - port.zero_point)
    return [f"{abs(v):.3f}" if round(float(v), 3) == 0 else f"{v:.3f}" for v in real.astype(np.float64)]


def close(printed: list[str], wanted: list[str]) -> bool:
    """Equal but for the third decimal's rounding of a tie."""
    return len(printed) == len(wanted) and all(abs(float(a) - float(b)) < 0.0011 for a, b in zip(printed, wanted))


def test_serial_infer_prints_the_references_scores(package, hardware, workdir, tmp_path, tally):
    name, libraries = package
    sketch = libraries / "SmallNet/examples/SerialInfer"
    running = builds.Running(name, builds.build_sketch(sketch, libraries, name, hardware, tmp_path / "build"))
    assert running.lines() == ["ready small: send 216 bytes as 432 hexadecimal digits and a line end"]
    network = network_of_run(workdir)
    wrong = 0
    for given, expected in network.vectors:
        scores, largest, time = running.ask(given.hex(" "))
        assert scores.startswith("scores ") and time.startswith("time ") and time.endswith(" us") and int(time.split()[1]) > 0
        wrong += not close(scores.split()[1:], scores_of(network.interface, expected))
        best = int(np.frombuffer(expected, np.int8).argmax())
        assert largest == f"largest {best} {network.labels[best]}"
    tally("scores of the sketch vs reference", wrong, len(network.vectors))
    assert wrong == 0


def test_serial_infer_names_what_is_wrong_with_a_line(package, hardware, tmp_path):
    name, libraries = package
    if name != "nano33ble":
        pytest.skip("one board is enough for the text of messages")
    sketch = libraries / "SmallNet/examples/SerialInfer"
    running = builds.Running(name, builds.build_sketch(sketch, libraries, name, hardware, tmp_path / "build"))
    running.lines()
    assert running.ask("00ff") == ["error expected 432 hexadecimal digits, got 4"]
    assert running.ask("00" * 300) == ["error expected 432 hexadecimal digits, got 600"]
    assert running.ask("hello") == ["error expected 432 hexadecimal digits, got something else"]
    assert running.ask("\r\n\r") == []
    assert running.ask("00" * 216)[0].startswith("scores ")


def test_self_test_passes_and_measures(package, hardware, workdir, tmp_path):
    name, libraries = package
    elf = builds.build_sketch(libraries / "SmallNet/examples/SelfTest", libraries, name, hardware, tmp_path / "build")
    running = builds.Running(name, elf)
    lines = running.lines()
    assert lines[-1] == "self-test passed: 6 of 6"
    assert [line.split(",")[0] for line in lines[:6]] == [f"golden {i} pass" for i in range(1, 7)]
    times = [int(line.split(", ")[1].removesuffix(" us")) for line in lines[:6]]
    assert all(time > 0 for time in times)
    assert lines[6].startswith(f"arena {network_of_run(workdir).interface.arena_bytes} bytes, stack ")
    stack = int(lines[6].split("stack ")[1].split()[0])
    outside = running.board.stack_high_water  # of the whole program, by the emulator's own paint
    assert 0 < stack <= outside < STACK_BYTES
    assert running.ask("again")[-1] == "self-test passed: 6 of 6"


def test_monitor_answers_the_benchmark_of_real_boards(package, hardware, workdir, tmp_path, tally):
    name, libraries = package
    running = builds.Running(
        name, builds.build_sketch(libraries / "SmallNet/examples/Monitor", libraries, name, hardware, tmp_path / "build")
    )
    found = builds.monitored(running, workdir)
    assert found.stack <= running.board.stack_high_water
    tally("monitor's sketch vs reference", found.golden.mismatches, found.golden.compared)
    running.board.write(running.board.image.symbol("small_golden_output").address, b"\x55\xaa")  # the checker can fail
    assert Device(BoardStream(running.board)).self_test() == 2


def test_self_test_fails_on_a_wrong_byte(package, hardware, tmp_path):
    """The checker can fail: one flipped weight in flash, and the sketch says so."""
    name, libraries = package
    elf = builds.build_sketch(libraries / "SmallNet/examples/SelfTest", libraries, name, hardware, tmp_path / "build")
    running = builds.Running(name, elf)
    place = running.board.image.symbol("small_golden_output").address
    running.board.write(place, bytes([running.board.read(place, 1)[0] ^ 1]))
    lines = running.lines()
    assert lines[0].startswith("golden 1 FAIL, wrong output bytes: 1, ")
    assert lines[-1] == "self-test FAILED: 5 of 6"


def test_two_networks_in_one_sketch(workdir, model, hardware, tmp_path):
    libraries = tmp_path / "libraries"
    for library, arguments in (("SmallNet", {"workdir": workdir}), ("TinyNet", {"model": model})):
        made = deploy("arduino", "nano33ble", out=tmp_path / library, log=_silent, **arguments)
        shutil.copytree(made / library, libraries / library)
    sketch = tmp_path / "Both"
    sketch.mkdir()
    (sketch / "Both.ino").write_text(
        """
        #include <SmallNet.h>
        #include <TinyNet.h>
        static uint8_t a[SMALL_ARENA_SIZE] __attribute__((aligned(4))), b[TINY_ARENA_SIZE] __attribute__((aligned(4)));
        void setup() {}
        void loop() {
            small_load(a, small_golden_input);
            tiny_load(b, tiny_golden_input);
            small_invoke(a);
            tiny_invoke(b);
            say(small_check(a, small_golden_output) + tiny_check(b, tiny_golden_output) == 0 ? "both right" : "wrong");
            Serial.read();
        }
        void say(const char *text) { while (*text) Serial.write(*text++); }
        """
    )
    running = builds.Running("nano33ble", builds.build_sketch(sketch, libraries, "nano33ble", hardware, tmp_path / "build"))
    assert running.lines() == ["both right"]


def test_a_warning_fails_the_build(package, hardware, tmp_path):
    """The builds above would notice: a sketch with a warning does not pass."""
    name, libraries = package
    sketch = tmp_path / "Warns"
    sketch.mkdir()
    (sketch / "Warns.ino").write_text("#include <SmallNet.h>\nvoid setup() { int unused = 1; }\nvoid loop() {}\n")
    with pytest.raises(AssertionError, match="unused"):
        builds.build_sketch(sketch, libraries, name, hardware, tmp_path / "build")


def test_the_models_golden_vectors_are_the_references(model):
    network = network_of_model(model)
    assert network.name == "tiny" and len(network.vectors) == 8
    assert len({given for given, _ in network.vectors}) == 8
