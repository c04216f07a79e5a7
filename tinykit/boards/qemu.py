"""Images under QEMU: a second opinion on what a core does. Its machines have more memory than boards, and its times mean nothing."""

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinykit.boards.serial_harness import TIMEOUT_SECONDS, Device, DeviceError
from tinykit.boards.table import Board, read_table
from tinykit.config.catalogue import check_name
from tinykit.errors import ConfigError

_COMMAND = "qemu-system-arm"
_INSTALL = "sudo apt-get install qemu-system-arm"
_POLL_SECONDS = 0.1
_STOP_SECONDS = 5
_LIFE_SECONDS = 3600
"""QEMU outlives a Python that was killed, busy for ever; `timeout` ends it, where there is one."""


def machine_names() -> list[str]:
    """QEMU's machines that firmware can be built for. They are no boards, and no configuration can name them."""
    return list(read_table("qemu_machines.yaml"))


def machine(name: str) -> Board:
    """What build_firmware needs of QEMU's machine `name`. Raises ConfigError, with the nearest match, if there is none."""
    check_name("QEMU machine", name, machine_names())
    return read_table("qemu_machines.yaml")[name]


def qemu_path() -> str | None:
    """QEMU's program for Arm systems, None if it is not installed."""
    return shutil.which(_COMMAND)


@contextmanager
def qemu_device(name: str, elf: Path, timeout: float = TIMEOUT_SECONDS) -> Iterator[Device]:
    """The monitor image `elf` on QEMU's machine `name`, ready for commands. QEMU is stopped when the block ends.

    Raises:
        ConfigError: QEMU is not installed, or there is no such machine.
        DeviceError: QEMU refuses the image, or the firmware does not answer within `timeout` seconds.
    """
    check_name("QEMU machine", name, machine_names())
    program = qemu_path()
    if program is None:
        raise ConfigError(f"{_COMMAND} is not on the PATH; install it: `{_INSTALL}`")
    guard = shutil.which("timeout")
    command = [*([guard, str(_LIFE_SECONDS)] if guard else []), program]
    command += ["-M", name, "-kernel", str(elf), "-display", "none", "-monitor", "none", "-serial", "stdio"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        device = Device(_Pipes(process, f"{name}, {elf.name}"), timeout)
        device.wait_ready()
        yield device
    finally:
        _stop(process)


class _Pipes:
    """A process's standard input and output as a stream."""

    def __init__(self, process: "subprocess.Popen[bytes]", what: str) -> None:
        self._process = process
        self._what = what

    def read(self, size: int) -> bytes:
        """See Stream.read. Raises DeviceError if the process has ended."""
        stream = self._process.stdout
        if stream is None or not select.select([stream], [], [], _POLL_SECONDS)[0]:
            return b""
        data = os.read(stream.fileno(), size)
        if not data:
            raise DeviceError(f"{self._what}: QEMU ended: {self._last_words()}")
        return data

    def write(self, data: bytes) -> int | None:
        """See Stream.write. Raises DeviceError if the process has ended."""
        stream = self._process.stdin
        try:
            if stream is not None:
                stream.write(data)
                stream.flush()
        except OSError:
            raise DeviceError(f"{self._what}: QEMU ended: {self._last_words()}") from None
        return len(data)

    def _last_words(self) -> str:
        stream = self._process.stderr
        text = "" if stream is None else stream.read().decode(errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends this one process, whatever it does, and closes its pipes."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # what was written to a process that had ended already
                continue
