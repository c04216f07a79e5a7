"""Linker scripts from the board table."""

from dataclasses import dataclass

from tinykit.boards.table import Board, Region
from tinykit.errors import ConfigError

STACK_BYTES = 2048
"""Stack that a program is linked with unless told otherwise."""

_GENEROUS = 0x0C000000
"""Bytes that a region has in the script. Images that are too large link, and are then measured: 'needs 312 bytes more' helps, a
linker's 'region overflowed' does not. Smaller than the distance between the code and data of every board."""

_CONSTRUCTORS = """\
  .init_array : {
    __preinit_array_start = .; KEEP(*(.preinit_array*)) __preinit_array_end = .;
    __init_array_start = .; KEEP(*(SORT(.init_array.*) .init_array)) __init_array_end = .;
  } > FLASH
"""


@dataclass(frozen=True)
class Layout:
    """Where a program goes.

    Attributes:
        flash, ram: the bytes of each region that `target` leaves to us.
        stack_bytes: reserved at the end of `ram`, a multiple of 8.
    """

    board: str
    target: str
    flash: Region
    ram: Region
    stack_bytes: int

    @property
    def stack_top(self) -> int:
        """First address behind the RAM: the initial stack pointer."""
        return self.ram.base + self.ram.size

    @property
    def stack_limit(self) -> int:
        """Lowest address of the stack: data must end here."""
        return self.stack_top - self.stack_bytes


def layout(board: Board, target: str | None = None, stack_bytes: int = STACK_BYTES) -> Layout:
    """What `target` (default: the board's first) leaves of a board's memory; a reserve lies at the start of its region.

    Raises:
        ConfigError: the board has no such target, no firmware (the host), or less memory than the stack takes.
    """
    if board.flash is None or board.ram is None:
        raise ConfigError(f"board {board.name!r}: there is no firmware for it; choose one with flash and RAM, e.g. nano33ble")
    name, reserve = board.reserve(target)
    flash, ram = _behind(board.flash, reserve.flash), _behind(board.ram, reserve.ram)
    if stack_bytes <= 0 or stack_bytes % 8:
        raise ConfigError(f"stack: expected a positive multiple of 8 bytes (Arm's procedure call standard), got {stack_bytes}")
    if stack_bytes >= ram.size:
        raise ConfigError(f"stack: expected fewer bytes than {board.name} has RAM ({ram.size:,}), got {stack_bytes:,}")
    return Layout(board.name, name, flash, ram, stack_bytes)


def _behind(region: Region, reserved: int | None) -> Region:
    taken = reserved or 0
    return Region(region.name, region.base + taken, region.size - taken, region.kind)


def linker_script(place: Layout, *, exact: bool = False, constructors: bool = False) -> str:
    """The script for a program at `place`.

    `exact`: the regions are as long as the board's, for projects that nobody measures after linking.
    `constructors`: the program is C++ over a C library, which runs constructors and may want a heap, between data and stack.

    Flash: .isr_vector (first, kept), .text (code), .rodata (apart, so that nobody takes constants for code), the image of .data.
    RAM: .arena (first, where it costs no padding; never cleared), .data, .bss, and at the end the stack.
    Symbols: _arena, _arena_end, _sidata, _sdata, _edata, _sbss, _ebss, _stack_limit, _estack.
    """
    longer = "" if exact else "\n   The regions are longer than the board's: tinykit checks the sizes after linking."
    flash, ram = (place.flash.size, place.ram.size) if exact else (_GENEROUS, _GENEROUS)
    room = 'ASSERT(_ebss <= _stack_limit, "tinykit: the data leaves too little RAM for the stack")\n' if exact else ""
    arrays = _CONSTRUCTORS if constructors else ""
    heap = "end = _ebss;\n" if constructors else ""
    return f"""/* {place.board}, target {place.target}: made by tinykit from its board table.{longer} */
ENTRY(Reset_Handler)

MEMORY
{{
  FLASH (rx) : ORIGIN = 0x{place.flash.base:08x}, LENGTH = 0x{flash:x} /* really 0x{place.flash.size:x} */
  RAM (rwx) : ORIGIN = 0x{place.ram.base:08x}, LENGTH = 0x{ram:x} /* really 0x{place.ram.size:x} */
}}

_estack = 0x{place.stack_top:08x};
_stack_limit = 0x{place.stack_limit:08x};

SECTIONS
{{
  .isr_vector : {{ KEEP(*(.isr_vector)) }} > FLASH
  .text : {{ *(.text .text.*) }} > FLASH
  .rodata : {{ *(.rodata .rodata.*) . = ALIGN(4); }} > FLASH
{arrays}  .arena (NOLOAD) : {{ . = ALIGN(16); _arena = .; *(.bss.tk_arena) _arena_end = .; }} > RAM
  .data : {{ . = ALIGN(4); _sdata = .; *(.data .data.*) . = ALIGN(4); _edata = .; }} > RAM AT > FLASH
  _sidata = LOADADDR(.data);
  .bss (NOLOAD) : {{ . = ALIGN(4); _sbss = .; *(.bss .bss.*) *(COMMON) . = ALIGN(4); _ebss = .; }} > RAM
  /DISCARD/ : {{ *(.ARM.exidx* .ARM.extab* .eh_frame*) }}
}}

ASSERT(ADDR(.isr_vector) == ORIGIN(FLASH), "tinykit: the vectors are not at the start of the flash")
ASSERT(SIZEOF(.isr_vector) == 16, "tinykit: startup.c is missing or its vector table was dropped")
ASSERT(_estack % 8 == 0, "tinykit: the stack is not aligned to 8 bytes")
{heap}{room}"""
