"""Figures of an inference: in total, call by call, and of the stack."""

import pytest
from emulator_firmware import BOTH, build, cycles_of, emulate, trace
from unicorn import arm_const

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.image import Image, ImageError
from tinykit.boards.memory import BoardFault
from tinykit.boards.profiling import call_sites, profile_calls, run_inference
from tinykit.boards.table import board

NETWORK = r"""
int8_t arena[256];
volatile int32_t checks[3];
__attribute__((noinline)) static void helper(int n) { for (int i = 0; i < n; i++) arena[i] = (int8_t)(arena[i] * 3); }
__attribute__((noinline)) void first(int n) { for (int i = 0; i < n; i++) arena[i] = (int8_t)i; helper(n / 2); checks[0] = n; }
__attribute__((noinline)) void second(int n, int a) {
  helper(n);
  for (int i = 1; i < n; i++) arena[i] = (int8_t)(arena[i] / a);
  checks[1] = n;
}
__attribute__((noinline)) void third(int n) { int s = 0; for (int i = 0; i < n; i++) s += arena[i]; checks[2] = s; }
__attribute__((noinline)) void net_invoke(void) { first(100); second(80, 7); third(60); }
void program(void) { tk_bench_begin(); net_invoke(); tk_bench_end(); }
"""


def part(steps, begin, end):
    """Steps from the first at `begin` to before the first at `end` after it."""
    addresses = [address for address, _ in steps]
    start = addresses.index(begin)
    return steps[start : addresses.index(end, start + 1)]


@BOTH
@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng"])
def test_an_inference_call_by_call(toolchain, name):
    emulated = emulate(NETWORK, name, toolchain=toolchain)
    sites = call_sites(emulated, "net_invoke")
    assert [site.returns is None for site in sites] == [False, False, True]  # the last one is a tail call
    seen = []
    run = run_inference(
        emulated, invoke_symbol="net_invoke", after_call=lambda n: seen.append((n, emulated.read(emulated.address_of("checks"), 8)))
    )
    assert [call.callee for call in run.calls] == ["first", "second", "third"]
    assert [n for n, _ in seen] == [0, 1, 2]
    assert seen[0][1][:4] == (100).to_bytes(4, "little")
    assert seen[0][1][4:] == bytes(4)
    assert seen[1][1][4:] == (80).to_bytes(4, "little")

    image = emulated.image
    steps = trace(emulate(NETWORK, name, toolchain=toolchain), "done")
    whole = part(steps, image.symbol("tk_bench_begin").address, image.symbol("tk_bench_end").address)
    assert run.instructions == len(whole) == sum(run.histogram.values())
    assert run.cycles == cycles_of(emulated, whole) + 2  # and the change of flow into the first instruction, see profiling.py
    for call, site in zip(run.calls, sites):
        home = site.returns or steps[[a for a, _ in steps].index(image.symbol("net_invoke").address) - 1][0] + 4
        inside = part(steps, image.symbol(call.callee).address, home)
        assert call.instructions == len(inside) == sum(call.histogram.values())
        assert call.cycles == cycles_of(emulated, inside) + 2
    assert sum(n for n, _ in run.functions.values()) == run.instructions
    assert sum(cycles for _, cycles in run.functions.values()) == run.cycles
    assert run.functions["helper"][0] < run.calls[0].instructions + run.calls[1].instructions


def test_the_profile_changes_no_figure():
    emulated = emulate(NETWORK)
    plain, profiled, again = run_inference(emulated), run_inference(emulated, invoke_symbol="net_invoke"), run_inference(emulated)
    assert (plain.instructions, plain.cycles, plain.stack) == (profiled.instructions, profiled.cycles, profiled.stack)
    assert plain == again
    assert plain.calls == []


