"""How the multiply-accumulate operations are written, and the checks that all writers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import build, decodetypes, ir, lut, windows
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


def encodings(op: ir.Weighted, int4: bool, decode: bool) -> list[str]:
    """What TFLM runs the weights of an op in, widest first. It refuses INT4 in FULLY_CONNECTED with a scale a channel."""
    per_channel_dense = isinstance(op, ir.FullyConnected) and len(op.weight_scale) > 1
    found = ["INT8"]
    if int4 and op.weight_bits <= 4 and not per_channel_dense:
        found.append("INT4")
    if decode and op.weight_bits <= 2:
        found.append("LUT2")
    return found + _decoded(op) if decode and op.weight_bits == 8 else found


_GAIN, _LUT_GAIN = 0.3, 0.2
"""Share of its bytes that a tensor must save, since DECODE takes time and memory; with few values, which nobody has by chance, less."""


_SPARSE, _CLUSTERED = 0.5, 64
"""Zeros, as a share, or different values that a tensor has where somebody saw to it. What is merely uneven stays int8: a network that was
trained as usual must not need RAM for all of a layer's weights."""


def _decoded(op: ir.Weighted) -> list[str]:
    """What DECODE may expand, of sparse or clustered weights of 8 bits; the smallest first."""
    bits, values, size = lut.index_bits(op.weights), len(np.unique(op.weights)), op.weights.size
    if values > _CLUSTERED and np.count_nonzero(op.weights) > (1 - _SPARSE) * size:
        return []
    sizes = {"PRUNE": -(-op.weights.size // 8) + int((op.weights != 0).sum())}
    if bits is not None:
        sizes[f"LUT{bits}"] = -(-op.weights.size * bits // 8) + values
    if least_huffman(op.weights) <= (1 - _GAIN) * size and values < 256:
        sizes["HUFFMAN"] = sum(map(len, decodetypes.encode_huffman(op.weights)))
    gains = {kind: _LUT_GAIN if kind.startswith("LUT") else _GAIN for kind in sizes}
    return sorted((kind for kind, n in sizes.items() if n <= (1 - gains[kind]) * size), key=lambda kind: sizes[kind])


def least_huffman(values: np.ndarray) -> float:
    """Bytes below which no code comes."""
    counts = np.unique(values, return_counts=True)[1]
    return float((counts * np.maximum(1, np.log2(values.size / counts))).sum()) / 8 if values.size else 0.0


def _weights(f: File, op: ir.Weighted, values: np.ndarray, axis: int) -> list[int]:
    """Weight and bias tensors; no other operator may be written between these and the one that reads them."""
    x, w = f.graph.tensors[op.inputs[0]], f.weights(op, values, axis)
    bias_scale = (np.float32(x.scale) * op.weight_scale).astype(np.float32)
    b = f.add(f"{op.name}/bias", op.bias.shape, "INT32", bias_scale, 0, op.bias.astype(np.int32))
    return [w, b]


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


def _operands(f: File, op: ir.Weighted) -> tuple[ir.Tensor, ir.Tensor]:
    """(input, output) of an op whose rounding and integers are those of an interpreter."""
    x, y = pair(f, op)
    double_rounding(op)
    derived(op, "multipliers and shifts", build.weight_multipliers(x, op.weight_scale, y, len(op.bias)), (op.multiplier, op.shift))
    return x, y


def conv2d(f: File, op: ir.Conv2D) -> None:
    """CONV_2D."""
    _convolution(f, op, "CONV_2D", "Conv2DOptions", (op.weights, 0), {})


def depthwise(f: File, op: ir.DepthwiseConv2D) -> None:
    """DEPTHWISE_CONV_2D."""
    own = {"depthMultiplier": op.depth_multiplier}
    _convolution(f, op, "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", (op.weights[None], 3), own)


def _convolution(
    f: File, op: ir.Conv2D | ir.DepthwiseConv2D, name: str, table: str, weights: tuple[np.ndarray, int], own: dict[str, int]
) -> None:
    """`weights`: as the file holds them, and the axis of their scales; `own`: options beside those of the window."""
    x, y = _operands(f, op)
    source, padding = _padded(f, op, x)
    operands = [source, *_weights(f, op, *weights)]
    options = {**_window_options(op, padding), **own}
    version = 7 if f.encoding(op) == "INT4" else 3
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator(name, operands, out, version, table, fusedActivationFunction=act, **options),
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
    """FULLY_CONNECTED."""
    x, y = _operands(f, op)
    keep = len(y.shape) > 1
    operands = [f.tensor(x.name), *_weights(f, op, op.weights, 0)]
    version = 10 if f.encoding(op) == "INT4" else 5 if keep else 4
    f.clamped(
        y, op.act_min, op.act_max, True,
        lambda act, out: f.operator(
            "FULLY_CONNECTED", operands, out, version, "FullyConnectedOptions", fusedActivationFunction=act, keepNumDims=keep
        ),
    )  # fmt: skip
