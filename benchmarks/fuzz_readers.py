"""Mutants of every kind of file that tinykit reads: each must be accepted or refused in one line, within 20 s of computing and 1 GB.

Example:
    python benchmarks/fuzz_readers.py --mutants 100000 --seed 0 --resume

`--mutants` counts those of .tflite files; of the other kinds there are fewer, as many as SHARES says, unless `--kind` names one. Prints one
line a batch, each failure with the mutant's file, and the totals; writes them to benchmarks/fuzz_readers.md. Exit code 1 where anything
failed. Batches that are done are kept in STATE/fuzz_readers.jsonl; with --resume they are not run again. What is counted, and how to look
at a failure: docs/hostile_input.md.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rows import append, read

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "fuzz"))

SHARES = {
    "tflite": 1.0, "reference": 0.005, "h5": 0.003, "keras": 0.003, "yaml": 0.02, "document": 0.05, "recipe": 0.01, "npz": 0.05,
    "image": 0.05, "wav": 0.1, "coco": 0.05, "csv": 0.05, "archive": 0.1,
}  # fmt: skip
NAMES = {
    "tflite": ".tflite, small networks", "reference": ".tflite, MLPerf Tiny", "h5": ".h5", "keras": ".keras", "yaml": "configuration",
    "document": "YAML alone", "recipe": "recipe", "npz": ".npz", "image": "PNG, JPEG", "wav": "WAV", "coco": "COCO's JSON", "csv": "CSV",
    "archive": "tar, zip",
}  # fmt: skip
TENSORFLOW = ("h5", "keras")  # takes half a gigabyte itself: what a mutant adds is limited, not the sum
BATCH = 5000


def run_batch(kind: str, seed: int, first: int, last: int) -> dict[str, Any]:
    """A row of the state file."""
    import harness

    start = time.monotonic()
    limits = harness.Limits(peak=None) if kind in TENSORFLOW else harness.Limits()
    found = harness.run(kind, last - first, seed=seed, first=first, limits=limits, most_failures=100)
    return {
        "kind": kind, "seed": seed, "first": first, "last": last, "counts": dict(found.counts), "peak": found.peak,
        "seconds": round(time.monotonic() - start, 1), "failures": [str(failure) for failure in found.failures],
    }  # fmt: skip


def batches(kinds: Sequence[str], mutants: int, shared: bool) -> list[tuple[str, int, int]]:
    """(kind, first, last) of what is to be run."""
    jobs = []
    for kind in kinds:
        count = max(1, round(mutants * SHARES[kind])) if shared else mutants
        jobs += [(kind, first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
    return jobs


def read_state(path: Path) -> dict[tuple[str, int, int, int], dict[str, Any]]:
    """Rows that are done."""
    return {(row["kind"], row["seed"], row["first"], row["last"]): row for row in read(path)}


def summary(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> str:
    """The page that is written."""
    import harness

    lines = [
        "# Mutants of every kind of file that is read\n",
        f"{datetime.date.today().isoformat()}, `python benchmarks/fuzz_readers.py --mutants {options.mutants} --seed {options.seed}"
        + (f" --kind {options.kind}" if options.kind != "all" else "")
        + f"`, seed {options.seed}, measured on the host; [what it means](../docs/hostile_input.md)\n",
        "| files | mutants | accepted | refused | exceptions | crashes | hangs | over 1 GB | peak resident, MiB | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        counts: collections.Counter = collections.Counter()
        for row in own:
            counts.update(row["counts"])
        cells = [counts.total(), *(counts[k] for k in ("accepted", "refused", harness.WRONG, harness.CRASH, harness.HANG, harness.MEMORY))]
        cells += [max(row["peak"] for row in own) >> 20, round(sum(row["seconds"] for row in own))]
        lines.append(f"| {NAMES[kind]} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    failures = [failure for row in rows for failure in row["failures"]]
    total = sum(sum(row["counts"].values()) for row in rows)
    lines.append(f"\n* {total:,} mutants, {len(failures)} failures")
    lines += [f"* FAILED: {' '.join(failure.split())[:400]}" for failure in failures]
    if any(row["kind"] in TENSORFLOW for row in rows):
        lines.append(
            "* TensorFlow itself takes about half a gigabyte of the peak of .h5 and .keras; the limit of 1 GB is for what a file adds"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=[*SHARES, "all"], default="all")
    parser.add_argument("--workers", type=int, default=2, help="processes that read mutants at the same time")
    parser.add_argument("--state", type=Path, default=HERE.parent / "build" / "full", help="folder of the state file")
    parser.add_argument("--resume", action="store_true", help="take over what the state file holds")
    parser.add_argument("--no-page", action="store_true", help="leave fuzz_readers.md as it is")
    options = parser.parse_args()
    kinds = list(SHARES) if options.kind == "all" else [options.kind]
    if not os.environ.get("TINYKIT_DATA") and options.kind == "all":
        kinds.remove("reference")
        print("TINYKIT_DATA names no folder with the reference models: theirs are left out", flush=True)
    options.state.mkdir(parents=True, exist_ok=True)
    state = options.state / "fuzz_readers.jsonl"
    done = read_state(state) if options.resume else {}
    jobs = batches(kinds, options.mutants, options.kind == "all")

    def work(job: tuple[str, int, int]) -> dict[str, Any]:
        kind, first, last = job
        return done.get((kind, options.seed, first, last)) or run_batch(kind, options.seed, first, last)

    rows = []
    with ThreadPoolExecutor(options.workers) as pool:
        for row in pool.map(work, jobs):
            if (row["kind"], row["seed"], row["first"], row["last"]) not in done:
                append(state, row)
            rows.append(row)
            print(f"{row['kind']} {row['first']}..{row['last']}: {row['counts']}, {row['seconds']} s", flush=True)
            for failure in row["failures"]:
                print(failure, flush=True)
    text = summary(rows, options)
    print(text)
    if not options.no_page:
        (HERE / "fuzz_readers.md").write_text(text, encoding="utf-8")
    sys.exit(any(row["failures"] for row in rows))


if __name__ == "__main__":
    main()
