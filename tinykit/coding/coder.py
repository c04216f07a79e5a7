"""What every coder of bytes offers: a book that several streams share, streams, and what it costs to decode them on a Cortex-M4."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tinykit.errors import ModelError

MOST_ELEMENTS = 1 << 24
"""Elements of one stream; more are refused before any memory is taken for them."""


class Coder(Protocol):
    """Codes sequences of bytes (weights as uint8). Everything that `decode` is given is untrusted.

    Attributes:
        name: as users say it.
        slack: bytes behind a stream that a decoder in C may read, though it uses none of their bits.
        per_element, per_table: instructions of the decoder in C for an element, and for building an entry of its table, at worst.
    """

    name: str
    slack: int
    per_element: float
    per_table: float

    def book(self, values: np.ndarray) -> bytes | None:
        """What the streams of these values (uint8) share; None where this coder cannot code them."""

    def size(self, book: bytes, values: np.ndarray) -> int:
        """Bytes of `encode`'s stream; a few more or less where only encoding tells."""

    def encode(self, book: bytes, values: np.ndarray) -> bytes:
        """A stream. `values` are some of those that the book was made for."""

    def decode(self, book: bytes, stream: bytes, count: int) -> np.ndarray:
        """The `count` values, uint8. Raises ModelError where book and stream are not what `book` and `encode` make."""

    def entries(self, book: bytes) -> int:
        """Entries of the table that the decoder in C builds first."""

    def workspace(self, book: bytes) -> int:
        """Bytes of that table."""


def expect(condition: bool, name: str, problem: str) -> None:
    """Refuses a stream or book. Raises ModelError."""
    if not condition:
        raise ModelError(f"{name}: {problem}")


def expect_size(name: str, what: str, data: bytes, size: int) -> None:
    """Refuses data of another size. Raises ModelError."""
    expect(len(data) == size, name, f"{what} of {len(data)} bytes; expected {size}")


class Raw:
    """The bytes as they are: what a bitmap leaves."""

    name = "bytes"
    slack = 1
    per_element = 0.0
    per_table = 0.0

    def book(self, values: np.ndarray) -> bytes | None:
        return b""

    def size(self, book: bytes, values: np.ndarray) -> int:
        return len(values)

    def encode(self, book: bytes, values: np.ndarray) -> bytes:
        return values.tobytes()

    def decode(self, book: bytes, stream: bytes, count: int) -> np.ndarray:
        expect_size(self.name, "book", book, 0)
        expect_size(self.name, "stream", stream, count)
        return np.frombuffer(stream, np.uint8)

    def entries(self, book: bytes) -> int:
        return 0

    def workspace(self, book: bytes) -> int:
        return 0
