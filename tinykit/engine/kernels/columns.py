"""How the windows of a convolution become columns of int16 quads: C text that widens one pixel's window, and the order of its elements.

A window is read run by run, a run being elements that lie side by side: a row of the window where taps are neighbours, else a tap. What is
left of the runs when they have been read four at a time follows at the end of the column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import indent

import numpy as np

from tinykit.engine.access import element_bits
from tinykit.engine.call import Argument, PadRow
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.narrow import pad_row
from tinykit.engine.kernels.widen import Layout
from tinykit.graph import ir
from tinykit.graph.windows import kernel_of

_SHORT_RUN = 64  # elements

_PIXEL = """\
            const int8_t *const source = in + @SOURCE@;
            quad = @WIDEN@(quad, source, depth / 4@SUM@);
"""
_PIXEL_REST = """\
            if (depth % 4) {
                uint32_t rest = 0;
                for (int32_t k = 0; k < depth % 4; ++k) {
                    rest |= (uint32_t)(uint8_t)source[depth / 4 * 4 + k] << 8 * k;
                }
                @NEXT@@WIDEN@(quad, (const int8_t *)&rest, 1@SUM@);
            }
"""
_PIXEL_LAST = "            last = source[depth - 1];\n"

# Packed: positions are element numbers, groups of as many as a word has; what is left of a pixel becomes bytes.
_PACKED_PIXEL = """\
            const int32_t source = @SOURCE@;
            quad = @GATHER@(quad, in, source, depth / @GROUP@@SUM@);
            if (depth % @GROUP@) {
                int8_t rest[@GROUP@] = {0};
                uint32_t codes = depth * @BITS@ < 16 ? 0 : @REST@(in, source, depth, depth % @GROUP@);
                for (int32_t k = 0; k < depth % @GROUP@; ++k, codes >>= @BITS@) {
                    rest[k] = (int8_t)(depth * @BITS@ < 16 ? (uint32_t)@GET@(in, source + k) : codes & @MOST@);
                }
                @NEXT@@WIDEN@(quad, rest, (depth % @GROUP@ + @UP@) / 4@SUM@);
                @TAIL@ = rest[depth % @GROUP@ - 1];
            }
"""

_WINDOW = """\
            const int32_t row = (first + p) / out_w * step_y + first_y, left = (first + p) % out_w * step_x + first_x;
@FIRST@            if (row >= 0 && row + span_h <= in_h && left >= 0 && left + span_w <= in_w) {
                const int8_t *const window = in + (row * in_w + left) * depth;
@ROLLED@                for (int32_t i = 0; i < RUNS; ++i) {
                    const int8_t *const source = window + @STEP@;
@RUN@                }
            } else {
@EDGE@            }
@LAST@"""

_RUN = """\
                    quad = @WIDEN@(quad, source, run / @GROUP@@SUM@);
"""
_REST_FIRST = """\
            int8_t *rest = buffer + rests;
@ZERO@"""
_REST_ZERO = "            tk_store32(buffer + rests + (run % @GROUP@ * RUNS - 1) / 4 * 4, 0);\n"
_REST_OF_RUN = """\
                    for (int32_t k = run / @GROUP@ * @GROUP@; k < run; ++k) {
                        *rest++ = source[k];
                    }
"""
_REST_OF_WORD = """\
                    uint32_t codes = @REST@(from, source, run, run % @GROUP@);
                    for (int32_t k = 0; k < run % @GROUP@; ++k, codes >>= @BITS@) {
                        *rest++ = (int8_t)(codes & @MOST@);
                    }
"""
_REST_LAST = """\
            if (run % @GROUP@) {
                @NEXT@@WIDEN@(quad, buffer + rests, (run % @GROUP@ * RUNS + @UP@) / 4@SUM@);
                @TAIL@ = buffer[rests + run % @GROUP@ * RUNS - 1];
            }
"""

# At the edges: tap by tap, those outside read a row of zero points ...
_EDGE_TAPS = """\
                TK_ROLLED
                for (int32_t i = 0; i < KERNEL_H; ++i) {
                    const int32_t r = row + i * dilation_h;
                    TK_ROLLED
                    for (int32_t j = 0; j < KERNEL_W; ++j) {
                        const int32_t s = left + j * dilation_w;
                        const int inside = (uint32_t)r < (uint32_t)in_h && (uint32_t)s < (uint32_t)in_w;
                        const int8_t *const source = inside ? in + (r * in_w + s) * depth : padding;
@RUN@                    }
                }
