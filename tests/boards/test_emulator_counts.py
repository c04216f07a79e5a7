"""Counts of the emulated board: equal to a hook at every instruction, wherever the program is stopped or watched."""

import random
import subprocess
import sys

import numpy as np
import pytest
from emulator_firmware import BOTH, build, cycles_of, emulate, trace

from tinykit.boards import native
from tinykit.boards.counting import PythonCounter
from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.memory import BoardFault

PROGRAM = r"""
__attribute__((noinline)) int pick(int a, int b) { return a > b ? a * 3 : b - a; }
__attribute__((noinline)) uint32_t walk(const uint32_t *p, int n) {
  uint32_t s = 0;
  for (int i = 0; i < n; i++) {
    uint32_t v = p[i];
    if (v & 1) s += v * v; else s ^= v >> 3;
    if ((v & 7) == 3) s += p[n - 1 - i];
  }
  return s;
}
__attribute__((noinline)) uint32_t straight(uint32_t s) {
  __asm volatile(".rept 3000\n add %0, %0, #1\n .endr\n" : "+r"(s));
  return s;
}
uint32_t data[64] = {5, 9, 200};
volatile uint32_t result;
__attribute__((naked, noinline)) void by_hand(void) {
  __asm volatile(
    "push {r4-r7, lr}\n mov r0, #5\n ldr r1, =data\n"
    "1: ldmia r1!, {r2-r5}\n adds r6, r2, r3\n cmp r6, r4\n"
    "itte hi\n ldrhi r7, [r1]\n ldrhi r7, [r1, #4]\n movls r7, #0\n"
    "ldr r6, [r1]\n str r6, [r1]\n ldr r7, [r1]\n ldrd r2, r3, [r1]\n"
    "subs r0, #1\n bne 1b\n cbz r0, 2f\n nop\n"
    "2: cmp r7, r6\n it eq\n popeq {r4-r7, pc}\n pop {r4-r7, pc}\n .ltorg\n");
}
void program(void) {
  uint32_t s = 1;
  for (int i = 0; i < 64; i++) data[i] = s = s * 1664525u + 1013904223u;
  for (int i = 0; i < 20; i++) { s += pick(i, 10); s += walk(data, 64); by_hand(); }
  s = straight(s);
  float f = (float)s;
  f = f / 3.0f + 2.0f;
  result = s + (uint32_t)f;
}
"""

COUNTERS = pytest.mark.parametrize("in_c", [True, False], ids=["c", "python"])


def counted(in_c: bool = True, **options):
    if in_c and native.library() is None:
        pytest.skip("no compiler on this computer")
    found = emulate(PROGRAM, native=in_c, **options)
    assert isinstance(found.counter, native.NativeCounter if in_c else PythonCounter)
    return found


@pytest.fixture(scope="module")
def steps():
    """The trace of PROGRAM, built with the default toolchain."""
    return trace(emulate(PROGRAM, native=False), "done")


@BOTH
@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng"])
def test_counts_equal_a_hook_at_every_instruction(toolchain, name, tally):
    board = counted(name=name, toolchain=toolchain)
    steps = trace(emulate(PROGRAM, name, toolchain=toolchain), "done")
    board.run_to("done")
    assert len(steps) > 10_000
    assert not all(ran for _, ran in steps)
    assert board.instructions == len(steps)
    assert board.cycles == cycles_of(board, steps)
    tally("instructions, emulator against a hook at each", abs(board.instructions - len(steps)), len(steps))


@COUNTERS
def test_both_counters_agree_in_every_figure(in_c, steps):
    board = counted(in_c)
    board.run_to("done")
    snapshot = board.counter.snapshot()
    assert (board.instructions, board.cycles) == (len(steps), cycles_of(board, steps))
    assert board.counter.total(snapshot) == (board.instructions, board.cycles)
    assert sum(board.counter.histogram(snapshot).values()) == len(steps)
    assert sum(n for n, _ in board.counter.by_function(snapshot, board.image).values()) == len(steps)


@COUNTERS
def test_counts_do_not_depend_on_where_the_program_is_stopped(in_c, steps):
    board = counted(in_c)
    conditional = {site.address for site in board._conditional}
    places = sorted({address for address, _ in steps} - conditional)
    chance = random.Random(7)
    cycles = {}
    for _ in range(3):
        board.reset()
        at = 0
        while True:
            address = chance.choice(places)
            later = next((n for n in range(at + 1, len(steps)) if steps[n][0] == address), None)
            if later is None:
                break
            board.run_to(address)
            at = later
            assert board.instructions == at
            assert board.counter.total(board.counter.snapshot())[0] == at
            assert cycles.setdefault(at, board.cycles) == board.cycles
        board.run_to("done")
        assert (board.instructions, board.cycles) == (len(steps), cycles_of(board, steps))


