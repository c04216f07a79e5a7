"""Clean ends: SIGTERM sets a flag, and the work stops at the next safe point."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tinykit.errors import Terminated


class StopFlag:
    """Says whether the run was asked to stop."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        """Asks the run to stop at its next safe point."""
        self._asked = True

    @property
    def asked(self) -> bool:
        """Whether the run was asked to stop."""
        return self._asked

    def check(self) -> None:
        """Raises Terminated if the run was asked to stop."""
        if self._asked:
            raise Terminated("ended by SIGTERM; the same command resumes")


def catch_sigterm(flag: StopFlag) -> Callable[[], None]:
    """From now on SIGTERM sets `flag`; a second SIGTERM ends the process at once. Returns what undoes it.

    Outside the main thread, where Python allows no handlers, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def handle(number: int, frame: FrameType | None) -> None:
        flag.ask()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, handle)

    def undo() -> None:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)

    return undo


@contextmanager
def stop_on_sigterm(flag: StopFlag) -> Iterator[None]:
    """Lets SIGTERM set `flag` while the block runs; see catch_sigterm."""
    undo = catch_sigterm(flag)
    try:
        yield
    finally:
        undo()
