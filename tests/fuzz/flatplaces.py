"""Where the numbers of a .tflite lie, so that a mutation can be aimed: a small reader of the flatbuffer layout, for good files only."""

from __future__ import annotations

import random
import struct
from collections import defaultdict
from collections.abc import Sequence

from mutations import EXTREMES, FLOATS, raw

# Tables of TensorFlow's schema.fbs as far as a reader goes: field number -> its type. "[X]" is a vector, "X" a table, "union" a table of
# whatever kind; the names of scalars say how they are mutated.
SCHEMA: dict[str, dict[int, str]] = {
    "Model": {0: "version", 1: "[OperatorCode]", 2: "[SubGraph]", 3: "[byte]", 4: "[Buffer]"},
    "OperatorCode": {0: "byte", 1: "[byte]", 2: "version", 3: "opcode"},
    "SubGraph": {0: "[Tensor]", 1: "[index]", 2: "[index]", 3: "[Operator]", 4: "[byte]"},
    "Tensor": {0: "[dim]", 1: "type", 2: "buffer", 3: "[byte]", 4: "Quantization", 5: "byte"},
    "Quantization": {0: "[scale]", 1: "[scale]", 2: "[scale]", 3: "[zero]", 4: "type", 6: "dim"},
    "Operator": {0: "opcode", 1: "[index]", 2: "[index]", 3: "type", 4: "union"},
    "Buffer": {0: "[data]", 1: "zero", 2: "zero"},
    "union": {},
}
WIDTHS = {"byte": 1, "type": 1, "data": 1, "zero": 8}
"""Bytes of scalars and elements; 4 where it is not said."""

Places = dict[str, list[int]]


class _Walker:
    def __init__(self, data: bytes) -> None:
        self.data, self.places = data, defaultdict(list)
        self.seen: set[int] = set()
        self.places["offset"].append(0)
        self.table(self.u32(0), "Model")

    def u32(self, at: int) -> int:
        return struct.unpack_from("<I", self.data, at)[0]

    def table(self, at: int, kind: str) -> None:
        if at in self.seen:
            return
        self.seen.add(at)
        self.places["vtable"].append(at)  # the signed distance to the table of field offsets
        fields = at - struct.unpack_from("<i", self.data, at)[0]
        size, inline = struct.unpack_from("<HH", self.data, fields)
        self.places["field"] += range(fields, fields + size, 2)
        if kind == "union":
            self.places["option"] += range(at + 4, at + inline)
        for number, content in SCHEMA[kind].items():
            if 4 + 2 * number < size and (offset := struct.unpack_from("<H", self.data, fields + 4 + 2 * number)[0]):
                self.field(at + offset, content)

    def field(self, at: int, content: str) -> None:
        if content in SCHEMA:
            self.places["offset"].append(at)
            self.table(at + self.u32(at), content)
        elif content.startswith("["):
            self.places["offset"].append(at)
            self.vector(at + self.u32(at), content[1:-1])
        else:
            self.places[content].append(at)

    def vector(self, at: int, content: str) -> None:
        self.places["length"].append(at)
        for i in range(self.u32(at)):
            here = at + 4 + i * (WIDTHS.get(content, 4))
            if content in SCHEMA:
                self.field(here, content)
            elif content != "data" or i < 64:
                self.places[content].append(here)


def find(data: bytes) -> Places:
    """Positions by kind: offset, vtable, field (of a vtable), length, index, dim, scale, zero, type, buffer, opcode, option, data, ..."""
    return dict(_Walker(data).places)


def _number(rng: random.Random, kind: str, old: int, data: bytes) -> int:
    """A value for a place of a kind; `old` is what is there."""
    near = old + rng.choice((-4, -2, -1, 1, 2, 4))
    if kind == "index":
        return rng.choice((rng.randrange(-1, 24), near, -1, -2, rng.choice(EXTREMES)))
    if kind == "dim":
        return rng.choice((0, 1, 2, 3, near, -1, old * 2, 1 << 15, 1 << 20, 1 << 24, (1 << 31) - 1, rng.choice(EXTREMES)))
    if kind in ("opcode", "type", "buffer", "version", "byte", "option"):
        return rng.choice((0, near, rng.randrange(0, 40), rng.randrange(0, 200), rng.choice(EXTREMES)))
    if kind in ("offset", "length"):
        return rng.choice((0, 1, near, old + 4 * rng.randrange(-16, 17), len(data) - rng.randrange(16), rng.choice(EXTREMES)))
    return rng.choice((0, near, rng.randrange(-130, 130), rng.choice(EXTREMES)))


def aimed(rng: random.Random, data: bytes, places: Places) -> bytes:
    """One number of the file becomes another that its kind makes interesting; all kinds are as likely."""
    kind = rng.choice([k for k, found in places.items() if found])
    at = rng.choice(places[kind])
    width = 2 if kind == "field" else 1 if kind == "option" and rng.random() < 0.5 else WIDTHS.get(kind, 4)
    if at + width > len(data):
        return data
    if kind == "scale" and rng.random() < 0.8:
        word = struct.pack("<f", rng.choice((*FLOATS, 10 ** rng.uniform(-6, 3))))
    elif rng.random() < 0.15:  # another place of the kind: cycles, aliases, exchanged operands
        other = rng.choice(places[kind])
        word = data[other : other + width]
        if kind == "offset":  # offsets are relative: so that it leads to the other's aim
            word = ((other + int.from_bytes(word, "little") - at) % (1 << 32)).to_bytes(4, "little")
    else:
        old = int.from_bytes(data[at : at + width], "little", signed=kind in ("index", "dim", "zero"))
        word = (_number(rng, kind, old, data) % (1 << 8 * width)).to_bytes(width, "little")
    return data[:at] + word + data[at + len(word) :]


def resize(rng: random.Random, data: bytes, places: Places) -> bytes:
    """One extent of several tensors at once, or one number wherever it occurs as an extent: shapes that still fit each other."""
    dims = places["dim"]
    old = data[(at := rng.choice(dims)) : at + 4]
    new = rng.choice((1, 2, 3, 5, 64, 1000, 1 << 12, 1 << 16, 1 << 20, 1 << 24, 1 << 28, (1 << 31) - 1)).to_bytes(4, "little")
    out = bytearray(data)
    for place in dims:
        if out[place : place + 4] == old:
            out[place : place + 4] = new
    return bytes(out)


def mutate(rng: random.Random, data: bytes, places: Places, others: Sequence[bytes]) -> bytes:
    """A mutant of a .tflite: mostly one or a few aimed changes, else plain bytes."""
    if rng.random() < 0.25:
        return raw(rng, data, others)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = (resize if rng.random() < 0.12 else aimed)(rng, data, places)
    return data if rng.random() < 0.95 else raw(rng, data, others)
