"""Numbers as people read them."""

from typing import Any

from tinykit.config.sizes import format_size

NOT_MEASURED = "not measured"


def size(value: int | None) -> str:
    """'12.3 kB' for 12345 bytes; 'not measured' for None."""
    return NOT_MEASURED if value is None else format_size(value)


def count(value: int | None) -> str:
    """'1,234,567'; 'not measured' for None."""
    return NOT_MEASURED if value is None else f"{value:,}"


def macs(value: int | None) -> str:
    """'7.49 M' for 7490000 multiply-accumulates, '12.4 k', '512'."""
    if value is None:
        return NOT_MEASURED
    if value >= 10**6:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.1f} k" if value >= 10**4 else f"{value:,}"


def score(value: float | None, metric: str | None) -> str:
    """An accuracy as '98.67 %', another metric, such as an area under a curve, as '0.9867'."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.4f}" if metric == "auc" else f"{100 * value:.2f} %"


def seconds(value: float | None) -> str:
    """'4.2 s', '3 min 20 s', '2 h 5 min'."""
    if value is None:
        return NOT_MEASURED
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def percent(part: float, whole: float) -> str:
    """'12.5 %'; '0 %' of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def length(part: float, whole: float) -> str:
    """The length of a bar in CSS, of one that is as long as `whole`: '12.5%'."""
    return f"{100 * part / whole:.1f}%" if whole else "0%"


def short(name: str, length: int = 40) -> str:
    """A tensor's or op's name for a tight place: converters join names with ';', the first tells most; a long one loses its middle."""
    first = name.partition(";")[0] or name
    return first if len(first) <= length else f"{first[: length // 2 - 1]}…{first[-(length // 2) :]}"


def plain(value: Any) -> str:
    """A value of env.json or metrics.json as text; None is 'not known'."""
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
