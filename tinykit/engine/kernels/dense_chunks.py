"""Sums of four channels of a dense layer with inputs or weights of 4 or 2 bits: in assembly for cores with SMLAD, and the same in C.

Inputs are taken in chunks, as pairs of int16 that a mask or SXTB16 brings out of a word; the order of the weights follows from that. In
which form a pair's weights lie, and what is summed:

* 8 bits: a word for two channels, a lane holds a + 256 b. SMLAD on the word gives A + 256 B, on its lower bytes A (see `fast_dense`).
* 4 bits, inputs of 8: a word for all four, a lane holds (a + 8) + 16 (b + 8) + 256 (c + 8) + 4096 d. SMLAD on the word, on its lower 12, 8
  and 4 bits gives sums from whose differences all four follow. Where 4096 D might leave 32 bits, upper and lower bytes are summed apart.
* 4 bits with fewer of the inputs, and 2 bits: "turned". A word for two channels and several pairs; turned by some bits a pair and masked, a
  lane holds (a + 8) + 2^12 b, or (a + 2) + 2^14 b. In a chunk the sum of the one stays within the bits below the other, so that both can be
  told apart when it ends: four products an SMLAD.

What is added to weights is taken off again with the sum of the inputs, which is made once for a layer: in a block that has less than four
channels the last place has weights of 1, else before the blocks. Blocks go from the last to the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinykit.engine.ctext import filled
from tinykit.engine.kernels.narrow import WeightFormat
from tinykit.graph import ir

_SUMS = ("r10", "r11", "r12", "lr")
_MOST = 1 << 31


@dataclass(frozen=True)
class Chunk:
    """How a chunk of inputs meets its weights.

    Attributes:
        x_bits: of an input.
        form: of the weights.
        size: inputs.
        apart: sums that may be too large to share a word are made of fewer channels.
    """

    x_bits: int
    form: WeightFormat
    size: int
    apart: bool

    @property
    def turned(self) -> bool:
        """Whether two channels share a lane for the length of a chunk."""
        return self.form.bits == 2 or (self.form.bits == 4 and self.x_bits < 8)

    @property
    def x_bytes(self) -> int:
        """Bytes of its inputs, whole words."""
        return self.size * self.x_bits // 8

    @property
    def words(self) -> int:
        """Words of weights of four channels."""
        return self.size * self.form.bits // 8

    @property
    def tag(self) -> str:
        """Part of a function's name."""
        return f"{self.size}" + ("_apart" if self.apart else "")


def chunk(op: ir.FullyConnected, x: ir.Tensor, form: WeightFormat) -> Chunk | None:
    """The chunks of a layer; None where a sum might leave 32 bits."""
    depth, largest = op.weights[0].size, max(-x.low, x.high) if x.bits == 8 else (1 << x.bits) - 1
    size = 8 if x.bits > 2 and 0 < depth % 16 <= 8 and depth < 64 else 16
    most = largest * int(np.abs(op.weights.astype(np.int64)).reshape(len(op.weights), -1).sum(axis=1).max())
    if form.bits == 8:
        lanes = _blocks(op.weights, size)[:, 0::2] + 256 * _blocks(op.weights, size)[:, 1::2]
        return Chunk(x.bits, form, size, bool(256 * most >= _MOST or (lanes < -(1 << 15)).any() or (lanes >= 1 << 15).any()))
    codes = largest * (depth + size) * ((1 << form.bits) - 1)
    if 16 * codes >= _MOST:
        return None
    return Chunk(x.bits, form, size, form.bits == 4 and x.bits == 8 and (4096 * most >= _MOST or 256 * codes >= _MOST))


# ---------------------------------------------------------------- weights in flash