"""

# ... or, where a tap is no number of quads, row by row: one that leaves the image at a side is a copy, with zero points beside it.
_EDGE_ROWS = """\
                TK_ROLLED
                for (int32_t i = 0; i < KERNEL_H; ++i) {
                    const int32_t r = row + i * dilation_h, line = in_w * depth, at = left * depth;
                    const int32_t begin = at < 0 ? -at : 0, end = line - at < run ? line - at : run;
                    const int8_t *source = padding;
                    if ((uint32_t)r < (uint32_t)in_h && begin < end) {
                        source = in + (r * line + at + begin);
                        if (end - begin < run) {
                            int8_t *const edge = buffer + edges;
                            tk_copy_bytes(edge, padding, run);
                            tk_copy_bytes(edge + begin, source, end - begin);
                            source = edge;
                        }
                    }
@RUN@                }
"""


@dataclass(frozen=True)
class Columns:
    """How the windows of a layer are read: `runs` runs of `length` elements.

    Attributes:
        name: of the kernel.
        depth: channels of the input.
        head: declarations in front of all others.
        text: statements that widen the window of output pixel `first + p` to `quad`.
        shape: integers that the text uses.
        padding: what taps outside the input read, None where there are none.
        copied: runs at the edges are copied.
        bits: of an element of the input.
    """

    name: str
    depth: int
    runs: int
    length: int
    text: str
    shape: Mapping[str, Argument]
    head: str = ""
    padding: PadRow | None = None
    copied: bool = False
    bits: int = 8

    @property
    def group(self) -> int:
        """Elements that are widened at once, those of a word."""
        return 32 // self.bits

    @property
    def _rest(self) -> int:
        """Elements of a run that are left of its groups."""
        return self.length % self.group

    @property
    def special(self) -> bool:
        """Whether the text should know the depth: windows whose runs are short, or not of whole quads."""
        return self.padding is not None and (self._rest > 0 or self.length <= _SHORT_RUN)

    @property
    def support(self) -> tuple[str, ...]:
        """Helpers that the text uses."""
        return ("tk_rolled",) * (self.padding is not None) + ("tk_copy_bytes",) * self.copied + self._reading

    @property
    def _reading(self) -> tuple[str, ...]:
        """Helpers that read packed elements."""
        return () if self.bits == 8 else (f"tk_get{self.bits}", f"tk_rest{self.bits}")

    @property
    def order(self) -> np.ndarray:
        """[quads, 4]: which of the window's elements each element of a column is, -1 for none."""
        taps = np.arange(self.runs * self.length).reshape(self.runs, self.length)
        groups = taps[:, : self.length - self._rest].reshape(
            -1, 2, self.group // 4, 2
        )  # a lane holds an element and the one half a word on
        rest = taps[:, self.length - self._rest :].ravel()
        return np.concatenate([groups.transpose(0, 2, 1, 3).ravel(), rest, np.full(-len(rest) % 4, -1)]).reshape(-1, 4)

    def last_alone(self, layout: Layout) -> bool:
        """Whether the last element is in no quad, but in a word with the column's sum."""
        return layout.single and self.runs * self.length % 4 == 1

    def instructions(self, layout: Layout) -> float:
        """About how many a pixel takes."""
        quads = layout.quads(len(self.order)) if layout.words else len(self.order)
        rests = (2 if self.bits == 8 else 4) * (self._rest * self.runs)
        return layout.instructions * quads + 2 * self.last_alone(layout) + rests + 7 * self.runs + 12

    def _places(self, layout: Layout) -> tuple[int, int, int]:
        """Where behind the columns and sums lie what is left of runs, a run's copy, and the end."""
        rests = layout.bytes(len(self.order))
        if self.padding is None:
            return rests, rests, rests
        edges = rests + _words(self._rest * self.runs)
        return rests, edges, edges + _words(self.length) * self.copied

    def scratch(self, layout: Layout) -> int:
        """Bytes of the buffer."""
        return self._places(layout)[2]

    def values(self, layout: Layout) -> dict[str, Argument]:
        """The text's integers."""
        if self.padding is None:
            return dict(self.shape)
        rests, edges, _ = self._places(layout)
        values = {"run": self.length, **({"rests": rests} if self.depth % self.group else {}), **({"edges": edges} if self.copied else {})}
        return {**self.shape, **values}

    def fill(self, layout: Layout, shared: bool) -> str:
        """The text for blocks of that layout.

        Where the last element is alone (`last_alone`) it becomes `last`, and is added to no sum.

        Args:
            shared: for a function that layers share, which knows no lengths.
        """
        tail, alone = "_call" * shared, self.last_alone(layout)
        gather = layout.gather_name(self.bits)
        values = {
            "WIDEN": layout.name + tail, "SELDOM": f"{layout.name}_call", "GATHER": gather + tail, "GATHER_CALL": f"{gather}_call",
            "SUM": ", &total" * layout.summed, "ZERO": _REST_ZERO * layout.summed, "GET": f"tk_get{self.bits}", "GROUP": str(self.group),
            "REST": f"tk_rest{self.bits}", "BITS": str(self.bits), "MOST": str((1 << self.bits) - 1),
            "NEXT": "quad = " * (layout.words > 0), "UP": "2" if alone else "3", "TAIL": "last",
        }  # fmt: skip
        text = self.text.replace(_PIXEL_REST, _PIXEL_LAST) if alone else re.sub(r" *@TAIL@.*\n", "", self.text)
        return filled(text, values)


