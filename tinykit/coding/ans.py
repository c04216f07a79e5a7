"""rANS: an entropy coder whose loss against the entropy is not rounded to whole bits a value, as Huffman's is.

State and stream are those of Duda's range variant (arXiv:1311.2540), with 32 bits of state and words of 16 bits: the decoder reads at
most one word a value. The book is the number of values less one, the scale R (frequencies add up to 2^R) and for each value, in ascending
order, itself and its frequency less one, in one byte below 128, else the lowest 7 bits first, with bit 7 set. The stream is the first
state in four bytes, then words, all little-endian.

The last state is the one that the encoder began with: what was damaged ends elsewhere, up to one case in 2^16.
"""

from __future__ import annotations

import numpy as np

from tinykit.coding.coder import expect

SCALES = (8, 9, 10, 11)
LOWEST = 1 << 16
_WORTH = 1.005  # a finer scale, which takes more RAM, must save half a percent


class Ans:
    """See the module."""

    name = "ans"
    slack = 2
    per_element = 18.0
    per_table = 4.0

    def book(self, values: np.ndarray) -> bytes | None:
        symbols, counts = np.unique(values, return_counts=True)
        if not len(symbols):
            return None
        best, least = b"", np.inf
        for scale in SCALES:
            frequencies = normalised(counts, scale)
            book = bytes([len(symbols) - 1, scale]) + b"".join(bytes([s]) + _number(f - 1) for s, f in zip(symbols, frequencies.tolist()))
            size = float(counts @ (scale - np.log2(frequencies))) / 8 + len(book)
            if size * _WORTH < least:
                best, least = book, size
        return best

    def size(self, book: bytes, values: np.ndarray) -> int:
        symbols, frequencies, scale = _read(book)
        bits = float(np.bincount(values, minlength=256)[symbols] @ (scale - np.log2(frequencies)))
        return 4 + 2 * int(np.ceil(bits / 16))

    def encode(self, book: bytes, values: np.ndarray) -> bytes:
        symbols, frequencies, scale = _read(book)
        place = np.zeros(256, np.int64)
        place[symbols] = np.arange(len(symbols))
        starts, sizes = (np.cumsum(frequencies) - frequencies).tolist(), frequencies.tolist()
        state, words = LOWEST, []
        for i in place[values][::-1].tolist():
            size = sizes[i]
            if state >= size << 32 - scale:
                words.append(state & 0xFFFF)
                state >>= 16
            state = (state // size << scale) + state % size + starts[i]
        return state.to_bytes(4, "little") + np.array(words[::-1], "<u2").tobytes()

    def decode(self, book: bytes, stream: bytes, count: int) -> np.ndarray:
        symbols, frequencies, scale = _read(book)
        expect(len(stream) >= 4 and len(stream) % 2 == 0, self.name, f"a stream of {len(stream)} bytes; expected 4, 6, 8 or more")
        state, words = int.from_bytes(stream[:4], "little"), np.frombuffer(stream[4:], "<u2").tolist()
        expect(state >= LOWEST, self.name, f"the first state is {state}; expected {LOWEST} or more")
        slots = np.repeat(np.arange(len(symbols)), frequencies).tolist()
        starts, sizes = (np.cumsum(frequencies) - frequencies).tolist(), frequencies.tolist()
        mask, used, found = (1 << scale) - 1, 0, []
        for i in range(count):
            slot = state & mask
            symbol = slots[slot]
            found.append(symbol)
            state = sizes[symbol] * (state >> scale) + slot - starts[symbol]
            if state < LOWEST:
                expect(used < len(words), self.name, f"the stream ends within value {i} of {count}")
                state = state << 16 | words[used]
                used += 1
        expect(state == LOWEST and used == len(words), self.name, "the stream does not end with its last value")
        return symbols[np.array(found, np.int64)]

    def entries(self, book: bytes) -> int:
        return 1 << book[1]

    def workspace(self, book: bytes) -> int:
        return 4 * (book[0] + 1) + (1 << book[1])


def normalised(counts: np.ndarray, scale: int) -> np.ndarray:
    """Frequencies, int64, at least 1, that add up to 2^scale and come close to those that code `counts` the shortest.

    What rounding leaves over or takes too much is put right one by one, where that costs the fewest bits."""
    total = 1 << scale
    found = np.maximum(1, np.floor(counts / counts.sum() * total + 0.5)).astype(np.int64)
    while (left := total - int(found.sum())) != 0:
        step = 1 if left > 0 else -1
        able = (found > 1) | (left > 0)
        cost = np.where(able, counts * (np.log2(found) - np.log2(np.where(able, found + step, 1))), np.inf)
        found[int(np.argmin(cost))] += step
    return found


def _number(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def _read(book: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """(values uint8 ascending, frequencies, scale). Raises ModelError for a book that is none."""
    expect(len(book) >= 4 and book[1] in SCALES, Ans.name, "a book without a scale of " + ", ".join(map(str, SCALES)))
    symbols, frequencies, at = [], [], 2
    for i in range(book[0] + 1):
        expect(at + 2 <= len(book), Ans.name, f"the book ends before value {i} of {book[0] + 1}")
        symbols.append(book[at])
        number, at = book[at + 1], at + 2
        if number & 128:
            expect(at < len(book), Ans.name, f"the book ends within value {i} of {book[0] + 1}")
            number, at = number & 127 | book[at] << 7, at + 1
        frequencies.append(number + 1)
    expect(at == len(book), Ans.name, "something lies behind the last value of the book")
    expect(sum(frequencies) == 1 << book[1], Ans.name, f"frequencies add up to {sum(frequencies)}; expected {1 << book[1]}")
    expect(all(a < b for a, b in zip(symbols, symbols[1:])), Ans.name, "the values of the book do not ascend")
    return np.array(symbols, np.uint8), np.array(frequencies, np.int64), book[1]
