"""Mutants of every other kind of file that tinykit reads."""

import harness
import pytest

MUTANTS = {
    "h5": 100,
    "keras": 100,
    "yaml": 500,
    "document": 2000,
    "recipe": 300,
    "npz": 400,
    "image": 400,
    "wav": 400,
    "coco": 400,
    "csv": 400,
    "archive": 300,
}
"""Mutants of each kind."""


@pytest.mark.parametrize("kind", MUTANTS)
def test_mutants(kind):
    # TensorFlow alone takes half a gigabyte, so that only what a mutant adds counts for Keras files
    found = harness.run(kind, MUTANTS[kind], limits=harness.Limits(peak=None) if kind in ("h5", "keras") else harness.Limits())
    print(f"{kind}: {found.mutants} mutants, {dict(found.counts)}, peak {found.peak >> 20} MiB")
    assert not found.failures, "\n".join(map(str, found.failures))
    assert found.mutants == MUTANTS[kind] and found.counts["accepted"] and found.counts["refused"], found.counts
