"""Tiny programs for the emulator's tests: compiled when a test needs them, with GCC where there is one, else with zig."""

import atexit
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from unicorn import UC_HOOK_CODE

from tinykit.boards.cycles import Decoder, conditions, length
from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.image import Image
from tinykit.boards.table import board

STARTUP = r"""
#include <stdint.h>
extern uint32_t _estack[], _sidata[], _sdata[], _edata[], _sbss[], _ebss[];
__attribute__((noinline)) void program(void);
void start(void);
void done(void);
void trap(void);
#ifdef KEEP_FPU_OFF
#define FPU ""
#else
#define FPU "ldr r0, =0xE000ED88\n ldr r1, [r0]\n orr r1, r1, #0xF00000\n str r1, [r0]\n dsb\n isb\n"
#endif
__attribute__((naked, used)) void reset(void) { __asm volatile(FPU "b start\n .ltorg\n"); }
__attribute__((noinline, used)) void done(void) { for (;;) __asm volatile(""); }
__attribute__((used)) void trap(void) { for (;;) __asm volatile(""); }
__attribute__((used)) void start(void) {
  const uint32_t *from = _sidata;
  for (uint32_t *to = _sdata; to < _edata; to++) *(volatile uint32_t *)to = *from++;
  for (uint32_t *to = _sbss; to < _ebss; to++) *(volatile uint32_t *)to = 0;
  program();
  done();
}
__attribute__((section(".isr_vector"), used)) void (*const vectors[4])(void) = {(void (*)(void))_estack, reset, trap, trap};
__attribute__((noinline, used)) void tk_bench_begin(void) { __asm volatile("nop" ::: "memory"); }
__attribute__((noinline, used)) void tk_bench_end(void) { __asm volatile("nop\n nop" ::: "memory"); }
#define REGISTER(address) (*(volatile uint32_t *)(address))
"""

SCRIPT = """ENTRY(reset)
MEMORY {{ FLASH : ORIGIN = {flash:#x}, LENGTH = {flash_size:#x}  RAM : ORIGIN = {ram:#x}, LENGTH = {ram_size:#x} }}
SECTIONS {{
  .isr_vector : {{ KEEP(*(.isr_vector)) }} > FLASH
  .text : {{ *(.text*) *(.rodata*) . = ALIGN(4); }} > FLASH
  .ARM.exidx : {{ *(.ARM.exidx*) }} > FLASH
  _sidata = LOADADDR(.data);
  .data : {{ . = ALIGN(4); _sdata = .; *(.data*) . = ALIGN(4); _edata = .; }} > RAM AT> FLASH
  .bss (NOLOAD) : {{ . = ALIGN(4); _sbss = .; *(.bss*) *(COMMON) . = ALIGN(4); _ebss = .; }} > RAM
  _estack = ORIGIN(RAM) + LENGTH(RAM);
  _stack_limit = _estack - 4096;
}}
"""

HAS_GCC = shutil.which("arm-none-eabi-gcc") is not None
HAS_ZIG = importlib.util.find_spec("ziglang") is not None
GCC = pytest.param("gcc", marks=pytest.mark.skipif(not HAS_GCC, reason="no arm-none-eabi-gcc on the PATH"))
ZIG = pytest.param("zig", marks=pytest.mark.skipif(not HAS_ZIG, reason="the package ziglang is not installed"))
BOTH = pytest.mark.parametrize("toolchain", [GCC, ZIG])

_FLAGS = [
    "-O2",
    "-g",
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wall",
    "-Werror",
    "-nostdlib",
    "-Wl,--gc-sections,-u,done",
]
_GCC_CORES = {"cortex-m4f": ["-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"], "cortex-m7f": ["-mcpu=cortex-m7", "-mfpu=fpv5-d16"]}
_ZIG_CORES = {"cortex-m4f": "cortex_m4+vfp4d16sp", "cortex-m7f": "cortex_m7+fp_armv8d16sp"}


def _command(toolchain: str, core: str) -> list[str]:
    if toolchain == "gcc":
        return ["arm-none-eabi-gcc", "-mthumb", "-mfloat-abi=hard", *_GCC_CORES[core], "-Wl,--no-warn-rwx-segments"]
    return [sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabihf", f"-mcpu={_ZIG_CORES[core]}"]


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="emulator-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def build(text: str, name: str = "nano33ble", toolchain: str = "", flags: tuple[str, ...] = (), offset: int = 0, core: str = "") -> Path:
    """Compiles `text` behind STARTUP for a board; the program's flash begins `offset` bytes into the board's."""
    if not (HAS_GCC or HAS_ZIG):
        pytest.skip("no compiler for Arm: neither arm-none-eabi-gcc nor the package ziglang")
    toolchain = toolchain or ("gcc" if HAS_GCC else "zig")
    entry = board(name)
    assert entry.flash and entry.ram
    stem = _folder() / f"{len(list(_folder().glob('*.c')))}"
    source, script, elf = stem.with_suffix(".c"), stem.with_suffix(".ld"), stem.with_suffix(".elf")
    source.write_text(STARTUP + text)
    places = {"flash": entry.flash.base + offset, "flash_size": (4 << 20), "ram": entry.ram.base, "ram_size": entry.ram.size}
    script.write_text(SCRIPT.format(**places))
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(Path(tempfile.gettempdir(), f"zig-cache-{os.getuid()}"))}
    command = [*_command(toolchain, core or entry.core), *_FLAGS, *flags, "-T", str(script), "-o", str(elf), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return elf


def emulate(text: str, name: str = "nano33ble", native: bool = True, **options: object) -> EmulatedBoard:
    """A board with the program in its flash, just after a reset."""
    return EmulatedBoard(board(name), Image.load(build(text, name, **options)), native=native)


def trace(reference: EmulatedBoard, where: str) -> list[tuple[int, bool]]:
    """(address, executed, not skipped?) of every instruction up to a symbol, from a hook at each instruction: the reference.

    Unicorn's hook leaves out what an IT block skips; every IT instruction says how many follow.
    """
    executed: list[int] = []
    handle = reference._engine.hook_add(UC_HOOK_CODE, lambda engine, address, size, user: executed.append(address))
    reference.run_to(where)
    reference._engine.hook_del(handle)
    conditional = {site.address for site in reference._conditional}
    result: list[tuple[int, bool]] = []
    for number, address in enumerate(executed[:-1]):  # the last is where it stopped
        if address in conditional:
            continue
        result.append((address, True))
        follows = address + 2
        for place, _ in enumerate(conditions(_halfword(reference, address)), start=1):
            ran = follows in executed[number + 1 : number + 1 + place]
            result.append((follows, ran))
            follows += length(_halfword(reference, follows))
    return result


def _halfword(reference: EmulatedBoard, address: int) -> int:
    return int.from_bytes(reference.read(address, 2), "little")


def cycles_of(reference: EmulatedBoard, steps: list[tuple[int, bool]]) -> int:
    """The model of cycles.py applied to a trace, instruction by instruction; the last one is taken to be followed by the next address."""
    decoder, known, total = Decoder(), {}, 0
    after_access = False
    for (address, ran), (following, _) in zip(steps, steps[1:] + [(None, True)]):
        if address not in known:
            size = length(_halfword(reference, address))
            known[address] = next(decoder.instructions(reference.read(address, size), address))
        entry = known[address]
        total += 1 if not ran or entry.kind == "load" and after_access else entry.cost
        taken = following is not None and following != address + entry.size
        total += 2 if taken else 0
        after_access = entry.single and not taken
    return total
