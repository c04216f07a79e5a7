"""The engine's graph before anything is trained: right in shapes and bits, with the weights and steps of a network that nobody calibrated.

What a plan and a link cost depends on shapes and widths alone, so that an allocation can be judged in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tinykit.graph import ir
from tinykit.graph.build import softmax_parameters
from tinykit.quant.allocation.network import Bits, Network
from tinykit.quant.allocation.program import network_of
from tinykit.quant.convert import InputRange, from_program, tied_program
from tinykit.quant.grid import nearest_integers, weight_grid
from tinykit.quant.kept import NOTHING_KEPT, Kept
from tinykit.quant.lowering import lower
from tinykit.quant.program import Program
from tinykit.quant.quantizer import least_stored

ANY_RANGE = InputRange(1.0 / 128, 0)
FOUR_LEVELS = "four_levels"
_LOGIT_SCALE = 0.1
"""Such as trained networks have: differences of up to 25.5, and no power of two, which would take less code."""


@dataclass(frozen=True)
class Preview:
    """A network for allocators and for the engine.

    Attributes:
        network: what allocators see.
        graph: the integer network with 8 bits everywhere.
        groups: tensor of the graph -> group.
        codebook: of 2-bit weights; each has kernels of its own.
    """

    network: Network
    graph: ir.Graph
    groups: dict[str, int]
    codebook: str = FOUR_LEVELS

    def with_bits(self, bits: Bits) -> ir.Graph:
        """The graph with other widths: its values are clamped into them."""
        graph = self.graph.copy()
        for name, group in self.groups.items():
            graph.tensors[name] = _narrow(graph.tensors[name], bits.groups[group])
        widths = dict(zip((layer.name for layer in self.network.layers), bits.weights, strict=True))
        graph.ops = [_narrow_op(graph, op, widths.get(op.name, 8), self.codebook) for op in graph.ops]
        return graph


def preview(program: Program, input_range: InputRange = ANY_RANGE, codebook: str = FOUR_LEVELS, kept: Kept = NOTHING_KEPT) -> Preview:
    """What a fused program will be on a board.

    Args:
        input_range: of the network's input, where it is known: windows at its edges are padded with its zero point, which is code.
        codebook: that 2-bit weights will have.
        kept: what the integer weights keep of the float ones.

    Raises:
        ModelError: a layer has no exact integer counterpart.
    """
    graph = lower(from_program(program, input_range, kept=kept), program.name)
    return Preview(network_of(program), graph, tied_program(program, input_range).index, codebook)


def _narrow(tensor: ir.Tensor, width: int) -> ir.Tensor:
    if width == 8 or tensor.dtype != ir.Dtype.INT:
        return tensor
    unsigned = tensor.zero_point == -128
    return replace(tensor, bits=width, qmin=least_stored(width, not unsigned), zero_point=-128 if unsigned else 0)


def _narrow_op(graph: ir.Graph, op: ir.Op, width: int, codebook: str) -> ir.Op:
    y = graph.tensors[op.output]
    changes: dict[str, object] = {}
    for clamp in ("act_min", "act_max"):
        if hasattr(op, clamp):
            changes[clamp] = int(np.clip(getattr(op, clamp), y.low, y.high))
    if isinstance(op, ir.Weighted):
        weights = nearest_integers(op.weights.astype(np.float64), *weight_grid(width, codebook))
        changes |= {"weights": weights.astype(np.int8), "weight_bits": width}
        if min(width, y.bits, graph.tensors[op.inputs[0]].bits) < 8:  # tables as large as training can make them: no bias fits 16 bits
            changes["bias"] = op.bias + (1 << 18) + np.arange(op.bias.size, dtype=np.int32)
    if isinstance(op, ir.Table):
        changes["table"] = np.clip(op.table, y.low, y.high).astype(op.table.dtype)
    if isinstance(op, ir.Pad):
        changes["value"] = y.zero_point
    if isinstance(op, ir.Softmax):  # of trained logits some lie so low that they count as 0, which takes code
        multiplier, left_shift, least = softmax_parameters(replace(graph.tensors[op.inputs[0]], scale=_LOGIT_SCALE))
        changes |= {"multiplier": multiplier, "left_shift": left_shift, "diff_min": least}
    return replace(op, **changes) if changes else op  # type: ignore[arg-type]


def drifted(graph: ir.Graph) -> ir.Graph:
    """A calibrated network whose outputs have steps of half the size, as training may find them: sums of a half and more of a step take
    kernels that also shift to the left. Those that do already stay: what is shifted further might leave 32 bits."""
    found = graph.copy()
    found.ops = [replace(op, shift=op.shift + (op.shift < 0)) if isinstance(op, ir.Weighted) else op for op in found.ops]
    return found
