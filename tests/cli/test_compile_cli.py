"""python -m tinykit.compile, bench and profile, as a user runs them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402

from tinykit.graph.writer import write_tflite  # noqa: E402

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"tinykit.{module}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False, env=environment)


def network(channels: int = 6, size: int = 9, seed: int = 3) -> bytes:
    net = nets.Net(seed)
    x = net.input((size, size, 3))
    x = net.conv(x, out=channels, stride=(2, 2), act="relu")
    y = net.depthwise(x)
    y = net.conv(y, out=channels, kernel=(1, 1))
    x = net.binary("add", x, y)
    x = net.pool("average", x)
    net.dense(x, out=5)
    return write_tflite(net.done())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    path.write_bytes(network())
    return path


@pytest.fixture(scope="module")
def compiled(model) -> subprocess.CompletedProcess:
    return run("compile", "--model", model, "--board", "nano33ble", "--out", "out", "--name", "wake", cwd=model.parent)


def test_compile_leaves_a_verified_image(model, compiled, tally):
    assert compiled.returncode == 0, compiled.stderr
    out = model.parent / "out"
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert {"firmware.elf", "monitor.elf", "report.json", "layers.csv", "arena.json", "engine/wake.c", "engine/wake.h"} <= names
    assert not [name for name in names if ".tmp" in name]
    report = json.loads((out / "report.json").read_text())
    tally("emulated board vs reference", report["parity"]["engine_vs_reference"], report["parity"]["elements"])
    assert report["parity"]["engine_vs_reference"] == 0 and report["parity"]["samples"] == 16
    assert report["flash"]["total"] == sum(report["flash"][key] for key in ("weights", "tables", "code"))
    assert report["ram"]["total"] == sum(report["ram"][key] for key in ("arena", "static", "stack"))
    assert report["ram"]["stack"] > 0 and report["instructions"] > report["macs"] > 0
    assert report["toolchain"]["flags"] and report["board"] == "nano33ble" and report["budget_met"] is True
    rows = list(csv.DictReader((out / "layers.csv").open()))
    assert sum(int(row["macs"]) for row in rows) == report["macs"]
    inside = sum(int(row["instructions"]) for row in rows)
    assert 0.9 * report["instructions"] < inside < report["instructions"]  # what is left is the calls
    arena = json.loads((out / "arena.json").read_text())
    assert arena["bytes"] == report["ram"]["arena"] >= arena["lower_bound"]


def test_compile_does_not_import_tensorflow(model, tmp_path):
    code = "import sys, tinykit.compile, tinykit.boards.pipeline, tinykit.boards.artefacts, tinykit.bench, tinykit.profile\n"
    code += "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_model_gives_the_same_bytes(model, compiled, tmp_path):
    again = run("compile", "--model", model, "--board", "nano33ble", "--out", tmp_path / "again", "--name", "wake", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("engine/wake.c", "engine/wake_selftest.c", "report.json", "layers.csv", "arena.json", "firmware.elf", "monitor.elf"):
        assert (tmp_path / "again" / name).read_bytes() == (model.parent / "out" / name).read_bytes(), name


def test_generated_c_builds_in_a_users_project(model, compiled, tmp_path):
    """The public API as its header describes it, strict C99, on this computer."""
    from tinykit.boards.toolchain import build_host_program

    main = tmp_path / "main.c"
    main.write_text(
        '#include "wake.h"\n#include "wake_selftest.h"\n#include <stdio.h>\n#include <string.h>\n'
        "static union { int32_t align; unsigned char bytes[WAKE_ARENA_SIZE]; } arena;\n"
        "int main(void) {\n    unsigned char out[WAKE_OUTPUT_BYTES];\n"
        "    memcpy(wake_input(&arena), wake_selftest_input, WAKE_INPUT_BYTES);\n    wake_invoke(&arena);\n"
        "    int direct = memcmp(wake_output(&arena), wake_selftest_output, WAKE_OUTPUT_BYTES);\n"
        "    wake_run(&arena, wake_selftest_input, out);\n"
        "    unsigned wrong = (unsigned)wake_check(&arena, wake_selftest_output);\n"
        '    printf("%d %d %u\\n", direct, memcmp(out, wake_selftest_output, sizeof out), wrong);\n'
        "    arena.bytes[wake_output(&arena) - (const int8_t *)&arena] ^= 1;\n"
        '    printf("%u\\n", (unsigned)wake_check(&arena, wake_selftest_output));\n    return 0;\n}\n'
    )
    engine = model.parent / "out" / "engine"
    sources = [main, engine / "wake.c", engine / "wake_selftest.c"]
    program = build_host_program(sources, tmp_path / "program", sanitize=False, include=[engine])
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "0 0 0\n1\n"


def test_bench_prints_layers_and_what_changed(model, compiled):
    done = run("bench", "--model", model, "--board", "nano33ble", "--compare", "out", cwd=model.parent)
    assert done.returncode == 0, done.stderr
    report = json.loads((model.parent / "out" / "report.json").read_text())
    assert f"instructions {report['instructions']:,}" in done.stdout
    assert "emulated(nano33ble)" in done.stdout and "depthwise_3x3" in done.stdout and "change" in done.stdout
    missing = run("bench", "--model", model, "--compare", "nowhere", cwd=model.parent)
    assert missing.returncode == 2 and "nowhere" in missing.stderr and "Traceback" not in missing.stderr


def test_bench_shows_a_difference(model, compiled, tmp_path):
    report = json.loads((model.parent / "out" / "report.json").read_text())
    report["instructions"] *= 2
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "layers.csv").write_text((model.parent / "out" / "layers.csv").read_text())
    done = run("bench", "--model", model, "--compare", tmp_path, cwd=tmp_path)
    assert f"instructions {report['instructions'] // 2:,} (-50.0 %)" in done.stdout


def test_profile_needs_no_compiler(model, tmp_path):
    environment = {**os.environ, "PATH": "/nonexistent", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tinykit.profile", "--model", str(model), "--json", str(tmp_path / "p.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["ops"]["conv2d"] == 2 and found["boards"]["nano33ble"]["fits"] is True
    assert "fits: nano33ble" in done.stdout


def test_profile_estimates_are_near_the_linked_image(model, compiled, tmp_path):
    done = run("profile", "--model", model, "--json", tmp_path / "p.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, report = json.loads((tmp_path / "p.json").read_text()), json.loads((model.parent / "out" / "report.json").read_text())
    assert found["arena"]["bytes"] == report["ram"]["arena"]
    assert found["flash"]["weights"] >= report["flash"]["weights"]  # a compiler may fold a small table into code
    assert abs(found["flash"]["total"] - report["flash"]["total"]) < 2500
    assert abs(found["ram"]["total"] - report["ram"]["total"]) < 400


def test_too_much_ram_exits_3_and_says_what_helps(tmp_path):
    net = nets.Net(1)
    x = net.input((160, 160, 3))
    x = net.conv(x, out=20, kernel=(1, 1))
    net.conv(x, out=2, kernel=(3, 3), stride=(3, 3))
    (tmp_path / "big.tflite").write_bytes(write_tflite(net.done()))
    done = run("compile", "--model", "big.tflite", "--board", "nucleo_f401re", "--out", "out", cwd=tmp_path)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "98,304" in done.stderr and "bytes too many" in done.stderr and "layer 'conv_2d_1'" in done.stderr
    assert not (tmp_path / "out" / "firmware.elf").exists() and not (tmp_path / "out" / "report.json").exists()


def test_too_much_flash_exits_3_and_names_layers(tmp_path):
    net = nets.Net(1)
    x = net.input((30, 30, 1))
    net.dense(x, out=600)
    (tmp_path / "big.tflite").write_bytes(write_tflite(net.done()))
    done = run("compile", "--model", "big.tflite", "--board", "nucleo_f446re", "--out", "out", cwd=tmp_path)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "542,400 bytes" in done.stderr and "18,112 bytes too many" in done.stderr and "fewer" in done.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model", "absent.tflite", "--out", "o"], ["absent.tflite", "no such file"]),
        (["--model", "garbage.tflite", "--out", "o"], ["garbage.tflite"]),
        (["--out", "o"], ["--model is missing"]),
        (["--model", "tiny.tflite"], ["--out is missing"]),
        (["--model", "tiny.tflite", "--out", "o", "--board", "nano33"], ["nano33ble"]),
        (["--model", "tiny.tflite", "--out", "o", "--board", "host"], ["host"]),
        (["--model", "tiny.tflite", "--out", "o", "--name", "9lives; rm"], ["9lives", "letters"]),
        (["--model", "tiny.tflite", "--out", "taken"], ["taken"]),
        (["tiny.tflite", "--out", "o"], ["--model=tiny.tflite"]),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, words):
    (tmp_path / "tiny.tflite").write_bytes(network())
    (tmp_path / "garbage.tflite").write_bytes(np.random.default_rng(0).bytes(1000))
    (tmp_path / "taken").write_text("a file")
    done = run("compile", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "o" / "report.json").exists()


def test_a_refused_result_leaves_no_report_of_an_earlier_one(model, tmp_path):
    """Else `bench --out` would show the earlier one's figures; a mistyped flag gives nothing up."""
    done = run("compile", "--model", model, "--out", "out", "--samples", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wrong = run("compile", "--model", model, "--out", "out", "--compiler_level=-O9", cwd=tmp_path)
    assert wrong.returncode == 2 and "compiler level: expected one of -O0" in wrong.stderr and "Traceback" not in wrong.stderr
    assert (tmp_path / "out" / "report.json").is_file()
    (tmp_path / "large.tflite").write_bytes(network(size=400))
    for arguments in (("compile", "--out", "out"), ("bench", "--out", ".", "--board", "nano33ble")):
        folder = tmp_path / ("out" if arguments[0] == "compile" else "nano33ble")
        folder.mkdir(exist_ok=True)
        (folder / "report.json").write_text("{}")
        late = run(*arguments[:1], "--model", tmp_path / "large.tflite", *arguments[1:], cwd=tmp_path)
        assert late.returncode == 3 and "RAM" in late.stderr, late.stderr
        assert not (folder / "report.json").exists()
