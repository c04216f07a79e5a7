"""What a fused model consists of: nodes, and why something cannot be one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tinykit.quant.layer import Shape


@dataclass
class Node:
    """One operation to be.

    Attributes:
        kind: of the integer layer (`QLayer.kind`).
        inputs: names of earlier nodes, or "input".
        config: constructor arguments of the integer layer beyond the shapes.
        weights: float arrays for `Weighted.assign`: kernel, bias and, where batch norm stays a variable, batch_norm.
        tied: the output must share the quantiser of its inputs.
        fixed: (scale, zero point) that the operation itself decides.
        signed: False when the output is never negative.
        max_real: largest real output (ReLU6).
    """

    name: str
    kind: str
    inputs: list[str]
    input_shapes: list[Shape]
    output_shape: Shape
    config: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    tied: bool = False
    fixed: tuple[float, int] | None = None
    signed: bool = True
    max_real: float | None = None


@dataclass
class Program:
    """The fused model: nodes in execution order, the shape of the input as the user's model has it."""

    nodes: list[Node]
    input_shape: Shape
    output: str
    name: str


class Unsupported(Exception):
    """Why one layer cannot be represented."""


@dataclass
class Value:
    name: str
    shape: Shape
    signed: bool = True


def plane(shape: tuple[int | None, ...]) -> Shape:
    """Shape of a Keras tensor (without batch) as the graph sees it: (L, C) becomes (1, L, C)."""
    if any(d is None for d in shape):
        raise Unsupported(f"its shape {tuple(shape)} is not fixed; give the model's input a fixed size")
    if len(shape) not in (1, 2, 3):
        raise Unsupported(f"a tensor of {len(shape)} dimensions without the batch; 1 to 3 are supported")
    sizes = tuple(int(d) for d in shape if d is not None)
    return (1, *sizes) if len(sizes) == 2 else sizes
