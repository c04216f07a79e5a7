"""Compilers, emulators, boards and data: what this computer has of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tinykit.health.check import Check, pip_install, run

_SECONDS = 60.0
_APT = "sudo apt-get install"


def compiler_checks() -> Iterator[Check]:
    """A compiler for boards, one for this computer."""
    gcc, zig = shutil.which("arm-none-eabi-gcc"), importlib.util.find_spec("ziglang") is not None
    yield _program(
        "compilers", "arm-none-eabi-gcc", gcc, not zig, f"{_APT} gcc-arm-none-eabi", "the preferred compiler for boards; zig stands in"
    )
    if zig:
        works, words = run([sys.executable, "-m", "ziglang", "version"], _SECONDS)
        yield Check("compilers", "zig", "ok" if works else "broken", gcc is None, words, None if works else pip_install("ziglang"))
    else:
        yield Check(
            "compilers", "zig", "missing", gcc is None, "not installed", pip_install("ziglang"), "a compiler for boards that pip brings"
        )
    native = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if native or zig:
        yield Check("compilers", "for this computer", "ok", True, native or "zig")
    else:
        yield Check(
            "compilers", "for this computer", "missing", True, "none", pip_install("ziglang"), "checks the engine over whole test splits"
        )


def emulator_checks() -> Iterator[Check]:
    """Unicorn, the boards; QEMU, the referee."""
    if importlib.util.find_spec("unicorn") is None:
        yield Check("emulators", "unicorn", "missing", True, "not installed", pip_install("unicorn"), "emulates the boards")
    else:
        works, words = run([sys.executable, "-c", "import unicorn; print(unicorn.__version__)"], _SECONDS)
        yield Check("emulators", "unicorn", "ok" if works else "broken", True, words, None if works else pip_install("unicorn"))
    why = "a second opinion on what a core does; its tests skip"
    yield _program("emulators", "qemu-system-arm", shutil.which("qemu-system-arm"), False, f"{_APT} qemu-system-arm", why)


def _program(group: str, name: str, path: str | None, needed: bool, mend: str, why: str) -> Check:
    if path is None:
        return Check(group, name, "missing", needed, "not on the PATH", mend, why)
    works, words = run([path, "--version"], _SECONDS)
    if not works:
        return Check(group, name, "broken", needed, words, mend, why)
    return Check(group, name, "ok", needed, path)


def board_checks() -> Iterator[Check]:
    """Serial ports on USB: which boards they may be, and whether they can be opened."""
    try:
        from tinykit.hardware.ports import list_ports
    except ImportError as problem:
        yield Check("boards", "serial ports", "info", False, f"not looked at: {problem}")
        return
    ports = list_ports()
    if ports is None:
        yield Check("boards", "serial ports", "missing", False, "not looked at", pip_install("pyserial"), "finds and opens them")
        return
    if not ports:
        yield Check("boards", "serial ports", "info", False, "no USB serial port; connect a board, or use --port emulated")
    for port in ports:
        usb = f"{port.usb[0]:04x}:{port.usb[1]:04x}" if port.usb else "no USB"
        found = f"{port.text} ({usb})" + (f"; may be {', '.join(port.boards)}" if port.boards else "; no board of the table")
        if os.name != "nt" and not os.access(port.path, os.R_OK | os.W_OK):
            mend = 'sudo usermod -aG dialout "$USER"   # then log in again'
            yield Check("boards", port.path, "broken", False, f"{found}; this user may not open it", mend)
        else:
            yield Check("boards", port.path, "ok", False, found)


def data_checks() -> Iterator[Check]:
    """Data sets, and the folder of what compilers keep."""
    folder = os.environ.get("TINYKIT_DATA")
    if folder is None:
        found = "not set; needed by configurations with data of their own, not by digits"
        yield Check("data", "TINYKIT_DATA", "info", False, found)
    elif Path(folder).is_dir():
        sets = sorted(path.stem for path in Path(folder).glob("*.npz"))
        yield Check("data", "TINYKIT_DATA", "ok", False, f"{folder}: {len(sets)} .npz files")
    else:
        yield Check(
            "data", "TINYKIT_DATA", "broken", False, f"{folder}: no such folder", "export TINYKIT_DATA=FOLDER", "the ready-made sets"
        )
    here = Path.cwd()
    if not os.access(here, os.W_OK):
        yield Check("data", "this folder", "broken", True, f"{here} cannot be written to", "cd to a folder of yours", "runs/ is made in it")
