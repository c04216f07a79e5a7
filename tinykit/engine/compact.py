"""Biases, multipliers and shifts in 3 bytes a channel instead of 9, widened into scratch memory when a layer begins.

A multiplier is the product of three scales, input and weights over output; only that of the weights differs from channel to channel. Where
that one has 6 significant bits (`tinykit.quant.weighted` trains such scales), its mantissa and exponent make a code of 8 bits (16 where the
channels' scales are further apart than 2^7), and the multiplier is that mantissa times a rate that the whole layer shares:

    code = exponent << 5 | (mantissa - 32)
    mantissa * rate = multiplier * 2^32 (or 2^33), rounded to 31 bits; shift = base + exponent (or one less)

Nothing is taken on trust: a layer is compact only if decoding its codes gives the very multipliers and shifts that the graph has. Biases
take 16 bits in layers where all of them fit. Kernels see the same arrays as ever, in the arena instead of in flash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinykit.engine.call import Argument, Call, Function, Place, Table, Variant
from tinykit.graph import ir

_MANTISSA = 5  # stored bits of a weight scale's mantissa, after the leading one
_DROPPED = 23 - _MANTISSA  # of a float32's fraction
_LARGEST_EXPONENT = 31
_RATE_BITS = 58  # so that mantissa * rate lies between 2^62 and 2^64

# Flash of the helper, of the prologue in each function that uses it, and of what each call passes; -O3 on a Cortex-M4.
_HELPER_BYTES, _FUNCTION_BYTES, _CALL_BYTES = 140, 40, 16

_PLAIN = (("const int32_t *", "bias"), ("const int32_t *", "multiplier"), ("const int8_t *", "shift"))
_PACKED = (
    ("int8_t *", "space"), ("const void *", "biases"), ("const void *", "codes"),
    ("int32_t", "count"), ("int32_t", "wide"), ("int32_t", "rate_high"), ("int32_t", "rate_low"), ("int32_t", "base"),
)  # fmt: skip

_PROLOGUE = """\
    tk_tables(space, biases, codes, count, wide, ((uint64_t)(uint32_t)rate_high << 32) | (uint32_t)rate_low, base);
    const int32_t *bias = (const int32_t *)(const void *)space, *multiplier = bias + count;
    const int8_t *shift = (const int8_t *)(multiplier + count);
"""


@dataclass(frozen=True)
class Codes:
    """A layer's multipliers and shifts, compact.

    Attributes:
        codes: uint8 or uint16 [channels].
        rate: 2^57 <= rate < 2^58.
        base: what an exponent of 0 stands for, as a right shift.
    """

    codes: np.ndarray
    rate: int
    base: int

    def decoded(self) -> tuple[np.ndarray, np.ndarray]:
        """(multipliers, right shifts), int64 [channels], as the helper in C computes them."""
        found = [_decode(int(code), self.rate, self.base) for code in self.codes]
        return np.array([m for m, _ in found], np.int64), np.array([s for _, s in found], np.int64)


def _decode(code: int, rate: int, base: int) -> tuple[int, int]:
    product = ((code & (1 << _MANTISSA) - 1) + (1 << _MANTISSA)) * rate
    up = product >> 63
    return (product + (1 << 31 + up)) >> 32 + up, base + (code >> _MANTISSA) - up


def encode(weight_scale: np.ndarray, ratio: float, multiplier: np.ndarray, shift: np.ndarray) -> Codes | None:
    """Codes that decode to `multiplier` and right shift `shift` ([channels]); None where there are none.

    Args:
        weight_scale: float32 [channels].
        ratio: input scale over output scale.
    """
    bits = np.ascontiguousarray(weight_scale, np.float32).view(np.uint32).astype(np.int64)
    exponent = bits.max(initial=0) // (1 << 23) - (bits >> 23)
    if not bits.size or ratio <= 0 or (bits & (1 << _DROPPED) - 1).any() or bits.min() < 1 << 23 or exponent.max() > _LARGEST_EXPONENT:
        return None
    codes = (bits >> _DROPPED & (1 << _MANTISSA) - 1) | exponent << _MANTISSA
    codes = codes.astype(np.uint8 if codes.max() < 256 else np.uint16)
    fraction, _ = math.frexp(ratio)  # in [1/2, 1): the multipliers' powers of two are in the shifts
    rate = round(fraction * (1 << _RATE_BITS))
    _, first = _decode(int(codes[0]), rate, 0)
    found = Codes(codes, rate, int(shift[0]) - first)
    decoded, shifts = found.decoded()
    return found if (decoded == multiplier).all() and (shifts == shift).all() else None


def _signed(word: int) -> int:
    """32 bits as the int32 of the same bits."""
    return word - (1 << 32) if word >> 31 else word


def compacted(call: Call, graph: ir.Graph, op: ir.Weighted, scratch: int) -> Call | None:
    """The same call with compact tables, widened into `table_space` bytes at offset `scratch` of the op's scratch; None if it has none."""
    tables = [call.arguments.get(name) for _, name in _PLAIN]
    bias, multiplier, shift = (table.values.astype(np.int64) if isinstance(table, Table) else None for table in tables)
    if bias is None or multiplier is None or shift is None or not set(_PLAIN) <= set(call.function.parameters):
        return None
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    ratio = float(np.float32(x.scale)) / float(np.float32(y.scale))
    found = encode(np.broadcast_to(op.weight_scale, shift.shape), ratio, multiplier, shift)
    if found is None:
        return None
    wide = bool((bias != bias.astype(np.int16)).any())
    flags = wide + 2 * (found.codes.dtype == np.uint16)
    arguments: dict[str, Argument] = {
        "space": Place(None, scratch), "biases": Table("q", bias.astype(np.int32 if wide else np.int16)), "codes": Table("q", found.codes),
        "count": len(found.codes), "wide": flags, "rate_high": _signed(found.rate >> 32), "rate_low": _signed(found.rate & 0xFFFFFFFF),
        "base": found.base,
    }  # fmt: skip
    replaced = {name for _, name in _PLAIN}
    return Call(_function(call.function), {**arguments, **{n: a for n, a in call.arguments.items() if n not in replaced}}, call.routines)