def test_a_cortex_m7_gets_a_bracket():
    assert run_inference(emulate(NETWORK)).cycle_bracket is None
    run = run_inference(emulate(NETWORK, "disco_f746ng"))
    assert run.cycle_bracket == (-(-run.instructions // 2), run.cycles)


def test_a_constant_in_flash_can_be_replaced_between_inferences():
    text = NETWORK.replace("first(100)", "first(*(const volatile int32_t *)selftest)") + "const int32_t selftest[4] = {100, 1, 2, 3};"
    text = "extern const int32_t selftest[4];" + text
    emulated = emulate(text)
    counts = []
    for n in (100, 10, 100):
        emulated.write(emulated.address_of("selftest"), n.to_bytes(4, "little"))
        run = run_inference(emulated, invoke_symbol="net_invoke")
        assert emulated.read(emulated.address_of("checks"), 4) == n.to_bytes(4, "little")
        counts.append(run.instructions)
    assert counts[0] == counts[2] > counts[1]


def test_calls_through_registers():
    text = NETWORK.replace("void net_invoke(void) {", "void net_invoke(void) { void (*f)(int) = *(void (*volatile *)(int))table; f(9);")
    text = "extern void (*const table[1])(int);" + text + "void (*const table[1])(int) = {first};"
    run = run_inference(emulate(text), invoke_symbol="net_invoke")
    assert [call.callee for call in run.calls] == ["first", "first", "second", "third"]
    assert run.calls[0].instructions < run.calls[1].instructions


BY_HAND = r"""
__attribute__((naked, noinline)) void net_invoke(void) {
  __asm volatile("push {r4, lr}\n mov r0, #5\n bl third\n b.w 1f\n .word 0xF7FFFFFE\n .word 2\n 1: mov r0, #7\n bl third\n LAST\n");
}
"""


@pytest.mark.parametrize("last", ["pop {r4, pc}", r"pop {r4, lr}\n bx lr", "ldmia.w sp!, {r4, r5, r6, pc}"])
def test_constants_in_the_middle_of_invoke_are_no_calls(last):
    head, tail = NETWORK.split("__attribute__((noinline)) void net_invoke")
    text = head + BY_HAND.replace("LAST", last) + tail[tail.index("\n") :]
    if "r6" in last:
        text = text.replace("push {r4, lr}", "push {r4, r5, r6, lr}")
    run = run_inference(emulate(text), invoke_symbol="net_invoke")
    assert [call.callee for call in run.calls] == ["third", "third"]


@pytest.mark.parametrize("body", ["for (int i = 0; i < checks[0]; i++) first(i);", "if (checks[0] > 2) first(1);"])
def test_an_invoke_that_decides_at_run_time_is_refused(body):
    emulated = emulate(NETWORK.replace("void net_invoke(void) {", "void net_invoke(void) {" + body))
    with pytest.raises(BoardFault, match=r"net_invoke\+0x[0-9a-f]+ (decides at run time|jumps back within net_invoke)"):
        run_inference(emulated, invoke_symbol="net_invoke")


def test_missing_symbols_and_inferences_that_never_end():
    emulated = emulate(NETWORK)
    with pytest.raises(ImageError, match="no symbol 'my_invoke'"):
        run_inference(emulated, invoke_symbol="my_invoke")
    with pytest.raises(BoardFault, match="still running after 1,000 instructions .*it did not reach tk_bench_end"):
        run_inference(emulated, max_instructions=1000)
    endless = emulate(NETWORK.replace("second(80, 7);", "for (;;) second(80, 7);"))
    with pytest.raises(BoardFault):
        run_inference(endless, invoke_symbol="net_invoke", max_instructions=100_000)


def test_a_call_that_faults_names_the_function():
    emulated = emulate(NETWORK.replace("checks[1] = n;", "checks[1] = n; *(volatile int *)0x20100000 = 1;"))
    seen = []
    with pytest.raises(BoardFault, match="write to 0x20100000.*second"):
        run_inference(emulated, invoke_symbol="net_invoke", after_call=seen.append)
    assert seen == [0]


def test_profile_calls_stands_alone():
    emulated = emulate(NETWORK)
    calls = profile_calls(emulated, "net_invoke")
    assert calls == run_inference(emulated, invoke_symbol="net_invoke").calls


RECURSION = r"""
__attribute__((naked, noinline)) void descend(int n) {
  __asm volatile("push {r4, lr}\n subs r0, #1\n ble 1f\n bl descend\n 1: pop {r4, pc}\n");
}
__attribute__((naked, noinline)) void net_invoke(void) {
  __asm volatile("push {r4, lr}\n mov r0, #DEPTH\n bl descend\n pop {r4, pc}\n");
}
__attribute__((naked)) void program(void) {
  __asm volatile("push {r4, lr}\n bl tk_bench_begin\n bl net_invoke\n bl tk_bench_end\n pop {r4, pc}\n");
}
"""


@pytest.mark.parametrize("depth", [1, 2, 37])
def test_the_stack_of_a_known_recursion(depth):
    emulated = emulate(RECURSION.replace("DEPTH", str(depth)))
    emulated.run_to("program")
    above = emulated.address_of("_estack") - emulated.register(arm_const.UC_ARM_REG_SP)
    run = run_inference(emulated, invoke_symbol="net_invoke")
    assert run.stack == above + 8 + 8 + 8 * depth
    emulated.run_to("done")
    assert emulated.stack_high_water == run.stack


def test_a_stack_that_overflows():
    deep = emulate(RECURSION.replace("DEPTH", "505"))
    assert run_inference(deep, invoke_symbol="net_invoke").stack < 4096
    with pytest.raises(BoardFault, match="stack of 4096 bytes is used to its last word, so it may have overflowed"):
        run_inference(emulate(RECURSION.replace("DEPTH", "600")))
    lost = RECURSION.replace("bl tk_bench_begin", "sub sp, sp, #8192\\n bl tk_bench_begin").replace("DEPTH", "1")
    with pytest.raises(BoardFault, match="the stack pointer 0x2003d.* is outside the stack, 0x2003f000 to 0x20040000"):
        run_inference(emulate(lost))


def test_the_stack_does_not_depend_on_paint_of_the_program():
    paint = 'extern uint32_t _stack_limit[]; void program(void) { uint32_t *sp; __asm volatile("mov %0, sp" : "=r"(sp));'
    paint += "for (volatile uint32_t *p = _stack_limit; p < sp; p++) *p = 0xA5A5A5A5u;"
    painting = emulate(NETWORK.replace("void program(void) {", paint))
    run = run_inference(painting, invoke_symbol="net_invoke")
    assert 0 < run.stack < 100
    plain = run_inference(emulate(NETWORK))
    assert abs(run.stack - plain.stack) <= 32
    painting.reset()
    painting.run_to("tk_bench_end")
    assert painting.stack_high_water == 4096  # what its own paint would make of it


def test_a_stripped_image_has_no_markers(tmp_path):
    source = build(NETWORK)
    data = bytearray(source.read_bytes())
    data[48:52] = bytes(4)  # no section headers, so no symbols
    data[32:36] = bytes(4)
    stripped = tmp_path / "stripped.elf"
    stripped.write_bytes(data)
    emulated = EmulatedBoard(board("nano33ble"), Image.load(stripped))
    with pytest.raises(ImageError, match="no symbol 'tk_bench_begin'"):
        run_inference(emulated)
