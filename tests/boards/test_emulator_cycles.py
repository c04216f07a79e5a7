"""The cycle model on snippets that are counted by hand, and the classes of instructions."""

import subprocess

import pytest
from emulator_firmware import HAS_GCC, build, emulate

from tinykit.boards.counting import PythonCounter
from tinykit.boards.cycles import CLASSES, TAKEN, Decoder, bracket_m7, conditions
from tinykit.boards.image import Image

FRAME = r"""
uint32_t words[16] = {1, 2, 3, 4, 5, 6, 7, 8};
__attribute__((naked, noinline)) void snippet(void) { __asm volatile("ldr r0, =words\n mov r1, #1\n mov r2, #2\n .global here\n here: "
  SNIPPET "\n .global there\n there: bx lr\n .ltorg\n"); }
void program(void) { snippet(); }
"""

# (instructions, written one a line, cycles of each by the model)
SNIPPETS = {
    "alu": ("add r3, r1, r2; mov r3, #5; lsls r3, r3, #2; nop", [1, 1, 1, 1]),
    "a load costs 2": ("ldr r3, [r0]; add r3, #1; ldrb r3, [r0]", [2, 1, 2]),
    "1 after a load or a store": ("ldr r3, [r0]; ldrh r4, [r0]; str r3, [r0]; ldrsb r4, [r0]", [2, 1, 1, 1]),
    "a store costs 1": ("str r3, [r0]; strb r3, [r0]; add r3, #1; strh r3, [r0]", [1, 1, 1, 1]),
    "ldm and stm": ("ldm r0, {r3, r4, r5, r6}; stm r0, {r3, r4}; ldm r0, {r3, r4}", [5, 3, 3]),
    "push and pop": ("push {r4, r5, r6}; pop {r4, r5, r6}", [4, 4]),
    "no load pipelines with ldm or ldrd": ("ldm r0, {r3, r4}; ldr r3, [r0]; ldrd r4, r5, [r0]; ldr r3, [r0]", [3, 2, 3, 2]),
    "ldrd after a load is no load": ("ldr r3, [r0]; ldrd r4, r5, [r0]; strd r4, r5, [r0]", [2, 3, 3]),
    "multiplications": ("mul r3, r1, r2; mla r3, r1, r2, r3; smull r4, r5, r1, r2; smlad r3, r1, r2, r3; smmulr r3, r1, r2", [1] * 5),
    "more of them": ("smlald r4, r5, r1, r2; umlal r4, r5, r1, r2; smlabb r3, r1, r2, r3; umaal r4, r5, r1, r2", [1] * 4),
    "divisions": ("udiv r3, r2, r1; sdiv r3, r2, r1", [7, 7]),
    "simd": ("sxtb16 r3, r1; pkhbt r3, r1, r2; ssat r3, #8, r1; uadd8 r3, r1, r2", [1] * 4),
    "a taken branch": ("b 1f; nop; 1: add r3, r1, r2", [3, None, 1]),
    "a branch not taken": ("cmp r1, r2; beq 1f; add r3, r1, r2; 1: nop", [1, 1, 1, 1]),
    "cbz": ("mov r3, #0; cbz r3, 1f; nop; 1: cbnz r3, 2f; 2: nop", [1, 3, None, 1, 1]),
    "a loop": ("mov r3, #3; 1: subs r3, #1; bne 1b", [1, 3, 3 + 3 + 1]),
    "no load pipelines across a taken branch": ("ldr r3, [r0]; b 1f; 1: ldr r3, [r0]", [2, 3 - TAKEN, 2]),
    "a skipped instruction": ("cmp r1, r2; itt eq; ldreq r3, [r0]; udiveq r3, r1, r2; nop", [1, 1, 1, 1, 1]),
    "a conditional one that is executed": ("cmp r1, r2; itt ne; ldrne r3, [r0]; udivne r3, r1, r2; nop", [1, 1, 2, 7, 1]),
    "else": ("cmp r1, r2; ite eq; ldmeq r0, {r3, r4, r5}; ldmne r0, {r3, r4}; nop", [1, 1, 1, 3, 1]),
    "a load after a skipped load": ("cmp r1, r2; it eq; ldreq r3, [r0]; ldr r3, [r0]", [1, 1, 1, 1]),
    "a conditional load after another": ("cmp r1, r2; itt ne; ldrne r3, [r0]; ldrne r4, [r0]", [1, 1, 2, 1]),
    "a call and its return": ("mov r6, lr; bl 1f; b 2f; 1: bx lr; 2: mov lr, r6", [1, 3, 3, 3, 1]),
    "a table branch": ("mov r3, #0; tbb [pc, r3]; .byte 1; .byte 1; 1: nop", [1, 4, None, None, 1]),
    "floating point": ("vldr s0, [r0]; vldr s1, [r0]; vadd.f32 s2, s0, s1; vdiv.f32 s2, s0, s1; vstr s2, [r0, #8]", [2, 1, 1, 7, 1]),
    "floating point, several": ("vpush {s16-s19}; vpop {s16-s19}; vpush {d8, d9}; vpop {d8, d9}", [5, 5, 5, 5]),
}


