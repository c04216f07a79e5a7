"""What the emulated board refuses, at the exact byte; what it lets pass; and what it says."""

import pytest
from emulator_firmware import BOTH, build, emulate
from unicorn import arm_const

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.image import Image
from tinykit.boards.memory import PATTERN, BoardFault
from tinykit.boards.table import board, board_names

ACCESS = """
__attribute__((noinline)) void touch(void) {{ {statement}; }}
void program(void) {{ touch(); }}
"""


def run(statement: str, name: str = "nano33ble", native: bool = True, **options) -> EmulatedBoard:
    emulated = emulate(ACCESS.format(statement=statement), name, native=native, **options)
    emulated.run_to("done")
    return emulated


def store(kind: str, address: int) -> str:
    return f"*(volatile {kind} *){address:#x}u = 1"


def load(kind: str, address: int) -> str:
    return f"(void)*(volatile {kind} *){address:#x}u"


EMULATED = [name for name in board_names() if board(name).core != "host"]


@pytest.mark.parametrize("name", EMULATED)
def test_ram_ends_at_its_last_byte(name):
    ram = board(name).ram
    end = ram.base + ram.size
    run(store("uint8_t", end - 1), name)
    with pytest.raises(BoardFault, match=f"{name}: bus fault: 1-byte write to 0x{end:08x} .called from start.* at pc=.*touch"):
        run(store("uint8_t", end), name)


@pytest.mark.parametrize("name", EMULATED)
def test_every_region_of_the_table_is_there(name):
    for region in board(name).memory:
        run(load("uint32_t", region.base + region.size - 4), name)
        if region.kind == "rw":
            run(store("uint32_t", region.base + 0x1000), name)


@BOTH
def test_words_at_the_end_of_ram(toolchain):
    run(store("uint32_t", 0x2003FFFC), toolchain=toolchain)
    with pytest.raises(BoardFault, match="4-byte write to 0x20040000"):
        run(store("uint32_t", 0x20040000), toolchain=toolchain)
    with pytest.raises(BoardFault, match="read of 0x20040000"):
        run(load("uint16_t", 0x20040000), toolchain=toolchain)


def test_a_word_across_the_end_of_ram():
    with pytest.raises(BoardFault, match="write to 0x200400"):
        run(store("uint32_t", 0x2003FFFE))


def test_below_ram_and_behind_flash():
    with pytest.raises(BoardFault, match="write to 0x1fffffff"):
        run(store("uint8_t", 0x1FFFFFFF))
    with pytest.raises(BoardFault, match="read of 0x00100000"):
        run(load("uint8_t", 0x100000))


def test_flash_cannot_be_written_by_the_program():
    with pytest.raises(BoardFault, match="4-byte write to flash at 0x000ff000"):
        run(store("uint32_t", 0xFF000))


def test_a_register_that_is_not_modelled():
    with pytest.raises(BoardFault, match="read of 0x40013000"):
        run(load("uint32_t", 0x40013000))


def test_aliases_are_the_same_memory():
    emulated = run("*(volatile uint32_t *)0x20001000 = 77; *(volatile uint32_t *)0x00802000 = 88")
    assert emulated.read(0x20001000, 4) == (77).to_bytes(4, "little")
    assert emulated.read(0x20002000, 4) == (88).to_bytes(4, "little")


@pytest.mark.parametrize("statement", ["((void (*)(void))0x20040001)()", "((void (*)(void))0x60000001)()"])
def test_execution_outside_memory(statement):
    with pytest.raises(BoardFault, match="execution at 0x[26]00[04]0000"):
        run(statement)


@pytest.mark.parametrize("text", ["svc 0", "bkpt 0", "udf #0"])
def test_exceptions(text):
    with pytest.raises(BoardFault, match=r"nano33ble: .*touch\+0x"):
        run(f'__asm volatile("{text}")')


def test_waiting_for_an_interrupt_that_never_comes():
    with pytest.raises(BoardFault, match="stopped by itself"):
        run('__asm volatile("wfi")')


