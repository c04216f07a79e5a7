"""The one definition of "nothing else beats it", against its words taken literally."""

from hypothesis import given
from hypothesis import strategies as st

from tinykit.dominance import dominates, undominated

MERITS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=12)


@given(MERITS)
def test_what_is_left_is_beaten_by_nothing_and_all_else_by_something(points):
    kept = undominated(points)
    for index, own in enumerate(points):
        beaten = any(other != own and min(a - b for a, b in zip(other, own)) >= 0 for other in points)
        assert (index in kept) != beaten


def test_equals_do_not_beat_each_other():
    assert undominated([(1, 2), (1, 2), (0, 2), (2, 0)]) == [0, 1, 3]
    assert undominated([]) == [] and not dominates((1, 1), (1, 1)) and dominates((1, 2), (1, 1))
