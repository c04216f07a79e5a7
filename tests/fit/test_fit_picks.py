"""Picks among allocations: by what links, not by what weights alone would take."""

from types import SimpleNamespace

import pytest
from test_fit_search import FakeMeter, prices_of

from tinykit.fit.meter import Linked
from tinykit.fit.picks import front, picks
from tinykit.quant.allocation.accounting import total_weight_bytes
from tinykit.quant.allocation.network import chain, eight_bits


class Costly(FakeMeter):
    """Kernels for weights of less than 8 bits take much code, as in small networks."""

    narrow = 100_000

    def linked(self, bits):
        self.links.append(bits)
        return Linked(total_weight_bytes(self.network, bits) + self.narrow * (set(bits.weights) != {8}), "linked image")


class Cheap(Costly):
    narrow = 50


@pytest.fixture
def network():
    return chain("chain", [100, 200, 100], [900, 700], [900, 700])


def found(network, meter, harm=0.0):
    chosen = eight_bits(network)
    probe = SimpleNamespace(with_bits=lambda bits: harm if bits != chosen else 0.0)
    points = front(network, prices_of(network), probe, meter, chosen, None, None)
    return chosen, points, picks(points, chosen, 10)


def test_every_point_tells_the_flash_of_its_own_image(network):
    meter = Costly(network)
    _, points, _ = found(network, meter)
    assert len(points) > 2
    assert [p.flash for p in points] == [Costly(network).linked(p.bits).flash for p in points]


def test_fewer_bits_are_left_alone_where_their_kernels_take_more_than_they_save(network):
    chosen, points, named = found(network, Costly(network))
    assert min(points, key=lambda p: p.weight_bytes).bits != chosen
    assert {point.bits for point in named.values()} == {chosen}


def test_a_pick_saves_a_tenth_of_the_flash_or_is_not_made(network):
    meter = Cheap(network)
    meter.narrow = int(0.5 * total_weight_bytes(network, eight_bits(network)))
    chosen, points, named = found(network, meter)
    least, whole = min(p.flash for p in points), next(p.flash for p in points if p.bits == chosen)
    assert 0.7 * whole < least < 0.8 * whole and named["compact"].flash == least
    meter.narrow += int(0.2 * whole)
    chosen, points, named = found(network, meter)
    assert 0.9 * whole < min(p.flash for p in points) < whole and {point.bits for point in named.values()} == {chosen}


def test_the_least_flash_within_the_harm_is_picked(network):
    _, points, named = found(network, Cheap(network), harm=0.5)
    least = min(points, key=lambda p: p.flash)
    assert named["compact"] is least and named["compact"].flash < named["quality"].flash
    assert named["balanced"] is named["quality"], "0.5 is more than a tenth of ln 10"
