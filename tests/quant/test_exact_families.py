"""Every model family of the registry becomes an exact integer network; so does every family's deployed form after the simplifier."""

import keras
import numpy as np
import pytest
from networks import mismatches, quantized, shake

from tinykit.graph import reference
from tinykit.graph.costs import total_macs
from tinykit.graph.simplify import simplify
from tinykit.graph.writer import write_tflite
from tinykit.models import build_model, count_macs, model_names
from tinykit.verify.compare import compare_tflm

SMALL = {
    "cnn": ((11, 7, 1), {}),
    "conv1d": ((37, 3), {}),
    "ds_cnn": ((23, 10, 1), {"filters": 12, "blocks": 2}),
    "fc_autoencoder": ((40,), {"hidden": 16, "depth": 2}),
    "mobilenet_v1": ((37, 33, 3), {}),
    "mobilenet_v2": ((33, 35, 3), {"last": 32}),
    "resnet8": ((17, 19, 3), {"filters": (4, 8, 12)}),
    "staged": (
        (15, 13, 2),
        {
            "stages": [
                {"block": "conv", "filters": 6, "kernel": [5, 3], "stride": [2, 1]},
                {"block": "separable", "filters": 8, "repeats": 2},
                {"block": "inverted", "filters": 5, "expanded": 9, "kernel": 5, "stride": 2, "repeats": 2},
            ]
        },
    ),
}


def test_every_family_is_listed():
    assert set(SMALL) == set(model_names())


@pytest.mark.parametrize("name", sorted(SMALL))
def test_family_is_exact(name, tally):
    shape, options = SMALL[name]
    keras.utils.set_random_seed(1)
    model = build_model(name, shape, 3, options)
    shake(model, np.random.default_rng(1))
    x = np.random.default_rng(2).integers(0, 256, (12, *shape)).astype(np.float32) / 255
    q = quantized(model, x)
    wrong, elements, graph = mismatches(q, x)
    assert not any(wrong.values()), f"{wrong} of {elements}"
    simple = simplify(graph).graph
    stored = reference.quantize_input(graph, x)
    assert np.array_equal(reference.run(graph, stored), reference.run(simple, stored))
    found = compare_tflm(simple, write_tflite(simple), stored)
    tally("Keras vs reference", 0, elements)
    tally("TFLM vs simplified reference", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first
    assert total_macs(graph) == count_macs(model)
