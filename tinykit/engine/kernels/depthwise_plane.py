"""What the depthwise kernels that work on planes share: the numbers, the memory, and how rows of channels are gathered.

A channel's rows are gathered from HWC into a plane of int16 in the scratch, with padding as zero points, so that a load brings pairs of
neighbours and nothing is unpacked. A plane holds a band of rows; those that the next band needs too are moved to its top. The results go
back to HWC, into the very bytes that were gathered where output and input share their memory: no output pixel lies behind the last input
row that is in the plane by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinykit.engine import access, line
from tinykit.engine.call import Call, Variant
from tinykit.engine.kernels.narrow import WeightFormat
from tinykit.engine.requant import accumulator_bound
from tinykit.graph import costs, ir
from tinykit.graph.plan.problem import Access

# ---------------------------------------------------------------- memory


@dataclass(frozen=True)
class Window:
    """A layer's geometry, from which bands follow.

    Attributes:
        in_h, in_w, channels: of the input.
        out_h, out_w: of the output.
        stride: from row to row.
        reach: rows of the input under one output row.
        pad_top: rows of padding above.
        begin: first output row; -1 where a row that does not exist makes their number even.
        step: output rows that are made together; bands are multiples of it.
        pitch: bytes from one row of a plane to the next.
        start: instructions that a band of a channel begins with, about.
    """

    in_h: int
    in_w: int
    channels: int
    out_h: int
    out_w: int
    stride: int
    reach: int
    pad_top: int
    begin: int
    step: int
    pitch: int
    start: int


@dataclass(frozen=True)
class Bands:
    """How a layer is cut.

    Attributes:
        band: output rows at a time.
        rows: of a plane.
        together: channels that are gathered at once, each into a plane of its own.
        in_place: output pixels never overtake the input rows that are still to be gathered.
        scratch: bytes of all planes.
    """

    band: int
    rows: int
    together: int
    in_place: bool
    scratch: int


def rates(x_bits: int, y_bits: int) -> dict[int, tuple[float, float]]:
    """Instructions that a value costs when it is gathered, and a result when it is stored besides, for channels together."""
    found = {4: (1.7, 0.0), 2: (2.1, 0.0), 1: (2.6, 0.0)}
    if x_bits < 8:
        found = {4: (2.0, 0.0), 2: (3.0, 0.0), 1: (6.0, 0.0)}
    if y_bits < 8:
        found = {n: (found[n][0], 1.5 if n * y_bits >= 8 else 9.0) for n in found}
    return found


def bands(window: Window, room: int, rate: Mapping[int, tuple[float, float]]) -> Bands:
    """All rows at once if they fit into `room` bytes, else as many as fit; at least those of one step."""
    height, choices = window.out_h - window.begin, []
    for together in [n for n in (4, 2, 1) if n <= window.channels]:
        most = (room // (together * window.pitch) - window.reach) // window.stride + 1
        band = max(window.step, min(most // window.step * window.step, height))
        rows = (band - 1) * window.stride + window.reach
        # instructions a channel: a value that is gathered, a band's start, rows that are moved within the plane
        moved = max(0, window.reach - window.stride) * window.pitch * 0.3
        cost = (
            rate[together][0] * window.in_h * window.in_w
            + rate[together][1] * window.out_h * window.out_w
            + -(-height // band) * (window.start + moved)
        )
        scratch = together * rows * window.pitch
        choices.append((scratch if scratch > room else 0, cost, Bands(band, rows, together, _in_place(window, band), scratch)))
    return min(choices, key=lambda choice: choice[:2])[2]


def room_of(graph: ir.Graph, op: ir.DepthwiseConv2D) -> int:
    """Bytes that a scratch may take: what others need more than this, or one for ten elements of the largest tensor, up to 1000."""
    largest = max(access.tensor_bytes(t) for t in graph.activations())
    own = max(access.tensor_bytes(graph.tensors[t]) for t in (op.inputs[0], op.output))
    return max(256, min(1000, max(t.size for t in graph.activations()) // 10), min(largest - own, largest // 4))


def _whole_access(graph: ir.Graph, op: ir.DepthwiseConv2D, cut: Bands) -> Access:
    """All at once, in place where the plane runs ahead of the results."""
    found = access.whole(graph, op)
    return replace(found, in_place=frozenset(found.reads if cut.in_place else ()), scratch=cut.scratch)


def _in_place(window: Window, band: int) -> bool:
    for start in range(window.begin, window.out_h, band):
        end = min(start + band, window.out_h)
        gathered = max(0, (end - 1) * window.stride + window.reach - window.pad_top)
        if end * window.out_w > gathered * window.in_w and gathered < window.in_h:
            return False
    return True


# ---------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Scaling:
    """How sums become outputs: on a line, or by the multiplier and a shift of each channel, rounded twice.

    Attributes:
        shift: S of the line; None: rounded twice.
        power, multiplier, offset, right: a channel each.
    """

    shift: int | None
    power: np.ndarray
    multiplier: np.ndarray
    offset: np.ndarray
    right: np.ndarray


def scaling(op: ir.DepthwiseConv2D, x: ir.Tensor, y: ir.Tensor) -> Scaling | None:
    """The cheaper of the two that is exact for all inputs, None if neither is."""
    widest = np.abs(op.weights.astype(np.int64)).max(axis=(0, 1))
    most_power = 15 - np.ceil(np.log2(widest + 1)).astype(np.int64)  # w * 2^j within int16
    found = line.steps(op, x, y)
    chosen = None if found is None else line.fit(found, most_power)
    zeros = np.zeros(len(op.bias), np.int64)
    if chosen is not None:
        return Scaling(chosen.shift, chosen.power, chosen.multiplier, chosen.offset, zeros)
    right = np.where(op.multiplier == 0, 1, -op.shift.astype(np.int64))
    if op.rounding != ir.Rounding.DOUBLE or int(accumulator_bound(op, x).max()) >= 1 << 30 or not 1 <= right.min() <= right.max() <= 22:
        return None
    return Scaling(None, zeros + 1, op.multiplier.astype(np.int64), (1 << right >> 1) + (y.zero_point << right), right)


# ---------------------------------------------------------------- layers


@dataclass(frozen=True)
class Layer:
    """A layer that runs on planes.

    Attributes:
        op, x, y: the operation, its input and its output; those of packed tensors in terms of their codes.
        form: how its weights lie in flash.
        scale: of its sums.
        window, cut: how it is worked on.
    """

    op: ir.DepthwiseConv2D
    x: ir.Tensor
    y: ir.Tensor
    form: WeightFormat
    scale: Scaling
    window: Window
    cut: Bands

    @property
    def tag(self) -> str:
        """Part of a function's name: the widths of input, weights and output where one is not 8."""
        widths = (self.x.bits, self.form.bits, self.y.bits)
        return "" if widths == (8, 8, 8) else f"i{widths[0]}{self.form.tag}o{widths[2]}_"


