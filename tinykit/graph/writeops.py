"""How each operation of the graph becomes operators of a .tflite, with the multipliers that an interpreter would derive checked on the
way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import build, ir, windows, writeweighted
from tinykit.graph.readcontext import SAME, VALID
from tinykit.graph.writefile import File
from tinykit.graph.writeweighted import derived, double_rounding, pair, same_size


def _binary(f: File, op: ir.Binary) -> None:
    (a, y), b = pair(f, op), f.graph.tensors[op.inputs[1]]
    double_rounding(op)
    if op.left_shift != 20:
        raise ModelError(f"op {op.name!r}: left_shift is {op.left_shift}; interpreters use 20")
    derived(op, "multipliers and shifts", build.binary_parameters(a, b, y), (op.multipliers, op.shifts))
    kind, options = ("SUB", "SubOptions") if isinstance(op, ir.Sub) else ("ADD", "AddOptions")
    operands = [f.tensor(t) for t in op.inputs]
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator(kind, operands, out, 2, options, fusedActivationFunction=act),
    )  # fmt: skip


def _mul(f: File, op: ir.Mul) -> None:
    (a, y), b = pair(f, op), f.graph.tensors[op.inputs[1]]
    double_rounding(op)
    derived(op, "multiplier and shift", build.mul_parameters(a, b, y), (op.multiplier, op.shift))
    operands = [f.tensor(t) for t in op.inputs]
    version = 3 if a.scale * b.scale / y.scale >= 1.0 else 2
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator("MUL", operands, out, version, "MulOptions", fusedActivationFunction=act),
    )  # fmt: skip


def _pool(f: File, op: ir.Pool) -> None:
    x, y = pair(f, op)
    size = (x.shape[0], x.shape[1])
    if not any(op.padding):
        padding = VALID
    elif op.padding == windows.same_padding_2d(size, op.window, op.stride) and same_size(size, op, op.window):
        padding = SAME
    else:
        raise ModelError(f"op {op.name!r}: padding {op.padding} of a pool is neither SAME nor VALID, and a PAD in front would be counted")
    kind = "AVERAGE_POOL_2D" if isinstance(op, ir.AveragePool) else "MAX_POOL_2D"
    options = {
        "padding": padding,
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "filterHeight": op.window[0],
        "filterWidth": op.window[1],
    }
    low, high = (-128 if op.act_min <= x.low else op.act_min), (127 if op.act_max >= x.high else op.act_max)
    f.clamped(
        y, low, high, True,
        lambda act, out: f.operator(kind, [f.tensor(x.name)], out, 2, "Pool2DOptions", fusedActivationFunction=act, **options),
    )  # fmt: skip


def _mean(f: File, op: ir.Mean) -> None:
    x, y = pair(f, op)
    double_rounding(op)
    count = int(np.prod([x.shape[a] for a in op.axes]))
    derived(op, "multiplier and shift", build.mean_parameters(x, y, count), (op.multiplier, op.shift))
    operands = [f.tensor(x.name), f.integers(f"{op.name}/axes", [a + 1 for a in op.axes])]
    f.clamped(y, y.low, y.high, False, lambda _, out: f.operator("MEAN", operands, out, 2, "ReducerOptions", keepDims=op.keep_dims))


def _pad(f: File, op: ir.Pad) -> None:
    x, y = pair(f, op)
    operands = [f.tensor(x.name), f.integers(f"{op.name}/paddings", [(0, 0), *op.amounts])]
    if op.value == y.zero_point:
        f.operator("PAD", operands, f.tensor(y.name), 2, "PadOptions")
    else:
        operands.append(f.constant(f"{op.name}/value", np.array([op.value], np.int8), y))
        f.operator("PADV2", operands, f.tensor(y.name), 2, "PadV2Options")


def _concat(f: File, op: ir.Concat) -> None:
    operands = [f.tensor(t) for t in op.inputs]
    f.operator("CONCATENATION", operands, f.tensor(op.output), 2, "ConcatenationOptions", axis=op.axis + 1)


def _reshape(f: File, op: ir.Reshape) -> None:
    shape = np.array((1, *f.graph.tensors[op.output].shape), np.int32)
    f.operator("RESHAPE", [f.tensor(op.inputs[0])], f.tensor(op.output), 1, "ReshapeOptions", newShape=shape)


def _transpose(f: File, op: ir.Transpose) -> None:
    order = f.integers(f"{op.name}/permutation", [0, *(p + 1 for p in op.permutation)])
    f.operator("TRANSPOSE", [f.tensor(op.inputs[0]), order], f.tensor(op.output), 2, "TransposeOptions")


def _softmax(f: File, op: ir.Softmax) -> None:
    x, y = pair(f, op)
    build.expect_fixed_output(f"op {op.name!r}", y, "softmax")
    derived(op, "multiplier, shift and limit", build.softmax_parameters(x, op.beta), (op.multiplier, op.left_shift, op.diff_min))
    f.operator("SOFTMAX", [f.tensor(x.name)], f.tensor(y.name), 2, "SoftmaxOptions", beta=op.beta)


_TABLE_OPTIONS = {"leaky_relu": ("LeakyReluOptions", "alpha"), "hard_swish": ("HardSwishOptions", "")}


def _table(f: File, op: ir.Table) -> None:
    x, y = pair(f, op)
    build.expect_fixed_output(f"op {op.name!r}", y, op.function)
    wanted = build.function_table(op.function, x, y, op.alpha)
    derived(op, "a table of", wanted, op.table)
    options, parameter = _TABLE_OPTIONS.get(op.function, ("", ""))
    fields = {parameter: op.alpha} if parameter else {}
    rescales = (x.scale, x.zero_point) != (y.scale, y.zero_point)
    if op.function == "relu_n1_to_1" or (op.function == "relu6" and rescales):
        # TFLM has no RELU_N1_TO_1, and its RELU6 takes the output's scale for the input's: rescale, then clamp
        low, high = build.clamp_range(y, op.function)
        f.clamped(y, low, high, False, lambda _, out: f.operator("QUANTIZE", [f.tensor(x.name)], out, 2, "QuantizeOptions"))
        return
    version = 1 if op.function == "hard_swish" else 2
    f.clamped(
        y, y.low, y.high, False,
        lambda _, out: f.operator(op.function.upper(), [f.tensor(x.name)], out, version, options, **fields),
    )  # fmt: skip


def _extremum(f: File, op: ir.Extremum) -> None:
    kind = "MINIMUM" if isinstance(op, ir.Minimum) else "MAXIMUM"
    f.operator(kind, [f.tensor(t) for t in op.inputs], f.tensor(op.output), 2, "MaximumMinimumOptions")


def _requantize(f: File, op: ir.Requantize) -> None:
    x, y = pair(f, op)
    double_rounding(op)
    derived(op, "multiplier and shift", build.requantize_parameters(x, y), (op.multiplier, op.shift))
    f.clamped(y, y.low, y.high, False, lambda _, out: f.operator("QUANTIZE", [f.tensor(x.name)], out, 2, "QuantizeOptions"))


def _quantize(f: File, op: ir.Quantize) -> None:
    x, y = pair(f, op)
    f.clamped(y, y.low, y.high, False, lambda _, out: f.operator("QUANTIZE", [f.tensor(x.name)], out, 1, "QuantizeOptions"))


def _dequantize(f: File, op: ir.Dequantize) -> None:
    f.operator("DEQUANTIZE", [f.tensor(op.inputs[0])], f.tensor(op.output), 2, "DequantizeOptions")


def _strided_slice(f: File, op: ir.StridedSlice) -> None:
    mask = sum(1 << (i + 1) for i, e in enumerate(op.end) if e < 0)
    lists = ((0, *op.begin), (1, *op.end), (1, *op.step))
    operands = [f.tensor(op.inputs[0])] + [f.integers(f"{op.name}/{n}", v) for n, v in zip(("begin", "end", "strides"), lists)]
    f.operator("STRIDED_SLICE", operands, f.tensor(op.output), 2, "StridedSliceOptions", endMask=mask)


def _argmax(f: File, op: ir.ArgMax) -> None:
    axis = f.integers(f"{op.name}/axis", [op.axis + 1])
    f.operator("ARG_MAX", [f.tensor(op.inputs[0]), axis], f.tensor(op.output), 2, "ArgMaxOptions", outputType=f.s.TensorType.INT32)


WRITERS: dict[str, Callable[[File, Any], None]] = {
    "conv2d": writeweighted.conv2d,
    "depthwise_conv2d": writeweighted.depthwise,
    "fully_connected": writeweighted.fully_connected,
    "add": _binary,
    "sub": _binary,
    "mul": _mul,
    "concat": _concat,
    "average_pool": _pool,
    "max_pool": _pool,
    "mean": _mean,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _transpose,
    "table": _table,
    "softmax": _softmax,
    "minimum": _extremum,
    "maximum": _extremum,
    "requantize": _requantize,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "strided_slice": _strided_slice,
    "argmax": _argmax,
}
