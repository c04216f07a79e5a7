"""Which variant of a kernel is chosen: by goal, by memory, by what was counted."""

import dataclasses
import math

import pytest
from fast_conv_cases import random_conv

from tinykit.engine.generate import build_engine
from tinykit.engine.goal import BALANCED, GOALS, SIZE, SPEED
from tinykit.engine.lower import planned, variants_by_rank
from tinykit.engine.select import Preference
from tinykit.graph import ir


@pytest.fixture
def graph() -> ir.Graph:
    """A layer whose columns of three pixels take 3,456 bytes, so that there are four variants."""
    return random_conv(7, 64, 8, (6, 6), (3, 3), padding=(1, 1, 1, 1))


def chosen(graph: ir.Graph, preference: Preference) -> int:
    """Which of the offered variants runs."""
    _, _, offers = variants_by_rank(graph)
    estimates = [variant.instructions for variant in offers["conv"]]
    return estimates.index(planned(graph, preference).variants["conv"].instructions)


def test_goals_differ(graph) -> None:
    ranks = {name: chosen(graph, Preference(goal)) for name, goal in GOALS.items()}
    assert ranks["speed"] == 0 < ranks["balanced"]
    assert ranks["size"] == len(variants_by_rank(graph)[2]["conv"]) - 1
    arenas = [build_engine(graph, preference=Preference(goal)).plan.arena_bytes for goal in (SIZE, BALANCED, SPEED)]
    assert arenas == sorted(arenas) and arenas[1] <= arenas[0] + 1000 < arenas[2]


def test_speed_stays_within_the_room_that_there_is(graph) -> None:
    needed = {i: build_engine(graph, preference=Preference(dataclasses.replace(BALANCED, spare=i))).plan.arena_bytes for i in (0, 10_000)}
    for room in (needed[10_000], needed[10_000] - 1):
        arena = build_engine(graph, preference=Preference(SPEED, room)).plan.arena_bytes
        assert arena <= room
    assert build_engine(graph, preference=Preference(SPEED, 1)).plan.arena_bytes <= needed[0], "less than portable kernels need: those"


def test_what_was_counted_decides(graph) -> None:
    count = len(variants_by_rank(graph)[2]["conv"])
    for best in range(count):
        counted = tuple(100.0 if i == best else 200.0 for i in range(count))
        assert chosen(graph, Preference(SPEED, None, {"conv": counted})) == best
    unknown = tuple(math.nan if i == 0 else 100.0 + i for i in range(count))
    assert chosen(graph, Preference(SPEED, None, {"conv": unknown})) == 1, "a variant that did not run is not chosen"
    assert chosen(graph, Preference(SPEED, None, {"conv": (1.0,)})) == 0, "counts of another list of variants are no counts"