def _words(count: int) -> int:
    return -(-count // 4) * 4


def columns(op: ir.Conv2D, x: ir.Tensor, y: ir.Tensor) -> Columns:
    """How the windows of `op` are read."""
    return _pixels(op, x, y) if kernel_of(op) == (1, 1) and not any(op.padding) else _windows(op, x, y)


def _pixels(op: ir.Conv2D, x: ir.Tensor, y: ir.Tensor) -> Columns:
    """A window of one tap that always lies inside."""
    depth, dense = x.channels, op.stride == (1, 1)
    source = "(first + p) * depth" if dense else "(first + p) / out_w * line + (first + p) % out_w * step"
    shape: dict[str, Argument] = {"depth": depth}
    if not dense:
        shape |= {"out_w": y.shape[1], "line": op.stride[0] * x.shape[1] * depth, "step": op.stride[1] * depth}
    name, bits = "pointwise" + "_strided" * (not dense), element_bits(x)
    text = (_PIXEL + _PIXEL_REST if bits == 8 else _PACKED_PIXEL).replace("@SOURCE@", source)
    return Columns(name + _tag(bits), depth, 1, depth, text, shape, bits=bits)


def _tag(bits: int) -> str:
    return "" if bits == 8 else f"_i{bits}"


def _windows(op: ir.Conv2D, x: ir.Tensor, y: ir.Tensor) -> Columns:
    (kernel_h, kernel_w), (in_h, in_w, depth), bits = kernel_of(op), x.shape, element_bits(x)
    rests = depth % (32 // bits) > 0
    by_row = (op.dilation[1] == 1 or kernel_w == 1) and (bits == 8 or not rests)
    runs, length = (kernel_h, kernel_w * depth) if by_row else (kernel_h * kernel_w, depth)
    copied = by_row and rests
    step = "i * dilation_h * in_w * depth" if by_row else "(i / KERNEL_W * dilation_h * in_w + i % KERNEL_W * dilation_w) * depth"
    run = _RUN + (_REST_OF_WORD if bits < 8 and length * bits >= 16 else _REST_OF_RUN) * rests
    if copied:
        edge = _EDGE_ROWS.replace("@RUN@", run)
    else:
        edge = _EDGE_TAPS.replace("@RUN@", indent(_RUN.replace("run / @GROUP@", "depth / @GROUP@") if by_row else run, "    "))
    edge = edge.replace("@WIDEN@", "@SELDOM@")
    rolled = "                TK_ROLLED\n" * (length > _SHORT_RUN)
    text = _WINDOW.replace("@ROLLED@", rolled).replace("@STEP@", step).replace("@RUN@", run).replace("@EDGE@", edge)
    text = text.replace("@FIRST@", _REST_FIRST * rests).replace("@LAST@", _REST_LAST * rests)
    text = text if bits == 8 else _packed(text)
    shape: dict[str, Argument] = {
        "in_h": in_h, "in_w": in_w, "depth": depth, "out_w": y.shape[1], "first_y": -op.padding[0], "first_x": -op.padding[2],
        "step_y": op.stride[0], "step_x": op.stride[1], "dilation_h": op.dilation[0], "dilation_w": op.dilation[1],
    }  # fmt: skip
    head = (
        f"    enum {{ KERNEL_H = {kernel_h}, KERNEL_W = {kernel_w}, RUNS = {runs} }};\n"
        "    const int32_t span_h = (KERNEL_H - 1) * dilation_h + 1, span_w = (KERNEL_W - 1) * dilation_w + 1;\n"
    )
    kind = ("" if by_row else "_taps") + ("_rests" if rests else "")
    name = f"conv2d_{kernel_h}x{kernel_w}{kind}{_tag(bits)}"
    return Columns(name, depth, runs, length, text, shape, head, pad_row(op, x, length), copied, bits)


def _packed(text: str) -> str:
    """The text of windows with element numbers for pointers: `source` is one of `from`."""
    text = text.replace("const int8_t *const window = in + (row", "const int32_t window = (row")
    text = text.replace(
        "const int8_t *const source = window", "const int8_t *const from = in;\n                    const int32_t source = window"
    )
    tap = "const int8_t *const source = inside ? in + (r * in_w + s) * depth : padding;\n"
    number = "const int32_t source = inside ? (r * in_w + s) * depth : 0;\n"
    text = text.replace(tap, "const int8_t *const from = inside ? in : padding;\n" + " " * 24 + number)
    for widen, gather in (("@WIDEN@", "@GATHER@"), ("@SELDOM@", "@GATHER_CALL@")):
        text = text.replace(f"{widen}(quad, source", f"{gather}(quad, from, source")
    return text.replace("source[k]", "(int8_t)@GET@(from, source + k)")
