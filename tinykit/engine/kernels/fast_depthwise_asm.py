"""Inner loops of the fast depthwise kernel in Thumb-2 assembly, as one statement of inline assembly each.

r0 walks the plane, r1 the output. On entry r2 points at the channel's record and r3 at the shape: bytes from an output pixel to the next,
from an output row to the one that is made with it, bytes of the plane that whole steps take in a row, bytes from the end of an output row
to where the next step begins, steps downwards. What does not stay in registers lies on the stack, in an order in which one LDM brings what
the end of a step needs.
"""

from __future__ import annotations

_ENTER = """\
push {r4-r11}
sub sp, sp, #40
"""
_LEAVE = """\
add sp, sp, #40
pop {r4-r11}
"""
_SHIFT = 36


def requantised(registers: list[str], at: int, shift: int | None, clamp: tuple[int, int]) -> str:
    """Sums become outputs, in place; r12 and lr are overwritten. Multiplier and offset lie on the stack at `at`."""
    bits = (clamp[1] + 1).bit_length() - 1
    codes = clamp == (0, (1 << bits) - 1)
    limited = f"usat {{0}}, #{bits}, {{0}}" if codes else "ssat {0}, #8, {0}"
    if shift is None:
        lines = [f"ldrd r12, lr, [sp, #{at}]"]
        lines += [f"smmulr {r}, {r}, r12" for r in registers]
        lines.append(f"ldr r12, [sp, #{_SHIFT}]")
        for r in registers:
            lines += [f"add {r}, {r}, {r}, asr #31", f"add {r}, {r}, lr", f"asr {r}, {r}, r12", limited.format(r)]
    else:
        lines = [f"ldrd r12, lr, [sp, #{at}]"]
        lines += [f"smmla {r}, {r}, r12, lr" for r in registers]
        lines += [f"{limited.format(r)}, asr #{shift}" for r in registers]
    for r in () if codes else registers:
        for bound, end, condition in ((-128, clamp[0], "lt"), (127, clamp[1], "gt")):
            if end != bound:
                lines += [f"cmp {r}, #{end}", f"it {condition}", f"mov{condition} {r}, #{end}"]
    return "\n".join(lines) + "\n"


def _pair_row(row: int, offset: str, left_only: bool) -> str:
    """One row of the plane for the two output rows of a step of stride 1: r8, r9 above, r10, r11 below."""
    lines = [f"ldrd r12, lr, {offset}"]
    for output, weights in ((0, row), (1, row - 1)):
        if not 0 <= weights <= 2:
            continue
        a, b, left, right = f"r{2 + 2 * weights}", f"r{3 + 2 * weights}", f"r{8 + 2 * output}", f"r{9 + 2 * output}"
        start = "r11" if weights == 0 else ""
        lines += [f"smlad {left}, {a}, r12, {start or left}", f"smlatb {left}, {b}, lr, {left}"]
        if not left_only:
            lines += [f"smlabt {right}, {a}, r12, {start or right}", f"smlad {right}, {b}, lr, {right}"]
    return "\n".join(lines) + "\n"


def _pair_step(pitch: int, left_only: bool) -> str:
    """Two rows by two columns of sums, or by one."""
    offsets = [f"[r0, #{row * pitch}]" if left_only else f"[r0, #{row * pitch - 4}]" if row else "[r0], #4" for row in range(4)]
    return "ldr r11, [sp, #24]\n" + "".join(_pair_row(row, offset, left_only) for row, offset in enumerate(offsets))


# On the stack: end of the row, pixel, line, span, skip, count, sum that is begun with, multiplier, offset, shift.
_PAIRS_ENTER = """\
ldm r3, {r4-r8}
ldm r2!, {r9-r11}
add lr, sp, #4
stm lr, {r4-r11}
"""
_PAIRS_STORE = """\
strb r8, [r1]
ldm sp, {r8, r12, lr}
strb r9, [r1, r12]
strb r10, [r1, lr]
add r1, r1, r12
strb r11, [r1, lr]
add r1, r1, r12
cmp r0, r8
bne 2b
"""
_PAIRS_LAST = """\
ldrd r12, lr, [sp, #4]
strb r8, [r1]
strb r10, [r1, lr]
add r1, r1, r12
"""


def stride_1(pitch: int, shift: int | None, clamp: tuple[int, int], odd: bool) -> str:
    """Two output rows at a time, in steps of two columns; the last column alone where their number is odd."""
    text = _ENTER + _PAIRS_ENTER + _widened(shift, (("r2", "r3"), ("r4", "r5"), ("r6", "r7")))
    text += "".join(f"pkhbt {b}, {w1}, {b}, lsl #16\n" for b, w1 in (("r3", "r8"), ("r5", "r9"), ("r7", "r10")))
    text += "1:\nldr r8, [sp, #12]\nadd r8, r0, r8\nstr r8, [sp]\n2:\n"
    text += _pair_step(pitch, False) + requantised(["r8", "r9", "r10", "r11"], 28, shift, clamp) + _PAIRS_STORE
    if odd:
        text += _pair_step(pitch, True) + requantised(["r8", "r10"], 28, shift, clamp) + _PAIRS_LAST
    return text + _next_row(12, 2 * pitch) + _LEAVE


