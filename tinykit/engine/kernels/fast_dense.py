"""Dense layers for cores with SMLAD, and the same algorithm in portable C: four output channels at a time.

A word of weights holds two channels a and b at two places: byte pairs (a, b). Where every pair can be written as a halfword a + 256 b, one
SMLAD on the word as it is gives the sum of both, A + 256 B, another on its lower bytes gives A, and B follows once for all: so the bytes
of b are never extracted. That needs |B| < 2^23, and no pair in which b is -128 and a negative. Elsewhere both are extracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function, Records, Table, Variant
from tinykit.engine.kernels.common import IN, OUT, channels_part, integers, operand
from tinykit.engine.memory import is_packed
from tinykit.engine.requant import Requant, folded_bias, requant
from tinykit.graph import costs, ir

_UNROLLED = 4
"""Steps of four elements in a pass of the inner loop."""
_RATE = 1.3
"""Instructions a product, about."""

_BODY = """\
    for (int32_t c = 0; c < channels; c += 4, weights += (depth + 3) / 4 * 4) {
        const int32_t *w = weights;
        const int8_t *x = in;
        uint32_t sums[4] = {depth / 4 % @UNROLLED@};
#if TK_DSP
        {
            (void)tk_load32; /* compilers complain about helpers that only the other branch calls */
            register const int8_t *r0 __asm__("r0") = x;
            register const int32_t *r1 __asm__("r1") = w;
            register int32_t r2 __asm__("r2") = depth / (4 * @UNROLLED@);
            register uint32_t *r3 __asm__("r3") = sums;
            __asm__ volatile(
@ASM@                : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) : : "r12", "lr", "cc", "memory");
            x = r0;
            w = r1;
        }
#else
        sums[0] = 0;
        for (int32_t k = depth / 4; k > 0; --k, x += 4, w += 4) {
            tk_dense_step@TAG@(sums, tk_load32(x), w);
        }
#endif
        if (depth % 4) {
            uint32_t rest = 0;
            memcpy(&rest, x, depth % 4);
            tk_dense_step@TAG@(sums, rest, w);
        }
@APART@        const uint32_t a0 = sums[0] + (uint32_t)bias[c], a1 = sums[1] + (uint32_t)bias[c + 1];
        const uint32_t a2 = sums[2] + (uint32_t)bias[c + 2], a3 = sums[3] + (uint32_t)bias[c + 3];
        out[c] = @0@;
        if (c + 4 > channels) {
            if (c + 1 < channels) {
                out[c + 1] = @1@;
            }
            if (c + 2 < channels) {
                out[c + 2] = @2@;
            }
            break;
        }
        out[c + 1] = @1@;
        out[c + 2] = @2@;
        out[c + 3] = @3@;
    }
"""

_APART = """\
        sums[1] = (uint32_t)((int32_t)(sums[1] - sums[0]) >> 8);
        sums[3] = (uint32_t)((int32_t)(sums[3] - sums[2]) >> 8);
"""


def variants(graph: ir.Graph, op: ir.FullyConnected) -> list[Variant]:
    """The kernel where it covers a layer: int8 of four elements or more."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if op.weight_bits != 8 or is_packed(x) or is_packed(y) or op.weights[0].size < 4:
        return []
    return [Variant(access.whole(graph, op), partial(_call, graph, op), _RATE * costs.op_macs(graph, op), channels_part)]