def test_without_the_cut_a_stop_would_count_twice(steps, monkeypatch):
    board = counted()
    monkeypatch.setattr(type(board.counter), "cut", lambda self, address: None)
    board.run_to("walk")
    board.run_to(board.image.symbol("walk").address + 6)
    board.run_to("done")
    assert board.instructions > len(steps)


@COUNTERS
def test_watchers_see_exact_counts_and_change_none(in_c, steps):
    board = counted(in_c)
    seen = {}
    for address in (board.address_of("pick"), board.address_of("walk") + 2, board.address_of("by_hand") + 8):
        board.watch(address, lambda b: seen.setdefault(b.pc, []).append(b.instructions))
    board.run_to("done")
    assert board.instructions == len(steps)
    assert board.cycles == cycles_of(board, steps)
    assert len(seen) == 3
    for address, counts in seen.items():
        assert counts == [number for number, (place, _) in enumerate(steps) if place == address]


def test_what_a_callback_may_not_do():
    for act in (lambda b: b.run_to("done"), lambda b: b.run_until_input(), lambda b: b.watch("pick", print)):
        board = counted()
        board.watch("walk", act)
        with pytest.raises(BoardFault, match="a callback can neither run nor watch the board"):
            board.run_to("done")


def test_an_error_in_a_callback_comes_out():
    board = counted()
    board.watch("walk", lambda b: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        board.run_to("done")
    board.reset()
    board.run_to("pick")


@COUNTERS
def test_a_limit_stops_and_the_program_can_go_on(in_c, steps):
    board = counted(in_c)
    stops = 0
    while True:
        before = board.instructions
        try:
            board.run_to("done", max_instructions=3500)
            break
        except BoardFault as fault:
            assert "still running after 3,500 instructions" in str(fault)
            assert "it did not reach done" in str(fault)
            assert 0 < board.instructions - before <= 3500
            stops += 1
    assert stops >= 3
    assert (board.instructions, board.cycles) == (len(steps), cycles_of(board, steps))


def test_a_run_to_where_it_stands_goes_round_once():
    board = counted()
    board.run_to("pick")
    first = board.instructions
    board.run_to("pick")
    assert board.instructions > first
    assert board.pc == board.address_of("pick")


def test_a_reset_repeats_the_run():
    board = counted()
    figures = []
    for _ in range(2):
        board.reset()
        assert (board.instructions, board.cycles) == (0, 0)
        board.run_to("done")
        figures.append((board.instructions, board.cycles, board.read(board.address_of("result"), 4)))
    assert figures[0] == figures[1]


def test_differences_of_snapshots():
    board = counted()
    board.run_to("straight")
    before, instructions, cycles = board.counter.snapshot(), board.instructions, board.cycles
    board.run_to("done")
    part = board.counter.snapshot().since(before)
    assert board.counter.total(part) == (board.instructions - instructions, board.cycles - cycles)
    assert np.all(part.runs >= 0)
    assert board.counter.by_function(part, board.image)["straight"][0] == 3001


def test_a_stop_within_an_it_block_is_refused():
    board = counted()
    place = next(site.address for site in board._conditional)
    with pytest.raises(BoardFault, match="within an IT block"):
        board.run_to(place)


def test_the_library_is_built_once_and_by_many_at_once(tmp_path):
    if native.library() is None:
        pytest.skip("no compiler on this computer")
    script = "from tinykit.boards import native; assert native.library() is not None"
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": __import__("os").environ["PATH"]}
    running = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    files = list((tmp_path / "tinykit").iterdir())
    assert len(files) == 1
    stamp = files[0].stat().st_mtime_ns
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0
    assert files[0].stat().st_mtime_ns == stamp


def test_a_damaged_cache_or_no_compiler_leaves_the_counter_in_python(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_compile", lambda source, target: False)
    native.library.cache_clear()
    try:
        assert isinstance(emulate(PROGRAM).counter, PythonCounter)
        native.library.cache_clear()
        monkeypatch.setattr(native, "_compile", lambda source, target: bool(target.write_bytes(b"no library")))
        assert isinstance(emulate(PROGRAM).counter, PythonCounter)
    finally:
        native.library.cache_clear()


def test_an_unwritable_cache_is_no_obstacle(tmp_path, monkeypatch):
    if native.library() is None:
        pytest.skip("no compiler on this computer")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    native.library.cache_clear()
    try:
        assert native.library() is not None
    finally:
        native.library.cache_clear()


def test_the_image_of_another_board_does_not_load():
    from tinykit.boards.image import Image
    from tinykit.boards.table import board

    with pytest.raises(BoardFault, match="bytes at 0x08000000, where nano33ble has no memory"):
        EmulatedBoard(board("nano33ble"), Image.load(build(PROGRAM, "nucleo_f446re")))
