"""Searches with stub trials that sleep, by real processes: how much two workers save, and what is left after kills at random moments.

    python benchmarks/tuning.py --seed 0

Workers: a chief and one, two or four workers on loopback; seconds from the first trial that is handed out to the last row.
Kills: every method by one process that gets SIGKILL ten times at random moments of its trials, and a chief with two workers,
one of which, drawn at random, gets SIGKILL ten times and is started again; then the trials are compared with those of a search
that nobody interrupts. Writes benchmarks/tuning.md.
"""

import argparse
import contextlib
import datetime
import json
import os
import random
import socket
import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.context import ForkProcess as Process
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "search")]

from tuner_stubs import Study, row, section  # noqa: E402

from tinykit.recipe.interrupt import StopFlag  # noqa: E402
from tinykit.search.tuner.distributed import served, work  # noqa: E402
from tinykit.search.tuner.space import TuneSpace  # noqa: E402

SLEEP = 2.0
SHORT = 0.4
KILLS = 10
METHODS = ("random", "bayesian", "hyperband", "nsga2")


def play(role: str, method: str, folder: Path, address: str, sleep: float) -> None:
    """One process of a search: alone, the chief, or a worker whose name is the role."""

    def attempt(task):
        with (folder / "tries.txt").open("a") as stream:
            stream.write(f"{task.key}\n")
        time.sleep(sleep)
        return row(task)

    if role == "alone":
        Study(folder, section(method), attempt=attempt).run()
    elif role == "chief":
        study = Study(folder, section(method), lease=5.0)
        begun: list[float] = []
        handed, study.desk.create_trial = study.desk.create_trial, lambda name: (begun.append(time.monotonic()), handed(name))[1]
        with served(study.desk, address, StopFlag(), print):
            (folder / "seconds.txt").write_text(f"{time.monotonic() - begun[0]:.2f}" if begun else "0")
    else:
        (folder / f"{role}.ready").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
        work(role, address, TuneSpace(section(method).parameters), attempt, StopFlag(), folder, over=(folder / "over").exists, beat=0.5)


def start(role: str, method: str, folder: Path, address: str = "0", sleep: float = SHORT) -> Process:
    """Such a process: a fork of this one, in which everything is imported already, so that kills hit trials and not imports."""
    process = get_context("fork").Process(target=_quietly, args=(role, method, folder, address, sleep), daemon=True)
    process.start()
    return process


def _quietly(*arguments: Any) -> None:
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        play(*arguments)


def ended(process: Process) -> int:
    """Exit code, when it has ended."""
    process.join()
    return process.exitcode or 0


def free_port() -> str:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def rows(folder: Path) -> list[str]:
    """Keys of the finished trials, in order; a line that is being written is not one."""
    file = folder / "trials.jsonl"
    return [json.loads(line)["key"] for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")] if file.exists() else []


def tries(folder: Path) -> int:
    """How many trials were begun."""
    file = folder / "tries.txt"
    return len(file.read_text().splitlines()) if file.exists() else 0


def shared(workers: int, folder: Path) -> tuple[float, list[str], int]:
    """(seconds, keys, tries) of a random search by so many workers, all of which begin at once."""
    folder.mkdir()
    address = free_port()
    processes = [start(role, "random", folder, address, SLEEP) for role in ("chief", *(f"worker{n}" for n in range(workers)))]
    while len(list(folder.glob("*.ready"))) < workers:
        time.sleep(0.1)
    (folder / "go").touch()
    for process in processes:
        if ended(process):
            raise SystemExit(f"a process of {folder} ended with {process.exitcode}")
    return float((folder / "seconds.txt").read_text()), rows(folder), tries(folder)


def kill(process: Process) -> None:
    """SIGKILL."""
    process.kill()
    process.join()


def killed_alone(method: str, folder: Path, rng: random.Random) -> tuple[list[str], int]:
    """(keys, kills) of a search by one process that is killed again and again, each time after at least one try."""
    folder.mkdir()
    kills = 0
    while True:
        before, process = tries(folder), start("alone", method, folder)
        if kills < KILLS:
            while process.is_alive() and tries(folder) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1.5 * SHORT))
            if process.is_alive():
                kill(process)
                kills += 1
                continue
        if ended(process):
            raise SystemExit(f"{method}: ended with {process.exitcode}")
        return rows(folder), kills


def killed_team(folder: Path, rng: random.Random) -> tuple[list[str], int, int]:
    """(keys, kills, tries) of a random search by a chief and two workers, one of which is killed again and again."""
    folder.mkdir()
    (folder / "go").touch()
    address, kills = free_port(), 0
    roles = ("chief", "one", "two")
    team = {role: start(role, "random", folder, address) for role in roles}
    while kills < KILLS and team["chief"].is_alive():
        before = tries(folder)
        until = time.monotonic() + 60
        while tries(folder) == before and team["chief"].is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, SHORT))
        role = rng.choice(roles)
        if team["chief"].is_alive() and team[role].is_alive():
            kill(team[role])
            kills += 1
            team[role] = start(role, "random", folder, address)
    ended(team["chief"])
    (folder / "over").touch()
    for process in team.values():
        ended(process)
    return rows(folder), kills, tries(folder)


def killed_row(search: str, folder: Path, seed: int) -> str:
    """One row of the second table: a method by one process, or 'team'."""
    rng, method = random.Random(f"{seed} {search}"), "random" if search == "team" else search
    plain = folder / f"plain_{search}"
    plain.mkdir()
    if ended(start("alone", method, plain, sleep=0.0)):
        raise SystemExit(f"{method}: failed")
    if search == "team":
        found, kills, _ = killed_team(folder / "team", rng)
        name, same = "random, a chief and two workers", "yes" if set(found) == set(rows(plain)) else "NO"
    else:
        found, kills = killed_alone(method, folder / f"killed_{method}", rng)
        name, same = f"{method}, one process", "yes, in the same order" if found == rows(plain) else "NO"
    row = f"| {name} | {kills} | {len(found)} | {same} | {len(found) - len(set(found))} |"
    print(row, flush=True)
    return row


def table(seed: int, folder: Path) -> str:
    """Everything measured, as Markdown."""
    lines = ["# Tuning by several processes, and kills", ""]
    today = datetime.date.today().isoformat()
    lines += [
        f"{today}, `python benchmarks/tuning.py --seed {seed}`, on {os.cpu_count()} cores that did other work too, measured on the host",
        "",
    ]
    lines += [f"Random search, stub trials that sleep for {SLEEP:g} s; all workers begin at once:", ""]
    lines += ["| workers | seconds | of one worker's | trials | tries | lost or done twice |", "|---|---|---|---|---|---|"]
    first, expected = 0.0, None
    for workers in (1, 2, 4):
        seconds, found, tried = shared(workers, folder / f"shared{workers}")
        first, expected = first or seconds, expected or found
        wrong = len(set(expected) ^ set(found)) + len(found) - len(set(found)) + tried - len(found)
        lines.append(f"| {workers} | {seconds:.1f} | {seconds / first:.2f} | {len(found)} | {tried} | {wrong} |")
    lines += ["", f"SIGKILL at random moments, stub trials of {SHORT:g} s:", ""]
    lines += ["| search | kills | trials | same trials as without kills | done twice |", "|---|---|---|---|---|"]
    lines += [killed_row(method, folder, seed) for method in (*METHODS, "team")]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Does what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(given.seed, Path(folder))
    (HERE / "tuning.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
