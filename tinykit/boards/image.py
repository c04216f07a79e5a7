"""A linked program (ELF, 32-bit Arm): what a flash tool writes, and the names of what is inside."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinykit.errors import TinykitError

LARGEST_FILE = 64 << 20
"""Bytes; no microcontroller's program with its debug information comes near."""

_DAMAGE = (ELFError, ConstructError, ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError, AssertionError)
"""What pyelftools raises when it is given a damaged file: it does not promise one type."""

_SECTION_WRITE, _SECTION_ALLOC, _SECTION_EXECUTE = 1, 2, 4


class ImageError(TinykitError):
    """A file is not a linked Arm program, or lacks a symbol that is needed."""


@dataclass(frozen=True)
class Symbol:
    """A name in the image.

    Attributes:
        address: where it is at run time, without the Thumb bit.
        size: bytes; 0 where the assembler was not told.
        kind: 'func', 'object' or 'other' (labels, and symbols of the linker script).
    """

    name: str
    address: int
    size: int
    kind: str


@dataclass(frozen=True)
class Section:
    """A section; `nobits`: it takes no bytes in flash (.bss)."""

    name: str
    address: int
    size: int
    alloc: bool
    write: bool
    execute: bool
    nobits: bool


@dataclass(frozen=True)
class Image:
    """A linked program.

    Attributes:
        path: the file.
        entry: address of the entry point, without the Thumb bit.
        segments: (load address, bytes), by address: what a flash tool writes. .data lies at its place in flash.
        symbols: by name; of several symbols of one name (static functions of two files) a global one, or else the lowest.
        functions: every function, by address, static ones of equal names included.
        sections: by name; of several sections of one name the first.
        code: [start, end) of each run of instructions in executable sections, literal pools and tables excluded.
    """

    path: Path
    entry: int
    segments: tuple[tuple[int, bytes], ...]
    symbols: dict[str, Symbol]
    functions: tuple[Symbol, ...]
    sections: dict[str, Section]
    code: tuple[tuple[int, int], ...]

    @staticmethod
    def load(path: Path | str) -> "Image":
        """Reads an ELF file, which need not be trusted.

        Raises:
            ImageError: it cannot be read, is not a linked 32-bit little-endian Arm program, is damaged or over 64 MiB.
        """
        path = Path(path)
        data = _bytes_of(path)
        try:
            return _read(path, data)
        except _DAMAGE as problem:
            raise ImageError(f"{path}: not a usable ELF file: {problem or type(problem).__name__}") from None

    def symbol(self, name: str) -> Symbol:
        """The symbol called `name`. Raises ImageError if there is none."""
        if name not in self.symbols:
            raise ImageError(f"{self.path}: no symbol '{name}'; was it renamed, made static, or dropped by --gc-sections?")
        return self.symbols[name]

    def function_at(self, address: int) -> Symbol | None:
        """The function that holds `address`, or None. A function of unknown size reaches to the next one."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        found = self.functions[index]
        size = found.size
        if size == 0:
            size = self._starts[index + 1] - found.address if index + 1 < len(self._starts) else 4096
        return found if address < found.address + size else None

    def where(self, address: int) -> str:
        """'name+0x12' for an address in a function, else '0x00000012'."""
        found = self.function_at(address)
        return f"0x{address:08x}" if found is None else f"{found.name}+0x{address - found.address:x}"

    @cached_property
    def _starts(self) -> list[int]:
        return [function.address for function in self.functions]


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as problem:
        raise ImageError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    if len(data) > LARGEST_FILE:
        raise ImageError(f"{path}: larger than {LARGEST_FILE >> 20} MiB")
    return data


def _read(path: Path, data: bytes) -> Image:
    elf = ELFFile(BytesIO(data))
    header = elf.header
    if (elf.elfclass, elf.little_endian, header["e_machine"]) != (32, True, "EM_ARM"):
        raise ValueError(f"{elf.elfclass} bits, {header['e_machine']}; 32-bit little-endian Arm is needed")
    if header["e_type"] != "ET_EXEC":
        raise ValueError(f"{header['e_type']}, not a linked program (ET_EXEC)")
    if header["e_shnum"] and header["e_shentsize"] != 40 or header["e_phnum"] and header["e_phentsize"] != 32:
        raise ValueError("header entries of an impossible size")
    raw = list(elf.iter_sections())
    sections = [_section(s) for s in raw]
    found = sorted(_symbols(raw), key=lambda pair: (pair[0].address, pair[1], pair[0].size, pair[0].name))
    symbols: dict[str, Symbol] = {}
    for symbol, is_global in found:
        if is_global or symbol.name not in symbols:
            symbols[symbol.name] = symbol
    return Image(
        path=path,
        entry=header["e_entry"] & ~1,
        segments=_segments(elf, raw, data),
        symbols={name: s for name, s in symbols.items() if not name.startswith("$")},
        functions=tuple(s for s, _ in found if s.kind == "func"),
        sections={s.name: s for s in reversed(sections)},
        code=_code([s for s in sections if s.alloc and s.execute and s.size and not s.nobits], [s for s, _ in found]),
    )


def _section(section: Any) -> Section:
    flags = section["sh_flags"]
    return Section(
        section.name,
        section["sh_addr"],
        section["sh_size"],
        alloc=bool(flags & _SECTION_ALLOC),
        write=bool(flags & _SECTION_WRITE),
        execute=bool(flags & _SECTION_EXECUTE),
        nobits=section["sh_type"] == "SHT_NOBITS",
    )


def _segments(elf: Any, sections: list[Any], data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Loadable bytes by load address, cut to the sections: a linker may put its own file header into a segment, no flash tool writes it."""
    spans = [
        (s["sh_offset"], s["sh_offset"] + s["sh_size"])
        for s in sections
        if s["sh_flags"] & _SECTION_ALLOC and s["sh_type"] != "SHT_NOBITS" and s["sh_size"]
    ]
    result, room = [], LARGEST_FILE  # segments may overlap in a file, and so be many times larger than it
    for segment in elf.iter_segments():
        start, end = segment["p_offset"], segment["p_offset"] + segment["p_filesz"]
        if segment["p_type"] != "PT_LOAD" or start == end:
            continue
        if end > len(data):
            raise ValueError(f"a segment ends at byte {end} of a file of {len(data)}")
        inside = [(a, b) for a, b in spans if start <= a and b <= end]
        if spans and not inside:
            continue
        first = min((a for a, _ in inside), default=start)
        last = max((b for _, b in inside), default=end)
        address = segment["p_paddr"] + first - start
        if address + last - first > 1 << 32:
            raise ValueError(f"a segment at 0x{address:08x} reaches past the end of the address space")
        room -= last - first
        if room < 0:
            raise ValueError(f"segments of more than {LARGEST_FILE >> 20} MiB")
        result.append((address, data[first:last]))
    return tuple(sorted(result))


