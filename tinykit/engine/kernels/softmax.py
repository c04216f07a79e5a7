"""Softmax in fixed point: three passes over a row, without memory for the exponentials."""

from __future__ import annotations

import numpy as np

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function
from tinykit.engine.kernels.common import IN, OUT, expect_int8, expect_range, integers, operand
from tinykit.engine.memory import is_packed
from tinykit.engine.packing import packed_call
from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.plan.problem import Access

# The largest element of a row has the exponential 2^31 - 1, so 2^19 <= total, and fewer than 4096 elements keep it below 2^31.
_SOFTMAX = """\
    for (int32_t n = rows; n > 0; --n, in += depth, out += depth) {
        int32_t largest = in[0];
        for (int32_t i = 1; i < depth; ++i) {
            largest = in[i] > largest ? in[i] : largest;
        }
        uint32_t total = 0;
        TK_ROLLED
        for (int32_t i = 0; i < depth; ++i) {
            const int32_t difference = in[i] - largest;
            if (difference >= least) {
                total += ((uint32_t)tk_exp(tk_high((int32_t)((uint32_t)difference << left), multiplier)) + (1 << 11)) >> 12;
            }
        }
        int32_t shift = 35;
        for (; total >> 31 == 0; total <<= 1) {
            --shift;
        }
        const int32_t inverse = tk_reciprocal(total);
        TK_ROLLED
        for (int32_t i = 0; i < depth; ++i) {
            const int32_t difference = in[i] - largest;
            uint32_t value = 0;
            if (difference >= least && shift < 32) {
                const int32_t e = tk_exp(tk_high((int32_t)((uint32_t)difference << left), multiplier));
                value = ((uint32_t)tk_high(inverse, e) + ((uint32_t)1 << (shift - 1))) >> shift;
            }
            out[i] = (int8_t)((int32_t)(value > 255 ? 255 : value) - 128);
        }
    }
"""


def softmax_access(graph: ir.Graph, op: ir.Softmax) -> Access:
    """Row by row, forward. Bytes in place too: a row is read twice before its first element is written, and then each element just before
    its own is."""
    x = graph.tensors[op.inputs[0]]
    inputs, y = access.activations(graph, op), graph.tensors[op.output]
    reads, writes = (access.rows(t.size // t.channels, t.channels * access.element_bits(t)) for t in (x, y))
    return Access({t: reads for t in inputs}, writes, in_place=frozenset(() if is_packed(x) else inputs))


def softmax_call(graph: ir.Graph, op: ir.Softmax, reverse: bool) -> Call:
    """SOFTMAX over the last axis, int8 to int8."""
    expect_int8(graph, op)
    expect_range(graph, op, -128, 127)
    x = graph.tensors[op.inputs[0]]
    if x.channels >= 4096:
        raise ModelError(f"op {op.name!r}: a softmax over {x.channels} elements; the engine's sums hold fewer than 4096")
    least = max(op.diff_min, -255)
    if op.diff_min > 0 or not 0 <= op.left_shift <= 31 or -least << op.left_shift >= 1 << 31:
        raise ModelError(f"op {op.name!r}: diff_min {op.diff_min} and left shift {op.left_shift} leave 32 bits")
    values: dict[str, Argument] = {
        "rows": int(np.prod(x.shape[:-1], dtype=np.int64)), "depth": x.channels,
        "multiplier": op.multiplier, "left": op.left_shift, "least": least,
    }  # fmt: skip
    support = ("tk_high", "tk_rolled", "tk_exp", "tk_reciprocal")
    function = Function("softmax", ((IN, "in"), (OUT, "out"), *integers(values)), _SOFTMAX, support)
    call = Call(function, {"in": operand(graph, op, op.inputs[0]), "out": operand(graph, op, op.output), **values})
    return packed_call(graph, op, call, {"in": op.inputs[0], "out": op.output})
