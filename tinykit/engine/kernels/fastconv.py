"""Fast convolutions with weights of 8, 4 or 2 bits: pixels are widened into a column buffer block by block, then a routine of `blocks`,
`nibble_blocks`, `lane_blocks` or `short_blocks` computes all their channels.

A block has read its inputs before it writes, so that it may run in place. Blocks lie along the row-major order of the output's pixels; the
last may be shorter: its missing pixels are computed from whatever the buffer holds, and stored where another pixel's result replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function, Name, Place, Routine, Table, Variant
from tinykit.engine.ctext import filled
from tinykit.engine.kernels import columns, narrow_pairs, pairs
from tinykit.engine.kernels.common import IN, OUT, integers
from tinykit.engine.kernels.finish import Finish
from tinykit.engine.kernels.frame import BLOCK, Frame
from tinykit.engine.kernels.narrow import weight_format
from tinykit.engine.kernels.widen import Layout
from tinykit.engine.memory import is_packed
from tinykit.engine.requant import code_base
from tinykit.graph import ir
from tinykit.graph.windows import kernel_of

_SHORT_LINE, _LONG_LINE = 4, 8  # quads of a routine without passes: for any layer, for one where its code is worth it
_WORTH = 8  # instructions that a byte of code must save an inference
_SMALL = 512  # bytes of columns that need no smaller alternative
_WORDS = "const int32_t *"
Form = pairs.Bytes | narrow_pairs.Nibbles | narrow_pairs.Lanes | narrow_pairs.ShortLanes


@dataclass(frozen=True)
class Layer:
    """A convolution that the fast kernels cover, its arithmetic proved.

    Attributes:
        form: its channels, as the routines for its weights take them.
        columns: how its windows are read.
    """

    op: ir.Conv2D
    x: ir.Tensor
    y: ir.Tensor
    form: Form
    columns: columns.Columns

    @property
    def pixels(self) -> int:
        """Of the output."""
        return self.y.size // self.y.channels

    @property
    def pairs(self) -> int:
        """Of channels, of which an odd last one makes another."""
        return (self.y.channels + 1) // 2

    def scratch(self, layout: Layout) -> int:
        """Bytes of columns, and of a block's codes where the output is packed."""
        return self.columns.scratch(layout) + layout.pixels * self.y.channels * is_packed(self.y)


def variants(graph: ir.Graph, op: ir.Conv2D) -> list[Variant]:
    """Blocks of 3 or 4 pixels; of fewer too, where the columns of these are large."""
    layers = _layers(graph, op)
    if not layers:
        return []
    layer = min(layers, key=_price)
    single = access.pixels(graph, op, kernel_of(op), op.stride, op.dilation)
    found = []
    for count in layer.form.counts:
        scratch = layer.scratch(_block(layer, count).layout)
        call, part = partial(_call, layer, count), None
        if isinstance(layer.form, pairs.Bytes) and not is_packed(layer.y):  # codes are packed when all are known
            part = partial(_part, layer.form.last)
        again = _instructions(layer, count, pairs=0)
        found.append(Variant(access.grouped(single, count, scratch), call, _instructions(layer, count), part, again))
        if scratch <= _SMALL:
            break
    return found


