"""What an operation of the engine costs by how many channels it reads and writes, learned from engines that were measured.

Kernels take work that grows with both numbers (products), with one of them (columns that are widened, sums that are requantised) or with
neither (loops, borders). Half the products therefore cost more than half, and how much more differs by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Shape = tuple[float, float, float]
"""(multiply-accumulates, channels read, channels written) of an operation."""


@dataclass
class ShapeCosts:
    """Costs of operations by their shapes.

    Attributes:
        seen: operation -> shape -> what it cost.
    """

    seen: dict[str, dict[Shape, float]] = field(default_factory=dict)
    _fits: dict[str, np.ndarray] = field(default_factory=dict)

    def learn(self, shapes: Mapping[str, Shape], costs: Mapping[str, float]) -> None:
        """Takes what operations of these shapes cost; of one shape the last counts."""
        for name, cost in costs.items():
            self.seen.setdefault(name, {})[shapes[name]] = float(cost)
            self._fits.pop(name, None)

    def cost(self, name: str, shape: Shape) -> float:
        """What an operation costs with a shape: as measured, else by the sum of parts that fits its measurements best: in proportion
        to its multiply-accumulates, to the channels it reads and to those it writes, and fixed; none is negative. 0 for an unknown one."""
        seen = self.seen.get(name, {})
        if shape in seen:
            return seen[shape]
        if name not in self._fits:
            self._fits[name] = _fitted(seen)
        return float(np.dot(self._fits[name], (*shape, 1.0)))


def _fitted(seen: Mapping[Shape, float]) -> np.ndarray:
    """Weights [4] of (multiply-accumulates, reads, writes, 1), by relative errors; of one shape alone all on the first that counts."""
    from scipy.optimize import nnls

    measured = [(shape, cost) for shape, cost in seen.items() if cost > 0]
    if not measured:
        return np.zeros(4)
    rows = np.array([(*shape, 1.0) for shape, _ in measured], np.float64)
    costs = np.array([cost for _, cost in measured])
    if len(measured) == 1:  # in proportion to the work
        first = int(np.flatnonzero(rows[0])[0])
        return np.eye(4)[first] * costs[0] / rows[0, first]
    scale = np.maximum(rows.max(axis=0), 1e-12)
    weights, _ = nnls(rows / scale / costs[:, None], np.ones(len(costs)))
    return np.asarray(weights / scale)
