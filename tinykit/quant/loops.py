"""Passes over whole tensors: what happens to each element between the sums of two layers, forward and backward.

TensorFlow runs an operation at a time, and each reads and writes the whole tensor; an exact requantisation has 16 of them in float64, and
takes longer than the convolution before it. XLA makes one loop of them. Integers that float64 holds are exact in any order, and exact
products are exact within a fused multiply-add too, so that it changes no bit (tests/quant/test_loops.py). Only such loops are compiled,
never a division of learned scales and nothing that sums float32. A compilation takes a tenth of a second or two for each shape: small
tensors go without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tinykit.quant.arithmetic import LEFT_SHIFT, Factors, rescale

LEAST = 1024
"""Elements of a sample that a compilation is worth its time for."""

Bounds = tuple[tf.Tensor, tf.Tensor]
"""Least and largest centred integer, float32 scalars."""


@functools.cache
def compiles() -> bool:
    """Whether this TensorFlow has a compiler for this machine; without one everything is the same, but slower."""
    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(0.0))
        except (tf.errors.OpError, ValueError):
            return False
    return True


def _one_loop(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """`function`, compiled where its first argument, a tensor [N, ...], is large."""
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def chosen(x: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
        elements = x.shape[1:].num_elements()
        return (compiled if (elements is None or elements >= LEAST) and compiles() else function)(x, *others)

    return chosen


def _within(exact: tf.Tensor, bounds: Bounds) -> tf.Tensor:
    low, high = bounds
    return tf.clip_by_value(tf.cast(exact, tf.float32), low, high)


def _passed(upstream: tf.Tensor, exact: tf.Tensor, bounds: Bounds) -> tf.Tensor:
    """The gradient that clamping lets through."""
    value = tf.cast(exact, tf.float32)
    return tf.where((value >= bounds[0]) & (value <= bounds[1]), upstream, tf.zeros_like(upstream))


# accumulators ---------------------------------------------------------------------------------------------------------------------


def _total(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n([tf.cast(p, tf.float64) for p in parts])


@_one_loop
def _requantize(first: tf.Tensor, others: list[tf.Tensor], bias: tf.Tensor, factors: list[tf.Tensor], bounds: Bounds) -> tf.Tensor:
    return _within(rescale(_total([first, *others]) + bias, *factors), bounds)


@_one_loop
def _requantize_backward(
    first: tf.Tensor,
    others: list[tf.Tensor],
    bias: tf.Tensor,
    factors: list[tf.Tensor],
    bounds: Bounds,
    gain: tf.Tensor,
    upstream: tf.Tensor,
) -> tf.Tensor:
    # the integers are made again: that takes less time than to store them and to read them
    return _passed(upstream, rescale(_total([first, *others]) + bias, *factors), bounds) * gain


def requantized(
    parts: Sequence[tf.Tensor], offset: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor, factors: Factors, bounds: Bounds
) -> tf.Tensor:
    """Accumulators to outputs: (sum of `parts` + bias) times the multiplier, clamped; float32 integers [N, ..., channels].

    The gradient is that of (sum of `parts` + offset) * gain inside the bounds, with a constant gain.

    Args:
        parts: float32 or float64 integers [N, ..., channels].
        offset: float32 [channels], the bias in units of the accumulators before its rounding.
        gain: float32 [channels] or [1].
        bias: float64 integers [channels].
        factors: of the multiplier, one or one a channel.
    """
    constants = (bias, list(factors.tensors), bounds)

    @tf.custom_gradient
    def run(offset, *parts):  # type: ignore[no-untyped-def]
        def backward(upstream):  # type: ignore[no-untyped-def]
            passed = _requantize_backward(parts[0], list(parts[1:]), *constants, gain, upstream)
            return tf.raw_ops.BiasAddGrad(out_backprop=passed), *(tf.cast(passed, p.dtype) for p in parts)

        return _requantize(parts[0], list(parts[1:]), *constants), backward

    return run(offset, *parts)


@_one_loop
def _moments(first: tf.Tensor, others: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    total = _total([first, *others])
    plane = list(range(1, len(total.shape) - 1))

    def mean(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.reduce_mean(x, plane), 0)

    centre = mean(total)
    return centre, mean(tf.square(total - centre))


def moments(parts: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Float64 [channels]: mean and variance of accumulators [N, ..., channels] that are given in parts; no gradient."""
    first, *others = (tf.stop_gradient(p) for p in parts)
    return _moments(first, others)


# sums of two tensors --------------------------------------------------------------------------------------------------------------


def _sum(a: tf.Tensor, b: tf.Tensor, sign: tf.Tensor, factors: list[list[tf.Tensor]]) -> tf.Tensor:
    """TFLM's ADD and SUB before the clamp, float64."""
    lifted = [rescale(tf.cast(q, tf.float64) * 2.0**LEFT_SHIFT, *f) for q, f in zip((a, b), factors[:2])]
    return rescale(lifted[0] + sign * lifted[1], *factors[2])


@_one_loop
def _add(a: tf.Tensor, b: tf.Tensor, sign: tf.Tensor, factors: list[list[tf.Tensor]], bounds: Bounds) -> tf.Tensor:
    return _within(_sum(a, b, sign, factors), bounds)


@_one_loop
def _add_backward(
    a: tf.Tensor, b: tf.Tensor, sign: tf.Tensor, factors: list[list[tf.Tensor]], bounds: Bounds, upstream: tf.Tensor
) -> tf.Tensor:
    return _passed(upstream, _sum(a, b, sign, factors), bounds)


def added(
    a: tf.Tensor, b: tf.Tensor, gains: tuple[tf.Tensor, tf.Tensor], sign: float, factors: tuple[Factors, Factors, Factors], bounds: Bounds
) -> tf.Tensor:
    """a and b at the scale of their sum, or of their difference, clamped; float32 integers.

    The gradient is that of a * gains[0] + b * gains[1] inside the bounds.

    Args:
        a, b: float32 integers [N, ...] of one rank; axes of one of them may be 1.
        gains: float32 scalars, the second one negative for a difference.
        sign: 1.0 or -1.0.
        factors: of the multipliers of a, of b and of their sum.
    """
    constants = (tf.constant(sign, tf.float64), [list(f.tensors) for f in factors], bounds)

    @tf.custom_gradient
    def run(a, b, gain_a, gain_b):  # type: ignore[no-untyped-def]
        def backward(upstream):  # type: ignore[no-untyped-def]
            passed = _add_backward(a, b, *constants, upstream)
            share_a, share_b = _reduced_to(passed, a), _reduced_to(passed, b)
            return share_a * gain_a, share_b * gain_b, _dot(share_a, a), _dot(share_b, b)

        return _add(a, b, *constants), backward

    return run(a, b, *gains)


def _reduced_to(gradient: tf.Tensor, operand: tf.Tensor) -> tf.Tensor:
    """The gradient of an operand that was broadcast: summed over the axes that it has as 1."""
    axes = [i for i, (g, o) in enumerate(zip(gradient.shape, operand.shape)) if i and o == 1 and g != 1]
    return tf.reduce_sum(gradient, axes, keepdims=True) if axes else gradient


def _dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The sum of products, without a tensor of products."""
    return tf.tensordot(tf.reshape(a, [-1]), tf.reshape(b, [-1]), 1)
