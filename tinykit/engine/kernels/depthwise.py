"""Which kernels can run a depthwise convolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tinykit.engine.call import Call, Variant
from tinykit.engine.kernels import fast_depthwise, fast_depthwise_any
from tinykit.graph import costs, ir

_SMALL, _ANY = 2.5, 4.0  # instructions a product, about; 3x3 windows and any others


def variants(graph: ir.Graph, op: ir.DepthwiseConv2D) -> list[Variant]:
    """The fast kernel that covers a layer, if there is one; 3x3 windows have their own."""
    for kernel, rate in ((fast_depthwise, _SMALL), (fast_depthwise_any, _ANY)):
        if kernel.covers(graph, op):
            return [Variant(kernel.fast_access(graph, op), partial(_call, kernel.fast_call, graph, op), rate * costs.op_macs(graph, op))]
    return []


def _call(make: Callable[[ir.Graph, ir.DepthwiseConv2D], Call], graph: ir.Graph, op: ir.DepthwiseConv2D, reverse: bool) -> Call:
    """Planes of channels are worked on in one direction only."""
    return make(graph, op)
