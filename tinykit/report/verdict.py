"""The verdict: does the result fit, against which budget, and how was each number obtained."""

import math
from dataclasses import dataclass

from tinykit.config.sizes import format_size
from tinykit.report.data import ReportData

_FILE_ONLY = "measured(host): size of the .tflite file alone, without code"
_ARENA = "estimated(TFLM arena, 32-bit): without stack"
_PLANNED = "estimated(planned arena and stack)"


@dataclass(frozen=True)
class Usage:
    """One resource against its limit.

    Attributes:
        name: "Flash" or "RAM".
        used, limit: bytes, None where not known.
        source: where `used` comes from.
        whole: it counts everything that a linked program takes, not the model alone.
    """

    name: str
    used: int | None
    limit: int | None
    source: str
    whole: bool = False

    @property
    def fits(self) -> bool | None:
        """None where a size is not known."""
        return None if self.used is None or self.limit is None else self.used <= self.limit

    @property
    def share(self) -> float | None:
        """Used part of the limit, 1.0 is all of it."""
        return None if self.used is None or not self.limit else self.used / self.limit

    @property
    def text(self) -> str:
        """'12.3 kB of 64.0 kB', exact where rounding would hide which is larger."""
        if self.used is None:
            return "not measured"
        if self.limit is None:
            return format_size(self.used)
        used, limit = format_size(self.used), format_size(self.limit)
        if used == limit and self.used != self.limit:
            used, limit = f"{self.used:,} B", f"{self.limit:,} B"
        return f"{used} of {limit}"

    @property
    def margin(self) -> str:
        """'51.7 kB left', '3 B over', or ''."""
        if self.used is None or self.limit is None:
            return ""
        left = self.limit - self.used
        return f"{format_size(left)} left" if left >= 0 else f"{format_size(-left)} over"

    @property
    def sentence(self) -> str:
        """Used, limit, margin and source in one phrase."""
        if self.used is None:
            return f"{self.name} not measured"
        margin = f" ({self.margin})" if self.margin else ""
        return f"{self.name} {self.text}{margin}, {self.source}"


@dataclass(frozen=True)
class Verdict:
    """Attributes: fits (None: cannot be said), headline, sentence (the line under it), usages."""

    fits: bool | None
    headline: str
    sentence: str
    usages: tuple[Usage, ...]


def judge(data: ReportData) -> Verdict:
    """Judges flash and RAM as the runner does: by linked and measured sizes where there are any, else by the .tflite and the estimate.

    Where a comparison found differing elements, the verdict is bad whatever the sizes are.
    """
    usages = (_flash(data), _ram(data))
    fits, headline, sentence = _budget(usages, data.budget.get("board"), data.metric("budget_met") is False)
    wrong = [entry for entry in data.parity if entry.get("mismatches")]
    if wrong:
        pairs = "; ".join(f"{entry['mismatches']:,} elements differ between {entry.get('a')} and {entry.get('b')}" for entry in wrong)
        return Verdict(False, "Parity failed: do not deploy", f"{pairs}. {headline}. {sentence}", usages)
    return Verdict(fits, headline, sentence, usages)


def _budget(usages: tuple[Usage, ...], board: str | None, refused: bool) -> tuple[bool | None, str, str]:
    """Whether everything that is limited fits; headline; sentence. `refused`: the run found that it does not."""
    limited = [usage for usage in usages if usage.limit is not None]
    if not limited:
        return None, "No budget given", "Set budget.board, or budget.flash and budget.ram, to have the result judged."
    against = f"the budget of {board}" if board else "the given budget"
    sentence = "; ".join(usage.sentence for usage in limited) + "."
    if any(usage.fits is False for usage in limited):
        return False, f"Does not fit {against}", sentence
    if refused:
        return False, f"Does not fit {against}", f"No program could be linked that fits: see the notes. {sentence}"
    if any(usage.fits is None for usage in limited):
        return None, f"Cannot be judged against {against}", sentence
    if all(usage.whole for usage in limited):
        return True, f"Fits {against}", sentence
    return True, f"The model fits {against}; no program is linked yet", sentence


def _flash(data: ReportData) -> Usage:
    limit = data.budget.get("flash")
    linked = data.metric("flash.total")
    if linked is not None:
        return Usage("Flash", linked, limit, data.sources.get("flash.total", "measured(host): linked program"), whole=True)
    used = data.metric("tflite_bytes")
    return Usage("Flash", used, limit, data.sources.get("tflite_bytes", _FILE_ONLY) if used is not None else "not measured")


def _ram(data: ReportData) -> Usage:
    limit = data.budget.get("ram")
    run = data.metric("ram.total")
    board = data.metric("board") or data.budget.get("board") or "board"
    if run is not None:
        return Usage("RAM", run, limit, data.sources.get("ram.total", f"emulated({board})"), whole=True)
    used = data.ledger[-1].get("ram_bytes") if data.ledger else None
    if used is not None:
        return Usage("RAM", used, limit, data.sources.get("ledger.ram_bytes", _PLANNED))
    used = data.arena.get("estimate_bytes")
    if used is None:
        return Usage("RAM", None, limit, "not measured")
    return Usage("RAM", used, limit, data.sources.get("arena.estimate_bytes", _ARENA))


def wilson(successes: float, samples: int, z: float = 1.96) -> tuple[float, float]:
    """Bounds of a share, 95 % by default (E. B. Wilson, JASA 22, 1927): the true share lies between them, 0 to 1.

    Args:
        successes: of `samples`, which is at least 1.
    """
    share = successes / samples
    middle = share + z * z / (2 * samples)
    half = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