def run_snippet(lines: str, **options):
    board = emulate(FRAME.replace("SNIPPET", '"' + lines.replace("; ", r"\n ") + '"'), **options)
    board.run_to("here")
    instructions, cycles = board.instructions, board.cycles
    before = board.counter.snapshot()
    board.run_to("there")
    return board, board.instructions - instructions, board.cycles - cycles, board.counter.snapshot().since(before)


@pytest.mark.parametrize("name", SNIPPETS)
@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_the_model(name, native):
    lines, costs = SNIPPETS[name]
    _, _, cycles, _ = run_snippet(lines, native=native)
    assert cycles == sum(cost for cost in costs if cost is not None)


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_a_stop_between_two_loads_changes_nothing(native):
    lines, costs = SNIPPETS["1 after a load or a store"]
    board, _, _, part = run_snippet(lines, native=native)
    assert part.paired.sum() == 0
    first = board.address_of("here")
    board.reset()
    board.run_to("here")
    cycles, before = board.cycles, board.counter.snapshot()
    for number, place in enumerate((2, 4, 6), start=1):
        board.run_to(first + place)
        assert board.cycles - cycles == sum(costs[:number])
    board.run_to("there")
    assert board.cycles - cycles == sum(costs)
    part = board.counter.snapshot().since(before)
    assert part.paired.sum() == 2
    assert board.counter.total(part) == (4, sum(costs))


def test_a_pop_of_the_pc_is_an_ldm_and_a_change_of_flow():
    board, instructions, cycles, _ = run_snippet("mov r6, lr; bl 1f; b 2f; 1: push {r4, lr}; pop {r4, pc}; 2: mov lr, r6")
    assert instructions == 6
    assert cycles == 1 + 3 + (1 + 2) + (1 + 2 + 2) + 3 + 1  # mov, bl, push, pop, b, mov
    assert board.counter.blocks


def test_the_histogram():
    lines = "ldr r3, [r0]; str r3, [r0]; ldm r0, {r3, r4}; stm r0, {r3, r4}; ldrd r3, r4, [r0]; strd r3, r4, [r0]; mul r3, r1, r2"
    lines += "; smlad r3, r1, r2, r3; smuad r3, r1, r2; sdiv r3, r1, r2; sxtb16 r3, r1; add r3, r1, r2; cmp r1, r2; it eq; moveq r3, #1"
    lines += "; b 1f; 1: vldr s0, [r0]; vadd.f32 s0, s0, s0; lsl r3, r3, #1; bic r3, r3, r1; bfi r3, r1, #2, #3"
    board, instructions, _, part = run_snippet(lines)
    expected = {"load": 2, "store": 1, "load_multiple": 1, "store_multiple": 1, "load_double": 1, "store_double": 1, "multiply": 1}
    expected |= {"dual_multiply": 2, "divide": 1, "simd": 1, "alu": 6, "it": 1, "branch": 1, "float": 1}
    assert board.counter.histogram(part) == expected
    assert sum(expected.values()) == instructions
    assert set(expected) == set(CLASSES)


def test_a_wrong_price_is_noticed(monkeypatch):
    """The tests above can fail: another price of a taken branch changes the figure."""
    monkeypatch.setattr("tinykit.boards.counting.TAKEN", 1)
    board, _, cycles, _ = run_snippet(SNIPPETS["a loop"][0], native=False)
    assert isinstance(board.counter, PythonCounter)
    assert cycles != sum(SNIPPETS["a loop"][1])


def test_conditions_of_it_instructions():
    assert conditions(0xBF08) == [0]  # it eq
    assert conditions(0xBF18) == [1]  # it ne
    assert conditions(0xBF04) == [0, 0]  # itt eq
    assert conditions(0xBF0C) == [0, 1]  # ite eq
    assert conditions(0xBF95) == [9, 8, 9, 8]  # itete ls
    assert conditions(0xBF00) == []  # nop
    assert conditions(0xBF30) == []  # wfi
    assert conditions(0x4770) == []


@pytest.mark.skipif(not HAS_GCC, reason="no arm-none-eabi-objdump on the PATH")
def test_the_decoder_finds_the_same_instructions_as_objdump():
    from test_emulator_counts import PROGRAM

    elf = build(PROGRAM)
    image = Image.load(elf)
    listing = subprocess.run(["arm-none-eabi-objdump", "-d", str(elf)], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in listing.splitlines() if line.startswith(" ") and "\t" in line]
    expected = {int(row[0].strip(" :"), 16): row[2] for row in rows if not row[2].startswith((".word", ".short", ".byte"))}
    data = dict(image.segments)[0]
    found = {}
    for start, end in image.code:
        for entry in Decoder().instructions(data[start:end], start):
            found[entry.address] = entry
    assert set(found) == set(expected)
    for address, mnemonic in expected.items():
        if mnemonic.startswith("it"):
            assert found[address].kind == "it"
        assert (found[address].kind == "branch") == (
            mnemonic[0] == "b" and not mnemonic.startswith(("bic", "bfi", "bfc")) or mnemonic[:2] == "cb"
        )


def test_the_bracket_of_a_cortex_m7():
    assert bracket_m7(7, 12) == (4, 12)
    assert bracket_m7(8, 12) == (4, 12)
