"""The decoders of `tinykit.coding` in C, and the calls that decode a layer's weights into scratch memory before its kernel reads them.

The streams are the engine's own, in flash, and counts are literals: nothing is checked at run time, nothing is read beyond a stream and
its slack. Each step takes its input from the end of the memory that it fills from the beginning, and never overtakes itself:

    stream --coder--> bytes that are not 0 --tk_unbitmap--> weights --tk_weave--> records, as the kernel reads them

Space, from its beginning: the records; SLACK bytes that groups of values may fill beyond the last; the coder's table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinykit.coding.lut import index_bits
from tinykit.coding.schemes import Part, Scheme
from tinykit.engine.call import Argument, Call, Function, Name, Place, Records, Table
from tinykit.engine.kernels.common import integers

SLACK = 8

_BYTES = "const uint8_t *"
_OUT = ("int8_t *", "out")
_HELPERS = {"tk_load32": "tk_load32", "tk_store32": "tk_load32", "tk_sadd16": "tk_sadd16"}
"""Helper of each function that the bodies call."""

_UNBITMAP = """\
    /* values: those that are not 0, perhaps at the end of what is filled */
    for (int32_t i = 0; i < count; i += 8, out += 8) {
        const uint32_t bits = *mask++;
        if (bits == 0) {
            tk_store32(out, 0);
            tk_store32(out + 4, 0);
            continue;
        }
        for (int32_t j = 0; j < 8; ++j) {
            const int32_t set = (int32_t)(bits >> j & 1);
            out[j] = (int8_t)(*values & -set);
            values += set;
        }
    }
"""

_UNLUT = """\
    /* eight indices in `bits` bytes, four from each of two words */
    const uint32_t last = (1u << bits) - 1;
    for (int32_t i = 0; i < count; i += 8, stream += bits, out += 8) {
        for (int32_t half = 0; half < 2; ++half) {
            uint32_t word = tk_load32(stream + (half * bits >> 1)) >> (half * bits * 4 & 7);
            for (int32_t j = 0; j < 4; ++j, word >>= bits) {
                out[4 * half + j] = (int8_t)book[word & last];
            }
        }
    }
"""

_UNHUFFMAN = """\
    /* for every prefix of as many bits as the longest code has: the value whose code it begins with, and that code's length */
    const int32_t longest = book[0];
    const uint8_t *value = book + 1 + longest;
    uint16_t *const table = (uint16_t *)(void *)space, *entry = table;
    for (int32_t length = 1; length <= longest; ++length) {
        for (int32_t n = book[length]; n > 0; --n, ++value) {
            for (int32_t run = 1 << (longest - length); run > 0; --run) {
                *entry++ = (uint16_t)(*value | length << 8);
            }
        }
    }
    uint32_t at = 0;
    for (int32_t i = 0; i < count; i += 2) { /* two codes of 10 bits behind 7 that are used up fit a word */
        const uint8_t *const p = stream + (at >> 3);
        uint32_t word = ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]) << (at & 7);
        const uint32_t first = table[word >> (32 - longest)];
        word <<= first >> 8;
        const uint32_t second = table[word >> (32 - longest)];
        out[i] = (int8_t)(first & 255);
        out[i + 1] = (int8_t)(second & 255);
        at += (first >> 8) + (second >> 8);
    }
