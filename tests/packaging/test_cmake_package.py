"""The CMake package: library, programs for this computer, programs for the bare boards."""

import shutil
import subprocess
from pathlib import Path

import arduino_builds as builds
import pytest

from tinykit.deploy import deploy
from tinykit.packaging.network import network_of_run


def cmake(*arguments: object, cwd: Path) -> str:
    """Runs CMake; any warning of the compiler fails."""
    done = subprocess.run(["cmake", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=builds.BOARDS)
def package(request, tmp_path_factory, workdir) -> tuple[str, Path]:
    if shutil.which("cmake") is None or not (shutil.which("make") or shutil.which("ninja")):
        pytest.skip("cmake, or a build tool for it, is not installed")
    out = tmp_path_factory.mktemp("with space") / request.param
    return request.param, deploy("cmake", request.param, workdir=workdir, out=out, log=lambda line: None)


def test_on_this_computer(package, tmp_path, workdir):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for this computer")
    _, folder = package
    cmake("-S", folder, "-B", tmp_path, "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror", cwd=tmp_path)
    cmake("--build", tmp_path, cwd=tmp_path)
    tested = subprocess.run(["ctest", "--output-on-failure"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0 and "1 tests passed" in tested.stdout.replace("100% tests passed", "1 tests passed"), tested.stdout
    given, _ = network_of_run(workdir).vectors[0]
    talk = subprocess.run([tmp_path / "serial_infer"], input=given.hex() + "\n", capture_output=True, text=True, timeout=60, check=False)
    assert talk.stdout.splitlines()[1].startswith("scores ")
    said = "x-self%x-cyc%x-info%"
    talk = subprocess.run([tmp_path / "monitor"], input=said, capture_output=True, text=True, timeout=60, check=False)
    answers = [line for line in talk.stdout.splitlines() if line.startswith("m-x-")]
    assert answers == ["m-x-self-[0]", "m-x-cyc-[unknown]", "m-x-info-[small,stored,216,216,4,0]"]


def test_on_the_bare_board(package, tmp_path, workdir, tally):
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed (Debian: apt-get install gcc-arm-none-eabi)")
    name, folder = package
    cmake("-S", folder, "-B", tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={folder}/board/toolchain.cmake", cwd=tmp_path)
    cmake("--build", tmp_path, cwd=tmp_path)
    assert builds.Running(name, tmp_path / "self_test.elf").lines()[-1] == "self-test passed: 6 of 6"
    running = builds.Running(name, tmp_path / "serial_infer.elf")
    running.lines()
    network = network_of_run(workdir)
    answers = [running.ask(given.hex()) for given, _ in network.vectors]
    wrong = sum(int(a[1].split()[1]) != max(range(4), key=lambda i, e=e: (e[i] ^ 128, -i)) for a, (_, e) in zip(answers, network.vectors))
    tally("largest score of the CMake program vs reference", wrong, len(answers))
    assert wrong == 0
    found = builds.monitored(builds.Running(name, tmp_path / "monitor.elf"), workdir)
    tally("monitor of the CMake package vs reference", found.golden.mismatches, found.golden.compared)


def test_as_part_of_another_project(package, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for this computer")
    _, folder = package
    (tmp_path / "CMakeLists.txt").write_text(
        f'cmake_minimum_required(VERSION 3.16)\nproject(mine C)\nadd_subdirectory("{folder}" net)\n'
        "add_executable(mine main.c)\ntarget_link_libraries(mine PRIVATE small)\n"
    )
    (tmp_path / "main.c").write_text(
        '#include "SmallNet.h"\nstatic uint8_t arena[SMALL_ARENA_SIZE] __attribute__((aligned(4)));\n'
        "int main(void)\n{\n    small_load(arena, small_golden_input);\n    small_invoke(arena);\n"
        "    return (int)small_check(arena, small_golden_output);\n}\n"
    )
    cmake("-S", ".", "-B", "build", cwd=tmp_path)
    cmake("--build", "build", cwd=tmp_path)
    assert not (tmp_path / "build/net/self_test").exists()
    assert subprocess.run([tmp_path / "build/mine"], timeout=60, check=False).returncode == 0
