"""Counting every variant on the emulated board."""

import json
import math

import pytest
from fast_conv_cases import random_conv

from tinykit.boards import autotune
from tinykit.boards.autotune import Tuner
from tinykit.boards.pipeline import compile_graph, firmware_sources
from tinykit.boards.table import board
from tinykit.boards.toolchain import choose
from tinykit.engine.goal import SPEED
from tinykit.engine.memory import random_samples


@pytest.fixture
def graph():
    return random_conv(7, 64, 8, (6, 6), (3, 3), padding=(1, 1, 1, 1))


@pytest.fixture
def tuned(graph, tmp_path, monkeypatch):
    """(a function that measures, the lines that it says), with a cache of its own."""
    monkeypatch.setenv("TINYKIT_CACHE", str(tmp_path / "cache"))
    lines, samples = [], random_samples(graph, 1)
    tuner = Tuner(board("nano33ble"), choose(None), "-O2", lambda engine: firmware_sources(engine, samples), lines.append)
    return (lambda room=None: tuner.measure(graph, room)), lines


def test_counts_are_those_of_the_images(graph, tuned, tmp_path) -> None:
    measure, _ = tuned
    counts = measure()["conv"]
    assert len(counts) == 4 and all(count > 0 for count in counts)
    compiled = compile_graph(graph, board("nano33ble"), tmp_path / "out", level="-O2", samples=1, goal=SPEED, autotune=True)
    assert compiled.verification.mismatches == 0
    assert compiled.verification.run.calls[0].instructions == min(counts), "the quickest runs, and takes what was counted"


def test_counts_are_kept_and_broken_ones_counted_again(tuned, tmp_path) -> None:
    measure, lines = tuned
    first = measure()
    assert not any("counted before" in line for line in lines)
    lines.clear()
    assert measure() == first and all("counted before" in line for line in lines)
    entries = sorted((tmp_path / "cache" / "counts").iterdir())
    broken = ["{", json.dumps({"conv": -1}), json.dumps({"other": 3}), json.dumps({"conv": "7"})]
    for entry, text in zip(entries, broken, strict=True):
        entry.write_text(text)
    lines.clear()
    assert measure() == first and not any("counted before" in line for line in lines)


def test_variants_without_room_do_not_run(tuned) -> None:
    measure, _ = tuned
    counts = measure(room=6 * 6 * 64 + 6 * 6 * 8 + 1)["conv"]
    assert math.isnan(counts[0]) and not math.isnan(counts[-1])


def test_an_entry_has_a_largest_size(tuned, tmp_path, monkeypatch) -> None:
    measure, lines = tuned
    first = measure()
    monkeypatch.setattr(autotune, "_LARGEST_ENTRY", 3)
    lines.clear()
    assert measure() == first and not any("counted before" in line for line in lines)