"""

_UNANS = """\
    /* by value: itself, its frequency, its first slot; by slot: which value */
    const int32_t scale = book[1];
    uint32_t *const values = (uint32_t *)(void *)space;
    uint8_t *const slots = (uint8_t *)(values + book[0] + 1);
    const uint8_t *entry = book + 2;
    uint32_t start = 0;
    for (int32_t i = 0; i <= book[0]; ++i) {
        const uint32_t value = *entry++;
        uint32_t frequency = *entry++;
        if (frequency & 128) {
            frequency = (frequency & 127) | (uint32_t)*entry++ << 7;
        }
        values[i] = value | (frequency + 1) << 8 | start << 20;
        for (const uint32_t end = start + frequency + 1; start < end; ++start) {
            slots[start] = (uint8_t)i;
        }
    }
    const uint32_t last = (1u << scale) - 1;
    uint32_t state = tk_load32(stream);
    stream += 4;
    for (int32_t i = 0; i < count; ++i) {
        const uint32_t slot = state & last, value = values[slots[slot]];
        out[i] = (int8_t)(value & 255);
        state = (value >> 8 & 4095) * (state >> scale) + slot - (value >> 20);
        if (state < 65536) {
            state = state << 16 | (uint32_t)stream[1] << 8 | stream[0];
            stream += 2;
        }
    }
"""

_WEAVE = """\
    /* constants and weights of each record by turns; joined: bytes a and b become the halfword a + 256 b */
    for (int32_t record = 0; record < records; ++record) {
        for (int32_t i = before; i > 0; --i, out += 4) {
            tk_store32(out, (uint32_t)*constants++);
        }
        int32_t left = words;
        for (; joined && left >= 2; left -= 2, out += 8, weights += 8) {
            const uint32_t first = tk_load32(weights), second = tk_load32(weights + 4);
            tk_store32(out, tk_sadd16(first, (first & 0x00800080) * 510)); /* a < 0: 0xff00 to its halfword */
            tk_store32(out + 4, tk_sadd16(second, (second & 0x00800080) * 510));
        }
        for (; left > 0; --left, out += 4, weights += 4) {
            const uint32_t word = tk_load32(weights);
            tk_store32(out, joined ? tk_sadd16(word, (word & 0x00800080) * 510) : word);
        }
        for (int32_t i = after; i > 0; --i, out += 4) {
            tk_store32(out, (uint32_t)*constants++);
        }
    }