def _padded(op: ir.FullyConnected) -> np.ndarray:
    """int64 [blocks, 4, steps, 4]: zeros where channels or elements do not fill a block."""
    flat = op.weights.reshape(len(op.weights), -1).astype(np.int64)
    padded = np.zeros((-(-flat.shape[0] // 4) * 4, -(-flat.shape[1] // 4) * 4), np.int64)
    padded[: flat.shape[0], : flat.shape[1]] = flat
    return padded.reshape(len(padded) // 4, 4, -1, 4)


def _joins(op: ir.FullyConnected) -> bool:
    """Whether two channels can share a halfword, and their sums be told apart."""
    blocks = _padded(op)
    halves = blocks[:, 0::2] + 256 * blocks[:, 1::2]
    largest = int(np.abs(blocks).sum(axis=(2, 3)).max()) * 128
    return bool((halves >= -(1 << 15)).all()) and largest < 1 << 23


def _words(op: ir.FullyConnected, joined: bool) -> np.ndarray:
    """int32: for each block of channels and step of four elements, the channels 0 and 1 at elements 0, 2 and 1, 3, then 2 and 3."""
    blocks = _padded(op)
    low, high = blocks[:, 0::2], blocks[:, 1::2]
    halves = (low + 256 * high if joined else (low & 255) | (high & 255) << 8) & 0xFFFF
    words = halves[..., :2] | halves[..., 2:] << 16
    return words.transpose(0, 2, 1, 3).astype(np.uint32).view(np.int32).ravel()


# ---------------------------------------------------------------- text


def _step(joined: bool) -> str:
    """Four elements: r4 and r5 are pairs of them, r6 to r9 words of weights, r10, r11, r12 and lr sums."""
    lines = ["ldr r4, [r0], #4", "ldm r1!, {r6-r9}", "sxtb16 r5, r4, ror #8", "sxtb16 r4, r4"]
    for word, x, first, second in (
        ("r6", "r4", "r10", "r11"),
        ("r7", "r5", "r10", "r11"),
        ("r8", "r4", "r12", "lr"),
        ("r9", "r5", "r12", "lr"),
    ):
        if joined:
            lines += [f"smlad {second}, {word}, {x}, {second}", f"sxtb16 {word}, {word}", f"smlad {first}, {word}, {x}, {first}"]
        else:
            lines += [f"sxtb16 r3, {word}", f"smlad {first}, r3, {x}, {first}"]
            lines += [f"sxtb16 {word}, {word}, ror #8", f"smlad {second}, {word}, {x}, {second}"]
    return "\n".join(lines) + "\n"


def _assembly(joined: bool) -> str:
    """r0 walks the input, r1 the weights; r2 passes of several steps, then as many single steps as r3 points at, where the sums go."""
    clear = "".join(f"mov {r}, #0\n" for r in ("r10", "r11", "r12", "lr"))
    text = "push {r3-r11}\n" + clear + "cmp r2, #0\nbeq 2f\n1:\n" + _UNROLLED * _step(joined) + "subs r2, r2, #1\nbne 1b\n2:\n"
    text += "ldr r3, [sp]\nldr r2, [r3]\ncmp r2, #0\nbeq 4f\n3:\n" + _step(joined) + "subs r2, r2, #1\nbne 3b\n4:\n"
    text += "ldr r3, [sp]\nstm r3, {r10, r11, r12, lr}\npop {r3-r11}\n"
    return "".join(f'                "{line}\\n"\n' for line in text.splitlines())


@dataclass(frozen=True)
class Finish:
    """How sums become outputs: C expression of `SUM` and `CHANNEL`, what it takes, helpers, a part of the function's name."""

    expression: str
    parameters: tuple[tuple[str, str], ...]
    arguments: Mapping[str, Argument]
    support: tuple[str, ...]
    tag: str


def finish(scale: Requant) -> Finish:
    """Where one multiplier serves all channels, the zero point goes into the rounding, and one instruction saturates."""
    general = Finish(scale.expression("SUM", "CHANNEL"), scale.parameters, scale.arguments, scale.support, scale.tag)
    shift, zero = scale.arguments["shift"], scale.arguments["out_zero"]
    if scale.per_channel or scale.helper != "tk_scale" or not isinstance(shift, int) or not isinstance(zero, int) or shift > _MOST_SHIFT:
        return general
    clamp = scale.arguments["act_min"], scale.arguments["act_max"]
    arguments: dict[str, Argument] = {
        "multiplier": scale.arguments["multiplier"], "shift": shift, "offset": (1 << shift - 1) + (zero << shift),
    }  # fmt: skip
    support: tuple[str, ...] = ("tk_smmulr", "tk_ssat8", "tk_dense_out")
    expression = "tk_dense_out(SUM, multiplier, shift, offset)"
    if clamp != (-128, 127):
        expression, support = f"tk_clamp({expression}, act_min, act_max)", (*support, "tk_clamp")
        arguments |= {"act_min": clamp[0], "act_max": clamp[1]}
    return Finish(f"(int8_t){expression}", integers(arguments), arguments, support, "_pt" if clamp == (-128, 127) else "_pt_clamped")


_MOST_SHIFT = 22
"""A zero point that is shifted so far, and what it is added to, fit into 32 bits."""

_SUPPORT = ("tk_load32", "tk_smlad", "tk_sxtb16", "tk_sxtb16_ror8")


def _call(graph: ir.Graph, op: ir.FullyConnected, reverse: bool) -> Call:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    joined, end = _joins(op), finish(requant(op, x, y))
    bias = folded_bias(op, x).values
    bias = np.concatenate([bias, np.zeros(-len(bias) % 4, np.int32)])
    values: dict[str, Argument] = {"depth": op.weights[0].size, "channels": len(op.weights)}
    pointers = ((IN, "in"), (OUT, "out"), ("const int32_t *", "weights"), ("const int32_t *", "bias"))
    step = f"tk_dense_step{'' if joined else '_apart'}"
    function = Function(
        f"dense{'' if joined else '_apart'}{end.tag}", (*pointers, *end.parameters, *integers(values)),
        _text(joined, end.expression),
        (*end.support, *_SUPPORT, step),
    )  # fmt: skip
    places: dict[str, Argument] = {"in": operand(graph, op, x.name), "out": operand(graph, op, y.name)}
    layout = Records((op.weights[0].size + 3) // 4 * 4, 4, joined=joined)
    tables: dict[str, Argument] = {"weights": Table("w", _words(op, joined), layout), "bias": Table("q", bias)}
    return Call(function, {**places, **tables, **end.arguments, **values})


def _text(joined: bool, expression: str) -> str:
    text = _BODY.replace("@ASM@", _assembly(joined)).replace("@APART@", _APART if joined else "").replace("@UNROLLED@", str(_UNROLLED))
    text = text.replace("@TAG@", "" if joined else "_apart")
    for n in range(4):
        text = text.replace(f"@{n}@", expression.replace("SUM", f"a{n}").replace("CHANNEL", f"c + {n}" if n else "c"))
    return text
