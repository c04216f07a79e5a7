"""The quantised model as a Keras model: files, training, batch norm, exact sums, calibration."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import L, image_network, mismatches, quantized, samples, shake

from tinykit.graph import reference
from tinykit.quant.calibrate import best_range, calibrate
from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.grid import best_weight_steps
from tinykit.quant.lowering import lower
from tinykit.quant.model import stored_numpy


def test_file_round_trip_keeps_every_integer(tmp_path):
    model = image_network(5)
    x = samples(model, 5)
    q = quantized(model, x)
    q.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    a, b = stored_numpy(q, x), stored_numpy(again, x)
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_prediction_is_the_dequantised_graph():
    model = image_network(1)
    x = samples(model, 1)
    q = quantized(model, x)
    graph = lower(q)
    out = graph.tensors[graph.outputs[0]]
    stored = reference.run(graph, reference.quantize_input(graph, x)).astype(np.int64)
    assert np.array_equal(q.predict(x, verbose=0), ((stored - out.zero_point) * np.float32(out.scale)).astype(np.float32))


def test_training_lowers_the_loss_and_stays_exact():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 256)
    x = np.clip(rng.normal(0.5, 0.1, (256, 6, 6, 1)) + np.eye(4)[y].repeat(9, 1).reshape(-1, 6, 6, 1) * 0.4, 0, 1).astype(np.float32)
    i = L.Input((6, 6, 1))
    h = L.Conv2D(6, 3, activation="relu")(i)
    model = keras.Model(i, L.Dense(4, activation="softmax")(L.Flatten()(h)))
    q = quantized(model, x)
    q.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    with q.training_on_logits():
        history = q.fit(x, y, epochs=8, batch_size=32, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    wrong, _, graph = mismatches(q, x)
    assert not any(wrong.values())
    integers = reference.run(graph, reference.quantize_input(graph, x))
    assert (integers.argmax(1) == y).mean() > 0.8


def test_distillation_pulls_towards_the_teacher():
    model = image_network(1)
    x = samples(model, 1, 64)
    q = quantized(model, x)
    target = np.random.default_rng(0).normal(0, 2, (64, 5)).astype(np.float32)
    table = {tuple(s.ravel()[:6]): t for s, t in zip(x, target)}

    def teacher(batch):
        return tf.numpy_function(lambda b: np.stack([table[tuple(s.ravel()[:6])] for s in b]), [batch], tf.float32)

    q.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    with q.training_on_logits(teacher, 1.0):
        losses = q.fit(x, np.zeros(64), epochs=10, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert q._distillation is None and not q.logits_only


def test_wide_sums_are_split_and_exact():
    """3 x 3 over 256 channels of large inputs and weights: the sum reaches 7e7, where float32 only holds every fourth integer."""
    i = L.Input((5, 5, 256))
    model = keras.Model(i, L.Conv2D(3, 3, padding="same", use_bias=False)(i))
    rng = np.random.default_rng(0)
    model.layers[1].set_weights([rng.uniform(0.9, 1.0, (3, 3, 256, 3)).astype(np.float32)])
    x = samples(model, 0, 8)
    x[2:] = np.maximum(x[2:], 0.97)
    q = quantized(model, x)
    layer = q.weighted_layers()[0]
    assert len(layer.slices()) > 1
    wrong, _, graph = mismatches(q, x)
    assert wrong[layer.name] == 0
    stored = reference.quantize_input(graph, x).astype(np.float64) + 128
    w = np.asarray(layer.integer_weights(layer.weight_scale()))
    padded = np.pad(stored, ((0, 0), (1, 1), (1, 1), (0, 0)))
    truth = sum(padded[:, r : r + 5, c : c + 5] @ w[r, c].astype(np.float64) for r in range(3) for c in range(3))
    assert truth.max() > 2**25
    parts = layer.partial_sums(tf.constant(stored, tf.float32), tf.constant(w))
    assert np.array_equal(sum(p.numpy().astype(np.float64) for p in parts), truth)
    one = layer.accumulate(tf.constant(stored, tf.float32), tf.constant(w)).numpy().astype(np.float64)
    assert not np.array_equal(one, truth), "a single float32 sum would have been exact too: the test shows nothing"


def test_batch_norm_update_learns_the_statistics_of_the_integers_and_stays_exact():
    rng = np.random.default_rng(1)
    i = L.Input((8, 8, 2))
    h = L.Conv2D(5, 3, use_bias=False, name="c")(i)
    h = L.ReLU()(L.BatchNormalization(momentum=0.5, name="n")(h))
    model = keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(h)))
    shake(model, rng)
    x = rng.integers(0, 256, (128, 8, 8, 2)).astype(np.float32) / 255
    q = build_quantized(model, InputRange.from_affine(1 / 255, 0.0), "update")
    calibrate(q, [x])
    q.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    with q.training_on_logits():
        q.fit(x, np.zeros(128), epochs=12, batch_size=128, verbose=0)
    layer = q.weighted_layers()[0]
    plain = keras.Model(i, model.get_layer("c").output).predict(x, verbose=0)
    assert np.allclose(layer.moving_mean, plain.mean((0, 1, 2)), atol=0.02)
    assert np.allclose(layer.moving_variance, plain.var((0, 1, 2)), rtol=0.05)
    wrong, elements, _ = mismatches(q, x)
    assert not any(wrong.values()), f"{wrong} of {elements}"


def test_concat_and_pool_share_one_scale():
    i = L.Input((6, 6, 2))
    a, b = L.Conv2D(3, 3, padding="same")(i), L.Conv2D(3, 1)(i)
    model = keras.Model(i, L.MaxPooling2D()(L.Concatenate()([a, L.AveragePooling2D(1)(b)])))
    graph = lower(quantized(model, samples(model, 0)))
    scales = {(graph.tensors[o.output].scale, graph.tensors[o.output].zero_point) for o in graph.ops}
    assert len(scales) == 1


@pytest.mark.parametrize("scale,offset,expected", [(1 / 255, 0.0, -128), (1.0, 0.0, -128), (1.0, -128.0, 0), (2.0, -254.0, -1)])
def test_affine_input_is_exact(scale, offset, expected):
    r = InputRange.from_affine(scale, offset)
    assert r is not None and r.zero_point == expected
    u = np.arange(256)
    graph_scale = np.float32(r.scale)
    stored = np.floor((scale * u + offset).astype(np.float32).astype(np.float64) / np.float64(graph_scale) + 0.5) + r.zero_point
    assert np.array_equal(stored, u - 128)


def test_affine_input_that_has_no_integer_zero_point_is_left_to_calibration():
    assert InputRange.from_affine(1 / 127.5, -1.0) is None
    assert InputRange.from_affine(-1.0, 0.0) is None


def test_best_range_against_brute_force():
    values = np.concatenate([np.random.default_rng(0).normal(0.3, 0.1, 5000), [3.0]])
    scale, zero = best_range(values, -128, 127, signed=True)

    def error(s, z):
        return (((np.clip(np.floor(values / s + 0.5) + z, -128, 127) - z) * s - values) ** 2).sum()

    full = (values.max() - min(values.min(), 0)) / 255
    assert error(scale, zero) <= error(full, -128)
    assert best_range(values, -128, 127, signed=True, method="minmax")[0] == pytest.approx(full)
    assert best_range(np.zeros(4), -128, 127, signed=False) == (1e-6, -128)


def test_weight_steps_are_no_worse_than_the_largest_weight():
    w = np.random.default_rng(0).normal(0, 1, (40, 6))
    w[:, 3] = 0
    steps = best_weight_steps(w, 7)
    naive = np.abs(w).max(0) / 7 + 1e-12

    def error(s):
        return ((np.clip(np.round(w / s), -7, 7) * s - w) ** 2).sum(0)

    assert (error(steps) <= error(naive) + 1e-12).all() and (steps > 0).all()


def test_a_dead_channel_does_not_overflow_the_bias():
    i = L.Input((4, 4, 2))
    model = keras.Model(i, L.Conv2D(3, 3)(i))
    w, _ = model.layers[1].get_weights()
    w[..., 1] = 1e-12
    model.layers[1].set_weights([w, np.array([0.1, 50.0, -0.1], np.float32)])
    x = samples(model, 0)
    q = quantized(model, x)
    wrong, _, graph = mismatches(q, x)
    assert not any(wrong.values())
    assert abs(int(graph.ops[0].bias[1])) <= 2**30


def test_the_op_table_names_every_training_layer():
    from tinykit.graph.optable import ROWS
    from tinykit.quant.model import LAYERS

    assert {r.kind: r.training for r in ROWS if r.training} == {kind: cls.__name__ for kind, cls in LAYERS.items()}
