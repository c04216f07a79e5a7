"""Flashing: the commands of every board, pyOCD where it is there, clear words where it is not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import digits_like, model_file, monitor_elf, needs_compiler  # noqa: E402
from test_serial_loop import bench  # noqa: E402

from tinykit.boards.image import Image  # noqa: E402
from tinykit.boards.table import board, firmware_boards  # noqa: E402
from tinykit.errors import ConfigError  # noqa: E402
from tinykit.hardware.flash import FlashError, flash, flash_plan, flat_binary  # noqa: E402

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def elf(tmp_path_factory):
    return monitor_elf(tmp_path_factory.mktemp("flash"), digits_like(), "nano33ble")


def pyocd(folder: Path, script: str) -> str:
    """A program called pyocd; returns a PATH that has it."""
    folder.mkdir()
    (folder / "pyocd").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "pyocd").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize("name", firmware_boards())
def test_every_board_says_how_it_is_flashed(name):
    entry = board(name)
    plan = flash_plan(entry, Path("out/monitor.elf"))
    assert plan.command == ("pyocd", "load", "-t", entry.programmer.pyocd, "out/monitor.elf")
    assert "not tried" in entry.programmer.source
    assert "out/monitor.bin" in plan.other and "{" not in plan.other
    assert plan.prepare is None or plan.prepare == f"pyocd pack install {entry.programmer.pack}"


def test_the_host_is_not_flashed():
    with pytest.raises(ConfigError, match="'host': the board table names no way to flash it"):
        flash_plan(board("host"), Path("monitor.elf"))


def test_names_of_files_are_quoted():
    plan = flash_plan(board("nano33ble"), Path("my files/monitor.elf"))
    assert "'my files/monitor.bin'" in plan.other
    assert plan.lines()[-2] == "flash: pyocd load -t nrf52840 'my files/monitor.elf'"


def test_pyocd_is_run(elf, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", pyocd(tmp_path / "bin", f'echo "$@" > {tmp_path}/said'))
    flash(board("nano33ble"), elf, log=lambda line: None)
    assert (tmp_path / "said").read_text() == f"load -t nrf52840 {elf}\n"
    assert elf.with_suffix(".bin").read_bytes() == flat_binary(Image.load(elf))


def test_pyocd_that_is_missing_or_fails(elf, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FlashError) as caught:
        flash(board("nucleo_f446re"), elf)
    text = str(caught.value)
    assert "pyOCD is not installed; install it: `pip install pyocd`" in text and "once: pyocd pack install stm32f446retx" in text
    assert "or: copy " in text
    monkeypatch.setenv("PATH", pyocd(tmp_path / "bin", "echo no probe '\033[31m' >&2; exit 1"))
    with pytest.raises(FlashError, match=r"pyOCD failed: no probe \?\[31m"):
        flash(board("nano33ble"), elf)


@pytest.mark.skipif(not shutil.which("arm-none-eabi-objcopy"), reason="arm-none-eabi-objcopy is not installed")
def test_the_flat_binary_is_what_objcopy_writes(elf, tmp_path):
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", elf, tmp_path / "flat.bin"], check=True)
    assert flat_binary(Image.load(elf)) == (tmp_path / "flat.bin").read_bytes()


def test_the_monitor_starts_behind_the_arduino_bootloader(elf):
    """A board's bootloader must survive: bossac writes from there on, and pyOCD writes what the ELF says."""
    image = Image.load(elf)
    assert min(address for address, _ in image.segments) == 0x10000
    assert image.sections[".isr_vector"].address == 0x10000


def test_a_dry_run_prints_the_commands_and_talks_to_nobody(tmp_path):
    model = model_file(tmp_path, digits_like())
    done = bench("--model", model, "--board", "nucleo_l4r5zi", "--flash", "--dry_run", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "flash: pyocd load -t stm32l4r5zitx out/nucleo_l4r5zi/monitor.elf" in done.stdout
    assert "once: pyocd pack install stm32l4r5zitx" in done.stdout
    assert (tmp_path / "out/nucleo_l4r5zi/monitor.bin").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--flash"], ["--flash needs --port"]),
        (["--data", "x.npz", "--timeout", "3"], ["--data needs --port", "--timeout needs --port"]),
        (["--port", "/dev/x", "--serve"], ["--serve serves a port"]),
        (["--port", "/dev/x", "--dry_run"], ["--dry_run belongs to --flash"]),
        (["--port", "/dev/x", "--set", "a=1"], ["--set changes a --config"]),
        (["--port", "/dev/x", "--data", "x.npz", "--config", "digits"], ["--data and --config both name samples"]),
        (["--port", "/dev/x", "--board", "nano33ble", "--board", "nucleo_l4r5zi"], ["expected one --board, got nano33ble, nucleo_l4r5zi"]),
        (["--port", "/dev/x", "--compare", "old"], ["--compare compares emulated layers"]),
        (["--port", "emulated", "--flash"], ["an emulated board is not flashed"]),
        (["--port", "emulated", "--data", "x.npz"], ["x.npz does not exist"]),
        (["--port", "emulated", "--config", "digit"], ["digit", "did you mean"]),
        (["--port", "emulated", "--mlperf", "ic01"], ["--mlperf=ic01: expected one int8 input of 3,072 elements"]),
        (["--port", "emulated", "--workdir", "nowhere"], ["nowhere", "expected a run directory"]),
        (["--port", "/dev/tty-that-is-not-there"], ["port '/dev/tty-that-is-not-there': cannot be opened"]),
    ],
)
def test_bad_flags_are_clear_lines(tmp_path, arguments, words):
    model = model_file(tmp_path, digits_like())
    done = bench("--model", model, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and all(word in done.stderr for word in words), done.stderr
    assert all(line.startswith(("error: ", "  ")) for line in done.stderr.splitlines())
