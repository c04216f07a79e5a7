"""ADD and SUB where operands or result are packed: eight elements at a time, by the plane that `tinykit.engine.plane` proves.

Slopes stay, the offset takes in where codes begin. Eight elements are read before the first of them is written, so that they are the unit
of the access; the elements that are left are read together too.
"""

from __future__ import annotations

from functools import partial

from tinykit.engine import access, plane
from tinykit.engine.call import Argument, Call, Function, Place, Variant
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.common import IN, OUT, integers
from tinykit.engine.memory import is_packed
from tinykit.engine.packing import width_tag
from tinykit.engine.requant import code_base
from tinykit.graph import ir

_RATE = 9.0
"""Instructions an element, about."""
_GROUP = 8
_MOST = (1 << 31) - 1

_BODY = """\
    for (int32_t n = first; (uint32_t)n < (uint32_t)groups; n += step) {
        const int32_t i = 8 * n;
        int32_t a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7;
        if (n == count / 8) { /* those that are left */
            int32_t sums[7];
            TK_ROLLED
            for (int32_t k = 0; k < count % 8; ++k) {
                sums[k] = @GET_A@ * a_slope + (@GET_B@ * b_slope + offset);
            }
            TK_ROLLED
            for (int32_t k = 0; k < count % 8; ++k) {
                const int32_t code = tk_clamp(sums[k] >> SHIFT, act_min, act_max);
                @PUT@
            }
            continue;
        }
@LOADS@@SUMS@@STORES@    }
"""


def variants(graph: ir.Graph, op: ir.Binary) -> list[Variant]:
    """The kernel where it covers an ADD or SUB of activations of one shape, one of them packed, and is exact."""
    tensors = [graph.tensors[t] for t in (*op.inputs, op.output)]
    constant = any(t in graph.constants for t in op.inputs)
    if constant or not any(map(is_packed, tensors)) or len({t.shape for t in tensors}) > 1:
        return []
    found = plane.fit(graph, op)
    if found is None:
        return []
    offset = _offset(found, tensors)
    highest = [t.high - code_base(t) for t in tensors[:2]]
    lowest = [t.low - code_base(t) for t in tensors[:2]]
    reach = sum(max(abs(low), abs(high)) * abs(slope) for low, high, slope in zip(lowest, highest, found.slopes))
    if reach + abs(offset) > _MOST:
        return []
    touched = access.grouped(access.elementwise(graph, op), _GROUP)
    return [Variant(touched, partial(_call, graph, op, found), _RATE * tensors[-1].size)]


def _offset(found: plane.Plane, tensors: list[ir.Tensor]) -> int:
    """What is added to products of codes to give codes."""
    bases = [code_base(t) for t in tensors]
    return found.offset + sum(slope * base for slope, base in zip(found.slopes, bases)) - (bases[2] << found.shift)


def _call(graph: ir.Graph, op: ir.Binary, found: plane.Plane, reverse: bool) -> Call:
    tensors = [graph.tensors[t] for t in (*op.inputs, op.output)]
    base, size = code_base(tensors[2]), tensors[2].size
    groups = -(-size // _GROUP)
    values: dict[str, Argument] = {
        "count": size, "groups": groups, "first": groups - 1 if reverse else 0, "step": -1 if reverse else 1,
        "a_slope": found.slopes[0], "b_slope": found.slopes[1], "offset": _offset(found, tensors), "SHIFT": found.shift,
        "act_min": op.act_min - base, "act_max": op.act_max - base,
    }  # fmt: skip
    text, support = _text(tensors[0], tensors[1], tensors[2], (op.act_min - base, op.act_max - base), found.shift)
    function = Function(
        f"add{width_tag(graph, op)}_asr{found.shift}", ((IN, "a"), (IN, "b"), (OUT, "out"), *integers(values)), text, support
    )
    places: dict[str, Argument] = {name: Place(t.name) for name, t in zip(("a", "b", "out"), tensors)}
    return Call(function, {**places, **values})


def _text(a: ir.Tensor, b: ir.Tensor, y: ir.Tensor, clamp: tuple[int, int], shift: int) -> tuple[str, tuple[str, ...]]:
    """The function's text and the helpers that it calls."""
    support = ["tk_rolled", "tk_clamp"]
    loads = ""
    for name, tensor in (("a", a), ("b", b)):
        bits = tensor.bits
        if is_packed(tensor):
            support += [f"tk_get{bits}", "tk_load32" if bits == 4 else "tk_load16"]
            loads += f"        const uint32_t {name}_word = {'tk_load32' if bits == 4 else 'tk_load16'}({name} + i / {8 // bits});\n"
        for k in range(_GROUP):
            value = (
                f"(int32_t)({name}_word{f' >> {k * bits}' if k else ''} & {(1 << bits) - 1})" if is_packed(tensor) else f"{name}[i + {k}]"
            )
            loads += f"        {name}{k} = {value};\n"
    codes = next((f"tk_usat{bits}_asr{shift}" for bits in (4, 2) if clamp == (0, (1 << bits) - 1)), None)
    full = clamp == (-128, 127)
    helper = codes or f"tk_ssat8_asr{shift}"
    support.append(helper)
    sums = ""
    for k in range(_GROUP):
        value = f"{helper}(a{k} * a_slope + (b{k} * b_slope + offset))"
        sums += f"        a{k} = {value if codes or full else f'tk_clamp({value}, act_min, act_max)'};\n"
    if is_packed(y):
        word = " | ".join(f"(uint32_t)a{k}{f' << {k * y.bits}' if k else ''}" for k in range(_GROUP))
        store = "tk_store32" if y.bits == 4 else "tk_store16"
        stores = f"        {store}(out + i / {8 // y.bits}, {word if y.bits == 4 else f'(int32_t)({word})'});\n"
        support += [store, f"tk_put{y.bits}"]
    else:
        stores = "".join(f"        out[i + {k}] = (int8_t)a{k};\n" for k in range(_GROUP))
    put = f"tk_put{y.bits}(out, i + k, code);" if is_packed(y) else "out[i + k] = (int8_t)code;"
    gets = [f"tk_get{t.bits}({name}, i + k)" if is_packed(t) else f"{name}[i + k]" for name, t in (("a", a), ("b", b))]
    text = filled(_BODY, {"LOADS": loads, "SUMS": sums, "STORES": stores, "PUT": put, "GET_A": gets[0], "GET_B": gets[1]})
    return text, tuple(dict.fromkeys(support))
