"""Seeded mutation operators: from a good file to a hostile one. General ones know bytes, the others a format: they keep a checksum or a
bracket right, so that the damage reaches the code behind it."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
"""(source of chance, file, other files of the kind) -> mutant."""

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e-30, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
MOST_BYTES = 1 << 20
"""No mutant is larger: what is looked for is much work from a small file."""


# ---- bytes


def flip_bits(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to eight bits."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if out else 0):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One, two, four or eight bytes, mostly aligned, by an extreme number of either byte order or by noise."""
    width = rng.choice((1, 2, 4, 4, 4, 8))
    at = rng.randrange(max(len(data) - width, 1))
    at -= at % width if rng.random() < 0.7 else 0
    value = rng.choice(EXTREMES) if rng.random() < 0.8 else rng.getrandbits(8 * width)
    word = (value % (1 << 8 * width)).to_bytes(width, rng.choice(("little", "little", "big")))
    return data[:at] + word + data[at + width :]


def truncate(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The beginning, seldom the end, of the file."""
    at = rng.randrange(len(data) + 1)
    return data[at:] if rng.random() < 0.1 else data[:at]


def _piece(rng: random.Random, data: bytes, most: int = 256) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.randrange(1, most + 1))


def delete(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A piece is missing."""
    begin, end = _piece(rng, data)
    return data[:begin] + data[end:]


def duplicate(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A piece comes several times."""
    begin, end = _piece(rng, data)
    return data[:end] + data[begin:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def move(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A piece overwrites another place of the same length."""
    begin, end = _piece(rng, data)
    at = rng.randrange(max(len(data) - (end - begin), 0) + 1)
    return data[:at] + data[begin:end] + data[at + end - begin :]


def splice(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The beginning of this file, the end of another."""
    other = rng.choice(others) if others else data
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


BYTES: tuple[Mutator, ...] = (flip_bits, flip_bits, overwrite, overwrite, overwrite, truncate, delete, duplicate, move, splice)


def several(mutators: Sequence[Mutator]) -> Mutator:
    """Mostly one of the operators, sometimes a few one after the other."""

    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            data = rng.choice(mutators)(rng, data, others)[:MOST_BYTES]
        return data

    return mutate


raw = several(BYTES)


# ---- text

TOKENS = (
    "-1", "0", "1e999", "-1e999", ".nan", ".inf", "9" * 90, "9" * 5000, "0x" + "f" * 70, "1_000", "~", "null", "true", "no", "[]", "{}",
    "[[[]]]", "'", '"', "&a [*a]", "*a", "&a", "<<: *a", "!!python/object/apply:os.system [x]", "!!binary aGk=", "!!set {a}", "!!float x",
    "!!int 'x'", "? a\n: b", "---", "...", "%YAML 9.9", "|", ">", "\t", "\0", "\ufeff", "\u2028", "\x1b[31m", "\ud7ff", "..", "/",
    "[" * 50, "{a: " * 50, "- " * 50, "a" * 2000, "2024-01-01", "12:30:45", "${HOME}", "{{x}}", "NaN", "Infinity", "1.0e+400", "-0",
)  # fmt: skip


def _lines(rng: random.Random, text: str, other: str) -> str:
    lines, foreign = text.split("\n"), other.split("\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    choice = rng.randrange(6)
    if choice == 0:
        del lines[at]
    elif choice == 1:
        lines.insert(to, lines[at])
    elif choice == 2:
        lines[at], lines[to] = lines[to], lines[at]
    elif choice == 3:
        lines[at] = " " * rng.randrange(6) + lines[at].lstrip()
    elif choice == 4:
        lines.insert(at, rng.choice(foreign))
    else:
        lines[at : at + rng.randrange(1, 4)] = foreign[rng.randrange(len(foreign)) :][: rng.randrange(1, 8)]
    return "\n".join(lines)


def _values(rng: random.Random, text: str, other: str) -> str:
    """A value behind a colon or a comma becomes another."""
    ends = [i for i, c in enumerate(text) if c in ":,[{"]
    if not ends:
        return rng.choice(TOKENS)
    at = rng.choice(ends) + 1
    end = min((i for i in (text.find(c, at) for c in ",]}\n") if i >= 0), default=len(text))
    return f"{text[:at]} {rng.choice(TOKENS)}{text[end:]}"


def _insert(rng: random.Random, text: str, other: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(TOKENS) + text[at:]


def lines_and_values(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A text with lines moved, dropped, taken from another one, and values replaced."""
    text, other = (part.decode("utf-8", "replace") for part in (data, rng.choice(others) if others else data))
    for _ in range(rng.choice((1, 1, 2, 4))):
        text = rng.choice((_lines, _values, _values, _insert))(rng, text or " ", other or " ")
    return text.encode("utf-8", "replace")[:MOST_BYTES]


def text(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mostly `lines_and_values`, else plain bytes."""
    return (lines_and_values if rng.random() < 0.75 else raw)(rng, data, others)


# ---- JSON

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 1 << 20, 1 << 31, 1 << 63, 10**11, 10**300, -(10**30), 0.5, 1e-300, 1e308, "", "x", "a" * 5000,
    "\x1b[31m\n", "../../x", "/etc/passwd", "float64", "linear", [], {}, [[]], [0], [-1, -1], [1 << 40, 1 << 40], {"class_name": "Dense"},
    [None, 4], {"config": {}}, ["a", 0, 0],
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all parts of a JSON value."""
    found, todo = [], [(value, path)]
    while todo:
        item, at = todo.pop()
        found.append(at)
        parts = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        todo += [(part, (*at, key)) for key, part in parts]
    return found


def json_value(rng: random.Random, value: Any) -> Any:
    """A JSON value with a part replaced, dropped, doubled, exchanged with another part, or wrapped many times."""
    places = _places(value)[1:]
    if not places:
        return rng.choice(STRANGE)
    *way, last = rng.choice(places)
    here = value
    for key in way:
        here = here[key]
    choice = rng.randrange(10)
    if choice < 5:
        here[last] = rng.choice(STRANGE)
    elif choice == 5:
        del here[last]
    elif choice == 6 and isinstance(here, list):
        here.insert(last, here[last])
    elif choice == 7 and isinstance(here, list):
        here.extend([here[last]] * rng.choice((1, 100)))
    elif choice == 8:
        *way, other = rng.choice(places)
        source = value
        for key in way:
            source = source[key]
        here[last] = json.loads(json.dumps(source[other]))
    else:
        for _ in range(rng.choice((1, 40, 400))):
            here[last] = [here[last]] if rng.random() < 0.5 else {"config": here[last], "class_name": "Sequential"}
    return value


def json_text(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A JSON file, parsed, changed and written again; sometimes as text or bytes, which damages the syntax too."""
    if rng.random() < 0.25:
        return text(rng, data, others)
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = json_value(rng, value)
    return json.dumps(value).encode()[:MOST_BYTES]


# ---- containers with checksums


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def zip_members(inner: Callable[[random.Random, str, bytes], bytes], methods: Sequence[int] = METHODS) -> Mutator:
    """A zip file, one member of which is changed by `inner(rng, name, content)`; checksums are right. Now and then members are doubled,
    renamed, dropped or compressed otherwise, or the file is damaged as it is."""

    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        if rng.random() < 0.3:
            return raw(rng, data, others)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        at = rng.randrange(len(members))
        name, content = members[at]
        if rng.random() < 0.8:
            members[at] = name, inner(rng, name, content)
        else:
            members[at : at + 1] = rng.choice(([], [members[at]] * 2, [(name + "x", content)], [("../" + name, content)], [(name, b"")]))
        out = io.BytesIO()
        method = rng.choice(methods)
        import warnings

        with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
            warnings.simplefilter("ignore")  # a doubled name is meant
            for name, content in members:
                archive.writestr(name, content)
        return out.getvalue()

    return mutate


def npy(rng: random.Random, name: str, data: bytes) -> bytes:
    """An .npy file: mostly its header, a Python literal."""
    if data[:6] != b"\x93NUMPY" or rng.random() < 0.3:
        return raw(rng, data, ())
    length = struct.unpack_from("<H", data, 8)[0]
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    for _ in range(rng.choice((1, 1, 2))):
        old = rng.choice(("'descr'", "'|u1'", "'<i8'", "False", "(", ",", ")", "}", "'shape'", "|u1", "<i8", "8", "12"))
        new = rng.choice((
            "", "'|O'", "'<f8'", "'<M8[ns]'", "'|V1000000000'", "[('a','<f4')]", "True", "(-1, ", "(99999999999, ", "((((", ")" * 99,
            "{}", "'>i2'", "<U9", "0", "10**9", "None", "lambda: 0", "__import__('os')", "'<c16'", "1e9", "(" * 300, "'|S3'", "4294967296",
        ))  # fmt: skip
        header = header.replace(old, new, 1)
    encoded = header.encode("latin-1", "replace")[:60000]
    length = rng.choice((len(encoded), len(encoded), len(encoded), 0, 65535))
    return data[: rng.choice((8, 8, 8, 8, 6))] + struct.pack("<H", length) + encoded + body


def png(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A PNG file with a chunk changed, doubled, dropped or moved; checksums are right, and pixels may be compressed again."""
    if data[:4] != b"\x89PNG" or rng.random() < 0.3:
        return raw(rng, data, others)
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    i = rng.randrange(len(chunks))
    kind, body = chunks[i]
    if kind == b"IDAT" and rng.random() < 0.7:
        pixels = raw(rng, zlib.decompress(body), ()) * rng.choice((1, 1, 1, 100))
        chunks[i] = kind, zlib.compress(pixels, 9)
    elif rng.random() < 0.6:
        chunks[i] = kind, raw(rng, body or b"\0", ())
    else:
        kind = rng.choice((kind, b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"PLTE", b"tRNS", b"acTL", b"fdAT", b"iTXt"))
        extra = (kind, rng.choice((body, b"x\0\0" + zlib.compress(bytes(1 << 22), 9), raw(rng, body or b"\0", ()))))
        chunks[i : i + 1] = rng.choice(([], [extra, chunks[i]], [chunks[i], extra], [chunks[i]] * 40))
    out = bytearray(data[:8])
    for kind, body in chunks:
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return bytes(out)
