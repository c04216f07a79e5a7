"""The one table of operations: for each, which parts of tinykit exist. `docs/ops.md` is generated from it:

python -m tinykit.graph.optable > docs/ops.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One operation of the graph.

    Attributes:
        kind: `ir.Op.kind`.
        reads: .tflite operators that the reader turns into it.
        writes: .tflite operators that the writer makes of it.
        training: the layer of `tinykit.quant` whose forward pass is this arithmetic; "" for none.
        reference: the reference executor runs it.
        portable_c, fast_c: the C engine has a portable kernel, a kernel for ARMv7E-M.
        limits: what is refused, in words.
    """

    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    training: str = ""
    reference: bool = True
    portable_c: bool = True
    fast_c: bool = False
    limits: str = ""


ROWS: tuple[Row, ...] = (
    Row(
        "conv2d",
        ("CONV_2D", "FULLY_CONNECTED", "TFLM_DECODE"),
        ("CONV_2D", "PAD", "TFLM_DECODE"),
        training="QConv2D",
        fast_c=True,
        limits="no groups; symmetric weights of 8, 4 or 2 bits",
    ),
    Row(
        "depthwise_conv2d",
        ("DEPTHWISE_CONV_2D", "TFLM_DECODE"),
        ("DEPTHWISE_CONV_2D", "PAD", "TFLM_DECODE"),
        training="QDepthwiseConv2D",
        fast_c=True,
        limits="symmetric weights of 8, 4 or 2 bits",
    ),
    Row(
        "fully_connected",
        ("FULLY_CONNECTED", "TFLM_DECODE"),
        ("FULLY_CONNECTED", "TFLM_DECODE"),
        training="QDense",
        fast_c=True,
        limits="INT4 only with one scale (TFLM)",
    ),
    Row("add", ("ADD",), ("ADD",), training="QAdd", fast_c=True),
    Row("sub", ("SUB",), ("SUB",), training="QSub", fast_c=True),
    Row("mul", ("MUL",), ("MUL",), training="QMul"),
    Row("concat", ("CONCATENATION",), ("CONCATENATION",), training="QConcat", limits="one scale; TFLM runs at most 10 operands"),
    Row(
        "average_pool", ("AVERAGE_POOL_2D",), ("AVERAGE_POOL_2D",), training="QAveragePool", fast_c=True, limits="SAME or VALID; one scale"
    ),
    Row("max_pool", ("MAX_POOL_2D",), ("MAX_POOL_2D",), training="QMaxPool", fast_c=True, limits="SAME or VALID; one scale"),
    Row("mean", ("MEAN",), ("MEAN",), training="QMean", fast_c=True, limits="not over the batch"),
    Row("pad", ("PAD", "PADV2"), ("PAD", "PADV2"), training="QPad", limits="not of the batch"),
    Row("reshape", ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), ("RESHAPE",), training="QReshape"),
    Row("transpose", ("TRANSPOSE",), ("TRANSPOSE",), training="QTranspose", limits="the batch stays in front"),
    Row(
        "table",
        ("LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "RELU", "RELU6", "RELU_N1_TO_1"),
        ("LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "RELU", "RELU6", "QUANTIZE"),
        training="QTable",
        limits="RELU6 is read with one scale only: TFLM's kernel ignores the output's",
    ),
    Row("softmax", ("SOFTMAX",), ("SOFTMAX",), training="QSoftmax", limits="last axis; output int8 of scale 1/256"),
    Row("minimum", ("MINIMUM",), ("MINIMUM",), training="QMinimum", limits="one scale"),
    Row("maximum", ("MAXIMUM",), ("MAXIMUM",), training="QMaximum", limits="one scale"),
    Row("requantize", ("QUANTIZE",), ("QUANTIZE",), training="QRequantize", limits="int8 to int8 in a .tflite"),
    Row("quantize", ("QUANTIZE",), ("QUANTIZE",), limits="float32 to int8 in a .tflite"),
    Row("dequantize", ("DEQUANTIZE",), ("DEQUANTIZE",), limits="int8 to float32 in a .tflite"),
    Row("strided_slice", ("STRIDED_SLICE",), ("STRIDED_SLICE",), training="QSlice", limits="no ellipsis, no new axis; not of the batch"),
    Row("argmax", ("ARG_MAX",), ("ARG_MAX",), limits="int32 result; not over the batch"),
)

_HEAD = """# Operations

Generated from `tinykit/graph/optable.py` by `python -m tinykit.graph.optable > docs/ops.md`. Activations are int8, or 4 or 2 bits: portable
C takes every operation at every mixture of the three, packed in RAM and flash; in a `.tflite` narrower ones ride in int8 tensors behind
MINIMUM and MAXIMUM, which any operation with a clamp may need when it is written. Weights of 2 bits become indices into a table, which
TFLM's custom operator TFLM_DECODE expands (LiteRT has none), where that makes the file smaller. All parts of one row give the same stored
integers.

"""


def markdown() -> str:
    """The table as a Markdown page."""
    columns = ("operation", "read from", "written as", "reference", "training layer", "portable C", "fast C", "limits")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in ROWS:
        cells = (
            f"`{row.kind}`",
            ", ".join(row.reads),
            ", ".join(row.writes),
            _mark(row.reference),
            f"`{row.training}`" if row.training else "-",
            _mark(row.portable_c),
            _mark(row.fast_c),
            row.limits,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return _HEAD + "\n".join(lines) + "\n"


def _mark(present: bool) -> str:
    return "yes" if present else "-"


if __name__ == "__main__":
    sys.stdout.write(markdown())
