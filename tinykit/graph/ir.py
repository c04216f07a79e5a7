"""Intermediate representation of an integer network.

A tensor holds *stored* integers, those that a `.tflite` would hold: an 8-bit activation is -128..127, a 4-bit one takes 16 consecutive
values from `qmin` (the engine packs two of them into a byte). The real value is `scale * (stored - zero_point)`. Shapes leave the batch
out.

An op holds everything that is needed to execute it in integers: weights, int32 biases, multipliers and shifts, clamp, rounding mode.
Weights are symmetric (zero point 0). The float scales beside them say where multipliers come from, so that a `.tflite` can be written
from which an interpreter derives the same multipliers; the executor never uses them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import numpy as np

from tinykit.errors import ModelError


class Rounding(StrEnum):
    """How an accumulator is scaled. DOUBLE: rounding doubling high multiply, then rounding divide by a power of two (gemmlowp,
    TFLM's default). SINGLE: one rounding shift (TFLITE_SINGLE_ROUNDING)."""

    DOUBLE = "double"
    SINGLE = "single"


class Dtype(StrEnum):
    """Kind of the stored values: quantised integers, or float32 at the graph's edge (before QUANTIZE, after DEQUANTIZE)."""

    INT = "int"
    FLOAT = "float"


@dataclass(frozen=True)
class Tensor:
    """An activation or a constant operand.

    Attributes:
        name: unique within the graph.
        shape: without the batch, e.g. (height, width, channels).
        scale: real step of one integer, a float32 value; 1.0 for plain indices (ARG_MAX).
        zero_point: the stored integer that means 0.
        bits: 2, 4, 8, 16 or 32.
        qmin: least stored integer; `qmin + 2**bits - 1` is the largest.
        dtype: INT or FLOAT.
    """

    name: str
    shape: tuple[int, ...]
    scale: float = 1.0
    zero_point: int = 0
    bits: int = 8
    qmin: int | None = None
    dtype: Dtype = Dtype.INT

    @property
    def low(self) -> int:
        """Least stored integer."""
        return self.qmin if self.qmin is not None else -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """Largest stored integer."""
        return self.low + (1 << self.bits) - 1

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Bytes of one sample, packed."""
        return (self.size * self.bits + 7) // 8

    @property
    def channels(self) -> int:
        """Length of the last axis (1 for a scalar)."""
        return self.shape[-1] if self.shape else 1


@dataclass
class Op:
    """One operation. `inputs` are activations or constants, by name; `output` is the name of its only result."""

    kind: ClassVar[str] = ""
    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass
class Weighted(Op):
    """Base of the multiply-accumulate ops.

    Attributes:
        weights: int8 array (see the subclass for its axes), values within `weight_bits`; of 2 bits either all in -2..1, or all of
            -3, -1, 1 and 3.
        bias: int32 array, one an output channel.
        multiplier: int32 array, one an output channel, 2^30 <= m < 2^31 or 0.
        shift: int array, one an output channel, positive to the left.
        weight_scale: float32 array of length 1 (per tensor) or one an output channel.
        act_min, act_max: clamp on the stored output.
    """

    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    weight_scale: np.ndarray
    act_min: int = -128
    act_max: int = 127
    weight_bits: int = 8
    rounding: Rounding = Rounding.DOUBLE


@dataclass
class Conv2D(Weighted):
    """weights [out, kh, kw, in]; padding (top, bottom, left, right) is filled with the input's zero point."""

    kind: ClassVar[str] = "conv2d"
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass
class DepthwiseConv2D(Weighted):
    """weights [kh, kw, in * multiplier]; output channel o reads input channel o // depth_multiplier."""

    kind: ClassVar[str] = "depthwise_conv2d"
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    depth_multiplier: int = 1


@dataclass
class FullyConnected(Weighted):
    """weights [out, in]; the input is read flat."""

    kind: ClassVar[str] = "fully_connected"


@dataclass
class Binary(Op):
    """ADD and SUB of two tensors with broadcasting, as TFLM does them: both inputs are shifted left by `left_shift`, scaled to twice the
    larger scale, added, scaled to the output. multipliers/shifts: (input 1, input 2, output)."""

    multipliers: tuple[int, int, int]
    shifts: tuple[int, int, int]
    act_min: int = -128
    act_max: int = 127
    left_shift: int = 20
    rounding: Rounding = Rounding.DOUBLE


@dataclass
class Add(Binary):
    """Sum of two tensors."""

    kind: ClassVar[str] = "add"


@dataclass
class Sub(Binary):
    """Difference of two tensors."""

    kind: ClassVar[str] = "sub"


@dataclass
class Mul(Op):
    """Product of two tensors with broadcasting: one multiplier."""

    kind: ClassVar[str] = "mul"
    multiplier: int
    shift: int
    act_min: int = -128
    act_max: int = 127
    rounding: Rounding = Rounding.DOUBLE


@dataclass
class Concat(Op):
    """Concatenation along `axis` of the sample (>= 0). All inputs and the output share scale and zero point."""

    kind: ClassVar[str] = "concat"
    axis: int


@dataclass
class Pool(Op):
    """Base of the pooling ops. Padding (top, bottom, left, right) is left out of the average and of the maximum."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    act_min: int = -128
    act_max: int = 127


@dataclass
class AveragePool(Pool):
    """Mean of the window, rounded half away from zero. Input and output share scale and zero point."""

    kind: ClassVar[str] = "average_pool"


@dataclass
class MaxPool(Pool):
    """Maximum of the window. Input and output share scale and zero point."""

    kind: ClassVar[str] = "max_pool"


@dataclass
class Mean(Op):
    """MEAN over `axes` of the sample; `multiplier` and `shift` already hold the division by the number of elements."""

    kind: ClassVar[str] = "mean"
    axes: tuple[int, ...]
    keep_dims: bool
    multiplier: int
    shift: int
    rounding: Rounding = Rounding.DOUBLE


@dataclass
class Pad(Op):
    """Pads every axis of the sample by (before, after) with the stored integer `value`."""

    kind: ClassVar[str] = "pad"
    amounts: tuple[tuple[int, int], ...]
    value: int


@dataclass
class Reshape(Op):
    """The same bytes in another shape (that of the output tensor)."""

    kind: ClassVar[str] = "reshape"


@dataclass
class Transpose(Op):
    """Permutes the sample's axes."""

    kind: ClassVar[str] = "transpose"
    permutation: tuple[int, ...]


@dataclass
class Table(Op):
    """An element-wise function of one 8-bit tensor as 256 entries, indexed by stored value + 128.

    `function` names the .tflite op that it stands for (logistic, tanh, hard_swish, leaky_relu, relu, relu6, ...); `alpha` its parameter.
    """

    kind: ClassVar[str] = "table"
    function: str
    table: np.ndarray
    alpha: float = 0.0


@dataclass
class Softmax(Op):
    """Softmax over the last axis in fixed point. `diff_min`: differences to the maximum below it give 0."""

    kind: ClassVar[str] = "softmax"
    multiplier: int
    left_shift: int
    diff_min: int
    beta: float = 1.0


@dataclass
class Extremum(Op):
    """MINIMUM and MAXIMUM of two tensors of one scale, with broadcasting."""


@dataclass
class Minimum(Extremum):
    """Element-wise minimum."""

    kind: ClassVar[str] = "minimum"


@dataclass
class Maximum(Extremum):
    """Element-wise maximum."""

    kind: ClassVar[str] = "maximum"


@dataclass
class Requantize(Op):
    """QUANTIZE from integers to integers: another scale and zero point."""

    kind: ClassVar[str] = "requantize"
    multiplier: int
    shift: int
    rounding: Rounding = Rounding.DOUBLE


@dataclass
class Quantize(Op):
    """QUANTIZE from float32: round half away from zero of x / scale, plus zero point, clamped."""

    kind: ClassVar[str] = "quantize"


@dataclass
class Dequantize(Op):
    """DEQUANTIZE to float32."""

    kind: ClassVar[str] = "dequantize"


@dataclass
class StridedSlice(Op):
    """begin:end:step on every axis of the sample."""

    kind: ClassVar[str] = "strided_slice"
    begin: tuple[int, ...]
    end: tuple[int, ...]
    step: tuple[int, ...]


@dataclass
class ArgMax(Op):
    """Index of the (first) largest element along `axis`."""

    kind: ClassVar[str] = "argmax"
    axis: int


OPS: dict[str, type[Op]] = {
    c.kind: c
    for c in (
        Conv2D, DepthwiseConv2D, FullyConnected, Add, Sub, Mul, Concat, AveragePool, MaxPool, Mean, Pad, Reshape, Transpose, Table,
        Softmax, Minimum, Maximum, Requantize, Quantize, Dequantize, StridedSlice, ArgMax,
    )
}  # fmt: skip


@dataclass
class Graph:
    """An integer network. `ops` are in execution order; `constants` holds the stored integers of constant operands (int8/int32, the
    tensor's shape)."""

    tensors: dict[str, Tensor]
    ops: list[Op]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = "model"

    def producer(self, tensor: str) -> Op | None:
        """The op that writes `tensor`, None for an input or a constant."""
        return next((op for op in self.ops if op.output == tensor), None)

    def readers(self, tensor: str) -> list[Op]:
        """The ops that read `tensor`, in order."""
        return [op for op in self.ops if tensor in op.inputs]

    def activations(self) -> Iterator[Tensor]:
        """Every tensor but the constants: the inputs first, then each op's output in order."""
        for name in self.inputs:
            yield self.tensors[name]
        for op in self.ops:
            yield self.tensors[op.output]

    def copy(self) -> Graph:
        """A copy whose lists, dicts and ops can be changed; arrays are shared, so replace them rather than write into them."""
        ops = [dataclasses.replace(op) for op in self.ops]
        return Graph(dict(self.tensors), ops, self.inputs, self.outputs, dict(self.constants), self.name)

    def validate(self) -> None:
        """Raises ModelError with every structural problem: unknown or doubly written tensors, order, ranges of weights and parameters."""
        empty = [t for t in self.tensors.values() if min(t.shape, default=1) < 1]
        problems = [f"tensor {t.name!r} has shape {list(t.shape)}, which is empty" for t in empty]
        problems += _problems(self)
        if problems:
            raise ModelError([f"graph {self.name!r}: {p}" for p in problems])


def _problems(graph: Graph) -> Iterator[str]:
    known = set(graph.inputs) | set(graph.constants)
    for name in sorted(known | set(graph.outputs)):
        if name not in graph.tensors:
            yield f"tensor {name!r} is listed and not described"
    for name, data in graph.constants.items():
        if name in graph.tensors and tuple(data.shape) != graph.tensors[name].shape:
            yield f"constant {name!r} has shape {data.shape}, described as {graph.tensors[name].shape}"
    for op in graph.ops:
        yield from _op_problems(graph, op, known)
        known.add(op.output)
    for name in graph.outputs:
        if name not in known:
            yield f"output {name!r} is never written"


def _op_problems(graph: Graph, op: Op, known: set[str]) -> Iterator[str]:
    for t in op.inputs:
        if t not in known:
            yield f"op {op.name!r} reads {t!r} before it is written"
    if op.output in known:
        yield f"op {op.name!r} writes {op.output!r}, which exists already"
    if op.output not in graph.tensors:
        yield f"op {op.name!r} writes {op.output!r}, which is not described"
    if isinstance(op, Weighted):
        yield from _weight_problems(op)
    if isinstance(op, Table) and op.table.shape != (256,):
        yield f"op {op.name!r}: a table has 256 entries, not {op.table.shape}"


def weights_fit(weights: np.ndarray, bits: int) -> bool:
    """Whether weights can be held in `bits` bits: in two's complement or, of 2 bits, all of them in the book -3, -1, 1, 3."""
    half = 1 << (bits - 1)
    low, high = (int(weights.min()), int(weights.max())) if weights.size else (0, 0)
    return (-half <= low and high < half) or (bits == 2 and bool(np.isin(weights, (-3, -1, 1, 3)).all()))


def _weight_problems(op: Weighted) -> Iterator[str]:
    out = op.weights.shape[-1] if isinstance(op, DepthwiseConv2D) else op.weights.shape[0]
    if op.weights.dtype != np.int8:
        yield f"op {op.name!r}: weights are {op.weights.dtype}, expected int8"
    elif not weights_fit(op.weights, op.weight_bits):
        books = "; 2 bits hold -2..1, or -3, -1, 1 and 3" if op.weight_bits == 2 else ""
        yield f"op {op.name!r}: weights reach {op.weights.min()}..{op.weights.max()}, too wide for {op.weight_bits} bits{books}"
    if op.bias.dtype != np.int32:
        yield f"op {op.name!r}: biases are {op.bias.dtype}, expected int32"
    for label in ("bias", "multiplier", "shift"):
        if getattr(op, label).shape != (out,):
            yield f"op {op.name!r}: {label} has shape {getattr(op, label).shape}, expected ({out},)"
    if op.weight_scale.shape not in {(1,), (out,)}:
        yield f"op {op.name!r}: weight_scale has shape {op.weight_scale.shape}, expected (1,) or ({out},)"
