"""Calibration: the step and zero point of every activation, from float values on samples."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tinykit.errors import ModelError
from tinykit.quant.model import QuantizedModel
from tinykit.quant.weighted import Weighted

KEPT_VALUES = 1 << 17


class _Reservoir:
    """A fixed number of values drawn from a stream, with its extremes."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.low, self.high = rng, 0.0, 0.0
        self.parts: list[np.ndarray] = []

    def add(self, values: np.ndarray, share: int) -> None:
        flat = values.ravel()
        self.low, self.high = float(np.minimum(self.low, flat.min())), float(np.maximum(self.high, flat.max()))  # these pass NaN on
        self.parts.append(flat if flat.size <= share else self.rng.choice(flat, share, replace=False))

    def values(self) -> np.ndarray:
        return np.concatenate([*self.parts, [self.low, self.high]])


def calibrate(model: QuantizedModel, batches: Iterable[np.ndarray], method: str = "mse", seed: int = 0) -> None:
    """Sets every learned quantiser of `model` from the float network's values.

    Args:
        batches: float32 samples [N, *sample_shape], a few hundred in all.
        method: "mse" minimises the squared rounding and clipping error; "minmax" covers every value.
        seed: of the subsampling of large tensors.

    Raises:
        ValueError: no batches, or an unknown method.
        ModelError: values that are not finite, by the names of the operations.
    """
    if method not in ("mse", "minmax"):
        raise ValueError(f"calibration method {method!r}; expected mse or minmax")
    kept, means, seen = _collect(model, batches, seed)
    bad = [f"  {s['name']}" for s in model.specs if not np.isfinite([kept[s["quantizer"]].low, kept[s["quantizer"]].high]).all()]
    if bad:
        raise ModelError(
            ["values that are not finite come out of these operations (infinite weights, or samples that are not numbers):", *bad]
        )
    if not seen:
        raise ValueError("calibration needs at least one batch")
    for quantizer, reservoir in zip(model.quantizers, kept):
        if quantizer.fixed is None and reservoir.parts:
            values = reservoir.values()
            quantizer.assign(*best_range(values, quantizer.low, quantizer.high, quantizer.signed, quantizer.max_real, method))
    model.keep_representable()
    model.__dict__["_input_means"] = {k: total / seen for k, total in means.items()}


def _collect(model: QuantizedModel, batches: Iterable[np.ndarray], seed: int) -> tuple[list[_Reservoir], dict[str, np.ndarray], int]:
    rng = np.random.default_rng(seed)
    kept = [_Reservoir(rng) for _ in model.quantizers]
    owner = {s["name"]: s["quantizer"] for s in model.specs}
    means: dict[str, np.ndarray] = {}
    read_by_weights = {s["inputs"][0] for s, n in zip(model.specs, model.nodes) if isinstance(n, Weighted)}
    function = tf.function(model.real_values, jit_compile=False, reduce_retracing=True)
    seen = 0
    for batch in batches:
        if not np.isfinite(batch).all():
            raise ModelError("the calibration samples contain NaN or infinity")
        seen += len(batch)
        for name, tensor in function(tf.constant(batch, tf.float32)).items():
            value = tensor.numpy()
            if name in owner:
                kept[owner[name]].add(value, KEPT_VALUES // 8)
            if name in read_by_weights:
                total = value.reshape(-1, value.shape[-1]).mean(axis=0) * len(batch)
                means[name] = means.get(name, 0.0) + total
    return kept, means, seen


def best_range(
    values: np.ndarray, low: int, high: int, signed: bool, max_real: float | None = None, method: str = "mse"
) -> tuple[float, int]:
    """(scale, zero point) for stored integers low..high.

    Args:
        values: real samples, 1-D.
        signed: False puts the zero point at `low`.
        max_real: the range must not reach above it.
    """
    least, most = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if max_real is not None:
        most = min(most, max_real)
    if not signed:
        least = 0.0
    if most - least < 1e-9:
        return 1e-6, low if not signed else 0
    # few levels are worth more where the values are dense: the range may shrink further
    ratios = np.linspace(0.3 if high - low > 15 else 0.05, 1.0, 71) if method == "mse" else [1.0]
    best: tuple[float, float, int] | None = None
    for ratio in ratios:
        scale = (most - least) * ratio / (high - low)
        zero = low if not signed else int(np.clip(round(low - least * ratio / scale), low, high))
        stored = np.clip(np.floor(values / scale + 0.5) + zero, low, high)
        error = float((((stored - zero) * scale - values) ** 2).sum())
        if best is None or error < best[0]:
            best = (error, scale, zero)
    return (best[1], best[2]) if best is not None else (1.0, 0)


def correct_biases(model: QuantizedModel) -> None:
    """Takes the mean error that weight rounding causes out of the biases: b -= sum((W_q - W) * E[x]) over each output's inputs, with E[x]
    of the
    last `calibrate` (Nagel et al. 2019, "Data-Free Quantization", section 4.2, with measured means; borders ignored)."""
    means = model.__dict__.get("_input_means", {})
    for spec, layer in zip(model.specs, model.nodes):
        if not isinstance(layer, Weighted) or layer.batch_norm:
            continue
        scale = layer.weight_scale()
        error = np.asarray(layer.integer_weights(scale) * scale - layer.kernel())
        mean = means[spec["inputs"][0]]
        if layer.kind == "depthwise_conv2d":
            shift = error.sum(axis=(0, 1)) * np.repeat(mean, layer.depth_multiplier)
        elif layer.kind == "fully_connected":
            shift = error.T @ np.resize(mean, error.shape[0])
        else:
            shift = error.sum(axis=(0, 1)).T @ mean
        layer.b.assign(np.asarray(layer.b) - shift)
    model.keep_representable()
