"""Random networks through the whole engine, every tensor of every sample against the reference executor, on four machines:

this computer at -O2, this computer under AddressSanitizer and UndefinedBehaviorSanitizer, an emulated Cortex-M4, an emulated Cortex-M7.

Example:
    python benchmarks/fuzz_engine.py --networks 500 --seed 0 --boards nano33ble,disco_f746ng --resume

Prints one line a failure, with the seed that repeats it (`--networks 1 --seed N`), and the totals; writes them to
benchmarks/fuzz_engine.md, with --narrow (tensors and weights of 8, 4 and 2 bits) to benchmarks/fuzz_engine_narrow.md. Exit code 1 where
anything differs or fails. Networks that are done are kept in STATE/fuzz_engine.jsonl or STATE/fuzz_engine_narrow.jsonl; with --resume they
are not run again. The compilers of the boards, GCC -O3 and zig -Os, take turns: which one depends on the seed divided by ten.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rows import append, read

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / folder) for folder in ("engine", "verify")]

BATCH, SAMPLES = 10, 4
LEVELS = {"gcc": "-O3", "zig": "-Os"}
Lane = tuple[str, Callable[[Sequence[Any], Path], Any]]


def lanes(boards: Sequence[str], turn: int) -> list[Lane]:
    """(name, how to run networks in a folder) of every machine; `turn` decides which compiler a board gets."""
    from bundles import run_on_board, run_on_host

    from tinykit.boards.table import board
    from tinykit.boards.toolchain import find

    found: list[Lane] = [
        ("host -O2", lambda cases, folder: run_on_host(cases, folder)),
        ("host ASan + UBSan", lambda cases, folder: run_on_host(cases, folder, sanitize=True, optimize="-O1")),
    ]
    names = [name for name in LEVELS if find(name)]
    for i, place in enumerate(boards):
        tools = names[(turn + i) % len(names)]

        def run(cases: Sequence[Any], folder: Path, place: str = place, tools: str = tools) -> Any:
            return run_on_board(cases, board(place), folder, toolchain=tools, optimize=LEVELS[tools])

        found.append((f"emulated {place}", run))
    return found


def build(seeds: Sequence[int], narrow: bool, failures: list[str]) -> list[Any]:
    """The generated networks of some seeds, every fifth simplified as a user's would be, their plans proved; what fails is noted."""
    from bundles import make_case
    from random_networks import random_network

    from tinykit.graph import reference
    from tinykit.graph.plan.replay import replay_graph
    from tinykit.graph.simplify import simplify

    cases = []
    for seed in seeds:
        try:
            graph = random_network(seed, narrow)
            case = make_case(simplify(graph).graph if seed % 5 == 4 else graph, f"n{seed}", SAMPLES, seed)
            original = reference.run_all(graph, dict(case.samples))
            if any((original[name] != case.truth[name]).any() for name in graph.outputs):
                failures.append(f"seed {seed}: simplifier: an output differs")
            problems = replay_graph(case.graph, case.engine.problem, case.engine.plan)
            failures += [f"seed {seed}: plan: {problem}" for problem in problems[:1]]
            cases.append(case)
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is what is looked for
            failures.append(f"seed {seed}: engine: {_words(problem)}")
    return cases


def _words(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:400]}"


def run_lane(lane: Lane, cases: Sequence[Any], failures: list[str]) -> tuple[int, int]:
    """(elements that differ, elements). Where a bundle fails as a whole, each network is run on its own."""
    name, run = lane
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = run(cases, Path(folder))
        except Exception as problem:  # noqa: BLE001 - as above
            if len(cases) == 1:
                failures.append(f"seed {cases[0].name[1:]}: {name}: {_words(problem)}")
                return 0, 0
            parts = [run_lane(lane, [case], failures) for case in cases]
            if not any(name in line for line in failures):
                failures.append(f"seed {cases[0].name[1:]} and the {len(cases) - 1} after it, only together: {name}: {_words(problem)}")
            return sum(p[0] for p in parts), sum(p[1] for p in parts)
    failures += [f"seed {bad[1:]}: {name}: {found.first if bad in (found.first or '') else 'differs'}" for bad in sorted(found.bad)]
    return found.mismatches, found.elements


