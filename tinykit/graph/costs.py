"""What a graph costs: multiply-accumulates, bytes of weights, memory alive at each op, and an estimate of TFLM's arena.

Everything but the arena's persistent part is counted, not estimated. Multiply-accumulates count padding like any other tap, as is
usual; pooling, sums and tables count none.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinykit.graph import ir

_ALIGNMENT = 16  # of a buffer in TFLM's arena (MicroArenaBufferAlignment)

# Persistent bytes of TFLM's arena on a 32-bit MCU with reference kernels: BASE + OP * ops + TENSOR * tensors + CHANNEL * channels.
# TENSOR is sizeof(TfLiteEvalTensor), CHANNEL an int32 multiplier and an int32 shift; BASE and OP are a least-squares fit to the measured
# MLPerf Tiny models: vww 26,884 (estimate +28), kws 6,724 (-116), ic 5,140 (-20), ad 1,444 (+112).
_PERSISTENT_BASE, _PERSISTENT_OP, _PERSISTENT_TENSOR, _PERSISTENT_CHANNEL = -136, 132, 12, 8
_PERSISTENT_ERROR = 116

CHANNEL_TABLE_BYTES = 8
"""Of requantisation, an output channel: int32 multiplier and int32 shift."""


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of an op's constants: weights packed at their bits, int32 biases."""

    weights: int
    biases: int


