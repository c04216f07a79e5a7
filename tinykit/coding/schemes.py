"""The codings that weights may have: a coder of all bytes, or a bitmap of those that are not 0 and a coder of these.

A bitmap is a bit a value, the first in the lowest bit of the first byte, 1 where the value is not 0. It pays where many are 0: at 75 %
an eighth of a byte for each and a quarter of them as they are take 0.375 of the bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from tinykit.coding.ans import Ans
from tinykit.coding.coder import MOST_ELEMENTS, Coder, Raw, expect, expect_size
from tinykit.coding.huffman import Huffman
from tinykit.coding.lut import Lut


@dataclass(frozen=True)
class Scheme:
    """A coding.

    Attributes:
        name: as users say it.
        bitmap: the coder sees only the bytes that are not 0.
        coder: of these, or of all.
    """

    name: str
    bitmap: bool
    coder: Coder

    def book(self, values: np.ndarray) -> bytes | None:
        """What the parts of a layer share; None where the values (int8 or uint8, flat) cannot be coded so."""
        data = values.view(np.uint8)
        if self.bitmap:
            data = data[data != 0]
            if not len(data):
                return b"" if isinstance(self.coder, Raw) else None
        return self.coder.book(data)

    def size(self, book: bytes, values: np.ndarray) -> tuple[int, int]:
        """(bytes of mask and stream, values that the coder sees), without coding them; see `Coder.size`."""
        data = values.view(np.uint8)
        seen = data[data != 0] if self.bitmap else data
        return -(-len(data) // 8) * self.bitmap + self.coder.size(book, seen), len(seen)

    def encode(self, book: bytes, values: np.ndarray) -> Part:
        """A part of the values that the book was made for."""
        data = values.view(np.uint8)
        if not self.bitmap:
            return Part(b"", self.coder.encode(book, data), len(data), len(data))
        mask, rest = np.packbits(data != 0, bitorder="little").tobytes(), data[data != 0]
        return Part(mask, self.coder.encode(book, rest), len(data), len(rest))

    def decode(self, book: bytes, part: Part) -> np.ndarray:
        """The values, int8. Raises ModelError where book and part are not what `book` and `encode` make."""
        expect(0 <= part.coded <= part.count <= MOST_ELEMENTS, self.name, f"{part.coded} of {part.count} values; at most {MOST_ELEMENTS}")
        if not self.bitmap:
            expect_size(self.name, "bitmap", part.mask, 0)
            expect(part.coded == part.count, self.name, f"{part.coded} of {part.count} values")
            return self.coder.decode(book, part.stream, part.count).view(np.int8)
        expect_size(self.name, "bitmap", part.mask, -(-part.count // 8))
        bits = np.unpackbits(np.frombuffer(part.mask, np.uint8), bitorder="little")
        expect(not bits[part.count :].any(), self.name, "something lies behind the last bit of the bitmap")
        expect(int(bits.sum()) == part.coded, self.name, f"{int(bits.sum())} bits of the bitmap are 1; expected {part.coded}")
        rest = self.coder.decode(book, part.stream, part.coded)
        expect(bool(rest.all()), self.name, "0 among the values that are not 0")
        found = np.zeros(part.count, np.uint8)
        found[bits[: part.count] == 1] = rest
        return found.view(np.int8)


@dataclass(frozen=True)
class Part:
    """Some values, coded.

    Attributes:
        mask: the bitmap; empty where the scheme has none.
        stream: of the coder.
        count: values.
        coded: those that the coder sees.
    """

    mask: bytes
    stream: bytes
    count: int
    coded: int


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("bitmap", True, Raw()),
        Scheme("lut", False, Lut()),
        Scheme("bitmap+lut", True, Lut()),
        Scheme("huffman", False, Huffman()),
        Scheme("bitmap+huffman", True, Huffman()),
        Scheme("ans", False, Ans()),
    )
}
"""By name, the quickest decoders first."""


# ---------------------------------------------------------------- with a checksum, for files

_MAGIC = b"TKW1"
_HEAD = 24


def pack(name: str, values: np.ndarray) -> bytes | None:
    """Values (int8, flat) in one piece with sizes and a checksum; None where the scheme cannot code them.

    The head: magic, number of the scheme, 3 zeros, then values, coded ones, and the sizes of book and mask as uint32; behind it book, mask,
    stream and the CRC-32 of all that."""
    scheme = SCHEMES[name]
    book = scheme.book(values)
    if book is None:
        return None
    part = scheme.encode(book, values)
    sizes = b"".join(n.to_bytes(4, "little") for n in (part.count, part.coded, len(book), len(part.mask)))
    content = _MAGIC + bytes([list(SCHEMES).index(name), 0, 0, 0]) + sizes + book + part.mask + part.stream
    return content + zlib.crc32(content).to_bytes(4, "little")


def unpack(data: bytes) -> np.ndarray:
    """The values of `pack`, int8. Raises ModelError for anything that `pack` did not make: cut short, damaged, or made to deceive."""
    expect(len(data) >= _HEAD + 4 and data[:4] == _MAGIC, "coded weights", "no head of coded weights")
    expect(zlib.crc32(data[:-4]).to_bytes(4, "little") == data[-4:], "coded weights", "the checksum is wrong: damaged or cut short")
    expect(data[4] < len(SCHEMES) and not any(data[5:8]), "coded weights", f"scheme {data[4]}; 0 to {len(SCHEMES) - 1} are known")
    count, coded, book, mask = (int.from_bytes(data[8 + 4 * i : 12 + 4 * i], "little") for i in range(4))
    expect(_HEAD + book + mask <= len(data) - 4, "coded weights", "shorter than its head says")
    at = _HEAD + book
    part = Part(data[at : at + mask], data[at + mask : -4], count, coded)
    return list(SCHEMES.values())[data[4]].decode(data[_HEAD:at], part)
