"""Compiled loops: the same bits as NumPy's integers, with and without the compiler; gradients against the plain formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import image_network, quantized, samples, shake

from tinykit.graph import fixedpoint as fp
from tinykit.quant import loops
from tinykit.quant.arithmetic import LEFT_SHIFT, Factors, requantize, straight_through, to_float64
from tinykit.quant.calibrate import calibrate
from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.elementwise import _Additive
from tinykit.quant.layer import activation_bounds, aligned
from tinykit.quant.quantizer import QValue
from tinykit.quant.weighted import Weighted

L = keras.layers


@pytest.fixture(params=["compiled", "plain"])
def way(request, monkeypatch):
    """Both ways to run a loop, whatever the size."""
    compiled = request.param == "compiled"
    if compiled and not loops.compiles():
        pytest.skip("this TensorFlow has no XLA for this machine")
    monkeypatch.setattr(loops, "LEAST", 0)
    monkeypatch.setattr(loops, "compiles", lambda: compiled)
    return request.param


def bounds(low: float, high: float) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant(low, tf.float32), tf.constant(high, tf.float32)


def multiplier_cases(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, shift) of every size, many with few bits, which make ties common."""
    m = np.where(rng.random(count) < 0.5, rng.integers(1 << 30, 1 << 31, count), rng.choice([1 << 30, 3 << 29, (1 << 31) - 1], count))
    return m, rng.integers(-30, 7, count)


