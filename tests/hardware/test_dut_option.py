"""pytest --dut itself: skips with the reason without a board, and passes on one (here: emulated, behind a pseudo-terminal)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hardware_nets import digits_like, model_file, monitor_elf, needs_compiler, needs_pyserial  # noqa: E402

from tinykit.boards.table import board  # noqa: E402
from tinykit.hardware.ports import served  # noqa: E402

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "no:cacheprovider", "tests/hardware/test_dut.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=environment).stdout


def test_without_a_board_they_skip_and_say_so():
    said = run()
    assert said.count("no board: connect one and give --dut=PORT --board=NAME") == 4 and "passed" not in said, said


@needs_compiler
@needs_pyserial
@pytest.mark.parametrize("broken", [False, True])
def test_on_a_board_they_run(tmp_path, broken):
    """With another network's firmware they fail."""
    graph, name = digits_like(), "nucleo_l4r5zi"
    model = model_file(tmp_path, graph)
    with served(board(name), monitor_elf(tmp_path, digits_like(seed=6) if broken else graph, name)) as port:
        said = run(f"--dut={port}", f"--board={name}", f"--dut-model={model}")
    assert "SKIPPED" not in said, said
    assert ("FAILED" in said) is broken, said
    assert "device against reference, emulated(nucleo_l4r5zi): " in said, said
    assert ("emulated(nucleo_l4r5zi): 0 of 160 elements differ" in said) is not broken, said
