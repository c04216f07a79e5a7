"""Dense layers with inputs, weights or outputs of 4 or 2 bits: `dense_chunks` over all elements, four channels at a time."""

from __future__ import annotations

from functools import partial

import numpy as np

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function, Place, Table, Variant
from tinykit.engine.ctext import filled, inserted
from tinykit.engine.kernels import dense_chunks, fast_dense
from tinykit.engine.kernels.common import IN, OUT, integers
from tinykit.engine.kernels.narrow import weight_format
from tinykit.engine.memory import is_packed, last_mask
from tinykit.engine.packing import store, width_tag
from tinykit.engine.requant import folded_bias, requant
from tinykit.graph import costs, ir

_RATE = 1.2
"""Instructions a product, about."""

_BODY = """\
    enum { CHUNK = @CHUNK@, BYTES = @BYTES@ };
    @REST@
    @TOTAL@
    for (int32_t c = (channels - 1) / 4 * 4; c >= 0; c -= 4) {
        uint32_t sums[4] = {0};
        @CHUNKS@
        @SPLIT@
        @ONES@
        @OUTPUT 0@
        if (c + 4 > channels) {
            if (c + 1 < channels) {
                @OUTPUT 1@
            }
            if (c + 2 < channels) {
                @OUTPUT 2@
            }
            continue;
        }
        @OUTPUT 1@
        @OUTPUT 2@
        @OUTPUT 3@
    }
"""

_CHUNKS = """\
const int8_t *const x = @FROM@;
const int32_t count = @COUNT@;
#if TK_DSP
{
    register const int8_t *r0 __asm__("r0") = x;
    register const int32_t *r1 __asm__("r1") = weights;
    register int32_t r2 __asm__("r2") = count;
    register uint32_t *r3 __asm__("r3") = sums;
    __asm__ volatile(
        @ASM@
        : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) : : "r12", "lr", "cc", "memory");
    weights = r1;
}
#else
for (int32_t k = 0; k < count * CHUNK; ++k) {
    const int32_t v = @INPUT@, pair = k / EACH * (EACH / 2) + k % (EACH / 2), lane = k % EACH / (EACH / 2) * 16;
    const int32_t *const w = weights;
    for (int32_t n = 0; n < 4; n += 2) {
        @TWIN@
    }
}
weights += count * @WORDS@;
#endif
"""

_BOTH = """\
TK_ROLLED
for (int32_t part = 0; part < 2; ++part) {
    @CHUNKS@
}
"""

# The elements that fill no chunk are copied, with zeros behind them.
_REST = """\
uint32_t rest[BYTES / 4] = {0};
const int32_t left = depth % CHUNK;
memcpy(rest, in + depth / CHUNK * BYTES, (uint32_t)(left * @BITS@ + 7) / 8);
"""

_MASKED = """\
((uint8_t *)rest)[left * @BITS@ / 8] &= @MASK@; /* what lies behind the last element means nothing */
"""

_TOTAL = """\
uint32_t total = 0;
for (int32_t i = 0; i < depth / CHUNK; ++i) {
    for (int32_t k = 0; k < BYTES; k += 4) {
        const uint32_t x = tk_load32(in + i * BYTES + k);
        @SUM@
    }
}
"""

_TOTAL_REST = """\
for (int32_t k = 0; k < BYTES / 4; ++k) {
    const uint32_t x = rest[k];
    @SUM@
}
"""
_ONES = """\
if (c + 4 > channels) {
    total = sums[3];
}
"""
_SIGNED = "total -= 128 * (uint32_t)((depth + CHUNK - 1) / CHUNK * BYTES);\n"


def variants(graph: ir.Graph, op: ir.FullyConnected) -> list[Variant]:
    """The kernel where it covers a layer: activations in the arena, sums that are proved to stay within 32 bits."""
    x, y, form = graph.tensors[op.inputs[0]], graph.tensors[op.output], weight_format(op)
    if x.name in graph.constants or (form.bits == 8 and not is_packed(x) and not is_packed(y)) or not op.weights.size:
        return []
    made = dense_chunks.chunk(op, x, form)
    return [] if made is None else [Variant(access.whole(graph, op), partial(_call, graph, op, made), _RATE * costs.op_macs(graph, op))]