def _layers(graph: ir.Graph, op: ir.Conv2D) -> list[Layer]:
    """The ways to compute a layer; none where the fast kernels do not cover it: a single channel, sums that are not proved."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if op.inputs[0] in graph.constants or not y.size:
        return []
    act_min, act_max, zero = (value - code_base(y) for value in (op.act_min, op.act_max, y.zero_point))
    if not (-128 <= act_min <= act_max <= 127 and -128 <= zero <= 127):
        return []
    source, finish, odd = columns.columns(op, x, y), Finish(act_min, act_max), weight_format(op).odd
    channels = pairs.prove(op, x, y, zeros=not odd)
    if channels is None:
        return []
    base = code_base(x)
    forms: tuple[Form | None, ...]
    if op.weight_bits == 8:
        forms = (pairs.bytes_form(channels, finish),)
    elif op.weight_bits == 4:
        forms = (narrow_pairs.nibbles(channels, finish),)
    else:
        limits = min(x.low, x.zero_point) - base, max(x.high, x.zero_point) - base
        lanes = channels, finish, limits, odd, source.order
        forms = (narrow_pairs.lanes(*lanes), narrow_pairs.short_lanes(*lanes) if len(source.order) <= _LONG_LINE else None)
    return [Layer(op, x, y, form, source) for form in forms if form is not None]


def _price(layer: Layer) -> float:
    """Instructions in its largest blocks, and what code of its own is worth."""
    count, quads = layer.form.counts[0], len(layer.columns.order)
    block = _block(layer, count)
    return _instructions(layer, count) + _WORTH * block.code_bytes * (quads > _SHORT_LINE and not block.stream)


def _block(layer: Layer, count: int) -> Frame:
    """The routine for blocks of `count` pixels."""
    quads = len(layer.columns.order)
    if isinstance(layer.form, narrow_pairs.ShortLanes):
        return layer.form.line(count, quads)
    line, stream = layer.form.line(count, quads), layer.form.stream(count, quads)
    if line is None or quads > _LONG_LINE:
        return stream
    saved = (stream.pair_instructions(quads) - line.pair_instructions(quads)) * layer.pairs * -(-layer.pixels // count)
    return line if quads <= _SHORT_LINE or saved >= _WORTH * line.code_bytes else stream


def _instructions(layer: Layer, count: int, pairs: int | None = None) -> float:
    """An estimate, for so many pairs of channels; None: for all of them."""
    block, quads = _block(layer, count), len(layer.columns.order)
    one: float = (layer.pairs if pairs is None else pairs) * block.pair_instructions(quads) + 30 + 25 * (layer.y.channels % 2)
    one += count * layer.columns.instructions(block.layout)
    return -(-layer.pixels // count) * one


_LOOP = """\
    enum { PIXELS = @PIXELS@ };
    tk_block block = {0, 0, 0, buffer, buffer + 8 * PIXELS * quads, skip, pairs, 0};
    for (int32_t first = first_block; (uint32_t)first < (uint32_t)pixels; first += block_step) {
        const int32_t count = pixels - first < PIXELS ? pixels - first : PIXELS;
        for (int32_t p = 0; p < count; ++p) {
            int8_t *quad = buffer + @STEP@ * p;
@FILL@        }
        block.second = count > 1 ? channels : 0;
        block.third = count > 2 ? 2 * channels : block.second;
@FOURTH@        block.out = @OUT@;
        block.pairs = pairs;
        routine(&block);
        if (odd) { /* the last channel with the one before it, which is computed once more */
            block.pairs = pairs + odd;
            block.out += channels - 2;
            routine(&block);
        }
@PACK@    }
"""
_PACK = "        tk_pack@BITS@(out, first * channels, buffer + codes, count * channels);\n"
_FOURTH = "        block.fourth = count > 3 ? 3 * channels : block.third;\n"
_TOTAL = "            uint32_t total = 0;\n"
_LAST = "            int32_t last = 0;\n"
_SUM = "            tk_store32(buffer + 8 * PIXELS * quads + 4 * (@PLACE@ + p), total * @FACTOR@u);\n"
_NEGATIVE = "            tk_store16(quad - 8 * PIXELS + 6, -(int32_t)total);\n"
_NEGATIVE_ALONE = "            tk_store32(quad - 4 * p, (0 - total) << 16);\n"
_NEGATIVE_WITH_LAST = "            tk_store32(quad - 4 * p, tk_pkhbt((uint32_t)(@DOUBLED@last), 0 - total - (uint32_t)last));\n"


def _loop(layer: Layer, layout: Layout, shared: bool) -> str:
    """The function's text."""
    fill = layer.columns.fill(layout, shared)
    if layout.sums:
        sums = [(str(i * layout.pixels), str(factor & 0xFFFFFFFF)) for i, factor in enumerate(layout.sums)]
        fill = _TOTAL + fill + "".join(_SUM.replace("@PLACE@", place).replace("@FACTOR@", factor) for place, factor in sums)
    elif layer.columns.last_alone(layout):
        fill = _TOTAL + _LAST + fill + _NEGATIVE_WITH_LAST.replace("@DOUBLED@", "2 * " * layout.doubled)
    elif layout.words:
        fill = _TOTAL + fill + (_NEGATIVE_ALONE if layout.single else _NEGATIVE)
    packed = is_packed(layer.y)
    values = {
        "PIXELS": str(layout.pixels), "STEP": str(layout.step), "FILL": fill, "FOURTH": _FOURTH * (layout.pixels > 3),
        "OUT": "buffer + codes" if packed else "out + first * channels", "PACK": _PACK.replace("@BITS@", str(layer.y.bits)) * packed,
    }  # fmt: skip
    return layer.columns.head + filled(_LOOP, values)


