"""The memory of an emulated board: regions of the table, aliases of the chip, and nothing in between."""

import ctypes
import mmap
import random
from dataclasses import dataclass

from unicorn import UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE, Uc

from tinykit.boards.image import Image
from tinykit.boards.table import Board, Region
from tinykit.errors import TinykitError

ERASED = 0xFF
"""What flash holds where nothing was written."""

_TILE = 1 << 16


def _pattern() -> bytes:
    """64 KiB without a zero: RAM after a reset. Fixed, so that a run can be repeated; irregular, so that no value passes for it."""
    return bytes(random.Random(0x7EED).choices(range(1, 256), k=_TILE))


PATTERN = _pattern()


class BoardFault(TinykitError):
    """A program did what the board cannot do, or did not do what it must."""

    exit_code = 4


@dataclass(frozen=True)
class Alias:
    """A second address of a piece of memory: `size` bytes at `base` are those at `target`."""

    name: str
    base: int
    target: int
    size: int


_ALIASES = {
    "nRF52840": (Alias("code RAM", 0x00800000, 0x20000000, 256 << 10),),
    "STM32F746NG": (Alias("flash on ITCM", 0x00200000, 0x08000000, 1024 << 10),),
    "STM32L4R5ZI": (Alias("SRAM2", 0x10000000, 0x20030000, 64 << 10),),
}
"""From the chips' memory maps (nRF52840 Product Specification; ST RM0385, RM0432)."""


class Memory:
    """Flash and RAM of a board, with an image written to it.

    The bytes live in anonymous maps that Unicorn uses in place: reading and writing them from outside is a copy.

    Raises:
        BoardFault: a byte of the image lies outside the board's memory.
    """

    def __init__(self, board: Board, image: Image) -> None:
        self.board = board
        self._maps = {region.base: mmap.mmap(-1, region.size) for region in board.memory}
        for region in board.memory:
            if region.kind == "rx":
                self._maps[region.base][:] = bytes([ERASED]) * region.size
        for address, data in image.segments:
            self._check_fit(image, address, len(data))
            self.write(address, data)
        self.fill_ram()

    def map_into(self, engine: Uc) -> None:
        """Gives the memory to Unicorn: flash may be read and executed, RAM also written."""
        for region in self.board.memory:
            self._map(engine, region, region.base, region.base, region.size)
        for alias in _ALIASES.get(self.board.soc or "", ()):
            behind = self.region(alias.target, alias.size)
            if behind is not None:
                self._map(engine, behind, alias.base, alias.target, alias.size)

    def _map(self, engine: Uc, region: Region, base: int, target: int, size: int) -> None:
        pointer = ctypes.addressof(ctypes.c_char.from_buffer(self._maps[region.base])) + target - region.base
        rights = UC_PROT_READ | UC_PROT_EXEC | (UC_PROT_WRITE if region.kind == "rw" else 0)
        engine.mem_map_ptr(base, size, rights, pointer)

    def region(self, address: int, size: int = 1) -> Region | None:
        """The region that holds all of `size` bytes from `address`, or None."""
        found = (r for r in self.board.memory if r.base <= address and address + size <= r.base + r.size)
        return next(found, None)

    def in_ram(self, address: int, size: int) -> bool:
        """Are these bytes in RAM?"""
        region = self.region(address, size)
        return region is not None and region.kind == "rw"

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address`. Raises BoardFault if they are not all in one region."""
        region = self._inside(address, size)
        return self._maps[region.base][address - region.base : address - region.base + size]

    def write(self, address: int, data: bytes) -> None:
        """Writes bytes, into flash too. Raises BoardFault if they are not all in one region."""
        region = self._inside(address, len(data))
        self._maps[region.base][address - region.base : address - region.base + len(data)] = data

    def fill_ram(self) -> None:
        """Fills every RAM with PATTERN, as if it had never been written since power was switched on."""
        for region in self.board.memory:
            if region.kind == "rw":
                self.paint(region.base, region.base + region.size)

    def paint(self, start: int, end: int) -> None:
        """Fills [start, end) with PATTERN; the byte at an address is always the same."""
        self.write(start, painted(start, end - start))

    def _inside(self, address: int, size: int) -> Region:
        region = self.region(address, size)
        if region is None:
            raise BoardFault(f"{size} bytes at 0x{address:08x} are not in the memory of {self.board.name}: {self._map_text()}")
        return region

    def _map_text(self) -> str:
        return ", ".join(f"{r.name} 0x{r.base:08x} to 0x{r.base + r.size - 1:08x}" for r in self.board.memory)

    def _check_fit(self, image: Image, address: int, size: int) -> None:
        """Raises BoardFault, saying how far a segment of the image reaches past the board's memory."""
        if self.region(address, size):
            return
        around = self.region(address)
        if around is None:
            text = f"the image has {size} bytes at 0x{address:08x}, where {self.board.name} has no memory ({self._map_text()})"
        else:
            past = address + size - (around.base + around.size)
            text = f"the image reaches {past} bytes past the end of {around.name} of {self.board.name} (0x{around.base + around.size:08x})"
        raise BoardFault(f"{image.path}: {text}")


def painted(address: int, size: int) -> bytes:
    """What PATTERN holds in `size` bytes from `address`."""
    first = address % _TILE
    return (PATTERN[first:] + PATTERN * (size // _TILE + 1))[:size]
