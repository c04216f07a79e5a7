"""A .tflite as plain Python data: every number is read once, checked and bounded, so that nothing behind this module meets damaged bytes.

Source of the layout: TensorFlow's schema.fbs, version 3. A flatbuffer may alias its parts, so counts are bounded as well as the file's
size: a megabyte may describe sixty thousand tensors that all have the same megabyte of scales.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph.schema import IDENTIFIER, names_of, schema

MAX_BYTES = 256 << 20
MAX_ITEMS = 1 << 14  # tensors, buffers, operator codes
MAX_OPERATORS = 1 << 9
MAX_OPERANDS = 1 << 10  # of one operator
MAX_ALL_OPERANDS = 1 << 18
MAX_SCALES = 1 << 16  # of one tensor
MAX_NAME = 512  # characters; the rest of a name is left out
MAX_NAME_BYTES = 1 << 24  # of all names
MAX_RANK = 8
MAX_ELEMENTS = 1 << 31
MAX_SHOWN = 20  # problems of one kind
DECODE = "TFLM_DECODE"  # the only custom operator that is known

# Options that the reader needs: operator -> (generated class, fields). Operators that are not here are read without options.
OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": (
        "Conv2DOptions",
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "AVERAGE_POOL_2D": ("Pool2DOptions", ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")),
    "MAX_POOL_2D": ("Pool2DOptions", ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "STRIDED_SLICE": ("StridedSliceOptions", ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask")),
    "PACK": ("PackOptions", ("Axis", "ValuesCount")),
}


@dataclass(frozen=True)
class FlatTensor:
    """One tensor. `shape` includes the batch; `data` is None unless the file holds the values; `scale` and `zero_point` may be empty."""

    index: int
    name: str
    shape: tuple[int, ...]
    type: str
    data: np.ndarray | None
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    trouble: str

    def __str__(self) -> str:
        return f"tensor {self.index} {self.name!r}"


@dataclass(frozen=True)
class FlatOp:
    """One operator; an absent optional operand has index -1."""

    index: int
    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int | float] | None

    def __str__(self) -> str:
        return f"op {self.index} {self.kind}"


@dataclass(frozen=True)
class FlatModel:
    """The only subgraph of a file. `names` gives each tensor's unique name, by index."""

    tensors: tuple[FlatTensor, ...]
    names: tuple[str, ...]
    ops: tuple[FlatOp, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@contextmanager
def _damage(what: str) -> Iterator[None]:
    """Turns what the flatbuffers library raises on damaged bytes into a ModelError; every problem names the file."""
    try:
        yield
    except ModelError as error:
        raise ModelError([p if p.startswith(f"{what}: ") else f"{what}: {p}" for p in error.problems]) from error
    except (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ModelError(f"{what}: the file is damaged or truncated ({error}); copy or convert it again") from error


def load(data: bytes | Path, label: str) -> bytes:
    """The bytes of a .tflite, after checks of size and identifier. Raises ModelError."""
    if isinstance(data, Path):
        try:
            size = data.stat().st_size
            content = data.read_bytes() if size <= MAX_BYTES else b""
        except OSError as error:
            raise ModelError(f"{label}: cannot be read: {error.strerror or error}") from error
    else:
        content, size = bytes(data), len(data)
    if size > MAX_BYTES:
        raise ModelError(f"{label}: {size} bytes; at most {MAX_BYTES} are read")
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise ModelError(f"{label}: no .tflite file: the identifier {IDENTIFIER.decode()!r} is missing at byte 4")
    return content


def parse(content: bytes, label: str) -> FlatModel:
    """The model as plain data. Raises ModelError for damage, several subgraphs, or anything beyond the bounds above."""
    s = schema()
    with _damage(label):
        model = s.Model.GetRootAs(content, 0)
        if model.Version() != 3:
            raise ModelError(f"{label}: schema version {model.Version()}, expected 3")
        if model.SubgraphsLength() != 1:
            raise ModelError(f"{label}: {model.SubgraphsLength()} subgraphs; exactly one is supported (no control flow)")
        graph = model.Subgraphs(0)
        codes = _operator_codes(s, model, label)
        buffers = _buffers(model, label)
        count = _count(graph.TensorsLength(), "tensors", label)
        names = _names(graph, count)
        tensors = tuple(_tensor(s, graph.Tensors(i), i, names[i], buffers) for i in range(count))
        ops = _operators(s, graph, codes, label)
        inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
    flat = FlatModel(tensors, unique_names(tensors), ops, inputs, outputs)
    _check_indices(flat, label)
    return flat


class Names:
    """Names that are in use."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._last: dict[str, int] = {}  # without it, thousands of tensors of one name would take hours

    def fresh(self, base: str) -> str:
        """`base`, with a counter where it is taken; it is in use from now on."""
        name, n = base, self._last.get(base, 1)
        while name in self._taken:
            n += 1
            name = f"{base}_{n}"
        self._last[base] = n
        self._taken.add(name)
        return name


def unique_names(tensors: tuple[FlatTensor, ...]) -> tuple[str, ...]:
    """One name a tensor: its own, `t<index>` where it has none, with a counter where it is taken."""
    taken = Names()
    return tuple(taken.fresh(t.name or f"t{t.index}") for t in tensors)


def with_all_outputs(content: bytes, label: str = "model") -> tuple[bytes, tuple[str, ...]]:
    """The file with every operator's first output as a graph output, so that an interpreter shows all inner tensors, and their unique
    names."""
    flat, s = parse(load(content, label), label), schema()
    with _damage(label):
        model = s.ModelT.InitFromObj(s.Model.GetRootAs(content, 0))
    wanted = [
        op for op in flat.ops if flat.tensors[op.outputs[0]].type in {"INT8", "FLOAT32"} or op.kind == "ARG_MAX"
    ]  # no shape arithmetic
    wanted = [op for op in wanted if op.kind != DECODE]  # it makes weights
    indices = [op.outputs[0] for op in wanted if flat.tensors[op.outputs[0]].shape[:1] == (1,)]
    model.subgraphs[0].outputs = np.array(indices, np.int32)
    return pack(model), tuple(flat.names[i] for i in indices)


def pack(model: Any) -> bytes:
    """Bytes of a ModelT whose buffers are aligned to 16 bytes, as TFLM and DMA engines want them."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    model.buffers = [_AlignedBuffer(b.data) for b in model.buffers or []]
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuffer:
    """Stands in for BufferT: the generated Pack would ignore the schema's `force_align: 16`."""

    def __init__(self, data: Any) -> None:
        self.data = b"" if data is None else np.asarray(data, np.uint8).tobytes()

    def Pack(self, builder: Any) -> int:  # noqa: N802  (called by the generated ModelT.Pack)
        s, n, vector = schema(), len(self.data), 0
        if n:
            builder.StartVector(1, n, 16)
            builder.head -= n
            builder.Bytes[builder.head : builder.head + n] = self.data
            vector = builder.EndVector()
        s.BufferStart(builder)
        if n:
            s.BufferAddData(builder, vector)
        return int(s.BufferEnd(builder))


def _count(n: int, what: str, label: str, limit: int = MAX_ITEMS) -> int:
    if not 0 <= n <= limit:
        raise ModelError(f"{label}: {n} {what}; at most {limit} are read")
    return n


def _indices(vector: np.ndarray | int) -> tuple[int, ...]:
    """A vector field as a tuple; the generated code gives the integer 0 for an absent one."""
    if isinstance(vector, int):
        return ()
    if len(vector) > MAX_OPERANDS:
        raise ModelError(f"{len(vector)} operands in one list; at most {MAX_OPERANDS} are read")
    return tuple(int(v) for v in vector)


def _vector(vector: np.ndarray | int, dtype: type) -> np.ndarray:
    """A vector field, not copied: tensors may share it."""
    return np.zeros(0, dtype) if isinstance(vector, int) else vector.astype(dtype, copy=False)


def _names(graph: Any, count: int) -> list[str]:
    """The tensors' names as they are in the file."""
    names, total = [], 0
    for i in range(count):
        name = graph.Tensors(i).Name() or b""
        total += len(name)
        if total > MAX_NAME_BYTES:
            raise ModelError(f"the names of its tensors take more than {MAX_NAME_BYTES} bytes")
        names.append(name[: 4 * MAX_NAME].decode("utf-8", "replace")[:MAX_NAME])
    return names


def _operator_codes(s: ModuleType, model: Any, label: str) -> list[tuple[str, int]]:
    """(name, version) of each operator code. Old files fill only the deprecated 8-bit field, new ones both."""
    known, codes = names_of(s.BuiltinOperator), []
    for i in range(_count(model.OperatorCodesLength(), "operator codes", label)):
        code = model.OperatorCodes(i)
        value = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = known.get(value, f"operator code {value}")
        if name == "CUSTOM":
            custom = (code.CustomCode() or b"")[:64].decode("utf-8", "replace")
            name = custom if custom == DECODE else f"CUSTOM {custom!r}"
        codes.append((name, int(code.Version())))
    return codes


def _buffers(model: Any, label: str) -> list[tuple[np.ndarray | None, bool]]:
    """(bytes or None, kept outside of the flatbuffer) of each buffer."""
    result: list[tuple[np.ndarray | None, bool]] = []
    for i in range(_count(model.BuffersLength(), "buffers", label)):
        b = model.Buffers(i)
        data = None if b.DataIsNone() or b.DataLength() == 0 else b.DataAsNumpy()
        outside: Callable[[], int] = getattr(b, "Offset", lambda: 0)
        result.append((data, outside() > 1))
    return result


def _tensor(s: ModuleType, t: Any, index: int, name: str, buffers: list[tuple[np.ndarray | None, bool]]) -> FlatTensor:
    shape = _indices(t.ShapeAsNumpy())
    scale, zero_point, axis, trouble = np.zeros(0, np.float32), np.zeros(0, np.int64), 0, ""
    if len(shape) > MAX_RANK:
        trouble, shape = f"has {len(shape)} axes; at most {MAX_RANK} are read", ()
    elif any(not 0 <= d <= MAX_ELEMENTS for d in shape):
        trouble = f"has shape {list(shape)}; expected fixed sizes, 0 or more, on at most {MAX_RANK} axes"
    elif np.prod(np.array(shape, np.float64)) > MAX_ELEMENTS:
        trouble = f"has shape {list(shape)}, more than {MAX_ELEMENTS} elements"
    q = t.Quantization()
    if q is not None:
        scale, zero_point, axis = (
            _vector(q.ScaleAsNumpy(), np.float32),
            _vector(q.ZeroPointAsNumpy(), np.int64),
            int(q.QuantizedDimension()),
        )
        if q.DetailsType():
            trouble = "uses another than affine quantisation"
        if max(len(scale), len(zero_point)) > MAX_SCALES:
            trouble = f"has {len(scale)} scales and {len(zero_point)} zero points; at most {MAX_SCALES} are read"
    if t.IsVariable():
        trouble = "is a variable (state between inferences is not supported)"
    if t.Sparsity() is not None:
        trouble = "is sparse; convert the model without sparse tensors"
    at = int(t.Buffer())
    data: np.ndarray | None = None
    if at >= len(buffers):
        trouble = f"names buffer {at} of {len(buffers)}"
    else:
        data, outside = buffers[at]
        trouble = "keeps its data outside of the flatbuffer, which is not supported" if outside else trouble
    kind = names_of(s.TensorType).get(int(t.Type()), f"type {t.Type()}")
    return FlatTensor(index, name, shape, kind, data, scale, zero_point, axis, trouble)


def _operators(s: ModuleType, graph: Any, codes: list[tuple[str, int]], label: str) -> tuple[FlatOp, ...]:
    ops, operands = [], 0
    for i in range(_count(graph.OperatorsLength(), "operators", label, MAX_OPERATORS)):
        op = _operator(s, graph.Operators(i), i, codes)
        operands += len(op.inputs) + len(op.outputs)
        if operands > MAX_ALL_OPERANDS:
            raise ModelError(f"{op}: with it, there are more than {MAX_ALL_OPERANDS} operands")
        ops.append(op)
    return tuple(ops)


def _operator(s: ModuleType, op: Any, index: int, codes: list[tuple[str, int]]) -> FlatOp:
    at = int(op.OpcodeIndex())
    if at >= len(codes):
        raise ModelError(f"op {index}: names operator code {at} of {len(codes)}")
    kind, version = codes[at]
    options: dict[str, int | float] | None = None
    wanted = OPTIONS.get(kind)
    table = op.BuiltinOptions()
    if wanted is not None and table is not None and op.BuiltinOptionsType() == getattr(s.BuiltinOptions, wanted[0]):
        view = getattr(s, wanted[0])()
        view.Init(table.Bytes, table.Pos)
        options = {field: getattr(view, field)() for field in wanted[1]}
    return FlatOp(index, kind, version, _indices(op.InputsAsNumpy()), _indices(op.OutputsAsNumpy()), options)


def _check_indices(flat: FlatModel, label: str) -> None:
    problems = list(itertools.islice(_index_problems(flat, label), MAX_SHOWN + 1))
    if len(problems) > MAX_SHOWN:
        problems[-1] = f"{label}: there are more such problems"
    if problems:
        raise ModelError(problems)


def _index_problems(flat: FlatModel, label: str) -> Iterator[str]:
    n = len(flat.tensors)
    for what, indices in (("graph input", flat.inputs), ("graph output", flat.outputs)):
        yield from (f"{label}: {what} {i} is no tensor; there are {n}" for i in indices if not 0 <= i < n)
    for op in flat.ops:
        yield from (f"{label}: {op} reads tensor {i} of {n}" for i in op.inputs if not -1 <= i < n)
        yield from (f"{label}: {op} writes tensor {i} of {n}" for i in op.outputs if not 0 <= i < n)
        if not op.outputs:
            yield f"{label}: {op} writes nothing"
    if not flat.inputs or not flat.outputs or not flat.ops:
        counts = f"{len(flat.inputs)} inputs, {len(flat.outputs)} outputs and {len(flat.ops)} operators"
        yield f"{label}: the graph has {counts}; expected one or more of each"
