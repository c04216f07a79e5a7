"""Programs for frameworks that cannot be had here (Mbed, Zephyr, PlatformIO's), built with their compilers' flags over small stand-ins."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tinykit.boards.firmware import board_header, template_folder
from tinykit.boards.linker import layout, linker_script
from tinykit.boards.table import board

STUBS = Path(__file__).parent / "stubs"
CORE = Path(__file__).parent / "hardware/emu/cortexm/cores/emu"
CPU = {
    "nano33ble": "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=softfp -mthumb",
    "disco_f746ng": "-mcpu=cortex-m7 -mfpu=fpv5-sp-d16 -mfloat-abi=softfp -mthumb",
}
"""As ArduinoCore-mbed and Mbed compile for these cores."""

FLAGS = (
    "-c -Os -Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-unused-parameter -fdata-sections -ffunction-sections "
    "-fmessage-length=0 -fno-delete-null-pointer-checks -fno-exceptions -fomit-frame-pointer -funsigned-char -g1 "
    "-ffreestanding -fbuiltin -fno-tree-loop-distribute-patterns"
)
LANGUAGE = {".c": ("arm-none-eabi-gcc", "-std=gnu11"), ".cpp": ("arm-none-eabi-g++", "-std=gnu++14 -fno-rtti -Wvla")}


def need_tools() -> None:
    """Skips where the C++ compiler for boards is missing."""
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed (Debian: apt-get install gcc-arm-none-eabi)")


def build(sources: Sequence[Path], include: Sequence[Path], board_name: str, folder: Path) -> Path:
    """Compiles `sources`, links them with tinykit's start-up and UART, and returns the program. Any warning fails."""
    found, common = board(board_name), template_folder()
    folder.mkdir(parents=True)
    (folder / "tk_board.h").write_text(board_header(found))
    (folder / "linker.ld").write_text(linker_script(layout(found, "bare", 4096), exact=True))
    own = [common / name for name in ("startup.c", "runtime.c", "port.c", f"port_{found.uart.driver}.c")]
    objects = []
    for number, source in enumerate([*sources, *own]):
        compiler, language = LANGUAGE[source.suffix]
        objects.append(folder / f"{number}.o")
        folders = [f"-I{path}" for path in (*include, folder, common / "runtime")]
        _run([compiler, *language.split(), *CPU[board_name].split(), *FLAGS.split(), *folders, source, "-o", objects[-1]])
    elf = folder / "program.elf"
    link = ["arm-none-eabi-gcc", *CPU[board_name].split(), "-nostdlib", "-Wl,--gc-sections", "-T", folder / "linker.ld"]
    _run([*link, *objects, "-lgcc", "-o", elf])
    return elf


def _run(command: list) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
