"""The integers that weights may have, and the steps that suit them best; NumPy only."""

from __future__ import annotations

import numpy as np


def weight_grid(bits: int, codebook: str) -> tuple[int, bool]:
    """(level, odd): integer weights are -level..level, or the odd numbers among these.

    Args:
        bits: 8, 4 or 2.
        codebook: of 2 bits, see `weighted.Weighted`; it does not matter to others.
    """
    odd = bits == 2 and codebook == "four_levels"
    return 3 if odd else (1 << (bits - 1)) - 1, odd


def nearest_integers(units: np.ndarray, level: int, odd: bool = False) -> np.ndarray:
    """Real multiples of a step -> the nearest integers of the grid, halves upwards; same shape and dtype."""
    return np.clip(2 * np.floor(units / 2) + 1 if odd else np.floor(units + 0.5), -level, level)


def best_weight_steps(flat: np.ndarray, level: int, odd: bool = False) -> np.ndarray:
    """Step per column of `flat` [K, channels] that minimises the squared error of the symmetric grid -level..level (of its odd numbers
    where `odd`), by a search over 60 clipping ratios. Float32 [channels]; a column of zeros gets the smallest step."""
    largest = np.abs(flat).max(axis=0) + 1e-12
    lowest = 0.8 if level > 7 else 0.2
    best, error = largest / level, np.full(largest.shape, np.inf)
    for ratio in np.linspace(lowest, 1.02, 60):
        step = largest * ratio / level
        e = ((nearest_integers(flat / step, level, odd) * step - flat) ** 2).sum(axis=0)
        best, error = np.where(e < error, step, best), np.minimum(e, error)
    return best.astype(np.float32)
