"""Reads mutants one after the other in a process of its own, under limits of memory and time. Started by `harness`; one line a mutant.

A mutant that kills the process is the one after the last line. Lines: index, what became of it, peak memory in kB, a message.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import json
import os
import re
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import TextIO

LONGEST_MESSAGE = 2000  # of a problem, see tinykit.errors
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes: VmSize, or VmHWM, the peak of what was resident."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(f"{field}:"))


def limit_memory(spare: int) -> None:
    """Allocations of more than `spare` bytes beyond what there is now fail."""
    most = memory("VmSize") + spare
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def start_clock(seconds: float, patience: float, traces: TextIO) -> None:
    """Ends the process, with a traceback in `traces`, after `seconds` of its own computing, or `patience` seconds on the clock.

    What it computed counts, not what time it is: a loaded machine makes no hang. The clock is for what waits for ever.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    faulthandler.dump_traceback_later(patience, exit=True, file=traces)


def judge(target, path: Path) -> tuple[str, str]:
    """(accepted, refused, wrong, memory; message) for one file."""
    from tinykit.errors import TinykitError

    try:
        target(path)
    except TinykitError as refusal:
        return message_problem(refusal.problems)
    except MemoryError:
        return "memory", last_line(traceback.format_exc())
    except BaseException:  # noqa: BLE001 - what is looked for
        return "wrong", traceback.format_exc()
    return "accepted", ""


def message_problem(problems: list[str]) -> tuple[str, str]:
    """A refusal says what is wrong in lines that a terminal can show."""
    if not problems:
        return "wrong", "refused without a message"
    for problem in problems:
        if CONTROL.search(problem) or len(problem) > LONGEST_MESSAGE:
            return "wrong", f"a message of {len(problem)} characters with a control character or too long: {problem[:300]!r}"
    return "refused", problems[0]


def last_line(text: str) -> str:
    """Where a traceback ended."""
    return " | ".join(line.strip() for line in text.strip().splitlines()[-3:])


def load(spec: dict):
    """The kind: of `readers`, or of a module that a test names."""
    where = Path(spec["module"])
    found = importlib.util.spec_from_file_location(where.stem, where)
    module = importlib.util.module_from_spec(found)
    sys.modules[where.stem] = module
    found.loader.exec_module(module)
    return module.KINDS[spec["kind"]]


def main() -> None:
    spec = json.loads(sys.argv[1])
    kind = load(spec)
    folder = Path(spec["folder"])
    good = folder / f"good{kind.suffix}"
    results = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not mix with the results

    def say(*words: object) -> None:
        os.write(results, (json.dumps(words) + "\n").encode())

    for file in kind.files():  # imports and caches count as the baseline; a good file must pass
        good.write_bytes(file)
        state, message = judge(kind.target, good)
        if state != "accepted" and not spec.get("any_seed"):
            say(-1, state, 0, message)
    gc.collect()
    traces = open(folder / "trace.txt", "w")  # noqa: SIM115 - for as long as the process lives
    faulthandler.enable(traces)
    faulthandler.register(signal.SIGPROF, traces, all_threads=False, chain=True)
    limit_memory(spec["memory"])
    path = folder / f"mutant{kind.suffix}"
    say("ready", memory("VmHWM"))
    for index in range(spec["first"], spec["last"], spec.get("stride", 1)):
        path.write_bytes(kind.mutant(spec["kind"], spec["seed"], index))
        start_clock(spec["seconds"], spec["patience"], traces)
        state, message = judge(kind.target, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        peak = memory("VmHWM")
        if peak > spec["peak"]:
            state, message = "memory", f"peak of {peak >> 20} MiB resident"
        if state not in ("accepted", "refused"):  # `path` is soon another mutant
            path.replace(folder / f"{index}{kind.suffix}")
        say(index, state, peak >> 10, message[-3000:])
        if state == "memory":
            os._exit(0)  # the peak stays: a new process for what follows
    faulthandler.cancel_dump_traceback_later()
    say("done")


if __name__ == "__main__":
    main()
