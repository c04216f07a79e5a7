"""Chooses, weight tensor by weight tensor, the encoding with which the whole file is smallest.

What counts is the bytes of the file: two bits a weight, as indices into a table, cost an operator, tensors and a header more than four bits
a weight, so that small tensors are better off with the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinykit.graph import ir

DECODED = (*(f"LUT{bits}" for bits in range(1, 8)), "PRUNE", "HUFFMAN")
"""Those that DECODE expands: indices of 1 to 7 bits into a table, a bitmap and what is not 0, Huffman codes."""
NAMES = {"INT8": "int8", "INT4": "INT4", **{kind: kind for kind in DECODED}}
ROUNDS = 4
Choice = dict[str, str]
"""Encoding by the output of an op."""


@dataclass(frozen=True)
class Encoding:
    """How the weights of one op are written.

    Attributes:
        op: name of the op.
        encoding: "int8", "INT4" (two weights a byte) or one of DECODED, expanded by DECODE in front of the op.
        bytes_before: size of the file if this op's weights were int8 and all else as it is.
        bytes_after: size of the file.
        reason: why not another encoding.
        scratch: bytes of its arena that TFLM needs for the expanded weights, while the op runs; 0 without DECODE.
    """

    op: str
    encoding: str
    bytes_before: int
    bytes_after: int
    reason: str
    scratch: int = 0


def choose(
    ops: Sequence[ir.Weighted], options: Mapping[str, Sequence[str]], size: Callable[[Choice], int]
) -> tuple[Choice, list[Encoding]]:
    """The choice with the smallest file, and what speaks for it.

    Args:
        ops: the ops with weights, in order.
        options: output of an op -> encodings that it may have: those without DECODE, widest first, then the others, smallest first.
        size: bytes of the file for a choice.

    Beginning with the narrowest encodings without tables, tables are tried on the largest tensor, the two largest and so on, because the
    first one pays for what all share. Then single changes are made as long as they save a byte, in at most ROUNDS rounds. A tie goes to the
    encoding without a table.
    """
    sizes = _Sizes(ops, size)
    best = {op.output: [e for e in options[op.output] if e not in DECODED][-1] for op in ops}
    plain = dict(best)
    decoded = {op.output: next((e for e in options[op.output] if e in DECODED), None) for op in ops}
    tables = sorted((op for op in ops if decoded[op.output] is not None), key=lambda op: -op.weights.size)
    for count in range(1, len(tables) + 1):
        trial = plain | {op.output: str(decoded[op.output]) for op in tables[:count]}
        best = trial if sizes(trial) < sizes(best) else best
    for _ in range(ROUNDS):
        before = best
        for op in ops:
            for trial in (best | {op.output: e} for e in options[op.output]):
                best = trial if sizes(trial) < sizes(best) else best
        if best == before:
            break
    return best, [_explain(op, options[op.output], best, sizes) for op in ops]


class _Sizes:
    """Sizes of files, each made once."""

    def __init__(self, ops: Sequence[ir.Weighted], size: Callable[[Choice], int]) -> None:
        self._keys, self._size = [op.output for op in ops], size
        self._known: dict[tuple[str, ...], int] = {}

    def __call__(self, choice: Choice) -> int:
        key = tuple(choice[k] for k in self._keys)
        if key not in self._known:
            self._known[key] = self._size(choice)
        return self._known[key]


def note(encodings: Sequence[Encoding]) -> str:
    """What the report says about the encodings; "" where every weight has 8 bits in the file."""
    narrow = [e for e in encodings if e.encoding != "int8"]
    if not narrow:
        return ""
    counts = {name: sum(e.encoding == name for e in encodings) for name in NAMES.values()}
    text = "Weights in the .tflite: " + ", ".join(f"{n} of {len(encodings)} tensors {name}" for name, n in counts.items() if n) + "."
    scratch = max(e.scratch for e in narrow)
    if scratch:
        text += (
            f" {', '.join(kind for kind in DECODED if counts[kind])}: expanded by TFLM's operator DECODE into its arena before each use, "
            f"which takes up to {scratch:,} bytes of RAM while the layer runs; LiteRT has no such operator and cannot run the file."
        )
    return text


def _explain(op: ir.Weighted, options: Sequence[str], best: Choice, sizes: _Sizes) -> Encoding:
    chosen, after = best[op.output], sizes(best)
    bytes_of = {e: sizes(best | {op.output: e}) for e in options}
    others = [f"{NAMES[e]} {_difference(n - after)}" for e, n in bytes_of.items() if e != chosen]
    if others:
        reason = "the file would be " + ", ".join(others)
    else:
        reason = "8-bit weights" if op.weight_bits == 8 else f"{op.weight_bits}-bit weights, for which TFLM has nothing narrower here"
    scratch = op.weights.size if chosen in DECODED else 0
    return Encoding(op.name, NAMES[chosen], bytes_of["INT8"], after, reason, scratch)


def _difference(more: int) -> str:
    return f"{more} bytes larger" if more > 0 else "of the same size" if more == 0 else f"{-more} bytes smaller"
