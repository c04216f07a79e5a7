"""What the benchmarks share: results as lines of JSON, and tables whose rows are runs of `python -m tinykit.train`."""

import datetime
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Result = dict[str, Any]
INTEGERS = ("ptq", "quantize")
"""Steps that make integer networks."""
PARITIES = ("keras_vs_reference", "tflm_vs_reference", "engine_vs_reference")


def read(path: Path) -> list[Result]:
    """The rows of a file of JSON lines, none where there is no file; a line that was cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to such a file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def table_line(cells: Sequence[Any], command: Sequence[str]) -> str:
    """A line of a table of runs: what is not known is n/a, the command comes last."""
    return f"| {' | '.join('n/a' if c is None else str(c) for c in cells)} | `{' '.join(command)}` |"


def measured(row: str, metrics: Result, *keys: str) -> Result:
    """What every table keeps of a run's metrics: the named keys, the number of test samples and the seconds.

    Raises:
        SystemExit: the run was a quick test, or its data were synthetic.
    """
    refuse_unreal(row, metrics)
    kept = {key: metrics.get(key) for key in keys}
    return kept | {"test_samples": metrics["data"]["test_samples"], "seconds": metrics["seconds"]["total"]}


def refuse_unreal(row: str, metrics: Result) -> None:
    """Raises SystemExit for the metrics of a quick test, or of synthetic data."""
    if metrics.get("quicktest"):
        raise SystemExit(f"{row}: refused: a quick test's figures are no results")
    if metrics["data"]["synthetic"]:
        raise SystemExit(f"{row}: refused: synthetic data")


def last_float(folder: Path) -> Result:
    """The report of the last step of a run before its network was made an integer one."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "steps").glob("*/report.json"))]
    return [report for report in reports if report["step"] not in INTEGERS][-1]


def _cpu_seconds() -> float:
    """Of all programs that were run and have ended: other than the time that passes, no matter what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mismatches(result: Result) -> str:
    """The mismatching elements of a run as a cell: Keras, TFLM and the engine against the reference."""
    return " / ".join(str(result["parity"][key]) for key in PARITIES)


@dataclass(frozen=True)
class Runs:
    """A table of runs, each in its own run directory.

    Attributes:
        name: benchmarks/<name>.jsonl holds the results (the last of a row counts), benchmarks/<name>.md shows them.
        folder: of the run directories.
        rows: row -> the arguments after `python -m tinykit.train`, without --workdir, with $TINYKIT_DATA as the table shows it.
        kept: (row, run directory, metrics) -> what the table keeps of a run; SystemExit where the run is no result.
        table: last result of each row -> the table as Markdown.
        codes: exit codes of a run that has a result.
        module: the program.
        metrics: where its figures are, in the run directory.
        words: row -> its arguments, where these are known only once earlier rows have results; None: those of `rows`.
    """

    name: str
    folder: Path
    rows: Mapping[str, Sequence[str]]
    kept: Callable[[str, Path, Result], Result]
    table: Callable[[dict[str, Result]], str]
    codes: tuple[int, ...] = (0,)
    module: str = "tinykit.train"
    metrics: str = "metrics.json"
    words: Callable[[str], Sequence[str]] | None = None

    @property
    def _file(self) -> Path:
        return HERE / f"{self.name}.jsonl"

    def results(self) -> dict[str, Result]:
        """The last result of each row that there still is."""
        return {r["row"]: r for r in read(self._file) if r["row"] in self.rows}

    def command(self, row: str) -> list[str]:
        """All arguments after `python -m MODULE`."""
        return [*(self.words(row) if self.words else self.rows[row]), "--workdir", str(self.folder / row)]

    def run(self, row: str) -> Result:
        """Runs one row and returns its result. Raises SystemExit with the program's words where it fails."""
        arguments = [a.replace("$TINYKIT_DATA", os.environ.get("TINYKIT_DATA", "")) for a in self.command(row)]
        before, begun = _cpu_seconds(), time.monotonic()
        done = subprocess.run([sys.executable, "-m", self.module, *arguments], capture_output=True, text=True, check=False)
        if done.returncode not in self.codes:
            raise SystemExit(f"{row}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        metrics = json.loads((self.folder / row / self.metrics).read_text(encoding="utf-8"))
        spent = {"cpu_seconds": round(_cpu_seconds() - before, 1), "seconds": round(time.monotonic() - begun, 1)}
        return {"row": row, "date": datetime.date.today().isoformat(), **spent, **self.kept(row, self.folder / row, metrics)}

    def main(self) -> None:
        """The rows that the command line names, again; or those that have no result yet; with --table none. The table is written."""
        wanted = [a for a in sys.argv[1:] if a != "--table"]
        unknown = [row for row in wanted if row not in self.rows]
        if unknown:
            raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(self.rows)}")
        missing = [] if "--table" in sys.argv else [row for row in self.rows if row not in self.results()]
        for row in wanted or missing:
            if wanted and (self.folder / row / "DONE").exists():
                shutil.rmtree(self.folder / row)
            print(row, flush=True)
            append(self._file, self.run(row))
            self._write()
        self._write()

    def _write(self) -> None:
        (HERE / f"{self.name}.md").write_text(self.table(self.results()), encoding="utf-8")
