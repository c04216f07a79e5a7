"""Fetching of data files: resumed where it was cut, checked by SHA-256, and under their name complete or not at all.

Nothing is fetched unasked: a dataset calls `fetch` only where its option `download` is true.
"""

import dataclasses
import hashlib
import http.client
import math
import os
import shlex
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tinykit.data.progress import Progress
from tinykit.errors import DataError
from tinykit.locking import hold

MAX_DOWNLOAD_BYTES = 64 << 30
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30.0  # without a byte
ATTEMPTS = 5  # in a row that bring no byte
PAUSE_SECONDS = 2.0  # before another attempt
PASSING = (408, 429, 500, 502, 503, 504)  # HTTP states that may be others a moment later


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that can be fetched.

    Attributes:
        url: http or https.
        sha256: of the file, hex.
        size: of the file in bytes.
    """

    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


class _Failed(Exception):
    """An attempt failed; `again`: another one may do better."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def by_hand(url: str, path: Path) -> str:
    """The command that fetches `url` to `path`."""
    return f"curl -fL -C - --create-dirs -o {shlex.quote(str(path))} {shlex.quote(url)}"


def offline_message(url: str, path: Path, reason: str) -> str:
    """What to say when `path` is missing and could not be fetched."""
    return (
        f"{path} does not exist, and fetching it failed: {reason}. Fetch it by hand: {by_hand(url, path)} ; "
        "to try the flow on generated samples, add --quicktest"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex; never more than a megabyte of it in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def wrong_file(path: Path, sha256: str, size: int) -> str | None:
    """What is wrong with a file of which size and SHA-256 are known; None: nothing."""
    received = path.stat().st_size
    if received != size:
        return f"expected {size} bytes, received {received}"
    digest = sha256_of(path)
    return None if digest == sha256 else f"expected SHA-256 {sha256}, received {digest}"


def fetch(url: str, path: Path, *, sha256: str, size: int, progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetches a file over HTTP or HTTPS.

    What arrives is kept in `path`.part. A connection that is cut, and a later call, go on where that file ends; a server that
    cannot do so is asked for the whole. Only when size and SHA-256 agree does the file get its name. A file that is already at
    `path` is checked and left as it is.

    Args:
        url: of the file, http or https. Redirections are followed.
        path: where it is to be; its folder is made.
        sha256: hex.
        size: in bytes, 1 to 2^36.
        progress: called with the bytes so far and `size`; default: a bar or lines on standard output.

    Returns:
        `path`.

    Raises:
        DataError: it could not be fetched (the message has the command to do it by hand), the disk is full, or the file is
            not the expected one, in which case nothing of it is kept.
    """
    if not url.startswith(("http://", "https://")) or not 0 < size <= MAX_DOWNLOAD_BYTES:
        raise DataError(f"{path}: cannot fetch {size} bytes from {url!r}: expected http or https and at most {MAX_DOWNLOAD_BYTES} bytes")
    if path.exists():
        problem = wrong_file(path, sha256, size) if path.is_file() else "it is no file"
        if problem:
            raise DataError(f"{path}: {problem}; delete it, and it is fetched again, or: {by_hand(url, path)}")
        return path
    part = path.with_name(path.name + ".part")
    show = progress or Progress(f"fetching {path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _held(part) as stream:
            resumed = _complete(url, part, path, size, show)
            problem = wrong_file(part, sha256, size)
            if problem and resumed:  # what was there before may have been of another file
                os.truncate(part, 0)
                _complete(url, part, path, size, show)
                problem = wrong_file(part, sha256, size)
            if problem:
                os.truncate(part, 0)
                raise DataError(f"{url}: the server sent another file than expected: {problem}. Nothing was kept; {path} does not exist")
            os.fsync(stream.fileno())  # the content is on the disk before the name says so
            os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}; {part.name} is kept, and a later attempt goes on from there") from error
    return path


@contextmanager
def _held(part: Path) -> Iterator[IO[bytes]]:
    """Keeps `part` for this process alone; it exists inside the block. An empty one is removed afterwards.

    Raises:
        DataError: another process fetches the same file.
    """
    with part.open("ab") as stream:
        if not hold(stream):
            raise DataError(f"{part}: another process is fetching this file; wait for it, then run again")
        try:
            yield stream
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def _complete(url: str, part: Path, path: Path, size: int, progress: Callable[[int, int], None]) -> bool:
    """Makes `part` `size` bytes long. Returns whether it began with bytes of an earlier call.

    Raises:
        DataError: it could not.
    """
    have = part.stat().st_size
    resumed = have > 0
    free = shutil.disk_usage(part.parent).free
    if free < size - have:
        raise DataError(f"{path}: {size - have} bytes are to be fetched, {free} are free on the disk")
    idle = 0
    while have < size:
        try:
            _attempt(url, part, have, size, progress)
            reason, again = "the connection was cut", True
        except _Failed as error:
            reason, again = str(error), error.again
        before, have = have, part.stat().st_size
        idle = 0 if have > before else idle + 1
        if have < size:
            if not again or idle >= ATTEMPTS:
                raise DataError(offline_message(url, path, reason))
            time.sleep(PAUSE_SECONDS)
    return resumed


def _opener() -> Any:
    """HTTP and HTTPS, with redirections and the proxies of the environment; no other scheme."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _attempt(url: str, part: Path, have: int, size: int, progress: Callable[[int, int], None]) -> None:
    """One request; appends to `part`, or begins it anew where the server sends the whole. Raises _Failed."""
    headers = {"User-Agent": "tinykit", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the server has less than what is here: begin anew
            os.truncate(part, 0)
        raise _Failed(f"the server answered {error.code} {error.reason}", error.code == 416 or error.code in PASSING) from error
    except urllib.error.URLError as error:
        raise _Failed(str(error.reason), isinstance(error.reason, (TimeoutError, ConnectionResetError))) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Failed(f"{type(error).__name__}: {error}", True) from error
    with response:
        start = have if response.status == 206 else 0
        _check_answer(response, start, size)
        if not start:
            os.truncate(part, 0)
        with part.open("ab") as stream:
            _copy(response, stream, start, size, progress)


def _check_answer(response: Any, start: int, size: int) -> None:
    """Raises _Failed where the server announces another part, or another length, than was asked for."""
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _Failed(f"asked for the bytes from {start} on, the server sends {response.headers.get('Content-Range')!r}", False)
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) != size - start:
        raise _Failed(f"expected {size} bytes, the server has {start + int(length)}", False)


def _copy(response: Any, stream: IO[bytes], have: int, size: int, progress: Callable[[int, int], None]) -> None:
    """Copies what arrives, at most up to `size` bytes in all; raises _Failed where the server sends more."""
    progress(have, size)
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _Failed(f"{type(error).__name__}: {error}", True) from error
        if not chunk:
            return
        have += len(chunk)
        if have > size:
            raise _Failed(f"expected {size} bytes, the server sends more", False)
        stream.write(chunk)
        progress(have, size)


def megabytes(size: int) -> str:
    """A number of bytes for messages, such as '235 MB'."""
    return f"{math.ceil(size / 1e6)} MB"
