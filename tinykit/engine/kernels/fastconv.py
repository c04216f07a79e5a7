"""Fast int8 convolutions: blocks of pixels are widened into a column buffer, then `blocks` computes all their channels.

A block has read its inputs before it writes, so that it may run in place. Blocks lie along the row-major order of the output's pixels; the
last may be shorter: its missing pixels are computed from whatever the buffer holds, and stored where another pixel's result replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function, Name, Place, Table, Variant
from tinykit.engine.kernels import blocks, columns, pairs
from tinykit.engine.kernels.common import IN, OUT, integers
from tinykit.engine.memory import is_packed
from tinykit.graph import ir
from tinykit.graph.windows import kernel_of

_SHORT_LINE, _LONG_LINE = 4, 8  # quads of a routine without passes: for any layer, for one where its code is worth it
_STREAM = 16  # quads of a pass of the routine for all other lengths
_WORTH = 8  # instructions that a byte of code must save an inference
_SMALL = 512  # bytes of columns that need no smaller alternative
_WORDS = "const int32_t *"


@dataclass(frozen=True)
class Layer:
    """A convolution that the fast kernels cover, its arithmetic proved.

    Attributes:
        columns: how its windows are read.
    """

    op: ir.Conv2D
    x: ir.Tensor
    y: ir.Tensor
    channels: pairs.Channels
    columns: columns.Columns

    @property
    def pixels(self) -> int:
        """Of the output."""
        return self.y.size // self.y.channels

    @property
    def pairs(self) -> int:
        """Of channels, of which an odd last one makes another."""
        return (self.y.channels + 1) // 2


def variants(graph: ir.Graph, op: ir.Conv2D) -> list[Variant]:
    """Blocks of 3 pixels; of fewer too, where the columns of 3 are large."""
    layer = _layer(graph, op)
    if layer is None:
        return []
    single = access.pixels(graph, op, kernel_of(op), op.stride, op.dilation)
    found = []
    for count in (3, 2, 1):
        scratch = layer.columns.scratch(count)
        found.append(Variant(access.grouped(single, count, scratch), partial(_call, layer, count), _instructions(layer, count)))
        if scratch <= _SMALL:
            break
    return found


def _layer(graph: ir.Graph, op: ir.Conv2D) -> Layer | None:
    """The layer, None where the fast kernels do not cover it: packed operands, a single channel, sums that are not proved."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if is_packed(x) or is_packed(y) or op.weight_bits != 8 or op.inputs[0] in graph.constants or not y.size:
        return None
    if not (-128 <= op.act_min <= op.act_max <= 127 and -128 <= y.zero_point <= 127):
        return None
    channels = pairs.prove(op, x, y)
    return None if channels is None else Layer(op, x, y, channels, columns.columns(op, x, y))


def _block(layer: Layer, count: int) -> blocks.Block:
    """The routine for blocks of `count` pixels."""
    quads, op = len(layer.columns.order), layer.op
    line = blocks.Block(count, quads, False, layer.channels.split, op.act_min, op.act_max)
    stream = blocks.Block(count, _STREAM, True, layer.channels.split, op.act_min, op.act_max)
    saved = (stream.pair_instructions(quads) - line.pair_instructions(quads)) * layer.pairs * -(-layer.pixels // count)
    worth = quads <= _LONG_LINE and saved >= _WORTH * line.code_bytes
    return line if quads <= _SHORT_LINE or worth else stream


def _instructions(layer: Layer, count: int) -> float:
    """An estimate."""
    block = _block(layer, count)
    one = layer.pairs * block.pair_instructions(len(layer.columns.order)) + 30 + count * layer.columns.instructions
    return -(-layer.pixels // count) * one


_LOOP = """\
    enum { PIXELS = @PIXELS@ };
    tk_block block = {0, 0, 0, buffer, buffer + 8 * PIXELS * quads, skip, pairs};
    for (int32_t first = first_block; (uint32_t)first < (uint32_t)pixels; first += block_step) {
        const int32_t count = pixels - first < PIXELS ? pixels - first : PIXELS;
        for (int32_t p = 0; p < count; ++p) {
            int8_t *quad = buffer + 8 * p;
@FILL@        }
        block.second = count > 1 ? channels : 0;
        block.third = count > 2 ? 2 * channels : block.second;
        block.out = out + first * channels;
        block.pairs = pairs;
        routine(&block);
        if (odd) { /* the last channel with the one before it, which is computed once more */
            block.pairs = pairs + odd;
            block.out += channels - 2;
            routine(&block);
        }
    }
"""


def _call(layer: Layer, count: int, reverse: bool) -> Call:
    """The kernel for blocks of `count` pixels."""
    block, source, channels = _block(layer, count), layer.columns, layer.y.channels
    quads, packed = len(source.order), pairs.pack(layer.channels, layer.columns.order)
    values: dict[str, Argument] = {
        **source.values(count), "pixels": layer.pixels, "channels": channels, "quads": quads, "skip": block.skip(quads),
        "first_block": (layer.pixels - 1) // count * count if reverse else 0, "block_step": -count if reverse else count,
    }  # fmt: skip
    shared = block.stream and not source.special  # little of these layers' time is left for anything but the routine
    values["odd"] = len(packed) // layer.pairs * (layer.pairs - 1) if channels % 2 else 0
    body = source.head + _LOOP.replace("@PIXELS@", str(count)).replace("@FILL@", source.fill(count, shared))
    arguments: dict[str, Argument] = {
        "in": Place(layer.x.name), "out": Place(layer.y.name), "buffer": Place(None), "routine": Name(block.name),
        "pairs": Table("w", packed),
    }  # fmt: skip
    pointers = [(IN, "in"), (OUT, "out"), (OUT, "buffer"), ("tk_routine *", "routine"), (_WORDS, "pairs")]
    if source.padding is not None:
        arguments["padding"] = source.padding
        pointers.append((IN, "padding"))
    name = f"{source.name}_p{count}" + ("" if shared else f"_c{source.depth}")
    function = Function(name, (*pointers, *integers(values)), body, source.support)
    helpers = [columns.widen(count)] + [columns.widen_call(count)] * (columns.widen_call(count).name in body)
    return Call(function, {**arguments, **values}, (blocks.BLOCK, block.routine(), *helpers))
