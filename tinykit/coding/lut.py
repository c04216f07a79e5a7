"""Indices of 1 to 7 bits into a table of the values that occur.

The book is the table, in ascending order of the unsigned bytes. The stream holds groups of eight indices, as many bytes as an index has
bits, the first index in the lowest bits; the last group is filled up with zeros.
"""

from __future__ import annotations

import numpy as np

from tinykit.coding.coder import expect, expect_size

GROUP = 8
MOST_BITS = 7


class Lut:
    """See the module."""

    name = "lut"
    slack = 3
    per_element = 5.5
    per_table = 0.0

    def book(self, values: np.ndarray) -> bytes | None:
        found = np.unique(values)
        return found.tobytes() if 0 < len(found) <= 1 << MOST_BITS else None

    def size(self, book: bytes, values: np.ndarray) -> int:
        return -(-len(values) // GROUP) * index_bits(book)

    def encode(self, book: bytes, values: np.ndarray) -> bytes:
        width, table = index_bits(book), np.frombuffer(book, np.uint8)
        index = np.zeros(-(-len(values) // GROUP) * GROUP, np.uint8)
        index[: len(values)] = np.searchsorted(table, values)
        return np.packbits(index[:, None] >> np.arange(width, dtype=np.uint8) & 1, bitorder="little").tobytes()

    def decode(self, book: bytes, stream: bytes, count: int) -> np.ndarray:
        table = np.frombuffer(book, np.uint8)
        expect(0 < len(table) <= 1 << MOST_BITS, self.name, f"table of {len(table)} entries; expected 1 to {1 << MOST_BITS}")
        expect(bool((np.diff(table.astype(np.int16)) > 0).all()), self.name, "the entries of the table do not ascend")
        width, groups = index_bits(book), -(-count // GROUP)
        expect_size(self.name, "stream", stream, groups * width)
        fields = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little").reshape(groups * GROUP, width)
        index = fields @ (1 << np.arange(width))
        expect(not index[count:].any(), self.name, "something lies behind the last index")
        expect(bool((index < len(table)).all()), self.name, f"index {index.max(initial=0)} into a table of {len(table)} entries")
        return table[index[:count]]

    def entries(self, book: bytes) -> int:
        return 0

    def workspace(self, book: bytes) -> int:
        return 0


def index_bits(book: bytes) -> int:
    """Bits of an index into a table."""
    return max(1, (len(book) - 1).bit_length())