def _function(plain: Function) -> Function:
    parameters = tuple(p for p in plain.parameters if p not in _PLAIN)
    return Function(f"{plain.name}_k", (*_PACKED, *parameters), _PROLOGUE + plain.body, ("tk_rolled", "tk_tables", *plain.support))


def table_space(channels: int) -> int:
    """Bytes of scratch that a layer's widened tables take."""
    return -(-9 * channels // 4) * 4


@dataclass(frozen=True)
class Offer:
    """What compact tables would save.

    Attributes:
        variants: of the layers that could have them, by op; their scratch is larger.
        saved: bytes of flash, the code that it takes subtracted.
    """

    variants: Mapping[str, Variant]
    saved: int


def offer(graph: ir.Graph, variants: Mapping[str, Variant]) -> Offer:
    """The layers whose tables can be compact; of the layers that share a function all or none, so that it is not needed twice.

    Args:
        variants: how the ops are executed otherwise.
    """
    families: dict[Function, list[tuple[ir.Weighted, Call, Call | None]]] = {}
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            call = variants[op.name].call(False)
            families.setdefault(call.function, []).append((op, call, compacted(call, graph, op, 0)))
    found: dict[str, Variant] = {}
    saved = -_HELPER_BYTES
    for family in families.values():
        if all(small is not None for _, _, small in family):
            found |= {op.name: _variant(graph, op, variants[op.name]) for op, _, _ in family}
            saved += _flash(call for _, call, _ in family) - _flash(small for _, _, small in family if small is not None)
            saved -= _FUNCTION_BYTES + _CALL_BYTES * len(family)
    return Offer(found, saved) if saved > 0 else Offer({}, 0)


def _flash(calls: Iterator[Call]) -> int:
    """Bytes of biases and quantisation constants, equal ones once."""
    tables = {a.key: a.values.nbytes for call in calls for a in call.arguments.values() if isinstance(a, Table) and a.role == "q"}
    return sum(tables.values())


def _variant(graph: ir.Graph, op: ir.Weighted, plain: Variant) -> Variant:
    """The same kernel with compact tables, which are widened behind its own scratch."""
    own = -(-plain.access.scratch // 4) * 4

    def call(reverse: bool) -> Call:
        before = plain.call(reverse)
        return compacted(before, graph, op, own) or before

    return replace(plain, access=replace(plain.access, scratch=own + table_space(len(op.bias))), call=call)
