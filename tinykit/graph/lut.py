"""Weights of at most 2 bits as indices into a table, in the form that TFLM's custom operator DECODE expands before it is read.

A DECODE reads pairs of tensors: the indices, packed with the first one in the most significant bits, and an ancillary tensor of a header
and tables. The header has 16 bytes: 0 decode type (0: table), 1 version (1), 4 version of the table format (1), 5 index bits (2-0) and axis
of the tables (7-4; 15: one table), 6 entries from one channel's table to the next. Sources: tflite-micro, kernels/decode.cc,
kernels/decode_state_lut.cc and compression/lut.py.

Kernels and documentation disagree on what chooses a channel's table: TFLM's kernels go by the number of scales of the result and pass over
the axis, so that one table on a tensor with a scale a channel gives wrong weights without a word. A step of 0 entries together with axis 15
means one table to both; that is what `encode` writes.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import decodetypes
from tinykit.graph.flatfile import FlatOp, FlatTensor
from tinykit.graph.readcontext import Context

BOOKS = ((-2, -1, 0, 1), (-3, -1, 1, 3))
HEADER = 16
ONE_TABLE = 15
MAX_DECODED = 1 << 24  # elements of all decoded tensors: many operators may expand the same bytes
_CHUNK = 1 << 18  # elements at once; a multiple of 8, so that chunks begin with a byte
_TYPES: dict[str, np.dtype] = {"INT8": np.dtype("<i1"), "INT32": np.dtype("<i4")}


MOST_BITS = 7


def index_bits(values: np.ndarray) -> int | None:
    """Bits of an index into a table of the values that occur, None where there are more than 7."""
    bits = max(1, (len(np.unique(values)) - 1).bit_length())
    return bits if bits <= MOST_BITS else None


def encode_any(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(indices, header and table) as uint8: one table of the values that occur, which `index_bits` counts."""
    table, index = np.unique(values.reshape(-1), return_inverse=True)
    bits = index_bits(values) or 8
    fields = index.astype(np.uint8)[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8) & 1
    header = np.zeros(HEADER, np.uint8)
    header[[1, 4, 5]] = 1, 1, ONE_TABLE << 4 | bits
    return np.packbits(fields), np.concatenate([header, table.astype(np.int8).view(np.uint8)])


