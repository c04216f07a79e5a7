"""Which kernels can run a depthwise convolution."""

from __future__ import annotations

from dataclasses import replace

from tinykit.engine.call import Variant
from tinykit.engine.kernels import fast_depthwise, fast_depthwise_any
from tinykit.engine.kernels.depthwise_plane import scaling
from tinykit.engine.memory import is_packed
from tinykit.engine.requant import code_base
from tinykit.graph import ir


def variants(graph: ir.Graph, op: ir.DepthwiseConv2D) -> list[Variant]:
    """The fast kernel that covers a layer, if there is one; 3x3 windows have their own."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    low = code_base(y)
    op = replace(op, act_min=op.act_min - low, act_max=op.act_max - low)
    x, y = (replace(t, zero_point=t.zero_point - t.low, qmin=0) if is_packed(t) else t for t in (x, y))
    if x.name in graph.constants or not y.size:
        return []
    scale = scaling(op, x, y)
    if scale is None:
        return []
    found = (kernel.variant(graph, op, x, y, scale) for kernel in (fast_depthwise, fast_depthwise_any))
    return next(([one] for one in found if one is not None), [])
