"""Images: what a flash tool would write, names, and damaged files."""

import random
import struct
import subprocess

import pytest
from emulator_firmware import BOTH, HAS_GCC, build

from tinykit.boards.image import Image, ImageError

TEXT = r"""
int initialised[3] = {1, 2, 3};
int cleared[5];
const int constant[4] = {4, 5, 6, 7};
__attribute__((noinline)) static int twice(int x) { return 2 * x + (int)(uintptr_t)initialised; }
__attribute__((noinline)) int outer(int x) { return twice(x) + constant[x & 3]; }
void program(void) { cleared[0] = outer(initialised[1]); }
"""


@BOTH
def test_segments_are_what_a_flash_tool_writes(toolchain):
    image = Image.load(build(TEXT, toolchain=toolchain))
    (start, code), *rest = image.segments
    assert start == 0
    assert struct.unpack_from("<I", code, 4)[0] == image.symbol("reset").address | 1
    whole = bytearray(code)
    for address, data in rest:
        whole[address:] = data
    stored = image.symbol("_sidata").address
    assert whole[stored : stored + 12] == struct.pack("<3i", 1, 2, 3)
    assert all(address + len(data) <= 0x10000 for address, data in image.segments)  # .data at its place in flash, .bss nowhere


@pytest.mark.skipif(not HAS_GCC, reason="no arm-none-eabi-objcopy on the PATH")
@pytest.mark.parametrize("offset", [0, 0x10000, 0x10100])
def test_segments_equal_objcopy(tmp_path, offset):
    elf = build(TEXT, toolchain="gcc", offset=offset)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(tmp_path / "x.bin")], check=True)
    image = Image.load(elf)
    base = image.segments[0][0]
    assert base == offset
    flat = bytearray()
    for address, data in image.segments:
        flat[address - base :] = bytes(max(0, address - base - len(flat))) + data
    assert bytes(flat) == (tmp_path / "x.bin").read_bytes()


@BOTH
def test_symbols_and_sections(toolchain):
    image = Image.load(build(TEXT, toolchain=toolchain))
    assert image.entry == (image.symbol("reset").address if toolchain == "gcc" else 0)  # zig's linker leaves it out
    assert (image.symbol("outer").kind, image.symbol("constant").kind, image.symbol("_estack").kind) == ("func", "object", "other")
    assert (image.symbol("constant").size, image.symbol("cleared").size) == (16, 20)
    assert image.symbol("outer").address % 2 == 0
    assert image.where(image.symbol("outer").address + 4) == "outer+0x4"
    assert image.where(image.symbol("twice").address) == "twice+0x0"
    assert image.where(0x40000000) == "0x40000000"
    assert [f.address for f in image.functions] == sorted(f.address for f in image.functions)
    vectors, bss = image.sections[".isr_vector"], image.sections[".bss"]
    assert (vectors.address, vectors.size, vectors.alloc, vectors.nobits) == (0, 16, True, False)
    assert bss.nobits
    assert bss.write
    assert image.sections[".text"].execute
    assert not any(name.startswith("$") for name in image.symbols)
    with pytest.raises(ImageError, match=r"no symbol 'absent'; was it renamed, made static"):
        image.symbol("absent")


def test_static_functions_of_one_name(tmp_path):
    if not HAS_GCC:
        pytest.skip("no arm-none-eabi-gcc on the PATH")
    for name in "ab":
        (tmp_path / f"{name}.c").write_text(
            f"__attribute__((noinline)) static int work(int x) {{ return x * {ord(name)}; }} int {name}(int x) {{ return work(x) + 1; }}"
        )
    (tmp_path / "c.c").write_text("int a(int), b(int); int work_c(int x) { return a(x) + b(x); }")
    elf = tmp_path / "x.elf"
    files = [str(tmp_path / f"{name}.c") for name in "abc"]
    subprocess.run(
        ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-O1", "-nostdlib", "-Wl,-e,work_c", *files, "-o", str(elf)], check=True
    )
    image = Image.load(elf)
    works = [function for function in image.functions if function.name == "work"]
    assert len(works) == 2
    assert image.symbol("work") == works[0]
    assert all(image.where(function.address + 2) == "work+0x2" for function in works)


def test_files_that_are_no_images(tmp_path):
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        Image.load(tmp_path / "absent.elf")
    with pytest.raises(ImageError, match="cannot be read"):
        Image.load(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ImageError, match="not a usable ELF file: Magic number does not match"):
        Image.load(tmp_path / "text")
    with pytest.raises(ImageError, match="32-bit little-endian Arm is needed"):
        Image.load("/bin/sh")


def test_an_object_file_is_not_linked(tmp_path):
    if not HAS_GCC:
        pytest.skip("no arm-none-eabi-gcc on the PATH")
    (tmp_path / "a.c").write_text("int a;")
    subprocess.run(["arm-none-eabi-gcc", "-c", str(tmp_path / "a.c"), "-o", str(tmp_path / "a.o")], check=True)
    with pytest.raises(ImageError, match="ET_REL, not a linked program"):
        Image.load(tmp_path / "a.o")


def test_damaged_files_give_one_kind_of_error(tmp_path):
    data = build(TEXT).read_bytes()
    chance = random.Random(11)
    path = tmp_path / "damaged.elf"
    refused = 0
    for trial in range(300):
        damaged = bytearray(data[: chance.randrange(len(data))] if trial % 3 == 0 else data)
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(min(len(damaged), 120)) if trial % 2 else chance.randrange(len(damaged)) if damaged else 0
            if damaged:
                damaged[place] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            Image.load(path)
        except ImageError as problem:
            assert str(path) in str(problem)
            refused += 1
    assert refused > 50


def test_a_segment_past_the_end_of_the_file(tmp_path):
    data = bytearray(build(TEXT).read_bytes())
    header = struct.unpack_from("<I", data, 28)[0]
    count = struct.unpack_from("<H", data, 44)[0]
    for k in range(count):
        struct.pack_into("<I", data, header + 32 * k + 16, 0x7FFFFFFF)
    (tmp_path / "x.elf").write_bytes(data)
    with pytest.raises(ImageError, match="a segment ends at byte"):
        Image.load(tmp_path / "x.elf")