def test_interrupts_are_refused():
    for address, value in ((0xE000E010, 7), (0xE000E100, 1)):
        with pytest.raises(BoardFault, match="enables an interrupt"):
            run(f"REGISTER({address:#x}) = {value}")


def test_double_precision_on_a_core_without_it():
    text = 'volatile double a = 1.5, b; void program(void) { b = a * 3.0; __asm volatile("vadd.f64 d0, d1, d2"); }'
    built = {"core": "cortex-m7f"}
    with pytest.raises(BoardFault, match="nano33ble: an instruction that this core does not have at pc=.*program"):
        emulate(text, **built).run_to("done")
    emulate(text, "disco_f746ng").run_to("done")


FLOATS = "volatile float a = 1.5f, b; void program(void) { b = a * 3.0f; }"


@pytest.mark.parametrize("in_c", [True, False], ids=["c", "python"])
def test_the_fpu_is_off_until_the_program_enables_it(in_c):
    emulate(FLOATS, native=in_c).run_to("done")
    off = emulate(FLOATS, flags=("-DKEEP_FPU_OFF",), native=in_c)
    with pytest.raises(BoardFault, match="floating-point instruction before CPACR enables the FPU .*|.*program"):
        off.run_to("done")
    emulate("void program(void) { }", flags=("-DKEEP_FPU_OFF",), native=in_c).run_to("done")


@pytest.mark.parametrize("in_c", [True, False], ids=["c", "python"])
def test_the_fpu_is_off_again_after_a_reset(in_c):
    text = r"""
    extern const uint32_t enable;
    const uint32_t enable = 1;
    volatile float a = 1.5f, b;
    void program(void) {
      if (*(const volatile uint32_t *)&enable) REGISTER(0xE000ED88) = 0xF00000;
      __asm volatile("dsb\n isb" ::: "memory");
      b = a * 3.0f;
    }"""
    emulated = emulate(text, flags=("-DKEEP_FPU_OFF",), native=in_c)
    emulated.run_to("done")
    emulated.write(emulated.address_of("enable"), bytes(4))
    emulated.reset()
    with pytest.raises(BoardFault, match="floating-point instruction before CPACR"):
        emulated.run_to("done")


def test_a_reset_clears_the_special_registers():
    emulated = emulate('void program(void) { __asm volatile("cpsid i"); }')
    emulated.run_to("done")
    assert emulated.register(arm_const.UC_ARM_REG_PRIMASK) == 1
    emulated.reset()
    assert emulated.register(arm_const.UC_ARM_REG_PRIMASK) == 0


@pytest.mark.parametrize("in_c", [True, False], ids=["c", "python"])
def test_a_loop_without_end_meets_the_limit(in_c):
    emulated = emulate('void program(void) { for (;;) __asm volatile("nop"); }', native=in_c)
    with pytest.raises(BoardFault, match=r"nano33ble: still running after 100,000 instructions at pc=0x.*program.*did not reach done"):
        emulated.run_to("done", max_instructions=100_000)
    assert 99_000 < emulated.instructions <= 100_000


def test_a_fault_stays_until_a_reset():
    emulated = emulate(ACCESS.format(statement=store("uint8_t", 0x20040000)))
    for _ in range(2):
        with pytest.raises(BoardFault, match="0x20040000"):
            emulated.run_to("done")
    assert emulated.fault is not None
    emulated.reset()
    emulated.run_to("touch")


def test_a_fault_within_an_it_block_leaves_nothing_behind():
    text = r"""void program(void) {
      __asm volatile("movs r1, #0\n mvns r1, r1\n lsls r1, r1, #20\n cmp r1, r1\n itt eq\n ldreq r2, [r1]\n moveq r3, #1\n"
                     ::: "r1", "r2", "r3", "cc", "memory"); }"""
    emulated = emulate(text)
    first = []
    for _ in range(2):
        with pytest.raises(BoardFault, match="4-byte read of 0xfff00000"):
            emulated.run_to("done")
        first.append(emulated.instructions)
        emulated.reset()
    assert first[0] == first[1]