def _widened(shift: int | None, registers: tuple[tuple[str, str], ...]) -> str:
    """The record's rows of weights (w0, w1, w2, j): for each the pair (w0, w1) and w2, times 2^j; w1 stays in r8, r9 and r10."""
    text = "ldm r2, {r8-r10}\nlsr r12, r8, #24\nmov lr, #1\nlsl r12, lr, r12\n"
    if shift is None:  # a shift lies beside the second row
        text += f"lsr r11, r9, #24\nstr r11, [sp, #{_SHIFT}]\n"
    for row, (pair, third) in zip(("r8", "r9", "r10"), registers):
        text += f"sxtb16 lr, {row}\nsxtb16 {row}, {row}, ror #8\nsmulbb {pair}, lr, r12\nsmulbb {row}, {row}, r12\n"
        text += f"smultb {third}, lr, r12\npkhbt {pair}, {pair}, {row}, lsl #16\n"
    return text


def _next_row(at: int, step: int) -> str:
    """Span, skip and count lie on the stack at `at`."""
    text = f"ldrd r12, lr, [sp, #{at}]\nsub r0, r0, r12\nadd r0, r0, #{step}\nadd r1, r1, lr\n"
    return text + f"ldr r8, [sp, #{at + 8}]\nsubs r8, r8, #1\nstr r8, [sp, #{at + 8}]\nbne 1b\n"


def _row_step(pitch: int, last: bool) -> str:
    """Two outputs of a row with stride 2, or the last one: r8, r9; the words that a row begins with are in r7, r10 and r11."""
    text = ""
    for row, (kept, weights, third, half) in enumerate((("r7", "r2", "r5", "b"), ("r10", "r3", "r5", "t"), ("r11", "r4", "r6", "b"))):
        left, right = ("lr", "lr") if row == 0 else ("r8", "r9")
        offset = f"[r0, #{row * pitch}]" if last else f"[r0, #{row * pitch - 8}]" if row else "[r0], #8"
        text += f"smlad r8, {weights}, {kept}, {left}\n"
        text += f"ldr r12, {offset}\n" if last else f"ldrd r12, {kept}, {offset}\n"
        text += f"smla{half}b r8, {third}, r12, r8\n"
        if not last:
            text += f"smlad r9, {weights}, r12, {right}\nsmla{half}b r9, {third}, {kept}, r9\n"
    return text


# On the stack: end of the row, pixel, sum that is begun with, multiplier, offset, span, skip, count, -, shift.
_ROWS_ENTER = """\
ldrd r4, r8, [r3]
ldrd r9, r10, [r3, #8]
ldm r2!, {r5-r7}
add lr, sp, #4
stm lr, {r4-r10}
"""
_ROWS_STORE = """\
strb r8, [r1]
ldm sp, {r8, r12, lr}
strb r9, [r1, r12]
add r1, r1, r12, lsl #1
cmp r0, r8
bne 2b
"""


def stride_2(pitch: int, shift: int | None, clamp: tuple[int, int], odd: bool) -> str:
    """One output row at a time, in steps of two columns; the last column alone where their number is odd."""
    text = _ENTER + _ROWS_ENTER + _widened(shift, (("r2", "r5"), ("r3", "r7"), ("r4", "r6"))) + "pkhbt r5, r5, r7, lsl #16\n"
    text += f"1:\nldr r8, [sp, #20]\nldr lr, [sp, #8]\nldr r7, [r0], #4\nldr r10, [r0, #{pitch - 4}]\nldr r11, [r0, #{2 * pitch - 4}]\n"
    text += "add r8, r0, r8\nstr r8, [sp]\n2:\n"
    text += _row_step(pitch, False) + requantised(["r8", "r9"], 12, shift, clamp) + _ROWS_STORE
    if odd:
        text += _row_step(pitch, True) + requantised(["r8"], 12, shift, clamp) + "ldr r12, [sp, #4]\nstrb r8, [r1]\nadd r1, r1, r12\n"
    return text + _next_row(20, 2 * pitch - 4) + _LEAVE


def statement(text: str) -> str:
    """The assembly as a C statement that takes and steps `plane` and `result`, and takes `record` and `shape`."""
    lines = "".join(f'    "{part}\\n"\n' for part in text.splitlines())
    return f"""\
register const int8_t *r0 __asm__("r0") = plane;
register int8_t *r1 __asm__("r1") = result;
register const int32_t *r2 __asm__("r2") = record;
register const int32_t *r3 __asm__("r3") = shape;
__asm__ volatile(
{lines}    : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) : : "r12", "lr", "cc", "memory");
plane = r0;
result = r1;
"""
