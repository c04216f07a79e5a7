"""Mutants of .tflite files through reading, simplifying, planning and generating: each is accepted or refused in one line.

An accepted mutant is a network that can be represented; a small one also runs, and the simplified one gives the same bytes."""

import os
from pathlib import Path

import harness
import pytest


@pytest.mark.parametrize("part", range(2))
def test_mutants_of_small_networks(part):
    found = harness.run("tflite", 1000, first=1000 * part)
    print(f"tflite: {found.mutants} mutants, {dict(found.counts)}, peak {found.peak >> 20} MiB")
    assert not found.failures, "\n".join(map(str, found.failures))
    assert found.mutants == 1000 and found.counts["accepted"] > 100 and found.counts["refused"] > 500, found.counts
    assert found.peak < harness.GIB


@pytest.mark.skipif(
    not list(Path(os.environ.get("TINYKIT_DATA", "."), "reference_models").glob("*_int8.tflite")),
    reason="TINYKIT_DATA names no folder with reference_models/*_int8.tflite",
)
def test_mutants_of_reference_models():
    found = harness.run("reference", 60)
    assert not found.failures, "\n".join(map(str, found.failures))
    assert found.mutants == 60 and found.counts["refused"], found.counts
