"""Unpacking: what comes out equals what went in, and hostile archives leave nothing behind."""

import hashlib
import io
import stat
import tarfile
import zipfile

import pytest

from tinykit.data import archive as archive_module
from tinykit.data.archive import extract, fetch_folder, safe_name
from tinykit.data.download import Source
from tinykit.errors import DataError

FILES = {"set/person/a.jpg": b"one" * 5000, "set/non_person/b.jpg": b"", "set/readme.txt": b"text"}


def make_zip(path, files=FILES, compress=zipfile.ZIP_DEFLATED, modes=None):
    with zipfile.ZipFile(path, "w", compress) as opened:
        opened.writestr("set/", b"")
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = compress
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            opened.writestr(info, content)
    return path


def make_tar(path, files=FILES, mode="w:gz", prefix="", types=None):
    with tarfile.open(path, mode) as opened:
        folder = tarfile.TarInfo(prefix + "set")
        folder.type = tarfile.DIRTYPE
        opened.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            info.type = (types or {}).get(name, tarfile.REGTYPE)
            if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.size, info.linkname = 0, content.decode()
            opened.addfile(info, io.BytesIO(content))
    return path


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


KINDS = [
    (make_zip, {}),
    (make_zip, {"compress": zipfile.ZIP_STORED}),
    (make_tar, {"mode": "w"}),
    (make_tar, {"mode": "w:gz"}),
    (make_tar, {"mode": "w:bz2"}),
    (make_tar, {"mode": "w:xz", "prefix": "./"}),
]


@pytest.mark.parametrize(("make", "options"), KINDS)
def test_every_kind_of_archive(make, options, tmp_path):
    made = make(tmp_path / "archive", **options)
    assert extract(made, tmp_path / "out" / "all") == tmp_path / "out" / "all"
    assert tree(tmp_path / "out" / "all") == FILES
    extract(made, tmp_path / "inner", inner="set")
    assert tree(tmp_path / "inner") == {name.removeprefix("set/"): content for name, content in FILES.items()}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive", "inner", "out"]
    with pytest.raises(DataError, match="exists already"):
        extract(made, tmp_path / "inner")
    with pytest.raises(DataError, match="has no folder 'other'"):
        extract(made, tmp_path / "other", inner="other")


def refused(made, tmp_path, message, **limits):
    before = {p.name for p in tmp_path.iterdir()}
    with pytest.raises(DataError, match=message) as caught:
        extract(made, tmp_path / "target", **limits)
    assert str(made) in str(caught.value)
    assert {p.name for p in tmp_path.iterdir()} == before, "nothing is left behind"


OUTSIDE = ["../evil", "/tmp/evil", "set/../../evil", "a/..", "C:evil", "a\\..\\evil", "x" * 2000]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", OUTSIDE)
def test_members_that_lead_outside(make, name, tmp_path):
    files = {"set/good": b"", name: b"evil"}
    refused(make(tmp_path / "archive", files), tmp_path, "expected a path inside the archive")
    with pytest.raises(DataError):
        safe_name(name)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_tar_links_and_devices(kind, tmp_path):
    made = make_tar(tmp_path / "a.tar", {"set/x": b"/etc/passwd"}, "w", types={"set/x": kind})
    refused(made, tmp_path, "a link or a special file")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_zip_links_and_devices(kind, tmp_path):
    refused(make_zip(tmp_path / "a.zip", {"set/x": b"/etc/passwd"}, modes={"set/x": kind | 0o777}), tmp_path, "a link or a special file")


@pytest.mark.parametrize(("make", "options"), KINDS)
def test_bombs(make, options, tmp_path):
    files = {f"set/{index}": bytes(1 << 20) for index in range(5)}
    made = make(tmp_path / "archive", files, **options)
    refused(made, tmp_path, "more than the limit of 3000000 bytes", max_bytes=3_000_000)
    refused(made, tmp_path, "more than the limit of 4|more members than the limit of 4", max_files=4)


def test_a_zip_whose_headers_lie_about_the_size(tmp_path):
    made = make_zip(tmp_path / "a.zip", {"set/x": bytes(4_000_000)})
    content = bytearray(made.read_bytes())
    at = content.find(b"PK\x01\x02", content.find(b"PK\x01\x02") + 1)
    content[at + 24 : at + 28] = (10).to_bytes(4, "little")
    made.write_bytes(content)
    refused(made, tmp_path, "cannot be unpacked|more than the limit", max_bytes=1_000_000)


def test_a_tar_header_of_extended_names_that_would_fill_the_memory(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as opened:
        info = tarfile.TarInfo("set/x")
        info.pax_headers = {"comment": "c" * 100_000}
        opened.addfile(info)
    assert extract(tmp_path / "a.tar", tmp_path / "fine") == tmp_path / "fine"
    monkeypatch.setattr(archive_module, "MAX_HEADER_BYTES", 50_000)
    refused(tmp_path / "a.tar", tmp_path, "extended header of 1000.. bytes")


def test_a_sparse_file(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as opened:
        info = tarfile.TarInfo("set/x")
        info.size = 5
        info.pax_headers = {"GNU.sparse.map": "0,5", "GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1"}
        opened.addfile(info, io.BytesIO(b"abcde"))
    refused(tmp_path / "a.tar", tmp_path, "a link or a special file")


def test_a_name_that_comes_twice(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        for _ in range(2):
            opened.addfile(tarfile.TarInfo("set/x"))
    refused(tmp_path / "a.tar", tmp_path, "cannot be unpacked")


@pytest.mark.parametrize(("make", "options"), KINDS)
def test_damaged_archives(make, options, tmp_path):
    content = make(tmp_path / "whole", **options).read_bytes()
    for length in (0, 3, 40, len(content) // 2):
        made = tmp_path / "damaged"
        made.write_bytes(content[:length])
        refused(made, tmp_path, "cannot be unpacked|holds no files|has no folder")
    (tmp_path / "damaged").write_bytes(b"no archive at all" * 100)
    refused(tmp_path / "damaged", tmp_path, "cannot be unpacked")


def test_fetch_folder_keeps_an_archive_that_was_there(tmp_path):
    made = make_zip(tmp_path / "set.zip")
    source = Source("http://127.0.0.1:9/path/set.zip", hashlib.sha256(made.read_bytes()).hexdigest(), made.stat().st_size)
    folder = fetch_folder(source, tmp_path / "photos", inner="set")
    assert tree(folder)["readme.txt"] == b"text" and made.exists()
    made.unlink()
    assert fetch_folder(source, folder) == folder, "a folder that exists is not fetched again"
    with pytest.raises(DataError, match="curl .*set.zip http://127.0.0.1:9/path/set.zip"):
        fetch_folder(source, tmp_path / "other")
