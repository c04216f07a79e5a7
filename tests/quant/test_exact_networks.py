"""Keras forward pass = reference executor = TFLM's interpreter, every element of every tensor, on random networks."""

import keras
import numpy as np
import pytest
from networks import image_network, mismatches, quantized, samples, sequence_network

from tinykit.verify.compare import compare_tflm


@pytest.mark.parametrize("build,seed", [(image_network, s) for s in range(14)] + [(sequence_network, s) for s in range(4)])
def test_random_network_is_exact(build, seed, tally):
    model = build(seed)
    x = samples(model, seed)
    q = quantized(model, x)
    wrong, elements, graph = mismatches(q, x)
    assert not any(wrong.values()), f"Keras vs reference: {wrong} of {elements}"
    from tinykit.graph import reference

    tflm = compare_tflm(graph, None, reference.quantize_input(graph, x[:8]), tensors="all")
    tally("Keras vs reference", 0, elements)
    tally("TFLM vs reference", tflm.mismatches, tflm.elements)
    assert tflm.mismatches == 0, tflm.first


@pytest.mark.parametrize("seed", range(3))
def test_training_stays_exact(seed):
    """After optimisation steps that move every weight, bias, weight step and activation step."""
    model = image_network(100 + seed)
    x = samples(model, seed, 64)
    q = quantized(model, x)
    before = [np.array(w) for w in q.get_weights()]
    q.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    with q.training_on_logits():
        q.fit(x, np.arange(64) % 5, epochs=2, batch_size=16, verbose=0)
    assert any(not np.array_equal(a, b) for a, b in zip(before, q.get_weights()))
    wrong, elements, _ = mismatches(q, x)
    assert not any(wrong.values()), f"{wrong} of {elements}"


def test_the_check_can_fail():
    """One weight, one multiplier or one bias off by the least amount is seen."""
    model = image_network(2)
    x = samples(model, 2)
    q = quantized(model, x)
    layer = next(n for n in q.nodes if n.kind == "conv2d" or n.kind == "depthwise_conv2d")
    from tinykit.graph import reference
    from tinykit.quant.lowering import lower
    from tinykit.quant.model import stored_numpy

    truth = stored_numpy(q, x)
    for attribute in ("weights", "bias", "multiplier"):
        graph = lower(q)
        op = next(o for o in graph.ops if o.name == layer.name)
        changed = getattr(op, attribute).copy()
        if attribute == "multiplier":
            changed[:] = changed // 64 * 63
        else:
            changed[...] = np.where(changed > 0, changed - 1, changed + 1) if attribute == "weights" else changed + 997
        setattr(op, attribute, changed)
        other = reference.run_all(graph, reference.quantize_input(graph, x))
        assert (truth[op.output] != other[op.output]).any(), attribute
