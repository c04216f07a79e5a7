"""Checks of names that end up in generated C and C++."""

import re

from tinykit.errors import ModelError

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
KEYWORDS = frozenset(
    "alignas alignof and asm auto bool break case catch char class const constexpr continue decltype default delete do double else "
    "enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not nullptr "
    "operator or private protected public register return short signed sizeof static struct switch template this throw true try "
    "typedef typeid typename union unsigned using virtual void volatile while xor".split()
)


def check_identifier(name: str) -> None:
    """Raises ModelError unless `name` can stand in a C or C++ identifier on its own: a letter, then letters, digits, single underscores."""
    if not _IDENTIFIER.fullmatch(name) or "__" in name or name in KEYWORDS:
        raise ModelError(f"name {name!r} cannot be used in C; expected a letter, then letters, digits or single '_', such as 'vww_96'")
