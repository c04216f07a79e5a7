"""How each operation of the graph becomes operators of a .tflite, with the multipliers that an interpreter would derive checked on the
way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import build, ir, windows
from tinykit.graph.readcontext import SAME, VALID
from tinykit.graph.readelementwise import FIXED_OUTPUT
from tinykit.graph.writefile import File

FULLY_CONNECTED = ("FULLY_CONNECTED", "FullyConnectedOptions")


def _derived(op: ir.Op, what: str, derived: Any, held: Any) -> None:
    """Refuses an op whose integers are not those that an interpreter derives from the scales."""
    if not np.array_equal(np.asarray(derived), np.asarray(held)):
        raise ModelError(
            f"op {op.name!r}: an interpreter would derive {what} {_short(derived)} from the scales, the op holds {_short(held)}; "
            "the scales and the integers must come from the same numbers"
        )


def _short(values: Any) -> str:
    flat = np.asarray(values).reshape(-1)
    return str(flat[:4].tolist()) + ("..." if len(flat) > 4 else "")


def _double_rounding(op: Any) -> None:
    if op.rounding != ir.Rounding.DOUBLE:
        raise ModelError(f"op {op.name!r}: rounding is {op.rounding.value!r}; interpreters use 'double'")


def _pair(f: File, op: ir.Op) -> tuple[ir.Tensor, ir.Tensor]:
    return f.graph.tensors[op.inputs[0]], f.graph.tensors[op.output]


def _weights(f: File, op: ir.Weighted, values: np.ndarray, axis: int, int4: bool) -> list[int]:
    """Weight and bias tensors."""
    x = f.graph.tensors[op.inputs[0]]
    packed = int4 and f.int4 and op.weight_bits <= 4
    data = pack_nibbles(values) if packed else values
    w = f.add(f"{op.name}/weights", values.shape, "INT4" if packed else "INT8", op.weight_scale, 0, data, axis)
    bias_scale = (np.float32(x.scale) * op.weight_scale).astype(np.float32)
    b = f.add(f"{op.name}/bias", op.bias.shape, "INT32", bias_scale, 0, op.bias.astype(np.int32))
    return [w, b]


def pack_nibbles(values: np.ndarray) -> np.ndarray:
    """4-bit integers -8..7, two a byte, the first in the low nibble. Raises ModelError for wider values."""
    flat = values.reshape(-1).astype(np.int64)
    if flat.size and (flat.min() < -8 or flat.max() > 7):
        raise ModelError(f"4-bit weights reach {flat.min()}..{flat.max()}")
    flat = np.append(flat & 15, 0) if flat.size % 2 else flat & 15
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8)


def _padded(f: File, op: ir.Conv2D | ir.DepthwiseConv2D, x: ir.Tensor) -> tuple[int, int]:
    """(input tensor, padding code); a PAD operator goes in front where the padding is neither SAME nor VALID."""
    size, kernel = (x.shape[0], x.shape[1]), windows.kernel_of(op)
    if not any(op.padding):
        return f.tensor(x.name), VALID
    if op.padding == windows.same_padding_2d(size, kernel, op.stride, op.dilation) and _same_size(size, op, kernel):
        return f.tensor(x.name), SAME
    top, bottom, left, right = op.padding
    shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2])
    padded = f.activation(x, shape, f"/padded for {op.name}")
    amounts = f.integers(f"{op.name}/paddings", [[0, 0], [top, bottom], [left, right], [0, 0]])
    f.operator("PAD", [f.tensor(x.name), amounts], padded, 2, "PadOptions")
    return padded, VALID


def _same_size(size: tuple[int, int], op: Any, window: tuple[int, int]) -> bool:
    dilation = getattr(op, "dilation", (1, 1))
    return windows.output_size_2d(size, window, op.stride, dilation, op.padding) == (
        -(-size[0] // op.stride[0]),
        -(-size[1] // op.stride[1]),
    )


def _conv2d(f: File, op: ir.Conv2D) -> None:
    x, y = _pair(f, op)
    _double_rounding(op)
    derived = build.weight_multipliers(x, op.weight_scale, y, len(op.bias))
    pointwise = windows.kernel_of(op) == (1, 1) and op.stride == (1, 1) and not any(op.padding)
    if pointwise and not np.array_equal(derived, (op.multiplier, op.shift)) and len(op.weight_scale) == 1:
        _dense(f, op, op.weights.reshape(len(op.bias), -1))  # came from FULLY_CONNECTED, whose scales multiply in float32
        return
    _derived(op, "multipliers and shifts", derived, (op.multiplier, op.shift))
    source, padding = _padded(f, op, x)
    operands = [source, *_weights(f, op, op.weights, 0, True)]
    options = _window_options(op, padding)
    version = 7 if f.int4 and op.weight_bits <= 4 else 3
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator("CONV_2D", operands, out, version, "Conv2DOptions", fusedActivationFunction=act, **options),
    )  # fmt: skip


def _depthwise(f: File, op: ir.DepthwiseConv2D) -> None:
    x, y = _pair(f, op)
    _double_rounding(op)
    _derived(op, "multipliers and shifts", build.weight_multipliers(x, op.weight_scale, y, len(op.bias)), (op.multiplier, op.shift))
    source, padding = _padded(f, op, x)
    operands = [source, *_weights(f, op, op.weights[None], 3, True)]
    options = {**_window_options(op, padding), "depthMultiplier": op.depth_multiplier}
    version = 7 if f.int4 and op.weight_bits <= 4 else 3
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator(
            "DEPTHWISE_CONV_2D", operands, out, version, "DepthwiseConv2DOptions", fusedActivationFunction=act, **options
        ),
    )  # fmt: skip


def _window_options(op: ir.Conv2D | ir.DepthwiseConv2D, padding: int) -> dict[str, int]:
    return {
        "padding": padding,
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
    }


def _fully_connected(f: File, op: ir.FullyConnected) -> None:
    _double_rounding(op)
    _dense(f, op, op.weights)


def _dense(f: File, op: ir.Weighted, weights: np.ndarray) -> None:
    """FULLY_CONNECTED; with per-channel scales TFLM refuses INT4."""
    x, y = _pair(f, op)
    single = build.fully_connected_is_single_precision(op.weight_scale)
    _derived(op, "multipliers and shifts", build.weight_multipliers(x, op.weight_scale, y, len(op.bias), single), (op.multiplier, op.shift))
    operands = [f.tensor(x.name), *_weights(f, op, weights, 0, single)]
    keep = len(y.shape) > 1
    version = 10 if single and f.int4 and op.weight_bits <= 4 else 5 if keep else 4
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator(*FULLY_CONNECTED[:1], operands, out, version, FULLY_CONNECTED[1], fusedActivationFunction=act, keepNumDims=keep),
    )  # fmt: skip


def _binary(f: File, op: ir.Binary) -> None:
    (a, y), b = _pair(f, op), f.graph.tensors[op.inputs[1]]
    _double_rounding(op)
    if op.left_shift != 20:
        raise ModelError(f"op {op.name!r}: left_shift is {op.left_shift}; interpreters use 20")
    _derived(op, "multipliers and shifts", build.binary_parameters(a, b, y), (op.multipliers, op.shifts))
    kind, options = ("SUB", "SubOptions") if isinstance(op, ir.Sub) else ("ADD", "AddOptions")
    operands = [f.tensor(t) for t in op.inputs]
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator(kind, operands, out, 2, options, fusedActivationFunction=act),
    )  # fmt: skip


def _mul(f: File, op: ir.Mul) -> None:
    (a, y), b = _pair(f, op), f.graph.tensors[op.inputs[1]]
    _double_rounding(op)
    _derived(op, "multiplier and shift", build.mul_parameters(a, b, y), (op.multiplier, op.shift))
    operands = [f.tensor(t) for t in op.inputs]
    version = 3 if a.scale * b.scale / y.scale >= 1.0 else 2
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator("MUL", operands, out, version, "MulOptions", fusedActivationFunction=act),
    )  # fmt: skip


def _pool(f: File, op: ir.Pool) -> None:
    x, y = _pair(f, op)
    size = (x.shape[0], x.shape[1])
    if not any(op.padding):
        padding = VALID
    elif op.padding == windows.same_padding_2d(size, op.window, op.stride) and _same_size(size, op, op.window):
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
    x, y = _pair(f, op)
    _double_rounding(op)
    count = int(np.prod([x.shape[a] for a in op.axes]))
    _derived(op, "multiplier and shift", build.mean_parameters(x, y, count), (op.multiplier, op.shift))
    operands = [f.tensor(x.name), f.integers(f"{op.name}/axes", [a + 1 for a in op.axes])]
    f.clamped(y, y.low, y.high, False, lambda _, out: f.operator("MEAN", operands, out, 2, "ReducerOptions", keepDims=op.keep_dims))


def _pad(f: File, op: ir.Pad) -> None:
    x, y = _pair(f, op)
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
    x, y = _pair(f, op)
    _fixed(op, y, "softmax")
    _derived(op, "multiplier, shift and limit", build.softmax_parameters(x, op.beta), (op.multiplier, op.left_shift, op.diff_min))
    f.operator("SOFTMAX", [f.tensor(x.name)], f.tensor(y.name), 2, "SoftmaxOptions", beta=op.beta)


_TABLE_OPTIONS = {"leaky_relu": ("LeakyReluOptions", "alpha"), "hard_swish": ("HardSwishOptions", "")}


def _table(f: File, op: ir.Table) -> None:
    x, y = _pair(f, op)
    _fixed(op, y, op.function)
    derived = build.function_table(op.function, x, y, op.alpha)
    _derived(op, "a table of", np.clip(derived, y.low, y.high), op.table)
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


def _fixed(op: ir.Op, y: ir.Tensor, name: str) -> None:
    wanted = FIXED_OUTPUT.get(name)
    if wanted is not None and (y.scale, y.zero_point) != wanted:
        raise ModelError(
            f"op {op.name!r}: output {y.name!r} has scale {y.scale:g} and zero point {y.zero_point}; the format prescribes {wanted[0]:g} and {wanted[1]}"
        )


def _extremum(f: File, op: ir.Extremum) -> None:
    kind = "MINIMUM" if isinstance(op, ir.Minimum) else "MAXIMUM"
    f.operator(kind, [f.tensor(t) for t in op.inputs], f.tensor(op.output), 2, "MaximumMinimumOptions")


def _requantize(f: File, op: ir.Requantize) -> None:
    x, y = _pair(f, op)
    _double_rounding(op)
    _derived(op, "multiplier and shift", build.requantize_parameters(x, y), (op.multiplier, op.shift))
    f.clamped(y, y.low, y.high, False, lambda _, out: f.operator("QUANTIZE", [f.tensor(x.name)], out, 2, "QuantizeOptions"))


def _quantize(f: File, op: ir.Quantize) -> None:
    x, y = _pair(f, op)
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
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "fully_connected": _fully_connected,
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
