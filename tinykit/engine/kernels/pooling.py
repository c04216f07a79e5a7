"""Operations that gather many elements into one: pools, means, the index of the largest.

Four neighbouring channels are gathered at once: the loop's overhead is shared, and no accumulators need memory. Cores with SXTAB16 take
them as a word, and add them as two pairs of int16, which hold 255 elements.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.common import (
    IN,
    OUT,
    collapse,
    expect_int8,
    expect_range,
    indented,
    integers,
    nest,
    operand,
    reach,
    row_major,
    scale,
)  # fmt: skip
from tinykit.engine.memory import is_packed
from tinykit.engine.packing import packed_call
from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.plan.problem import Access

Values = dict[str, Argument]

# ---------------------------------------------------------------- pools

_POOL = """\
    int32_t k = k_first;
    for (int32_t y = 0, row = first_y; y < out_h; ++y, row += step_y) {
        const int32_t top = row > 0 ? row : 0, bottom = row + window_h < in_h ? row + window_h : in_h;
        for (int32_t x = 0, column = first_x; x < out_w; ++x, column += step_x, k += k_step) {
            const int32_t left = column > 0 ? column : 0, right = column + window_w < in_w ? column + window_w : in_w;
@COUNT@
            int32_t c = 0;
@FOUR@            for (; c < depth; ++c) {
                int32_t a = START;
                for (int32_t r = top; r < bottom; ++r) {
                    for (int32_t s = left, i = (r * in_w + left) * depth + c; s < right; ++s, i += depth) {
                        @a,in[i]@
                    }
                }
                out[k + c] = !a!;
            }
        }
    }
"""

_POOL_FOUR = """\
            for (; c + 4 <= depth; c += 4) {
                int32_t a0 = START, a1 = START, a2 = START, a3 = START;
                for (int32_t r = top; r < bottom; ++r) {
                    for (int32_t s = left, i = (r * in_w + left) * depth + c; s < right; ++s, i += depth) {
                        @a0,in[i]@
                        @a1,in[i + 1]@
                        @a2,in[i + 2]@
                        @a3,in[i + 3]@
                    }
                }
                out[k + c] = !a0!;
                out[k + c + 1] = !a1!;
                out[k + c + 2] = !a2!;
                out[k + c + 3] = !a3!;
            }
"""

# The same with words of four channels: START is a word, or the pairs of sums `even` and `odd` are zero.
_POOL_WORDS = """\
#if TK_DSP
            for (; c + 4 <= depth; c += 4) {
                uint32_t @PAIRS@;
                for (int32_t r = top; r < bottom; ++r) {
                    const int8_t *p = in + (r * in_w + left) * depth + c;
                    for (int32_t s = left; s < right; ++s, p += depth) {
                        const uint32_t word = tk_load32(p);
@TAKE@
                    }
                }
                const int32_t @SUMS@;
                out[k + c] = !a0!;
                out[k + c + 1] = !a1!;
                out[k + c + 2] = !a2!;
                out[k + c + 3] = !a3!;
            }
#else
            @UNUSED@ /* compilers complain about helpers that only the other branch calls */
