"""Pieces of C text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from textwrap import indent
from typing import Any

import numpy as np

_LINE = 24


def array(ctype: str, name: str, values: np.ndarray) -> str:
    """The definition of a constant array."""
    literal: Callable[[Any], str] = float_literal if values.dtype == np.float32 else _integer
    # line by line: a string for each of millions of weights would take twenty times the text
    lines = [", ".join(map(literal, values[i : i + _LINE].tolist())) for i in range(0, len(values), _LINE)]
    body = ",\n    ".join(lines)
    return f"static const {ctype} {name}[{len(values)}] = {{\n    {body}}};\n"


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


def filled(text: str, values: Mapping[str, object]) -> str:
    """Each @name@ replaced by its value, one name after the other."""
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def inserted(text: str, name: str, part: str) -> str:
    """Replaces each line `@name@` by lines with its indentation."""
    return re.sub(
        rf"^( *)@{re.escape(name)}@\n", lambda m: indent(part, m[1], lambda line: line.strip() != "" and line[0] != "#"), text, flags=re.M
    )
