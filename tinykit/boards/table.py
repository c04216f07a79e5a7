"""The board table: core, clock, memory, what a target's core takes of it, and where each figure comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from tinykit.config.catalogue import check_name
from tinykit.config.document import parse_yaml


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
class Budget:
    """What a result may take, in bytes; None: no limit known.

    Attributes:
        notes: what is not accounted for.
    """

    flash: int | None
    ram: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """One board.

    Attributes:
        name: its name in configurations.
        title: its name in a shop.
        soc: the chip, None for the host.
        core: 'cortex-m4f', 'cortex-m7f' or 'host'.
        clock_hz: highest core clock, None for the host.
        memory: every region.
        flash_bytes, ram_bytes: size of the regions that programs are linked into, None for the host.
        reserves: by target ('arduino', 'bare'); the first is the default target.
        sources: where the figures come from.
    """

    name: str
    title: str
    soc: str | None
    core: str
    clock_hz: int | None
    memory: tuple[Region, ...]
    flash_bytes: int | None
    ram_bytes: int | None
    reserves: Mapping[str, Reserve]
    sources: Mapping[str, str]

    def budget(self, target: str | None = None) -> Budget:
        """Capacity minus the reserve of `target` (default: the board's first).

        Raises:
            ConfigError: the board has no such target.
        """
        target = target or next(iter(self.reserves))
        check_name("target", target, list(self.reserves))
        reserve = self.reserves[target]
        notes = tuple(
            f"{self.name}: what the {target} target takes of {kind} is not known and not subtracted"
            for kind, known in (("flash", reserve.flash), ("RAM", reserve.ram))
            if known is None
        )
        return Budget(_left(self.flash_bytes, reserve.flash), _left(self.ram_bytes, reserve.ram), notes)


def _left(capacity: int | None, reserve: int | None) -> int | None:
    return None if capacity is None else capacity - (reserve or 0)


@cache
def _table() -> Mapping[str, Board]:
    text = resources.files("tinykit.boards").joinpath("table.yaml").read_text(encoding="utf-8")
    data = parse_yaml(text, "table.yaml").data
    return MappingProxyType({name: _board(name, entry) for name, entry in data.items()})


def _board(name: str, entry: Mapping[str, Any]) -> Board:
    regions = tuple(Region(*row) for row in entry["memory"])
    sizes = {region.name: region.size for region in regions}
    return Board(
        name=name,
        title=entry["title"],
        soc=entry["soc"],
        core=entry["core"],
        clock_hz=entry["clock_hz"],
        memory=regions,
        flash_bytes=sizes[entry["flash"]] if entry["flash"] else None,
        ram_bytes=sizes[entry["ram"]] if entry["ram"] else None,
        reserves=MappingProxyType({target: Reserve(**row) for target, row in entry["reserve"].items()}),
        sources=MappingProxyType(dict(entry["sources"])),
    )


def board_names() -> list[str]:
    """Names of all boards, in the table's order."""
    return list(_table())


def board(name: str) -> Board:
    """The board called `name`. Raises ConfigError, with the nearest match, if there is none."""
    check_name("board", name, board_names())
    return _table()[name]
