"""Batch normalisation in one operation: what Keras's layer computes, its gradients and statistics; what it leaves alone."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from tinykit.steps.norms import fused_norms  # noqa: E402

SHAPES = [(7, 5), (5, 9, 3), (3, 7, 5, 6), (1, 1, 1, 4)]


def network(shape, **options):
    """A layer with statistics and weights of its own, in a model."""
    inputs = keras.Input(shape[1:])
    layer = keras.layers.BatchNormalization(**{"momentum": 0.9, "epsilon": 0.01, **options})
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return model, layer


def looked_at(model, layer, x, training):
    """Outputs, gradients of a loss that is none of its symmetries, and the weights afterwards."""
    x = tf.constant(x)
    weights = tf.cos(tf.reshape(tf.range(tf.size(x), dtype=tf.float32), x.shape))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=training)
        loss = tf.reduce_sum(weights * y * y)
    gradients = tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])
    return [y.numpy(), *[g.numpy() for g in gradients], *layer.get_weights()]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=["all", "no scale", "no offset"])
@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_keras_computes(shape, options, training):
    x = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    expected = looked_at(*network(shape, **options), x, training)
    model, layer = network(shape, **options)
    before = layer.get_weights()
    with fused_norms([model]):
        found = looked_at(model, layer, x, training)
    assert "call" not in vars(layer)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    changed = [not np.array_equal(a, b) for a, b in zip(layer.get_weights(), before, strict=True)]
    assert changed[-2:] == [training, training] and not any(changed[:-2])


def operations(model, shape):
    """The kinds of operations of a training step's forward pass."""
    graph = tf.function(lambda x: model(x, training=True), autograph=False).get_concrete_function(tf.TensorSpec(shape))
    return {operation.type for operation in graph.graph.get_operations()}


def test_it_is_one_operation_within_the_context():
    model, _ = network((4, 6, 6, 8))
    with fused_norms([model]):
        assert "FusedBatchNormV3" in operations(model, (4, 6, 6, 8))
    assert "FusedBatchNormV3" not in operations(model, (4, 6, 6, 8))


def test_a_layer_that_is_frozen_keeps_its_statistics():
    x = np.random.default_rng(0).normal(3, 2, (4, 5)).astype(np.float32)
    model, layer = network(x.shape)
    layer.trainable = False
    before, expected = layer.get_weights(), model(x, training=True).numpy()
    with fused_norms([model]):
        np.testing.assert_allclose(model(x, training=True), expected, rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before, strict=True))


class Own(keras.layers.BatchNormalization):
    """One that may do something else."""


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.BatchNormalization(axis=1),
        keras.layers.BatchNormalization(renorm=True),
        keras.layers.BatchNormalization(dtype="mixed_bfloat16"),
        Own(),
    ],
    ids=["another axis", "renorm", "other numbers", "a user's own"],
)
def test_other_kinds_stay_as_they_are(layer):
    inputs = keras.Input((4, 6, 3))
    model = keras.Model(inputs, layer(inputs))
    with fused_norms([model]):
        assert "call" not in vars(layer)


def test_a_mask_is_kept_to():
    x = np.random.default_rng(0).normal(3, 2, (2, 5, 3)).astype(np.float32)
    mask = tf.constant([[True, True, False, False, False], [True, True, True, True, False]])
    expected, layer = (network(x.shape)[1] for _ in range(2))
    wanted = expected(x, training=True, mask=mask)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    with fused_norms([model]):
        assert np.array_equal(layer(x, training=True, mask=mask), wanted)


def test_an_error_leaves_the_layers_as_they_were():
    model, layer = network((4, 5))
    with pytest.raises(InterruptedError), fused_norms([model, model]):
        raise InterruptedError
    assert "call" not in vars(layer)
