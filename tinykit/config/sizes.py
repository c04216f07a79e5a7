"""Sizes in bytes as people write them: 1024, '256kB', '1 MB', '64KiB'."""

import re

_UNITS = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
MAX_BYTES = 2**40
_MAX_DIGITS = 100


def parse_size(value: object) -> int:
    """The number of bytes in `value`.

    Args:
        value: a whole number of bytes, or text such as '256kB'. kB and KB are 1000 bytes, MB is 1000000; KiB and MiB
            are 1024 and 1048576.

    Returns:
        Bytes, from 1 to 2**40.

    Raises:
        ValueError: not a size, not a whole number of bytes, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"expected a size in bytes such as 262144, 256kB, 1MB or 64KiB, got {value!r}")
    text = str(value).strip()
    match = _PATTERN.fullmatch(text)
    if match is None or match[2] not in _UNITS or len(match[1]) > _MAX_DIGITS:
        raise ValueError(f"expected a size in bytes such as 262144, 256kB, 1MB or 64KiB, got {value!r}")
    whole, _, fraction = match[1].partition(".")
    scale = 10 ** len(fraction)
    count, rest = divmod(int(whole + fraction) * _UNITS[match[2]], scale)
    if rest:
        raise ValueError(f"{value!r} is not a whole number of bytes")
    if not 1 <= count <= MAX_BYTES:
        raise ValueError(f"a size must be from 1 byte to {MAX_BYTES} bytes, got {value!r}")
    return count


def format_size(count: int | None) -> str:
    """`count` bytes for people, in units of 1000: 983040 is '983.0 kB', None is '-'."""
    if count is None:
        return "-"
    if count < 1000:
        return f"{count} B"
    if count < 10**6:
        return f"{count / 1000:.1f} kB"
    return f"{count / 10**6:.2f} MB"
