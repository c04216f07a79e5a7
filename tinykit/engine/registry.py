"""Which kernel runs which op."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tinykit.engine import access
from tinykit.engine.call import Call, Variant
from tinykit.engine.kernels import dense, depthwise, elementwise, fast_add, fastconv, movement, pooling, softmax, weighted
from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.plan.problem import Access


@dataclass(frozen=True)
class Kernel:
    """A way to execute ops of a kind that covers all of them.

    Attributes:
        access: (graph, op) -> what it touches, for the planner.
        call: (graph, op, reverse) -> the C function and its arguments; `reverse` as the plan decides, only if the access is reversible.
    """

    access: Callable[[ir.Graph, Any], Access]
    call: Callable[[ir.Graph, Any, bool], Call]


KERNELS: dict[str, Kernel] = {
    "conv2d": Kernel(weighted.conv_access, weighted.conv_call),
    "depthwise_conv2d": Kernel(weighted.conv_access, weighted.depthwise_call),
    "fully_connected": Kernel(access.whole, weighted.matmul_call),
    "add": Kernel(access.elementwise, elementwise.add_call),
    "sub": Kernel(access.elementwise, elementwise.add_call),
    "mul": Kernel(access.elementwise, elementwise.mul_call),
    "minimum": Kernel(access.elementwise, elementwise.extremum_call),
    "maximum": Kernel(access.elementwise, elementwise.extremum_call),
    "table": Kernel(access.elementwise, elementwise.table_call),
    "requantize": Kernel(access.elementwise, elementwise.requantize_call),
    "quantize": Kernel(access.elementwise, elementwise.quantize_call),
    "dequantize": Kernel(access.elementwise, elementwise.dequantize_call),
    "concat": Kernel(movement.concat_access, movement.concat_call),
    "pad": Kernel(movement.pad_access, movement.pad_call),
    "transpose": Kernel(movement.view_access, movement.view_call),
    "strided_slice": Kernel(movement.view_access, movement.view_call),
    "average_pool": Kernel(pooling.pool_access, pooling.pool_call),
    "max_pool": Kernel(pooling.pool_access, pooling.pool_call),
    "mean": Kernel(access.whole, pooling.mean_call),
    "argmax": Kernel(access.whole, pooling.argmax_call),
    "softmax": Kernel(softmax.softmax_access, softmax.softmax_call),
}


FAST: dict[str, Callable[[ir.Graph, Any], list[Variant]]] = {
    "conv2d": fastconv.variants,
    "depthwise_conv2d": depthwise.variants,
    "fully_connected": dense.variants,
    "add": fast_add.variants,
    "sub": fast_add.variants,
}
"""By kind, what may run instead of the portable kernel of KERNELS: the variants that cover an op, and are proved exact for it."""


def portable(graph: ir.Graph, op: ir.Op) -> Variant:
    """The kernel that every core runs. Raises ModelError where there is none, or where it refuses the op."""
    try:
        kernel = KERNELS[op.kind]
    except KeyError:
        raise ModelError(f"op {op.name!r}: the engine has no kernel for {op.kind}") from None
    kernel.call(graph, op, False)
    call = partial(kernel.call, graph, op)
    return Variant(kernel.access(graph, op), call, math.inf, weighted.part(graph, op), weighted.again(graph, op))


def fast(graph: ir.Graph, op: ir.Op) -> list[Variant]:
    """What may run instead, for an op that the portable kernel does not refuse; the quickest first."""
    return sorted(FAST[op.kind](graph, op), key=lambda variant: variant.instructions) if op.kind in FAST else []
