"""What an allocation takes, with the engine's own planner and generator."""

import pytest

from tinykit.engine.estimate import ram_estimate
from tinykit.fit import meter as module
from tinykit.fit.meter import EngineMeter
from tinykit.fit.preview import preview
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
