"""Kernels for packed tensors, made from the texts of the int8 kernels: every load and store of a packed operand becomes a call of a helper.

A packed element holds a code, stored integer - least stored integer. Kernels compute with stored integers, so a load adds the tensor's
least one and a store takes it off; where an operation only moves elements between tensors of one range the codes are moved as they are.
A store keeps the other elements of its byte, so that element by element a packed tensor is read and written as an int8 one is, in either
direction and in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tinykit.engine.access import element_bits
from tinykit.engine.call import Argument, Call, Function
from tinykit.engine.memory import is_packed
from tinykit.graph import ir


def in_arena_packed(graph: ir.Graph, tensor: str) -> bool:
    """Whether an operand's elements share bytes; a constant's lie in flash as int8."""
    return tensor not in graph.constants and is_packed(graph.tensors[tensor])


def width_tag(graph: ir.Graph, op: ir.Op, weights: str = "") -> str:
    """Bits of inputs, weights and output as part of a function's name; empty where none is packed."""
    operands = (*op.inputs, op.output)
    if not weights and not any(in_arena_packed(graph, t) for t in operands):
        return ""
    bits = [str(element_bits(graph.tensors[t])) if t not in graph.constants else "8" for t in operands]
    return "_" + "".join(f"i{b}" for b in bits[:-1]) + weights + f"o{bits[-1]}"


def load(tensor: ir.Tensor, pointer: str, index: str) -> str:
    """C expression of the code of an element."""
    return f"tk_get{tensor.bits}({pointer}, {index})"


def store(tensor: ir.Tensor, pointer: str, index: str, code: str) -> str:
    """C statement that writes a code."""
    return f"tk_put{tensor.bits}({pointer}, {index}, {code});"


def same_codes(graph: ir.Graph, op: ir.Op) -> bool:
    """Whether equal codes mean equal stored integers in all operands, so that codes can be moved."""
    operands = (*op.inputs, op.output)
    return all(in_arena_packed(graph, t) for t in operands) and len({graph.tensors[t].low for t in operands}) == 1


def packed_call(graph: ir.Graph, op: ir.Op, call: Call, pointers: Mapping[str, str], codes: bool = False) -> Call:
    """The call of an int8 kernel with its loads and stores rewritten for those operands that are packed.

    Args:
        call: loads are `p[index]`, stores `out[index] = value;` on a line of their own; a pointer may be stepped by `p += elements`.
        pointers: name of a pointer -> tensor.
        codes: move codes; `same_codes` holds.
    """
    packed = {p: graph.tensors[t] for p, t in pointers.items() if in_arena_packed(graph, t)}
    if not packed:
        return call
    function = call.function
    body, support = function.body, list(function.support)
    lows: dict[str, int] = {}
    for pointer, tensor in packed.items():
        low = "" if codes else f"{pointer}_low"
        body = _rewritten(body, pointer, tensor, low)
        lows |= {} if codes else {low: tensor.low}
        support += [name for name in (f"tk_get{tensor.bits}", f"tk_put{tensor.bits}") if f"{name}({pointer}," in body]
    if "out" not in packed:  # what was loaded is wider than the output's type
        body = re.sub(r"\bout\[([^\[\]]+)\] = (?!\(int8_t\))(.+);", r"out[\1] = (int8_t)(\2);", body)
    parameters = (*function.parameters, *(("int32_t", name) for name in lows))
    made = Function(function.name + width_tag(graph, op), parameters, body, tuple(support))
    arguments: dict[str, Argument] = {**call.arguments, **lows}
    return Call(made, arguments)


def _rewritten(body: str, pointer: str, tensor: ir.Tensor, low: str) -> str:
    """Loads and stores through one pointer."""
    body, steps = re.subn(rf"\b{pointer} \+= ", f"{pointer}_at += ", body)
    at = f"{pointer}_at + " if steps else ""
    if at:  # a pointer cannot be stepped by elements that begin inside a byte
        body = f"    int32_t {pointer}_at = 0;\n" + body
    element = rf"\b{pointer}\[([^\[\]]+)\]"
    taken = f" - {low}" if low else ""
    body = re.sub(element + r" = (.+);", lambda m: store(tensor, pointer, at + m[1], f"({m[2]}){taken}" if taken else m[2]), body)
    added = f" + {low})" if low else ""
    return re.sub(element, lambda m: ("(" if low else "") + load(tensor, pointer, at + m[1]) + added, body)
