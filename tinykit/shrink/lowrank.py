"""Which layers are decomposed, how, and at which ranks: by a rule, with the least harm within a budget of multiply-accumulates, or with the
fewest multiply-accumulates within a limit of harm.

A candidate's harm is what the network's outputs change when this layer alone is replaced by it, before any training: the mean
Kullback-Leibler divergence of the classes' probabilities, or the mean squared difference over the variance for a network that rebuilds its
input. Harms are taken to add up, and an integer program chooses, as for bits (`tinykit.quant.allocation.optimum`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinykit.errors import BudgetError
from tinykit.shrink import factors, ranks
from tinykit.shrink.chained import Site
from tinykit.shrink.factors import Chain

_SCALE = 1e6  # harms as integers: HiGHS is then sure of its optimum


@dataclass(frozen=True)
class Candidate:
    """A way to execute a layer.

    Attributes:
        chain: None: the layer as it is.
        macs, parameters: what it takes.
        error: relative, of the weights.
        harm: of the outputs, 0 for the layer as it is.
    """

    chain: Chain | None
    macs: int
    parameters: int
    error: float = 0.0
    harm: float = 0.0


def as_it_is(site: Site) -> Candidate:
    """The layer itself."""
    return Candidate(None, site.macs, site.kernel.size)


def cheaper(site: Site, chain: Chain) -> Candidate | None:
    """A chain as a candidate; None unless it lowers the layer's parameters and its multiply-accumulates."""
    macs = chain.macs(site.inputs, site.outputs)
    if chain.parameters >= site.kernel.size or macs >= site.macs:
        return None
    return Candidate(chain, macs, chain.parameters, factors.error(site.kernel, chain))


def suitable(site: Site, allowed: Sequence[str]) -> list[str]:
    """The methods that suit a layer, of those that are allowed; Keras has no depthwise layer that looks back only."""
    known = factors.methods_for(site.kernel)
    return [m for m in known if m in allowed and not (site.causal and m in ("separable", "cp"))]


def by_rule(site: Site, methods: Sequence[str], rule: str, energy: float) -> Candidate:
    """The first method that suits, at the ranks of a rule; the layer itself where that would not be cheaper."""
    for method in suitable(site, [m for m in methods if m in ("svd", "tucker")]):
        found = cheaper(site, factors.METHODS[method](site.kernel, ranks.ruled(site.kernel, method, rule, energy)))
        if found is not None:
            return found
    return as_it_is(site)


def offered(site: Site, methods: Sequence[str]) -> list[Candidate]:
    """The layer itself and every cheaper candidate that no other one beats in cost and error of the weights."""
    found = []
    for method in suitable(site, methods):
        for wanted in ranks.candidates(site.kernel.shape, method):
            candidate = cheaper(site, factors.METHODS[method](site.kernel, wanted))
            if candidate is not None:
                found.append(candidate)
    found.sort(key=lambda c: (c.macs, c.error))
    kept: list[Candidate] = []
    for candidate in found:
        if not kept or candidate.error < min(k.error for k in kept):
            kept.append(candidate)
    return [as_it_is(site), *kept]


def measured(
    offers: Mapping[str, Sequence[Candidate]], harm: Callable[[str, np.ndarray], float], progress: Callable[[int, int], None]
) -> dict[str, list[Candidate]]:
    """The offers with their harm.

    Args:
        harm: (layer, kernel in its place) -> harm.
        progress: called with (done, total).
    """
    total, done = sum(len(found) - 1 for found in offers.values()), 0
    result: dict[str, list[Candidate]] = {}
    for name, found in offers.items():
        result[name] = [c for c in found if c.chain is None]
        for candidate in found:
            if candidate.chain is None:
                continue
            result[name].append(replace(candidate, harm=harm(name, candidate.chain.composed())))
            done += 1
            progress(done, total)
    return result


def least_harm(offers: Mapping[str, Sequence[Candidate]], macs: int) -> dict[str, Candidate]:
    """One candidate a layer: the least harm in sum with at most `macs` multiply-accumulates together.

    Raises:
        BudgetError: the cheapest candidates together take more.
        RuntimeError: the solver fails otherwise, which is a defect.
    """
    least = sum(min(c.macs for c in found) for found in offers.values())
    if least > macs:
        raise BudgetError(f"at the smallest ranks these layers take {least:,} multiply-accumulates, of {macs:,} that are left for them")
    return _best(offers, lambda c: max(0.0, c.harm), lambda c: c.macs, macs)


def least_work(offers: Mapping[str, Sequence[Candidate]], harm: float) -> dict[str, Candidate]:
    """One candidate a layer: the fewest multiply-accumulates together whose harms are at most `harm` in sum; perhaps every layer as it is.

    Raises:
        RuntimeError: the solver fails, which is a defect.
    """
    return _best(offers, lambda c: c.macs, lambda c: max(0.0, c.harm), harm)


def _best(
    offers: Mapping[str, Sequence[Candidate]],
    price: Callable[[Candidate], float],
    use: Callable[[Candidate], float],
    most: float,
) -> dict[str, Candidate]:
    """One candidate a layer, of the least price in sum whose use is at most `most` in sum; among equals fewer parameters."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    columns = [(name, c) for name, found in offers.items() for c in found]
    prices = np.array([price(c) for _, c in columns])
    whole = np.round(prices / max(float(prices.max(initial=0.0)), 1e-30) * _SCALE)
    sizes = np.array([c.parameters for _, c in columns], float)  # together less than any difference of prices that counts
    each = np.array([[float(owner == name) for owner, _ in columns] for name in offers])
    used = np.array([[float(use(c)) for _, c in columns]])
    found = milp(
        whole + 0.5 * sizes / max(sizes.sum(), 1.0), integrality=np.ones(len(columns)), bounds=Bounds(0, 1), options={"mip_rel_gap": 0.0},
        constraints=[LinearConstraint(each, 1, 1), LinearConstraint(used, -np.inf, most)],
    )  # fmt: skip
    if found.x is None:
        raise RuntimeError(f"HiGHS ended with: {found.message}")
    return {columns[i][0]: columns[i][1] for i in np.flatnonzero(found.x > 0.5)}
