"""The emulated UARTs: an echo within the process and through a pseudo-terminal, and EasyDMA's rules."""

import os
import random
import select
import time

import pytest
from emulator_firmware import emulate

from tinykit.boards.memory import BoardFault
from tinykit.boards.table import board

UARTE = r"""
#define U(offset) REGISTER(BASE + offset)
static volatile uint8_t sent, got;
static const char greeting[] = "flash";
static void init(void) { U(0x500) = 8; }
static void put(uint8_t c) { sent = c; U(0x120) = 0; U(0x544) = (uint32_t)&sent; U(0x548) = 1; U(8) = 1; while (!U(0x120)) { } }
static uint8_t get(void) { U(0x110) = 0; U(0x534) = (uint32_t)&got; U(0x538) = 1; U(0) = 1; while (!U(0x110)) { } return got; }
"""
USART_V1 = r"""
#define U(offset) REGISTER(BASE + offset)
static void init(void) { U(0xC) = 1u << 13 | 1u << 3 | 1u << 2; }
static void put(uint8_t c) { while (!(U(0) & 0x80)) { } U(4) = c; }
static uint8_t get(void) { while (!(U(0) & 0x20)) { } return (uint8_t)U(4); }
"""
USART_V2 = r"""
#define U(offset) REGISTER(BASE + offset)
static void init(void) { U(0) = 1u << 3 | 1u << 2 | 1u; }
static void put(uint8_t c) { while (!(U(0x1C) & 0x80)) { } U(0x28) = c; }
static uint8_t get(void) { while (!(U(0x1C) & 0x20)) { } return (uint8_t)U(0x24); }
"""
ECHO = """
void program(void) {
  init();
  for (const char *p = "hello"; *p; p++) put((uint8_t)*p);
  for (;;) { uint8_t c = get(); if (c == '!') *(volatile uint8_t *)0x20100000 = 1; put((uint8_t)(c ^ 0x20)); }
}
"""
PORTS = {"uarte": UARTE, "usart_v1": USART_V1, "usart_v2": USART_V2}


def echo(name: str, program: str = ECHO, **options):
    uart = board(name).uart
    text = PORTS[uart.driver].replace('static const char greeting[] = "flash";', "") if program is ECHO else PORTS[uart.driver]
    return emulate(text + program, name, flags=(f"-DBASE={uart.base:#x}u",), **options)


@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng", "nucleo_f446re", "disco_l475_iot1", "nucleo_l4r5zi", "nucleo_h743zi"])
@pytest.mark.parametrize("in_c", [True, False], ids=["c", "python"])
def test_an_echo_within_the_process(name, in_c):
    emulated = echo(name, native=in_c)
    emulated.run_until_input()
    assert emulated.serial_read() == b"hello"
    assert emulated.serial_read() == b""
    data = bytes(random.Random(3).choices([v for v in range(256) if v != ord("!")], k=700))
    for part in (data[:1], data[1:400], data[400:]):
        emulated.serial_write(part)
        emulated.run_until_input()
        assert emulated.serial_read() == bytes(v ^ 0x20 for v in part)


def test_counts_while_a_program_waits():
    """The poll that finds nothing and stops the processor is repeated, and counted once."""
    figures = []
    for parts in ([b"abcdef"], [b"abc", b"def"], [b"a", b"b", b"", b"c", b"def"]):
        emulated = echo("nucleo_f446re")
        for part in parts:
            emulated.serial_write(part)
            emulated.run_until_input()
        assert emulated.serial_read() == b"helloABCDEF"
        figures.append((emulated.instructions, emulated.counter.total(emulated.counter.snapshot())[0]))
    assert all(total == instructions for instructions, total in figures)
    polls = {instructions for instructions, _ in figures}
    assert max(polls) - min(polls) < 100  # some empty polls more, nothing else


def read_from(descriptor: int, size: int, seconds: float = 20) -> bytes:
    data, end = b"", time.monotonic() + seconds
    while len(data) < size and time.monotonic() < end:
        if select.select([descriptor], [], [], 0.1)[0]:
            data += os.read(descriptor, size - len(data))
    return data


@pytest.mark.parametrize("name", ["nano33ble", "nucleo_l4r5zi"])
def test_an_echo_through_a_pseudo_terminal(name):
    emulated = echo(name)
    terminal = os.open(emulated.pty(), os.O_RDWR | os.O_NOCTTY)
    try:
        assert read_from(terminal, 5) == b"hello"
        data = bytes(random.Random(4).choices([v for v in range(256) if v != ord("!")], k=3000))
        received = b""
        for start in range(0, len(data), 100):
            os.write(terminal, data[start : start + 100])
            received += read_from(terminal, 100)
        assert received == bytes(v ^ 0x20 for v in data)
        with pytest.raises(BoardFault, match="close.. it first"):
            emulated.run_until_input()
        with pytest.raises(BoardFault, match="being served already"):
            emulated.pty()
    finally:
        emulated.close()
        os.close(terminal)
    emulated.reset()
    emulated.run_until_input()
    assert emulated.serial_read() == b"hello"


def test_a_fault_is_told_through_the_pseudo_terminal():
    emulated = echo("nano33ble")
    terminal = os.open(emulated.pty(), os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(terminal, b"!")
        told = b""
        while b"m-ready\r\n" not in told:
            part = read_from(terminal, 1)
            assert part, told
            told += part
    finally:
        emulated.close()
        os.close(terminal)
    assert b"e-[nano33ble: bus fault: 1-byte write to 0x20100000" in told
    assert "0x20100000" in str(emulated.fault)


def test_closing_stops_a_program_that_never_reads():
    for native in (True, False):
        emulated = emulate("volatile uint32_t n; void program(void) { for (;;) n++; }", native=native)
        emulated.pty()
        time.sleep(0.1)
        emulated.close()
        emulated.close()
        first = emulated.instructions
        with pytest.raises(BoardFault, match="still running after 1,000 instructions"):
            emulated.run_to("done", max_instructions=1000)
        assert 0 < emulated.instructions - first <= 1000


def test_easydma_cannot_read_flash():
    text = "void program(void) { init(); put(1); (void)get; U(0x544) = (uint32_t)greeting; U(0x548) = 5; U(8) = 1; }"
    with pytest.raises(BoardFault, match=r"EasyDMA: TXD.PTR 0x[0-9a-f]+ with 5 bytes is not in RAM; it cannot reach flash"):
        echo("nano33ble", text).run_to("done")
    good = text.replace("U(0x544)", "static char copy[5]; copy[0] = greeting[0]; U(0x544)").replace(
        "(uint32_t)greeting;", "(uint32_t)copy;"
    )
    emulated = echo("nano33ble", good)
    emulated.run_to("done")
    assert emulated.serial_read()[:2] == b"\x01f"


def test_easydma_ends_with_ram():
    text = "void program(void) { init(); put(1); (void)get; (void)greeting; U(0x534) = 0x2003FFFF; U(0x538) = 2; U(0) = 1; }"
    with pytest.raises(BoardFault, match="EasyDMA: RXD.PTR 0x2003ffff with 2 bytes is not in RAM"):
        echo("nano33ble", text).run_to("done")
    echo("nano33ble", text.replace("U(0x538) = 2", "U(0x538) = 1")).run_to("done")


def test_a_uart_that_was_not_enabled_sends_nothing():
    for name in ("nucleo_f446re", "nucleo_l4r5zi"):
        emulated = echo(name, ECHO.replace("init();", "(void)init;"))
        with pytest.raises(BoardFault, match="still running"):
            emulated.run_until_input(max_instructions=100_000)
        assert emulated.serial_read() == b""
