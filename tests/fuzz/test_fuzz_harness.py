"""The harness can fail: each way in which a reader can misbehave is noticed, and belongs to the right mutant."""

from pathlib import Path

import harness
import pytest
from harness import CRASH, HANG, MEMORY, WRONG, Limits

FAULTS = Path(__file__).parent / "faults.py"
SHORT = Limits(seconds=1.0)


def outcome(fault: str, tmp_path, limits: Limits = SHORT) -> harness.Outcome:
    found = harness.run(fault, 12, limits=limits, keep=tmp_path, module=FAULTS)
    assert [failure.index for failure in found.failures] == [3], found.failures
    failure = found.failures[0]
    assert found.counts == {"accepted": 6, "refused": 5, failure.what: 1} and found.mutants == 12  # it goes on with those that follow
    assert Path(failure.file).read_bytes() == b"3"
    assert f"{fault} mutant 3 of seed 0: {failure.what}: {failure.file}" in str(failure)
    return found


@pytest.mark.parametrize("fault, what, said", [
    ("wrong", WRONG, "ValueError: no TinykitError"),
    ("ends", WRONG, "SystemExit"),
    ("two_lines", WRONG, "control character"),
    ("endless_message", WRONG, "100000 characters"),
    ("segfault", CRASH, "SIGSEGV"),
    ("endless_loop", HANG, "endless_loop"),
    ("allocates", MEMORY, "MemoryError"),
])  # fmt: skip
def test_faults_are_noticed(fault, what, said, tmp_path):
    failure = outcome(fault, tmp_path).failures[0]
    assert failure.what == what and said in failure.message, failure


def test_what_waits_for_ever_is_noticed(tmp_path):
    assert outcome("waits", tmp_path, Limits(patience=8.0)).failures[0].what == HANG


def test_resident_memory_is_noticed(tmp_path):
    failure = outcome("resident", tmp_path, Limits(peak=256 << 20)).failures[0]
    assert failure.what == MEMORY and "resident" in failure.message


def test_mutants_are_the_same_everywhere():
    import readers

    kind = readers.KINDS["coco"]
    assert kind.mutant("coco", 1, 2) == kind.mutant("coco", 1, 2) != kind.mutant("coco", 1, 3)