def test_requantisation_is_numpys(way):
    """Accumulators of which most end up inside the bounds, where each unit counts; 200 multipliers a call, one a channel."""
    rng = np.random.default_rng(0)
    m, shift = multiplier_cases(rng, 200)
    reach = np.minimum(300.0 / (m * 2.0 ** (shift - 31.0)), 2.0**30)
    coarse = rng.integers(-600, 601, (500, 200)) / 2.0 * (reach / 300.0)
    acc = np.concatenate([np.rint(coarse), rng.integers(-reach.astype(np.int64), reach.astype(np.int64) + 1, (500, 200))]).astype(np.int64)
    bias = rng.integers(-3, 4, 200)
    parts = [tf.constant(acc // 2, tf.float64), tf.constant(acc - acc // 2, tf.float64)]
    factors = Factors.of(tf.constant(m, tf.float64), tf.constant(shift, tf.int64))
    one = tf.ones(200)
    got = loops.requantized(parts, one, one, tf.constant(bias, tf.float64), factors, bounds(-255, 255)).numpy()
    expected = np.stack([fp.multiply_by_quantized_multiplier(acc[:, c] + bias[c], int(m[c]), int(shift[c])) for c in range(200)], 1)
    assert np.array_equal(got, np.clip(expected, -255, 255))
    assert (np.abs(expected) < 255).mean() > 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_are_numpys(way, sign):
    rng = np.random.default_rng(1)
    a, b = rng.integers(-255, 256, (2, 50, 300))
    for _ in range(10):
        s1, s2, sy = rng.uniform(0.01, 1.0, 3)
        twice = 2 * max(s1, s2)
        reals = (s1 / twice, s2 / twice, twice / (2.0**LEFT_SHIFT * sy))
        factors = tuple(Factors.of_real(tf.constant(r, tf.float64)) for r in reals)
        gains = (tf.constant(s1 / sy, tf.float32), tf.constant(sign * s2 / sy, tf.float32))
        got = loops.added(tf.constant(a, tf.float32), tf.constant(b, tf.float32), gains, sign, factors, bounds(-200, 100)).numpy()
        p, q = (fp.multiply_by_quantized_multiplier(v << LEFT_SHIFT, *fp.quantize_multiplier(r)) for v, r in zip((a, b), reals))
        expected = fp.multiply_by_quantized_multiplier(p + sign * q, *fp.quantize_multiplier(reals[2]))
        assert np.array_equal(got, np.clip(expected, -200, 100))


def plain_weighted(layer, inputs, output, training):
    """`Weighted.integer` as the text book has it: the gradient of the linear map, clamped, an operation after the other."""
    x, scale = inputs[0], layer.weight_scale()
    parts = layer.partial_sums(x.q, layer.integer_weights(scale))
    total = tf.add_n([tf.cast(p, tf.float32) for p in parts])
    if training and layer.batch_norm:
        plain_statistics(layer, tf.add_n([to_float64(p) for p in parts]) * to_float64(x.scale * scale))
    linear = (total + layer.bias() / (x.scale * scale)) * (x.scale * scale / output.scale())
    fixed = [tf.stop_gradient(s) for s in (x.scale, scale, output.scale())]
    exact = requantize(tf.add_n([to_float64(p) for p in parts]) + layer.integer_bias(*fixed[:2]), layer.real_multiplier(*fixed))
    return plain_clamp(output, layer.activation, linear, exact)


def plain_statistics(layer, folded):
    alive = tf.abs(layer._gain()) >= layer._scale_gain()
    gain = tf.cast(layer._gain(), tf.float64)
    mean, variance = tf.nn.moments(folded / tf.where(alive, gain, tf.ones_like(gain)), axes=list(range(len(folded.shape) - 1)))
    rate = 1.0 - layer.batch_norm["momentum"]
    for variable, batch in ((layer.moving_mean, mean + tf.cast(layer.b, tf.float64)), (layer.moving_variance, variance)):
        old = tf.convert_to_tensor(variable)
        variable.assign(tf.where(alive, old + rate * (tf.cast(batch, tf.float32) - old), old))


def plain_sum(layer, inputs, output, training):
    a, b = inputs
    qa, qb = aligned([a.q, b.q])
    s1, s2, sy = (to_float64(s) for s in (a.scale, b.scale, output.scale()))
    twice = 2.0 * tf.maximum(s1, s2)
    lifted = [requantize(to_float64(q) * 2.0**LEFT_SHIFT, s / twice) for q, s in ((qa, s1), (qb, s2))]
    linear = layer.combine(qa * a.scale, qb * b.scale) / output.scale()
    return plain_clamp(output, layer.activation, linear, requantize(layer.combine(*lifted), twice / (2.0**LEFT_SHIFT * sy)))


def plain_clamp(output, activation, linear, exact):
    """The range of the quantiser first, then the activation, as two clamps."""
    q = tf.clip_by_value(straight_through(linear, tf.cast(exact, tf.float32)), *output.limits())
    low, high = activation_bounds(output, activation)
    return QValue(tf.minimum(tf.maximum(q, low), high), output)


def step_of(q, x, y):
    """(outputs, gradients of every trainable variable, all weights behind one pass of training)."""
    before = q.get_weights()
    with q.training_on_logits(), tf.GradientTape() as tape:
        outputs = q(x, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs))
    gradients = tape.gradient(loss, q.trainable_variables, unconnected_gradients="zero")
    after = q.get_weights()
    q.set_weights(before)
    return outputs.numpy(), [g.numpy() for g in gradients], after


def assert_same_step(q, x, monkeypatch):
    y = np.arange(len(x)) % int(q.output_shape[-1])
    outputs, gradients, after = step_of(q, x, y)
    monkeypatch.setattr(Weighted, "integer", plain_weighted)
    monkeypatch.setattr(_Additive, "integer", plain_sum)
    expected = step_of(q, x, y)
    assert np.array_equal(outputs, expected[0])
    largest = max(np.abs(g).max() for g in expected[1])  # a step's gradient is a sum of float32 that largely cancels
    for variable, ours, theirs in zip(q.trainable_variables, gradients, expected[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6 * largest, err_msg=variable.path)
    for ours, theirs in zip(after, expected[2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert sum(np.abs(g).max() > 0 for g in gradients) > len(gradients) // 2


def residual_network() -> keras.Model:
    """Signed, ReLU and ReLU6 sums and differences, one of them with an operand that is broadcast, strides and a depthwise layer."""
    keras.utils.set_random_seed(4)
    inputs = L.Input((7, 5, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same")(inputs)))
    y = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x))
    x = L.ReLU(6.0)(L.Add()([x, y]))
    x = L.Subtract()([L.Conv2D(6, 1)(x), x])
    x = L.Add()([x, L.GlobalAveragePooling2D(keepdims=True)(x)])
    x = L.ReLU()(L.Conv2D(9, 3, strides=2)(x))
    model = keras.Model(inputs, L.Dense(4)(L.Flatten()(x)))
    shake(model, np.random.default_rng(2))
    return model


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
def test_a_step_has_the_plain_formulas_gradients(way, batch_norm, monkeypatch):
    model = residual_network()
    x = samples(model, 3, 16)
    q = build_quantized(model, InputRange.from_affine(1 / 255, 0.0), batch_norm)
    calibrate(q, [x])
    for quantizer in q.quantizers:
        if quantizer.fixed is None:  # so that clamping stops some gradients
            quantizer.log_step.assign_sub(0.7)
    assert_same_step(q, x, monkeypatch)


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_have_the_plain_formulas_gradients(seed, monkeypatch):
    model = image_network(300 + seed)
    x = samples(model, seed, 16)
    assert_same_step(quantized(model, x), x, monkeypatch)


def test_groups_of_channels_share_their_gradient(monkeypatch):
    """A layer whose sum is too wide for float32."""
    keras.utils.set_random_seed(1)
    inputs = L.Input((5, 5, 67))
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(L.Conv2D(4, 3, activation="relu")(inputs))))
    x = samples(model, 1, 8)
    q = quantized(model, x)
    assert len(q.weighted_layers()[0].slices()) > 1
    assert_same_step(q, x, monkeypatch)


def test_small_tensors_are_not_compiled(monkeypatch):
    """A compilation takes longer than so small a network."""
    monkeypatch.setattr(loops, "compiles", lambda: pytest.fail("asked for the compiler"))
    model = residual_network()
    x = samples(model, 3, 4)
    q = build_quantized(model, InputRange.from_affine(1 / 255, 0.0))
    calibrate(q, [x])
    q.stored_integers(x)
