"""What an allocation takes, with the engine's own planner and generator."""

import numpy as np
import pytest

from tinykit.engine.estimate import ram_estimate
from tinykit.fit import meter as module
from tinykit.fit.meter import EngineMeter
from tinykit.fit.preview import preview
from tinykit.graph import ir
from tinykit.models.registry import build_model
from tinykit.quant.allocation.network import eight_bits, fewest_bits
from tinykit.quant.fuse import fuse


@pytest.fixture(scope="module")
def found():
    return preview(fuse(build_model("cnn", (8, 8, 1), 3, {"filters": [4, 6]})))


def test_a_plan_costs_no_text(found, monkeypatch):
    """A search asks for many plans and for few images."""
    monkeypatch.setattr(module, "generate", lambda *planned: pytest.fail("the C text was made"))
    meter = EngineMeter(found, None)
    for bits in (eight_bits(found.network), fewest_bits(found.network)):
        assert meter.planned(bits).ram == ram_estimate(found.with_bits(bits))


def test_constants_are_those_of_the_allocation_asked_for(found):
    wide, narrow = eight_bits(found.network), fewest_bits(found.network)
    meter = EngineMeter(found, None)
    assert meter.constants(wide) > meter.constants(narrow) == EngineMeter(found, None).constants(narrow)
    assert meter.planned(wide) == EngineMeter(found, None).planned(wide)


def test_what_codebook_and_softmax_take_is_seen_before_training(found):
    """Four levels have kernels of their own, and trained logits have code for what counts as 0."""
    network = fuse(build_model("cnn", (8, 8, 1), 3, {"filters": [4, 6], "softmax": True}))
    few = fewest_bits(found.network)
    odd, ternary = (preview(network, codebook=book).with_bits(few) for book in ("four_levels", "ternary"))
    convolutions = [(a.weights, b.weights) for a, b in zip(odd.ops, ternary.ops, strict=True) if isinstance(a, ir.Weighted)]
    assert convolutions
    for four, three in convolutions:
        assert set(np.unique(four)) <= {-3, -1, 1, 3} and set(np.unique(three)) <= {-1, 0, 1}
    assert next(op for op in odd.ops if isinstance(op, ir.Softmax)).diff_min > -255
