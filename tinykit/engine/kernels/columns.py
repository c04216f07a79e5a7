"""How the windows of a convolution become columns of int16 quads: C text that widens one pixel's window, and the order of its elements.

A window is read run by run, a run being elements that lie side by side: a row of the window where taps are neighbours, else a tap. What is
left of the runs when they have been read four at a time follows at the end of the column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import indent

import numpy as np

from tinykit.engine.call import Argument, PadRow
from tinykit.engine.kernels.widen import Layout, filled
from tinykit.graph import ir
from tinykit.graph.windows import kernel_of

_SHORT_RUN = 64  # elements

_PIXEL = """\
            const int8_t *const source = in + @SOURCE@;
            quad = @WIDEN@(quad, source, depth / 4@SUM@);
            if (depth % 4) {
                uint32_t rest = 0;
                for (int32_t k = 0; k < depth % 4; ++k) {
                    rest |= (uint32_t)(uint8_t)source[depth / 4 * 4 + k] << 8 * k;
                }
                @WIDEN@(quad, (const int8_t *)&rest, 1@SUM@);
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
                    quad = @WIDEN@(quad, source, run / 4@SUM@);
"""
_REST_FIRST = """\
            int8_t *rest = buffer + rests;
@ZERO@"""
_REST_ZERO = "            tk_store32(buffer + rests + (run % 4 * RUNS - 1) / 4 * 4, 0);\n"
_REST_OF_RUN = """\
                    for (int32_t k = run / 4 * 4; k < run; ++k) {
                        *rest++ = source[k];
                    }
"""
_REST_LAST = """\
            if (run % 4) {
                @WIDEN@(quad, buffer + rests, (run % 4 * RUNS + 3) / 4@SUM@);
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

# ... or, where a tap is no number of quads, a copy of the row.
_EDGE_ROWS = """\
                TK_ROLLED
                for (int32_t i = 0; i < KERNEL_H; ++i) {
                    const int32_t r = row + i * dilation_h, line = in_w * depth;
                    int8_t *const edge = buffer + edges;
                    const int8_t *source = padding;
                    if ((uint32_t)r < (uint32_t)in_h) {
                        TK_ROLLED
                        for (int32_t k = 0; k < run; ++k) {
                            const int32_t at = left * depth + k;
                            edge[k] = (uint32_t)at < (uint32_t)line ? in[r * line + at] : padding[0];
                        }
                        source = edge;
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

    @property
    def special(self) -> bool:
        """Whether the text should know the depth: windows whose runs are short, or not of whole quads."""
        return self.padding is not None and (self.length % 4 > 0 or self.length <= _SHORT_RUN)

    @property
    def support(self) -> tuple[str, ...]:
        """Helpers that the text uses."""
        return ("tk_rolled",) if self.padding is not None else ()

    @property
    def order(self) -> np.ndarray:
        """[quads, 4]: which of the window's elements each element of a column is, -1 for none."""
        taps = np.arange(self.runs * self.length).reshape(self.runs, self.length)
        whole = self.length // 4 * 4
        rest = taps[:, whole:].ravel()
        return np.concatenate([taps[:, :whole].ravel(), rest, np.full(-len(rest) % 4, -1)]).reshape(-1, 4)

    def instructions(self, layout: Layout) -> float:
        """About how many a pixel takes."""
        return layout.instructions * len(self.order) + 2 * (self.length % 4 * self.runs) + 4 * self.runs + 12

    def _places(self, layout: Layout) -> tuple[int, int, int]:
        """Where behind the columns and sums lie what is left of runs, a run's copy, and the end."""
        rests = layout.bytes(len(self.order))
        if self.padding is None:
            return rests, rests, rests
        edges = rests + _words(self.length % 4 * self.runs)
        return rests, edges, edges + _words(self.length) * self.copied

    def scratch(self, layout: Layout) -> int:
        """Bytes of the buffer."""
        return self._places(layout)[2]

    def values(self, layout: Layout) -> dict[str, Argument]:
        """The text's integers."""
        if self.padding is None:
            return dict(self.shape)
        rests, edges, _ = self._places(layout)
        values = {"run": self.length, **({"rests": rests} if self.depth % 4 else {}), **({"edges": edges} if self.copied else {})}
        return {**self.shape, **values}

    def fill(self, layout: Layout, shared: bool) -> str:
        """The text for blocks of that layout.

        Args:
            shared: for a function that layers share, which knows no lengths.
        """
        seldom = f"{layout.name}_call"
        summed = bool(layout.sums)
        values = {"WIDEN": seldom if shared else layout.name, "SELDOM": seldom, "SUM": ", &total" * summed, "ZERO": _REST_ZERO * summed}
        return filled(self.text, values)


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
    return Columns("pointwise" + ("" if dense else "_strided"), depth, 1, depth, _PIXEL.replace("@SOURCE@", source), shape)


def _windows(op: ir.Conv2D, x: ir.Tensor, y: ir.Tensor) -> Columns:
    (kernel_h, kernel_w), (in_h, in_w, depth) = kernel_of(op), x.shape
    by_row = op.dilation[1] == 1 or kernel_w == 1
    runs, length = (kernel_h, kernel_w * depth) if by_row else (kernel_h * kernel_w, depth)
    copied = by_row and depth % 4 > 0
    step = "i * dilation_h * in_w * depth" if by_row else "(i / KERNEL_W * dilation_h * in_w + i % KERNEL_W * dilation_w) * depth"
    rests = depth % 4 > 0
    run = _RUN + _REST_OF_RUN * rests
    if copied:
        edge = _EDGE_ROWS.replace("@RUN@", run)
    else:
        edge = _EDGE_TAPS.replace("@RUN@", indent(_RUN.replace("run / 4", "depth / 4") if by_row else run, "    "))
    edge = edge.replace("@WIDEN@", "@SELDOM@")
    rolled = "                TK_ROLLED\n" * (length > _SHORT_RUN)
    text = _WINDOW.replace("@ROLLED@", rolled).replace("@STEP@", step).replace("@RUN@", run).replace("@EDGE@", edge)
    text = text.replace("@FIRST@", _REST_FIRST * rests).replace("@LAST@", _REST_LAST * rests)
    shape: dict[str, Argument] = {
        "in_h": in_h, "in_w": in_w, "depth": depth, "out_w": y.shape[1], "first_y": -op.padding[0], "first_x": -op.padding[2],
        "step_y": op.stride[0], "step_x": op.stride[1], "dilation_h": op.dilation[0], "dilation_w": op.dilation[1],
    }  # fmt: skip
    head = (
        f"    enum {{ KERNEL_H = {kernel_h}, KERNEL_W = {kernel_w}, RUNS = {runs} }};\n"
        "    const int32_t span_h = (KERNEL_H - 1) * dilation_h + 1, span_w = (KERNEL_W - 1) * dilation_w + 1;\n"
    )
    kind = ("" if by_row else "_taps") + ("_rests" if rests else "")
    return Columns(f"conv2d_{kernel_h}x{kernel_w}{kind}", depth, runs, length, text, shape, head, PadRow(x.zero_point, length), copied)
