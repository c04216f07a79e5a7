"""Pieces of C text."""

from __future__ import annotations

import re

import numpy as np

_LINE = 24


def array(ctype: str, name: str, values: np.ndarray) -> str:
    """The definition of a constant array."""
    if values.dtype == np.float32:
        items = [float_literal(float(v)) for v in values]
    else:
        items = [_integer(v) for v in values.tolist()]
    lines = [", ".join(items[i : i + _LINE]) for i in range(0, len(items), _LINE)]
    body = ",\n    ".join(lines)
    return f"static const {ctype} {name}[{len(items)}] = {{\n    {body}}};\n"


def _integer(value: int) -> str:
    # the literal -2147483648 is an expression of a wider type, which some compilers warn about
    return "-2147483647 - 1" if value == -(1 << 31) else str(value)


def float_literal(value: float) -> str:
    """A float32 as a C literal that reads back exactly."""
    text = repr(float(np.float32(value)))
    exact = np.float32(value).item().hex() if float(np.float32(text)) != float(np.float32(value)) else text
    return f"{exact}f"


def comment(text: str) -> str:
    """Text from a model's file that is safe inside a C comment: printable ASCII, no comment marks, at most 100 characters."""
    return re.sub(r"[^ -~]|/\*|\*/|\\", "?", text)[:100]
