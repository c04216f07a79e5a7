"""ADD and SUB of two tensors of one shape by two multiply-accumulates an element, where `tinykit.engine.plane` proves that they do."""

from __future__ import annotations

from functools import partial

from tinykit.engine import access, plane
from tinykit.engine.call import Argument, Call, Function, Variant
from tinykit.engine.ctext import filled
from tinykit.engine.kernels import add_packed
from tinykit.engine.kernels.common import IN, OUT, integers, operand
from tinykit.engine.memory import is_packed
from tinykit.graph import ir

_RATE = 8.0
"""Instructions an element, about."""

# Four elements are read before the first of them is written; in which order elements go is up to the plan.
_BODY = """\
    int32_t n = count;
    for (; n >= 4; n -= 4, @STEP_4@) {
        const int32_t a0 = a[@0@], a1 = a[@1@], a2 = a[@2@], a3 = a[@3@];
        const int32_t b0 = b[@0@], b1 = b[@1@], b2 = b[@2@], b3 = b[@3@];
        out[@0@] = (int8_t)@CLAMP@a0 * a_slope + (b0 * b_slope + offset)@END@;
        out[@1@] = (int8_t)@CLAMP@a1 * a_slope + (b1 * b_slope + offset)@END@;
        out[@2@] = (int8_t)@CLAMP@a2 * a_slope + (b2 * b_slope + offset)@END@;
        out[@3@] = (int8_t)@CLAMP@a3 * a_slope + (b3 * b_slope + offset)@END@;
    }
    for (; n > 0; --n, @STEP_1@) {
        out[@0@] = (int8_t)@CLAMP@a[@0@] * a_slope + (b[@0@] * b_slope + offset)@END@;
    }
"""


def variants(graph: ir.Graph, op: ir.Binary) -> list[Variant]:
    """The kernel where it covers an ADD or SUB and is exact; `add_packed` has those with packed operands."""
    tensors = [graph.tensors[t] for t in (*op.inputs, op.output)]
    if any(is_packed(t) for t in tensors):
        return add_packed.variants(graph, op)
    if len({t.shape for t in tensors}) > 1:
        return []
    found = plane.fit(graph, op)
    return [Variant(access.elementwise(graph, op), partial(_call, graph, op, found), _RATE * tensors[-1].size)] if found else []


def _call(graph: ir.Graph, op: ir.Binary, found: plane.Plane, reverse: bool) -> Call:
    values: dict[str, Argument] = {
        "count": graph.tensors[op.output].size,
        "a_slope": found.slopes[0],
        "b_slope": found.slopes[1],
        "offset": found.offset,
    }
    full = (op.act_min, op.act_max) == (-128, 127)
    saturate = f"tk_ssat8_asr{found.shift}"
    function = Function(
        f"add_asr{found.shift}{'_back' if reverse else ''}{'' if full else '_clamped'}",
        ((IN, "a"), (IN, "b"), (OUT, "out"), *integers(values), *(() if full else integers(("act_min", "act_max")))),
        _text(saturate, full, reverse),
        (saturate,) if full else (saturate, "tk_clamp"),
    )
    places: dict[str, Argument] = {p: operand(graph, op, t) for p, t in zip(("a", "b", "out"), (*op.inputs, op.output))}
    clamp: dict[str, Argument] = {} if full else {"act_min": op.act_min, "act_max": op.act_max}
    return Call(function, {**places, **values, **clamp})


def _text(saturate: str, full: bool, reverse: bool) -> str:
    parts = {"CLAMP": f"{saturate}(" if full else f"tk_clamp({saturate}(", "END": ")" if full else "), act_min, act_max)"}
    for step in (4, 1):
        parts[f"STEP_{step}"] = "" if reverse else f"a += {step}, b += {step}, out += {step}"
    # backwards from the end by the number that is left: a pointer must not be stepped before its array
    parts |= {str(i): f"n - {i + 1}" if reverse else str(i) for i in range(4)}
    return filled(_BODY, parts).replace(", )", ")")
