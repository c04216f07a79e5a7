"""Between NumPy arrays of stored integers and the bytes that lie in an arena."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinykit.engine.access import element_bits, element_bytes, tensor_bits
from tinykit.errors import ModelError
from tinykit.graph import ir

Samples = Mapping[str, np.ndarray]


def dtype(tensor: ir.Tensor) -> np.dtype:
    """Element type of an activation (little endian): as it lies in the arena, but for packed ones, which are int8 on their own."""
    if tensor.dtype == ir.Dtype.FLOAT:
        return np.dtype("<f4")
    return np.dtype(f"<i{element_bytes(tensor)}")


def as_samples(graph: ir.Graph, x: np.ndarray | Samples) -> Samples:
    """Inputs by name: a dict is taken as it is, an array as the first input's values [N, ...]."""
    return {graph.inputs[0]: x} if isinstance(x, np.ndarray) else x


def pack(tensors: list[ir.Tensor], values: Samples, sample: int) -> bytes:
    """The bytes of one sample of several tensors, one after the other.

    Raises:
        ModelError: a value does not fit into a packed element.
    """
    return b"".join(_packed(t, values[t.name][sample]) for t in tensors)


def _packed(tensor: ir.Tensor, values: np.ndarray) -> bytes:
    if not is_packed(tensor):
        return np.ascontiguousarray(values).astype(dtype(tensor)).tobytes()
    codes = values.ravel().astype(np.int64) - tensor.low
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >= 1 << tensor.bits):
        raise ModelError(f"tensor {tensor.name!r}: {values.min()}..{values.max()} do not fit {tensor.low}..{tensor.high}")
    return pack_codes(codes, tensor.bits)


def is_packed(tensor: ir.Tensor) -> bool:
    """Whether several elements share a byte in the arena."""
    return element_bits(tensor) < 8


def pack_codes(codes: np.ndarray, bits: int) -> bytes:
    """Codes 0..2^bits-1 of 4 or 2 bits, one after the other, the first in the lowest bits; the last byte is filled up with zeros."""
    each = 8 // bits
    padded = np.zeros(-(-codes.size // each) * each, np.int64)
    padded[: codes.size] = codes
    return (padded.reshape(-1, each) << np.arange(each) * bits).sum(axis=1).astype(np.uint8).tobytes()


def unpack_codes(data: bytes, bits: int, count: int) -> np.ndarray:
    """The first `count` codes, int64; the inverse of `pack_codes`."""
    each = 8 // bits
    fields = np.frombuffer(data, np.uint8)[:, None] >> np.arange(each) * bits & (1 << bits) - 1
    return fields.ravel()[:count].astype(np.int64)


def last_mask(tensor: ir.Tensor) -> int:
    """Which bits of a tensor's last byte carry something, 255 for all."""
    return (1 << (tensor_bits(tensor) - 1) % 8 + 1) - 1


def unpack(tensor: ir.Tensor, data: bytes) -> np.ndarray:
    """One sample of a tensor from its bytes; what lies behind its last element in the last byte is ignored."""
    if not is_packed(tensor):
        return np.frombuffer(data, dtype(tensor)).reshape(tensor.shape)
    return (unpack_codes(data, tensor.bits, tensor.size) + tensor.low).astype(dtype(tensor)).reshape(tensor.shape)


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
