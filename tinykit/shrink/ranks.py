"""Which ranks a kernel is tried at, or gets: by energy, by a variational rule, or as candidates among which a budget decides."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_SHARES = (0.75, 0.6, 0.45, 0.3, 0.2, 0.12)
"""Of the multiply-accumulates of the layer that candidates are aimed at."""
_ALIGN = 4
"""Channels that the engine's kernels read at a time."""


def by_energy(matrix: np.ndarray, share: float) -> int:
    """The least rank that keeps `share` of the squared singular values (0 < share <= 1) of a matrix."""
    squares = np.linalg.svd(matrix, compute_uv=False).astype(np.float64) ** 2
    total = float(squares.sum())
    if not total:
        return 1
    return min(len(squares), int(np.searchsorted(np.cumsum(squares) / total, share - 1e-12)) + 1)


def by_evidence(matrix: np.ndarray) -> int:
    """Rank of the global solution of empirical variational Bayesian matrix factorisation, the noise estimated (EVBMF: Nakajima et al.,
    JMLR 14, 2013, theorem 2 and corollary 2); at least 1."""
    from scipy.optimize import minimize_scalar

    rows, columns = sorted(matrix.shape)
    ratio = rows / columns
    bend = 2.5129 * math.sqrt(ratio)
    least = (1 + bend) * (1 + ratio / bend)
    s = np.linalg.svd(matrix, compute_uv=False).astype(np.float64)
    energy = float((s**2).sum())
    if not energy:
        return 1

    def free_energy(noise: float) -> float:
        x = s**2 / (columns * noise)
        large, small = x[x > least], x[x <= least]
        shifted = large - (1 + ratio)
        t = 0.5 * (shifted + np.sqrt(np.maximum(shifted**2 - 4 * ratio, 0.0)))
        value = (small - np.log(np.maximum(small, 1e-300))).sum() + (large - t).sum()
        return float(value + np.log((t + 1) / large).sum() + ratio * np.log(t / ratio + 1).sum())

    most = energy / (rows * columns)
    kept = max(0, min(math.ceil(rows / (1 + ratio)) - 1, rows) - 1)
    rest = s[min(kept + 1, rows - 1) :]
    lowest = max(float(rest[0]) ** 2 / (columns * least), float((rest**2).mean()) / columns, most * 1e-12)
    noise = minimize_scalar(free_energy, bounds=(min(lowest, most), most), method="bounded").x
    return max(1, int((s > math.sqrt(columns * noise * least)).sum()))


def unfolded(kernel: np.ndarray, axis: int) -> np.ndarray:
    """The matrix of a kernel [*window, in, out] whose rows are the entries of `axis`."""
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def ruled(kernel: np.ndarray, method: str, rule: str, energy: float) -> tuple[int, ...]:
    """Ranks by a rule for `svd` and `tucker`.

    Args:
        rule: 'energy' or 'evidence'.
        energy: share that 'energy' keeps.
    """
    sides = (unfolded(kernel, -2),) if method == "svd" else (unfolded(kernel, -2), unfolded(kernel, -1))
    return tuple(by_energy(side, energy) if rule == "energy" else by_evidence(side) for side in sides)


def candidates(shape: tuple[int, ...], method: str) -> Iterator[tuple[int, ...]]:
    """Ranks to try for a kernel of `shape` [*window, in, out], each once; the costliest first."""
    window, before, behind = math.prod(shape[:-2]), shape[-2], shape[-1]
    whole = window * before * behind
    found: dict[tuple[int, ...], None] = {}
    for share in _SHARES:
        if method == "svd":
            ranks: list[tuple[int, ...]] = [(_aligned(share * whole / (before + behind)),)]
        elif method == "cp":
            ranks = [(_aligned(share * whole / (before + window + behind)),)]
        elif method == "separable":
            ranks = [(max(1, round(share * whole / (before * (window + behind)))),)]
        else:
            ranks = [_tucker(share, window, before, behind), (before, _aligned(share * behind)), (_aligned(share * before), behind)]
        found |= dict.fromkeys(r for r in ranks if _possible(r, method, window, before, behind))
    yield from found


def _tucker(share: float, window: int, before: int, behind: int) -> tuple[int, int]:
    """Ranks in proportion to the channels at which all three links take `share` of the cost, or as near as may be."""
    a, b, c = window * before * behind, before**2 + behind**2, -share * window * before * behind
    scale = (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)
    return _aligned(scale * before), _aligned(scale * behind)


def _aligned(rank: float) -> int:
    """A rank as the engine likes it."""
    return max(_ALIGN, round(rank / _ALIGN) * _ALIGN)


def _possible(ranks: tuple[int, ...], method: str, window: int, before: int, behind: int) -> bool:
    if method == "tucker":
        return ranks[0] <= before and ranks[1] <= behind and ranks != (before, behind)
    return ranks[0] <= {"svd": min(before, behind), "cp": before * behind, "separable": min(window, behind)}[method]
