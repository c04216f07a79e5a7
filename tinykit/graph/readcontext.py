"""What the readers of all operators share: operands of one file as checked tensors, constants and integer parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.flatfile import MAX_OPERANDS, FlatModel, FlatOp, FlatTensor, Names

_ITEM: dict[str, np.dtype] = {"INT8": np.dtype("<i1"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"), "FLOAT32": np.dtype("<f4")}
ACTIVATION_NAMES = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6"}
SAME, VALID = 0, 1


class Context:
    """State of reading one file: the graph so far, and integer values known at conversion time.

    Every method raises ModelError for an operand that is missing, of a wrong type, shape or quantisation.
    """

    def __init__(self, flat: FlatModel, name: str) -> None:
        self.flat = flat
        self.graph = ir.Graph({}, [], (), (), {}, name)
        self.known: dict[int, np.ndarray] = {}
        self.weights = 0  # that were read so far
        self.decoded: dict[int, FlatTensor] = {}  # results of DECODE, with their values
        self.decoded_elements = 0
        self.bits: dict[int, int] = {}  # of decoded weights
        self._taken = Names(flat.names)

    def fresh(self, base: str) -> str:
        """A tensor name that is not in use."""
        return self._taken.fresh(base)

    def operand(self, op: FlatOp, position: int) -> FlatTensor:
        """Input `position` of an operator."""
        if position >= len(op.inputs) or op.inputs[position] < 0:
            raise ModelError(f"{op}: input {position} is missing")
        index = op.inputs[position]
        return self.checked(self.decoded.get(index, self.flat.tensors[index]))

    def result(self, op: FlatOp) -> FlatTensor:
        """The only output of an operator."""
        if len(op.outputs) != 1:
            raise ModelError(f"{op}: {len(op.outputs)} outputs, expected 1")
        return self.checked(self.flat.tensors[op.outputs[0]])

    def checked(self, t: FlatTensor) -> FlatTensor:
        """The tensor itself, unless something about it cannot be represented."""
        if t.trouble:
            raise ModelError(f"{t} {t.trouble}")
        return t

    def values(self, t: FlatTensor) -> np.ndarray:
        """The numbers that the file holds for a constant tensor, in its shape. INT4 is unpacked, low nibble first."""
        if t.data is None:
            raise ModelError(f"{t} must be constant, and the file holds no values for it")
        n = int(np.prod(t.shape, dtype=np.int64)) if t.shape else 1
        if t.type == "INT4":
            _expect_bytes(t, (n + 1) // 2)
            nibbles = np.stack([t.data & 15, t.data >> 4], axis=-1).reshape(-1)[:n].astype(np.int8)
            return np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8).reshape(t.shape)
        if t.type not in _ITEM:
            raise ModelError(f"{t} is a constant of type {t.type}; expected INT8, INT4 or INT32")
        item = _ITEM[t.type]
        _expect_bytes(t, n * item.itemsize)
        return np.frombuffer(t.data, item).reshape(t.shape)  # no copy: thousands of operators may read one buffer

    def integers(self, op: FlatOp, position: int) -> list[int]:
        """A parameter operand (axes, paddings, shapes) as flat integers."""
        t = self.operand(op, position)
        if t.index in self.known:
            return [int(v) for v in self.known[t.index].reshape(-1)]
        if t.type not in {"INT32", "INT64"}:
            raise ModelError(f"{op}: {t} is {t.type}, expected constant INT32")
        if t.data is not None and len(t.data) > 8 * MAX_OPERANDS:
            raise ModelError(f"{op}: {t} holds {len(t.data)} bytes of integers; at most {8 * MAX_OPERANDS} are read")
        return [int(v) for v in self.values(t).reshape(-1)]

    def option(self, op: FlatOp, field: str) -> int:
        """An integer option."""
        return int(self.number(op, field))

    def number(self, op: FlatOp, field: str) -> float:
        """An option as it is."""
        if op.options is None:
            raise ModelError(f"{op}: its options are missing")
        return op.options[field]

    def activation(self, op: FlatOp) -> str:
        """Name of the fused activation."""
        code = self.option(op, "FusedActivationFunction")
        if code not in ACTIVATION_NAMES:
            raise ModelError(f"{op}: fused activation {code} is not supported; expected none, RELU, RELU6 or RELU_N1_TO_1")
        return ACTIVATION_NAMES[code]

    def sample_shape(self, t: FlatTensor) -> tuple[int, ...]:
        """Shape without the batch, which must be 1."""
        if not t.shape or t.shape[0] != 1:
            raise ModelError(f"{t} has shape {list(t.shape)}; the first axis is the batch and must be 1")
        if 0 in t.shape:
            raise ModelError(f"{t} has shape {list(t.shape)}, which is empty")
        return t.shape[1:]

    def describe(self, t: FlatTensor, shape: tuple[int, ...], kinds: tuple[str, ...]) -> ir.Tensor:
        """The IR's description of a tensor of one of the types `kinds`."""
        name = self.flat.names[t.index]
        if t.type not in kinds:
            raise ModelError(f"{t} is {t.type}, expected {' or '.join(kinds)}{_advice(t.type)}")
        if t.type == "FLOAT32":
            return ir.Tensor(name, shape, 1.0, 0, 32, None, ir.Dtype.FLOAT)
        if t.type == "INT32":
            return ir.Tensor(name, shape, 1.0, 0, 32)
        if len(t.scale) != 1 or len(t.zero_point) != 1:
            raise ModelError(f"{t} has {len(t.scale)} scales and {len(t.zero_point)} zero points; an activation needs one of each")
        scale, zero_point = float(t.scale[0]), int(t.zero_point[0])
        if not np.isfinite(scale) or scale <= 0:
            raise ModelError(f"{t} has scale {scale}, expected a positive number")
        if not -128 <= zero_point <= 127:
            raise ModelError(f"{t} has zero point {zero_point}, expected -128..127")
        return ir.Tensor(name, shape, scale, zero_point)

    def tensor(self, t: FlatTensor, kinds: tuple[str, ...] = ("INT8",)) -> ir.Tensor:
        """Describes an activation and enters it into the graph."""
        described = self.describe(t, self.sample_shape(t), kinds)
        self.graph.tensors[described.name] = described
        return described

    def input(self, op: FlatOp, position: int = 0, kinds: tuple[str, ...] = ("INT8",)) -> ir.Tensor:
        """An activation operand, or a constant one, which is then entered into the graph's constants."""
        t = self.operand(op, position)
        described = self.tensor(t, kinds)
        if t.data is not None and described.name not in self.graph.constants:
            self.graph.constants[described.name] = self.values(t).reshape(described.shape)
        return described

    def broadcast_input(self, op: FlatOp, position: int, rank: int) -> ir.Tensor:
        """An operand of an element-wise op; a constant gets leading axes of 1 up to the sample's `rank`."""
        t = self.operand(op, position)
        if t.data is None:
            return self.input(op, position)
        full = (1,) * (rank + 1 - len(t.shape)) + t.shape
        if len(full) != rank + 1 or full[0] != 1:
            raise ModelError(f"{op}: constant {t} has shape {list(t.shape)}, which does not fit a sample of rank {rank}")
        shape = full[1:]
        described = self.describe(t, shape, ("INT8",))
        known = self.graph.tensors.get(described.name)
        if known is not None and known.shape != shape:
            described = self.describe(t, shape, ("INT8",))
            described = ir.Tensor(self.fresh(described.name), shape, described.scale, described.zero_point)
        self.graph.tensors[described.name] = described
        self.graph.constants[described.name] = self.values(t).reshape(shape)
        return described

    def output(self, op: FlatOp, kinds: tuple[str, ...] = ("INT8",)) -> ir.Tensor:
        """The result of an operator."""
        return self.tensor(self.result(op), kinds)

    def expect_shape(self, op: FlatOp, y: ir.Tensor, shape: tuple[int, ...]) -> None:
        """Refuses a result whose shape in the file is not the one that the operator computes."""
        if y.shape != shape:
            raise ModelError(f"{op}: output {y.name!r} has shape {list(y.shape)} a sample, computed {list(shape)}")

    def expect_same_quantization(self, op: FlatOp, *tensors: ir.Tensor) -> None:
        """Refuses operands of different scale or zero point where the operator only moves stored integers."""
        first = tensors[0]
        for t in tensors[1:]:
            if (t.scale, t.zero_point) != (first.scale, first.zero_point):
                raise ModelError(
                    f"{op}: {first.name!r} (scale {first.scale:g}, zero point {first.zero_point}) and {t.name!r} (scale {t.scale:g}, "
                    f"zero point {t.zero_point}) must share scale and zero point"
                )

    def axis(self, op: FlatOp, axis: int, rank: int) -> int:
        """An axis of the full tensor (batch included) as an axis of the sample of `rank` axes; the batch itself is refused."""
        full = axis + rank + 1 if axis < 0 else axis
        if full == 0:
            raise ModelError(f"{op}: axis {axis} is the batch, which is not supported")
        if not 1 <= full <= rank:
            raise ModelError(f"{op}: axis {axis} is outside of a tensor of {rank + 1} axes")
        return full - 1

    def op_name(self, op: FlatOp) -> str:
        """Name of the operation in the graph."""
        return f"{op.kind.lower()}_{op.index}"

    def unresolved(self) -> Iterator[str]:
        """What is wrong with the graph's own inputs and outputs."""
        written = set(self.graph.inputs) | set(self.graph.constants) | {o.output for o in self.graph.ops}
        for i in self.flat.outputs:
            if self.flat.names[i] not in written:
                yield f"graph output {self.flat.tensors[i]} is never written"


def _expect_bytes(t: FlatTensor, n: int) -> None:
    if t.data is None or len(t.data) != n:
        raise ModelError(
            f"{t} of shape {list(t.shape)} and type {t.type} needs {n} bytes, the file holds {0 if t.data is None else len(t.data)}"
        )


def _advice(kind: str) -> str:
    if kind in {"FLOAT32", "FLOAT16"}:
        return "; convert the model with full integer quantisation (int8)"
    if kind in {"UINT8", "INT16"}:
        return f"; {kind} activations are not supported, convert with int8"
    return ""
