"""The host's end of an emulated board's serial line: in this process, or as a pseudo-terminal that any program can open."""

import collections
import os
import select
import threading
import time
import tty
from collections.abc import Callable

IDLE_POLLS = 3
"""Polls in a row that find nothing, after which firmware is taken to wait for input. A status register is also read to send."""

_WAIT_SECONDS = 0.2
_NOBODY_SECONDS = 0.05


class SerialLine:
    """A byte stream in both directions, without timing.

    Attributes:
        sent: what the board has sent and nobody has taken yet.
    """

    def __init__(self) -> None:
        self.sent = bytearray()
        self._received: collections.deque[int] = collections.deque()
        self._polls = 0
        self._descriptor: int | None = None
        self._closed = False

    def attach(self, descriptor: int) -> None:
        """From now on bytes come from, and go to, this file descriptor (the master side of a pseudo-terminal)."""
        self._descriptor = descriptor

    def close(self) -> None:
        """A board that waits for input is stopped, and what it sends is dropped; the descriptor stays open."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Has nobody been listening since `close`?"""
        return self._closed

    def detach(self) -> None:
        """The line is within this process again."""
        self._descriptor, self._closed = None, False

    def reset(self) -> None:
        """Forgets bytes on their way in both directions."""
        self.sent.clear()
        self._received.clear()
        self._polls = 0

    def feed(self, data: bytes) -> None:
        """Bytes for the board."""
        self._received.extend(data)

    def poll(self) -> tuple[bool, bool]:
        """The board asks for input: (is there a byte?, is the board to be stopped, because it waits and there is none?).

        The answer waits for the other end, up to a moment, where that is a pseudo-terminal and the board does wait.
        """
        if self._received:
            self._polls = 0
            return True, False
        self._polls += 1
        waits = self._polls >= IDLE_POLLS
        if self._descriptor is None or not waits:
            return False, waits and self._descriptor is None
        self._receive(self._descriptor)
        return bool(self._received), self._closed

    def _receive(self, descriptor: int) -> None:
        if not select.select([descriptor], [], [], _WAIT_SECONDS)[0]:
            return
        try:
            self._received.extend(os.read(descriptor, 4096))
        except OSError:  # nobody has the other side open
            time.sleep(_NOBODY_SECONDS)

    def take(self) -> int:
        """The next byte for the board, 0 if there is none."""
        return self._received.popleft() if self._received else 0

    def send(self, data: bytes) -> None:
        """Bytes from the board."""
        self._polls = 0
        if self._descriptor is None:
            self.sent += data
            return
        while data and not self._closed:
            if select.select([], [self._descriptor], [], _WAIT_SECONDS)[1]:
                data = data[os.write(self._descriptor, data) :]


class Terminal:
    """A pseudo-terminal that stands for a line's other end, while a thread of its own runs the board.

    Args:
        line: of the board.
        run: runs the board until it stops.

    Attributes:
        path: of the terminal, for any program.
    """

    def __init__(self, line: SerialLine, run: Callable[[], None]) -> None:
        self._line = line
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.path = os.ttyname(self._theirs)
        line.attach(self._ours)
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def close(self, interrupt: Callable[[], None]) -> None:
        """Ends the service when the board next waits for input or sends; `interrupt` stops one that does neither."""
        self._line.close()
        while self._thread.is_alive():
            interrupt()
            self._thread.join(_WAIT_SECONDS)
        self._line.detach()
        os.close(self._theirs)
        os.close(self._ours)