def variant(graph: ir.Graph, layer: Layer, make: Callable[[], Call], rate: float) -> Variant:
    """A layer's kernel, with about `rate` instructions a product. Planes are worked on in one direction only."""
    in_place = layer.cut.in_place and layer.x.bits == layer.y.bits
    access = _whole_access(graph, layer.op, replace(layer.cut, in_place=in_place))
    return Variant(access, lambda reverse: make(), rate * costs.op_macs(graph, layer.op))


# ---------------------------------------------------------------- text

# STRIDE, REACH and PITCH are constants or parameters, TOGETHER is a constant; @ROWS@ makes the rows of one channel from `plane`.
BODY = """\
    const int32_t size = rows * PITCH, line = @WIDTH@ * out_w;
    const uint32_t zeros = tk_pkhbt((uint32_t)zero, (uint32_t)zero);
    TK_ROLLED
    for (int32_t i = 0; i < TOGETHER * size; i += 4) {
        tk_store32(scratch + i, zeros);
    }
    for (int32_t done = 0; done < channels; done += TOGETHER) {
        /* the last channels are gathered with some before them, whose bytes may hold results already */
        const int32_t first = done + TOGETHER < channels ? done : channels - TOGETHER;
        int32_t kept = 0, row = begin * STRIDE - pad_top;
        for (int32_t y = begin; y < out_h; y += band) {
            const int32_t count = out_h - y < band ? out_h - y : band, needed = (count - 1) * STRIDE + REACH;
            for (int32_t n = 0; n < (kept ? TOGETHER * size : 0); n += size) {
                tk_copy_words(scratch + n, scratch + n + band * STRIDE * PITCH, kept * PITCH / 4);
            }
            for (int8_t *to = scratch + kept * PITCH, *const end = scratch + needed * PITCH; to < end; to += PITCH, ++row) {
                if ((uint32_t)row >= (uint32_t)in_h) {
                    for (int32_t n = 0; n < (moving ? TOGETHER * size : 0); n += size) {
                        for (int32_t i = 0; i < PITCH; i += 4) {
                            tk_store32(to + n + i, zeros);
                        }
                    }
                    continue;
                }
                @PADDING@
                int8_t *at = to + 2 * pad_left;
                int32_t x = taken;
                @GATHER@
            }
            kept = REACH - STRIDE;
            if (kept < 0) {
                row -= kept, kept = 0;
            }
            for (int32_t n = done - first; n < TOGETHER; ++n) {
                const int8_t *plane = scratch + n * size;
                @ROWS@
            }
            @ENCODE@
        }
    }
"""


