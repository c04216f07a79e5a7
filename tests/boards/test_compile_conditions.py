"""compile_graph under bad conditions: folders that cannot be written, two runs at once, odd flags, deep stacks, merged calls."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402
from toy_firmware import toy_sources  # noqa: E402

from tinykit.boards import native, verify  # noqa: E402
from tinykit.boards.artefacts import claimed, layers_text, write_artefacts  # noqa: E402
from tinykit.boards.cache import cache_folder  # noqa: E402
from tinykit.boards.emulator import EmulatedBoard  # noqa: E402
from tinykit.boards.firmware import build_firmware  # noqa: E402
from tinykit.boards.image import Image, ImageError  # noqa: E402
from tinykit.boards.pipeline import compile_graph, firmware_sources, layer_table, report_json  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.boards.toolchain import OPTIMIZE_LEVELS, BuildError, check_optimize, execute, find, zig_environment  # noqa: E402
from tinykit.engine.generate import build_engine  # noqa: E402
from tinykit.engine.memory import random_samples  # noqa: E402
from tinykit.errors import ConfigError  # noqa: E402

ROOT = Path(__file__).parents[2]
START = "    int8_t *const arena = memory;\n"


def network():
    net = nets.Net(5)
    x = net.conv(net.input((6, 7, 3)), out=4, act="relu")
    net.dense(net.depthwise(x), out=5)
    return net.done()


def planted(tmp_path: Path, before: str, after: str, name: str = "nano33ble", samples: int = 2) -> verify.Verification:
    """Verifies an image whose generated text was changed."""
    engine = build_engine(network(), "net")
    inputs = random_samples(engine.graph, samples)
    sources = firmware_sources(engine, inputs)
    assert before in sources["net.c"]
    sources["net.c"] = sources["net.c"].replace(before, after, 1)
    build = build_firmware(sources, board(name), tmp_path, toolchain="zig", target="bare", optimize="-Os")
    return verify.verify(EmulatedBoard(board(name), Image.load(build.elf)), engine, inputs)


# ---- flags ----


@pytest.mark.parametrize("level", ["-O9", "-Ofast", "; rm", "-fplugin=/x", "-O2 -g", "", "O2", "-O"])
def test_only_levels_of_optimisation_are_taken(tmp_path, level):
    with pytest.raises(ConfigError, match="compiler level: expected one of -O0, -O1, -O2, -O3, -Os, -Oz, -Og, got"):
        compile_graph(network(), board("nano33ble"), tmp_path / "out", level=level)
    with pytest.raises(ConfigError, match="compiler level: expected one of"):
        build_firmware(toy_sources(), board("nano33ble"), tmp_path / "out", optimize=level)
    assert not (tmp_path / "out").exists()


def test_all_levels_are_taken():
    assert [check_optimize(level) for level in OPTIMIZE_LEVELS] == list(OPTIMIZE_LEVELS)


# ---- folders ----


@pytest.mark.parametrize("variable", ["TINYKIT_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_a_cache_that_cannot_be_written_is_replaced_and_removed(tmp_path, variable):
    """By zig, and by the counter in C: what stands in for it goes with the process."""
    (tmp_path / "file").write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script = (
        "from tinykit.boards import native, toolchain; from pathlib import Path; native.library()\n"
        "folder = Path(toolchain.zig_environment()['ZIG_GLOBAL_CACHE_DIR']); folder.mkdir(); print(folder)"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("TINYKIT_CACHE", "XDG_CACHE_HOME", "HOME")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), variable: str(tmp_path / "file" / "x")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(temporary)
    assert list(temporary.iterdir()) == []


def test_all_caches_follow_one_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYKIT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    assert set(zig_environment().values()) == {str(tmp_path / "here" / "zig")}
    if native.library() is not None:
        native.library.cache_clear()
        native.library()
        assert [file.suffix for file in (tmp_path / "here").iterdir()] == [".so"]
        native.library.cache_clear()


def test_a_library_in_the_cache_that_does_not_load_is_compiled_again(tmp_path, monkeypatch):
    if native.library() is None:
        pytest.skip("no compiler on this computer")
    monkeypatch.setenv("TINYKIT_CACHE", str(tmp_path))
    try:
        native.library.cache_clear()
        native.library()
        (file,) = tmp_path.iterdir()
        file.unlink()  # not written over: this process has it mapped
        file.write_bytes(b"no library")
        native.library.cache_clear()
        assert native.library() is not None
    finally:
        native.library.cache_clear()


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path):
    out = tmp_path / "out put"
    with claimed(out):
        with pytest.raises(ConfigError, match="out put: in use by another run; wait for it, or choose another folder"), claimed(out):
            pass
        (out / ".tmp-1-abc").mkdir()
        (out / ".tmp-1-report.json").write_text("")
        (out / ".tmp-notes").write_text("the user's")
        (out / "report.json").write_text("{}")
    with claimed(out):  # what a killed run left is gone, and the report of a result that is about to be replaced
        assert [path.name for path in out.iterdir()] == [".tmp-notes"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder that can be written to"), claimed(tmp_path / "file"):
        pass


def test_a_folder_where_the_program_should_be_is_no_traceback(tmp_path):
    (tmp_path / "firmware.elf" / "x").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be written to: Is a directory"):
        build_firmware(toy_sources(), board("nano33ble"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["firmware.elf"]


def test_a_full_disk_is_what_the_linker_says(tmp_path):
    text = "/usr/lib/ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status\n"
    script = f"import sys; sys.stderr.write({text!r}); sys.exit(1)"
    with pytest.raises(BuildError, match="exit code 1:\n  ld: final link failed: No space left on device"):
        execute([sys.executable, "-c", script], tmp_path, "x.elf", "gcc")


def test_overlapping_segments_do_not_fill_the_memory(tmp_path):
    """2,000 segments, each of them the file's 8 MiB."""
    count, size = 2000, 8 << 20
    header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 0, 52, 0, 0, 52, 32, count, 40, 0, 0)
    (tmp_path / "x.elf").write_bytes(header + struct.pack("<8I", 1, 0, 0, 0, size, size, 5, 4) * count + bytes(size))
    with pytest.raises(ImageError, match="segments of more than 64 MiB"):
        Image.load(tmp_path / "x.elf")


