"""Fetching over HTTP from a server in this process, on the loopback interface: cut, damaged, refused and hostile answers."""

import hashlib
import http.server
import io
import socket
import struct
import threading

import numpy as np
import pytest

from tinykit.data import download
from tinykit.data.download import fetch
from tinykit.data.progress import Progress
from tinykit.errors import DataError

CONTENT = np.random.RandomState(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the test has set `server.behaviour`; notes each request's Range."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked[len("bytes=") : -1]) if asked and self.server.ranges else 0
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else "whole"
        if isinstance(behaviour, int):
            self.send_error(behaviour)
            return
        body = self.server.content[start:]
        if behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
            return
        self.send_response(206 if asked and self.server.ranges else 200)
        if asked and self.server.ranges:
            first = start + 1 if behaviour == "other part" else start
            self.send_header("Content-Range", f"bytes {first}-{len(self.server.content) - 1}/{len(self.server.content)}")
        if behaviour != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if behaviour in ("cut", "reset") else body)
        if behaviour == "reset":  # closing without linger sends RST: the client's read raises
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on 127.0.0.1 that ends with the test; attempts follow each other without a pause."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 10.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as opened:
        opened.content, opened.ranges, opened.behaviours, opened.asked, opened.elsewhere = CONTENT, True, [], [], ""
        opened.url = f"http://127.0.0.1:{opened.server_address[1]}/set.bin"
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join(10)


def get(server, path, **changes):
    return fetch(server.url, path, **{"sha256": SHA256, "size": len(CONTENT), "progress": lambda done, total: None, **changes})


def nothing_left(folder):
    return not list(folder.iterdir())


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, tmp_path):
    path = tmp_path / "new folder" / "set.bin"
    seen = []
    assert get(server, path, progress=lambda done, total: seen.append((done, total))) == path
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ["set.bin"]
    assert seen[0] == (0, 300_000) and seen[-1] == (300_000, 300_000) and seen == sorted(seen)
    get(server, path)
    assert server.asked == [None]
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="expected 300000 bytes, received 299999; delete it"):
        get(server, path)
    path.write_bytes(bytes(300_000))
    with pytest.raises(DataError, match="expected SHA-256"):
        get(server, path)
    assert path.read_bytes() == bytes(300_000), "a file that somebody put there is never overwritten"


def test_a_cut_connection_is_resumed_where_it_was_cut(server, tmp_path):
    server.behaviours = ["cut", "cut", "whole"]
    get(server, tmp_path / "set.bin")
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=150000-", "bytes=225000-"]


def test_a_connection_that_is_reset_is_no_full_disk(server, tmp_path):
    server.behaviours = ["reset", "reset", "whole"]
    get(server, tmp_path / "set.bin")
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    server.behaviours = ["reset"] * 100
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match="fetching it failed|another file than expected"):
        get(server, tmp_path / "other.bin")


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:123_456])
    get(server, tmp_path / "set.bin")
    assert (tmp_path / "set.bin").read_bytes() == CONTENT and server.asked == ["bytes=123456-"]
    assert [p.name for p in tmp_path.iterdir()] == ["set.bin"]


