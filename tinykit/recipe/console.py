"""What a run says: one line an event; on a terminal also a progress line and a ruled ledger."""

import os
import sys
import time
from collections.abc import Callable, Sequence

from tinykit.boards.table import Budget
from tinykit.recipe import ledger

_INTERVAL = 0.2


def discard_output() -> None:
    """From now on standard output goes nowhere."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)


class Console:
    """Prints lines to standard output, or hands them to `log` where one is given.

    Args:
        log: takes each line; None: print. Progress within a step is shown on a terminal only.
    """

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        self._log = log
        self._terminal = log is None and sys.stdout is not None and sys.stdout.isatty()
        self._shown = 0
        self._last = 0.0

    def line(self, message: str) -> None:
        """One event."""
        self._clear()
        if self._log is not None:
            self._log(message)
        else:
            self._print(message)

    def _print(self, message: str) -> None:
        """Prints; a reader that has gone away (`| head`), or a full disk under a log, does not end a training."""
        try:
            print(message, flush=True)
        except UnicodeEncodeError:
            print(message.encode("ascii", "backslashreplace").decode(), flush=True)
        except OSError:
            discard_output()

    def progress(self, done: int, total: int, **values: float) -> None:
        """Shows progress in place, a few times a second, on a terminal only."""
        now = time.monotonic()
        if not self._terminal or now - self._last < _INTERVAL:
            return
        self._last = now
        of = f"/{total}" if total else ""
        text = f"  {done}{of}" + "".join(f"  {key} {value:.4g}" for key, value in values.items())
        sys.stdout.write("\r" + text.ljust(self._shown))
        sys.stdout.flush()
        self._shown = len(text)

    def _clear(self) -> None:
        if self._shown:
            sys.stdout.write("\r" + " " * self._shown + "\r")
            self._shown = 0

    def ledger(self, rows: Sequence[ledger.Row], budget: Budget) -> None:
        """The table of all steps."""
        if not self._terminal:
            for line in ledger.plain(rows, budget):
                self.line(line)
            return
        from rich.console import Console as RichConsole
        from rich.table import Table

        self._clear()
        table = Table(*ledger.headings(rows))
        for line_cells in ledger.cells(rows, budget):
            table.add_row(*line_cells)
        RichConsole().print(table)
