"""Sketches through Debian's arduino-builder with our core for emulated boards, which this file completes from the firmware's sources."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import board_header, template_folder
from tinykit.boards.image import Image
from tinykit.boards.linker import layout, linker_script
from tinykit.boards.serial_harness import BoardStream, Device
from tinykit.boards.table import board
from tinykit.export.golden import read_golden
from tinykit.hardware.measure import Findings, measure
from tinykit.packaging.network import network_of_run

HERE = Path(__file__).parent
BOARDS = ("nano33ble", "disco_f746ng")
RESERVE = {"nano33ble": "arduino", "disco_f746ng": "bare"}
STACK = 4096


def need_tools() -> None:
    """Skips where a tool is missing, and says which."""
    tools = {"arduino-builder": "arduino-builder", "arduino-ctags": "arduino-ctags", "arm-none-eabi-g++": "gcc-arm-none-eabi"}
    for tool, package in tools.items():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: apt-get install {package})")


def make_hardware(folder: Path) -> Path:
    """The hardware folder: our core with start-up, UART and linker script of each board."""
    shutil.copytree(HERE / "hardware", folder)
    common, platform = template_folder(), folder / "emu/cortexm"
    core = platform / "cores/emu"
    for name in ("startup.c", "runtime.c", "port.c", "tk_port.h", "runtime/string.h"):
        shutil.copy(common / name, core)
    for name in BOARDS:
        found = board(name)
        variant = platform / "variants" / name
        variant.mkdir(parents=True)
        shutil.copy(common / f"port_{found.uart.driver}.c", variant)
        (variant / "tk_board.h").write_text(board_header(found))
        (variant / "linker.ld").write_text(linker_script(layout(found, RESERVE[name], STACK), exact=True))
    return folder


def build_sketch(sketch: Path, libraries: Path, board_name: str, hardware: Path, build: Path) -> Path:
    """The ELF of a sketch; `libraries` holds library folders. Fails with the builder's words, and at any warning."""
    build.mkdir(parents=True)
    tools = build.parent / f"{build.name}-tools"
    tools.mkdir()
    ctags = Path(shutil.which("arduino-ctags") or "")
    command = ["arduino-builder", "-compile", "-fqbn", f"emu:cortexm:{board_name}", "-warnings", "all"]
    command += ["-hardware", "/usr/share/arduino-builder", "-hardware", hardware, "-tools", tools, "-libraries", libraries]
    command += ["-build-path", build, "-prefs", f"tools.ctags.path={ctags.parent}"]
    command += ["-prefs", "tools.ctags.cmd.path={path}/arduino-ctags", sketch]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stderr, done.stderr
    return build / f"{sketch.name}.ino.elf"


class Running:
    """An emulated board that runs a program and is talked to by lines."""

    def __init__(self, board_name: str, elf: Path) -> None:
        self.board = EmulatedBoard(board(board_name), Image.load(elf))

    def lines(self) -> list[str]:
        """What it says until it waits for input."""
        self.board.run_until_input()
        return self.board.serial_read().decode().splitlines()

    def ask(self, text: str) -> list[str]:
        """Sends a line; returns the answer."""
        self.board.serial_write(text.encode() + b"\n")
        return self.lines()


def monitored(running: Running, workdir: Path) -> Findings:
    """What the benchmark of real boards finds of a package's monitor: golden vectors, counter, memory."""
    network = network_of_run(workdir)
    device = Device(BoardStream(running.board))
    device.wait_ready()
    golden = read_golden(workdir / "golden.npz").input
    found = measure(device, running.board.board.name, network.graph, golden, None, measured=False)
    assert found.golden.samples == len(golden) and found.mismatches == 0
    assert found.info.model == "small" and found.info.clock_hz == running.board.board.reset_hz
    assert found.arena == network.interface.arena_bytes and found.static is None and 0 < found.stack < STACK
    assert 0 < found.timing.cycles[0] < 1 << 24
    return found
