"""Canonical Huffman codes of at most 10 bits.

The book is the length of the longest code, the number of codes of each length from 1 on, and the values in the order of their codes:
shorter codes first, equal lengths by value. The stream holds the codes one after the other, the first in the highest bits of the first
byte; the last byte is filled up with zeros. Where only one value occurs its code is one bit, 0.

Lengths are those of package-merge (Larmore and Hirschberg, 1990): no code with lengths within the limit is shorter.
"""

from __future__ import annotations

import numpy as np

from tinykit.coding.coder import expect, expect_size

MOST_BITS = 10
"""So that two codes behind 7 bits that are used up fit a word, and a table of all prefixes takes 2 kB of RAM at most."""


class Huffman:
    """See the module."""

    name = "huffman"
    slack = 6
    per_element = 10.5
    per_table = 6.0

    def book(self, values: np.ndarray) -> bytes | None:
        if not len(values) or len(np.unique(values)) == 256:  # 256 codes of one length are no byte, and are no gain
            return None
        return code_book(values, MOST_BITS)

    def size(self, book: bytes, values: np.ndarray) -> int:
        symbols, lengths, _ = read_book(book)
        return -(-int(np.bincount(values, minlength=256)[symbols] @ lengths) // 8)

    def encode(self, book: bytes, values: np.ndarray) -> bytes:
        symbols, lengths, codes = read_book(book)
        place = np.zeros(256, np.int64)
        place[symbols] = np.arange(len(symbols))
        length, code = lengths[place[values]], codes[place[values]]
        ends = np.cumsum(length)
        bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
        for i in range(int(lengths.max())):  # bit by bit of all codes at once, from the last bit on
            has = length > i
            bits[ends[has] - 1 - i] = code[has] >> i & 1
        return np.packbits(bits).tobytes()

    def decode(self, book: bytes, stream: bytes, count: int) -> np.ndarray:
        symbols, lengths, _ = read_book(book)
        longest, size = book[0], 8 * len(stream)
        bits = np.append(np.unpackbits(np.frombuffer(stream, np.uint8)), np.zeros(longest, np.uint8)).astype(np.int64)
        windows = sum(bits[i : size + i] << longest - 1 - i for i in range(longest))  # the next bits at every bit
        code = np.full(1 << longest, -1)
        prefixes = np.repeat(np.arange(len(symbols)), 1 << (longest - lengths))
        code[: len(prefixes)] = prefixes
        at, found, begins, widths = 0, [], code[windows].tolist(), lengths.tolist()
        for i in range(count):
            expect(at < size, self.name, f"the stream ends before value {i} of {count}")
            expect(begins[at] >= 0, self.name, f"bit {at} begins no code")
            found.append(begins[at])
            at += widths[begins[at]]
        expect(at <= size, self.name, "the stream ends within the last value")
        expect_size(self.name, "stream", stream, -(-at // 8))
        expect(not stream or not stream[-1] & (1 << -at % 8) - 1, self.name, "something lies behind the last code")
        return symbols[np.array(found, np.int64)]

    def entries(self, book: bytes) -> int:
        return 1 << book[0]

    def workspace(self, book: bytes) -> int:
        return 2 << book[0]


def code_book(values: np.ndarray, most: int) -> bytes:
    """The book of these values (uint8, one or more, not all 256) with codes of at most `most` bits, of which there must be enough."""
    symbols, counts = np.unique(values, return_counts=True)
    lengths = code_lengths(counts, most)
    longest = int(lengths.max())
    return bytes([longest, *np.bincount(lengths)[1:].tolist()]) + symbols[np.lexsort((symbols, lengths))].tobytes()


def read_book(book: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values uint8, lengths, codes) in the order of the codes. Raises ModelError for a book that is none."""
    expect(len(book) > 0 and 1 <= book[0] <= MOST_BITS, Huffman.name, f"codes of up to {book[0] if book else 0} bits; 1 to {MOST_BITS}")
    longest = book[0]
    expect(len(book) > 1 + longest and sum(book[1 : 1 + longest]) == len(book) - 1 - longest, Huffman.name, "lengths and values differ")
    symbols = np.frombuffer(book[1 + longest :], np.uint8)
    lengths = np.repeat(np.arange(1, longest + 1), list(book[1 : 1 + longest]))
    steps = 1 << (longest - lengths)
    used = int(steps.sum())
    expect(used == 1 << longest or (len(symbols) == 1 and longest == 1), Huffman.name, "the lengths are those of no complete code")
    expect(len(np.unique(symbols)) == len(symbols), Huffman.name, "a value has two codes")
    first = np.cumsum(steps) - steps
    return symbols, lengths, first >> (longest - lengths)


def code_lengths(counts: np.ndarray, most: int) -> np.ndarray:
    """Lengths, int64, of the shortest prefix code in which none is longer than `most` bits: package-merge.

    Args:
        counts: how often each symbol occurs, at least 1; at most 2^most symbols.
    """
    lengths = np.zeros(len(counts), np.int64)
    if len(counts) == 1:
        return lengths + 1
    leaves = sorted((int(n), (i,)) for i, n in enumerate(counts))
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(most):
        merged = sorted([*leaves, *packages])
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(merged[::2], merged[1::2])]
    for _, symbols in packages[: len(counts) - 1]:
        np.add.at(lengths, list(symbols), 1)
    return lengths