def _symbols(sections: list[Any]) -> Iterator[tuple[Symbol, bool]]:
    """(symbol, is it global?); mapping symbols ($t, $d) included."""
    kinds = {"STT_FUNC": "func", "STT_OBJECT": "object", "STT_NOTYPE": "other"}
    for section in sections:
        if not isinstance(section, SymbolTableSection) or section["sh_type"] != "SHT_SYMTAB":
            continue
        if section["sh_entsize"] != 16:
            raise ValueError("a symbol table with entries of an impossible size")
        for entry in section.iter_symbols():
            kind = kinds.get(entry["st_info"]["type"])
            if kind is None or not entry.name or entry["st_shndx"] == "SHN_UNDEF":
                continue
            address = entry["st_value"]
            address = address & ~1 if kind == "func" else address
            yield Symbol(entry.name, address, entry["st_size"], kind), entry["st_info"]["bind"] != "STB_LOCAL"


def _code(sections: list[Section], symbols: list[Symbol]) -> tuple[tuple[int, int], ...]:
    """Runs of instructions, by Arm's mapping symbols; whole sections where an image has none.

    A mapping symbol ($t: Thumb code, $d: data) is in force up to the next one of its section.
    """
    marks = sorted({(s.address, s.name[1]) for s in symbols if s.name[:2] in ("$t", "$d", "$a")})
    if not marks:
        return tuple((s.address, s.address + s.size) for s in sections)
    result = []
    for section in sorted(sections, key=lambda s: s.address):
        end = section.address + section.size
        low, high = bisect.bisect_left(marks, (section.address, "")), bisect.bisect_left(marks, (end, ""))
        bounds = [address for address, _ in marks[low:high]] + [end]
        for (address, letter), stop in zip(marks[low:high], bounds[1:]):
            if letter == "t" and stop > address:
                result.append((address, stop))
    return tuple(result)
