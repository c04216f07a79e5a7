"""From a float Keras model to a `QuantizedModel`: fuse, decide which tensors share a scale, build, calibrate."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinykit.quant.arithmetic import SCALE_BITS
from tinykit.quant.equalize import equalize
from tinykit.quant.fuse import fuse
from tinykit.quant.model import QuantizedModel
from tinykit.quant.program import Node, Program
from tinykit.quant.weighted import Weighted


@dataclass(frozen=True)
class InputRange:
    """How the input is quantised: real = scale * (stored - zero_point), stored -128..127.

    The scale is rounded to 12 significant bits (see `arithmetic.short_scale`), which moves no 8-bit integer: 255 * 2^-13 < 1/2.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        fraction, exponent = math.frexp(self.scale)
        object.__setattr__(self, "scale", math.ldexp(math.floor(fraction * (1 << SCALE_BITS) + 0.5), exponent - SCALE_BITS))

    @staticmethod
    def from_affine(scale: float, offset: float) -> InputRange | None:
        """For a raw uint8 u that preprocessing maps to scale * u + offset: exact where offset is a multiple of scale, else None."""
        if scale <= 0:
            return None
        zero = -128.0 - offset / scale
        if abs(zero - round(zero)) > 1e-3 or not -128 <= round(zero) <= 127:
            return None
        return InputRange(float(np.float32(scale)), int(round(zero)))

    @staticmethod
    def from_samples(x: np.ndarray) -> InputRange:
        """From the least and largest value of float samples; 0 is always representable."""
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = float(np.float32(max(high - low, 1e-6) / 255.0))
        return InputRange(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


@dataclass
class _Group:
    """Tensors that must have one quantiser."""

    signed: bool
    max_real: float | None
    fixed: tuple[float, int] | None


class _Groups:
    """Union-find over tensors."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.group: dict[str, _Group] = {}

    def add(self, name: str, group: _Group) -> None:
        self.parent[name], self.group[name] = name, group

    def root(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def of(self, name: str) -> _Group:
        return self.group[self.root(name)]

    def tie(self, a: str, b: str) -> None:
        a, b = self.root(a), self.root(b)
        if a == b:
            return
        ga, gb = self.group[a], self.group[b]
        reals = (ga.max_real, gb.max_real)
        most = None if None in reals else max(r for r in reals if r is not None)
        self.parent[b] = a
        self.group[a] = _Group(ga.signed or gb.signed, most, ga.fixed or gb.fixed)


def build_quantized(model: Any, input_range: InputRange, batch_norm: str = "frozen", equalized: bool = False) -> QuantizedModel:
    """A quantised model with the weights of a float Keras model, activations not calibrated yet.

    Args:
        model: built functional Keras model (see `fuse`).
        input_range: quantisation of the input.
        batch_norm: "frozen" or "update".
        equalized: even out the ranges of neighbouring dense layers first (see `equalize`).

    Raises:
        ModelError: every layer without an exact integer counterpart.
    """
    program = fuse(model, batch_norm)
    if equalized:
        equalize(program)
    return from_program(program, input_range)


def from_program(program: Program, input_range: InputRange) -> QuantizedModel:
    """Builds the layers of a fused program and hands them their float weights."""
    nodes, groups = _share_scales(program, input_range)
    roots = list(dict.fromkeys(groups.root(name) for name in ["input", *(n.name for n in nodes)]))
    index = {root: i for i, root in enumerate(roots)}
    quantizers = [{"signed": groups.group[r].signed, "fixed": groups.group[r].fixed, "max_real": groups.group[r].max_real} for r in roots]
    specs = [
        {
            "name": n.name,
            "kind": n.kind,
            "inputs": n.inputs,
            "quantizer": index[groups.root(n.name)],
            "input_shapes": n.input_shapes,
            "output_shape": n.output_shape,
            "config": n.config,
        }
        for n in nodes
    ]
    quantized = QuantizedModel(
        specs, quantizers, index[groups.root("input")], program.input_shape, program.output, name=f"{program.name}_int"
    )
    for node, layer in zip(nodes, quantized.nodes):
        if isinstance(layer, Weighted) and node.weights is not None:
            layer.assign(node.weights["kernel"], node.weights["bias"], node.weights.get("batch_norm"))
    return quantized


def _share_scales(program: Program, input_range: InputRange) -> tuple[list[Node], _Groups]:
    """Ties the tensors that TFLM wants at one scale; a tensor of fixed scale is requantised before it joins others."""
    groups = _Groups()
    groups.add("input", _Group(True, None, (input_range.scale, input_range.zero_point)))
    nodes: list[Node] = []
    for node in program.nodes:
        node = copy.copy(node)
        if node.tied and len(node.inputs) > 1:
            node.inputs = [_unfixed(i, node, nodes, groups) for i in node.inputs]
        if node.tied:  # nothing of its own: what pools or moves a ReLU6 ends at 6 as well
            first = groups.of(node.inputs[0])
            groups.add(node.name, _Group(first.signed, first.max_real, None))
        else:
            groups.add(node.name, _Group(node.signed, node.max_real, node.fixed))
        if node.tied:
            for name in node.inputs:
                groups.tie(name, node.name)
        nodes.append(node)
    return nodes, groups


def _unfixed(name: str, reader: Node, nodes: list[Node], groups: _Groups) -> str:
    """`name`, or the name of a new node that requantises it because its scale is fixed."""
    source = groups.of(name)
    if source.fixed is None:
        return name
    new = f"{reader.name}_from_{name}"
    if all(n.name != new for n in nodes):
        shape = reader.input_shapes[reader.inputs.index(name)]
        nodes.append(Node(new, "requantize", [name], [shape], shape, signed=source.signed))
        groups.add(new, _Group(source.signed, None, None))
    return new
