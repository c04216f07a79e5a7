"""Real runs, killed at random moments and repeated, against a run that nobody interrupts: every artefact, byte for byte.

    TINYKIT_DATA=folder python benchmarks/kill_resume.py --seed 0

For each configuration: one run to its end; then the same command in a second folder, whose whole process group gets SIGKILL at ten random
moments, spread over all phases of the run (start-up, training, making integers, checks, compiling, verification, report), and SIGTERM at
three; then once more, to its end. Writes benchmarks/kill_resume.md. Interrupted? Start it again: it goes on where it was.
"""

import argparse
import datetime
import json
import os
import random
import shlex
import signal
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests" / "end_to_end"))

import run_directories as rd  # noqa: E402

CONFIGS: dict[str, tuple[str, ...]] = {
    "digits": (),
    "har": ("steps.train.epochs=6",),
}
"""Configurations, and what is replaced in them."""
NEEDS_DATA = {"har"}
CLEAN_END = "error: ended by SIGTERM; the same command resumes"


@dataclass
class Interruption:
    """One signal: when it was meant to come, and what came of it."""

    phase: str
    moment: str
    signal: str
    landed: bool
    code: int
    last_line: str
    clean: bool


@dataclass
class Result:
    """One configuration. `differ`: files that are not the same, times aside."""

    config: str
    command: str
    interruptions: list[Interruption] = field(default_factory=list)
    files: int = 0
    differ: list[str] = field(default_factory=list)
    complete: bool = False

    def landed(self, name: str) -> list[Interruption]:
        return [i for i in self.interruptions if i.signal == name and i.landed]

    @property
    def bad(self) -> bool:
        return bool(self.differ) or not self.complete or not all(i.clean for i in self.interruptions)


def command_of(config: str) -> list[str]:
    changes = [part for change in CONFIGS[config] for part in ("--set", change)]
    return ["-m", "tinykit.train", "--config", config, *changes, "--workdir", "w"]


def start(config: str, cwd: Path, *arguments: Any) -> rd.Ended:
    return rd.run_until(command_of(config), cwd, cwd / "w", *arguments, environment={"PYTHONPATH": str(ROOT)})


def uninterrupted(config: str, folder: Path) -> rd.Ended:
    """The run to compare with; of an earlier start of this program, where that is complete."""
    said, cwd = folder / "whole.json", folder / "whole"
    if said.exists():
        return rd.Ended(**json.loads(said.read_text()))
    cwd.mkdir(parents=True, exist_ok=True)
    ended = start(config, cwd)
    if ended.code:
        raise SystemExit(f"{config}: exit code {ended.code}\n{ended.text}")
    said.write_text(json.dumps(asdict(ended)))
    return ended


def plan(whole: rd.Ended, kills: int, terms: int, rng: random.Random) -> list[tuple[str, rd.Moment, int]]:
    """What is to happen, in the order of the run. SIGTERM goes to phases in which the program's handler is there; the last kill comes
    between metrics.json and DONE."""
    chosen = [(phase, moment, int(signal.SIGKILL)) for phase, moment in rd.moments(whole, kills - 1, rng)]
    for at in sorted(rng.sample(range(2, len(chosen)), terms), reverse=True):
        chosen.insert(at, (*chosen[at][:2], int(signal.SIGTERM)))
    return [*chosen, ("before DONE", rd.Moment(file="metrics.json", delay=0.02 * rng.random()), int(signal.SIGKILL))]


def interrupt(config: str, cwd: Path, phase: str, moment: rd.Moment, sent: int) -> Interruption:
    ended = start(config, cwd, moment, sent)
    landed = ended.signalled and ended.code != 0
    clean = ended.code == 0 or (sent == signal.SIGKILL and ended.code == -sent)
    if landed and sent == signal.SIGTERM:
        clean = ended.code == 143 and ended.lines[-1] == CLEAN_END
    last = ended.lines[-1].strip() if ended.lines else ""
    return Interruption(phase, str(moment), signal.Signals(sent).name, landed, ended.code, last, clean)


