"""What the integer network computes is what the float network means, also in corners: shared scales, dead tensors, huge biases, odd layers.

Exactness alone would not see these: all three executions could agree on the wrong function.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import L, mismatches, samples, shake

from tinykit.errors import ModelError
from tinykit.graph import reference
from tinykit.quant.calibrate import calibrate
from tinykit.quant.convert import InputRange, build_quantized
from tinykit.quant.fuse import fuse
from tinykit.quant.lowering import lower
from tinykit.quant.model import stored_numpy
from tinykit.verify.compare import compare_tflm

UNIT = InputRange(1 / 255, -128)
WIDE = keras.initializers.RandomNormal(stddev=3.0, seed=1)


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


def image():
    return L.Input((7, 9, 3))


def same(channels, kernel=3, **options):
    return L.Conv2D(channels, kernel, padding="same", **options)


def check(model, tally, x=None, tolerance=0.03, batch_norm="frozen", input_range=UNIT):
    """Keras = reference = TFLM on every element, and the outputs are those of the float model within `tolerance` of their range."""
    x = samples(model, 0, 16) if x is None else x
    q = build_quantized(model, input_range, batch_norm)
    calibrate(q, [x])
    wrong, elements, graph = mismatches(q, x)
    assert not any(wrong.values()), f"{wrong} of {elements}"
    found = compare_tflm(graph, None, reference.quantize_input(graph, x[:4]), tensors="all")
    assert found.mismatches == 0, found.first
    tally("Keras vs reference", 0, elements)
    tally("TFLM vs reference", found.mismatches, found.elements)
    expected = model.predict(x, verbose=0)
    error = np.abs(q.predict(x, verbose=0) - expected).max()
    assert error <= tolerance * max(np.ptp(expected), np.abs(expected).max(), 1e-6), f"off by {error} of {np.ptp(expected)}"
    return q


def relu_beside_signed(i):
    return L.Concatenate()([same(4, activation="relu")(i), same(4)(i)])


def relu6_beside_relu(i):
    return L.Concatenate()(
        [same(4, activation="relu6", kernel_initializer=WIDE)(i), same(4, activation="relu", kernel_initializer=WIDE)(i)]
    )


def relu6_pooled_beside_signed(i):
    return L.Concatenate()([L.MaxPooling2D(2, 1, padding="same")(same(4, activation="relu6", kernel_initializer=WIDE)(i)), same(2)(i)])


def relu6_sum_beside_signed(i):
    return L.Concatenate()([L.ReLU(6.0)(L.Add()([same(2, kernel_initializer=WIDE)(i), same(2)(i)])), same(2)(i)])


def relu_product_beside_signed(i):
    return L.Minimum()([L.ReLU()(L.Multiply()([same(2)(i), same(2)(i)])), same(2)(i)])


def relu6_table_beside_signed(i):
    joined = L.Concatenate()([same(2, kernel_initializer=WIDE)(i), same(2)(i)])
    return L.Maximum()([L.Activation("relu6")(joined), same(4, kernel_initializer=WIDE)(i)])


@pytest.mark.parametrize(
    "build",
    [
        relu_beside_signed,
        relu6_beside_relu,
        relu6_pooled_beside_signed,
        relu6_sum_beside_signed,
        relu_product_beside_signed,
        relu6_table_beside_signed,
    ],
)
def test_a_relu_stays_a_relu_where_its_tensor_shares_the_scale_of_others(build, tally):
    i = image()
    check(keras.Model(i, build(i)), tally)


def test_a_pooled_relu6_still_ends_at_six():
    i = image()
    q = build_quantized(keras.Model(i, L.MaxPooling2D()(same(2, activation="relu6")(i))), UNIT)
    assert [n.max_real for n in q.quantizers] == [None, 6.0]


@pytest.mark.parametrize("width", [9, 16])
@pytest.mark.parametrize("kind", ["add", "multiply", "maximum"])
@pytest.mark.parametrize("vector_first", [False, True])
def test_a_vector_beside_a_plane_is_broadcast_over_it(width, kind, vector_first, tally):
    """Width 16 is the batch size of the check: a careless broadcast would take the samples for columns."""
    i = L.Input((5, width, 3))
    x = same(4)(i)
    pair = [x, L.Dense(4)(L.GlobalAveragePooling2D()(x))]
    layer = {"add": L.Add, "multiply": L.Multiply, "maximum": L.Maximum}[kind]()
    check(keras.Model(i, layer(pair[::-1] if vector_first else pair)), tally)


def test_a_vector_beside_a_sequence_is_broadcast_over_it(tally):
    i = L.Input((11, 3))
    check(keras.Model(i, L.Multiply()([i, L.Dense(3, activation="sigmoid")(L.GlobalAveragePooling1D()(i))])), tally)


def test_operands_of_different_rank_are_refused_where_keras_aligns_them_otherwise():
    i = L.Input((5, 5, 5))
    with pytest.raises(ModelError, match="differ in rank"):
        fuse(keras.Model(i, keras.ops.add(i, L.Dense(5)(L.Flatten()(i)))))


@pytest.mark.parametrize("layer", [L.Conv2D, L.Dense])
def test_the_slope_of_a_leaky_relu_given_by_name_or_as_a_layer(layer, tally):
    for activation in ("leaky_relu", L.LeakyReLU(negative_slope=0.1), L.ReLU(6.0)):
        i = L.Input((4, 4, 3))
        options = {"kernel_size": 3} if layer is L.Conv2D else {}
        check(keras.Model(i, layer(4, activation=activation, **options)(i)), tally)


@pytest.mark.parametrize("activation", [functools.partial(keras.activations.relu, max_value=1.0), lambda x: x * x, L.PReLU(), L.ReLU(3.0)])
def test_an_activation_that_is_no_function_of_keras_is_refused(activation):
    i = image()
    with pytest.raises(ModelError, match="'odd'"):
        fuse(keras.Model(i, same(2, activation=activation, name="odd")(i)))


def test_a_function_that_only_has_the_name_of_an_activation_is_refused():
    def relu(x):
        return x * 2.0

    i = image()
    with pytest.raises(ModelError, match="not a function of keras.activations"):
        fuse(keras.Model(i, same(2, activation=relu)(i)))


def test_an_odd_relu_behind_a_convolution_is_refused_by_its_own_name():
    i = image()
    with pytest.raises(ModelError, match="layer 'odd'"):
        fuse(keras.Model(i, L.ReLU(4.0, name="odd")(same(2, name="fine")(i))))


@pytest.mark.parametrize(
    "layer",
    [
        L.GlobalAveragePooling2D(data_format="channels_first", name="odd"),
        L.GlobalMaxPooling2D(data_format="channels_first", name="odd"),
        L.ZeroPadding2D(1, data_format="channels_first", name="odd"),
        L.Cropping2D(1, data_format="channels_first", name="odd"),
        L.Flatten(data_format="channels_first", name="odd"),
        L.Normalization(axis=1, mean=np.arange(5.0), variance=np.ones(5), name="odd"),
        L.Rescaling(np.arange(1.0, 6.0).reshape(5, 1, 1), name="odd"),
    ],
)
def test_other_axes_than_the_last_are_refused(layer):
    i = L.Input((5, 5, 5))
    with pytest.raises(ModelError, match="layer 'odd'"):
        fuse(keras.Model(i, layer(i)))


@pytest.mark.parametrize("layer", [L.BatchNormalization(name="odd"), L.Dropout(0.5, name="odd")])
def test_a_layer_called_as_in_training_is_refused(layer):
    i = image()
    with pytest.raises(ModelError, match="'odd'.*training=True"):
        fuse(keras.Model(i, layer(same(2)(i), training=True)))


def test_weights_that_are_not_finite_are_refused_by_name():
    i = image()
    model = keras.Model(i, same(2, name="odd")(i))
    model.get_layer("odd").bias.assign([np.nan, 1.0])
    with pytest.raises(ModelError, match="'odd'.*bias contains NaN"):
        fuse(model)


def test_a_model_without_operations_is_refused():
    i = image()
    with pytest.raises(ModelError, match="no layer that computes"):
        fuse(keras.Model(i, L.Dropout(0.5)(i)))


def test_padding_that_somebody_else_reads_behind_a_dropout_stays(tally):
    i = image()
    p = L.ZeroPadding2D(1)(i)
    check(keras.Model(i, L.Concatenate()([L.Conv2D(2, 3)(L.Dropout(0.1)(p)), L.MaxPooling2D(3, strides=1)(p)])), tally)


def test_more_tensors_than_tflm_concatenates_at_once(tally):
    i = image()
    q = check(keras.Model(i, L.Concatenate()([same(1)(i) for _ in range(23)])), tally)
    assert all(len(op.inputs) <= 10 for op in lower(q).ops)


# scales ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "hard_silu", "relu6", "silu"])
def test_a_tensor_that_is_always_zero_or_almost(activation, tally):
    i = image()
    h = same(4, activation=activation, bias_initializer=keras.initializers.Constant(-50.0))(i)
    check(keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(h))), tally)


@pytest.mark.parametrize("layer", [L.Subtract, L.Multiply])
def test_operations_that_give_nothing_but_zero_at_a_large_input_scale(layer, tally):
    i = image()
    zero = L.Subtract()([i, i])
    model = keras.Model(
        i, L.Concatenate()([layer()([zero, i]), L.Multiply()([zero, i]), L.GlobalAveragePooling2D(keepdims=True)(zero) + zero])
    )
    check(model, tally, x=samples(model, 0, 16) * 255, input_range=InputRange(1.0, -128))


@pytest.mark.parametrize("layer", [same(4, kernel_initializer="zeros"), L.Dense(4, kernel_initializer="zeros")])
def test_weights_of_zero_leave_the_bias(layer, tally):
    i = image()
    model = keras.Model(i, layer(i))
    layer.bias.assign([1.0, -2.0, 0.0, 300.0])
    check(model, tally)


@pytest.mark.parametrize("layer", [same(4), L.DepthwiseConv2D(3), L.Dense(4)])
def test_large_biases_of_dead_channels_are_not_cut(layer, tally):
    i = L.Input((6, 6, 4))
    model = keras.Model(i, layer(i))
    w, b = layer.get_weights()
    w = w * 0.01
    w.reshape(-1, 4)[:, 1] = 0
    layer.set_weights([w, np.array([0.01, 50.0, -0.01, 0.02], np.float32)])
    check(model, tally)


def test_a_bias_that_saturates_anyway_does_not_make_the_other_weights_of_a_dense_layer_coarse(tally):
    i = L.Input((12,))
    layer = L.Dense(4, activation="relu")
    model = keras.Model(i, layer(i))
    w, _ = layer.get_weights()
    layer.set_weights([np.abs(w) * 0.01, np.array([0, -1e7, 0, 0], np.float32)])
    check(model, tally)


@pytest.mark.parametrize("layer", [L.Conv2D(2, 24), L.DepthwiseConv2D(24), L.AveragePooling2D(24)])
def test_windows_of_more_taps_than_float32_sums(layer, tally):
    i = L.Input((25, 25, 2))
    model = keras.Model(i, layer(i))
    if layer.weights:
        layer.set_weights([np.random.default_rng(0).uniform(0.9, 1, w.shape) * (w.ndim > 1) for w in layer.get_weights()])
    x = np.maximum(samples(model, 0, 6), 0.95)
    check(model, tally, x=x)


def test_a_pool_over_more_elements_than_float32_sums():
    i = L.Input((263, 251, 1))
    model = keras.Model(i, L.AveragePooling2D((263, 251))(i))
    x = np.random.default_rng(0).uniform(0.97, 1.0, (3, 263, 251, 1)).astype(np.float32)
    q = build_quantized(model, UNIT)
    calibrate(q, [x])
    assert not any(mismatches(q, x)[0].values())


def test_training_that_drives_every_step_to_an_extreme_stays_exact(tally):
    """Steps far out of proportion in either direction: the network can still be written, and all three agree."""
    i = image()
    h = L.Add()([same(4, activation="hard_silu")(i), L.Multiply()([same(4)(i), same(4, activation="sigmoid")(i)])])
    h = L.LeakyReLU(0.3)(L.Concatenate()([h, L.ReLU(6.0)(same(4)(i)), L.Subtract()([h, same(4)(i)])]))
    h = L.BatchNormalization()(h)
    model = keras.Model(i, L.Softmax()(L.Dense(3)(L.GlobalAveragePooling2D()(h))))
    x = samples(model, 0, 16)
    for seed in range(2):
        q = build_quantized(model, UNIT)
        calibrate(q, [x])
        fixed = [(float(n.scale()), float(n.zero_point)) for n in q.quantizers if n.fixed]
        zeros = [float(n.zero_point) for n in q.quantizers]
        rng = np.random.default_rng(seed)
        for n in [*q.quantizers, *q.weighted_layers()]:
            if n.log_step.trainable:
                n.log_step.assign(n.log_step + rng.normal(0, 5, n.log_step.shape))
        for n in q.weighted_layers():
            n.b.assign(n.b + rng.normal(0, 1, n.b.shape) * 10.0 ** rng.integers(-3, 5, n.b.shape))
        q.keep_representable()
        q.compile(keras.optimizers.Adam(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        with q.training_on_logits():
            q.fit(x, np.arange(16) % 3, batch_size=8, epochs=2, verbose=0)
        wrong, elements, graph = mismatches(q, x)
        assert not any(wrong.values()), f"{wrong} of {elements}"
        found = compare_tflm(graph, None, reference.quantize_input(graph, x[:4]), tensors="all")
        assert found.mismatches == 0, found.first
        tally("Keras vs reference", 0, elements)
        tally("TFLM vs reference", found.mismatches, found.elements)
        assert zeros == [float(n.zero_point) for n in q.quantizers]
        assert fixed == [(float(n.scale()), float(n.zero_point)) for n in q.quantizers if n.fixed]


def test_a_sensible_network_is_left_as_it_is():
    i = image()
    model = keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(L.ReLU()(L.BatchNormalization()(same(5)(i))))))
    shake(model, np.random.default_rng(0))
    q = build_quantized(model, UNIT, "update")
    calibrate(q, [samples(model, 0)])
    before = q.get_weights()
    q.keep_representable()
    assert all(np.array_equal(a, b) for a, b in zip(before, q.get_weights()))


# batch norm that stays a variable -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 5, 64])
def test_graph_mode_and_eager_mode_give_the_same_scales(channels):
    """TensorFlow's graph optimiser turns x / sqrt(y) into x * rsqrt(y), which moved the last bit of a third of the scales."""
    i = L.Input((4, 4, 3))
    q = build_quantized(keras.Model(i, L.BatchNormalization()(L.Conv2D(channels, 3)(i))), UNIT, "update")
    layer, rng = q.weighted_layers()[0], np.random.default_rng(0)
    everything = tf.function(lambda: (layer.weight_scale(), layer.bias(), layer.integer_weights(layer.weight_scale())))
    for _ in range(30):
        layer.moving_variance.assign(rng.uniform(1e-4, 3, channels))
        layer.moving_mean.assign(rng.normal(0, 1, channels))
        layer.gamma.assign(rng.normal(0, 1, channels))
        layer.log_step.assign(rng.normal(-5, 1, channels))
        eager = layer.weight_scale(), layer.bias(), layer.integer_weights(layer.weight_scale())
        assert all(np.array_equal(a, b) for a, b in zip(everything(), eager))


