"""Progress of what takes long before a run has its console: downloads, and the reading of many files."""

import sys
import time
from typing import IO


class Progress:
    """Says how far something is: a bar on a terminal, elsewhere one line each time another tenth is done.

    Args:
        label: what is done.
        unit: of the numbers: 'MB' for bytes, which are shown as such, else the name of what is counted.
        stream: where to; default: standard output.
    """

    def __init__(self, label: str, unit: str = "MB", stream: IO[str] | None = None) -> None:
        self._label, self._unit = label, unit
        self._stream = stream or sys.stdout
        self._terminal = self._stream is not None and self._stream.isatty()
        self._tenth = 0
        self._shown = 0.0
        self._start: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` bytes or pieces; the first call sets what the rate counts from."""
        now = time.monotonic()
        if self._start is None:
            self._start = (now, done)
            self._tenth = 10 * done // total
        if self._terminal:
            if done < total and now - self._shown < 0.2:
                return
            filled = 24 * done // total
            end = "\n" if done >= total else ""
            self._write(f"\r{self._label} [{'#' * filled}{'.' * (24 - filled)}] {self._text(done, total, now)}  {end}")
        elif 10 * done // total > self._tenth:
            self._write(f"{self._label}: {self._text(done, total, now)}\n")
        self._tenth, self._shown = 10 * done // total, now

    def _text(self, done: int, total: int, now: float) -> str:
        start, first = self._start or (now, done)
        counts, rate = f"{done} of {total} {self._unit}", ""
        if self._unit == "MB":
            counts = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
            rate = f", {(done - first) / 1e6 / max(now - start, 1e-3):.1f} MB/s"
        return f"{100 * done // total} %, {counts}{rate}"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError, AttributeError):  # a reader that has gone away, or none at all, does not end a download
            self._terminal, self._tenth = False, 10
