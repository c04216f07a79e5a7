"""Equalisation of neighbouring dense layers: the float network stays the same function, its weights fit one step a layer better."""

from __future__ import annotations

import numpy as np

from tinykit.quant.program import Node, Program


def equalize(program: Program) -> int:
    """Moves a factor for each channel across the ReLU (or nothing) between two dense layers, in place.

    relu(s z) = s relu(z) for s > 0, so dividing a channel's weights and bias in the first layer by s and multiplying its weights in the
    second by s changes nothing. A dense layer has one weight step, set by its largest weight; with s = sqrt(r1 / r2), r the channel's
    largest weights in both layers, each channel uses the same part of both ranges (Nagel et al. 2019, "Data-Free Quantization", section
    4.1). One pass, front to back: on MLPerf Tiny's autoencoder further passes bring the float reconstruction no nearer.

    Returns:
        The number of pairs that were equalised.
    """
    pairs = 0
    for first in program.nodes:
        second = _only_reader(program, first)
        if second is None or first.weights is None or second.weights is None:
            continue
        before, after = np.asarray(first.weights["kernel"], np.float64), np.asarray(second.weights["kernel"], np.float64)
        ranges = np.abs(before).max(axis=0), np.abs(after).max(axis=1)
        alive = (ranges[0] > 1e-6 * ranges[0].max(initial=0)) & (ranges[1] > 1e-6 * ranges[1].max(initial=0))
        factor = np.sqrt(np.divide(ranges[0], ranges[1], out=np.ones_like(ranges[0]), where=alive))
        first.weights |= {"kernel": _single(before / factor), "bias": _single(first.weights["bias"] / factor)}
        second.weights |= {"kernel": _single(after * factor[:, np.newaxis])}
        pairs += 1
    return pairs


def _only_reader(program: Program, node: Node) -> Node | None:
    """The dense layer that alone reads the dense layer `node`, where a factor may pass between them."""
    if node.kind != "fully_connected" or node.config.get("activation", "none") not in ("none", "relu") or node.max_real is not None:
        return None
    readers = [other for other in program.nodes if node.name in other.inputs]
    if node.name == program.output or len(readers) != 1 or readers[0].kind != "fully_connected":
        return None
    frozen = not any((each.weights or {}).get("batch_norm") for each in (node, readers[0]))
    return readers[0] if frozen else None


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)
