"""build_firmware: what it links, where, how large, and what it says when it cannot."""

import importlib.util
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from toy_firmware import INPUT, OUTPUTS, WEIGHTS, expected, toy_sources

from tinykit.boards import toolchain
from tinykit.boards.checks import CheckError, check_placement, double_precision, needs_double
from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import board_header, build_firmware
from tinykit.boards.image import Image
from tinykit.boards.linker import layout, linker_script
from tinykit.boards.qemu import machine, machine_names
from tinykit.boards.sizes import flash_bytes
from tinykit.boards.table import board, board_names
from tinykit.boards.toolchain import BuildError, build_host_library, build_host_program, choose, choose_host
from tinykit.errors import BudgetError, ConfigError

BOARDS = ["nano33ble", "disco_f746ng", "nucleo_f446re", "nucleo_l4r5zi"]
TOOLCHAINS = [
    pytest.param("gcc", marks=pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")),
    pytest.param("zig", marks=pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed")),
]
both = pytest.mark.parametrize("tools", TOOLCHAINS)


def any_toolchain():
    if not shutil.which("arm-none-eabi-gcc") and not importlib.util.find_spec("ziglang"):
        pytest.skip("neither arm-none-eabi-gcc nor ziglang is installed")
    return choose()


def build(tmp_path, name="nano33ble", tools=None, **options):
    model = {key: options.pop(key) for key in list(options) if key in ("arena", "padding", "body", "variable", "wrong")}
    return build_firmware(toy_sources(**model), board(name), tmp_path, toolchain=tools or any_toolchain(), **options)


# ---- what is linked ----


@both
@pytest.mark.parametrize("name", BOARDS)
def test_the_bench_image_is_whole(tmp_path, name, tools):
    result = build(tmp_path, name, tools)
    image = Image.load(result.elf)
    start = layout(board(name)).flash.base
    assert image.symbol("tk_vectors").address == start
    assert image.segments[0][0] == start
    stack, reset = (int.from_bytes(image.segments[0][1][i : i + 4], "little") for i in (0, 4))
    assert stack == board(name).ram.base + board(name).ram_bytes
    assert reset == image.symbol("Reset_Handler").address | 1
    assert image.symbol("tk_arena").address % 16 == 0
    begin, end = image.symbol("tk_bench_begin"), image.symbol("tk_bench_end")
    assert begin.address != end.address
    assert begin.size != end.size
    assert list(double_precision(image)) == []
    assert (result.board, result.kind, result.toolchain) == (name, "bench", tools)
    assert "-O3" in result.flags


@both
@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng"])
def test_it_runs_on_the_emulated_board(tmp_path, name, tools):
    run = EmulatedBoard(board(name), Image.load(build(tmp_path, name, tools, variable=8).elf))
    run.run_to("tk_done")
    assert int.from_bytes(run.read(run.address_of("tk_selftest_differences"), 4), "little") == 0
    assert run.read(run.address_of("tk_arena") + 32, OUTPUTS) == expected(INPUT.tobytes())
    assert run.read(run.address_of("toy_variable"), 8) == bytes([1, 2, 3, 0, 0, 0, 0, 0])


def test_wrong_outputs_are_counted(tmp_path):
    run = EmulatedBoard(board("nucleo_f446re"), Image.load(build(tmp_path, "nucleo_f446re", wrong=4).elf))
    run.run_to("tk_done")
    assert int.from_bytes(run.read(run.address_of("tk_selftest_differences"), 4), "little") == 4


def test_the_bench_touches_no_peripheral(tmp_path):
    """Of all addresses outside memory only the core's own VTOR and CPACR."""
    run = EmulatedBoard(board("nano33ble"), Image.load(build(tmp_path).elf))
    touched = set()
    write, read = run._peripherals.write, run._peripherals.read
    run._peripherals.write = lambda address, value: (touched.add(address), write(address, value))[1]
    run._peripherals.read = lambda address: (touched.add(address), read(address))[1]
    run.run_to("tk_done")
    assert touched == {0xE000ED08, 0xE000ED88}


def test_targets(tmp_path):
    """Under the Arduino bootloader a program starts behind it."""
    assert Image.load(build(tmp_path).elf).segments[0][0] == 0x10000
    bare = build(tmp_path, target="bare")
    assert (bare.target, Image.load(bare.elf).segments[0][0]) == ("bare", 0)
    with pytest.raises(ConfigError, match="unknown target 'mbed'"):
        build(tmp_path, target="mbed")


def test_both_kinds_side_by_side(tmp_path):
    build(tmp_path)
    build(tmp_path, kind="monitor")
    build(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["firmware", "firmware.elf", "monitor", "monitor.elf"]
    assert (tmp_path / "monitor/common/tk_board.h").exists()
    assert not list(tmp_path.rglob("*.o"))


@both
def test_the_same_sources_give_the_same_bytes(tmp_path, tools):
    first = build(tmp_path / "a", tools=tools).elf.read_bytes()
    assert first == build(tmp_path / "another folder", tools=tools).elf.read_bytes()
    assert str(tmp_path).encode() not in first


def test_options_reach_the_compiler(tmp_path):
    body = "#if TOY != 5\n#error no macro\n#endif\n"
    assert build(tmp_path, body=body, defines=["TOY=5"], optimize="-Os").flags[-1] == "-Os"


# ---- sizes ----


@both
@pytest.mark.parametrize("variable", [0, 40])
@pytest.mark.parametrize("kind", ["bench", "monitor"])
def test_sizes_add_up(tmp_path, tools, variable, kind):
    result = build(tmp_path, "nucleo_f446re", tools, variable=variable, kind=kind, arena=512, padding=100)
    sizes = result.sizes
    assert sizes.weights + sizes.tables + sizes.code + sizes.runtime == sizes.total
    assert sizes.total + sizes.selftest == sizes.image
    assert (sizes.weights, sizes.quantisation, sizes.constants) == (WEIGHTS.size + 100, 4 * OUTPUTS, 4)
    assert (sizes.selftest, sizes.arena) == (len(INPUT) + OUTPUTS, 512)
    image = Image.load(result.elf)
    assert sizes.code == image.symbol("tk_model_invoke").size
    assert sizes.runtime > 0
    measured = {name: section.size for name, section in image.sections.items()}
    assert sizes.image == flash_bytes(image)
    gaps = sizes.image - sum(measured[name] for name in (".isr_vector", ".text", ".rodata", ".data"))
    assert 0 <= gaps < 16
    assert sizes.static + sizes.selftest_ram == measured[".data"] + measured[".bss"]
    assert measured[".arena"] == 512
    assert sizes.selftest_ram == (4 if kind == "bench" else 0)
    assert measured[".data"] >= variable


@pytest.mark.skipif(not shutil.which("arm-none-eabi-objcopy"), reason="arm-none-eabi-objcopy is not installed")
@both
def test_flash_is_what_objcopy_writes(tmp_path, tools):
    result = build(tmp_path, tools=tools, variable=37)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", result.elf, tmp_path / "flat.bin"], check=True)
    flat = (tmp_path / "flat.bin").read_bytes()
    image = Image.load(result.elf)
    assert len(flat) == result.sizes.image == flash_bytes(image)
    assert flat[: len(image.segments[0][1])] == image.segments[0][1]


@both
def test_the_runtime_is_small(tmp_path, tools):
    assert build(tmp_path, tools=tools).sizes.runtime <= 420


@both
def test_ram_that_is_missing_is_counted_to_the_byte(tmp_path, tools):
    name = "nucleo_f401re"
    sizes = build(tmp_path, name, tools, arena=64).sizes
    largest = board(name).ram_bytes - sizes.stack_reserved - sizes.static - sizes.selftest_ram
    assert build(tmp_path, name, tools, arena=largest).sizes.arena == largest
    with pytest.raises(BudgetError, match=r"nucleo_f401re: .* of RAM \(arena .*, 8 more than the 98,304") as caught:
        build(tmp_path, name, tools, arena=largest + 8)
    assert "1,000,000" in str(pytest.raises(BudgetError, build, tmp_path, name, tools, arena=1_000_000).value)
    assert len(caught.value.problems) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["firmware", "firmware.elf"]


@both
def test_flash_that_is_missing_is_counted_to_the_byte(tmp_path, tools):
    name = "nucleo_f446re"
    room = board(name).flash_bytes - build(tmp_path, name, tools, padding=4).sizes.image
    assert build(tmp_path, name, tools, padding=4 + room).sizes.image == board(name).flash_bytes
    with pytest.raises(BudgetError, match="524,292 bytes of flash, 4 more than the 524,288"):
        build(tmp_path, name, tools, padding=8 + room)


def test_the_arduino_target_has_less_flash(tmp_path):
    build(tmp_path, padding=1_000_000, target="bare")
    with pytest.raises(BudgetError, match="more than the 983,040 that target arduino leaves"):
        build(tmp_path, padding=1_000_000)


# ---- what goes wrong ----


@both
def test_errors_of_the_compiler_are_shown(tmp_path, tools):
    with pytest.raises(BuildError) as caught:
        build(tmp_path, tools=tools, body="    undeclared = 1;\n")
    text = str(caught.value)
    assert "model/toy.c for nano33ble" in text
    assert "undeclared" in text
    assert f"command: {'arm-none-eabi-gcc' if tools == 'gcc' else 'python -m ziglang cc'} -" in text
    assert str(tmp_path) not in text
    assert list(tmp_path.iterdir()) == []


@both
def test_warnings_are_errors(tmp_path, tools):
    with pytest.raises(BuildError, match="unused"):
        build(tmp_path, tools=tools, body="    int unused;\n")


@both
def test_missing_functions_are_named(tmp_path, tools):
    with pytest.raises(BuildError, match="not_there"):
        build(tmp_path, tools=tools, body="    extern void not_there(void);\n    not_there();\n")


@both
def test_arithmetic_of_64_bits_links(tmp_path, tools):
    body = "    volatile int64_t a = 1000000000000, b = 7;\n    if (a / b != 142857142857) return;\n"
    run = EmulatedBoard(board("nano33ble"), Image.load(build(tmp_path, tools=tools, body=body).elf))
    run.run_to("tk_done")
    assert int.from_bytes(run.read(run.address_of("tk_selftest_differences"), 4), "little") == 0


def test_a_missing_toolchain_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="sudo apt-get install gcc-arm-none-eabi"):
        build_firmware(toy_sources(), board("nano33ble"), tmp_path, toolchain="gcc")
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="`pip install ziglang` or `sudo apt-get install gcc-arm-none-eabi`"):
        choose()
    with pytest.raises(ConfigError, match="ziglang is not installed; install it: `pip install ziglang`"):
        choose("zig")
    with pytest.raises(ConfigError, match="no C compiler for this computer"):
        choose_host()
    with pytest.raises(ConfigError, match="unknown toolchain 'zag'; did you mean 'zig'"):
        choose("zag")


@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed")
def test_a_path_without_any_program_will_do(tmp_path, monkeypatch):
    """Everything that is needed comes from pip."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build(tmp_path).toolchain == "zig"


def test_arguments_are_checked(tmp_path):
    tools = any_toolchain()
    sources = toy_sources()
    with pytest.raises(ConfigError, match="unknown kind of firmware 'beench'; did you mean 'bench'"):
        build_firmware(sources, board("nano33ble"), tmp_path, kind="beench", toolchain=tools)
    with pytest.raises(ConfigError, match="host.*no firmware"):
        build_firmware(sources, board("host"), tmp_path, toolchain=tools)
    with pytest.raises(ConfigError, match="expected a file tk_model.h"):
        build_firmware({"toy.c": ""}, board("nano33ble"), tmp_path, toolchain=tools)
    with pytest.raises(ConfigError, match="below one folder, got '../x.c'"):
        build_firmware({**sources, "../x.c": ""}, board("nano33ble"), tmp_path, toolchain=tools)
    for stack in (0, -8, 12):
        with pytest.raises(ConfigError, match="positive multiple of 8"):
            build_firmware(sources, board("nano33ble"), tmp_path, toolchain=tools, stack_bytes=stack)
    with pytest.raises(ConfigError, match="fewer bytes than nano33ble has RAM"):
        build_firmware(sources, board("nano33ble"), tmp_path, toolchain=tools, stack_bytes=1 << 20)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder"):
        build_firmware(sources, board("nano33ble"), tmp_path / "file", toolchain=tools)


@both
def test_weights_are_not_taken_for_instructions(tmp_path, tools):
    """vadd.f64 as data."""
    sources = toy_sources(padding=64)
    sources["toy.c"] = sources["toy.c"].replace("[64] = {1}", "[64] = {0x31, -18, 2, 11, 0x31, -18, 2, 11}")
    image = Image.load(build_firmware(sources, board("disco_f746ng"), tmp_path, toolchain=tools).elf)
    assert any(bytes([0x31, 0xEE, 2, 11]) in data for _, data in image.segments)


@both
@pytest.mark.parametrize("code", ["0xee310b02", "0xeeb70ac0", "0xfe010b02"])
def test_double_precision_is_found(tmp_path, tools, code):
    """vadd.f64, vcvt.f64.f32 and vseleq.f64; no assembler would take them for this FPU, so they are planted as numbers."""
    with pytest.raises(CheckError, match=r"1 double-precision FPU instruction\(s\), at tk_model_invoke\+0x"):
        build(tmp_path, "disco_f746ng", tools, body=f'    __asm volatile(".inst.w {code}");\n')


def test_loads_and_moves_of_register_pairs_are_single_precision(tmp_path):
    """vldr d0, vpush {d8}, vmov r0, r1, d0, vmov.32 d0[0], r0, vadd.f32."""
    codes = ["0xed900b00", "0xed2d8b02", "0xec510b10", "0xee000b10", "0xee300a01"]
    body = "    if (!arena) {\n" + "".join(f'        __asm volatile(".inst.w {code}");\n' for code in codes) + "    }\n"
    build(tmp_path, "disco_f746ng", body=body)


def test_the_decoder_agrees_with_capstone():
    """Every encoding that capstone calls .f64 and no other, of 40,000 of the floating-point space."""
    capstone = pytest.importorskip("capstone")
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_V8)
    rng = random.Random(3)
    compared = wide = 0
    for _ in range(40_000):
        first = rng.choice([0xEC00, 0xED00, 0xEE00, 0xEE00, 0xFE00]) | rng.randrange(256)
        second = rng.randrange(1 << 16) & 0xF0FF | rng.choice([0xA00, 0xB00])
        code = first.to_bytes(2, "little") + second.to_bytes(2, "little")
        found = next(decoder.disasm(code, 0), None)
        if found is None or found.size != 4:
            continue
        assert needs_double(first, second) == (".f64" in found.mnemonic), found
        compared, wide = compared + 1, wide + (".f64" in found.mnemonic)
    assert compared > 10_000
    assert wide > 1_000


def test_an_image_for_another_board_is_refused(tmp_path):
    image = Image.load(build(tmp_path).elf)
    with pytest.raises(CheckError, match="nucleo_f446re has flash from 0x08000000 to 0x08080000; was it built for another board"):
        check_placement(image, board("nucleo_f446re"))
    check_placement(image, board("nano33ble"))


# ---- linker script, board header, table ----


@pytest.mark.parametrize("name", [n for n in board_names() if n != "host"] + machine_names())
def test_linker_scripts(name):
    entry = machine(name) if name in machine_names() else board(name)
    for target, reserve in entry.reserves.items():
        place = layout(entry, target, 1024)
        text = linker_script(place)
        assert f"ORIGIN = 0x{entry.flash.base + (reserve.flash or 0):08x}" in text
        assert f"_estack = 0x{entry.ram.base + entry.ram.size:08x};" in text
        assert f"_stack_limit = 0x{entry.ram.base + entry.ram.size - 1024:08x};" in text
        assert text.index("KEEP(*(.isr_vector))") < text.index("*(.text .text.*)") < text.index("AT > FLASH")
        assert text.index("*(.bss.tk_arena)") < text.index("*(.bss .bss.*)")
        assert place.flash.base + place.flash.size == entry.flash.base + entry.flash.size


@pytest.mark.parametrize("name", [n for n in board_names() if n != "host"])
def test_uarts(name):
    """Every board can talk: its divider gives 115200 baud to 2.5 %, and its registers are peripherals."""
    uart = board(name).uart
    scale = 256 if uart.name.startswith("LPUART") else 1
    assert abs(scale * uart.clock_hz / uart.divider(115200) / 115200 - 1) < 0.025
    assert uart.source
    assert all(0x40000000 <= address < 0x60000000 for address in [uart.base, *(row[0] for row in uart.setup)])
    assert all(clear | bits < 1 << 32 for _, clear, bits in uart.setup)
    assert f"#define TK_UART_BASE 0x{uart.base:08x}u" in board_header(board(name))


def test_machines_of_qemu_are_no_boards():
    assert not set(machine_names()) & set(board_names())
    with pytest.raises(ConfigError, match="unknown QEMU machine 'mps2-an38'; did you mean 'mps2-an386'"):
        machine("mps2-an38")
    with pytest.raises(ConfigError, match="no monitor"):
        board_header(board("host"))


# ---- this computer ----


def test_the_memory_functions(tmp_path):
    """memcpy, memmove, memset and memcmp of runtime.c, at every alignment and overlap of small sizes, against bytes."""
    ctypes = importlib.import_module("ctypes")
    source = Path(__file__).parents[2] / "firmware_template/common"
    names = ("memcpy", "memmove", "memset", "memcmp")
    library = ctypes.CDLL(
        str(
            build_host_library(
                [source / "runtime.c"], tmp_path / "r.so", include=[source / "runtime"], defines=[f"{n}=tk_{n}" for n in names]
            )
        )
    )
    start = bytes(range(1, 65))
    for size in range(20):
        for to in range(24):
            for origin in range(24):
                buffer = ctypes.create_string_buffer(start, 64)
                base = ctypes.addressof(buffer)
                library.tk_memmove(ctypes.c_void_p(base + to), ctypes.c_void_p(base + origin), ctypes.c_size_t(size))
                assert buffer.raw == start[:to] + start[origin : origin + size] + start[to + size :]
            buffer = ctypes.create_string_buffer(start, 64)
            base = ctypes.addressof(buffer)
            library.tk_memset(ctypes.c_void_p(base + to), 0x1A5, ctypes.c_size_t(size))
            assert buffer.raw == start[:to] + b"\xa5" * size + start[to + size :]
            library.tk_memcpy(ctypes.c_void_p(base + 40), ctypes.c_void_p(base + to % 8), ctypes.c_size_t(size))
            assert buffer.raw[40 : 40 + size] == buffer.raw[to % 8 : to % 8 + size]
    for first, second in [(b"abc", b"abc"), (b"abc", b"abd"), (b"\xff", b"\x01"), (b"", b"")]:
        sign = library.tk_memcmp(first, second, ctypes.c_size_t(len(first)))
        assert (sign > 0, sign < 0) == (first > second, first < second)


@both
def test_the_memory_functions_do_not_call_themselves(tmp_path, tools):
    capstone = pytest.importorskip("capstone")
    body = "    volatile uint32_t n = 8;\n    uint8_t b[16] = {0};\n    memmove(b, b + 1, n);\n"
    body += "    memcpy(arena, b, memcmp(b, b + 8, n) & 0);\n"
    image = Image.load(build(tmp_path, tools=tools, body=body, optimize="-O1").elf)
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB)
    inside = [f for f in image.functions if f.name.startswith(("mem", "__aeabi_mem"))]
    assert inside
    for function in inside:
        base, data = next((base, data) for base, data in image.segments if base <= function.address < base + len(data))
        for instruction in decoder.disasm(data[function.address - base : function.address - base + function.size], function.address):
            assert instruction.mnemonic not in ("bl", "blx"), (function.name, instruction)


def test_host_programs_are_sanitized(tmp_path):
    (tmp_path / "main.c").write_text("int main(int n, char **v) { int a[2] = {0}; (void)v; return a[n + 1]; }\n")
    try:
        program = build_host_program([tmp_path / "main.c"], tmp_path / "main")
    except BuildError as problem:
        if "san" in str(problem):
            pytest.skip("this computer's compiler has no sanitizers")
        raise
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "main.c" in done.stderr


def test_errors_of_the_host_compiler_are_shown(tmp_path):
    (tmp_path / "bad.c").write_text("int f(void) { return g(; }\n")
    with pytest.raises(BuildError, match=r"bad\.so: .* failed with exit code 1"):
        build_host_library([tmp_path / "bad.c"], tmp_path / "bad.so")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.c"]
