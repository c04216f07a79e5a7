"""Kernels as chains of smaller ones, and the ranks that they get, against NumPy."""

import numpy as np
import pytest

from tinykit.shrink import factors, ranks

SHAPES = [(7, 5), (1, 1, 12, 9), (1, 5, 6), (3, 3, 8, 12), (5, 6, 7), (3, 2, 5, 4), (1, 3, 2, 9)]


def kernel(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def full(shape, method):
    """Ranks at which nothing is lost."""
    window, before, behind = int(np.prod(shape[:-2])), shape[-2], shape[-1]
    return {
        "svd": (min(before, behind),), "tucker": (before, behind), "separable": (min(window, behind),),
        "cp": (window * min(before, behind),),
    }[method]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_full_rank_is_the_kernel_itself(shape) -> None:
    k = kernel(shape)
    for method in factors.methods_for(k):
        chain = factors.METHODS[method](k, full(shape, method))
        limit = 1e-2 if method == "cp" else 1e-6  # alternating least squares comes near, the others are exact
        assert factors.error(k, chain) < limit, method
        assert chain.links[-1].outputs == shape[-1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_falls_and_cost_grows_with_the_rank(shape) -> None:
    k = kernel(shape, 1)
    for method in set(factors.methods_for(k)) - {"cp"}:
        top = full(shape, method)
        chains = [factors.METHODS[method](k, tuple(min(r, t) for t in top)) for r in range(1, max(top) + 1)]
        errors = [factors.error(k, chain) for chain in chains]
        assert all(a >= b - 1e-9 for a, b in zip(errors, errors[1:])), method
        sizes = [chain.parameters for chain in chains if len(chain.links) == len(chains[0].links)]
        assert sizes == sorted(sizes)


def test_svd_is_the_best_of_its_rank() -> None:
    k = kernel((13, 9), 2)
    s = np.linalg.svd(k, compute_uv=False)
    chain = factors.svd(k, (4,))
    assert factors.error(k, chain) == pytest.approx(np.sqrt((s[4:] ** 2).sum() / (s**2).sum()), rel=1e-5)


def test_costs_are_those_of_the_formulas() -> None:
    k = kernel((3, 3, 8, 12))
    chain = factors.tucker(k, (4, 6))
    assert chain.parameters == 8 * 4 + 9 * 4 * 6 + 6 * 12
    assert chain.macs(100, 25) == 100 * 8 * 4 + 25 * (9 * 4 * 6 + 6 * 12)
    assert factors.separable(k, (2,)).macs(100, 25) == 25 * (9 * 8 * 2 + 8 * 2 * 12)
    assert factors.cp(k, (5,)).macs(100, 25) == 100 * 8 * 5 + 25 * (9 * 5 + 5 * 12)
    assert factors.svd(k[:1, :1], (3,)).macs(100, 25) == 25 * (8 * 3 + 3 * 12), "the first link takes the strides"


def test_a_kernel_of_zeros_is_no_trouble() -> None:
    for shape in SHAPES:
        zero = np.zeros(shape, np.float32)
        for method in set(factors.methods_for(zero)) - {"cp"}:
            assert factors.error(zero, factors.METHODS[method](zero, tuple(1 for _ in full(shape, method)))) == 0.0
    assert ranks.by_energy(np.zeros((4, 5)), 0.9) == ranks.by_evidence(np.zeros((4, 5))) == 1


def test_links_of_a_chain_are_of_one_size() -> None:
    for method, wanted in (("tucker", (4, 5)), ("cp", (6,))):
        sizes = [np.sqrt((link.kernel**2).mean()) for link in factors.METHODS[method](kernel((3, 3, 8, 12), 3), wanted).links]
        assert max(sizes) == pytest.approx(min(sizes))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_evidence_and_energy_find_a_rank_under_noise(rank) -> None:
    rng = np.random.default_rng(rank)
    signal = rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 90))
    noisy = signal + 0.05 * rng.normal(size=signal.shape)
    assert ranks.by_evidence(noisy) == ranks.by_evidence(noisy.T) == rank
    assert ranks.by_energy(signal, 1 - 1e-9) == rank
    assert ranks.by_energy(np.diag([3.0, 2.0, 1.0]), 13 / 14) == 2


def test_noise_alone_has_no_rank() -> None:
    assert ranks.by_evidence(np.random.default_rng(0).normal(size=(60, 90))) == 1


@pytest.mark.parametrize("shape", [(64, 64), (3, 3, 16, 32), (3, 3, 64, 64), (9, 12, 24), (3, 3, 4, 6)], ids=str)
def test_candidates_are_possible_aligned_and_each_once(shape) -> None:
    for method in factors.methods_for(np.zeros(shape)):
        found = list(ranks.candidates(shape, method))
        assert len(found) == len(set(found)) and (found or max(shape[-2:]) < 8)
        for wanted in found:
            assert all(r >= 1 for r in wanted)
            if method != "separable":
                sizes = shape[-2:] if method == "tucker" else (10**9,)
                assert all(r % 4 == 0 or r == size for r, size in zip(wanted, sizes))
