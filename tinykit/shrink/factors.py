"""Weights as chains of smaller ones: SVD, Tucker-2, CP and the depthwise-separable form.

A kernel is [*window, in, out], as Keras keeps it; that of a dense layer has no window. Every method looks for the least squared error, and
gives the kernel itself at full rank. Between the links of a chain there is neither bias nor activation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["point", "window", "depthwise"]
_CP_ITERATIONS = 60


@dataclass(frozen=True)
class Link:
    """One linear layer of a chain.

    Attributes:
        kind: 'point' mixes channels, kernel [in, out]; 'window' is a convolution, kernel [*window, in, out]; 'depthwise' looks at each
            channel alone, kernel [*window, in, multiplier].
    """

    kind: Kind
    kernel: np.ndarray

    @property
    def outputs(self) -> int:
        """Channels behind it."""
        return self.kernel.shape[-1] * (self.kernel.shape[-2] if self.kind == "depthwise" else 1)


@dataclass(frozen=True)
class Chain:
    """What a kernel is replaced by.

    Attributes:
        method: of METHODS.
        ranks: what it was asked for.
        links: in the order of execution.
    """

    method: str
    ranks: tuple[int, ...]
    links: tuple[Link, ...]

    @property
    def parameters(self) -> int:
        """Weights, biases left out."""
        return sum(link.kernel.size for link in self.links)

    def macs(self, inputs: int, outputs: int) -> int:
        """Multiply-accumulates of a sample.

        Args:
            inputs, outputs: positions (pixels) that the replaced layer reads and writes; the link with the window leads from one to the
                other.
        """
        windowed = any(link.kind != "point" for link in self.links)
        total, positions = 0, inputs if windowed else outputs
        for link in self.links:
            positions = outputs if link.kind != "point" else positions
            total += positions * link.kernel.size
        return total

    def composed(self) -> np.ndarray:
        """The kernel [*window, in, out] that the chain computes with."""
        total = np.eye(self.links[0].kernel.shape[-2])
        for link in self.links:
            if link.kind == "depthwise":
                channels = link.kernel.shape[-2]
                spread = np.einsum("...cm,cd->...cdm", link.kernel, np.eye(channels))
                total = total @ spread.reshape(*link.kernel.shape[:-1], -1)
            else:
                total = total @ link.kernel
        return total


def error(kernel: np.ndarray, chain: Chain) -> float:
    """Relative error of a chain in the Frobenius norm, 0 for the kernel itself."""
    size = float(np.linalg.norm(kernel))
    return float(np.linalg.norm(kernel - chain.composed().reshape(kernel.shape))) / size if size else 0.0


def svd(kernel: np.ndarray, ranks: Sequence[int]) -> Chain:
    """Two point links of rank `ranks[0]` for a kernel whose window is one element; the singular values are shared evenly between them."""
    (rank,) = ranks
    matrix = kernel.reshape(kernel.shape[-2:]).astype(np.float64)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank])
    return Chain("svd", (rank,), (Link("point", u[:, :rank] * root), Link("point", root[:, None] * v[:rank])))


def tucker(kernel: np.ndarray, ranks: Sequence[int]) -> Chain:
    """Point, window, point (Kim et al., arXiv:1511.06530): `ranks` channels in front of and behind the window.

    A rank that is not smaller than the channels leaves its point link out."""
    from tensorly.decomposition import partial_tucker

    before, behind = kernel.shape[-2:]
    first, last = (min(rank, size) for rank, size in zip(ranks, (before, behind), strict=True))
    axes = kernel.ndim - 2
    cut = [(axes + i, r) for i, r, size in ((0, first, before), (1, last, behind)) if r < size]
    if not cut:
        return Chain("tucker", (first, last), (Link("window", kernel.astype(np.float64)),))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", UserWarning)  # an unfolding may have fewer singular vectors than channels; it has as many as needed
        (core, factors), _ = partial_tucker(kernel.astype(np.float64), rank=[r for _, r in cut], modes=[mode for mode, _ in cut], tol=1e-7)
    links, factors = [Link("window", np.asarray(core))], [np.asarray(f) for f in factors]
    if first < before:
        links.insert(0, Link("point", factors.pop(0)))
    if last < behind:
        links.append(Link("point", factors.pop(0).T))
    return Chain("tucker", (first, last), tuple(_balanced(links)))


def separable(kernel: np.ndarray, ranks: Sequence[int]) -> Chain:
    """Depthwise, then point (Guo et al., arXiv:1808.05517): `ranks[0]` windows an input channel, the best ones by an SVD of its kernels."""
    (multiplier,) = ranks
    window, (before, behind) = kernel.shape[:-2], kernel.shape[-2:]
    flat = kernel.reshape(-1, before, behind).astype(np.float64).transpose(1, 0, 2)
    u, s, v = np.linalg.svd(flat, full_matrices=False)
    root = np.sqrt(s[:, :multiplier])
    depthwise = (u[:, :, :multiplier] * root[:, None]).transpose(1, 0, 2).reshape(*window, before, -1)
    point = (root[:, :, None] * v[:, :multiplier]).reshape(-1, behind)
    return Chain("separable", (multiplier,), (Link("depthwise", depthwise), Link("point", point)))


def cp(kernel: np.ndarray, ranks: Sequence[int]) -> Chain:
    """Point, depthwise, point (Lebedev et al., arXiv:1412.6553, the window as one mode): `ranks[0]` terms, by alternating least squares."""
    from tensorly.decomposition import parafac

    (rank,) = ranks
    window, (before, behind) = kernel.shape[:-2], kernel.shape[-2:]
    flat = kernel.reshape(-1, before, behind).astype(np.float64)
    scales, (places, first, last) = parafac(flat, rank, n_iter_max=_CP_ITERATIONS, init="random", random_state=0, tol=1e-7)
    links = [Link("point", np.asarray(first) * np.asarray(scales)), Link("depthwise", np.asarray(places).reshape(*window, rank, 1))]
    return Chain("cp", (rank,), tuple(_balanced([*links, Link("point", np.asarray(last).T)])))


def _balanced(links: list[Link]) -> list[Link]:
    """The same product with links of equal root mean square, so that no one learns faster than the others."""
    sizes = [float(np.sqrt(np.mean(link.kernel**2))) for link in links]
    if min(sizes) == 0.0:
        return links
    mean = math.exp(sum(math.log(size) for size in sizes) / len(sizes))
    return [Link(link.kind, link.kernel * (mean / size)) for link, size in zip(links, sizes)]


METHODS: dict[str, Callable[[np.ndarray, Sequence[int]], Chain]] = {"svd": svd, "tucker": tucker, "separable": separable, "cp": cp}


def methods_for(kernel: np.ndarray) -> tuple[str, ...]:
    """The methods that suit a kernel: SVD where the window is one element, the others where it is larger."""
    return ("svd",) if math.prod(kernel.shape[:-2]) == 1 else ("tucker", "separable", "cp")