def run_batch(seeds: Sequence[int], narrow: bool, boards: Sequence[str], turn: int) -> dict[str, Any]:
    """A row of the state file."""
    start, failures = time.monotonic(), []  # type: ignore[var-annotated]
    cases = build(seeds, narrow, failures)
    counts = {lane[0]: run_lane(lane, cases, failures) for lane in lanes(boards, turn)} if cases else {}
    ops = collections.Counter(op.kind for case in cases for op in case.graph.ops)
    return {
        "seeds": [seeds[0], seeds[-1]], "samples": SAMPLES, "boards": list(boards), "networks": len(cases), "lanes": counts,
        "ops": dict(ops), "failures": failures, "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def read_state(path: Path, boards: Sequence[str]) -> dict[tuple[int, int], dict[str, Any]]:
    """Rows that are done, by their first and last seed."""
    found = (row for row in read(path) if row["boards"] == list(boards) and row["samples"] == SAMPLES)
    return {(row["seeds"][0], row["seeds"][1]): row for row in found}


def summary(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> str:
    """The page that is written."""
    from tinykit.boards.toolchain import choose_host, find

    ops: collections.Counter = collections.Counter()
    totals: dict[str, list[int]] = {}
    for row in rows:
        ops.update(row["ops"])
        for name, (mismatches, elements) in row["lanes"].items():
            total = totals.setdefault(name, [0, 0])
            total[0], total[1] = total[0] + mismatches, total[1] + elements
    failures = [line for row in rows for line in row["failures"]]
    compilers = [f"host: {choose_host().version}"] + [f"{t.version} ({LEVELS[t.name]})" for t in map(find, LEVELS) if t]
    lines = [
        f"# Random networks {'of 8, 4 and 2 bits ' if options.narrow else ''}on the engine\n",
        f"{datetime.date.today().isoformat()}, `python benchmarks/fuzz_engine.py --networks {options.networks} --seed {options.seed} "
        f"--boards {options.boards}{' --narrow' if options.narrow else ''}`; "
        f"{'; '.join(compilers)}. Boards are **emulated**, their compilers take turns.\n",
        f"* {sum(row['networks'] for row in rows)} networks, {sum(ops.values())} operations, {SAMPLES} samples each, "
        f"{sum(row['seconds'] for row in rows):.0f} s, {len(failures)} failures; every fifth network is simplified first",
        "* every tensor against the reference executor:",
        *(f"    * {name}: {mismatches} of {elements:,} elements differ" for name, (mismatches, elements) in totals.items()),
        f"* operations: {', '.join(f'{kind} {count}' for kind, count in sorted(ops.items()))}",
        *(f"* FAILED: {line}" for line in failures),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--boards", default="nano33ble,disco_f746ng")
    parser.add_argument("--narrow", action="store_true", help="packed tensors and weights")
    parser.add_argument("--state", type=Path, default=HERE.parent / "build" / "full", help="folder of the state file")
    parser.add_argument("--resume", action="store_true", help="take over what the state file holds")
    parser.add_argument("--no-page", action="store_true", help="leave the page as it is")
    options = parser.parse_args()
    boards = options.boards.split(",")
    options.state.mkdir(parents=True, exist_ok=True)
    name = "fuzz_engine_narrow" if options.narrow else "fuzz_engine"
    state = options.state / f"{name}.jsonl"
    done = read_state(state, boards) if options.resume else {}
    rows = []
    last = options.seed + options.networks
    for first in range(options.seed, last, BATCH):
        seeds = range(first, min(first + BATCH, last))
        row = done.get((seeds[0], seeds[-1]))
        if row is None:
            row = run_batch(seeds, options.narrow, boards, first // BATCH)
            append(state, row)
        rows.append(row)
        for line in row["failures"]:
            print(line, flush=True)
    text = summary(rows, options)
    print(text)
    if not options.no_page:
        (HERE / f"{name}.md").write_text(text, encoding="utf-8")
    sys.exit(any(row["failures"] for row in rows))


if __name__ == "__main__":
    main()
