"""Counts compared elements over all tests, and shows the totals at the end: an exactness claim always comes with its N."""

from collections import defaultdict

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("hardware", "tests on a real board (docs/hardware.md); without --dut they skip")
    group.addoption("--dut", metavar="PORT", help="serial port of a board that runs monitor.elf")
    group.addoption("--board", metavar="NAME", help="which board of the table it is")
    group.addoption("--flash", action="store_true", help="flash a small network of the tests' own first, with pyOCD")
    group.addoption("--dut-model", metavar="FILE", help="the .tflite whose monitor.elf the board runs, where it was not flashed by --flash")
    parser.addoption(
        "--tflm_root", default=None, help="sources of TensorFlow Lite Micro: links and runs packages of --engine tflm with them"
    )


@pytest.fixture
def tally(record_property):
    """tally(what, mismatches, elements): adds a comparison to the totals of the test session."""

    def add(what: str, mismatches: int, elements: int) -> None:
        record_property("tally", (what, int(mismatches), int(elements)))

    return add


def pytest_terminal_summary(terminalreporter):
    totals = defaultdict(lambda: [0, 0])
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "tally" and report.when == "call":
                    totals[value[0]][0] += value[1]
                    totals[value[0]][1] += value[2]
    if totals:
        terminalreporter.section("exactness")
        for what, (mismatches, elements) in sorted(totals.items()):
            terminalreporter.write_line(f"{what}: {mismatches:,} of {elements:,} elements differ")
