"""The loop through a serial port on emulated boards: load, infer, results, output bytes and top-1 of real samples, against the reference.

Example:
    TINYKIT_DATA=folder python benchmarks/serial_loop.py [ROW...] [--table]

Rows are task x board: the MLPerf Tiny reference models kws and ic (from TINYKIT_DATA) and the digits network, which is trained first, on
nano33ble and nucleo_l4r5zi. Each compiles, runs monitor.elf on the emulated board behind a pseudo-terminal, and streams 200 samples of the
test split through pyserial. Rows that have a result are not run again. Writes benchmarks/serial_loop.jsonl and benchmarks/serial_loop.md.
Exit code 4 where a byte differs.
"""

import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

from rows import Result, append, read

HERE = Path(__file__).parent
STATE = HERE.parent / "build" / "serial"
SAMPLES = 200
BOARDS = ("nano33ble", "nucleo_l4r5zi")
TASKS = {
    "kws": ("kws_ref_model", "kws01", "kws01_mfcc.npz"),
    "ic": ("ic_pretrainedResnet", "ic01", "cifar10_test.npz"),
    "digits": (None, None, None),
}
"""Task: reference model, MLPerf Tiny's name of it, its samples."""
ROWS = [f"{task}-{board}" for task in TASKS for board in BOARDS]
RESULTS, TABLE = HERE / "serial_loop.jsonl", HERE / "serial_loop.md"


def digits_run() -> Path:
    """The run directory of the digits network; trains it where it is not there."""
    folder = STATE / "digits"
    command = [sys.executable, "-m", "tinykit.train", "--config", "digits.yaml", "--workdir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"digits: exit code {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return folder


def run(row: str) -> Result:
    """One row's result."""
    from tinykit.hardware.ports import EMULATED
    from tinykit.hardware.session import Build, Source, bench_device

    task, _, board = row.partition("-")
    model, name, samples = TASKS[task]
    if model is None:
        folder = digits_run()
        source = Source(folder / "model.tflite", folder, samples=SAMPLES)
    else:
        data = Path(os.environ["TINYKIT_DATA"])
        source = Source(data / "reference_models" / f"{model}_int8.tflite", data=data / str(samples), samples=SAMPLES)
    begin = time.monotonic()
    report = bench_device(source, board, EMULATED, STATE / row, build=Build(task=name))
    device = report["device"]
    if device["provenance"] != f"emulated({board})" or device["latency_ms"] is not None:
        raise SystemExit(f"{row}: labelled {device['provenance']}, latency {device['latency_ms']}: an emulated board has none")
    kept = {
        key: device[key] for key in ("provenance", "answers_as", "input_form", "golden", "self_test_mismatches", "streamed", "accuracy")
    }
    seconds = round(time.monotonic() - begin, 1)
    return {"row": row, "date": datetime.date.today().isoformat(), "seconds": seconds, "compiler": report["toolchain"]["compiler"], **kept}


def table(results: dict[str, Result]) -> str:
    """serial_loop.md."""
    lines = [
        "# Through the serial port",
        "",
        "`TINYKIT_DATA=folder python benchmarks/serial_loop.py`. **No physical board was used**: monitor.elf runs on emulated boards",
        "behind a pseudo-terminal; the host's side is the one that talks to a real port. Samples are evenly spaced in the test split.",
        "Output bytes and top-1 are compared with the reference executor's; the golden vectors are random inputs, for digits those of the",
        "run. Seconds are the host's, with building and verifying, on two shared cores: they say nothing of a board.",
        "",
        "| network | provenance | answers as, input | golden vectors: bytes that differ | samples | output bytes that differ "
        "| top-1: board | reference | host s | date |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        r = results.get(row)
        if r is None:
            continue
        golden, streamed, accuracy = r["golden"], r["streamed"], r["accuracy"]
        cells = (
            row.partition("-")[0], r["provenance"], f"{r['answers_as']}, {r['input_form']}", f"{golden['mismatches']} of {golden['bytes']}",
            f"{streamed['samples']} of {streamed['available']}", f"{streamed['mismatches']} of {streamed['bytes']:,}",
            f"{100 * accuracy['device']:.2f} %", f"{100 * accuracy['reference']:.2f} %", r["seconds"], r["date"],
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The rows that the command line names, again; or those that have no result yet; with --table none."""
    wanted = [a for a in sys.argv[1:] if a != "--table"]
    unknown = [row for row in wanted if row not in ROWS]
    if unknown:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if "TINYKIT_DATA" not in os.environ:
        raise SystemExit("set TINYKIT_DATA to the folder with reference_models/, kws01_mfcc.npz and cifar10_test.npz")
    done = {r["row"]: r for r in read(RESULTS)}
    for row in wanted or [row for row in ROWS if row not in done and "--table" not in sys.argv]:
        print(row, flush=True)
        done[row] = run(row)
        append(RESULTS, done[row])
        TABLE.write_text(table(done), encoding="utf-8")
    TABLE.write_text(table(done), encoding="utf-8")


if __name__ == "__main__":
    from tinykit.cli import exit_code

    sys.exit(exit_code(main))
