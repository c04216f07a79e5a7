"""Every combination of widths: Keras forward pass = reference executor = TFLM carrier, every element of every tensor."""

import itertools

import keras
import numpy as np
import pytest
from networks import image_network, mismatches, samples, sequence_network, shake

from tinykit.graph import ir, reference
from tinykit.quant.allocation.network import WIDTHS, Bits
from tinykit.quant.allocation.program import network_of
from tinykit.quant.calibrate import calibrate, correct_biases
from tinykit.quant.convert import InputRange, from_program
from tinykit.quant.fuse import fuse
from tinykit.quant.grid import best_weight_steps
from tinykit.verify.compare import compare_tflm

L = keras.layers


def layer_network(kind: str) -> keras.Model:
    """A convolution, then the layer of interest, whose input, weights and output have a width each, then a dense layer. Odd sizes."""
    keras.utils.set_random_seed(0)
    if kind == "conv1d":
        inputs = x = L.Input((19, 3))
        x = L.Conv1D(5, 3, activation="relu")(x)
        x = L.Conv1D(7, 3, padding="same", strides=2, activation="relu", name="middle")(x)
    else:
        inputs = x = L.Input((7, 9, 3))
        x = L.Conv2D(5, 3, padding="same", activation="relu")(x)
        if kind == "conv3x3":
            x = L.Conv2D(7, 3, padding="same", strides=2, activation="relu", name="middle")(x)
        elif kind == "pointwise":
            x = L.Conv2D(7, 1, name="middle")(x)  # signed output
        elif kind == "depthwise":
            x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="middle")(x)
        else:
            x = L.Dense(11, activation="relu", name="middle")(L.Flatten()(x))
    x = L.Dense(4)(L.Flatten()(x) if len(x.shape) > 2 else x)
    model = keras.Model(inputs, x)
    shake(model, np.random.default_rng(1))
    return model


def narrowed(program, bits: Bits, x: np.ndarray, codebook: str = "four_levels"):
    """A calibrated integer network."""
    q = from_program(program, InputRange.from_affine(1 / 255, 0.0), bits, codebook)
    calibrate(q, [x])
    correct_biases(q)
    return q


def compare(q, x: np.ndarray, tally, tflm_samples: int = 4, eager: bool = False) -> ir.Graph:
    wrong, elements, graph = mismatches(q, x, eager)
    tally("Keras vs reference, 8/4/2 bits", sum(wrong.values()), elements)
    assert not any(wrong.values()), f"Keras vs reference: {wrong} of {elements}"
    tflm = compare_tflm(graph, None, reference.quantize_input(graph, x[:tflm_samples]), tensors="all")
    tally("TFLM vs reference, 8/4/2 bits", tflm.mismatches, tflm.elements)
    assert tflm.mismatches == 0, tflm.first
    return graph


@pytest.mark.parametrize("kind", ["conv3x3", "pointwise", "depthwise", "dense", "conv1d"])
def test_all_27_combinations(kind, tally):
    model = layer_network(kind)
    program, x = fuse(model), samples(model, 3, 16)
    network = network_of(program)
    index = [layer.name for layer in network.layers].index("middle")
    before, after = network.layers[index - 1].result.group, network.layers[index].result.group
    for i, (source, weights, result) in enumerate(itertools.product(WIDTHS, repeat=3)):
        groups = [8] * network.groups
        groups[before], groups[after] = source, result
        widths = [weights if j == index else 8 for j in range(len(network.layers))]
        graph = compare(narrowed(program, Bits(tuple(groups), tuple(widths)), x, ("four_levels", "ternary")[i % 2]), x, tally, eager=True)
        op = next(op for op in graph.ops if op.name == "middle")
        assert isinstance(op, ir.Weighted)
        assert (graph.tensors[op.inputs[0]].bits, op.weight_bits, graph.tensors[op.output].bits) == (source, weights, result)
        assert len(np.unique(op.weights)) <= (255, 15, 4)[WIDTHS.index(weights)]


def joined_network() -> keras.Model:
    """A residual and a concatenation, an average pool, a mean, a table."""
    keras.utils.set_random_seed(2)
    inputs = L.Input((9, 7, 3))
    x = L.Conv2D(5, 3, padding="same", activation="relu")(inputs)
    y = L.Conv2D(5, 3, padding="same")(x)
    x = L.ReLU()(L.Add()([x, y]))
    x = L.Concatenate()([x, L.Conv2D(3, 1, activation="relu6")(x)])
    x = L.AveragePooling2D(2, padding="same")(L.Activation("hard_silu")(x))
    x = L.Multiply()([x, L.Conv2D(8, 1, activation="sigmoid")(x)])
    model = keras.Model(inputs, L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x)))
    shake(model, np.random.default_rng(3))
    return model


def random_bits(network, rng) -> Bits:
    groups = [8 if g in network.fixed else int(rng.choice(WIDTHS)) for g in range(network.groups)]
    return Bits(tuple(groups), tuple(int(rng.choice(WIDTHS)) for _ in network.layers))


@pytest.mark.parametrize("seed", range(6))
def test_residual_and_concatenation(seed, tally):
    model = joined_network()
    program, x = fuse(model), samples(model, seed, 16)
    compare(narrowed(program, random_bits(network_of(program), np.random.default_rng(seed)), x), x, tally)


@pytest.mark.parametrize("build,seed", [(image_network, 200 + s) for s in range(8)] + [(sequence_network, 300 + s) for s in range(3)])
def test_random_networks_of_random_widths(build, seed, tally):
    model = build(seed)
    program, x = fuse(model), samples(model, seed, 16)
    codebook = ("four_levels", "ternary")[seed % 2]
    compare(narrowed(program, random_bits(network_of(program), np.random.default_rng(seed)), x, codebook), x, tally)


def test_training_stays_exact_at_low_bits(tally):
    model = joined_network()
    program, x = fuse(model, "update"), samples(model, 0, 48)
    bits = random_bits(network_of(program), np.random.default_rng(11))
    q = narrowed(program, bits, x)
    before = [np.array(w) for w in q.get_weights()]
    q.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    with q.training_on_logits():
        q.fit(x, np.arange(48) % 5, epochs=2, batch_size=16, verbose=0)
    assert any(not np.array_equal(a, b) for a, b in zip(before, q.get_weights()))
    compare(q, x, tally)


@pytest.mark.parametrize(("level", "odd"), [(127, False), (7, False), (1, False), (3, True)])
def test_weight_steps_are_near_the_best(level, odd):
    """Against a search over 4,000 steps, for odd and even grids."""
    rng = np.random.default_rng(5)
    flat = rng.normal(0, 1, (40, 3)) * [0.01, 1.0, 50.0]

    def error(step: np.ndarray) -> np.ndarray:
        grid = np.arange(-level, level + 1, 2 if odd else 1)
        return np.abs(flat[..., None] - grid * step[:, None]).min(axis=-1).__pow__(2).sum(axis=0)

    found = error(best_weight_steps(flat, level, odd).astype(np.float64))
    ratios = np.linspace(0.02, 1.1, 4000)
    least = np.min([error(np.abs(flat).max(axis=0) / level * r) for r in ratios], axis=0)
    assert (found <= 1.15 * least + 1e-12).all(), (found, least)
