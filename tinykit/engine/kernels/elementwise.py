"""Element-wise operations in portable C: sums, products and extrema with broadcasting, tables, changes of number format.

All share one nest of loops. Operands of one shape need one loop, a scalar operand too, an operand a channel two.
"""

from __future__ import annotations

import numpy as np

from tinykit.engine.call import Argument, Call, Function, Table
from tinykit.engine.kernels.common import (
    IN,
    OUT,
    collapse,
    expect_int8,
    expect_range,
    indented,
    integers,
    limits,
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

Values = dict[str, Argument]


def _call(graph: ir.Graph, op: ir.Op, reverse: bool, name: str, body: str, values: Values, support: tuple[str, ...],
          inputs: tuple[str, ...] | None = None, extra: tuple[tuple[str, str], ...] = ()) -> Call:  # fmt: skip
    """A call that executes `body` for every element: a[i], b[j] are the operands, out[k] the result.

    Args:
        inputs: the operands in the order in which the body takes them; default: the op's.
        extra: parameters that are not int32, whose arguments are in `values`.
    """
    inputs = op.inputs if inputs is None else inputs
    y = graph.tensors[op.output]
    shapes = [graph.tensors[t].shape for t in inputs]
    shape = np.broadcast_shapes(*shapes)
    if int(np.prod(shape, dtype=np.int64)) != y.size:
        raise ModelError(f"op {op.name!r}: operands of shape {shapes} do not make an output of shape {list(y.shape)}")
    walks = {index: _broadcast(s, len(shape)) for index, s in zip("ij", shapes)} | {"k": row_major(shape)}
    sizes, strides = collapse(shape, walks)
    loops = nest(sizes, strides, reverse)
    suffix = "" if len(sizes) == 1 else f"_{len(sizes)}d"
    pointers = tuple((IN, p) for p in "ab"[: len(inputs)])
    plain = integers(v for v in values if v not in {p for _, p in extra})
    function = Function(
        f"{name}{suffix}",
        (*pointers, (OUT, "out"), *extra, *plain, *loops.parameters),
        loops.text.replace("@BODY@", indented(body, len(sizes) + 1)),
        support,
    )
    pointed = dict(zip("ab", inputs)) | {"out": op.output}
    places = {p: operand(graph, op, t) for p, t in pointed.items()}
    return packed_call(graph, op, Call(function, {**places, **values, **loops.values}), pointed)


def _broadcast(shape: tuple[int, ...], rank: int) -> list[int]:
    """Strides of an operand along the axes of the result: 0 where it is repeated."""
    strides = [0 if n == 1 else s for n, s in zip(shape, row_major(shape))]
    return [0] * (rank - len(shape)) + strides


def _output(y: ir.Tensor, op: ir.Binary | ir.Mul) -> Values:
    return {"out_zero": y.zero_point, "act_min": op.act_min, "act_max": op.act_max}


# ---------------------------------------------------------------- two operands

# The operand with the larger scale is multiplied by one half exactly, which is a product with a power of two.
_ADD = """\
const int32_t scaled = tk_scale((uint32_t)(b[j] - b_zero) << b_left, b_multiplier, b_shift);
const int32_t total = (a[i] - a_zero) * a_factor + b_sign * scaled;
out[k] = (int8_t)tk_clamp(tk_scale((uint32_t)total, multiplier, shift) + out_zero, act_min, act_max);"""

_ADD_GENERAL = """\
const int32_t first = @(((uint32_t)(a[i] - a_zero)) << left, a_multiplier, a_shift);
const int32_t second = @(((uint32_t)(b[j] - b_zero)) << left, b_multiplier, b_shift);
out[k] = (int8_t)tk_clamp(@((uint32_t)(first + b_sign * second), multiplier, shift) + out_zero, act_min, act_max);"""

_MUL = """\
const int32_t product = (a[i] - a_zero) * (b[j] - b_zero);
out[k] = (int8_t)tk_clamp(@((uint32_t)product, multiplier, shift) + out_zero, act_min, act_max);"""


def _half(multiplier: int, shift: int) -> bool:
    """Whether an operand of ADD is multiplied by 1/2."""
    return (multiplier, shift) == (1 << 30, 0)


def add_call(graph: ir.Graph, op: ir.Binary, reverse: bool) -> Call:
    """ADD and SUB: one function for both, with a sign."""
    expect_int8(graph, op)
    expect_range(graph, op, op.act_min, op.act_max)
    signs = (1, -1 if isinstance(op, ir.Sub) else 1)
    exact = [i for i in range(2) if _half(op.multipliers[i], op.shifts[i])]
    reaches = [reach(graph.tensors[t]) for t in op.inputs]
    left = op.left_shift
    if op.rounding != ir.Rounding.DOUBLE or not exact or left < 1 or max(reaches) << (left + 1) >= 1 << 30:
        return _add_general(graph, op, reverse)
    first, second = exact[0], 1 - exact[0]
    # shift 0 of an operand that is halved too: one place more to the left, one more to the right
    again = int(_half(op.multipliers[second], op.shifts[second]))
    b = scale(op, reaches[second] << left + again, op.multipliers[second], op.shifts[second] - again, op.rounding)
    result = scale(op, sum(reaches) << left, op.multipliers[2], op.shifts[2], op.rounding)
    if {b.helper, result.helper} != {"tk_scale"}:
        return _add_general(graph, op, reverse)
    inputs = (op.inputs[first], op.inputs[second])
    values: Values = {
        "a_zero": graph.tensors[inputs[0]].zero_point, "a_factor": signs[first] * (1 << (left - 1)),
        "b_zero": graph.tensors[inputs[1]].zero_point, "b_left": left + again, "b_multiplier": b.multiplier, "b_shift": b.shift,
        "b_sign": signs[second], "multiplier": result.multiplier, "shift": result.shift, **_output(graph.tensors[op.output], op),
    }  # fmt: skip
    return _call(graph, op, reverse, "add", _ADD, values, ("tk_clamp", "tk_scale"), inputs)


def _add_general(graph: ir.Graph, op: ir.Binary, reverse: bool) -> Call:
    """Any multipliers, shifts and rounding."""
    a, b = (graph.tensors[t] for t in op.inputs)
    scales = [scale(op, reach(t) << op.left_shift, op.multipliers[i], op.shifts[i], op.rounding, True) for i, t in enumerate((a, b))]
    total = sum((reach(t) << op.left_shift + max(0, op.shifts[i])) + 1 for i, t in enumerate((a, b)))
    result = scale(op, total, op.multipliers[2], op.shifts[2], op.rounding, True)
    values: Values = {
        "left": op.left_shift, "a_zero": a.zero_point, "a_multiplier": scales[0].multiplier, "a_shift": scales[0].shift,
        "b_zero": b.zero_point, "b_multiplier": scales[1].multiplier, "b_shift": scales[1].shift,
        "b_sign": -1 if isinstance(op, ir.Sub) else 1, "multiplier": result.multiplier, "shift": result.shift,
        **_output(graph.tensors[op.output], op),
    }  # fmt: skip
    body = _ADD_GENERAL.replace("@", result.helper)
    return _call(graph, op, reverse, f"add{result.tag}", body, values, ("tk_clamp", result.helper))


def mul_call(graph: ir.Graph, op: ir.Mul, reverse: bool) -> Call:
    """MUL."""
    expect_int8(graph, op)
    expect_range(graph, op, op.act_min, op.act_max)
    a, b = (graph.tensors[t] for t in op.inputs)
    s = scale(op, reach(a) * reach(b), op.multiplier, op.shift, op.rounding)
    values: Values = {
        "a_zero": a.zero_point, "b_zero": b.zero_point, "multiplier": s.multiplier, "shift": s.shift,
        **_output(graph.tensors[op.output], op),
    }  # fmt: skip
    return _call(graph, op, reverse, f"mul{s.tag}", _MUL.replace("@", s.helper), values, ("tk_clamp", s.helper))


def extremum_call(graph: ir.Graph, op: ir.Extremum, reverse: bool) -> Call:
    """MINIMUM and MAXIMUM."""
    expect_int8(graph, op)
    low, high = ([end[i] for end in map(lambda t: limits(graph, t), op.inputs)] for i in range(2))
    least = isinstance(op, ir.Minimum)
    expect_range(graph, op, min(low) if least else max(low), min(high) if least else max(high))
    sign = "<" if least else ">"
    return _call(graph, op, reverse, op.kind, f"out[k] = a[i] {sign} b[j] ? a[i] : b[j];", {}, ())


# ---------------------------------------------------------------- one operand


def table_call(graph: ir.Graph, op: ir.Table, reverse: bool) -> Call:
    """A function as 256 entries in flash, as one a code where the input is packed."""
    expect_int8(graph, op)
    x = graph.tensors[op.inputs[0]]
    entries = op.table.astype(np.int8)[x.low + 128 : x.high + 129]
    expect_range(graph, op, int(entries.min()), int(entries.max()))
    values: Values = {"table": Table("c", entries), **({"base": -x.low} if is_packed(x) else {})}
    body = f"out[k] = table[a[i] + {'base' if is_packed(x) else '128'}];"
    return _call(graph, op, reverse, "table", body, values, (), extra=((IN, "table"),))


_REQUANTIZE = "out[k] = (int8_t)tk_clamp(@((uint32_t)(a[i] - a_zero), multiplier, shift) + out_zero, act_min, act_max);"


def requantize_call(graph: ir.Graph, op: ir.Requantize, reverse: bool) -> Call:
    """Integers to integers of another scale."""
    expect_int8(graph, op)
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    s = scale(op, reach(x), op.multiplier, op.shift, op.rounding)
    values: Values = {
        "a_zero": x.zero_point, "multiplier": s.multiplier, "shift": s.shift,
        "out_zero": y.zero_point, "act_min": y.low, "act_max": y.high,
    }  # fmt: skip
    return _call(graph, op, reverse, f"requantize{s.tag}", _REQUANTIZE.replace("@", s.helper), values, ("tk_clamp", s.helper))


# Beyond 2^16 the result is clamped whatever it is; a NaN compares false and becomes the least integer. The part behind the point is exact.
_QUANTIZE = """\
float real;
memcpy(&real, a + 4 * i, 4);
real /= *scale;
int32_t value = real >= 65536.0f ? 65536 : -65536;
if (real > -65536.0f && real < 65536.0f) {
    value = (int32_t)real;
    const float rest = real - (float)value;
    value += (rest >= 0.5f) - (rest <= -0.5f);
}
out[k] = (int8_t)tk_clamp(value + out_zero, act_min, act_max);"""

_DEQUANTIZE = """\
const float real = (float)(a[i] - a_zero) * *scale;
memcpy(out + 4 * k, &real, 4);"""

_SCALE = (("const float *", "scale"),)


def _real_scale(tensor: ir.Tensor) -> Table:
    return Table("q", np.array([tensor.scale], np.float32))


def _expect_float(graph: ir.Graph, op: ir.Op, tensor: str) -> None:
    if graph.tensors[tensor].dtype != ir.Dtype.FLOAT:
        raise ModelError(f"op {op.name!r}: {op.kind} expects float32 in tensor {tensor!r}")


def quantize_call(graph: ir.Graph, op: ir.Quantize, reverse: bool) -> Call:
    """float32 to int8, rounded half away from zero."""
    _expect_float(graph, op, op.inputs[0])
    expect_int8(graph, op, op.output)
    if op.inputs[0] in graph.constants:
        raise ModelError(f"op {op.name!r}: a constant is quantised")
    y = graph.tensors[op.output]
    values: Values = {"scale": _real_scale(y), "out_zero": y.zero_point, "act_min": y.low, "act_max": y.high}
    return _call(graph, op, reverse, "quantize", _QUANTIZE, values, ("tk_clamp",), extra=_SCALE)


def dequantize_call(graph: ir.Graph, op: ir.Dequantize, reverse: bool) -> Call:
    """int8 to float32: a difference of 9 bits times a float32, which one rounding makes exact."""
    _expect_float(graph, op, op.output)
    expect_int8(graph, op, op.inputs[0])
    x = graph.tensors[op.inputs[0]]
    return _call(graph, op, reverse, "dequantize", _DEQUANTIZE, {"scale": _real_scale(x), "a_zero": x.zero_point}, (), extra=_SCALE)
