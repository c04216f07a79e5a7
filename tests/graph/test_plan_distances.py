"""Distances of input and output against a bit-by-bit simulation at every offset, and by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_samples import pixels, random_access, rows, whole

from tinykit.graph.plan.distances import distance, round_up
from tinykit.graph.plan.problem import Access


def safe(access: Access, tensor: str, difference: int, reverse: bool) -> bool:
    """Whether no unit reads a bit that was overwritten, with the input `difference` bits above the output."""
    units = range(len(access.writes))
    written: set[int] = set()
    for u in reversed(units) if reverse else units:
        read, write = ({int(b) for b in range(*ranges[u])} for ranges in (access.reads[tensor], access.writes))
        read = {b + difference for b in read}
        if not access.buffered:
            written |= write
        if read & written:
            return False
        written |= write
    return True


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_least_distances(seed: int) -> None:
    """Every aligned offset from the distance on is safe; nearer, one of the next eight bits is not, unless the input lies wholly on the
    other side."""
    random = np.random.default_rng(seed)
    size, output, alignment = int(random.integers(1, 20)), int(random.integers(1, 20)), int(random.choice([1, 2, 4]))
    bits = int(random.choice([8, 4, 2, 1]))
    access = random_access(random, {"x": size}, output, bits)
    size, output = -(-size * bits // 8), -(-output * bits // 8)
    d = distance(access, ["x"], size, output, alignment)
    top_i, top_o = round_up(size, alignment), round_up(output, alignment)
    assert -top_i <= d.forward <= top_o and -top_o <= d.reverse <= top_i
    assert d.forward % alignment == 0 and d.reverse % alignment == 0
    assert all(safe(access, "x", 8 * delta, False) for delta in range(d.forward, top_o + 1, alignment))
    byte = distance(access, ["x"], size, output, 1)
    assert d.forward == round_up(byte.forward, alignment) or byte.forward == -size
    assert byte.forward == -size or not all(safe(access, "x", 8 * byte.forward - n, False) for n in range(1, 9))
    if not access.reversible:
        assert d.reverse == top_i
        return
    assert all(safe(access, "x", -8 * delta, True) for delta in range(d.reverse, top_i + 1, alignment))
    assert d.reverse == round_up(byte.reverse, alignment) or byte.reverse == -output
    assert byte.reverse == -output or not all(safe(access, "x", n - 8 * byte.reverse, True) for n in range(1, 9))


def test_pointwise_by_hand() -> None:
    """Widening 8 -> 16 channels: the last pixel is read 8 bytes before the output ends; narrowing: the first pixel decides."""
    widen = distance(pixels({"x": 8}, 16, 10), ["x"], 80, 160, 4)
    assert (widen.forward, widen.reverse) == (160 - 72, 8)
    narrow = distance(pixels({"x": 16}, 8, 10), ["x"], 160, 80, 4)
    assert (narrow.forward, narrow.reverse) == (8, 160 - 72)


def test_buffered_elements_run_in_place() -> None:
    d = distance(pixels({"x": 1}, 1, 10, buffered=True), ["x"], 10, 10, 4)
    assert (d.forward, d.reverse) == (0, 0)


def test_neighbours_cost_their_reach() -> None:
    d = distance(rows("x", 10, 2, 4, 4), ["x"], 40, 40, 4)
    assert (d.forward, d.reverse) == (4 * 3, 4 * 3)


def test_one_unit_is_disjoint() -> None:
    d = distance(whole({"x": 10}, 6), ["x"], 10, 6, 4)
    assert (d.forward, d.reverse) == (8, 12)


def test_input_that_no_unit_reads() -> None:
    access = Access({"x": np.zeros((3, 2), np.int64)}, np.array([[0, 32], [32, 64], [64, 96]]), reversible=True)
    d = distance(access, ["x"], 8, 12, 4)
    assert (d.forward, d.reverse) == (-8, -12)


def test_no_units() -> None:
    none = np.zeros((0, 2), np.int64)
    assert distance(Access({"x": none}, none), ["x"], 8, 0, 4).forward == -8


def test_two_names_of_one_buffer() -> None:
    """x and its alias, read at different paces: the stricter counts; in place only if both may."""
    pace = pixels({"x": 4}, 4, 4, buffered=True)
    both = Access({"x": pace.reads["x"], "a": pace.reads["x"][::-1]}, pace.writes, True, True, frozenset({"x"}))
    d = distance(both, ["x", "a"], 16, 16, 4)
    assert (d.forward, d.reverse, d.in_place) == (12, 12, False)
    assert distance(both, ["x"], 16, 16, 4).in_place


def test_large_steps_are_fast() -> None:
    d = distance(pixels({"x": 1}, 2, 100_000), ["x"], 100_000, 200_000, 4)
    assert d.forward == round_up(200_000 - 99_999, 4)
