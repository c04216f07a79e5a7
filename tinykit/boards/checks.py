"""What can be told of an image without running it, and what emulators miss."""

from collections.abc import Iterator

from tinykit.boards.image import Image
from tinykit.boards.linker import Layout
from tinykit.boards.sizes import flash_bytes
from tinykit.boards.table import Board
from tinykit.errors import BudgetError, TinykitError

_SHOWN = 4


class CheckError(TinykitError):
    """An image holds what its board cannot execute, or lies where the board has nothing."""


def check_fits(image: Image, place: Layout) -> None:
    """Raises BudgetError, with the number of bytes that are missing, if `image` takes more flash or RAM than `place` has."""
    problems = []
    flash = flash_bytes(image)
    if flash > place.flash.size:
        problems.append(
            f"{place.board}: the program takes {flash:,} bytes of flash, {flash - place.flash.size:,} more than the {place.flash.size:,} "
            f"that target {place.target} leaves; make the model smaller or choose a board with more flash"
        )
    arena = image.symbol("tk_arena").size
    used = image.symbol("_ebss").address - place.ram.base
    if used + place.stack_bytes > place.ram.size:
        problems.append(
            f"{place.board}: the program takes {used + place.stack_bytes:,} bytes of RAM (arena {arena:,}, other data {used - arena:,}, "
            f"stack {place.stack_bytes:,}), {used + place.stack_bytes - place.ram.size:,} more than the {place.ram.size:,} "
            f"that target {place.target} leaves; make the model's activations smaller or choose a board with more RAM"
        )
    if problems:
        raise BudgetError(problems)


def check_placement(image: Image, board: Board) -> None:
    """Raises CheckError if bytes of `image` would be written outside the board's flash."""
    flash = board.flash
    for address, data in image.segments:
        if flash is None or address < flash.base or address + len(data) > flash.base + flash.size:
            where = "no flash" if flash is None else f"flash from 0x{flash.base:08x} to 0x{flash.base + flash.size:08x}"
            raise CheckError(
                f"{image.path}: {len(data):,} bytes go to 0x{address:08x}, but {board.name} has {where}; was it built for another board?"
            )


def check_instructions(image: Image) -> None:
    """Raises CheckError if `image` has double-precision floating-point instructions.

    All boards' programs are built for a single-precision FPU; the Cortex-M4 and the STM32F746 have no other. Unicorn's and QEMU's
    Cortex-M7 execute double precision, so no emulator notices.
    """
    found = list(double_precision(image))
    if found:
        shown = ", ".join(image.where(address) for address in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise CheckError(
            f"{image.path}: {len(found)} double-precision FPU instruction(s), at {shown}; expected none: the FPU is single-precision. "
            "Build with the board's own flags (-mfpu=fpv4-sp-d16 or fpv5-sp-d16), and keep `double` out of the sources"
        )


def double_precision(image: Image) -> Iterator[int]:
    """Addresses of instructions that compute in, or convert from or to, double precision.

    A 32-bit Thumb instruction of the floating-point unit has 0b111x in bits 31-29 with opcode 11x1 or 1110 and the coprocessor number in
    bits 11-8: 10 is single, 11 double precision. Loads, stores and moves of a register pair carry 11 too and exist on every FPU; only data
    processing (bits 27-24 = 1110, bit 4 = 0) and the instructions that FPv5 added (0xFExx) need the double-precision unit. VCVT.F64.F32
    alone carries 10, the number of its operand.
    """
    for start, end in image.code:
        yield from _scan(image, start, end)


def _scan(image: Image, start: int, end: int) -> Iterator[int]:
    data = _bytes_at(image, start, end)
    offset = 0
    while offset + 2 <= len(data):
        first = int.from_bytes(data[offset : offset + 2], "little")
        if first >> 11 < 0b11101:  # a 16-bit instruction
            offset += 2
            continue
        second = int.from_bytes(data[offset + 2 : offset + 4], "little")
        if needs_double(first, second):
            yield start + offset
        offset += 4


def needs_double(first: int, second: int) -> bool:
    """Whether the instruction of these two halfwords needs a double-precision FPU."""
    widens = first & 0xFFBF == 0xEEB7 and second & 0x0FD0 == 0x0AC0
    return widens or first >> 8 in (0xEE, 0xFE) and not second & 0x10 and second >> 8 & 0xF == 0b1011


def _bytes_at(image: Image, start: int, end: int) -> bytes:
    """Bytes of code, whose load address is its run address."""
    for address, data in image.segments:
        if address <= start and end <= address + len(data):
            return data[start - address : end - address]
    return b""
