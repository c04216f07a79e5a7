"""The instructions of ARMv7E-M as C functions: their twins against definitions in NumPy, and the instructions against their twins."""

import ctypes
import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from engine_host import STRICT, needs_cc, run_cc

from tinykit.engine import dsp

BOARDS = str(Path(__file__).parents[1] / "boards")
N = 20_000
MACROS = "#include <stdint.h>\n#include <string.h>\n#define TK_INLINE static inline __attribute__((unused))\n"
OPERANDS = {
    "smlad": 3, "smlabb": 3, "smlabt": 3, "smlatb": 3, "smlatt": 3, "sxtb16": 1, "sxtb16_ror8": 1, "sadd16": 2, "smmulr": 2, "smmlar": 3,
    "pkhbt": 2, "ssat8": 1,
}  # fmt: skip


def words(seed: int, count: int = N) -> np.ndarray:
    """int64 [3, count] of uint32: random, and every pair of corners first."""
    rng = np.random.default_rng(seed)
    corners = np.array([0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x80007FFF, 0x7F80807F, 127, 128])
    grid = np.stack(np.meshgrid(corners, corners, corners), -1).reshape(-1, 3).T
    return np.concatenate([grid, rng.integers(0, 1 << 32, (3, count - grid.shape[1]))], axis=1)


def signed(x: np.ndarray, bits: int = 32) -> np.ndarray:
    x = x & (1 << bits) - 1
    return np.where(x >> (bits - 1), x - (1 << bits), x)


def defined(name: str, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """What an instruction gives, by the Arm Architecture Reference Manual; uint32 in int64."""
    low, high = (lambda x: signed(x, 16)), (lambda x: signed(x >> 16, 16))
    half = {"b": low, "t": high}
    if name == "smlad":
        result = low(a) * low(b) + high(a) * high(b) + c
    elif name.startswith("smla"):
        result = half[name[4]](a) * half[name[5]](b) + c
    elif name.startswith("sxtb16"):
        x = a >> 8 if name.endswith("ror8") else a
        result = (signed(x, 8) & 0xFFFF) | (signed(x >> 16, 8) & 0xFFFF) << 16
    elif name == "sadd16":
        result = ((a + b) & 0xFFFF) | ((a >> 16) + (b >> 16)) << 16
    elif name in ("smmulr", "smmlar"):
        product = [(int(x) * int(y) + (1 << 31)) >> 32 for x, y in zip(signed(a), signed(b))]
        result = np.array(product, np.int64) + (c if name == "smmlar" else 0)
    elif name == "pkhbt":
        result = (a & 0xFFFF) | b << 16
    else:
        result = np.clip(signed(a), -128, 127)
    return result & 0xFFFFFFFF


def call(name: str) -> str:
    return f"tk_{name}({', '.join(f'{v}[i]' for v in 'abc'[: OPERANDS[name]])})"


def test_every_instruction_is_tested() -> None:
    assert {f"tk_{name}" for name in OPERANDS} | {"tk_dsp", "tk_lanes", "tk_load32"} == set(dsp.HELPERS)


@needs_cc
def test_twins(tmp_path, tally) -> None:
    body = "".join(
        f"void each_{n}(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out)\n"
        f"{{\n    for (int32_t i = 0; i < {N}; ++i) {{\n        (void)b, (void)c;\n        out[i] = (uint32_t){cast(n)};\n    }}\n}}\n"
        for n in OPERANDS
    )
    (tmp_path / "twins.c").write_text(MACROS + "\n".join(dsp.HELPERS.values()) + body)
    run_cc([*STRICT, "-O2", "-shared", "-fPIC", str(tmp_path / "twins.c"), "-o", str(tmp_path / "twins.so")])
    library = ctypes.CDLL(str(tmp_path / "twins.so"))
    values = words(1)
    arrays = [np.ascontiguousarray(v.astype(np.uint32)) for v in values]
    for name in OPERANDS:
        out = np.zeros(N, np.uint32)
        getattr(library, f"each_{name}")(*(v.ctypes.data_as(ctypes.c_void_p) for v in (*arrays, out)))
        wrong = int((out.astype(np.int64) != defined(name, *values)).sum())
        tally("instructions' twins vs definition", wrong, N)
        assert wrong == 0, name


def cast(name: str) -> str:
    """The call; operands that are int32 are given as such."""
    text = call(name)
    return re.sub(r"([abc]\[i\])", r"(int32_t)\1", text) if name in ("smmulr", "smmlar", "ssat8") else text


@pytest.mark.parametrize(
    "toolchain",
    [
        pytest.param("gcc", marks=pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")),
        pytest.param("zig", marks=pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed")),
    ],
)
def test_instructions_on_an_emulated_board(toolchain, tally, monkeypatch) -> None:
    """Each instruction beside its twin, on corners and pseudo-random words made on the board."""
    monkeypatch.syspath_prepend(BOARDS)
    from emulator_firmware import emulate

    rounds, twins = 3000, "\n".join(dsp.HELPERS.values())
    renamed = re.sub(r"\btk_", "twin_", twins.split("#endif\n", 2)[2]).replace("#if TK_DSP", "#if 0")
    checks = "".join(
        f"        wrong[{i}] += (uint32_t){cast(n)} != (uint32_t){cast(n).replace('tk_', 'twin_')};\n" for i, n in enumerate(OPERANDS)
    )
    corners = ", ".join(f"{v}u" for v in (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x80007FFF, 0x7F80807F))
    program = f"""#include <stddef.h>
void *memcpy(void *to, const void *from, size_t n);
#define TK_INLINE static inline __attribute__((unused))
{twins}{renamed}
#if !TK_DSP
#error "no instructions"
#endif
volatile uint32_t wrong[{len(OPERANDS)}], done_rounds;
static const uint32_t corners[10] = {{{corners}}};
static uint32_t state = 1;
static uint32_t next(void) {{ state = state * 1664525u + 1013904223u; return state; }}
static uint32_t word(void) {{ uint32_t x = next() >> 8; x ^= next() << 8; return x % 3 ? x : corners[x / 3 % 10]; }}
void *memcpy(void *to, const void *from, size_t n) {{ char *t = to; const char *f = from; while (n--) *t++ = *f++; return to; }}
void program(void) {{
    for (uint32_t n = 0; n < {rounds}; n++) {{
        const uint32_t a[1] = {{word()}}, b[1] = {{word()}}, c[1] = {{word()}};
        const int i = 0;
{checks}        done_rounds++;
    }}
    tk_bench_begin();
    tk_bench_end();
}}
"""
    board = emulate(program, "nano33ble", toolchain=toolchain)
    board.run_to("tk_bench_begin", 50_000_000)
    found = np.frombuffer(board.read(board.image.symbol("wrong").address, 4 * len(OPERANDS)), "<u4")
    assert int.from_bytes(board.read(board.image.symbol("done_rounds").address, 4), "little") == rounds
    tally(f"instructions vs twins, emulated nano33ble, {toolchain}", int(found.sum()), rounds * len(OPERANDS))
    assert not found.any(), dict(zip(OPERANDS, found))
