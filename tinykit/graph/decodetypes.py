"""The other encodings that TFLM's custom operator DECODE expands, beside the tables of `lut`: pruned and Huffman-coded weights.

Each is a pair of tensors, as there. The ancillary tensor begins with the 16 bytes of `lut`; its byte 0 is the decode type.

* Pruned (2): a bit an element, the first in the highest bit of the first byte, 1 where it is not 0; behind the header the elements that are
  not 0. Others get the zero point, which weights have at 0.
* Huffman (1): codes one after the other, the first in the highest bits, in whole 32-bit words of which one more may be read; behind the
  header a table of 2^n entries of 16 bits, n - 1 in the upper half of byte 5, for each n bits that can come next: 0x8000, the length of
  the code that they begin with << 11, its value. TFLM knows tables of tables too; one is enough for codes of at most 10 bits.

Sources: tflite-micro, kernels/decode_state_prune.cc, kernels/decode_state_huffman.h and .cc.
"""

from __future__ import annotations

import numpy as np

from tinykit.coding.huffman import MOST_BITS, Huffman, code_book, read_book
from tinykit.errors import ModelError

HUFFMAN, PRUNE = 1, 2
HEADER = 16
MAX_CODES = 1 << 21
"""Elements of a Huffman-coded tensor: they are decoded one by one."""
_FOUND, _LENGTH_SHIFT = 0x8000, 11
Encoded = tuple[np.ndarray, np.ndarray]
"""Both tensors, uint8: what is decoded, header and tables."""


def _header(kind: int, parameters: int = 0) -> np.ndarray:
    header = np.zeros(HEADER, np.uint8)
    header[[0, 1, 4, 5]] = kind, 1, 1, parameters
    return header


# ---------------------------------------------------------------- writing


def encode_prune(values: np.ndarray) -> Encoded:
    """A bitmap and what is not 0, of int8 values."""
    flat = values.reshape(-1).view(np.uint8)
    return np.packbits(flat != 0), np.concatenate([_header(PRUNE), flat[flat != 0]])


def encode_huffman(values: np.ndarray) -> Encoded:
    """Codes and their table, of int8 values: with the longest code for which both together are smallest."""
    flat = values.reshape(-1).view(np.uint8)
    least = max(1, (len(np.unique(flat)) - 1).bit_length())
    if least > MOST_BITS:
        raise ModelError(f"{len(np.unique(flat))} values: more than codes of {MOST_BITS} bits")
    found = [_huffman(flat, most) for most in range(least, MOST_BITS + 1)]
    return min(found, key=lambda pair: len(pair[0]) + len(pair[1]))


def _huffman(flat: np.ndarray, most: int) -> Encoded:
    book = code_book(flat, most)
    symbols, lengths, _ = read_book(book)
    longest = book[0]
    entries = np.repeat(_FOUND | lengths << _LENGTH_SHIFT | symbols, 1 << (longest - lengths)).astype("<u2")
    table = np.append(entries, np.full((1 << longest) - len(entries), entries[-1]))  # where one value has one bit, 0
    stream = np.frombuffer(Huffman().encode(book, flat), np.uint8)
    padded = np.concatenate([stream, np.zeros(-len(stream) % 4 + 4, np.uint8)])
    return padded, np.concatenate([_header(HUFFMAN, (longest - 1) << 4), table.astype("<u2").view(np.uint8)])


# ---------------------------------------------------------------- reading


def decode_prune(packed: np.ndarray, ancillary: np.ndarray, count: int) -> np.ndarray:
    """The int8 values, flat. Raises ModelError for sizes that do not fit."""
    values = ancillary[HEADER:]
    if len(packed) != -(-count // 8):
        raise ModelError(f"{count} elements need a bitmap of {-(-count // 8)} bytes, the file holds {len(packed)}")
    bits = np.unpackbits(packed)[:count]
    if int(bits.sum()) != len(values):
        raise ModelError(f"the bitmap has {int(bits.sum())} elements that are not 0, the file holds {len(values)}")
    found = np.zeros(count, np.uint8)
    found[bits == 1] = values
    return found.view(np.int8)


def decode_huffman(packed: np.ndarray, ancillary: np.ndarray, count: int) -> np.ndarray:
    """The int8 values, flat. Raises ModelError for tables and codes that do not fit, and for tables of tables."""
    width, wide = (int(ancillary[5]) >> 4) + 1, bool(ancillary[5] & 1)
    entries = ancillary[HEADER:]
    if wide or len(entries) != 2 << width:
        raise ModelError(
            f"{len(entries)} bytes of Huffman tables of {32 if wide else 16} bits; one table of {2 << width} bytes is supported"
        )
    table = np.frombuffer(entries.tobytes(), "<u2").astype(np.int64)
    lengths = table >> _LENGTH_SHIFT & 15
    if not ((table & _FOUND) != 0).all() or lengths.min() < 1 or lengths.max() > width:
        raise ModelError(f"a Huffman table with codes that are longer than its {width} bits, or with tables of tables")
    if count > MAX_CODES:
        raise ModelError(f"{count} Huffman codes; at most {MAX_CODES} are read")
    bits = np.append(np.unpackbits(packed), np.zeros(width, np.uint8)).astype(np.int32)
    size = 8 * len(packed)
    windows = np.zeros(size, np.int32)
    for i in range(width):
        windows = windows << 1 | bits[i : size + i]
    steps, starts, at = lengths[windows].tolist(), np.zeros(count, np.int64), 0
    for i in range(count):
        if at >= size:
            raise ModelError(f"the codes end before element {i} of {count}")
        starts[i] = at
        at += steps[at]
    if at > size:
        raise ModelError("the codes end within the last element")
    return (table[windows[starts]] & 255).astype(np.uint8).view(np.int8)