"""


def _function(name: str, pointers: tuple[tuple[str, str], ...], counts: tuple[str, ...], body: str) -> Function:
    return Function(
        name, (_OUT, *pointers, *integers(counts)), body, tuple(helper for call, helper in _HELPERS.items() if f"{call}(" in body)
    )


_STREAM, _BOOK, _SPACE = (_BYTES, "stream"), (_BYTES, "book"), ("int8_t *", "space")
UNBITMAP = _function("unbitmap", ((_BYTES, "mask"), ("const int8_t *", "values")), ("count",), _UNBITMAP)
UNLUT = _function("unlut", (_STREAM, _BOOK), ("count", "bits"), _UNLUT)
UNHUFFMAN = _function("unhuffman", (_STREAM, _BOOK, _SPACE), ("count",), _UNHUFFMAN)
UNANS = _function("unans", (_STREAM, _BOOK, _SPACE), ("count",), _UNANS)
WEAVE = _function(
    "weave", (("const int8_t *", "weights"), ("const int32_t *", "constants")), ("records", "before", "words", "after", "joined"), _WEAVE
)
CODED = (UNBITMAP, UNLUT, UNHUFFMAN, UNANS)
"""Those whose tables are coded weights."""
NAMES = tuple(f"tk_{f.name}" for f in (*CODED, WEAVE))
"""Of all of them, in C."""

CODE_BYTES = {"bitmap": 190, "bytes": 0, "lut": 160, "huffman": 200, "ans": 235, "weave": 170}
"""Flash of each decoder, once in a network; -O3 on a Cortex-M4."""
SLICE_BYTES = 100
"""Flash of the calls that decode and compute a slice."""

BITMAP_RATE, WEAVE_RATE, _RECORD = 7.0, 9.0, 50
"""Instructions a weight, a word of weights, and a record besides, at most."""
_CALL = 60


# ---------------------------------------------------------------- weights in tables


@dataclass(frozen=True)
class Weights:
    """The weights of a table, and what lies between them.

    Attributes:
        values: int8, flat: what is coded.
        constants: int32 [records, words]: those in front of each record's weights, then those behind them.
        records: how they lie in the table.
    """

    values: np.ndarray
    constants: np.ndarray
    records: Records

    @property
    def woven(self) -> bool:
        """Whether the weights must be put in place when they are decoded."""
        return self.records.joined or bool(self.constants.size)

    def space(self, table: Table) -> int:
        """Bytes that the kernel reads."""
        return table.values.nbytes


def extract(table: Table) -> Weights | None:
    """The weights of a table of weights of 8 bits; None where it is not known how they lie."""
    where = table.layout
    if where is None:
        return None
    if table.values.dtype == np.int8:
        return Weights(table.values, np.zeros((0, 0), np.int32), where)
    words = table.values.astype("<i4").reshape(-1, where.record)
    end = where.record - where.after
    lanes = words[:, where.before : end].copy().view("<i2").astype(np.int64).ravel()
    low = (lanes & 255 ^ 128) - 128
    pairs = np.stack([low, (lanes - low if where.joined else lanes) >> 8], axis=1)
    return Weights(pairs.astype(np.int8).ravel(), np.concatenate([words[:, : where.before], words[:, end:]], axis=1), where)


# ---------------------------------------------------------------- calls


def decoding(scheme: Scheme, book: bytes, part: Part, weights: Weights, at: int, table: int) -> tuple[Call, ...]:
    """What decodes a part.

    Args:
        weights: of the part.
        at: offset of the space in the op's scratch, a multiple of 4.
        table: offset of the coder's table there, a multiple of 4.
    """
    start = at + weights.constants.nbytes
    calls: list[Call] = []
    stream = Table("w", np.frombuffer(part.stream + bytes(scheme.coder.slack), np.uint8))
    shared: dict[str, Argument] = {"stream": stream, "book": Table("w", np.frombuffer(book, np.uint8)), "count": part.coded}
    decode, own = _CODERS[scheme.coder.name]
    coded = Place(None, start + part.count - part.coded)
    if decode is not None and part.coded:
        calls.append(Call(decode, {"out": coded, **shared, **own(book, table)}))
    if scheme.bitmap:
        mask = Table("w", np.frombuffer(part.mask, np.uint8))
        source: Argument = coded if decode is not None else Table("w", stream.values.view(np.int8))
        calls.append(Call(UNBITMAP, {"out": Place(None, start), "mask": mask, "values": source, "count": part.count}))
    if weights.woven:
        where, records = weights.records, max(len(weights.constants), 1)
        constants: Argument = Table("w", weights.constants.ravel()) if weights.constants.size else Name("0")
        counts = {"records": records, "before": where.before, "words": part.count // records // 4, "after": where.after}
        values: dict[str, Argument] = {**counts, "joined": int(where.joined)}
        calls.append(Call(WEAVE, {"out": Place(None, at), "weights": Place(None, start), "constants": constants, **values}))
    return tuple(calls)


def _spacious(book: bytes, table: int) -> dict[str, Argument]:
    return {"space": Place(None, table)}


_CODERS: dict[str, tuple[Function | None, Callable[[bytes, int], dict[str, Argument]]]] = {
    "bytes": (None, lambda book, table: {}),
    "lut": (UNLUT, lambda book, table: {"bits": index_bits(book)}),
    "huffman": (UNHUFFMAN, _spacious),
    "ans": (UNANS, _spacious),
}
"""By coder: its decoder, and the arguments that are its own."""


def worst_instructions(scheme: Scheme, book: bytes, counts: tuple[int, int], woven: int, slices: int = 1) -> float:
    """How many instructions decoding takes at most.

    Args:
        counts: weights, and those of them that the coder sees.
        woven: records whose weights must be put in place; 0 for none.
        slices: in which they are decoded.
    """
    coder, (count, coded) = scheme.coder, counts
    total = slices * (coder.per_table * coder.entries(book) + _CALL) + coder.per_element * coded
    return total + BITMAP_RATE * count * scheme.bitmap + bool(woven) * WEAVE_RATE * count / 4 + _RECORD * woven
