"""python -m tinykit.doctor: says what is missing with the command that mends it, also where nearly everything is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hiding import hiding

from tinykit import doctor
from tinykit.health import check, packages, tools
from tinykit.health.check import Check
from tinykit.health.packages import Requirement, package_check, requirements, satisfies

ROOT = Path(__file__).parents[2]


@pytest.fixture
def examined(tmp_path):
    """examined(hidden modules, arguments...): the doctor in a Python that does not see these modules, with an empty PATH on request."""

    def run(hidden: str, *arguments: str, empty_path: bool = False, **variables: str) -> subprocess.CompletedProcess:
        environment = hiding(tmp_path / "hides", hidden, tmp_path / "hides" if empty_path else None) | variables
        command = [sys.executable, "-m", "tinykit.doctor", "--quick", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, env=environment)
        assert done.stderr == "" and "Traceback" not in done.stdout
        return done

    return run


def lines_of(done: subprocess.CompletedProcess, name: str) -> str:
    """The line of a check and the one behind it."""
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line[2:].startswith(f"{name} "))
    return "\n".join(lines[at : at + 2])


def test_this_installation_can_do_the_main_job(examined):
    done = examined("nothing")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "the main job can run: python -m tinykit.train --config digits.yaml"
    assert lines_of(done, "Python").startswith("  Python ")
    assert "ok" in lines_of(done, "tensorflow") and "ok" in lines_of(done, "unicorn")


def test_json_is_one_object(examined):
    answer = json.loads(examined("nothing", "--json").stdout)
    assert answer["able"] is True and {c["name"] for c in answer["checks"]} >= {
        "Python",
        "tensorflow",
        "keras",
        "unicorn",
        "zig",
        "qemu-system-arm",
    }
    assert all(c["mend"] for c in answer["checks"] if c["state"] in ("missing", "broken"))
    assert {c["group"] for c in answer["checks"]} >= {"python", "packages", "compilers", "emulators", "boards", "data"}


@pytest.mark.parametrize(
    ("hidden", "name", "mend"),
    [
        ("absl", "absl-py", "-m pip install 'absl-py"),
        ("tensorflow", "tensorflow", "-m pip install"),
        ("unicorn", "unicorn", "-m pip install unicorn"),
        ("yaml,pydantic", "pydantic", "-m pip install"),
    ],
)
def test_what_the_main_job_needs(examined, hidden, name, mend):
    done = examined(hidden)
    assert done.returncode == 2
    assert lines_of(done, name).startswith("! ") and mend.replace("'", "") in lines_of(done, name).replace("'", "")
    assert "the main job cannot run: " in done.stdout.splitlines()[-1] and name in done.stdout.splitlines()[-1]


def test_what_is_optional(examined):
    done = examined("tflite_micro,serial,ziglang")
    assert lines_of(done, "tflite-micro").startswith("- ") and "that comparison is left out" in lines_of(done, "tflite-micro")
    assert lines_of(done, "pyserial").startswith("- ") and "pip install pyserial" in lines_of(done, "serial ports").replace("'", "")
    from tinykit.boards.toolchain import find

    assert done.returncode == (0 if find("gcc") else 2)


def test_without_any_compiler(examined):
    done = examined("ziglang", empty_path=True)
    assert done.returncode == 2
    assert "sudo apt-get install gcc-arm-none-eabi" in lines_of(done, "arm-none-eabi-gcc") and lines_of(done, "zig").startswith("! ")
    assert lines_of(done, "for this computer").startswith("! ")


def test_zig_alone_will_do(examined):
    pytest.importorskip("ziglang")
    done = examined("nothing", empty_path=True)
    assert done.returncode == 0, done.stdout
    assert lines_of(done, "arm-none-eabi-gcc").startswith("- ") and lines_of(done, "qemu-system-arm").startswith("- ")


def test_settings_that_are_wrong(examined):
    done = examined("nothing", KERAS_BACKEND="jax", TINYKIT_DATA="nowhere")
    assert done.returncode == 2 and "unset KERAS_BACKEND" in lines_of(done, "KERAS_BACKEND")
    assert lines_of(done, "TINYKIT_DATA").startswith("- ") and "nowhere: no such folder" in done.stdout


@pytest.mark.parametrize(
    ("version", "comparisons", "holds"),
    [
        ("2.21.0", ">=2.20,<2.22", True),
        ("2.22.0", ">=2.20,<2.22", False),
        ("2.9", ">=2.20", False),
        ("3.12", ">=3.12", True),
        ("3.12", ">=3.12.0", True),
        ("0.dev20261023182759", "==0.dev20261023182759", True),
        ("0.dev20261023182759", "==0.dev20261024000000", False),
        ("1.0", "!=1.0", False),
        ("5.0.1+cpu", ">=5", True),
        ("anything", "", True),
        ("1.0", "what is this", True),
    ],
)
def test_versions(version, comparisons, holds):
    assert satisfies(version, comparisons) is holds


def test_declared_packages_are_those_of_setup_cfg():
    import configparser

    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    names = {line.split(";")[0].split(">")[0].split("=")[0].strip() for line in declared["options"]["install_requires"].split("\n") if line}
    assert {name.lower() for name in packages._ELSEWHERE} == {name.lower() for name in names}
    assert {r.name.lower() for r in requirements()} >= {name.lower() for name in names}


def test_a_package_that_cannot_be_imported_is_broken(monkeypatch):
    """Found and of the right version is not enough: TensorFlow ends by a signal on processors that it was not built for."""
    monkeypatch.setattr(packages, "_LOADED", {"absl-py": "import os; os.kill(os.getpid(), 4)"})
    found = package_check(Requirement("absl-py", ">=1"), needed=True, quick=False)
    assert found.stops and "signal 4 (a processor without AVX?)" in found.found and found.mend.endswith("--force-reinstall")
    monkeypatch.setattr(packages, "_LOADED", {"absl-py": "raise ImportError('libfoo.so: no such file')"})
    assert "libfoo.so" in package_check(Requirement("absl-py", ""), needed=True, quick=False).found
    assert "expected >=99" in package_check(Requirement("absl-py", ">=99"), needed=True, quick=True).found
    missing = package_check(Requirement("no-such-package-of-ours", ">=1"), needed=False, quick=True)
    assert missing.state == "missing" and not missing.stops


def test_programs_that_hang_or_do_not_start(tmp_path):
    assert check.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) == (False, "no answer within 0.2 s")
    assert check.run([str(tmp_path / "absent")], 1)[0] is False


def test_ports_and_boards(monkeypatch, tmp_path):
    from tinykit.hardware import ports

    (tmp_path / "ttyACM0").write_text("")
    listed = [
        ports.Port(str(tmp_path / "ttyACM0"), (0x0483, 0x374B), "ST-Link"),
        ports.Port(str(tmp_path / "ttyACM1"), (0x2341, 0x805A), "Nano 33 BLE"),
        ports.Port(str(tmp_path / "ttyUSB0"), (0x0403, 0x6001), "FT232"),
    ]
    monkeypatch.setattr(ports, "list_ports", lambda: listed)
    first, second, third = tools.board_checks()
    assert first.state == "ok" and "nucleo_l4r5zi" in first.found and "0483:374b" in first.found
    assert "may be nano33ble" in second.found and second.state == "broken" and second.mend.startswith("sudo usermod -aG dialout")
    assert "no board of the table" in third.found
    monkeypatch.setattr(ports, "list_ports", lambda: [])
    assert next(tools.board_checks()).state == "info"


def test_the_verdict():
    stop = Check("packages", "x", "missing", True, "not installed", "pip install x")
    assert doctor.verdict([stop]) == "the main job cannot run: x; the commands above mend it"
    assert doctor.show(stop) == ["! x                              missing  not installed", "    pip install x"]
