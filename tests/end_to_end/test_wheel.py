"""The wheel holds everything: built from a copy of the tree, installed without the sources, run from an empty folder."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("tinykit", "configs", "recipes", "firmware_template", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, tree / name, ignore=ignore) if source.is_dir() else shutil.copy(source, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tree / "dist"), str(tree)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if built.returncode and "setuptools" in built.stderr and "No matching distribution" in built.stderr:
        pytest.skip(f"pip cannot fetch the build backend here: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return next((tree / "dist").glob("tinykit-*.whl"))


def test_every_package_and_data_file_is_in_the_wheel(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(p.relative_to(ROOT)) for p in (ROOT / "tinykit").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    for folder in ("configs", "recipes", "firmware_template"):
        expected |= {f"tinykit/_data/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert expected - inside == set()


def test_the_installed_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    """The environment sees this one's third-party packages, but not the source tree."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    answer = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
    )
    site = Path(answer.stdout.strip())
    zipfile.ZipFile(wheel).extractall(site)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    where = subprocess.run([python, "-c", "import tinykit; print(tinykit.__file__)"], cwd=empty, capture_output=True, text=True, check=True)
    assert Path(where.stdout.strip()).is_relative_to(site)
    done = subprocess.run(
        [python, "-m", "tinykit.train", "--config", "digits.yaml", "--quicktest"],
        cwd=empty, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (empty / "runs/digits-quicktest/report.html").exists()
    command = [python, "-m", "tinykit.deploy", "--workdir", "runs/digits-quicktest", "--target", "arduino"]
    done = subprocess.run(command, cwd=empty, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (empty / "runs/digits-quicktest/deploy/arduino/DigitsNet.zip").exists() and "quicktest" in done.stdout