def _call(layer: Layer, count: int, reverse: bool) -> Call:
    """The kernel for blocks of `count` pixels."""
    block, source, channels = _block(layer, count), layer.columns, layer.y.channels
    layout, packed = block.layout, layer.form.pack(source.order)
    quads = layout.quads(len(source.order))
    values: dict[str, Argument] = {
        **source.values(layout), "pixels": layer.pixels, "channels": channels, "quads": quads, "skip": block.skip(quads),
        "first_block": (layer.pixels - 1) // count * count if reverse else 0, "block_step": -count if reverse else count,
    }  # fmt: skip
    shared = block.stream and not source.special  # little of these layers' time is left for anything but the routine
    if is_packed(layer.y):
        values["codes"] = source.scratch(layout)
    values["odd"] = len(packed) // layer.pairs * (layer.pairs - 1) if channels % 2 else 0
    body = _loop(layer, layout, shared)
    arguments: dict[str, Argument] = {
        "in": Place(layer.x.name), "out": Place(layer.y.name), "buffer": Place(None), "routine": Name(block.name),
        "pairs": Table("w", packed, layer.form.layout(len(packed) // layer.pairs)),
    }  # fmt: skip
    pointers = [(IN, "in"), (OUT, "out"), (OUT, "buffer"), ("tk_routine *", "routine"), (_WORDS, "pairs")]
    if source.padding is not None:
        arguments["padding"] = source.padding
        pointers.append((IN, "padding"))
    tag = layer.form.tag + f"_o{layer.y.bits}" * is_packed(layer.y)
    name = f"{source.name}_p{count}{tag}" + ("" if shared else f"_c{source.depth}")
    stores = ("tk_store16" if layout.words and not layout.single else "tk_load32",) * layout.summed
    stores += ("tk_pkhbt",) * source.last_alone(layout)
    support = (*source.support, *stores, *(f"tk_pack{layer.y.bits}",) * is_packed(layer.y))
    function = Function(name, (*pointers, *integers(values)), body, support)
    return Call(function, {**arguments, **values}, (BLOCK, block.routine(), *_helpers(layout, source.bits, body)))


def _part(mark: int, call: Call, first: int, last: int) -> Call:
    """The pairs of channels `first` to `last`, the last excluded, of channels that are bytes in the arena; of an odd number of them the
    last pair comes alone. `mark` is that of a last pair."""
    pairs_table, out, channels = call.arguments["pairs"], call.arguments["out"], call.arguments["channels"]
    if not (isinstance(pairs_table, Table) and pairs_table.layout and isinstance(out, Place) and isinstance(channels, int)):
        raise AssertionError(f"{call.function.name} has no records of channels")
    size = pairs_table.layout.record
    packed = pairs_table.values[first * size : last * size].copy()
    packed[-1] |= mark
    table = Table("w", packed, pairs_table.layout)
    own: dict[str, Argument] = {"pairs": table, "out": replace(out, offset=out.offset + min(2 * first, channels - 2)), "odd": 0}
    return replace(call, arguments={**call.arguments, **own})


def _helpers(layout: Layout, bits: int, body: str) -> list[Routine]:
    """What widens."""
    found = [layout.widen()] if bits == 8 else [layout.widen(), layout.gather(bits)]
    calls = [layout.widen_call()] if bits == 8 else [layout.widen_call(), layout.gather_call(bits)]
    return found + [call for call in calls if f"{call.name}(" in body]
