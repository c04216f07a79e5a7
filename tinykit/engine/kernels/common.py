"""What several kernels share: checks of element types, operands in arena or flash, proofs for the scaling helpers, loop nests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinykit.engine.call import Argument, Call, Place, Table
from tinykit.engine.memory import is_packed
from tinykit.errors import ModelError
from tinykit.graph import ir

IN, OUT = "const int8_t *", "int8_t *"


def integers(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """int32 parameters."""
    return tuple(("int32_t", name) for name in names)


# ---------------------------------------------------------------- operands


def expect_int8(graph: ir.Graph, op: ir.Op, *tensors: str) -> None:
    """Raises ModelError where a tensor (default: any of the op's) is not held as int8."""
    for name in tensors or (*op.inputs, op.output):
        t = graph.tensors[name]
        if t.dtype != ir.Dtype.INT or t.low < -128 or t.high > 127:
            kind = "float32" if t.dtype == ir.Dtype.FLOAT else f"integers {t.low}..{t.high}"
            raise ModelError(f"op {op.name!r}: the engine's {op.kind} takes int8, tensor {name!r} holds {kind}")


def expect_range(graph: ir.Graph, op: ir.Op, low: int, high: int) -> None:
    """Raises ModelError where results may lie in `low`..`high` and the output is packed and cannot hold them."""
    y = graph.tensors[op.output]
    if is_packed(y) and not y.low <= low <= high <= y.high:
        raise ModelError(f"op {op.name!r}: results {low}..{high} do not fit the {y.bits} bits of {y.name!r}, which holds {y.low}..{y.high}")


def limits(graph: ir.Graph, tensor: str) -> tuple[int, int]:
    """Least and largest stored integer that an operand can hold; those that a constant does hold."""
    if tensor in graph.constants and graph.constants[tensor].size:
        return int(graph.constants[tensor].min()), int(graph.constants[tensor].max())
    return graph.tensors[tensor].low, graph.tensors[tensor].high


def expect_copies(graph: ir.Graph, op: ir.Op) -> None:
    """Raises ModelError where the output cannot hold every element of the inputs."""
    ranges = [limits(graph, t) for t in op.inputs]
    expect_range(graph, op, min(low for low, _ in ranges), max(high for _, high in ranges))


def operand(graph: ir.Graph, op: ir.Op, tensor: str) -> Argument:
    """An activation, or a constant as a table in flash."""
    if tensor not in graph.constants:
        return Place(tensor)
    values = graph.constants[tensor]
    if values.size and (int(values.min()) < -128 or int(values.max()) > 127):
        raise ModelError(f"op {op.name!r}: constant {tensor!r} does not fit int8")
    return Table("c", values.astype(np.int8).ravel())


def reach(tensor: ir.Tensor) -> int:
    """Largest |stored - zero point|."""
    return max(abs(tensor.low - tensor.zero_point), abs(tensor.high - tensor.zero_point))


# ---------------------------------------------------------------- some channels alone

_CHANNEL_TABLES = ("bias", "multiplier", "shift", "biases", "codes")


def channels_part(call: Call, first: int, last: int) -> Call:
    """A layer's call for the channels of the records `first` to `last` of its weights alone, the last excluded; its output is of bytes.

    `channels` is how many it computes, `out` where the first one goes; its tables have an entry a channel, or are padded to whole records.
    """
    arguments = dict(call.arguments)
    weights, out, channels = arguments["weights"], arguments["out"], arguments["channels"]
    if not (isinstance(weights, Table) and weights.layout and isinstance(out, Place) and isinstance(channels, int)):
        raise AssertionError(f"{call.function.name} has no records of channels")
    size, each = weights.layout.record, weights.layout.channels
    begin, end = each * first, min(each * last, channels)
    arguments["weights"] = replace(weights, values=weights.values[first * size : last * size])
    arguments["out"], arguments["channels"] = replace(out, offset=out.offset + begin), end - begin
    for name in _CHANNEL_TABLES:
        table = arguments.get(name)
        if isinstance(table, Table):
            arguments[name] = replace(table, values=table.values[begin : each * last])
    if "count" in arguments:
        arguments["count"] = end - begin
    return replace(call, arguments=arguments)


# ---------------------------------------------------------------- scaling


@dataclass(frozen=True)
class Scale:
    """How one kind of sum is scaled: the helper from `support`, and the multiplier and shift as it takes them."""

    helper: str
    multiplier: int
    shift: int

    @property
    def tag(self) -> str:
        """Part of a function's name."""
        return {"tk_scale": "", "tk_scale_any": "_any", "tk_scale_once": "_once"}[self.helper]


def scale(op: ir.Op, bound: int, multiplier: int, shift: int, rounding: ir.Rounding, exact: bool = False) -> Scale:
    """The cheapest helper that is exact for |sum| <= `bound`.

    Args:
        exact: do not use the cheapest, but one that takes any shift.

    Raises:
        ModelError: a sum could leave 32 bits when it is shifted left, where the reference refuses too, or the shift is out of range.
    """
    if multiplier == 0:
        shift = -1  # 0 * anything is 0 after any shift
    if not -31 <= shift <= 30 or bound << max(shift, 0) >= 1 << 31:
        raise ModelError(f"op {op.name!r}: a sum leaves 32 bits when it is scaled by 2^{shift}; the output scale is too small or too large")
    if rounding == ir.Rounding.SINGLE:
        return Scale("tk_scale_once", multiplier, shift)
    if shift < 0 and bound < 1 << 30 and not exact:
        return Scale("tk_scale", multiplier, -shift)
    return Scale("tk_scale_any", multiplier, shift)


# ---------------------------------------------------------------- loop nests


def row_major(shape: Sequence[int]) -> list[int]:
    """Strides of a dense tensor, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return strides[::-1]


def collapse(shape: Sequence[int], walks: Mapping[str, Sequence[int]]) -> tuple[list[int], dict[str, list[int]]]:
    """The same walks over fewer axes: those of length 1 dropped, neighbours merged where every walk passes through both in one stride.

    Args:
        shape: lengths of the axes.
        walks: index variable -> its stride along each axis.
    """
    sizes: list[int] = []
    strides: dict[str, list[int]] = {name: [] for name in walks}
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if sizes and all(strides[name][-1] == walk[axis] * size for name, walk in walks.items()):
            sizes[-1] *= size
            for name, walk in walks.items():
                strides[name][-1] = walk[axis]
            continue
        sizes.append(size)
        for name, walk in walks.items():
            strides[name].append(walk[axis])
    return (sizes, strides) if sizes else ([1], {name: [1] for name in walks})


@dataclass(frozen=True)
class Nest:
    """Nested loops in C.

    Attributes:
        text: the loops, with `@BODY@` in the innermost.
        values: arguments, by parameter name: where each index starts, how often each loop runs, what is added after each pass.
    """

    text: str
    values: dict[str, Argument]

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """The parameters that the text uses."""
        return integers(self.values)


def nest(sizes: Sequence[int], strides: Mapping[str, Sequence[int]], reverse: bool = False, prefix: str = "", first: bool = True) -> Nest:
    """Loops over axes, outermost first, that keep an index for every walk; in reverse from the last element to the first.

    Indices rather than pointers: an index may pass the end of an array, a pointer may not.

    Args:
        prefix: of the parameters' and counters' names, where a kernel has two nests.
        first: declare the indices here, from parameters `<index>_first`.
    """
    sign, depth = (-1 if reverse else 1), len(sizes)
    values: dict[str, Argument] = {}
    lines = []
    if first:
        for name, walk in strides.items():
            values[f"{name}_first"] = sum((n - 1) * s for n, s in zip(sizes, walk)) if reverse else 0
        lines.append("    int32_t " + ", ".join(f"{name} = {name}_first" for name in strides) + ";\n")
    for level in reversed(range(depth)):
        counter = f"{prefix}n{level}"
        lines.append(f"{_indent(depth - level)}for (int32_t {counter} = {prefix}count_{level}; {counter} > 0; --{counter}) {{\n")
        values[f"{prefix}count_{level}"] = sizes[depth - 1 - level]
    lines.append("@BODY@")
    for level in range(depth):
        axis = depth - 1 - level
        for name, walk in strides.items():
            inner = walk[axis + 1] * sizes[axis + 1] if level else 0  # what the inner loops have added already
            values[f"{name}_{prefix}step_{level}"] = sign * (walk[axis] - inner)
            lines.append(f"{_indent(depth - level + 1)}{name} += {name}_{prefix}step_{level};\n")
        lines.append(f"{_indent(depth - level)}}}\n")
    return Nest("".join(lines), values)


def _indent(level: int) -> str:
    return "    " * level


def indented(text: str, levels: int) -> str:
    """Lines moved to the right."""
    return "".join(_indent(levels) + line + "\n" for line in text.splitlines())
