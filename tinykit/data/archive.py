"""Unpacking of zip and tar archives that may be hostile: into a folder that appears complete or not at all."""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tinykit.atomic import PREFIX
from tinykit.data.download import Source, fetch
from tinykit.data.files import check_dictionary
from tinykit.errors import DataError

CHUNK = 1 << 20
MAX_HEADER_BYTES = 1 << 20
MAX_NAME = 1024
DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    MemoryError,  # an .xz file may ask for a dictionary of 4 GiB
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)
COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class _Member(tarfile.TarInfo):
    """A tar header, of which the extended ones, which tarfile reads into memory as a whole, are refused where they are large."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in HEADERS and member.size > MAX_HEADER_BYTES:
            raise DataError(f"an extended header of {member.size} bytes, more than the limit of {MAX_HEADER_BYTES}")
        return member


def safe_name(name: str) -> PurePosixPath:
    """The relative path of a member.

    Raises:
        DataError: the name leads out of the folder that it is unpacked into, or is of a form that some systems read so.
    """
    path = PurePosixPath(name)
    if not name or len(name) > MAX_NAME or path.is_absolute() or ".." in path.parts or any(c in name for c in "\\:\0"):
        raise DataError(f"member {name[:80]!r}: expected a path inside the archive, without '..', ':' and '\\'")
    return path


def _zip_members(archive: Path, max_files: int) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    """(name, whether it is a folder, content) of each member."""
    with zipfile.ZipFile(archive) as opened:
        if len(opened.infolist()) > max_files:
            raise DataError(f"{len(opened.infolist())} members, more than the limit of {max_files}")
        for info in opened.infolist():
            safe_name(info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"member {info.filename[:80]!r}: a link or a special file, expected files and folders only")
            if info.is_dir():
                yield info.filename, True, None
                continue
            with archive.open("rb") as raw:
                check_dictionary(raw, info, f"member {info.filename[:80]!r}")
            with opened.open(info) as content:
                yield info.filename, False, content


def _tar_members(archive: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    """(name, whether it is a folder, content) of each member, in one pass over the file."""
    with archive.open("rb") as raw:
        magic = raw.read(8)
        raw.seek(0)
        unpack = next((opener for start, opener in COMPRESSIONS if magic.startswith(start)), None)
        with unpack(raw) if unpack else raw as plain, tarfile.open(fileobj=plain, mode="r|", tarinfo=_Member) as opened:
            for member in opened:
                opened.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise DataError(f"member {member.name[:80]!r}: a link or a special file, expected files and folders only")
                yield member.name, member.isdir(), None if member.isdir() else opened.extractfile(member)


def _unpack(archive: Path, target: Path, max_bytes: int, max_files: int) -> None:
    """Writes all members below `target`; raises DataError without the archive's name."""
    zipped = zipfile.is_zipfile(archive)
    count = total = 0
    for name, is_folder, content in _zip_members(archive, max_files) if zipped else _tar_members(archive):
        count += 1
        if count > max_files:
            raise DataError(f"more members than the limit of {max_files}")
        path = target / safe_name(name)
        if is_folder or content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:  # a name that comes twice is an error
            while chunk := content.read(CHUNK):
                total += len(chunk)
                if total > max_bytes:
                    raise DataError(f"more than the limit of {max_bytes} bytes unpacked")
                stream.write(chunk)
    if count == 0:
        raise DataError("holds no files")


def extract(archive: Path, folder: Path, *, inner: str = "", max_bytes: int = 64 << 30, max_files: int = 1_000_000) -> Path:
    """Unpacks a zip or tar archive (plain, gzip, bzip2 or xz) into a folder, which must not exist yet.

    Members are files and folders only: links, special files, absolute paths and paths with '..' are refused, as is an archive that
    unpacks to more than the limits; what counts is what comes out, not what the headers say. Everything goes into a temporary folder
    beside `folder`, which is renamed at the end.

    Args:
        archive: the file.
        folder: to make.
        inner: the folder in the archive whose content becomes `folder`; '': the whole archive.
        max_bytes: limit of the unpacked files in all.
        max_files: limit of the number of members.

    Returns:
        `folder`.

    Raises:
        DataError: the archive is damaged or hostile, or has no `inner`; or `folder` exists. Nothing is left behind.
    """
    if folder.exists():
        raise DataError(f"{folder}: exists already; {archive.name} is unpacked into a new folder only")
    temporary = folder.parent / f"{PREFIX}{os.getpid()}-{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _unpack(archive, temporary, max_bytes, max_files)
        if not (temporary / inner).is_dir():
            raise DataError(f"has no folder {inner!r}")
        os.rename(temporary / inner, folder)
    except DataError as error:
        raise DataError([f"{archive}: {problem}" for problem in error.problems]) from error
    except DAMAGED as error:
        raise DataError(f"{archive}: cannot be unpacked: {str(error) or type(error).__name__}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def fetch_folder(source: Source, folder: Path, *, inner: str = "", max_bytes: int = 64 << 30, max_files: int = 1_000_000) -> Path:
    """Fetches an archive beside `folder` and unpacks it there; see `fetch` and `extract`. A folder that exists is left as it is.

    The archive is deleted afterwards, unless it was there before.
    """
    if folder.is_dir():
        return folder
    archive = folder.parent / source.name
    own = not archive.exists()
    fetch(source.url, archive, sha256=source.sha256, size=source.size)
    extract(archive, folder, inner=inner, max_bytes=max_bytes, max_files=max_files)
    if own:
        archive.unlink(missing_ok=True)
    return folder