_SINGLE = "".join(f"    tk_store16(at + {n} * size, from[{n}]);\n" for n in range(4))
_FROM = "const int8_t *from = in + row * in_w * channels + first;\n"
GATHER = {
    4: f"""\
{_FROM}if (pad_left & 1) {{
{_SINGLE}    from += channels, at += 2, --x;
}}
for (; x >= 2; x -= 2, from += 2 * channels, at += 4) {{
    const uint32_t a = tk_load32(from), b = tk_load32(from + channels), low = tk_pkhbt(a, b), high = tk_pkhtb(a, b);
    tk_store32(at, tk_sxtb16(low));
    tk_store32(at + size, tk_sxtb16_ror8(low));
    tk_store32(at + 2 * size, tk_sxtb16(high));
    tk_store32(at + 3 * size, tk_sxtb16_ror8(high));
}}
if (x) {{
{_SINGLE}}}
""",
    2: _FROM
    + """\
if (pad_left & 1) {
    tk_store16(at, from[0]);
    tk_store16(at + size, from[1]);
    from += channels, at += 2, --x;
}
for (; x >= 2; x -= 2, from += 2 * channels, at += 4) {
    const uint32_t both = tk_pkhbt(tk_load16(from), tk_load16(from + channels));
    tk_store32(at, tk_sxtb16(both));
    tk_store32(at + size, tk_sxtb16_ror8(both));
}
if (x) {
    tk_store16(at, from[0]);
    tk_store16(at + size, from[1]);
}
""",
    1: _FROM
    + """\
for (; x > 0; --x, from += channels, at += 2) {
    tk_store16(at, from[0]);
}
""",
}
GATHER_SUPPORT = {
    4: ("tk_store16", "tk_sxtb16", "tk_sxtb16_ror8", "tk_pkhtb"),
    2: ("tk_load16", "tk_store16", "tk_sxtb16", "tk_sxtb16_ror8"),
    1: ("tk_store16",),
}
BODY_SUPPORT = ("tk_pkhbt", "tk_store32", "tk_rolled", "tk_copy_words")
