"""The serial monitor on emulated boards, against its model in Python: any bytes at all, every answer compared, no m-ready lost.

Example:
    python benchmarks/fuzz_monitor.py --conversations 200 --seed 0 --resume

A conversation is 400 commands from reset, good, damaged or none, in pieces of any size; conversations take turns on the boards, those with
an even seed under GCC, the others under zig, where both are installed. Prints one line a failure, with the seed that repeats it
(`--conversations 1 --seed N`), and the totals; writes them to benchmarks/fuzz_monitor.md. Exit code 1 where anything differs. Those that
are done are kept in STATE/fuzz_monitor.jsonl; with --resume they are not run again.
"""

import argparse
import datetime
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rows import append, read

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / folder) for folder in ("hardware", "verify")]

BOARDS = ("nano33ble", "nucleo_f446re", "nucleo_l4r5zi", "disco_f746ng")
COMMANDS = 400


def images(folder: Path) -> dict[tuple[str, str], Path]:
    """(board, toolchain) -> monitor image of the tests' small network."""
    from hardware_nets import digits_like, monitor_elf

    from tinykit.boards.toolchain import CROSS, find

    tools = [name for name in CROSS if find(name)]
    return {(b, t): monitor_elf(folder / b / t, digits_like(), b, toolchain=t) for b in BOARDS for t in tools}


def run(seed: int, built: Mapping[tuple[str, str], Path]) -> dict[str, Any]:
    """One conversation."""
    from hardware_nets import digits_like
    from test_monitor_fuzz import fuzz

    tools = sorted({t for _, t in built})
    board, tool = BOARDS[seed // 2 % len(BOARDS)], tools[seed % len(tools)]
    return {"seed": seed, "board": board, "toolchain": tool, "wrong": fuzz(built[board, tool], board, digits_like(), seed, COMMANDS)}


def page(rows: Sequence[Mapping[str, Any]], command: str) -> str:
    """fuzz_monitor.md."""
    lines = [
        f"# Fuzzed monitor\n\n{datetime.date.today().isoformat()}, `{command}`. Conversations of {COMMANDS} commands with monitor.elf on",
        "emulated boards; every line of every answer is compared with a model in Python (tests/hardware/monitor_model.py).\n",
        "| board | compiler | conversations | wrong |\n|---|---|---|---|",
    ]
    for board, tool in sorted({(r["board"], r["toolchain"]) for r in rows}):
        mine = [r for r in rows if (r["board"], r["toolchain"]) == (board, tool)]
        lines.append(f"| emulated({board}) | {tool} | {len(mine)} | {sum(r['wrong'] is not None for r in mine)} |")
    lines += [f"\nseed {r['seed']}: {r['wrong']}" for r in rows if r["wrong"] is not None]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs what is asked for and not done yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    parser.add_argument("--state", type=Path, default=HERE.parent / "build" / "full", help="folder of the state file")
    parser.add_argument("--resume", action="store_true", help="take over what the state file holds")
    parser.add_argument("--no-page", action="store_true", help="leave fuzz_monitor.md as it is")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    state = options.state / "fuzz_monitor.jsonl"
    if not options.resume:
        state.unlink(missing_ok=True)
    done = {row["seed"]: row for row in read(state)}
    seeds = range(options.seed, options.seed + options.conversations)
    with tempfile.TemporaryDirectory(prefix="tinykit-fuzz-") as folder:
        built = images(Path(folder))
        for seed in seeds:
            if seed in done:
                continue
            done[seed] = run(seed, built)
            append(state, done[seed])
            if done[seed]["wrong"] is not None:
                print(f"seed {seed}: {done[seed]['wrong']}", flush=True)
    rows = [done[seed] for seed in seeds]
    wrong = sum(row["wrong"] is not None for row in rows)
    print(f" * {len(rows)} conversations of {COMMANDS} commands, {wrong} wrong")
    if not options.no_page:
        command = f"python benchmarks/fuzz_monitor.py --conversations {options.conversations} --seed {options.seed}"
        (HERE / "fuzz_monitor.md").write_text(page(rows, command), encoding="utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
