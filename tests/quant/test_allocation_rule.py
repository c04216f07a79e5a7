"""The memory-driven rule against published figures, against a second implementation for chains, and what must hold for any network."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.quant.allocation.accounting import Granularity, constant_bytes, flash_bytes, peak_bytes, weight_bytes
from tinykit.quant.allocation.network import WIDTHS, Activation, Bits, Network, Step, chain, eight_bits
from tinykit.quant.allocation.rule import allocate, cut_activations, weight_cuts

BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def mobilenet(alpha: float, side: int) -> Network:
    """MobileNetV1 with 1000 classes: 28 layers; the pool before the last one is no step."""
    width, side = int(32 * alpha), side // 2
    sizes, weights, channels = [(2 * side) ** 2 * 3, side**2 * width], [27 * width], [width]
    for full, stride in BLOCKS:
        side //= stride
        sizes.append(side**2 * width)
        weights.append(9 * width)
        channels.append(width)
        weights.append(width * int(full * alpha))
        width = int(full * alpha)
        sizes.append(side**2 * width)
        channels.append(width)
    body = chain("mobilenet_v1", sizes, weights, channels)
    pooled, logits = Activation("pool", body.groups - 1, width), Activation("logits", body.groups, 1000)
    last = Step("logits", (pooled,), logits, 1000 * width, 1000)
    return Network("mobilenet_v1", (*body.steps, last), body.groups + 1, frozenset({0, body.groups}))


@pytest.mark.parametrize(
    ("alpha", "activations", "weights", "totals", "peak"),
    [
        (1.0, [4, 4, 2, 8, 4, 4, 4] + [8] * 20, [8] * 14 + [4, 8, 4, 8, 4, 8, 4, 8, 8, 8, 4, 8, 2, 2], (1_939_504, 1_984_884), 401_408),
        (0.75, [8, 4, 4, 8, 8, 4] + [8] * 21, [8] * 26 + [4, 4], (1_931_272, 1_978_532), 451_584),
        (0.5, [8, 8, 4] + [8] * 24, [8] * 28, (1_346_248, 1_381_588), 401_408),
    ],
)
def test_the_published_allocations(alpha, activations, weights, totals, peak):
    network = mobilenet(alpha, 224)
    for granularity, total in zip((Granularity.PER_LAYER, Granularity.PER_CHANNEL), totals, strict=True):
        outcome = allocate(network, 2_048_000, 512_000, granularity)
        assert outcome.feasible
        assert outcome.bits.activations(network) == activations
        assert list(outcome.bits.weights) == weights
        assert flash_bytes(network, outcome.bits, granularity) == total
        assert peak_bytes(network, outcome.bits) == peak


def test_what_does_not_fit_is_said():
    network = mobilenet(0.5, 192)
    outcome = allocate(network, 1_000_000, 64_000)
    assert not outcome.feasible
    assert "layer 'layer 0' needs 147,456 bytes of RAM at the fewest bits, of 64,000" in outcome.reasons[0]
    least = flash_bytes(network, list(weight_cuts(network, eight_bits(network)))[-1], Granularity.PER_CHANNEL)
    outcome = allocate(network, least - 1, None)
    assert outcome.reasons == (f"the weights need {least:,} bytes of flash with 2 bits each, of {least - 1:,}",)
    assert allocate(network, least, None).feasible


# ---------------------------------------------------------------- any network

sizes = st.integers(1, 5000)


@st.composite
def chains(draw) -> Network:
    count = draw(st.integers(1, 7))
    of = lambda n: draw(st.lists(sizes, min_size=n, max_size=n))  # noqa: E731
    return chain("chain", of(count + 1), of(count), of(count))


@st.composite
def networks(draw) -> Network:
    """Steps that read one or two earlier tensors, some of which live on, some of which share a group."""
    count = draw(st.integers(1, 7))
    tensors, groups, steps, reads = [Activation("input", 0, draw(sizes))], 1, [], []
    for i in range(count):
        inputs = draw(st.lists(st.integers(0, i), min_size=1, max_size=2, unique=True))
        shares = draw(st.booleans()) and i > 0
        group = tensors[inputs[0]].group if shares else groups
        groups += not shares
        tensors.append(Activation(f"t{i}", group, draw(sizes)))
        reads.append(inputs)
    for i, inputs in enumerate(reads):
        later = {t for others in reads[i + 1 :] for t in others}
        alive = [*inputs, *(t for t in range(i + 1) if t in later and t not in inputs)]
        weighted = draw(st.booleans())
        steps.append(Step(f"s{i}", tuple(tensors[t] for t in alive), tensors[i + 1], draw(sizes) * weighted, draw(sizes) * weighted))
    return Network("any", tuple(steps), groups, frozenset({0, tensors[-1].group}))


limits = st.one_of(st.none(), st.integers(1, 20_000))
granularities = st.sampled_from(Granularity)


@settings(max_examples=300, deadline=None)
@given(networks(), limits, limits, granularities)
def test_limits_hold_or_it_is_infeasible(network, flash, ram, granularity):
    outcome = allocate(network, flash, ram, granularity)
    bits = outcome.bits
    assert set(bits.groups) | set(bits.weights) <= set(WIDTHS)
    assert all(bits.groups[g] == 8 for g in network.fixed)
    fits = (flash is None or flash_bytes(network, bits, granularity) <= flash) and (ram is None or peak_bytes(network, bits) <= ram)
    assert outcome.feasible == fits


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(1, 20_000))
def test_infeasible_ram_means_no_allocation_fits(network, ram):
    """RAM falls with every halving, so that 2 bits wherever they may be is the least there is."""
    bits, reason = cut_activations(network, eight_bits(network), ram)
    least = Bits(tuple(8 if g in network.fixed else 2 for g in range(network.groups)), bits.weights)
    assert bool(reason) == (peak_bytes(network, least) > ram)


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(1, 20_000), st.integers(1, 20_000), granularities)
def test_less_flash_never_gives_more_bits(network, a, b, granularity):
    small, large = (allocate(network, flash, None, granularity).bits.weights for flash in sorted((a, b)))
    assert all(s <= l for s, l in zip(small, large, strict=True))


@settings(max_examples=200, deadline=None)
@given(chains(), st.integers(1, 12_000))
def test_activations_of_chains_as_the_pseudocode_has_it(network, ram):
    bits, reason = cut_activations(network, eight_bits(network), ram)
    expected = sweeps([step.live[0].elements for step in network.steps], [step.result.elements for step in network.steps], ram)
    assert (None if reason else list(bits.groups)) == expected


def sweeps(inputs: list[int], outputs: list[int], ram: int) -> list[int] | None:
    """The activation cut for chains, written from the published pseudocode with lists and a flag; None: infeasible."""
    count = len(inputs)
    qx, qy = [8] * count, [8] * count
    for direction in itertools.cycle(("forward", "backward")):
        ok = True
        for i in range(count) if direction == "forward" else range(count - 1, -1, -1):
            while inputs[i] * qx[i] + outputs[i] * qy[i] > 8 * ram:
                first, last = i == 0, i == count - 1
                if (first or qx[i] == 2) and (last or qy[i] == 2):
                    return None
                if first or qx[i] == 2:
                    target = "out"
                elif last or qy[i] == 2:
                    target = "in"
                elif qx[i] != qy[i]:
                    target = "in" if qx[i] > qy[i] else "out"
                else:
                    target = "in" if inputs[i] * qx[i] > outputs[i] * qy[i] else "out"
                if direction == "forward" and target == "out":
                    qy[i] //= 2
                    qx[i + 1] = qy[i]
                elif direction == "backward" and target == "in":
                    qx[i] //= 2
                    qy[i - 1] = qx[i]
                else:
                    ok = False
                    break
        if ok:
            return [*qx, qy[-1]]
    return None


def test_constants_by_hand():
    network = chain("two", [10, 20, 30], [40, 50], [4, 6])
    assert constant_bytes(network, Bits((8, 8, 8), (8, 8)), Granularity.PER_LAYER) == [4 * 4 + 20, 4 * 6 + 20]
    assert constant_bytes(network, Bits((8, 4, 8), (8, 2)), Granularity.PER_LAYER) == [9 * 4 + 12, 4 * 6 + 20]
    assert constant_bytes(network, Bits((8, 8, 8), (4, 8)), Granularity.PER_LAYER) == [9 * 4 + 12, 4 * 6 + 20]
    assert constant_bytes(network, Bits((8, 8, 8), (8, 8)), Granularity.PER_CHANNEL) == [10 * 4 + 8, 7 * 6 + 4]
    assert weight_bytes(network, Bits((8, 8, 8), (2, 4))) == [10, 25]


@settings(max_examples=200, deadline=None)
@given(chains(), st.data())
def test_spared_layers_are_halved_last(network, data):
    least = data.draw(st.lists(st.sampled_from((2, 4, 8)), min_size=len(network.layers), max_size=len(network.layers)))
    cuts = [cut.weights for cut in weight_cuts(network, eight_bits(network), least)]
    assert cuts[-1] == (2,) * len(least)
    for before, after in zip(cuts, cuts[1:], strict=False):
        (index,) = (i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
        assert after[index] == before[index] // 2
        assert before[index] > least[index] or all(a <= b for a, b in zip(before, least, strict=True))
    if set(least) == {2}:
        assert cuts == [cut.weights for cut in weight_cuts(network, eight_bits(network))]
