"""A .tflite under construction: tensors, buffers, operators and the clamps that need operators of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import build, decodetypes, flatfile, ir, lut
from tinykit.graph.schema import schema

_NUMPY_TYPES = {np.dtype(np.int8): "INT8", np.dtype(np.int32): "INT32", np.dtype(np.float32): "FLOAT32"}
Packed = dict[tuple[str, str], tuple[np.ndarray, ...]]
ACTIVATION_CODES = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}


class File:
    """Collects what goes into the flatbuffer.

    Args:
        graph: what is written.
        keep_names: write tensor names and one zero point a scale (LiteRT wants them, TFLM does not).
        encodings: how the weights of an op are written, by its output: a key of `encodings.NAMES`; INT8 where it is missing.
        packed: weights packed for another file of the same graph, by output and encoding; what is packed here is added.
    """

    def __init__(self, graph: ir.Graph, keep_names: bool, encodings: Mapping[str, str], packed: Packed | None = None) -> None:
        self.s = schema()
        self.graph, self.keep_names, self.encodings = graph, keep_names, encodings
        self.packed: Packed = {} if packed is None else packed
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[str, int] = {}
        self.index: dict[str, int] = {}
        self._buffers: dict[bytes, int] = {b"": 0}
        self._tables: dict[bytes, int] = {}

    def add(
        self,
        name: str,
        shape: Sequence[int],
        kind: str,
        scale: Sequence[float] | np.ndarray = (),
        zero_point: int = 0,
        data: np.ndarray | None = None,
        axis: int = 0,
    ) -> int:
        """A tensor; returns its index. `shape` includes the batch; `data` are the bytes as they are stored."""
        t = self.s.TensorT()
        t.shape = np.array(shape, np.int32)
        t.type = getattr(self.s.TensorType, kind)
        content = b"" if data is None else data.tobytes()
        t.buffer = self._buffers.setdefault(content, len(self._buffers))
        if self.keep_names:
            t.name = name
        if len(scale):
            q = t.quantization = self.s.QuantizationParametersT()
            q.scale = np.asarray(scale, np.float32)
            q.zeroPoint = np.full(len(q.scale) if self.keep_names else 1, zero_point, np.int64)
            q.quantizedDimension = axis
        self.tensors.append(t)
        return len(self.tensors) - 1

    def constant(self, name: str, values: np.ndarray, like: ir.Tensor | None = None) -> int:
        """A constant operand; `like` gives scale and zero point of an int8 one."""
        scale, zero_point = ([like.scale], like.zero_point) if like is not None else ([], 0)
        return self.add(name, values.shape, _NUMPY_TYPES[values.dtype], scale, zero_point, values)

    def integers(self, name: str, values: Sequence[int] | Sequence[Sequence[int]]) -> int:
        """An int32 parameter: axes, paddings, a permutation."""
        return self.constant(name, np.array(values, np.int32))

    def weights(self, op: ir.Weighted, values: np.ndarray, axis: int) -> int:
        """Weights in the encoding of their op. A DECODE must be the operator right before the one that reads its result."""
        name, kind = f"{op.name}/weights", self.encoding(op)
        if kind == "INT8":
            return self.add(name, values.shape, kind, op.weight_scale, 0, values, axis)
        key = op.output, kind
        if key not in self.packed:
            self.packed[key] = _packed(kind, op, values)
        if kind == "INT4":
            return self.add(name, values.shape, kind, op.weight_scale, 0, self.packed[key][0], axis)
        return self._decoded(name, self.packed[key], (values.shape, op.weight_scale, axis))

    def encoding(self, op: ir.Weighted) -> str:
        """How the weights of an op are written."""
        return self.encodings.get(op.output, "INT8")

    def _decoded(self, name: str, content: tuple[np.ndarray, ...], result: tuple[tuple[int, ...], np.ndarray, int]) -> int:
        packed, table = content
        shape, scale, axis = result
        encoded = self.add(f"{name}/indices", packed.shape, "UINT8", data=packed)
        key = table.tobytes()
        if key not in self._tables:
            self._tables[key] = self.add(f"{name}/table", table.shape, "UINT8", data=table)
        # DECODE refuses a single scale along another axis than the first
        index = self.add(name, shape, "INT8", scale, axis=axis if len(scale) > 1 else 0)
        self.operator(flatfile.DECODE, [encoded, self._tables[key]], index, 1)
        return index

    def tensor(self, name: str) -> int:
        """Index of a tensor of the graph, described on first use."""
        if name not in self.index:
            t = self.graph.tensors[name]
            if name in self.graph.constants:
                values = self.graph.constants[name].astype(np.int8)[None]
                self.index[name] = self.constant(name, values, self.checked(t))
            else:
                self.index[name] = self.activation(t)
        return self.index[name]

    def activation(self, t: ir.Tensor, shape: tuple[int, ...] | None = None, suffix: str = "") -> int:
        """A tensor that the interpreter allocates."""
        full = (1, *(t.shape if shape is None else shape))
        if t.dtype == ir.Dtype.FLOAT:
            return self.add(t.name + suffix, full, "FLOAT32")
        if t.bits == 32:
            return self.add(t.name + suffix, full, "INT32")
        self.checked(t)
        return self.add(t.name + suffix, full, "INT8", [t.scale], t.zero_point)

    def checked(self, t: ir.Tensor) -> ir.Tensor:
        """The tensor itself, if an int8 tensor can carry it."""
        if t.bits > 8 or t.dtype == ir.Dtype.FLOAT or t.low < -128 or t.high > 127 or not -128 <= t.zero_point <= 127:
            raise ModelError(
                f"tensor {t.name!r}: {t.bits} bits, {t.low}..{t.high}, zero point {t.zero_point}: an int8 tensor cannot carry it"
            )
        return t

    def operator(self, kind: str, inputs: Sequence[int], output: int, version: int, options: str = "", **fields: Any) -> None:
        """An operator with its options class (without the T) and fields."""
        op = self.s.OperatorT()
        op.opcodeIndex = list(self.codes).index(kind) if kind in self.codes else len(self.codes)
        self.codes[kind] = max(version, self.codes.get(kind, 0))  # one entry for all versions, because each takes room in the file
        op.inputs, op.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if options:
            op.builtinOptionsType = getattr(self.s.BuiltinOptions, options)
            op.builtinOptions = getattr(self.s, f"{options}T")()
            for field, value in fields.items():
                setattr(op.builtinOptions, field, value)
        self.operators.append(op)

    def clamped(self, y: ir.Tensor, low: int, high: int, fusable: bool, emit: Callable[[int, int], None]) -> None:
        """Writes an operator whose result is clamped to low..high: by a fused activation, else by MAXIMUM and MINIMUM behind it.

        `emit(activation code, output tensor)` writes the operator itself.
        """
        name, need_low, need_high = fused_activation(y, low, high, fusable)
        steps = [("MAXIMUM", low)] * need_low + [("MINIMUM", high)] * need_high
        current = self.activation(y, suffix="/unclamped") if steps else self.tensor(y.name)
        emit(ACTIVATION_CODES[name], current)
        for i, (kind, limit) in enumerate(steps):
            target = self.tensor(y.name) if i == len(steps) - 1 else self.activation(y, suffix="/clamped")
            bound = self.constant(f"{y.name}/{kind.lower()}", np.array([limit], np.int8), y)
            self.operator(kind, [current, bound], target, 2, "MaximumMinimumOptions")
            current = target

    def pack(self, outputs: Sequence[str]) -> bytes:
        """The finished file."""
        model, graph = self.s.ModelT(), self.s.SubGraphT()
        model.version = 3
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs = np.array([self.tensor(n) for n in self.graph.inputs], np.int32)
        graph.outputs = np.array([self.tensor(n) for n in outputs], np.int32)
        if self.keep_names:
            graph.name = self.graph.name
        model.subgraphs, model.operatorCodes, model.buffers = [graph], [], []
        for kind, version in self.codes.items():
            code = self.s.OperatorCodeT()
            code.builtinCode = getattr(self.s.BuiltinOperator, kind, self.s.BuiltinOperator.CUSTOM)
            code.customCode = kind if code.builtinCode == self.s.BuiltinOperator.CUSTOM else None
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            model.operatorCodes.append(code)
        for content in self._buffers:
            b = self.s.BufferT()
            b.data = np.frombuffer(content, np.uint8) if content else None
            model.buffers.append(b)
        return flatfile.pack(model)


def _packed(kind: str, op: ir.Weighted, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """The bytes of weights: of one tensor for INT4, of the two that DECODE reads for all others."""
    if kind == "INT4":
        return (pack_nibbles(values),)
    if kind == "PRUNE":
        return decodetypes.encode_prune(values)
    if kind == "HUFFMAN":
        return decodetypes.encode_huffman(values)
    return lut.encode(values) if op.weight_bits <= 2 else lut.encode_any(values)


def pack_nibbles(values: np.ndarray) -> np.ndarray:
    """4-bit integers -8..7, two a byte, the first in the low nibble. Raises ModelError for wider values."""
    flat = values.reshape(-1).astype(np.int64)
    if flat.size and (flat.min() < -8 or flat.max() > 7):
        raise ModelError(f"4-bit weights reach {flat.min()}..{flat.max()}")
    flat = np.append(flat & 15, 0) if flat.size % 2 else flat & 15
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8)


def fused_activation(y: ir.Tensor, low: int, high: int, fusable: bool) -> tuple[str, bool, bool]:
    """The fused activation that comes closest to a clamp of low..high on an int8 tensor: (name, low bound missing, high bound missing)."""
    carrier = replace(y, bits=8, qmin=None)
    best, found = -1, ("none", low > -128, high < 127)
    for name in build.ACTIVATIONS if fusable else ("none",):
        try:
            lo, hi = build.clamp_range(carrier, name)
        except ModelError:  # the scale is too small for this activation's bound
            continue
        if lo <= low and high <= hi and (lo == low) + (hi == high) > best:
            best, found = (lo == low) + (hi == high), (name, lo != low, hi != high)
    return found
