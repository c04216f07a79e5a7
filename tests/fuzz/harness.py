"""Starts the workers that read mutants, and notes which mutant each failure belongs to.

Nothing of a mutant is read in the calling process, so that it outlives whatever a mutant does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
GIB = 1 << 30
CRASH, HANG, MEMORY, WRONG = "crash", "hang", "over 1 GB", "exception"


@dataclass(frozen=True)
class Failure:
    """A mutant that ended neither in success nor in a proper refusal.

    Attributes:
        what: crash, hang, over 1 GB, exception.
        kind, seed, index: make the mutant again: `readers.KINDS[kind].mutant(kind, seed, index)`.
        file: a copy of it.
        message: the traceback, or what ended the process.
    """

    what: str
    kind: str
    seed: int
    index: int
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind} mutant {self.index} of seed {self.seed}: {self.what}: {self.file}\n{self.message}"


@dataclass
class Outcome:
    """What became of mutants. `counts`: accepted, refused, and the failures by what they are. `peak`: resident bytes of a worker."""

    counts: Counter = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    peak: int = 0
    messages: Counter = field(default_factory=Counter)

    @property
    def mutants(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Limits:
    """Of one mutant.

    Attributes:
        memory: bytes that a worker may allocate beyond what it has once it has read a good file.
        peak: resident bytes in all; None: memory beyond the baseline counts alone.
        seconds: of computing. patience: on the clock.
    """

    memory: int = GIB
    peak: int | None = GIB
    seconds: float = 20.0
    patience: float = 600.0


def run(
    kind: str, count: int, *, seed: int = 0, first: int = 0, limits: Limits = Limits(), keep: Path | None = None,
    module: Path = HERE / "readers.py", most_failures: int = 10, watch: Callable[[int], None] | None = None,
) -> Outcome:  # fmt: skip
    """Mutants `first` to `first + count` of a kind and a seed.

    Args:
        keep: folder for the mutants that fail; default: one in the folder of temporary files.
        module: has the dict KINDS.
        most_failures: after as many, it ends.
        watch: is told the index after each mutant.
    """
    outcome, last = Outcome(), first + count
    keep = keep or Path(tempfile.gettempdir()) / "tinykit-fuzz"
    while first < last and len(outcome.failures) < most_failures:
        with tempfile.TemporaryDirectory(prefix="tinykit-fuzz-", dir=_memory_folder()) as folder:
            first = _worker(kind, seed, first, last, limits, Path(folder), keep, module, outcome, watch)
    return outcome


def _memory_folder() -> str | None:
    """Files in memory are written ten times as fast."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _worker(
    kind: str, seed: int, first: int, last: int, limits: Limits, folder: Path, keep: Path, module: Path, outcome: Outcome,
    watch: Callable[[int], None] | None,
) -> int:  # fmt: skip
    """Runs one process until it ends; returns the index that follows."""
    spec = {
        "kind": kind, "seed": seed, "first": first, "last": last, "module": str(module), "folder": str(folder), "memory": limits.memory,
        "peak": limits.peak or 1 << 62, "seconds": limits.seconds, "patience": limits.patience,
    }  # fmt: skip
    environment = {
        **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1",
    }  # fmt: skip
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent.parent), environment.get("PYTHONPATH", "")])
    with open(folder / "stderr.txt", "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "fuzzworker.py"), json.dumps(spec)], stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        assert process.stdout is not None
        following, ready, done = first, False, False
        with process.stdout as lines:
            for line in lines:
                words = json.loads(line)
                if words[0] == "ready":
                    ready, outcome.peak = True, max(outcome.peak, words[1])
                elif words[0] == "done":
                    done = True
                elif words[0] == -1:
                    process.kill()
                    raise AssertionError(f"{kind}: a good file ended in {words[1]}: {words[3]}")
                else:
                    following = _note(words, kind, seed, folder, keep, outcome)
                    if watch:
                        watch(words[0])
        code = process.wait()
    if not ready:
        raise AssertionError(f"the worker for {kind} did not start, exit code {code}:\n{_tail(folder / 'stderr.txt')}")
    if done or (code == 0 and following > first and outcome.failures and outcome.failures[-1].what == MEMORY):
        return following if not done else last
    trace = _tail(folder / "trace.txt")
    what = HANG if -code == signal.SIGPROF or "Timeout (" in trace else CRASH
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    _fail(what, kind, seed, following, f"{ended}\n{trace}\n{_tail(folder / 'stderr.txt')}", folder, keep, outcome)
    return following + 1


def _note(words: list, kind: str, seed: int, folder: Path, keep: Path, outcome: Outcome) -> int:
    index, state, peak, message = words
    outcome.peak = max(outcome.peak, peak << 10)
    if state in ("accepted", "refused"):
        outcome.counts[state] += 1
    else:
        _fail(MEMORY if state == "memory" else WRONG, kind, seed, index, message, folder, keep, outcome)
    return index + 1


def _fail(what: str, kind: str, seed: int, index: int, message: str, folder: Path, keep: Path, outcome: Outcome) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    mutant = next((path for name in (str(index), "mutant") for path in folder.glob(f"{name}.*")), None)
    copy = keep / f"{kind}-{seed}-{index}{mutant.suffix if mutant else ''}"
    if mutant:
        shutil.copyfile(mutant, copy)
    outcome.counts[what] += 1
    outcome.failures.append(Failure(what, kind, seed, index, str(copy), message))


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]) if path.exists() else ""
