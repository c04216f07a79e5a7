"""The linter of Arduino libraries: what we write passes, and every rule can fail."""

import zipfile

import pytest

from tinykit.deploy import deploy
from tinykit.packaging.archive import zip_bytes
from tinykit.packaging.lint import lint_library, lint_zip

PROPERTIES = {
    "name": "GoodNet", "version": "1.0.0", "author": "a", "maintainer": "m", "sentence": "s", "paragraph": "p",
    "category": "Data Processing", "url": "https://example.org", "architectures": "*", "includes": "GoodNet.h",
}  # fmt: skip


def library(top: str = "GoodNet", files: dict[str, bytes] | None = None, **properties: str | None) -> dict[str, bytes]:
    """A library that passes, but for what is given; a property that is None is left out."""
    lines = [f"{key}={value}" for key, value in (PROPERTIES | properties).items() if value is not None]
    good = {
        "library.properties": "\n".join(lines).encode(),
        "src/GoodNet.h": b"",
        "examples/Hello/Hello.ino": b"",
        "keywords.txt": b"good\tKEYWORD1\n",
    }
    return {f"{top}/{path}": data for path, data in (good | (files or {})).items()}


@pytest.mark.parametrize("source", ["run", "model"])
def test_our_zip_passes(source, workdir, model, tmp_path):
    given = {"workdir": workdir} if source == "run" else {"model": model}
    folder = deploy("arduino", "nano33ble", out=tmp_path / "out", log=lambda line: None, **given)
    (archive,) = folder.glob("*.zip")
    assert lint_zip(archive.read_bytes()) == []
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            assert opened.read(info) == (folder / info.filename).read_bytes()
            assert info.date_time == (1980, 1, 1, 0, 0, 0)


def test_the_sample_passes():
    assert lint_library(library()) == []


@pytest.mark.parametrize(
    "files,problem",
    [
        (library(top="My Net", name="My Net"), "folder 'My Net'"),
        (library(top="1Größe", name="1Größe"), "folder '1Größe'"),
        (library(top="ArduinoNet", name="ArduinoNet"), "Arduino's own"),
        (library(top="G" * 64, name="G" * 64), "64 characters, at most 63"),
        (library(name="OtherNet"), "expected the library's name, 'OtherNet'"),
        (library(version="1"), "version=1: expected a version"),
        (library(version=None), "version is missing"),
        (library(category="Magic"), "category=Magic"),
        (library(url="nowhere"), "url=nowhere"),
        (library(architectures="a b"), "architectures=a b"),
        (library(includes="Missing.h"), "includes=Missing.h"),
        (library(precompiled="maybe"), "precompiled=maybe"),
        (library(color="red"), "unknown key 'color'"),
        (library(files={"library.properties": b"name GoodNet"}), "expected key=value"),
        (library(files={"GoodNet.c": b""}), "beside src/"),
        (library(files={"examples/Other/Wrong.ino": b""}), "expected Other.ino"),
        (library(files={"examples/Alone.ino": b""}), "a folder for each example"),
        (library(files={"Alone.ino": b""}), "a sketch outside examples/"),
        (library(files={"src/goodnet.h": b""}), "upper and lower case"),
        (library(files={"src/bad:name.c": b""}), "no name that every system can have"),
        (library(files={"src/aux.c": b""}), "no name that every system can have"),
        (library(files={"src/" + "a" * 120 + ".c": b""}), "at most 120"),
        (library(files={"extras/run.exe": b""}), "a program"),
        (library(files={"keywords.txt": b"good KEYWORD1"}), "keywords.txt:1"),
        ({"library.properties": b""}, "one folder at the top"),
        (library() | {"Second/file": b""}, "one folder at the top"),
    ],
)
def test_every_rule_can_fail(files, problem):
    found = lint_library(files)
    assert any(problem in line for line in found), found


def test_missing_properties_and_header_are_named():
    files = library()
    del files["GoodNet/library.properties"], files["GoodNet/src/GoodNet.h"]
    found = lint_library(files)
    assert any("library.properties: missing" in line for line in found)
    assert any("src/: expected a header" in line for line in found)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", zip_bytes({"GoodNet/x": b"y"})[:-8]])
def test_what_is_no_zip_is_one_problem(data):
    assert len(lint_zip(data)) == 1 and "not a ZIP" in lint_zip(data)[0]


def test_equal_files_give_equal_zips():
    assert zip_bytes({"a": b"1", "b": b"2"}) == zip_bytes({"b": b"2", "a": b"1"})
