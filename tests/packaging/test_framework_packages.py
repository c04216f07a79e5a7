"""Packages for PlatformIO, Mbed and Zephyr: compiled without a warning, and run on emulated boards over stand-ins for the frameworks.

None of the three can be linked itself here: PlatformIO fetches its platforms from its own registry, Mbed and Zephyr are checkouts of their
own, and all of them live on interrupts, which the emulated boards have not.
"""

import configparser
import json
from pathlib import Path

import arduino_builds
import framework_builds as builds
import pytest
import yaml

from tinykit.boards.table import board, firmware_boards
from tinykit.deploy import deploy
from tinykit.packaging.lint import lint_library
from tinykit.packaging.network import network_of_run
from tinykit.packaging.registry import TARGETS


@pytest.fixture(scope="module")
def packages(tmp_path_factory, workdir):
    """packages(target, board): the folder of a package, made once."""
    made: dict[tuple[str, str], Path] = {}

    def package(target: str, name: str) -> Path:
        if (target, name) not in made:
            out = tmp_path_factory.mktemp("of packages") / target
            made[target, name] = deploy(target, name, workdir=workdir, out=out, log=lambda line: None)
        return made[target, name]

    return package


def sources_of(target: str, folder: Path, app: str) -> tuple[list[Path], list[Path]]:
    """(sources, folders of headers) of a program of a package, with the stand-in for its framework."""
    stub = builds.STUBS
    if target == "mbed":
        src, more = folder / "src", [folder / f"apps/{app}.cpp", folder / "apps/main.cpp", stub / "mbed/stub.cpp"]
        return [*sorted(src.glob("*.c")), *more], [src, folder / "apps", stub / "mbed"]
    if target == "cmake":  # as a Zephyr module
        src, sample = folder / "src", folder / "zephyr/sample"
        more = [folder / f"apps/{app}.c", sample / "main.c", stub / "zephyr/stub.c"]
        return [*sorted(src.glob("*.c")), *more], [src, sample, folder / "apps", stub / "zephyr"]
    (src,) = folder.glob("lib/*/src")
    return [*sorted(src.glob("*.c")), folder / f"src/{app}.cpp", builds.CORE / "main.cpp"], [src, folder / "src", builds.CORE]


@pytest.mark.parametrize("name", arduino_builds.BOARDS)
@pytest.mark.parametrize("target", ["platformio", "mbed", "cmake"])
def test_programs_run_on_the_emulated_board(target, name, packages, workdir, tmp_path, tally):
    builds.need_tools()
    folder = packages(target, name)
    sources, include = sources_of(target, folder, "self_test")
    running = arduino_builds.Running(name, builds.build(sources, include, name, tmp_path / "self_test"))
    assert running.lines()[-1] == "self-test passed: 6 of 6"
    sources, include = sources_of(target, folder, "serial_infer")
    running = arduino_builds.Running(name, builds.build(sources, include, name, tmp_path / "serial_infer"))
    assert running.lines()[0].startswith("ready small: send 216 bytes")
    network = network_of_run(workdir)
    wrong = 0
    for given, expected in network.vectors:
        best = max(range(4), key=lambda i: (expected[i] ^ 128, -i))
        wrong += running.ask(given.hex())[1] != f"largest {best} {network.labels[best]}"
    tally(f"largest score of the program ({target}) vs reference", wrong, len(network.vectors))
    assert wrong == 0
    sources, include = sources_of(target, folder, "monitor")
    running = arduino_builds.Running(name, builds.build(sources, include, name, tmp_path / "monitor"))
    found = arduino_builds.monitored(running, workdir)
    tally(f"monitor of the package ({target}) vs reference", found.golden.mismatches, found.golden.compared)


def test_platformio_files_say_what_they_should(packages):
    folder = packages("platformio", "disco_f746ng")
    project = configparser.ConfigParser()
    project.read(folder / "platformio.ini")
    assert project["platformio"]["default_envs"] == "disco_f746ng"
    for name in firmware_boards():
        assert project[f"env:{name}"]["board"] == board(name).called["platformio"].split()[1]
        assert project[f"env:{name}_selftest"]["extends"] == f"env:{name}"
    manifest = json.loads((folder / "lib/SmallNet/library.json").read_text())
    assert manifest["name"] == "SmallNet" and (folder / "lib/SmallNet/src" / manifest["headers"]).is_file()
    assert {"name", "version", "description", "frameworks", "platforms", "build"} <= set(manifest)


def test_mbed_and_zephyr_files_say_what_they_should(packages):
    folder = packages("mbed", "nano33ble")
    assert json.loads((folder / "mbed_app.json").read_text()) == json.loads((folder / "mbed_app.json5").read_text())
    text = (folder / "CMakeLists.txt").read_text()
    assert all((folder / path).is_file() for path in ("src/small.c", "src/small_golden.c", "apps/main.cpp", "apps/self_test.cpp"))
    assert "src/small.c src/small_golden.c" in text and not list(folder.glob("*.lib"))
    zephyr = packages("cmake", "nano33ble") / "zephyr"
    module = yaml.safe_load((zephyr / "module.yml").read_text())
    assert module["name"] == "small" and (zephyr.parent / module["build"]["kconfig"]).is_file()
    assert (zephyr.parent / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert "config TINYKIT_SMALL" in (zephyr / "Kconfig").read_text()


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_target_is_complete_on_every_board(target, workdir, tmp_path):
    """No placeholder is left, every file is text that a person can read, and the README names the board."""
    for name in ("nucleo_l4r5zi", "nucleo_h743zi"):
        folder = deploy(target, name, workdir=workdir, out=tmp_path / name, log=lambda line: None)
        texts = {p: p.read_text() for p in folder.rglob("*") if p.is_file() and p.suffix != ".zip"}
        assert not [p for p, text in texts.items() if "{{" in text or "{%" in text]
        readme = next(text for p, text in texts.items() if p.name == "README.md")
        assert board(name).title in readme and f"emulated({name})" in readme and "No physical board was used" in readme
        if target == "arduino":
            inside = {str(p.relative_to(folder)): p.read_bytes() for p in texts if p.name != ".tinykit-deploy.json"}
            assert lint_library(inside) == []
