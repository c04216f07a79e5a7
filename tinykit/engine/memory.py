"""Between NumPy arrays of stored integers and the bytes that lie in an arena."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinykit.engine.access import element_bytes
from tinykit.graph import ir

Samples = Mapping[str, np.ndarray]


def dtype(tensor: ir.Tensor) -> np.dtype:
    """Element type of an activation in the arena (little endian)."""
    if tensor.dtype == ir.Dtype.FLOAT:
        return np.dtype("<f4")
    return np.dtype(f"<i{element_bytes(tensor)}")


def as_samples(graph: ir.Graph, x: np.ndarray | Samples) -> Samples:
    """Inputs by name: a dict is taken as it is, an array as the first input's values [N, ...]."""
    return {graph.inputs[0]: x} if isinstance(x, np.ndarray) else x


def pack(tensors: list[ir.Tensor], values: Samples, sample: int) -> bytes:
    """The bytes of one sample of several tensors, one after the other."""
    return b"".join(np.ascontiguousarray(values[t.name][sample]).astype(dtype(t)).tobytes() for t in tensors)


def unpack(tensor: ir.Tensor, data: bytes) -> np.ndarray:
    """One sample of a tensor from its bytes."""
    return np.frombuffer(data, dtype(tensor)).reshape(tensor.shape)


def inputs_of(graph: ir.Graph) -> list[ir.Tensor]:
    """The network's inputs."""
    return [graph.tensors[t] for t in graph.inputs]


def outputs_of(graph: ir.Graph) -> list[ir.Tensor]:
    """The network's outputs."""
    return [graph.tensors[t] for t in graph.outputs]


def random_samples(graph: ir.Graph, count: int, seed: int = 0) -> Samples:
    """Inputs that reach into a network's corners: uniform noise, coarse patterns (blocks of equal values) and both extremes.

    Returns:
        input name -> int64 [count, *shape] of stored integers, float32 where the input is float."""
    rng = np.random.default_rng(seed)
    return {t.name: np.stack([_sample(t, i, rng) for i in range(count)]) for t in inputs_of(graph)}


def _sample(tensor: ir.Tensor, index: int, rng: np.random.Generator) -> np.ndarray:
    low, high, kind = tensor.low, tensor.high, index % 8
    if tensor.dtype == ir.Dtype.FLOAT:
        return rng.normal(0, 10.0 ** rng.uniform(-1, 2), tensor.shape).astype(np.float32)
    if kind in (5, 6):
        return np.full(tensor.shape, low if kind == 5 else high, np.int64)
    if kind in (1, 3, 7) and tensor.size > 1:
        block = int(rng.integers(2, max(3, tensor.size // 4)))
        coarse = rng.integers(low, high + 1, -(-tensor.size // block))
        return np.repeat(coarse, block)[: tensor.size].reshape(tensor.shape)
    return rng.integers(low, high + 1, tensor.shape)