def test_a_complete_part_needs_no_server(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    get(server, tmp_path / "set.bin")
    assert server.asked == []


def test_a_server_that_cannot_resume_sends_the_whole(server, tmp_path):
    server.ranges, server.behaviours = False, ["cut", "whole"]
    get(server, tmp_path / "set.bin")
    assert (tmp_path / "set.bin").read_bytes() == CONTENT and server.asked == [None, "bytes=150000-"]


@pytest.mark.parametrize("left", [b"of another file" * 1000, bytes(400_000)])
def test_a_part_of_another_file_costs_a_second_fetch_and_no_more(server, tmp_path, left):
    (tmp_path / "set.bin.part").write_bytes(left)
    get(server, tmp_path / "set.bin")
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(DataError, match="another file than expected: expected SHA-256"):
        get(server, tmp_path / "set.bin")
    assert nothing_left(tmp_path) and len(server.asked) == 1


@pytest.mark.parametrize(("behaviours", "requests"), [([404], 1), ([403], 1), ([503] * 9, 5), ([416] * 9, 5)])
def test_refusals_say_how_to_do_it_by_hand(server, tmp_path, behaviours, requests):
    server.behaviours = list(behaviours)
    path = tmp_path / "a folder" / "set.bin"
    with pytest.raises(DataError) as caught:
        get(server, path)
    text = str(caught.value)
    assert f"{path} does not exist" in text and f"the server answered {behaviours[0]}" in text and "--quicktest" in text
    assert f"curl -fL -C - --create-dirs -o '{path}' {server.url}" in text
    assert nothing_left(path.parent) and len(server.asked) == requests


def test_a_passing_refusal_is_asked_again(server, tmp_path):
    server.behaviours = [503, 429, "cut", 500]
    get(server, tmp_path / "set.bin")
    assert server.asked == [None, None, None, "bytes=150000-", "bytes=150000-"]


def test_a_file_that_ends_early_is_kept_as_part_only(server, tmp_path):
    server.behaviours = ["cut"] + [404] * 9
    with pytest.raises(DataError, match="the server answered 404"):
        get(server, tmp_path / "set.bin")
    assert [p.name for p in tmp_path.iterdir()] == ["set.bin.part"]
    assert (tmp_path / "set.bin.part").read_bytes() == CONTENT[:150_000]


@pytest.mark.parametrize("behaviour", ["whole", "no length"])
def test_a_file_of_another_length_is_not_read_to_its_end(server, tmp_path, behaviour):
    server.content = CONTENT * 20
    server.behaviours = [behaviour] * 9
    with pytest.raises(DataError, match="expected 300000 bytes, the server"):
        get(server, tmp_path / "set.bin")
    assert not (tmp_path / "set.bin").exists()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 300_000


def test_the_bytes_of_another_place_are_refused(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:100])
    server.behaviours = ["other part"]
    with pytest.raises(DataError, match="asked for the bytes from 100 on"):
        get(server, tmp_path / "set.bin")


def test_redirections_stay_on_http(server, tmp_path):
    server.elsewhere = server.url
    server.behaviours = ["redirect"]
    get(server, tmp_path / "a")
    for elsewhere in ("file:///etc/hostname", "ftp://127.0.0.1/set.bin"):
        server.elsewhere, server.behaviours = elsewhere, ["redirect"]
        with pytest.raises(DataError, match="failed"):
            get(server, tmp_path / "b")
        assert not (tmp_path / "b").exists()


def test_no_server_at_all(server, tmp_path, monkeypatch):
    server.server_close()
    with pytest.raises(DataError, match="refused.*curl.*--quicktest"):
        get(server, tmp_path / "set.bin")
    with pytest.raises(DataError, match="curl"):
        fetch("http://no-such-host.invalid/x", tmp_path / "x", sha256=SHA256, size=5)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("url", "size"), [("file:///etc/hostname", 10), ("ftp://127.0.0.1/x", 10), ("http://127.0.0.1/x", 0), ("http://127.0.0.1/x", 1 << 40)]
)
def test_schemes_and_sizes_are_bounded(tmp_path, url, size):
    with pytest.raises(DataError, match="expected http or https and at most"):
        fetch(url, tmp_path / "x", sha256=SHA256, size=size)
    assert nothing_left(tmp_path)


def test_a_full_disk_and_a_second_process(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
        with pytest.raises(DataError, match="300000 bytes are to be fetched, 1000 are free"):
            get(server, tmp_path / "set.bin")
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "set.bin.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is fetching this file"):
            get(server, tmp_path / "set.bin")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        get(server, tmp_path / "file" / "set.bin")
    assert server.asked == []


class Stream(io.StringIO):
    """Text that says it is a terminal, or that it is not."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def test_progress_is_ten_lines_or_a_bar():
    lines, bar, counted = Stream(False), Stream(True), Stream(False)
    for stream, unit in ((lines, "MB"), (bar, "MB"), (counted, "images")):
        show = Progress("fetching x", unit, stream)
        for done in range(0, 1_000_001, 1000):
            show(done, 1_000_000)
    written = lines.getvalue().splitlines()
    assert len(written) == 10 and written[0].startswith("fetching x: 10 %, 0.1 of 1.0 MB, ") and written[-1].startswith("fetching x: 100 %")
    assert bar.getvalue().count("\n") == 1 and bar.getvalue().endswith("\n") and f"[{'#' * 24}] 100 %" in bar.getvalue()
    assert counted.getvalue().splitlines()[4] == "fetching x: 50 %, 500000 of 1000000 images"
    Progress("z", stream=None)(1, 2)
    resumed = Stream(False)
    show = Progress("y", stream=resumed)
    show(95, 100)
    show(100, 100)
    assert len(resumed.getvalue().splitlines()) == 1
