"""layers.csv: one line an op."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLUMNS = (
    "name", "kind", "input_shape", "output_shape", "macs", "weight_bits", "activation_bits", "weight_bytes", "bias_bytes", "quant_bytes",
    "live_bytes",
)  # fmt: skip
"""Columns of layers.csv, in order: the attributes of `tinykit.graph.costs.LayerRow`."""


def layers_csv(rows: Iterable[Any], columns: Sequence[str] = COLUMNS) -> str:
    """The text of layers.csv, with a line of headings.

    Args:
        rows: `tinykit.graph.costs.LayerRow`, or mappings with the keys `columns`. A key that is missing or None gives an empty cell.
        columns: the headings, in order.

    Shapes are written as 28x28x1, without the batch; the shape of a scalar is 1.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = as_mapping(row)
        writer.writerow([_cell(values.get(column)) for column in columns])
    return text.getvalue()


def as_mapping(row: Any) -> Mapping[str, Any]:
    """`row` as a mapping: a dataclass instance by its fields, a mapping as it is."""
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return row


def shape_text(shape: Iterable[int]) -> str:
    """'28x28x1' for (28, 28, 1); '1' for a scalar."""
    return "x".join(str(length) for length in shape) or "1"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return shape_text(value) if isinstance(value, (tuple, list)) else str(value)
