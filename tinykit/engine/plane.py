"""Sums of two quantised operands as one plane: output = clamp((A a + B b + C) >> S).

To add two int8 TFLM rounds three products, but there are 65536 pairs of operands at most. Two multiply-accumulates give the same
bytes if for every pair the sum lies where the output asks for it. For given slopes A and B each pair bounds C from below and from above;
where slopes near the real ones leave any C, that is the proof. They nearly always do, since S is as large as 32 bits allow.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from tinykit.graph import ir, reference

_NEAR = 3  # slopes are tried up to this many units beside the real ones
_LIMIT = (1 << 31) - 1


@dataclass(frozen=True)
class Plane:
    """Constants: `slopes` are A and B, `offset` is C, `shift` is S."""

    slopes: tuple[int, int]
    offset: int
    shift: int


def fit(graph: ir.Graph, op: ir.Binary) -> Plane | None:
    """The plane of an ADD or SUB of int8, exact for every pair of stored integers; None where none was found."""
    ranges = [np.arange(t.low, t.high + 1, dtype=np.int64) for t in (graph.tensors[name] for name in op.inputs)]
    outputs = _outputs(graph, op, *ranges)
    if outputs is None:
        return None
    sign = -1.0 if isinstance(op, ir.Sub) else 1.0
    scales = [multiplier * 2.0 ** (shift - 31) for multiplier, shift in zip(op.multipliers, op.shifts)]
    real = [scales[0] * scales[2] * 2.0**op.left_shift, sign * scales[1] * scales[2] * 2.0**op.left_shift]
    reach = 128 * (abs(real[0]) + abs(real[1])) * 2 + 130
    near = sorted(itertools.product(range(-_NEAR, _NEAR + 1), repeat=2), key=lambda d: (max(map(abs, d)), d))
    largest = min(int(math.log2(_LIMIT / reach)), 31)
    for shift in (s for s in (largest, largest - 1) if s >= 1):
        for d in near:
            slopes = (round(real[0] * 2**shift) + d[0], round(real[1] * 2**shift) + d[1])
            sums = ranges[0][:, None] * slopes[0] + ranges[1][None, :] * slopes[1]
            least = int(np.where(outputs > op.act_min, (outputs << shift) - sums, -_LIMIT).max())
            most = int(np.where(outputs < op.act_max, ((outputs + 1) << shift) - 1 - sums, _LIMIT).min())
            offset = (least + most) // 2
            if least <= most and int(np.abs(sums).max()) + abs(offset) <= _LIMIT:
                return Plane(slopes, offset, shift)
    return None


def _outputs(graph: ir.Graph, op: ir.Binary, first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """int64 [first, second]: what the reference answers; None where both operands are one tensor."""
    if len(set(op.inputs)) < 2:
        return None
    shape = (len(first), len(second))
    tensors = {name: replace(graph.tensors[name], shape=shape) for name in (*op.inputs, op.output)}
    alone = ir.Graph(tensors, [op], op.inputs, (op.output,), {}, graph.name)
    a, b = np.meshgrid(first, second, indexing="ij")
    return reference.run_all(alone, {op.inputs[0]: a[None], op.inputs[1]: b[None]})[op.output][0].astype(np.int64)