def measure(config: str, folder: Path, seed: int, kills: int, terms: int) -> Result:
    """The whole experiment with one configuration; what is done already is in folder/done.json."""
    whole = uninterrupted(config, folder)
    found = Result(config, shlex.join(["python", *command_of(config)]))
    state, cwd = folder / "done.json", folder / "killed"
    cwd.mkdir(exist_ok=True)
    found.interruptions = [Interruption(**row) for row in json.loads(state.read_text())] if state.exists() else []
    rng = random.Random(f"{seed} {config}")
    for phase, moment, sent in plan(whole, kills, terms, rng)[len(found.interruptions) :]:
        found.interruptions.append(interrupt(config, cwd, phase, moment, sent))
        print(f"{config}: {found.interruptions[-1]}", file=sys.stderr, flush=True)
        state.write_text(json.dumps([asdict(row) for row in found.interruptions]))
    last = start(config, cwd)
    found.complete = last.code == 0 and not list((cwd / "w").rglob(".tmp-*"))
    found.files, found.differ = len(rd.comparable(cwd / "w")), rd.differing(folder / "whole" / "w", cwd / "w")
    return found


def table(results: list[Result], left_out: list[str], options: argparse.Namespace) -> str:
    """The results as Markdown."""
    patterns = ", ".join(f"`{pattern}`{' (not compared)' if rule is None else ''}" for pattern, rule in rd.TIMES)
    lines = [
        "# Kill and resume",
        "",
        f"{datetime.date.today().isoformat()}, `python benchmarks/kill_resume.py --seed {options.seed} --kills {options.kills} "
        f"--terms {options.terms}`, on {os.cpu_count()} cores, measured on the host",
        "",
        "SIGKILL goes to the whole process group. Compared is every file of the run directory, byte for byte; what may differ, times, is",
        f"taken out of {patterns}.",
        "",
        "| configuration | kills that hit | SIGTERM: exit code 143 and its message | files compared | files that differ |",
        "|---|---|---|---|---|",
    ]
    for r in results:
        terms = r.landed("SIGTERM")
        differ = ", ".join(r.differ) or "0"
        lines.append(
            f"| {r.config} | {len(r.landed('SIGKILL'))} | {sum(i.clean for i in terms)} of {len(terms)} "
            f"| {r.files} | {differ}{'' if r.complete else ', and the last run did not end well'} |"
        )
    lines += ["", *(f"* `{r.command}`: {_phases(r)}" for r in results), *(f"* not run: {line}" for line in left_out), ""]
    return "\n".join(lines)


def _phases(result: Result) -> str:
    """Where the signals hit, and what was wrong."""
    hit = Counter(f"{i.phase}{' (SIGTERM)' if i.signal == 'SIGTERM' else ''}" for i in result.interruptions if i.landed)
    wrong = [f"{i.signal} in {i.phase} ({i.moment}): exit code {i.code}, {i.last_line!r}" for i in result.interruptions if not i.clean]
    return "; ".join([", ".join(f"{phase} {n}" if n > 1 else phase for phase, n in hit.items()), *wrong])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--terms", type=int, default=3)
    parser.add_argument("--configs", default=",".join(CONFIGS))
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "kill_resume")
    options = parser.parse_args()
    results, left_out = [], []
    for config in options.configs.split(","):
        if config in NEEDS_DATA and not os.environ.get("TINYKIT_DATA"):
            left_out.append(f"{config}, because TINYKIT_DATA does not name a folder with its data")
            continue
        results.append(measure(config, options.state.absolute() / str(options.seed) / config, options.seed, options.kills, options.terms))
    text = table(results, left_out, options)
    print(text)
    (HERE / "kill_resume.md").write_text(text, encoding="utf-8")
    sys.exit(any(r.bad for r in results))


if __name__ == "__main__":
    main()