def test_ram_is_not_zero_after_a_reset():
    emulated = emulate('uint32_t a; __attribute__((section(".noinit"))) uint32_t b; void program(void) { a = b; }')
    emulated.run_to("done")
    value = emulated.read(emulated.address_of("a"), 4)
    assert value == PATTERN[emulated.address_of("b") % len(PATTERN) :][:4]
    assert 0 not in value
    emulated.write(0x20003000, bytes(16))
    emulated.reset()
    assert 0 not in emulated.read(0x20003000, 16)


def test_an_image_that_does_not_fit_says_how_far():
    image = Image.load(build("const char big[600000] = {1}; const char *p; void program(void) { p = big; }", "nucleo_f446re"))
    end = max(address + len(data) for address, data in image.segments)
    past = end - (0x08000000 + 524288)
    with pytest.raises(BoardFault, match=f"reaches {past} bytes past the end of FLASH of nucleo_f446re .0x08080000"):
        EmulatedBoard(board("nucleo_f446re"), image)
    EmulatedBoard(board("disco_l475_iot1"), image)  # the same flash, twice the size


def test_the_host_is_no_board():
    with pytest.raises(BoardFault, match="the core 'host' cannot be emulated"):
        EmulatedBoard(board("host"), Image.load(build(FLOATS)))


def test_reading_and_writing_from_outside():
    emulated = emulate(
        "const uint32_t vector[4] = {1, 2, 3, 4}; volatile uint32_t sum; void program(void) { sum = *(volatile uint32_t *)&vector[1] + 1; }"
    )
    address = emulated.address_of("vector") + 4
    for value in (2, 41):
        emulated.write(address, value.to_bytes(4, "little"))
        emulated.reset()
        emulated.run_to("done")
        assert emulated.read(emulated.address_of("sum"), 4) == (value + 1).to_bytes(4, "little")
    with pytest.raises(BoardFault, match="8 bytes at 0x2003fffc are not in the memory of nano33ble: FLASH 0x00000000 to 0x000fffff"):
        emulated.read(0x2003FFFC, 8)
    with pytest.raises(BoardFault, match="4 bytes at 0xfffffffe are not in"):
        emulated.write(0xFFFFFFFE, bytes(4))
    with pytest.raises(BoardFault, match="would overwrite the code of program"):
        emulated.write(emulated.address_of("program"), bytes(2))


def test_an_application_behind_a_bootloader():
    emulated = emulate("volatile int x; void program(void) { x = 5; }", offset=0x10000)
    assert emulated.pc == emulated.image.symbol("reset").address > 0x10000
    emulated.run_to("done")
    assert emulated.read(emulated.address_of("x"), 4) == (5).to_bytes(4, "little")
    assert emulated.read(0x100, 4) == b"\xff" * 4


def test_the_cycle_counter_and_systick_run():
    text = r"""
    volatile uint32_t off, before, after, tick[3];
    void program(void) {
      off = REGISTER(0xE0001004);
      REGISTER(0xE000EDFC) |= 1u << 24; REGISTER(0xE0001004) = 1000; REGISTER(0xE0001000) |= 1;
      REGISTER(0xE000E014) = 999; REGISTER(0xE000E018) = 0; REGISTER(0xE000E010) = 5;
      before = REGISTER(0xE0001004); tick[0] = REGISTER(0xE000E018);
      for (volatile int i = 0; i < 300; i++) { }
      after = REGISTER(0xE0001004); tick[1] = REGISTER(0xE000E018); tick[2] = REGISTER(0xE000E010);
    }"""
    emulated = emulate(text)
    emulated.run_to("done")
    off, before, after = (int.from_bytes(emulated.read(emulated.address_of(n), 4), "little") for n in ("off", "before", "after"))
    tick = [int.from_bytes(emulated.read(emulated.address_of("tick") + 4 * k, 4), "little") for k in range(3)]
    assert off == 0
    assert 1000 <= before < 1100
    assert after - before > 300 * 4
    assert all(0 <= value <= 999 for value in tick[:2])
    assert (tick[0] - tick[1]) % 1000 == pytest.approx((after - before) % 1000, abs=20)
    assert tick[2] >> 16 == 1