@dataclass(frozen=True)
class LayerRow:
    """One op, as a row of layers.csv.

    Attributes:
        name, kind: of the op.
        input_shape: of its first input, without the batch.
        output_shape: without the batch.
        macs: multiply-accumulates of one sample.
        weight_bits: 0 where the op has no weights.
        activation_bits: of its output.
        weight_bytes: packed weights.
        bias_bytes: int32 biases.
        quant_bytes: int32 multiplier and int32 shift of each output row, or the 256 entries of a table.
        live_bytes: activations alive while the op runs.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    macs: int
    weight_bits: int
    activation_bits: int
    weight_bytes: int
    bias_bytes: int
    quant_bytes: int
    live_bytes: int


@dataclass(frozen=True)
class StepMemory:
    """Activations alive while an op runs: bytes by tensor (a reshape's result under the name of the tensor whose bytes it shares)."""

    op: str
    live: dict[str, int]
    total: int


@dataclass(frozen=True)
class ArenaEstimate:
    """TFLM's arena in bytes: planned activations, persistent structures, their sum, and how far the figure may be off."""

    activations: int
    persistent: int
    total: int
    error_note: str


def op_macs(graph: ir.Graph, op: ir.Op) -> int:
    """Multiply-accumulates of one sample."""
    if isinstance(op, (ir.Conv2D, ir.DepthwiseConv2D)):
        height, width, _ = graph.tensors[op.output].shape
        return height * width * op.weights.size
    return op.weights.size if isinstance(op, ir.Weighted) else 0


def total_macs(graph: ir.Graph) -> int:
    """Multiply-accumulates of one sample over all ops."""
    return sum(op_macs(graph, op) for op in graph.ops)


def op_weight_bytes(op: ir.Op) -> WeightBytes:
    """Bytes of the op's weights and biases; 0 and 0 for an op without weights."""
    if not isinstance(op, ir.Weighted):
        return WeightBytes(0, 0)
    return WeightBytes((op.weights.size * op.weight_bits + 7) // 8, 4 * op.bias.size)


def layer_rows(graph: ir.Graph) -> list[LayerRow]:
    """One row an op, in execution order."""
    rows = []
    for op, memory in zip(graph.ops, liveness(graph)):
        size = op_weight_bytes(op)
        rows.append(
            LayerRow(
                name=op.name,
                kind=op.kind,
                input_shape=graph.tensors[op.inputs[0]].shape,
                output_shape=graph.tensors[op.output].shape,
                macs=op_macs(graph, op),
                weight_bits=op.weight_bits if isinstance(op, ir.Weighted) else 0,
                activation_bits=_bits(graph.tensors[op.output]),
                weight_bytes=size.weights,
                bias_bytes=size.biases,
                quant_bytes=_quant_bytes(graph, op),
                live_bytes=memory.total,
            )
        )
    return rows


def liveness(graph: ir.Graph) -> list[StepMemory]:
    """Activations alive while each op runs: its inputs, its output, and whatever is needed later.

    Graph inputs live from the start to their last reader, graph outputs to the end. The result of a reshape is the same buffer as its input
    and counts once. Constants live in flash and do not count.
    """
    owners = _owners(graph)
    spans = _spans(graph, owners)
    steps = []
    for i, op in enumerate(graph.ops):
        live = {name: _nbytes(graph.tensors[name]) for name, (first, last) in spans.items() if first <= i <= last}
        steps.append(StepMemory(op.name, live, sum(live.values())))
    return steps


def peak(graph: ir.Graph) -> StepMemory:
    """The (first) step with the most bytes alive: a lower bound of any plan that neither works in place nor overlaps buffers.

    A graph without ops holds its inputs.
    """
    steps = liveness(graph)
    if not steps:
        live = {name: _nbytes(graph.tensors[name]) for name in graph.inputs}
        return StepMemory("", live, sum(live.values()))
    return max(steps, key=lambda step: step.total)


def tflm_arena_estimate(graph: ir.Graph) -> ArenaEstimate:
    """TFLM's arena for this graph on a 32-bit MCU with its reference kernels.

    The activations follow TFLM's default planner: largest buffer first, each at the lowest offset where nothing alive at the same time
    lies, 16-byte alignment; a reshape is a copy there. The persistent part is -136 + 132 * ops + 12 * tensors + 8 * output rows of
    convolutions and of per-channel dense layers, where 12 and 8 are sizes of TFLM's structures and the other two a least-squares fit to the
    four MLPerf Tiny reference models, which it misses by up to 116 bytes. Scratch buffers of optimised kernels are not in it.
    """
    plan = greedy_offsets(_buffers(graph))
    activations = max((offset + size for offset, size in plan), default=0)
    persistent = max(0, _persistent(graph))
    note = (
        "planned activations follow TFLM's greedy planner; persistent part fitted to the four MLPerf Tiny models within "
        f"{_PERSISTENT_ERROR} B (reference kernels, 32-bit); a planner inside the arena adds 48 B, CMSIS-NN adds its scratch buffers"
    )
    return ArenaEstimate(activations, persistent, activations + persistent, note)


def greedy_offsets(buffers: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Places buffers (bytes, first step, last step) greedily by size: (offset, aligned bytes) of each, in the given order.

    The largest goes first, of equals the later in the list, as in TFLM. Each takes the lowest aligned offset at which it overlaps no placed
    buffer that is alive at one of its steps.
    """
    sizes = [-(-size // _ALIGNMENT) * _ALIGNMENT for size, _, _ in buffers]
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for i in sorted(range(len(buffers)), key=lambda i: (-sizes[i], -i)):
        _, first, last = buffers[i]
        neighbours = sorted((offsets[j], sizes[j]) for j in placed if buffers[j][1] <= last and first <= buffers[j][2])
        offset = 0
        for start, size in neighbours:
            if offset + sizes[i] <= start:
                break
            offset = max(offset, start + size)
        offsets[i] = offset
        placed.append(i)
    return list(zip(offsets, sizes))


def _bits(tensor: ir.Tensor) -> int:
    return 32 if tensor.dtype == ir.Dtype.FLOAT else tensor.bits


def _nbytes(tensor: ir.Tensor) -> int:
    return (tensor.size * _bits(tensor) + 7) // 8


def _quant_bytes(graph: ir.Graph, op: ir.Op) -> int:
    if isinstance(op, ir.Weighted):
        return CHANNEL_TABLE_BYTES * op.bias.size
    return 1 << min(_bits(graph.tensors[op.inputs[0]]), 8) if isinstance(op, ir.Table) else 0


def _owners(graph: ir.Graph) -> dict[str, str]:
    """Activation -> the tensor whose bytes it shares: itself, or where it comes from through reshapes."""
    owners = {name: name for name in graph.inputs}
    for op in graph.ops:
        shared = isinstance(op, ir.Reshape) and op.inputs[0] in owners
        owners[op.output] = owners[op.inputs[0]] if shared else op.output
    return owners


def _spans(graph: ir.Graph, owners: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Owner -> (first, last) step at which its bytes are needed."""
    spans = {name: (0, 0) for name in graph.inputs}

    def extend(tensor: str, step: int) -> None:
        owner = owners[tensor]
        first, last = spans.get(owner, (step, step))
        spans[owner] = (first, max(last, step))

    for i, op in enumerate(graph.ops):
        for t in (*op.inputs, op.output):
            if t in owners:
                extend(t, i)
    for t in graph.outputs:
        if t in owners:
            extend(t, max(len(graph.ops) - 1, 0))
    return spans


def _buffers(graph: ir.Graph) -> list[tuple[int, int, int]]:
    """(bytes, first step, last step) of every activation as TFLM allocates it: sub-byte values in whole bytes, no aliases."""
    spans = _spans(graph, {t.name: t.name for t in graph.activations()})
    return [(t.size * max(8, _bits(t)) // 8, *spans[t.name]) for t in graph.activations()]


def _persistent(graph: ir.Graph) -> int:
    """Bytes that TFLM allocates for good: structures for ops and tensors, multipliers and shifts computed at run time."""
    weighted = [op for op in graph.ops if isinstance(op, ir.Weighted)]
    shapes = sum(isinstance(op, ir.Reshape) for op in graph.ops)  # a RESHAPE carries its shape as a tensor
    tensors = len(graph.inputs) + len(graph.ops) + len(graph.constants) + 2 * len(weighted) + shapes
    channels = sum(op.bias.size for op in weighted if not isinstance(op, ir.FullyConnected) or len(op.weight_scale) > 1)
    fitted = _PERSISTENT_BASE + _PERSISTENT_OP * len(graph.ops) + _PERSISTENT_TENSOR * tensors
    return fitted + _PERSISTENT_CHANNEL * channels
