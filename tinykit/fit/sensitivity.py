"""How much harm fewer bits do, tensor by tensor, measured on samples without training.

One tensor at a time is quantised in the float network, with the step of least squared error, and the outputs are compared with the
float network's: the mean Kullback-Leibler divergence of the classes' probabilities in nats (the increase of the loss where the float
network's opinion is the label), or, for a network that rebuilds its input, the mean squared difference over the variance. No labels are
needed. Near the float network this is what a Hessian would estimate to second order (Dong et al., HAWQ, ICCV 2019), without the
approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinykit.quant.allocation.network import WIDTHS, Bits, Network
from tinykit.quant.allocation.optimum import Prices
from tinykit.quant.calibrate import best_range
from tinykit.quant.grid import nearest_integers, weight_grid
from tinykit.quant.model import QuantizedModel
from tinykit.quant.quantizer import least_stored

_VALUES = 1 << 16  # of a tensor that its step is fitted to


class Probe:
    """A float network with switches: each activation tensor may be quantised, weights may be replaced.

    Args:
        model: calibrated or not; only its float side is used, and its weights are put back.
        samples: preprocessed float32 [N, ...]; a few hundred.
        classification: outputs are classes' logits or probabilities.
    """

    def __init__(self, model: QuantizedModel, samples: np.ndarray, classification: bool) -> None:
        import tensorflow as tf

        self.model, self.classification = model, classification
        count = len(model.quantizers)
        self._ranges = tf.Variable(np.tile([1.0, 0.0, 0.0], (count, 1)).astype(np.float32))  # step, least, largest integer
        self._used = tf.Variable(np.zeros(count, np.float32))
        self._forward = tf.function(self._run, jit_compile=False)
        self._kept: list[np.ndarray] = []
        self._known: dict[tuple[int, int], tuple[float, float, float]] = {}
        self._batches = [tf.constant(samples[i : i + 128], tf.float32) for i in range(0, len(samples), 128)]
        self._truth = self.outputs()

    def _run(self, x: Any) -> Any:
        import tensorflow as tf

        values = {"input": x}
        for spec, layer in zip(self.model.specs, self.model.nodes):
            real = layer.real([values[i] for i in spec["inputs"]])
            step, low, high = tf.unstack(self._ranges[spec["quantizer"]])
            rounded = tf.clip_by_value(tf.floor(real / step + 0.5), low, high) * step
            values[spec["name"]] = tf.where(self._used[spec["quantizer"]] > 0, rounded, real)
        return values[self.model.logits_node]

    def outputs(self) -> np.ndarray:
        """The network's outputs, or what its final softmax reads: float64 [N, ...]."""
        return np.concatenate([self._forward(x).numpy() for x in self._batches]).astype(np.float64)

    def harm(self) -> float:
        """Distance of the outputs from the float network's."""
        return divergence(self._truth, self.outputs(), self.classification)

    def with_weights(self, index: int, width: int) -> float:
        """Harm of one layer's weights at `width` bits."""
        before = self._round_weights(index, width)
        harm = self.harm()
        self.model.weighted_layers()[index].v.assign(before)
        return harm

    def with_activations(self, group: int, width: int) -> float:
        """Harm of one group of activations at `width` bits."""
        self._round_activations(group, width)
        harm = self.harm()
        self._used[group].assign(0.0)
        return harm

    def with_bits(self, bits: Bits) -> float:
        """Harm of a whole allocation at once; 8 bits count as none."""
        layers = self.model.weighted_layers()
        before = [self._round_weights(i, w) if w < 8 else np.asarray(layers[i].v) for i, w in enumerate(bits.weights)]
        for group, width in enumerate(bits.groups):
            if width < 8:
                self._round_activations(group, width)
        harm = self.harm()
        for layer, v in zip(layers, before, strict=True):
            layer.v.assign(v)
        self._used.assign(np.zeros(len(bits.groups), np.float32))
        return harm

    def _round_weights(self, index: int, width: int) -> np.ndarray:
        """Puts one layer's weights on their grid. Returns what they were."""
        layer = self.model.weighted_layers()[index]
        before = np.asarray(layer.v)
        kernel = before * np.asarray(layer.unit)
        step = layer.best_steps(kernel, width)
        integers = nearest_integers(kernel / step, *weight_grid(width, layer.codebook))
        layer.v.assign(integers * step / np.asarray(layer.unit))
        return before

    def _round_activations(self, group: int, width: int) -> None:
        """Switches the rounding of one group on."""
        quantizer = self.model.quantizers[group]
        if (group, width) not in self._known:
            low = least_stored(width, quantizer.signed)
            high = low + (1 << width) - 1
            scale, zero = best_range(self._values()[group], low, high, quantizer.signed, quantizer.max_real)
            self._known[group, width] = (scale, float(low - zero), float(high - zero))
        self._ranges[group].assign(self._known[group, width])
        self._used[group].assign(1.0)

    def _values(self) -> list[np.ndarray]:
        """Samples of each group's float values; drawn once."""
        if self._kept:
            return self._kept
        kept: list[list[np.ndarray]] = [[] for _ in self.model.quantizers]
        rng = np.random.default_rng(0)
        for x in self._batches:
            for name, tensor in self.model.real_values(x).items():
                owner = next((s["quantizer"] for s in self.model.specs if s["name"] == name), self.model.input_quantizer)
                flat = tensor.numpy().ravel()
                kept[owner].append(flat if flat.size <= _VALUES else rng.choice(flat, _VALUES, replace=False))
        self._kept = [np.concatenate(parts) if parts else np.zeros(1, np.float32) for parts in kept]
        return self._kept


def divergence(truth: np.ndarray, now: np.ndarray, classification: bool) -> float:
    """How far outputs are from what they were, float64 [N, ...] each.

    Args:
        classification: outputs are logits: the mean Kullback-Leibler divergence in nats; else the mean squared difference
            over the variance.
    """
    if not classification:
        return float(np.mean((now - truth) ** 2) / max(float(np.var(truth)), 1e-12))
    wanted, given = _log_softmax(truth), _log_softmax(now)
    return float(np.mean((np.exp(wanted) * (wanted - given)).sum(axis=-1)))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def sensitivities(
    probe: Probe,
    network: Network,
    progress: Callable[[int, int], None] = lambda done, total: None,
    widths: Sequence[int] = WIDTHS[1:],
) -> Prices:
    """The harm of every width of every tensor that has a choice, alone.

    Args:
        probe: of a model built from the program that `network` is of.
        progress: called as progress(done, total).
    """
    layers, groups = len(network.layers), [g for g in range(network.groups) if g not in network.fixed]
    total, done = (layers + len(groups)) * len(widths), 0
    weights: list[dict[int, float]] = [{8: 0.0} for _ in range(layers)]
    activations: list[dict[int, float]] = [{8: 0.0, 4: 0.0, 2: 0.0} for _ in range(network.groups)]
    for width in widths:
        for i in range(layers):
            weights[i][width] = max(probe.with_weights(i, width), 0.0)
            done += 1
            progress(done, total)
        for g in groups:
            activations[g][width] = max(probe.with_activations(g, width), 0.0)
            done += 1
            progress(done, total)
    return Prices(tuple(weights), tuple(activations))
