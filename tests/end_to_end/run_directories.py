"""Run directories compared byte for byte, times aside, and runs that are ended in the middle; also for benchmarks/kill_resume.py."""

import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 900
"""Seconds after which a run that neither says anything nor ends is taken for hung."""
_DURATION = re.compile(r'(<td class="num">)(?:[\d.]+ s|\d+ min \d+ s|\d+ h \d+ min)(?=</td>)')


def _json(content: bytes) -> bytes:
    """metrics.json, report.json of a step: without `seconds`."""
    values = json.loads(content)
    values.pop("seconds")
    return json.dumps(values, indent=2).encode()


def _lines(content: bytes) -> bytes:
    """metrics.jsonl: without `time` and `seconds`; of a line that a resumed run had to write again, the last."""
    last: dict[tuple[str, object], dict] = {}
    for line in content.splitlines():
        record = {key: value for key, value in json.loads(line).items() if key not in {"time", "seconds"}}
        last[record["step"], record.get("epoch")] = record
    return json.dumps(list(last.values()), indent=2).encode()


def _page(content: bytes) -> bytes:
    """report.html: without the durations in its tables."""
    return _DURATION.sub(r"\1", content.decode()).encode()


TIMES: tuple[tuple[str, Callable[[bytes], bytes] | None], ...] = (
    ("tensorboard/*", None),  # its files carry the time, the host and the process in their names and the time in every record
    ("metrics.json", _json),
    ("steps/*/report.json", _json),
    ("metrics.jsonl", _lines),
    ("report.html", _page),
)
"""All that may differ between two runs of one command: files that are left out (None), and what is taken out of the others."""