@FOUR@#endif
"""

_SUMS = "a0 = (int16_t)even, a1 = (int16_t)odd, a2 = (int16_t)(even >> 16), a3 = (int16_t)(odd >> 16)"
_WORD_SUMS = {
    "PAIRS": "even = 0, odd = 0",
    "TAKE": "                        even = tk_sxtab16(even, word);\n                        odd = tk_sxtab16_ror8(odd, word);",
    "SUMS": _SUMS,
    "UNUSED": "(void)tk_load32, (void)tk_sxtab16, (void)tk_sxtab16_ror8;",
}
_WORD_LARGEST = {
    "PAIRS": "best = 0x80808080",
    "TAKE": "                        best = tk_max8(best, word);",
    "SUMS": "a0 = (int8_t)best, a1 = (int8_t)(best >> 8), a2 = (int8_t)(best >> 16), a3 = (int8_t)(best >> 24)",
    "UNUSED": "(void)tk_load32, (void)tk_max8;",
}
_MOST_IN_PAIRS = 255
"""Elements of int8 whose sum an int16 holds."""

# a window that lies in the padding altogether has a sum of 0
_COUNT = """\
            const int32_t taps = (bottom - top) * (right - left), count = bottom > top && right > left ? taps : 1, half = count / 2;"""


def _each(text: str, mark: str, make: str) -> str:
    """Replaces each text between marks by `make` with {0}, {1} as its parts."""
    parts = text.split(mark)
    for i in range(1, len(parts), 2):
        parts[i] = make.format(*parts[i].split(","))
    return "".join(parts)


def _pool_text(average: bool, words: bool) -> str:
    four = _POOL_FOUR
    if words:
        four = filled(_POOL_WORDS.replace("@FOUR@", four), _WORD_SUMS if average else _WORD_LARGEST)
    pool = _POOL.replace("@FOUR@", four)
    if average:
        text = _each(pool.replace("@COUNT@", _COUNT), "@", "{0} += {1};")
        return _each(text.replace("START", "0"), "!", "(int8_t)tk_clamp(({0} > 0 ? {0} + half : {0} - half) / count, act_min, act_max)")
    text = _each(pool.replace("@COUNT@\n", ""), "@", "{0} = {1} > {0} ? {1} : {0};")
    return _each(text.replace("START", "-128"), "!", "(int8_t)tk_clamp({0}, act_min, act_max)")


def pool_access(graph: ir.Graph, op: ir.Pool) -> Access:
    """Pixel by pixel, in either direction."""
    return access.pixels(graph, op, op.window, op.stride, (1, 1))


def pool_call(graph: ir.Graph, op: ir.Pool, reverse: bool) -> Call:
    """AVERAGE_POOL_2D and MAX_POOL_2D of any window, stride and padding."""
    expect_int8(graph, op)
    expect_range(graph, op, op.act_min, op.act_max)
    if op.window[0] * op.window[1] >= 1 << 23:
        raise ModelError(f"op {op.name!r}: a window of {op.window} is too large")
    (in_h, in_w, depth), (out_h, out_w, _) = graph.tensors[op.inputs[0]].shape, graph.tensors[op.output].shape
    sign = -1 if reverse else 1
    last = (out_h - 1, out_w - 1) if reverse else (0, 0)
    values: Values = {
        "in_h": in_h, "in_w": in_w, "depth": depth, "out_h": out_h, "out_w": out_w,
        "window_h": op.window[0], "window_w": op.window[1],
        "first_y": last[0] * op.stride[0] - op.padding[0], "first_x": last[1] * op.stride[1] - op.padding[2],
        "step_y": sign * op.stride[0], "step_x": sign * op.stride[1],
        "k_first": (out_h * out_w - 1) * depth if reverse else 0, "k_step": sign * depth,
        "act_min": op.act_min, "act_max": op.act_max,
    }  # fmt: skip
    average = isinstance(op, ir.AveragePool)
    words = not _packed(graph, op) and (not average or op.window[0] * op.window[1] <= _MOST_IN_PAIRS)
    support = ("tk_clamp", "tk_load32", *(("tk_sxtab16", "tk_sxtab16_ror8") if average else ("tk_max8",))) if words else ("tk_clamp",)
    name = op.kind + ("_wide" if average and not words else "")
    function = Function(name, ((IN, "in"), (OUT, "out"), *integers(values)), _pool_text(average, words), support)
    return _between(graph, op, function, values)


def _packed(graph: ir.Graph, op: ir.Op) -> bool:
    return any(is_packed(graph.tensors[t]) for t in (*op.inputs, op.output))


def _between(graph: ir.Graph, op: ir.Op, function: Function, values: Values) -> Call:
    """The call of a function of one input."""
    pointed = {"in": op.inputs[0], "out": op.output}
    call = Call(function, {**{p: operand(graph, op, t) for p, t in pointed.items()}, **values})
    return packed_call(graph, op, call, pointed)


# ---------------------------------------------------------------- mean

_MEAN = """\
    int32_t k = 0;
    for (int32_t n = outer; n > 0; --n, in += count * inner) {
        int32_t c = 0;
@FOUR@        for (; c < inner; ++c) {
            int32_t a = start;
            for (int32_t m = count, i = c; m > 0; --m, i += inner) {
                a += in[i];
            }
            out[k++] = @a@;
        }
    }
"""

_MEAN_FOUR = """\
        for (; c + 4 <= inner; c += 4) {
            int32_t a0 = start, a1 = start, a2 = start, a3 = start;
            for (int32_t m = count, i = c; m > 0; --m, i += inner) {
                a0 += in[i];
                a1 += in[i + 1];
                a2 += in[i + 2];
                a3 += in[i + 3];
            }
            out[k++] = @a0@;
            out[k++] = @a1@;
            out[k++] = @a2@;
            out[k++] = @a3@;
        }
"""

_MEAN_WORDS = """\
#if TK_DSP
        for (; c + 4 <= inner; c += 4) {
            uint32_t even = 0, odd = 0;
            const int8_t *p = in + c;
            for (int32_t m = count; m > 0; --m, p += inner) {
                const uint32_t word = tk_load32(p);
                even = tk_sxtab16(even, word);
                odd = tk_sxtab16_ror8(odd, word);
            }
            const int32_t a0 = (int16_t)even + start, a1 = (int16_t)odd + start;
            const int32_t a2 = (int16_t)(even >> 16) + start, a3 = (int16_t)(odd >> 16) + start;
            out[k++] = @a0@;
            out[k++] = @a1@;
            out[k++] = @a2@;
            out[k++] = @a3@;
        }
#else
        (void)tk_load32, (void)tk_sxtab16, (void)tk_sxtab16_ror8;