# ---- what runs ----


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
def test_a_large_window_gets_the_stack_that_it_needs(tmp_path, toolchain, tally):
    """576 taps, a pointer each, are more than the stack that images are linked with."""
    if find(toolchain) is None:
        pytest.skip(f"{toolchain} is not installed")
    net = nets.Net(5)
    net.conv(net.input((25, 25, 1)), out=2, kernel=(24, 24), padding="valid")
    lines: list[str] = []
    compiled = compile_graph(net.done(), board("nano33ble"), tmp_path, toolchain=toolchain, samples=1, log=lines.append)
    tally("emulated board vs reference", compiled.verification.mismatches, compiled.verification.elements)
    assert 2048 < compiled.stack < compiled.build.sizes.stack_reserved == 4096
    assert "the stack overflowed; 4,096 bytes are reserved for it now" in lines


def test_a_write_to_another_ram_is_found(tmp_path):
    """The null pointer of an STM32F746 is its ITCM: no fault."""
    found = planted(tmp_path, START, START + "    *(volatile int8_t *)(uintptr_t)16 = 1;\n", "disco_f746ng")
    assert found.mismatches == 0 and found.stray is not None and "0x00000010, in ITCM, was written" in found.stray


@pytest.mark.parametrize(
    "code, reason",
    [
        ('    if (*(volatile int8_t *)arena == 77) { __asm volatile("nop"); }\n', "is not a straight list of calls"),
        ("    more();\n", "net_invoke makes 4 calls for 3 layers"),
    ],
)
def test_calls_that_are_no_layers_leave_the_outputs(tmp_path, code, reason):
    more = 'static void __attribute__((noinline)) more(void) { __asm volatile("nop"); }\n' if "more" in code else ""
    function = "void net_invoke(void *memory)\n{\n" + START
    found = planted(tmp_path, function, more + function + code)
    assert found.unprofiled is not None and reason in found.unprofiled
    assert (found.mismatches, found.elements) == (0, 2 * 5)
    assert found.run is not None and found.run.calls == [] and found.run.instructions > 0


def test_a_result_without_layers_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "call_sites", lambda image, function: [])
    lines: list[str] = []
    compiled = compile_graph(network(), board("nano33ble"), tmp_path, name="net", samples=1, log=lines.append)
    assert any("outputs alone: net_invoke makes 0 calls for 3 layers" in line for line in lines)
    rows = layer_table(compiled)
    assert [row["instructions"] for row in rows] == [None] * 3 and all(row["macs"] for row in rows)
    report = report_json(compiled, model="x", source="")
    assert "outputs alone" in report["sources"]["parity"] and report["instructions"] > 0
    write_artefacts(compiled, tmp_path, report)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert layers_text(rows).count("\n") == 4


def test_more_samples_than_are_held_at_once_are_all_compared(tmp_path, monkeypatch, tally):
    monkeypatch.setattr(verify, "_AT_ONCE", 3)
    sizes: list[int] = []
    run_all = verify.reference.run_all
    monkeypatch.setattr(
        verify.reference, "run_all", lambda graph, part: sizes.append(len(next(iter(part.values())))) or run_all(graph, part)
    )
    found = planted(tmp_path, START, START, samples=7)
    tally("emulated board vs reference", found.mismatches, found.elements)
    assert (found.samples, found.mismatches, len(found.results)) == (7, 0, 7)
    assert sizes[-3:] == [3, 3, 1]
