"""The monitor image in conversation: on QEMU, on the emulated boards, and with devices that do not behave."""

import importlib.util
import shutil
import sys

import numpy as np
import pytest
from toy_firmware import INPUTS, OUTPUTS, expected, toy_sources

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import build_firmware
from tinykit.boards.image import Image
from tinykit.boards.memory import BoardFault
from tinykit.boards.qemu import machine, machine_names, qemu_device
from tinykit.boards.serial_harness import BoardStream, Device, DeviceError, open_port
from tinykit.boards.table import board, board_names
from tinykit.errors import ConfigError

GCC = pytest.param("gcc", marks=pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed"))
ZIG = pytest.param("zig", marks=pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed"))
both = pytest.mark.parametrize("tools", [GCC, ZIG])
qemu = pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
BOARDS = [name for name in board_names() if name != "host"]


@pytest.fixture(scope="module")
def monitor(tmp_path_factory):
    """monitor(board, toolchain, hooks=...): the monitor image with the toy model, built once."""
    built = {}

    def get(entry, tools=None, **options):
        if tools is None and not shutil.which("arm-none-eabi-gcc") and not importlib.util.find_spec("ziglang"):
            pytest.skip("neither arm-none-eabi-gcc nor ziglang is installed")
        key = (entry.name, tools, *sorted(options.items()))
        if key not in built:
            folder = tmp_path_factory.mktemp("monitor")
            built[key] = build_firmware(toy_sources(), entry, folder, kind="monitor", toolchain=tools, **options).elf
        return built[key]

    return get


@pytest.fixture
def emulated(monitor):
    """A device on an emulated nucleo_f446re with the test hooks, and its board."""
    entry = board("nucleo_f446re")
    run = EmulatedBoard(entry, Image.load(monitor(entry, test_hooks=True)))
    device = Device(BoardStream(run), timeout=2)
    device.wait_ready()
    return device, run


def inputs(seed):
    return np.random.default_rng(seed).integers(-128, 128, INPUTS).astype(np.int8).tobytes()


def converse(device, name, tally):
    """The whole conversation, with bytes compared."""
    assert (device.name(), device.model()) == (name, "toy")
    assert device.self_test() == 0
    for seed in range(3):
        x = inputs(seed)
        device.load(x)
        answer = device.infer(2, 1)
        output = device.output()
        tally("monitor against numpy", sum(a != b for a, b in zip(output, expected(x))), OUTPUTS)
        assert output == expected(x)
        q = np.frombuffer(output, np.int8).astype(int)
        assert np.abs(np.array(answer.results) - (q + 128) / 256).max() <= 0.0005
        assert device.results() == answer.results
    # the toy overwrites its input: a second inference from the same buffer must not see that
    assert device.infer(3).results == answer.results
    assert 0 < device.stack() < 512
    static, arena = device.ram()
    assert arena == 64
    assert 0 < static < 1024
    assert 0 < device.cycles() < 1 << 24


@qemu
@both
@pytest.mark.parametrize("name", machine_names())
def test_qemu(monitor, name, tools, tally):
    with qemu_device(name, monitor(machine(name), tools, test_hooks=True)) as device:
        converse(device, name, tally)


@both
@pytest.mark.parametrize("name", BOARDS)
def test_emulated_boards(monitor, name, tools, tally):
    run = EmulatedBoard(board(name), Image.load(monitor(board(name), tools)))
    device = Device(BoardStream(run), timeout=2)
    assert device.wait_ready()[0] == "m-timestamp-mode-performance"
    converse(device, name, tally)


# ---- faults ----


@qemu
@pytest.mark.parametrize("name", machine_names())
def test_an_unaligned_double_load_is_reported(monitor, name):
    """Unicorn lets it pass; a board, and QEMU, do not."""
    with qemu_device(name, monitor(machine(name), test_hooks=True)) as device:
        assert device.command("x-ldrd 20000100") == ["m-x-ldrd-[0000000000000000]"]
        with pytest.raises(DeviceError, match=r"x-ldrd 20000102: .*fault: cfsr 0x01000000.*unaligned access by an instruction that needs"):
            device.command("x-ldrd 20000102")


@qemu
def test_an_access_to_no_memory_is_reported(monitor):
    with qemu_device("netduinoplus2", monitor(machine("netduinoplus2"), test_hooks=True)) as device:
        with pytest.raises(DeviceError, match=r"bfar 0x60000000.*\(data access to no memory"):
            device.command("x-poke 60000000")


def test_writes_to_flash_fault_on_the_emulated_board(emulated):
    device, _ = emulated
    with pytest.raises(BoardFault, match="write to flash at 0x08000000"):
        device.command("x-poke 08000000")


def test_test_hooks_are_not_in_a_normal_image(monitor):
    entry = board("nucleo_f446re")
    device = Device(BoardStream(EmulatedBoard(entry, Image.load(monitor(entry)))), timeout=2)
    device.wait_ready()
    for command in ("x-poke 20000000", "x-ldrd 20000000"):
        with pytest.raises(DeviceError, match="Unknown command: x-"):
            device.command(command)


@qemu
def test_an_image_for_another_machine_does_not_answer(monitor):
    with pytest.raises(DeviceError, match=r"reset: expected an answer|QEMU ended"):
        with qemu_device("mps2-an386", monitor(machine("netduinoplus2"), test_hooks=True), timeout=1):
            pass


# ---- the protocol, word by word ----


def test_the_banner_and_an_inference(emulated):
    device, _ = emulated
    x = inputs(0)
    assert device.command(f"db load {INPUTS}") == [f"m-[Expecting {INPUTS} bytes]"]
    assert device.command("db " + x[:20].hex()) == []
    assert device.command("db " + x[20:].hex().upper()) == ["m-load-done"]
    pairs = [f"-{byte:02x}" for byte in x]
    assert device.command("db print") == ["m-buffer" + "".join(pairs[i : i + 8]) for i in range(0, INPUTS, 8)]
    answer = device.command("infer 3 2")
    assert answer[:3] == ["m-warmup-start-2", "m-warmup-done", "m-infer-start-3"]
    assert [line[:9] for line in answer[3:5]] == ["m-lap-us-"] * 2
    assert answer[5] == "m-infer-done"
    assert answer[6].startswith("m-results-[0.")
    assert device.command("infer 1")[0] == "m-warmup-start-10"
    assert device.command("profile")[0] == "m-profile-[ULPMark for tinyML Firmware V0.0.1]"
    assert device.command("timestamp")[0].startswith("m-lap-us-")
    assert device.command("  name  ") == ["m-name-dut-[nucleo_f446re]"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("", "Unknown command: "),
        ("nonsense", "Unknown command: nonsense"),
        ("names", "Unknown command: names"),
        ("nam", "Unknown command: nam"),
        ("x" * 80, "Unknown command: " + "x" * 80),
        ("x" * 81, "command longer than 80 characters"),
        ("name" + " " * 5000, "command longer than 80 characters"),
        ("db", "db: expected load, print or bytes"),
        ("db load", f"db load: expected a number of bytes from 1 to {INPUTS}"),
        ("db load 0", "db load: expected"),
        ("db load -4", "db load: expected"),
        ("db load 4x", "db load: expected"),
        (f"db load {INPUTS + 1}", "db load: expected"),
        ("db load 4294967300", "db load: expected"),
        ("db 00", "db: more bytes than the announced 0"),
        ("db 0", "db: expected pairs"),
        ("db 0g", "db: expected pairs"),
        ("infer x", "infer: expected a number of inferences"),
        ("infer 0", "infer: expected a number of inferences"),
        ("infer 1 x", "infer: expected a number of warm-up"),
        ("infer 99999999999999999999", "infer: expected"),
        ("results", "no inference yet"),
        ("x-out", "no inference yet"),
    ],
)
def test_errors_leave_the_monitor_alive(emulated, command, answer):
    device, _ = emulated
    with pytest.raises(DeviceError) as caught:
        device.command(command)
    assert f"e-[{answer}" in str(caught.value)
    assert device.name() == "nucleo_f446re"


def test_garbage_does_not_stop_the_monitor(emulated):
    """Any bytes at all: afterwards it still answers, and memory that is not its own is untouched."""
    device, run = emulated
    stream = BoardStream(run)
    rng = np.random.default_rng(11)
    arena = run.read(run.address_of("tk_arena"), 64)
    for size in (1, 79, 80, 81, 160, 3000):
        stream.write(rng.integers(0, 256, size).astype(np.uint8).tobytes())
        stream.write(b"\r\n\0db load 999%db " + rng.integers(33, 127, 70).astype(np.uint8).tobytes())
        device.synchronise()
        assert device.name() == "nucleo_f446re"
    assert run.read(run.address_of("tk_arena"), 64) == arena
    x = inputs(5)
    device.load(x)
    device.infer()
    assert device.output() == expected(x)


def test_more_bytes_than_announced(emulated):
    device, _ = emulated
    device.command("db load 2")
    with pytest.raises(DeviceError, match="more bytes than the announced 2"):
        device.command("db 010203")
    assert device.command("db print") == ["m-buffer-01-02"]
    device.command("db load 1")
    assert device.command("db ff") == ["m-load-done"]


def test_scores_are_scaled_as_the_model_says(tmp_path):
    """Negative and large values too."""
    entry = board("nucleo_f446re")
    if not shutil.which("arm-none-eabi-gcc") and not importlib.util.find_spec("ziglang"):
        pytest.skip("neither arm-none-eabi-gcc nor ziglang is installed")
    scale, zero = 1.7109375, 20
    defines = [f"TK_RESULT_ZERO={zero}", f"TK_RESULT_SCALE_Q24={int(scale * 2**24)}", 'TK_MLPERF_MODEL="ic01"']
    elf = build_firmware(toy_sources(), entry, tmp_path, kind="monitor", defines=defines).elf
    device = Device(BoardStream(EmulatedBoard(entry, Image.load(elf))), timeout=2)
    device.wait_ready()
    assert device.model() == "ic01"
    x = inputs(2)
    device.load(x)
    wanted = (np.frombuffer(expected(x), np.int8).astype(int) - zero) * scale
    assert min(wanted) < 0
    assert np.abs(np.array(device.infer().results) - wanted).max() <= 0.0005


def test_time_passes_also_when_the_cycle_counter_wraps(emulated):
    """Microseconds are counted on, 2^32 cycles or not; the core stays at its clock after reset, 16 MHz."""
    device, run = emulated
    first = int(device.command("timestamp")[0].removeprefix("m-lap-us-"))
    seen = run.address_of("cycles_seen")
    behind = int.from_bytes(run.read(seen, 4), "little") - 16_000_000
    run.write(seen, (behind % (1 << 32)).to_bytes(4, "little"))
    second = int(device.command("timestamp")[0].removeprefix("m-lap-us-"))
    assert 1_000_000 < second - first < 1_010_000


# ---- devices that do not behave ----


class Script:
    """A device that says what it is told to."""

    def __init__(self, *answers):
        self.answers, self.sent = list(answers), b""

    def read(self, size, /):
        return self.answers.pop(0) if self.answers else b""

    def write(self, data, /):
        self.sent += data
        return len(data)


@pytest.mark.parametrize(
    ("answers", "call", "message"),
    [
        ([], lambda d: d.name(), "name: expected an answer that ends with m-ready, got nothing and then nothing for 0.05 s"),
        ([b"m-na"], lambda d: d.name(), "got 'm-na' and then nothing"),
        ([b"\xff\xfe\r\nm-ready\r\n"], lambda d: d.name(), r"name: expected a line m-name-dut-\[...\], got"),
        ([b"e-[no]\r\nm-ready\r\n"], lambda d: d.output(), r"x-out: the device answered e-\[no\]"),
        ([b"m-x-out-[0g]\r\nm-ready\r\n"], lambda d: d.output(), "x-out: expected hexadecimal bytes, got '0g'"),
        ([b"m-x-stack-[overflow]\r\nm-ready\r\n"], lambda d: d.stack(), r"x-stack: expected 1 number\(s\), got 'overflow'"),
        ([b"m-x-ram-[5]\r\nm-ready\r\n"], lambda d: d.ram(), r"x-ram: expected 2 number"),
        ([b"m-ready\r\n"], lambda d: d.infer(), "infer 1 0: expected two times and the scores, got nothing"),
        ([b"m-results-[a]\r\nm-ready\r\n"], lambda d: d.results(), "results: expected scores"),
        ([b"m-ready\r\n"] * 2, lambda d: d.load(b"ab"), "db load 2: expected m-load-done"),
        ([b"x" * 70_000] + [b"x"] * 5, lambda d: d.name(), "name: expected an answer"),
    ],
)
def test_messages(answers, call, message):
    with pytest.raises(DeviceError, match=message):
        call(Device(Script(*answers), timeout=0.05))


def test_answers_in_pieces_and_commands_as_sent():
    script = Script(b"m-name", b"-dut-[a]\r", b"\nm-rea", b"dy\r\nm-ready\r\n", b"", b"m-load-done\r\nm-ready\r\n")
    device = Device(script, timeout=0.05)
    assert device.name() == "a"
    device.load(bytes(range(31)))
    assert script.sent == b"name%db load 31%db " + bytes(range(31)).hex().encode() + b"%"


def test_ports_need_pyserial(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(ConfigError, match="pip install pyserial"):
        open_port("/dev/ttyACM0")


def test_a_pseudo_terminal_is_a_port(monitor, tally):
    """The same conversation through pyserial, as with a real board, which may have sent its banner before anybody listened."""
    pytest.importorskip("serial")
    run = EmulatedBoard(board("disco_f746ng"), Image.load(monitor(board("disco_f746ng"))))
    try:
        converse(open_port(run.pty(), timeout=5), "disco_f746ng", tally)
    finally:
        run.close()


def test_a_port_that_is_not_there():
    pytest.importorskip("serial")
    with pytest.raises(DeviceError, match="cannot be opened"):
        open_port("/dev/tty-that-is-not-there")


def test_qemu_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sudo apt-get install qemu-system-arm"):
        with qemu_device("mps2-an386", tmp_path / "x.elf"):
            pass


@qemu
def test_qemu_that_refuses_the_image(tmp_path):
    (tmp_path / "x.elf").write_text("no program")
    with pytest.raises(DeviceError, match="mps2-an386, x.elf: QEMU ended: |expected an answer"):
        with qemu_device("mps2-an386", tmp_path / "x.elf", timeout=2):
            pass
