"""The counter in C: compiled at first use, kept in the user's cache folder under a name made of its content."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from unicorn import UC_HOOK_BLOCK, UC_HOOK_CODE, Uc

from tinykit.atomic import replacing
from tinykit.boards.cache import cache_folder, own_folder
from tinykit.boards.counting import NO_LIMIT, Counter, Reader, Snapshot
from tinykit.boards.cycles import TAKEN, Block, Site
from tinykit.boards.toolchain import zig_environment

uclib: ctypes.CDLL | None
try:
    from unicorn.unicorn_py3 import unicorn as _inside

    uclib = _inside.uclib
except (ImportError, AttributeError):  # not part of Unicorn's interface: another version may keep it elsewhere
    uclib = None

CAPACITY = 1 << 16
"""Different blocks that can be told apart; a network's firmware has a few thousand."""

_SLOTS = 4 * CAPACITY
_COMPILE_SECONDS = 120

_ENTRY = np.dtype(
    [(name, "u4") for name in ("address", "size", "instructions", "cost", "flags", "successor")]
    + [(name, "u8") for name in ("runs", "taken", "paired")]
)
_SITE = np.dtype([("state", "u8"), ("runs", "u8"), ("more", "u4"), ("spare", "u4")])


class _State(ctypes.Structure):
    """State of counting.c, field for field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("entries", "index")),
        *((name, ctypes.c_uint32) for name in ("index_mask", "capacity", "used", "fpu_enabled", "status", "status_address")),
        *((name, ctypes.c_int32) for name in ("last", "previous")),
        *((name, ctypes.c_uint32) for name in ("last_taken", "last_paired", "taken_cost", "spare")),
        *((name, ctypes.c_uint64) for name in ("instructions", "cycles", "limit")),
        *((name, ctypes.c_void_p) for name in ("analyse", "stop")),
    ]


_ANALYSE = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))


def _compile(source: Path, target: Path) -> bool:
    """Compiles a shared library with the system's compiler, or else with the one of the `ziglang` package; False: neither works."""
    for compiler in ([shutil.which("cc") or "cc"], [sys.executable, "-m", "ziglang", "cc"]):
        command = [*compiler, "-O2", "-shared", "-fPIC", "-o", str(target), str(source)]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_COMPILE_SECONDS, check=False, stdin=subprocess.DEVNULL,
                env={**os.environ, **zig_environment()},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and target.exists():
            return True
    return False


def _build(text: bytes, folder: Path) -> Path | None:
    """The library in `folder`, compiled unless it is there. Several processes may build at once: each moves a whole file into place."""
    key = hashlib.sha256(text + f"{sys.platform} {platform.machine()}".encode()).hexdigest()[:20]
    target = folder / f"counting-{key}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source, library = Path(scratch, "counting.c"), Path(scratch, "counting.so")
        source.write_bytes(text)
        if not _compile(source, library):
            return None
        with replacing(target) as temporary:
            shutil.copyfile(library, temporary)
    return target


@cache
def library() -> ctypes.CDLL | None:
    """The compiled hooks, or None where there is no compiler."""
    if uclib is None:
        return None
    text = resources.files("tinykit.boards").joinpath("counting.c").read_bytes()
    for again in (False, True):  # where the file in the cache does not load: it is another system's, or damaged
        try:
            path = _build(text, Path(tempfile.mkdtemp(dir=own_folder())) if again else cache_folder())
            return ctypes.CDLL(str(path)) if path else None
        except OSError:
            continue
    return None


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _unicorn() -> ctypes.CDLL:
    if uclib is None:
        raise RuntimeError("this version of Unicorn cannot take hooks in C")
    return uclib


def _hook(engine: Uc, kind: int, function: Any, user: int, begin: int, end: int) -> None:
    """Hooks a C function into Unicorn, which its Python interface has no way to do."""
    handle = ctypes.c_size_t()
    arguments = (kind, ctypes.cast(function, ctypes.c_void_p), ctypes.c_void_p(user), ctypes.c_uint64(begin), ctypes.c_uint64(end))
    status = _unicorn().uc_hook_add(engine._uch, ctypes.byref(handle), *arguments)
    if status:
        raise RuntimeError(f"Unicorn refuses a hook: error {status}")


class NativeCounter(Counter):
    """The counter in C. Args as those of PythonCounter; `hooks` is what `library` returned."""

    def __init__(self, engine: Uc, read: Reader, sites: Sequence[Site], hooks: ctypes.CDLL) -> None:
        super().__init__(read, sites)
        self._hooks = hooks
        self._entries = np.zeros(CAPACITY, _ENTRY)
        self._index = np.zeros(_SLOTS, np.uint32)
        self._callback = _ANALYSE(self._fill)
        self._state = _State(
            entries=self._entries.ctypes.data,
            index=self._index.ctypes.data,
            index_mask=_SLOTS - 1,
            capacity=CAPACITY,
            taken_cost=TAKEN,
            limit=NO_LIMIT,
            analyse=_address_of(self._callback),
            stop=_address_of(_unicorn().uc_emu_stop),
        )
        state = ctypes.addressof(self._state)
        self._site_table = np.zeros(len(self.sites), _SITE)
        for row, site in zip(self._site_table, self.sites):
            row["state"], row["more"] = state, site.more
        self.reset()
        _hook(engine, UC_HOOK_BLOCK, hooks.tk_block, state, 1, 0)
        for number, site in enumerate(self.sites):
            user = self._site_table.ctypes.data + number * _SITE.itemsize
            _hook(engine, UC_HOOK_CODE, hooks.tk_site, user, site.address, site.address)

    def _fill(self, address: int, size: int, entry: Any) -> None:
        block = self._analyse(address, size)
        entry[2], entry[3], entry[4] = block.instructions, block.cost, block.flags

    def reset(self) -> None:
        """See Counter."""
        used = self._entries[: self._state.used]
        used["runs"] = used["taken"] = used["paired"] = 0
        self._site_table["runs"] = 0
        self._state.instructions = self._state.cycles = 0
        self._state.last = self._state.previous = -1
        self._state.last_taken = self._state.last_paired = self._state.status = 0

    @property
    def status(self) -> int:  # type: ignore[override]
        """See Counter."""
        return self._state.status

    @property
    def status_address(self) -> int:  # type: ignore[override]
        """See Counter."""
        return self._state.status_address

    @property
    def instructions(self) -> int:
        """See Counter."""
        return self._state.instructions

    @property
    def cycles(self) -> int:
        """See Counter."""
        return self._state.cycles

    def limit(self, instructions: int) -> None:
        """See Counter."""
        self._state.limit, self._state.status = instructions, 0

    def interrupt(self) -> None:
        """See Counter."""
        self._state.limit = 0

    def enable_fpu(self, enabled: bool) -> None:
        """See Counter."""
        self._state.fpu_enabled = enabled

    def current(self) -> Block | None:
        """See Counter."""
        return self.blocks[self._state.last] if self._state.last >= 0 else None

    def cut(self, address: int) -> None:
        """See Counter."""
        self._hooks.tk_cut(ctypes.byref(self._state), ctypes.c_uint32(address))
        number = self._site_numbers.get(address)
        if number is not None:  # its hook has run already
            self._site_table["runs"][number] -= 1
            self._state.cycles -= self.sites[number].more

    def snapshot(self) -> Snapshot:
        """See Counter."""
        used = self._entries[: self._state.used]
        columns = (used["runs"], used["taken"], used["paired"], self._site_table["runs"])
        return Snapshot(*(column.astype(np.int64) for column in columns))
