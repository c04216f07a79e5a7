"""From a float Keras model to a `QuantizedModel`: fuse, decide which tensors share a scale, build, calibrate."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinykit.quant.allocation.network import Bits
from tinykit.quant.arithmetic import SCALE_BITS
from tinykit.quant.equalize import equalize
from tinykit.quant.fuse import fuse
from tinykit.quant.kept import NOTHING_KEPT, Kept, Shared, mask_of, shared_of
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
class Group:
    """Tensors that must have one quantiser.

    Attributes:
        signed: some of them may be negative.
        max_real: largest real value that the range should reach, None for any.
        fixed: (scale, zero point) that one of them dictates, else None.
    """

    signed: bool
    max_real: float | None
    fixed: tuple[float, int] | None


class _Forest:
    """Union-find over tensors."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.group: dict[str, Group] = {}

    def add(self, name: str, group: Group) -> None:
        self.parent[name], self.group[name] = name, group

    def root(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def of(self, name: str) -> Group:
        return self.group[self.root(name)]

    def tie(self, a: str, b: str) -> None:
        a, b = self.root(a), self.root(b)
        if a == b:
            return
        ga, gb = self.group[a], self.group[b]
        reals = (ga.max_real, gb.max_real)
        most = None if None in reals else max(r for r in reals if r is not None)
        self.parent[b] = a
        self.group[a] = Group(ga.signed or gb.signed, most, ga.fixed or gb.fixed)


@dataclass(frozen=True)
class Tied:
    """A program whose tensors are in groups of one scale each.

    Attributes:
        nodes: the program's, with a requantisation where a tensor of fixed scale joins others.
        groups: in the order of their first tensors, the network's input first.
        index: group of each tensor, by name; the input is "input".
    """

    nodes: tuple[Node, ...]
    groups: tuple[Group, ...]
    index: dict[str, int]

    @property
    def fixed(self) -> frozenset[int]:
        """The groups whose scale an operation dictates, or the data."""
        return frozenset(i for i, group in enumerate(self.groups) if group.fixed)


def fused_program(model: Any, batch_norm: str = "frozen", equalized: bool = False) -> Program:
    """The program of a float Keras model.

    Args:
        model: built functional Keras model (see `fuse`).
        batch_norm: "frozen" or "update".
        equalized: even out the ranges of neighbouring dense layers (see `equalize`).

    Raises:
        ModelError: every layer without an exact integer counterpart.
    """
    program = fuse(model, batch_norm)
    if equalized:
        equalize(program)
    return program


def build_quantized(model: Any, input_range: InputRange, batch_norm: str = "frozen", equalized: bool = False) -> QuantizedModel:
    """A quantised model with the weights of a float Keras model, activations not calibrated yet.

    Args:
        model, batch_norm, equalized: see `fused_program`.
        input_range: quantisation of the input.

    Raises:
        ModelError: every layer without an exact integer counterpart.
    """
    return from_program(fused_program(model, batch_norm, equalized), input_range)


def from_program(
    program: Program, input_range: InputRange, bits: Bits | None = None, codebook: str = "four_levels", kept: Kept = NOTHING_KEPT
) -> QuantizedModel:
    """Builds the layers of a fused program and hands them their float weights.

    Args:
        bits: of each group of activations and each layer's weights, for `tied_program(program)`; None: 8 everywhere.
        codebook: of 2-bit weights, see `weighted.Weighted`.
        kept: what the integer weights keep of the float ones, for good.

    Raises:
        ModelError: weights cannot be kept; see `tinykit.quant.kept`.
    """
    tied = tied_program(program, input_range)
    widths = bits.groups if bits is not None else (8,) * len(tied.groups)
    weights = iter(bits.weights) if bits is not None else itertools.repeat(8)
    quantizers = [
        {"bits": width, "signed": g.signed, "fixed": g.fixed, "max_real": g.max_real} for width, g in zip(widths, tied.groups, strict=True)
    ]
    specs: list[dict[str, Any]] = []
    found: list[tuple[np.ndarray | None, Shared | None]] = []
    for n in tied.nodes:
        own: dict[str, Any] = {}
        found.append((mask_of(n, kept), shared_of(n, kept)) if n.weights is not None else (None, None))
        if n.weights is not None:
            own = _kept_config(*found[-1])
            own |= {"input_bits": widths[tied.index[n.inputs[0]]], "weight_bits": next(weights), "codebook": codebook}
        specs.append(
            {
                "name": n.name,
                "kind": n.kind,
                "inputs": n.inputs,
                "quantizer": tied.index[n.name],
                "input_shapes": n.input_shapes,
                "output_shape": n.output_shape,
                "config": {**n.config, **own},
            }
        )
    quantized = QuantizedModel(specs, quantizers, tied.index["input"], program.input_shape, program.output, name=f"{program.name}_int")
    for node, layer, (mask, shared) in zip(tied.nodes, quantized.nodes, found, strict=True):
        if isinstance(layer, Weighted) and node.weights is not None:
            layer.assign(node.weights["kernel"], node.weights["bias"], node.weights.get("batch_norm"), mask, shared)
    return quantized


def _kept_config(mask: np.ndarray | None, shared: Shared | None) -> dict[str, Any]:
    """Arguments of an integer layer that is to keep a mask and a table; none for what there is not, so that other networks' files stay as
    they were."""
    config: dict[str, Any] = {"sparse": True} if mask is not None else {}
    return config | ({"shared": shared.values.shape} if shared is not None else {})


def tied_program(program: Program, input_range: InputRange | None = None) -> Tied:
    """Ties the tensors that TFLM wants at one scale; a tensor of fixed scale is requantised before it joins others.

    Args:
        input_range: quantisation of the input; None where only the groups matter.
    """
    forest = _Forest()
    given = (input_range.scale, input_range.zero_point) if input_range is not None else (1.0, 0)
    forest.add("input", Group(True, None, given))
    nodes: list[Node] = []
    for node in program.nodes:
        node = copy.copy(node)
        if node.tied and len(node.inputs) > 1:
            node.inputs = [_unfixed(i, node, nodes, forest) for i in node.inputs]
        if node.tied:  # nothing of its own: what pools or moves a ReLU6 ends at 6 as well
            first = forest.of(node.inputs[0])
            forest.add(node.name, Group(first.signed, first.max_real, None))
        else:
            forest.add(node.name, Group(node.signed, node.max_real, node.fixed))
        if node.tied:
            for name in node.inputs:
                forest.tie(name, node.name)
        nodes.append(node)
    names = ["input", *(n.name for n in nodes)]
    roots = list(dict.fromkeys(forest.root(name) for name in names))
    index = {root: i for i, root in enumerate(roots)}
    return Tied(tuple(nodes), tuple(forest.group[r] for r in roots), {name: index[forest.root(name)] for name in names})


def _unfixed(name: str, reader: Node, nodes: list[Node], forest: _Forest) -> str:
    """`name`, or the name of a new node that requantises it because its scale is fixed."""
    source = forest.of(name)
    if source.fixed is None:
        return name
    new = f"{reader.name}_from_{name}"
    if all(n.name != new for n in nodes):
        shape = reader.input_shapes[reader.inputs.index(name)]
        nodes.append(Node(new, "requantize", [name], [shape], shape, signed=source.signed))
        forest.add(new, Group(source.signed, None, None))
    return new