@FOUR@#endif
"""

_MEAN_INNER = """\
int32_t a = start, j = i;
@LOOPS@
out[k] = @a@;"""


def mean_call(graph: ir.Graph, op: ir.Mean, reverse: bool) -> Call:
    """MEAN over any axes: one function where they are neighbours, another for the rest. Sums start at what the zero point adds up to."""
    expect_int8(graph, op)
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    elements = int(np.prod([x.shape[a] for a in op.axes], dtype=np.int64))
    if elements * 383 >= 1 << 31:
        raise ModelError(f"op {op.name!r}: a sum of {elements} elements may leave 32 bits")
    s = scale(op, reach(x) * elements, op.multiplier, op.shift, op.rounding)
    values: Values = {
        "start": -x.zero_point * elements, "multiplier": s.multiplier, "shift": s.shift,
        "out_zero": y.zero_point, "act_min": y.low, "act_max": y.high,
    }  # fmt: skip
    finish = f"(int8_t)tk_clamp({s.helper}((uint32_t){{0}}, multiplier, shift) + out_zero, act_min, act_max)"
    groups = [(reduced, [x.shape[a] for a in axes]) for reduced, axes in groupby(range(len(x.shape)), lambda a: a in op.axes)]
    groups = [(reduced, sizes) for reduced, sizes in groups if any(n > 1 for n in sizes)]
    support: tuple[str, ...] = ("tk_clamp", s.helper)
    if sum(reduced for reduced, _ in groups) <= 1:
        extra = _neighbours(groups)
        words = not _packed(graph, op) and elements <= _MOST_IN_PAIRS
        four = _MEAN_WORDS.replace("@FOUR@", _MEAN_FOUR) if words else _MEAN_FOUR
        name, text = "mean" if words else "mean_wide", _each(_MEAN.replace("@FOUR@", four), "@", finish)
        support = (*support, "tk_load32", "tk_sxtab16", "tk_sxtab16_ror8") if words else support
    else:
        name, text, extra = _scattered(x.shape, op.axes, finish)
    function = Function(f"{name}{s.tag}", ((IN, "in"), (OUT, "out"), *integers([*values, *extra])), text, support)
    return _between(graph, op, function, {**values, **extra})


def _neighbours(groups: list[tuple[bool, list[int]]]) -> Values:
    """[outer, count, inner] of one group of reduced axes."""
    at = next((i for i, (reduced, _) in enumerate(groups) if reduced), len(groups))
    sizes = [int(np.prod([n for _, part in groups[a:b] for n in part], dtype=np.int64)) for a, b in ((0, at), (at, at + 1), (at + 1, None))]
    return {"outer": sizes[0], "count": sizes[1], "inner": sizes[2]}


def _scattered(shape: tuple[int, ...], axes: tuple[int, ...], finish: str) -> tuple[str, str, Values]:
    """Name, text and loop arguments of a mean over groups of axes that are apart: a nest for what is kept, inside it one for the rest."""
    strides = row_major(shape)
    kept = [a for a in range(len(shape)) if a not in axes]
    sizes, walks = collapse([shape[a] for a in kept], {"i": [strides[a] for a in kept], "k": row_major([shape[a] for a in kept])})
    outer = nest(sizes, walks)
    inner_sizes, inner_walks = collapse([shape[a] for a in axes], {"j": [strides[a] for a in axes]})
    inner = nest(inner_sizes, inner_walks, prefix="sum_", first=False)
    loops = inner.text.replace("@BODY@", indented("a += in[j];", len(inner_sizes) + 1))
    body = _each(_MEAN_INNER.replace("@LOOPS@\n", indented(loops, 0)), "@", finish)
    text = outer.text.replace("@BODY@", indented(body, len(sizes) + 1))
    return f"mean_{len(sizes)}d_{len(inner_sizes)}d", text, {**outer.values, **inner.values}


# ---------------------------------------------------------------- argmax

_ARGMAX = """\
    int32_t k = 0;
    for (int32_t n = outer; n > 0; --n, in += count * inner) {
        for (int32_t c = 0; c < inner; ++c, k += 4) {
            int32_t best = 0, largest = in[c];
            for (int32_t m = 1, i = c + inner; m < count; ++m, i += inner) {
                if (in[i] > largest) {
                    largest = in[i];
                    best = m;
                }
            }
            memcpy(out + k, &best, 4);
        }
    }
"""


def argmax_call(graph: ir.Graph, op: ir.ArgMax, reverse: bool) -> Call:
    """ARG_MAX along one axis: the first of equal elements, as int32."""
    expect_int8(graph, op, op.inputs[0])
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if y.dtype != ir.Dtype.INT or y.bits != 32:
        raise ModelError(f"op {op.name!r}: the engine's argmax makes int32, tensor {op.output!r} has {y.bits} bits")
    outer, inner = (int(np.prod(part, dtype=np.int64)) for part in (x.shape[: op.axis], x.shape[op.axis + 1 :]))
    values: Values = {"outer": outer, "count": x.shape[op.axis], "inner": inner}
    return _between(graph, op, Function("argmax", ((IN, "in"), (OUT, "out"), *integers(values)), _ARGMAX), values)
