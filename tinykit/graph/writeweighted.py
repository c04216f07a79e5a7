"""How the multiply-accumulate operations are written, and the checks that all writers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import build, ir, windows
from tinykit.graph.readcontext import SAME, VALID
from tinykit.graph.writefile import File


def derived(op: ir.Op, what: str, wanted: Any, held: Any) -> None:
    """Refuses an op whose integers are not those that an interpreter derives from the scales."""
    if not np.array_equal(np.asarray(wanted), np.asarray(held)):
        raise ModelError(
            f"op {op.name!r}: an interpreter would derive {what} {_short(wanted)} from the scales, the op holds {_short(held)}; "
            "the scales and the integers must come from the same numbers"
        )


def _short(values: Any) -> str:
    flat = np.asarray(values).reshape(-1)
    return str(flat[:4].tolist()) + ("..." if len(flat) > 4 else "")


def double_rounding(op: Any) -> None:
    """Refuses an op that rounds otherwise than interpreters do."""
    if op.rounding != ir.Rounding.DOUBLE:
        raise ModelError(f"op {op.name!r}: rounding is {op.rounding.value!r}; interpreters use 'double'")


def pair(f: File, op: ir.Op) -> tuple[ir.Tensor, ir.Tensor]:
    """First input and output."""
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
    if op.padding == windows.same_padding_2d(size, kernel, op.stride, op.dilation) and same_size(size, op, kernel):
        return f.tensor(x.name), SAME
    top, bottom, left, right = op.padding
    shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2])
    padded = f.activation(x, shape, f"/padded for {op.name}")
    amounts = f.integers(f"{op.name}/paddings", [[0, 0], [top, bottom], [left, right], [0, 0]])
    f.operator("PAD", [f.tensor(x.name), amounts], padded, 2, "PadOptions")
    return padded, VALID


def same_size(size: tuple[int, int], op: Any, window: tuple[int, int]) -> bool:
    """Whether the output is as large as SAME padding makes it."""
    dilation = getattr(op, "dilation", (1, 1))
    return windows.output_size_2d(size, window, op.stride, dilation, op.padding) == (
        -(-size[0] // op.stride[0]),
        -(-size[1] // op.stride[1]),
    )


def conv2d(f: File, op: ir.Conv2D) -> None:
    """CONV_2D."""
    x, y = pair(f, op)
    double_rounding(op)
    derived(op, "multipliers and shifts", build.weight_multipliers(x, op.weight_scale, y, len(op.bias)), (op.multiplier, op.shift))
    source, padding = _padded(f, op, x)
    operands = [source, *_weights(f, op, op.weights, 0, True)]
    options = _window_options(op, padding)
    version = 7 if f.int4 and op.weight_bits <= 4 else 3
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator("CONV_2D", operands, out, version, "Conv2DOptions", fusedActivationFunction=act, **options),
    )  # fmt: skip


def depthwise(f: File, op: ir.DepthwiseConv2D) -> None:
    """DEPTHWISE_CONV_2D."""
    x, y = pair(f, op)
    double_rounding(op)
    derived(op, "multipliers and shifts", build.weight_multipliers(x, op.weight_scale, y, len(op.bias)), (op.multiplier, op.shift))
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


def fully_connected(f: File, op: ir.FullyConnected) -> None:
    """FULLY_CONNECTED. TFLM refuses INT4 weights with per-channel scales, so those are written as int8."""
    x, y = pair(f, op)
    double_rounding(op)
    derived(op, "multipliers and shifts", build.weight_multipliers(x, op.weight_scale, y, len(op.bias)), (op.multiplier, op.shift))
    per_tensor, keep = len(op.weight_scale) == 1, len(y.shape) > 1
    operands = [f.tensor(x.name), *_weights(f, op, op.weights, 0, per_tensor)]
    version = 10 if per_tensor and f.int4 and op.weight_bits <= 4 else 5 if keep else 4
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator(
            "FULLY_CONNECTED", operands, out, version, "FullyConnectedOptions", fusedActivationFunction=act, keepNumDims=keep
        ),
    )  # fmt: skip
