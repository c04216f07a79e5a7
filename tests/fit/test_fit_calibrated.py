"""Allocations have to fit as calibrated too, and with ranges that training has moved."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinykit.errors import BudgetError
from tinykit.fit.meter import LINKED, EngineMeter, Linked
from tinykit.fit.preview import drifted, preview
from tinykit.graph import ir
from tinykit.models.registry import build_model
from tinykit.quant.allocation.network import eight_bits
from tinykit.quant.fuse import fuse
from tinykit.steps.allocation import _Choice


@pytest.fixture(scope="module")
def found():
    return preview(fuse(build_model("cnn", (8, 8, 1), 3, {"filters": [4, 6]})))


class Attempts:
    """Allocations that take what they are allowed, down to `least`; images with real ranges take `more`."""

    def __init__(self, found, more, least=0, source=LINKED):
        self.limits, self.lines, self.found, self.more, self.least, self.source = [], [], found, more, least, source
        self.choice = object.__new__(_Choice)
        self.choice.network, self.choice.calibrated = found.network, lambda bits: found.with_bits(bits)
        self.choice.options = SimpleNamespace(bits="optimum")
        self.choice.context = SimpleNamespace(log=self.lines.append, label="quantize")

    def __call__(self, limit):
        self.limits.append(limit)
        bits, feasible = eight_bits(self.found.network), limit is None or limit >= self.least
        outcome = SimpleNamespace(bits=bits, feasible=feasible, reasons=("too small",))
        taken = limit or 1000
        fitted = SimpleNamespace(outcome=outcome, linked=Linked(taken, self.source), planned=SimpleNamespace(ram=1))
        return fitted, SimpleNamespace(of_graph=lambda graph: Linked(taken + self.more(graph), LINKED))

    def run(self, limit):
        return self.choice._surely(limit, self)[0].linked.flash


def test_what_is_too_much_as_calibrated_is_taken_off_the_limit(found):
    assert Attempts(found, lambda graph: 0).run(1000) == 1000
    shifted = Attempts(found, lambda graph: 30)
    assert shifted.run(1000) == 970 and shifted.limits == [1000, 970] and "30 too many" in shifted.lines[1]


def test_ranges_that_training_may_find_count(found):
    plain = max(int(op.shift.max()) for op in found.graph.ops if isinstance(op, ir.Weighted))
    moved = Attempts(found, lambda graph: 50 * any(op.shift.max() > plain for op in graph.ops if isinstance(op, ir.Weighted)))
    assert moved.run(1000) == 950


def test_the_best_that_is_known_stays_where_nothing_smaller_fits(found):
    stuck = Attempts(found, lambda graph: 30, least=980)
    assert stuck.run(1000) == 1000 and "nothing smaller fits" in stuck.lines[-1]
    with pytest.raises(BudgetError, match="too small"):
        Attempts(found, lambda graph: 0, least=2000).run(1000)


def test_without_a_limit_or_a_compiler_nothing_is_linked_again(found):
    for limit, source in ((None, LINKED), (1000, "code estimated")):
        once = Attempts(found, lambda graph: 30, source=source)
        once.run(limit)
        assert once.limits == [limit]


def test_larger_scales_take_other_kernels(found):
    graph = found.with_bits(eight_bits(found.network))
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            op.shift = np.full_like(op.shift, -1)
    meter = EngineMeter(found, None)
    assert meter.of_graph(drifted(graph)).flash > meter.of_graph(graph).flash
    assert all(op.shift.max() == -1 for op in graph.ops if isinstance(op, ir.Weighted)), "a copy"