@pytest.mark.parametrize("gamma", [(0.0, 0.0, 0.0, 0.0), (0.0, 1e-6, 1e-4, -1.0), (-1.0, 3e-4, -3e-4, 1.0)])
def test_gains_of_zero_and_almost_zero(gamma, tally):
    i = image()
    norm = L.BatchNormalization(momentum=0.5)
    model = keras.Model(i, norm(same(4, kernel_initializer=WIDE)(i)))
    norm.gamma.assign(gamma)
    norm.beta.assign([0.3, -0.2, 0.1, 0.0])
    q = check(model, tally, batch_norm="update")
    x = samples(model, 0, 16)
    layer = q.weighted_layers()[0]
    variances = np.array(layer.moving_variance)
    q.compile(keras.optimizers.SGD(0.0), "mse")
    q.fit(x, model.predict(x, verbose=0), epochs=3, verbose=0)
    assert np.isfinite(layer.moving_variance).all() and (np.asarray(layer.moving_variance) < 50 * variances.max() + 500).all()
    assert not any(mismatches(q, x)[0].values())


def test_a_gamma_of_zero_can_learn():
    i = image()
    norm = L.BatchNormalization(gamma_initializer="zeros")
    model = keras.Model(i, norm(same(4)(i)))
    q = build_quantized(model, UNIT, "update")
    x = samples(model, 0, 16)
    calibrate(q, [x])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((q(x) - 1.0) ** 2)
    gradient = tape.gradient(loss, q.weighted_layers()[0].gamma)
    assert np.isfinite(gradient).all() and (np.abs(gradient) > 0).any()