def _blocks(weights: np.ndarray, size: int) -> np.ndarray:
    """int64 [blocks, 4, depth]: zeros where channels fill no block, or elements no chunk. The last block comes first."""
    flat = weights.reshape(len(weights), -1).astype(np.int64)
    padded = np.zeros((-(-flat.shape[0] // 4) * 4, -(-flat.shape[1] // size) * size), np.int64)
    padded[: flat.shape[0], : flat.shape[1]] = flat
    return padded.reshape(-1, 4, padded.shape[1])[::-1]


def pack(weights: np.ndarray, made: Chunk) -> np.ndarray:
    """int32 words of all blocks of four channels: chunk by chunk, pair by pair."""
    blocks, each = _blocks(weights, made.size), 32 // made.x_bits
    if len(weights) % 4 and made.form.bits < 8:
        blocks[0, 3] = 3 if made.form.odd else 1  # 3 is 2 c + 1 for a c of 1
    # a word of inputs has pairs of elements p and p + each / 2
    pairs = blocks.reshape(*blocks.shape[:2], -1, 2, each // 2).swapaxes(-1, -2).reshape(*blocks.shape[:2], -1, 2)
    a, b, c, d = (pairs[:, n] for n in range(4))  # [blocks, pairs, 2]
    if made.form.bits == 8:
        lanes = np.stack([_bytes(a, b, made.apart), _bytes(c, d, made.apart)], axis=2)
        words = lanes[..., 0] | lanes[..., 1] << 16
    elif not made.turned:
        lanes = (a + 8) | (b + 8) << 4 | (c + 8) << 8 | (d & 15) << 12
        words = lanes[..., 0] | lanes[..., 1] << 16
    else:
        words = np.stack([_turned(first, second, made.form) for first, second in ((a, b), (c, d))], axis=2)
    return (words.reshape(-1) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def _bytes(a: np.ndarray, b: np.ndarray, apart: bool) -> np.ndarray:
    return ((a & 255) | (b & 255) << 8 if apart else a + 256 * b) & 0xFFFF


def _turned(a: np.ndarray, b: np.ndarray, form: WeightFormat) -> np.ndarray:
    """[blocks, pairs, 2] of two channels -> [blocks, words]; odd weights are 2 c + 1."""
    bits, each = form.bits, 8 // form.bits
    low, high = ((v >> 1 if form.odd else v) for v in (a, b))
    lanes = low + (1 << bits - 1) | (high & (1 << bits) - 1) << 16 - bits
    words = (lanes[..., 0] | lanes[..., 1] << 16).reshape(len(a), -1, each)
    turn = 2 * bits * np.arange(each)
    return (words << turn | words >> 32 - turn).sum(axis=-1) & 0xFFFFFFFF


# ---------------------------------------------------------------- assembly


def _inputs(made: Chunk) -> list[tuple[str, str]]:
    """The pairs of consecutive words of inputs: instructions, and the register that has a pair then. Uses r3 and r4, perhaps r5."""
    if made.x_bits == 8 and made.form.bits == 4 and not made.apart:
        first, second = ("ldm r0!, {r4, r5}\nsxtb16 r3, r4\n", "r3"), ("sxtb16 r4, r4, ror #8\n", "r4")
        return [first, second, ("sxtb16 r3, r5\n", "r3"), ("sxtb16 r5, r5, ror #8\n", "r5")]
    if made.x_bits == 8:
        return [("ldr r4, [r0], #4\nsxtb16 r3, r4\n", "r3"), ("sxtb16 r4, r4, ror #8\n", "r4")]
    mask = {4: "#0x000f000f", 2: "#0x00030003"}[made.x_bits]
    prepare = ["ldr r4, [r0], #4\n", *[f"lsr r4, r4, #{made.x_bits}\n"] * (16 // made.x_bits - 1)]
    return [(f"{text}and r3, r4, {mask}\n", "r3") for text in prepare]


def _products_8(x: str, pair: int, apart: bool) -> str:
    """One pair with two words of weights; those of two pairs are loaded together."""
    words = ("r6", "r7") if apart or pair % 2 == 0 else ("r8", "r9")
    text = "ldrd r6, r7, [r1], #8\n" if apart else "" if pair % 2 else "ldm r1!, {r6-r9}\n"
    for word, (first, second) in zip(words, (_SUMS[:2], _SUMS[2:])):
        if apart:
            text += f"sxtb16 r8, {word}\nsmlad {first}, r8, {x}, {first}\n"
            text += f"sxtb16 {word}, {word}, ror #8\nsmlad {second}, {word}, {x}, {second}\n"
        else:
            text += f"smlad {second}, {word}, {x}, {second}\nsxtb16 {word}, {word}\nsmlad {first}, {word}, {x}, {first}\n"
    return text


def _products_4(x: str, pair: int, apart: bool) -> str:
    """One pair with a word of weights; four of these are loaded together."""
    word = f"r{6 + pair % 4}"
    text = "ldm r1!, {r6-r9}\n" if pair % 4 == 0 else ""
    if apart:  # the upper bytes: C and C + 16 D
        text += f"sxtb16 r5, {word}, ror #8\nsmlad lr, r5, {x}, lr\nand r5, r5, #0x000f000f\nsmlad r12, r5, {x}, r12\n"
    else:
        text += f"smlad lr, {word}, {x}, lr\nbic {word}, {word}, #0xf000f000\nsmlad r12, {word}, {x}, r12\n"
    return text + f"uxtb16 {word}, {word}\nsmlad r11, {word}, {x}, r11\nand {word}, {word}, #0x000f000f\nsmlad r10, {word}, {x}, r10\n"


def _products_turned(x: str, pair: int, bits: int) -> str:
    """One pair with its part of two words; sums of the chunk in r8 and r9."""
    part = pair % (8 // bits)
    text = "ldrd r6, r7, [r1], #8\n" if part == 0 else ""
    for word, total in (("r6", "r8"), ("r7", "r9")):
        text += f"and r2, r5, {word}" + (f", ror #{2 * bits * part}" if part else "")
        text += f"\nsmuad {total}, r2, {x}\n" if pair == 0 else f"\nsmlad {total}, r2, {x}, {total}\n"
    return text


def _split(made: Chunk) -> str:
    """The sums of two channels each in r8 and r9 to those of the layer."""
    text, low, extract = "", 16 - made.form.bits, "sbfx" if made.x_bits == 8 else "ubfx"
    for total, first, second in (("r8", *_SUMS[:2]), ("r9", *_SUMS[2:])):
        text += f"{extract} r2, {total}, #0, #{low}\nadd {first}, {first}, r2\n"
        text += f"sub {total}, {total}, r2\nadd {second}, {second}, {total}, asr #{low}\n"
    return text


def _chunk_text(made: Chunk) -> Iterator[str]:
    pair = 0
    while pair < made.size // 2:
        for prepare, x in _inputs(made):
            yield prepare
            if made.form.bits == 8:
                yield _products_8(x, pair, made.apart)
            else:
                yield _products_turned(x, pair, made.form.bits) if made.turned else _products_4(x, pair, made.apart)
            pair += 1
    if made.turned:
        yield _split(made)


def assembly(made: Chunk) -> str:
    """A loop over chunks, one at least: r0 walks the inputs, r1 the weights, r2 counts, the sums lie where r3 points."""
    bits = made.form.bits
    half = (1 << bits) - 1 << 16 - bits | (1 << bits) - 1
    mask = f"movw r5, #{half}\nmovt r5, #{half}\n" if made.turned else ""
    count = "ldr r2, [sp]\nsubs r2, r2, #1\nstr r2, [sp]\n" if made.turned else "subs r2, r2, #1\n"  # r2 has another use there
    text = f"push {{r2-r11}}\nldm r3, {{r10, r11, r12, lr}}\n{mask}1:\n{''.join(_chunk_text(made))}{count}bne 1b\n"
    return text + "ldr r3, [sp, #4]\nstm r3, {r10, r11, r12, lr}\npop {r2-r11}\n"


# ---------------------------------------------------------------- C

_TWIN_8 = """\
const uint32_t word = (uint32_t)w[2 * pair + n / 2] >> lane;
sums[n] += (uint32_t)(v * (int8_t)word);
sums[n + 1] += (uint32_t)(v * @UPPER@);
"""

_TWIN_4 = """\
const int32_t word = (int16_t)((uint32_t)w[pair] >> lane), part = n ? @UPPER@ : word & 255;
sums[n] += (uint32_t)(v * (n ? @LOWER@ : word & 15));
sums[n + 1] += (uint32_t)(v * part);
"""

_TWIN_TURNED = """\
const uint32_t word = (uint32_t)w[pair / @EACH@ * 2 + n / 2], turn = @TURN@ * ((uint32_t)pair % @EACH@);
const int32_t both = (int16_t)((word >> turn | word << 1 << (31 - turn)) >> lane);
sums[n] += (uint32_t)(v * (both & @MASK@));
sums[n + 1] += (uint32_t)(v * (both >> @TOP@));
"""


def twin(made: Chunk) -> str:
    """C for two channels n and n + 1, an input `v`, its `pair` and `lane` (0 or 16), weights `w`."""
    if made.form.bits == 8:
        return _TWIN_8.replace("@UPPER@", "(int8_t)(word >> 8)" if made.apart else "(int16_t)word")
    if made.turned:
        bits = made.form.bits
        parts = {"EACH": 8 // bits, "TURN": 2 * bits, "MASK": (1 << bits) - 1, "TOP": 16 - bits}
        return filled(_TWIN_TURNED, parts)
    upper, lower = ("word >> 8", "(word >> 8 & 15)") if made.apart else ("word", "(word & 4095)")
    return _TWIN_4.replace("@UPPER@", upper).replace("@LOWER@", lower)


def told_apart(made: Chunk) -> str:
    """C that makes sums of single channels of those that channels share."""
    found: list[tuple[int, int, int]] = []
    if made.form.bits == 8 and not made.apart:
        found = [(3, 2, 8), (1, 0, 8)]
    elif made.form.bits == 4 and not made.turned:
        found = [(3, 2, 4), (1, 0, 4)] if made.apart else [(3, 2, 12), (2, 1, 8), (1, 0, 4)]
    return "".join(f"sums[{n}] = (uint32_t)((int32_t)(sums[{n}] - sums[{m}]) >> {shift});\n" for n, m, shift in found)


def corrected(made: Chunk, n: int) -> str:
    """C expression of the sum of channel n, with `total` for the sum of all inputs."""
    if made.form.bits == 8:
        return f"sums[{n}]"
    if not made.turned:
        return f"sums[{n}]" + (" - 8 * total" if n < 3 else "")
    if made.form.odd:
        return f"2 * sums[{n}]" + (" + total" if n % 2 else " - 3 * total")
    return f"sums[{n}]" + ("" if n % 2 else f" - {1 << made.form.bits - 1} * total")


def summed(made: Chunk) -> str:
    """C that adds the inputs of a word `x` to `total`: codes, or int8 of which each is 128 too large."""
    if made.x_bits == 8:
        return "total = tk_usada8(x ^ 0x80808080, total);\n"
    mask = "0x0f0f0f0f" if made.x_bits == 4 else "0x03030303"
    parts = [f"x >> {shift}" if shift else "x" for shift in range(0, 8, made.x_bits)]
    return "".join(f"total = tk_usada8({part} & {mask}, total);\n" for part in parts)
