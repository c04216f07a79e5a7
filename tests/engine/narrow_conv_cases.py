"""Single convolutions with weights of 4 and 2 bits: those of `fast_conv_cases`, and sums at the ends of what is proved."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from fast_conv_cases import WHOLE, conv

from tinykit.boards.pipeline import compile_graph, layer_table
from tinykit.boards.table import board
from tinykit.graph import ir

KINDS = ("nibbles", "ternary", "levels", "odd")
"""Weights of 4 bits; -1..1; -2..1; -3, -1, 1 and 3."""
_SMALLER = {"nibbles": 4, "ternary": 6, "levels": 6, "odd": 5}  # log2 of what int8 weights are larger by


def narrowed(graph: ir.Graph, kind: str) -> ir.Graph:
    """The same layer with weights of that kind; least and largest in its first and its last channel."""
    (op,) = graph.ops
    assert isinstance(op, ir.Conv2D)
    rng = np.random.default_rng(op.weights.size)
    low, high = {"nibbles": (-8, 7), "ternary": (-1, 1), "levels": (-2, 1), "odd": (-2, 1)}[kind]
    weights = rng.integers(low, high + 1, op.weights.shape)
    if len(weights) > 3:
        weights[0], weights[-1] = high, low
    weights[~op.weights.any(axis=(1, 2, 3))] = 0
    if kind == "odd":
        weights = 2 * weights + 1
        weights.flat[0] = 3
    shift = np.minimum(op.shift + _SMALLER[kind], -1).astype(np.int32)
    changed = dataclasses.replace(op, weights=weights.astype(np.int8), weight_bits=4 if kind == "nibbles" else 2, shift=shift)
    result = dataclasses.replace(graph, ops=[changed])
    result.validate()
    return result


def packed(graph: ir.Graph, inputs: int, outputs: int, seed: int) -> ir.Graph:
    """The same layer between tensors of other widths, their zero points at either end or inside."""
    rng, (op,) = np.random.default_rng(seed), graph.ops
    tensors = dict(graph.tensors)
    for name, bits in (("x", inputs), ("y", outputs)):
        if bits < 8:
            low = int(rng.choice([-128, -(1 << bits - 1), 0]))
            zero = low + int(rng.choice([0, (1 << bits) - 1, 1 << bits - 1]))
            tensors[name] = dataclasses.replace(graph.tensors[name], bits=bits, qmin=low, zero_point=zero)
    y = tensors["y"]
    shift = np.clip(op.shift + (8 - inputs) - (8 - outputs), -31, -1).astype(np.int32)
    bias = op.bias >> 8 - inputs
    changed = dataclasses.replace(op, act_min=max(op.act_min, y.low), act_max=min(op.act_max, y.high), shift=shift, bias=bias)
    result = dataclasses.replace(graph, tensors=tensors, ops=[changed])
    result.validate()
    return result


def single(weights: np.ndarray, bits: int, **given: object) -> ir.Graph:
    """A pointwise layer with these weights [out, depth] over 3x3 pixels."""
    graph = conv((3, 3, weights.shape[1]), weights[:, None, None, :], **given)
    return dataclasses.replace(graph, ops=[dataclasses.replace(graph.ops[0], weight_bits=bits)])


def taps_of_three(first: int, rest: int) -> ir.Graph:
    """Two channels with fields a' = 3 in the first's leading taps, 0 behind them: the sum of A' leaves 14 bits beyond 21."""
    weights = np.full((2, first + rest), -2)
    weights[0, :first] = 1
    weights[1] = np.where(np.arange(first + rest) % 2, -2, 1)
    return single(weights, 2, multiplier=WHOLE, shift=-7)


def high_sum(most: int) -> ir.Graph:
    """Two channels, the second of which reaches exactly `most`, with inputs of 255 above the zero point."""
    weights = np.ones((2, 8), int)
    weights[0] = -1
    return single(weights, 2, bias=np.array([0, most - 8 * 255]), multiplier=WHOLE, shift=-11, zeros=(-128, 3))


def counted(graph: ir.Graph, kind: str, folder: Path, toolchain: str) -> tuple[int, int]:
    """Instructions of a network's first layer with weights of 8 bits, and of fewer; both are compared with the reference on the board."""
    counts = []
    for name, each in (("int8", graph), (kind, narrowed(graph, kind))):
        compiled = compile_graph(each, board("nano33ble"), folder / name, toolchain=toolchain, samples=1)
        assert compiled.verification.mismatches == 0 and compiled.verification.unprofiled is None
        counts.append(layer_table(compiled)[0]["instructions"])
    return counts[0], counts[1]