# inputs and settings -----------------------------------------------------------------------------------------------------------


def test_infinity_saturates_and_nan_is_refused():
    i = image()
    model = keras.Model(i, same(3, activation="relu")(i))
    x = samples(model, 0, 8)
    q = build_quantized(model, UNIT)
    calibrate(q, [x])
    x[3], x[4], x[5, 0, 0, 0], x[6, 0, 0, 0] = 1e30, -1e30, np.inf, -np.inf
    assert not any(mismatches(q, x)[0].values())
    with pytest.raises(ModelError, match="NaN or infinity"):
        calibrate(q, [x])
    x[7, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="NaN"):
        reference.quantize_input(lower(q), x)


def test_a_global_precision_policy_does_not_reach_the_integers():
    i = image()
    model = keras.Model(i, L.Dense(3)(L.Flatten()(same(4)(i))))
    x = samples(model, 0, 8)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        q = build_quantized(model, UNIT)
        calibrate(q, [x])
        assert not any(mismatches(q, x)[0].values())
        graph = lower(q)
        out = graph.tensors[graph.outputs[0]]
        stored = reference.run(graph, reference.quantize_input(graph, x)).astype(np.int64)
        assert np.array_equal(q.predict(x, verbose=0), ((stored - out.zero_point) * np.float32(out.scale)).astype(np.float32))
    finally:
        keras.config.set_dtype_policy(before)


def test_batches_of_one_give_what_one_batch_gives():
    i = image()
    model = keras.Model(i, L.Softmax()(L.Dense(3)(L.GlobalAveragePooling2D()(L.Activation("hard_silu")(L.DepthwiseConv2D(3)(i))))))
    x = samples(model, 0, 40)
    q = build_quantized(model, UNIT)
    calibrate(q, [x])
    whole = stored_numpy(q, x)
    for k in range(len(x)):
        single = stored_numpy(q, x[k : k + 1])
        assert all(np.array_equal(single[name][0], whole[name][k]) for name in whole)


def test_an_exception_leaves_the_model_as_it_was():
    i = image()
    model = keras.Model(i, L.Softmax()(L.Dense(3)(L.Flatten()(i))))
    x = samples(model, 0, 8)
    q = build_quantized(model, UNIT)
    calibrate(q, [x])
    before = q.predict(x, verbose=0)
    with pytest.raises(KeyError), q.training_on_logits(lambda batch: batch, 0.5):
        raise KeyError("stop")
    assert not q.logits_only and q._distillation is None
    assert np.array_equal(q.predict(x, verbose=0), before)