def comparable(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its path, without what TIMES names."""
    found = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        rule = next((rule for pattern, rule in TIMES if file.relative_to(folder).match(pattern)), bytes)
        if rule is not None:
            found[str(file.relative_to(folder))] = rule(file.read_bytes())
    return found


def differing(first: Path, second: Path) -> list[str]:
    """Paths of the files that are not the same in two run directories, times aside; also those that only one of them has."""
    a, b = comparable(first), comparable(second)
    return sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))


@dataclass(frozen=True)
class Moment:
    """When a run is to be ended.

    Attributes:
        line: a pattern; the first line of output that it matches, or '' for the start of the process.
        file: a file below the run directory instead: when it appears, or is replaced.
        delay: seconds after that.
        until: a pattern; a later line that it matches ends the delay at once, so that a machine which has become faster misses nothing.
    """

    line: str = ""
    file: str = ""
    delay: float = 0.0
    until: str = ""

    def __str__(self) -> str:
        """'kept the weights + 0.31 s'."""
        return f"{self.file or self.line.partition('|')[0].strip('^$ ') or 'start'} + {self.delay:.2f} s"


@dataclass
class Ended:
    """How a run ended.

    Attributes:
        code: exit code; negative: the signal.
        lines: standard output and standard error.
        times: when each line came, in seconds after the start.
        signalled: the signal was sent before the run had ended of itself.
    """

    code: int = 0
    lines: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    signalled: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def launch(command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Starts `python ...` as the leader of a process group of its own; standard error goes where standard output goes."""
    return subprocess.Popen(
        [sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip


def run_until(
    command: Sequence[str], cwd: Path, workdir: Path, moment: Moment | None = None, sent: int = signal.SIGKILL,
    environment: Mapping[str, str] | None = None,
) -> Ended:  # fmt: skip
    """Runs `python ...`; at `moment` its whole process group gets the signal `sent`. Without a moment it runs to its end."""
    before = _stamp(workdir / moment.file) if moment and moment.file else None
    process = launch(command, cwd, environment)
    begun = time.monotonic()
    said: queue.Queue[tuple[float, str] | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, begun, said), daemon=True).start()
    ended, due = Ended(), None
    if moment is not None and not moment.file and not moment.line:
        due = begun + moment.delay
    heard = begun
    try:
        while True:
            wait = 0.002 if moment is not None and moment.file and due is None else 0.05
            item = _next(said, min(wait, max(0.0, due - time.monotonic())) if due is not None and not ended.signalled else wait)
            if item is None:
                break
            if item:
                heard = time.monotonic()
                ended.times.append(item[0])
                ended.lines.append(item[1])
                if moment is not None and due is not None and moment.until and re.search(moment.until, item[1]):
                    due = min(due, time.monotonic())
                if moment is not None and moment.line and due is None and re.search(moment.line, item[1]):
                    due = begun + item[0] + moment.delay
            if moment is not None and moment.file and due is None and _stamp(workdir / moment.file) not in (None, before):
                due = time.monotonic() + moment.delay
            if due is not None and not ended.signalled and time.monotonic() >= due and process.poll() is None:
                os.killpg(process.pid, sent)
                ended.signalled = True
            if time.monotonic() - heard > PATIENCE:
                raise TimeoutError(f"{' '.join(command)}: nothing was heard for {PATIENCE} s after {ended.lines[-3:]}")
        ended.code = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return ended


def _read(process: subprocess.Popen, begun: float, said: "queue.Queue[tuple[float, str] | None]") -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            said.put((time.monotonic() - begun, line.rstrip("\n")))
    except ValueError:  # closed
        pass
    said.put(None)


def _next(said: "queue.Queue[tuple[float, str] | None]", wait: float) -> tuple[float, str] | tuple[()] | None:
    """The next line with its time, () where none came within `wait` seconds, None at the end."""
    try:
        return said.get(timeout=wait) if wait > 0 else said.get_nowait()
    except queue.Empty:
        return ()


def _stamp(file: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


PHASES: tuple[tuple[str, str], ...] = (
    ("start-up", ""),
    ("data, TensorFlow, first model", r"^tinykit "),
    ("train: building", r"^step 1/"),
    ("train: epochs", r"^  epoch \d"),
    ("train: saving, scoring", r"^  kept the weights"),
    ("between the steps", r"^done 1/"),
    ("integers: building", r"^step 2/"),
    ("integers: epochs, scoring", r"^  calibrated"),
    ("end of the steps", r"^done 2/"),
    ("checks", r"^outputs$"),
    ("compiling", r"^  plan:"),
    ("verification", r"^  linked:"),
    ("tables, report", r"^  parity: engine"),
)
"""Names of the phases of a run of two steps, and the line that each begins with."""
LAST_LINE = r"^  (accuracy|AUC):"
"""What a run says last before it writes metrics.json, report.html and DONE."""


def phase_lengths(whole: Ended) -> list[float]:
    """Seconds that each of PHASES took in an uninterrupted run."""
    starts = [0.0]
    for _, pattern in PHASES[1:]:
        starts.append(next(t for t, line in zip(whole.times, whole.lines) if t >= starts[-1] and re.search(pattern, line)))
    return [max(0.02, after - at) for at, after in zip(starts, [*starts[1:], whole.times[-1]])]


def moments(whole: Ended, count: int, rng: random.Random) -> list[tuple[str, Moment]]:
    """`count` moments, in the order of the run, spread over its phases, each at a random part of its phase: (phase, moment).

    They are told by lines of output, so that they lie in their phases however fast the machine is. A run that resumes passes over what is
    finished before; its moment then counts from the first line of a later phase.
    """
    lengths = phase_lengths(whole)
    every, more = divmod(count, len(PHASES))
    chosen = sorted([*range(len(PHASES))] * every + rng.sample(range(len(PHASES)), more))
    found = []
    for i in chosen:
        patterns = [*(pattern for _, pattern in PHASES), LAST_LINE]
        lines = "" if i == 0 else "|".join(patterns[i:-1])
        found.append((PHASES[i][0], Moment(line=lines, delay=rng.random() * lengths[i], until="|".join(patterns[i + 1 :]))))
    return found
