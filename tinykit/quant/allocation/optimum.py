"""The allocation of least measured harm under flash, RAM and time together, by integer programming.

Every width of every tensor is a binary variable; its price is the harm that it does alone (see `tinykit.fit.sensitivity`), taken to add up,
as HAWQ-V3 (Yao et al., ICML 2021, arXiv:2011.10680) takes it. Memory is counted as `accounting` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.quant.allocation.accounting import packed_bytes
from tinykit.quant.allocation.network import WIDTHS, Bits, Network, eight_bits, fewest_bits
from tinykit.quant.allocation.rule import Outcome

_SCALE = 1e6  # prices as integers: HiGHS is then sure of its optimum


@dataclass(frozen=True)
class Prices:
    """The harm of each width alone, 0 at 8 bits; any unit that adds up.

    Attributes:
        weights: one dict a layer, width -> harm.
        groups: one dict a group of activations.
    """

    weights: tuple[Mapping[int, float], ...]
    groups: tuple[Mapping[int, float], ...]

    def of(self, bits: Bits) -> float:
        """The harm of an allocation, as if harms added up."""
        harm = sum(prices[width] for prices, width in zip(self.weights, bits.weights, strict=True))
        return harm + sum(prices[width] for prices, width in zip(self.groups, bits.groups, strict=True))


@dataclass(frozen=True)
class Limits:
    """What an allocation may take; None: no limit.

    Attributes:
        weight_bytes: of all packed weights.
        ram: of the fullest step, as `accounting.peak_bytes` counts it.
        cost: of `costs` in sum.
        costs: one dict a layer, width of the weights -> executed cost in any unit.
    """

    weight_bytes: int | None = None
    ram: int | None = None
    cost: float | None = None
    costs: tuple[Mapping[int, float], ...] = ()


def optimum(network: Network, prices: Prices, limits: Limits, widths: Sequence[int] = WIDTHS) -> Outcome:
    """The allocation of least harm within the limits; proved to be the best under them, or said to be impossible.

    Args:
        widths: that weights may have.

    Raises:
        RuntimeError: the solver fails otherwise, which is a defect.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    columns = [(True, i, w) for i in range(len(network.layers)) for w in widths]
    columns += [(False, g, w) for g in range(network.groups) for w in network.widths(g)]
    index = {column: i for i, column in enumerate(columns)}
    price = np.array([(prices.weights if is_weight else prices.groups)[at][w] for is_weight, at, w in columns])
    rows, least, most = _one_each(columns, index)
    for row, limit in _limits(network, limits, index):
        rows.append(row)
        least.append(-np.inf)
        most.append(limit)
    unit = max(float(np.abs(price).max(initial=0.0)), 1e-30)
    # among equals the wider one: a unit's 1e-6 is less than any difference that counts
    objective = np.round(price / unit * _SCALE) + np.array([0.5 * (8 - w) / 8 for _, _, w in columns])
    found = milp(
        objective, constraints=LinearConstraint(np.array(rows), least, most), integrality=np.ones(len(columns)), bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    if found.status == 2:
        groups = eight_bits(network).groups if limits.ram is None else fewest_bits(network).groups
        return Outcome(Bits(groups, (min(widths),) * len(network.layers)), ("no choice of bits meets the limits together",))
    if found.x is None:
        raise RuntimeError(f"HiGHS ended with: {found.message}")
    chosen = {columns[i] for i in np.flatnonzero(found.x > 0.5)}
    pick = {(is_weight, at): w for is_weight, at, w in chosen}
    return Outcome(Bits(tuple(pick[False, g] for g in range(network.groups)), tuple(pick[True, i] for i in range(len(network.layers)))))


def _one_each(columns: list[tuple[bool, int, int]], index: dict) -> tuple[list[np.ndarray], list[float], list[float]]:
    """Exactly one width for each tensor."""
    rows = []
    for is_weight, at in dict.fromkeys((c[0], c[1]) for c in columns):
        row = np.zeros(len(columns))
        for w in WIDTHS:
            if (is_weight, at, w) in index:
                row[index[is_weight, at, w]] = 1
        rows.append(row)
    return rows, [1.0] * len(rows), [1.0] * len(rows)


def _limits(network: Network, limits: Limits, index: dict[tuple[bool, int, int], int]) -> list[tuple[np.ndarray, float]]:
    """Rows that may not exceed a value."""
    result = []
    weights = [(column, i, w) for (is_weight, i, w), column in index.items() if is_weight]
    if limits.weight_bytes is not None:
        row = np.zeros(len(index))
        for column, i, w in weights:
            row[column] = packed_bytes(network.layers[i].weights, w)
        result.append((row, float(limits.weight_bytes)))
    if limits.ram is not None:
        for step in network.steps:
            row = np.zeros(len(index))
            for a in step.activations:
                for w in network.widths(a.group):
                    row[index[False, a.group, w]] += a.elements * w
            result.append((row, 8.0 * limits.ram))
    if limits.cost is not None:
        row = np.zeros(len(index))
        for column, i, w in weights:
            row[column] = limits.costs[i][w]
        result.append((row, float(limits.cost)))
    return result