def _call(graph: ir.Graph, op: ir.FullyConnected, made: dense_chunks.Chunk, reverse: bool) -> Call:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    finish, bias = fast_dense.finish(requant(op, x, y)), folded_bias(op, x).values
    bias = np.concatenate([bias, np.zeros(-len(bias) % 4, np.int32)])
    values: dict[str, Argument] = {"depth": op.weights[0].size, "channels": len(op.weights)}
    pointers = ((IN, "in"), (OUT, "out"), ("const int32_t *", "weights"), ("const int32_t *", "bias"))
    text, support = _text(op, x, y, made, finish.expression)
    name = f"dense{width_tag(graph, op, made.form.tag)}_by_{made.tag}{'_ones' if _has_ones(op, made) else ''}{finish.tag}"
    function = Function(name, (*pointers, *finish.parameters, *integers(values)), text, (*finish.support, *support))
    places: dict[str, Argument] = {
        "in": Place(x.name), "out": Place(y.name), "weights": Table("w", dense_chunks.pack(op.weights, made)), "bias": Table("q", bias),
    }  # fmt: skip
    return Call(function, {**places, **finish.arguments, **values})


def _text(op: ir.FullyConnected, x: ir.Tensor, y: ir.Tensor, made: dense_chunks.Chunk, expression: str) -> tuple[str, tuple[str, ...]]:
    """The function's text and the helpers that it calls."""
    whole, rest = op.weights[0].size >= made.size, op.weights[0].size % made.size > 0
    total, adding = _total(op, x, made)
    text = inserted(inserted(_BODY, "REST", _rest(x) if rest else ""), "TOTAL", total)
    text = inserted(text, "CHUNKS", _BOTH if whole and rest else _CHUNKS)
    text = inserted(text, "CHUNKS", _CHUNKS)
    source, count = ("in", "depth / CHUNK") if not rest else ("(const int8_t *)rest", "1")
    if whole and rest:
        source, count = "part ? (const int8_t *)rest : in", "part ? 1 : depth / CHUNK"
    text = inserted(text, "ASM", "".join(f'"{line}\\n"\n' for line in dense_chunks.assembly(made).splitlines()))
    text = inserted(inserted(text, "TWIN", dense_chunks.twin(made)), "SPLIT", dense_chunks.told_apart(made))
    text = inserted(text, "ONES", _ONES if _has_ones(op, made) else "")
    for n in range(4):
        channel = f"c + {n}" if n else "c"
        value = expression.replace("SUM", f"{dense_chunks.corrected(made, n)} + (uint32_t)bias[{channel}]").replace("CHANNEL", channel)
        text = inserted(text, f"OUTPUT {n}", (store(y, "out", channel, value) if is_packed(y) else f"out[{channel}] = {value};") + "\n")
    element = f"tk_get{x.bits}(x, k)" if is_packed(x) else "x[k]"
    parts = {"CHUNK": made.size, "BYTES": made.x_bytes, "WORDS": made.words, "INPUT": element, "FROM": source, "COUNT": count}
    text = filled(text, parts)
    support = ["tk_dsp", *adding, *(["tk_rolled"] if whole and rest else [])]
    support += [f"tk_put{y.bits}"] * is_packed(y) + [f"tk_get{x.bits}"] * is_packed(x)
    return text.replace("EACH", str(32 // x.bits)), tuple(support)


def _rest(x: ir.Tensor) -> str:
    text = _REST + (_MASKED.replace("@MASK@", str(last_mask(x))) if last_mask(x) != 255 else "")
    return text.replace("@BITS@", str(x.bits))


def _has_ones(op: ir.FullyConnected, made: dense_chunks.Chunk) -> bool:
    """Whether the sum of the inputs comes with the last block."""
    return made.form.bits < 8 and len(op.weights) % 4 > 0


def _total(op: ir.FullyConnected, x: ir.Tensor, made: dense_chunks.Chunk) -> tuple[str, tuple[str, ...]]:
    """C of the sum of the inputs, where weights need it, and its helpers."""
    if made.form.bits == 8:
        return "", ()
    if _has_ones(op, made):
        return "uint32_t total = 0;\n", ()
    text = _TOTAL + (_TOTAL_REST if op.weights[0].size % made.size else "") + ("" if is_packed(x) else _SIGNED)
    return inserted(text, "SUM", dense_chunks.summed(made)), ("tk_load32", "tk_usada8")
