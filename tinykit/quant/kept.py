"""What an integer network keeps of the float weights it is made from: which are zero, and which share a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.errors import ModelError

if TYPE_CHECKING:
    from tinykit.quant.program import Node, Program

SCALED = (
    "a Normalization or Rescaling before it scales its input channels one by one, so that weights of one value become different integers"
)
"""Why a layer's weights cannot share values."""
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Kept:
    """What is kept.

    Attributes:
        zeros: weights that are 0 stay 0.
        clusters: a layer whose weights have at most so many values, in the tensor or in each channel, has no more integers there; None: no
            layer.
    """

    zeros: bool = False
    clusters: int | None = None


NOTHING_KEPT = Kept()


@dataclass(frozen=True)
class Shared:
    """The weights of a layer as entries of a table.

    Attributes:
        indices: int [*kernel shape], into the flat table.
        values: float64 [rows, entries]: one row for all channels, or one each.
        gains: float64 [channels]: a weight is its value times the gain of its channel.
    """

    indices: np.ndarray
    values: np.ndarray
    gains: np.ndarray


def most_values(columns: np.ndarray) -> tuple[int, int]:
    """(different values in the whole array, most in one column) of [products, channels]."""
    ordered = np.sort(columns, axis=0)
    a_column = 1 + (np.diff(ordered, axis=0) != 0).sum(axis=0)
    return len(np.unique(columns)), int(a_column.max(initial=1))


def shares_values(columns: np.ndarray, most: int) -> str | None:
    """How weights [products, channels] share at most so many values: 'tensor', 'channel', or None where they do not, or are so few that
    they could not do otherwise."""
    tensor, channel = most_values(columns)
    if columns.size > most >= tensor:
        return "tensor"
    return "channel" if len(columns) > most >= channel else None


def mask_of(node: Node, kept: Kept) -> np.ndarray | None:
    """Float32 of the kernel's shape, 0 where the weight has to stay 0; None where no weight has to."""
    raw = _raw(node)
    return (raw != 0).astype(np.float32) if kept.zeros and not raw.all() else None


def shared_of(node: Node, kept: Kept) -> Shared | None:
    """How the layer's weights share values; None where they do not.

    Raises:
        ModelError: what was folded into the weights would give those that share a value other codes.
    """
    raw = _raw(node)
    columns = raw.reshape(-1, raw.shape[-1])
    table = shares_values(columns, kept.clusters) if kept.clusters is not None else None
    if table is None:
        return None
    kernel, gains, scaled = _gains(node)
    if scaled:
        raise ModelError(f"layer {node.name!r}: {SCALED}: leave it free in `layers` of the step `cluster`, or take it out of `preserve`")
    if table == "channel" or node.kind == "fully_connected" and not np.array_equal(kernel, columns):
        return _by_channel(raw, columns, kernel)
    values, indices = np.unique(raw, return_inverse=True)
    norm = (node.weights or {}).get("batch_norm")
    if (gains < 0).any() or (norm is not None and (norm["gamma"] < 0).any()):
        raise ModelError(
            f"layer {node.name!r}: its batch norm has negative gains, which gives its channels other codes: cluster it with table: channel"
        )
    return Shared(indices.reshape(raw.shape), values[None].astype(np.float64), gains)


def scaled_inputs(program: Program) -> set[str]:
    """Names of layers whose weights cannot share values: each input channel's are multiplied with a number of its own, of a Normalization
    or Rescaling before the layer that is folded into it."""
    return {node.name for node in program.nodes if node.weights is not None and _gains(node)[2]}


def _gains(node: Node) -> tuple[np.ndarray, np.ndarray, bool]:
    """(the integer layer's kernel as float64 [products, channels], the factor of each channel [channels] between the float layer's weights
    and that, whether there is more between them than these factors)."""
    raw = _raw(node)
    columns = raw.reshape(-1, raw.shape[-1]).astype(np.float64)
    kernel = np.asarray((node.weights or {})["kernel"], np.float64).reshape(columns.shape)
    powers = (columns**2).sum(axis=0)
    gains = np.divide((kernel * columns).sum(axis=0), powers, out=np.zeros_like(powers), where=powers > 0)
    scaled = np.abs(kernel - columns * gains).max(initial=0) > _TOLERANCE * np.abs(kernel).max(initial=0)
    return kernel, gains, bool(scaled)


def _raw(node: Node) -> np.ndarray:
    """The weights as the float layer has them, in the shape of the integer layer's kernel."""
    weights: dict[str, Any] = node.weights or {}
    return np.asarray(weights["raw"]).reshape(np.asarray(weights["kernel"]).shape)


def _by_channel(raw: np.ndarray, columns: np.ndarray, kernel: np.ndarray) -> Shared:
    """A table a channel, of what is in the kernel by now."""
    found = [np.unique(column, return_inverse=True) for column in columns.T]
    entries = max(len(own) for own, _ in found)
    values, indices = np.zeros((len(found), entries)), np.empty(columns.shape, np.int64)
    for channel, (own, numbers) in enumerate(found):
        counts = np.bincount(numbers, minlength=len(own))
        values[channel, : len(own)] = np.bincount(numbers, kernel[:, channel], minlength=len(own)) / counts
        indices[:, channel] = channel * entries + numbers
    return Shared(indices.reshape(raw.shape), values, np.ones(len(found)))
