"""Which fast kernels can run a dense layer."""

from __future__ import annotations

from tinykit.engine.call import Variant
from tinykit.engine.kernels import dense_packed, fast_dense
from tinykit.graph import ir


def variants(graph: ir.Graph, op: ir.FullyConnected) -> list[Variant]:
    """The kernel for int8, or the one for layers with anything packed."""
    return fast_dense.variants(graph, op) or dense_packed.variants(graph, op)
