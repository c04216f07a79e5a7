"""The loops that make an allocation fit, with a meter whose figures are known."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.fit.best import Allowed, fit_optimum
from tinykit.fit.meter import Executed, Linked, Planned
from tinykit.fit.search import fit
from tinykit.quant.allocation.accounting import step_bits, total_weight_bytes
from tinykit.quant.allocation.network import Bits, Network, chain, eight_bits
from tinykit.quant.allocation.optimum import Prices
from tinykit.quant.allocation.rule import weight_cuts


@dataclass
class FakeMeter:
    """An engine that needs a share of what the accounting says, and code besides that grows with the number of widths."""

    network: Network
    share: float = 0.8
    code: int = 1000
    links: list[Bits] = field(default_factory=list)

    def planned(self, bits: Bits) -> Planned:
        needs = {step.name: int(self.share * -(-step_bits(step, bits) // 8)) for step in self.network.steps}
        return Planned(max(needs.values()), tuple(sorted(needs, key=lambda name: -needs[name])))

    def linked(self, bits: Bits) -> Linked:
        self.links.append(bits)
        return Linked(total_weight_bytes(self.network, bits) + self.code + 300 * len(set(bits.weights)), "linked image")

    def executed(self, bits: Bits) -> Executed:
        """Narrower weights take longer to unpack here; a tenth is spent between the layers."""
        layers = {x.name: x.weights * {8: 10, 4: 12, 2: 11}[w] for x, w in zip(self.network.layers, bits.weights, strict=True)}
        return Executed(int(1.1 * sum(layers.values())), layers)


def prices_of(network: Network) -> Prices:
    table = {8: 0.0, 4: 1.0, 2: 3.0}
    return Prices((table,) * len(network.layers), (table,) * network.groups)


sizes = st.integers(50, 5000)


@st.composite
def chains(draw) -> Network:
    count = draw(st.integers(1, 6))
    of = lambda n: draw(st.lists(sizes, min_size=n, max_size=n))  # noqa: E731
    return chain("chain", of(count + 1), of(count), of(count))


@settings(max_examples=150, deadline=None)
@given(chains(), st.one_of(st.none(), st.integers(500, 20_000)), st.one_of(st.none(), st.integers(100, 8000)), st.booleans())
def test_what_fits_really_fits_and_the_rest_is_said(network, flash, ram, best):
    meter = FakeMeter(network)
    found = fit_optimum(network, meter, prices_of(network), Allowed(flash, ram)) if best else fit(network, meter, flash, ram)
    bits = found.outcome.bits
    fits = (flash is None or meter.linked(bits).flash <= flash) and (ram is None or meter.planned(bits).ram <= ram)
    assert found.outcome.feasible == fits
    least = Bits(tuple(8 if g in network.fixed else 2 for g in range(network.groups)), (2,) * len(network.layers))
    if not found.outcome.feasible and not best:  # the loop gives up only where nothing is left to halve
        over_ram = ram is not None and meter.planned(least).ram > ram
        over_flash = flash is not None and min(meter.linked(b).flash for b in weight_cuts(network, bits)) > flash
        assert over_ram or over_flash


def test_nothing_is_cut_without_need():
    network = chain("chain", [100, 200, 100], [4000, 5000], [10, 10])
    for found in (
        fit(network, FakeMeter(network), 10**6, 10**6),
        fit_optimum(network, FakeMeter(network), prices_of(network), Allowed(10**6, 10**6)),
    ):
        assert found.outcome.bits == eight_bits(network)
        assert found.outcome.feasible


def test_the_engines_overlap_saves_bits():
    """The accounting would cut; the engine, which needs half of it, need not."""
    network = chain("chain", [100, 1000, 100], [40, 50], [10, 10])
    assert fit(network, FakeMeter(network, share=0.5), None, 600).outcome.bits == eight_bits(network)
    assert fit(network, FakeMeter(network, share=1.0), None, 600).outcome.bits.groups == (8, 4, 8)


def test_the_optimum_cuts_where_it_does_least_harm():
    network = chain("chain", [100, 100, 100], [4000, 4000], [10, 10])
    harmless = {8: 0.0, 4: 0.01, 2: 0.02}
    prices = Prices(({8: 0.0, 4: 1.0, 2: 3.0}, harmless), ({8: 0.0, 4: 9.0, 2: 9.0},) * 3)
    found = fit_optimum(network, FakeMeter(network), prices, Allowed(7700))
    assert found.outcome.bits.weights == (8, 4)
    assert fit(network, FakeMeter(network), 7700, None).outcome.bits.weights == (4, 8)  # the rule knows sizes only


def test_spared_weights_are_cut_last():
    network = chain("chain", [100, 100, 100], [4000, 4000], [10, 10])
    assert fit(network, FakeMeter(network), 7700, None, least=(8, 2)).outcome.bits.weights == (8, 4)
    assert fit(network, FakeMeter(network), 5000, None, least=(8, 2)).outcome.bits.weights == (4, 2)  # nothing else was left


@dataclass
class HeavyEights(FakeMeter):
    """Kernels for 8 bits take far more code than those for fewer."""

    def linked(self, bits: Bits) -> Linked:
        return Linked(super().linked(bits).flash + 6000 * (8 in bits.weights), "linked image")


def test_code_that_goes_with_the_last_layer_of_a_width():
    """All at 4 bits fits, which nobody could tell from the size with one layer at 8."""
    network = chain("chain", [100] * 4, [4000] * 3, [10] * 3)
    found = fit(network, HeavyEights(network), 8000, None)
    assert found.outcome.feasible and found.outcome.bits.weights == (4, 4, 4)


def test_few_images_are_linked():
    network = chain("chain", [100] * 13, [9000] * 12, [10] * 12)
    meter = FakeMeter(network)
    assert fit(network, meter, 40_000, None).outcome.feasible
    assert len(meter.links) <= 5


@pytest.mark.parametrize("best", [False, True])
def test_infeasible_names_the_figures(best):
    network = chain("chain", [100, 200, 100], [4000, 5000], [10, 10])
    meter = FakeMeter(network)
    found = fit_optimum(network, meter, prices_of(network), Allowed(1500)) if best else fit(network, meter, 1500, None)
    assert not found.outcome.feasible
    assert "3,550" in found.outcome.reasons[0]


def brute_force(network: Network, meter: FakeMeter, prices: Prices, allowed: Allowed) -> float | None:
    """Least harm of all allocations of weights that fit, activations at 8 bits."""
    harms = []
    for weights in itertools.product((8, 4, 2), repeat=len(network.layers)):
        bits = Bits((8,) * network.groups, weights)
        fits = allowed.flash is None or meter.linked(bits).flash <= allowed.flash
        fits &= allowed.instructions is None or meter.executed(bits).total <= allowed.instructions
        harms += [prices.of(bits)] if fits else []
    return min(harms, default=None)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_that_fits_is_better(data):
    """With what each width's kernels add to the image, and with time: as good as trying everything."""
    count = data.draw(st.integers(1, 4))
    network = chain("chain", [50] * (count + 1), data.draw(st.lists(sizes, min_size=count, max_size=count)), [10] * count)
    steps = st.tuples(st.floats(0.01, 2), st.floats(0.01, 2))
    harms = [{8: 0.0, 4: a, 2: a + b} for a, b in data.draw(st.lists(steps, min_size=count, max_size=count))]
    prices = Prices(tuple(harms), ({8: 0.0, 4: 9.0, 2: 20.0},) * network.groups)
    meter, total = FakeMeter(network), sum(layer.weights for layer in network.layers)
    flash = data.draw(st.integers(1300 + total // 4, 2000 + total))
    instructions = data.draw(st.one_of(st.none(), st.integers(11 * total, 14 * total)))
    best = brute_force(network, meter, prices, Allowed(flash, None, instructions))
    found = fit_optimum(network, meter, prices, Allowed(flash, None, instructions))
    assert found.outcome.feasible == (best is not None)
    if best is not None:
        assert prices.of(found.outcome.bits) <= best + 1e-5


def test_time_is_a_limit_of_its_own():
    network = chain("chain", [50] * 3, [4000, 1000], [10, 10])
    prices = prices_of(network)
    assert fit_optimum(network, FakeMeter(network), prices, Allowed(flash=5000)).outcome.bits.weights == (4, 8)
    assert fit_optimum(network, FakeMeter(network), prices, Allowed(flash=5000, instructions=60_000)).outcome.bits.weights == (2, 8)
    refused = fit_optimum(network, FakeMeter(network), prices, Allowed(flash=5000, instructions=50_000))
    assert not refused.outcome.feasible and "instructions" in refused.outcome.reasons[0]
