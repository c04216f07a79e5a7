"""The board table: core, clock, memory, what a target's core takes of it, and where each figure comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from tinykit.config.catalogue import check_name
from tinykit.config.document import parse_yaml
from tinykit.errors import ConfigError

DEFAULT_BOARD = "nano33ble"
_BOARDS = "table.yaml"


@dataclass(frozen=True)
class Region:
    """A piece of a board's memory: `size` bytes from address `base`; kind 'rx' (flash) or 'rw' (RAM)."""

    name: str
    base: int
    size: int
    kind: str


@dataclass(frozen=True)
class Reserve:
    """Bytes that are gone before our code starts. None: not known, and not subtracted from a budget."""

    flash: int | None
    ram: int | None
    source: str


@dataclass(frozen=True)
class Uart:
    """The serial line that the host sees.

    Attributes:
        name: the peripheral's name in the manual.
        host: where it comes out of the board, for a person.
        driver: 'uarte', 'usart_v1', 'usart_v2' or 'cmsdk': which port file drives it.
        base: address of its registers.
        clock_hz: what it is fed with after a reset.
        setup: (address, bits to clear, bits to set) of each write that connects it to clock and pins, in order.
        source: where this comes from.
    """

    name: str
    host: str
    driver: str
    base: int
    clock_hz: int
    setup: tuple[tuple[int, int, int], ...]
    source: str

    def divider(self, baud: int) -> int:
        """What goes into the baud rate register for `baud`, where there is one; ST's low-power UART counts in 256ths of a bit."""
        scale = 256 if self.name.startswith("LPUART") else 1
        return (scale * self.clock_hz + baud // 2) // baud


@dataclass(frozen=True)
class Programmer:
    """How an image gets into a board's flash.

    Attributes:
        pyocd: the chip's name for pyOCD.
        pack: the CMSIS pack that pyOCD needs for it, None where it is built in.
        probe: hardware that is needed besides the board, None where nothing is.
        other: another way, in words, with {bin}.
        source: where this comes from.
    """

    pyocd: str
    pack: str | None
    probe: str | None
    other: str
    source: str


@dataclass(frozen=True)
class Budget:
    """What a result may take; None: no limit known.

    Attributes:
        flash, ram: bytes.
        notes: what is not accounted for.
        instructions: that one inference executes.
    """

    flash: int | None
    ram: int | None
    notes: tuple[str, ...] = ()
    instructions: int | None = None


@dataclass(frozen=True)
class Board:
    """One board.

    Attributes:
        name: its name in configurations.
        title: its name in a shop.
        soc: the chip, None for the host.
        core: 'cortex-m4f', 'cortex-m7f' or 'host'.
        clock_hz: highest core clock, None for the host.
        reset_hz: core clock after a reset, which our firmware keeps; None for the host.
        memory: every region.
        flash, ram: the regions that programs are linked into, None for the host.
        uart: the line to the host, None for the host itself.
        programmer: how it is flashed, None for the host and for QEMU's machines.
        reserves: by target ('arduino', 'bare'); the first is the default target.
        sources: where the figures come from.
        called: its name elsewhere: 'platformio' (platform and id), 'mbed', 'zephyr'; none for the host.
    """

    name: str
    title: str
    soc: str | None
    core: str
    clock_hz: int | None
    reset_hz: int | None
    memory: tuple[Region, ...]
    flash: Region | None
    ram: Region | None
    uart: Uart | None
    reserves: Mapping[str, Reserve]
    sources: Mapping[str, str]
    programmer: Programmer | None = None
    called: Mapping[str, str] = field(default_factory=dict)

    @property
    def flash_bytes(self) -> int | None:
        """Size of the region that code is linked into, None for the host."""
        return self.flash.size if self.flash else None

    @property
    def ram_bytes(self) -> int | None:
        """Size of the region that data is linked into, None for the host."""
        return self.ram.size if self.ram else None

    def reserve(self, target: str | None = None) -> tuple[str, Reserve]:
        """Name and reserve of `target` (default: the board's first). Raises ConfigError: the board has no such target."""
        target = target or next(iter(self.reserves))
        check_name("target", target, list(self.reserves))
        return target, self.reserves[target]

    def budget(self, target: str | None = None) -> Budget:
        """Capacity minus the reserve of `target` (default: the board's first).

        Raises:
            ConfigError: the board has no such target.
        """
        target, reserve = self.reserve(target)
        notes = tuple(
            f"{self.name}: what the {target} target takes of {kind} is not known and not subtracted"
            for kind, known in (("flash", reserve.flash), ("RAM", reserve.ram))
            if known is None
        )
        return Budget(_left(self.flash_bytes, reserve.flash), _left(self.ram_bytes, reserve.ram), notes)


def _left(capacity: int | None, reserve: int | None) -> int | None:
    return None if capacity is None else capacity - (reserve or 0)


@cache
def read_table(file: str) -> Mapping[str, Board]:
    """The entries of one of this package's tables, by name: 'table.yaml' or 'qemu_machines.yaml'."""
    text = resources.files("tinykit.boards").joinpath(file).read_text(encoding="utf-8")
    data = parse_yaml(text, file).data
    return MappingProxyType({name: _board(name, entry) for name, entry in data.items()})


def _board(name: str, entry: Mapping[str, Any]) -> Board:
    regions = tuple(Region(*row) for row in entry["memory"])
    by_name = {region.name: region for region in regions}
    return Board(
        name=name,
        title=entry["title"],
        soc=entry["soc"],
        core=entry["core"],
        clock_hz=entry["clock_hz"],
        reset_hz=entry["reset_hz"],
        memory=regions,
        flash=by_name[entry["flash"]] if entry["flash"] else None,
        ram=by_name[entry["ram"]] if entry["ram"] else None,
        uart=_uart(entry["uart"]) if entry["uart"] else None,
        reserves=MappingProxyType({target: Reserve(**row) for target, row in entry["reserve"].items()}),
        sources=MappingProxyType(dict(entry["sources"])),
        programmer=Programmer(**entry["programmer"]) if entry.get("programmer") else None,
        called=MappingProxyType(dict(entry.get("called", {}))),
    )


def _uart(entry: Mapping[str, Any]) -> Uart:
    setup = tuple((address, clear, bits) for address, clear, bits in entry["setup"])
    return Uart(entry["name"], entry["host"], entry["driver"], entry["base"], entry["clock_hz"], setup, entry["source"])


def board_names() -> list[str]:
    """Names of all boards, in the table's order."""
    return list(read_table(_BOARDS))


def firmware_boards() -> list[str]:
    """Names of the boards that run firmware: all but the host."""
    return [name for name in board_names() if board(name).flash is not None]


def board(name: str) -> Board:
    """The board called `name`. Raises ConfigError, with the nearest match, if there is none."""
    check_name("board", name, board_names())
    return read_table(_BOARDS)[name]


def firmware_board(name: str) -> Board:
    """The board called `name`, which can be built for. Raises ConfigError: there is none, or it runs no firmware."""
    found = board(name)
    if found.flash is None:
        raise ConfigError(f"board {name!r} runs no firmware; name one of the microcontroller boards: {', '.join(firmware_boards())}")
    return found


def emulated_board(name: str | None) -> Board:
    """The board that a run's engine is built for and emulated on: a budget's board, or the default where it names none, or the host."""
    return board(DEFAULT_BOARD if name in (None, "host") else name)