def encode(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(indices, header and table) as uint8: 2 bits an element, one table. Raises ModelError for values that are in no book of 2 bits."""
    book = next((b for b in BOOKS if np.isin(values, b).all()), None)
    if book is None:
        raise ModelError(f"2-bit weights reach {values.min()}..{values.max()}; expected -2..1, or -3, -1, 1 and 3")
    index = np.searchsorted(np.array(book, np.int8), values.reshape(-1)).astype(np.uint8)
    quads = np.pad(index, (0, -len(index) % 4)).reshape(-1, 4)
    packed = np.bitwise_or.reduce(quads << np.array([6, 4, 2, 0], np.uint8), axis=1).astype(np.uint8)
    header = np.zeros(HEADER, np.uint8)
    header[[1, 4, 5]] = 1, 1, ONE_TABLE << 4 | 2
    return packed, np.concatenate([header, np.array(book, np.int8).view(np.uint8)])


def width(values: np.ndarray) -> int:
    """The fewest bits, 2, 4 or 8, in which the graph holds these weights."""
    if any(np.isin(values, b).all() for b in BOOKS):
        return 2
    return 4 if values.min() >= -8 and values.max() <= 7 else 8


def read(c: Context, op: FlatOp) -> None:
    """DECODE: its results become constants of the graph. Raises ModelError, which names the tensor."""
    if not op.outputs or len(op.inputs) != 2 * len(op.outputs):
        raise ModelError(f"{op}: {len(op.inputs)} inputs and {len(op.outputs)} outputs; expected two inputs for each output")
    for i, index in enumerate(op.outputs):
        t = c.checked(c.flat.tensors[index])
        if t.data is not None or index in c.decoded or index in c.flat.inputs:
            raise ModelError(f"{op}: {t} has values already")
        if t.type not in _TYPES or 0 in t.shape:
            raise ModelError(f"{op}: {t} is {t.type} of shape {list(t.shape)}; INT8 or INT32 is decoded")
        c.decoded_elements += math.prod(t.shape)
        if c.decoded_elements > MAX_DECODED:
            raise ModelError(f"{op}: with {t} there are {c.decoded_elements} decoded elements; at most {MAX_DECODED} are read")
        values = _expanded(c.operand(op, 2 * i), c.operand(op, 2 * i + 1), t)
        c.decoded[index] = dataclasses.replace(t, data=values.view(np.uint8))
        if t.type == "INT8":
            c.bits[index] = width(values)


def _expanded(encoded: FlatTensor, ancillary: FlatTensor, t: FlatTensor) -> np.ndarray:
    """The elements of `t`, flat, whatever the decode type. Raises ModelError, which names the tensor."""
    header = _bytes(ancillary)[:HEADER]
    kind = int(header[0]) if len(header) else 0
    decode_other = _OTHER_TYPES.get(kind)
    if decode_other is None:
        return decode(encoded, ancillary, t)
    if len(header) < HEADER or (header[1], header[4]) != (1, 1):
        raise ModelError(f"{ancillary} has no header of version 1 of decode type {kind}")
    if t.type != "INT8" or any(t.zero_point):
        raise ModelError(f"{t} is {t.type} with zero points {t.zero_point[:4].tolist()}; decode type {kind} is read for INT8 with 0")
    try:
        return decode_other(_bytes(encoded), _bytes(ancillary), math.prod(t.shape))
    except ModelError as problem:
        raise ModelError([f"{encoded}: {line}" for line in problem.problems]) from None


_OTHER_TYPES = {decodetypes.HUFFMAN: decodetypes.decode_huffman, decodetypes.PRUNE: decodetypes.decode_prune}


def decode(encoded: FlatTensor, ancillary: FlatTensor, t: FlatTensor) -> np.ndarray:
    """The elements of `t`, flat, from indices and tables. Raises ModelError for sizes or versions that do not fit, which names a tensor."""
    bits, axis, step = _header(ancillary)
    count, item = math.prod(t.shape), _TYPES[t.type].itemsize
    content = _bytes(ancillary)[HEADER:]
    if len(content) % item or not len(content):
        raise ModelError(f"{ancillary} holds {len(content)} bytes of tables behind its header, not one or more entries of {item} bytes")
    tables = np.frombuffer(content.tobytes(), _TYPES[t.type])
    packed = _bytes(encoded)
    if len(packed) != -(-count * bits // 8):
        raise ModelError(f"{encoded} needs {-(-count * bits // 8)} bytes for {count} indices of {bits} bits, the file holds {len(packed)}")
    channels, inner = (1, count) if step == 0 else _layout(ancillary, t, (axis, step, len(tables)))
    limit, values = step or len(tables), np.empty(count, tables.dtype)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        index = _indices(packed, bits, start, stop)
        if index.max() >= limit:
            raise ModelError(f"{encoded} has index {index.max()}, the table in {ancillary} has {limit} entries")
        values[start:stop] = tables[np.arange(start, stop) // inner % channels * step + index]
    return values


def _bytes(t: FlatTensor) -> np.ndarray:
    if t.data is None:
        raise ModelError(f"{t} must be constant, and the file holds no values for it")
    return t.data


def _header(t: FlatTensor) -> tuple[int, int, int]:
    """(bits of an index, axis of the tables, entries from one channel's table to the next)."""
    data = _bytes(t)
    if len(data) < HEADER:
        raise ModelError(f"{t} holds {len(data)} bytes; the header of a DECODE has {HEADER}")
    kind, version, lut_version, parameters, step = (int(data[i]) for i in (0, 1, 4, 5, 6))
    if kind != 0:
        raise ModelError(f"{t} is for decode type {kind}; 0 (look-up table), 1 (Huffman) and 2 (pruned) are supported")
    if (version, lut_version) != (1, 1):
        raise ModelError(f"{t} has version {version} of DECODE and {lut_version} of its tables; 1 and 1 are supported")
    if parameters & 8 or not parameters & 7:
        raise ModelError(f"{t} has indices of {parameters & 15} bits; 1 to 7 are supported")
    return parameters & 7, parameters >> 4, step


def _layout(ancillary: FlatTensor, t: FlatTensor, tables: tuple[int, int, int]) -> tuple[int, int]:
    """(channels, elements before the channel changes), of tables of (axis, step, entries in all).

    The axis may come from the header (the documented format) or from the scales (TFLM's kernels); the number of entries must tell which.
    """
    axis, step, entries = tables
    found = set()
    for reading in (None if axis == ONE_TABLE else axis, t.axis if len(t.scale) > 1 else None):
        if reading is not None and not 0 <= reading < len(t.shape):
            raise ModelError(f"{ancillary} has tables along axis {reading} of {t}, which has {len(t.shape)} axes")
        channels = 1 if reading is None else t.shape[reading]
        if channels * step == entries:
            inner = math.prod(t.shape) if channels == 1 or reading is None else math.prod(t.shape[reading + 1 :])
            found.add((channels, inner))
    if len(found) != 1:
        why = "could be meant for either of two axes" if found else "fit neither the axis in its header nor the scales"
        raise ModelError(f"{ancillary} has {entries} entries in tables of {step}, which {why} of {t} of shape {list(t.shape)}")
    return found.pop()


def _indices(packed: np.ndarray, bits: int, start: int, stop: int) -> np.ndarray:
    part = np.unpackbits(packed[start * bits // 8 : -(-stop * bits // 8)])[: (stop - start) * bits]
    return part.reshape(-1, bits) @ (1 << np.arange(bits)[::-1])
