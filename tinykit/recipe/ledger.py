"""The ledger: one row a step, with what the network costs after it, against the budget."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinykit.boards.table import Budget
from tinykit.config.sizes import format_size


@dataclass(frozen=True)
class Footprint:
    """What a network costs.

    Attributes:
        tflite_bytes: size of its int8 `.tflite`.
        ram_bytes: RAM of the engine: the planned arena and an estimate of the stack.
        macs: multiply-accumulates of one inference.
    """

    tflite_bytes: int | None = None
    ram_bytes: int | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Row:
    """One step of the ledger.

    Attributes:
        step: the step's label.
        accuracy: on the test split, 0 to 1; None where it does not apply.
        footprint: of the network after the step.
        seconds: that the step took (its last leg, if it was resumed).
        resumed: it was finished by an earlier command.
        metric: what `accuracy` is: 'top1', or 'auc', an area under the ROC curve.
    """

    step: str
    accuracy: float | None
    footprint: Footprint
    seconds: float
    resumed: bool = False
    metric: str = "top1"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the step's report."""
        values = {"accuracy": self.accuracy, "footprint": dataclasses.asdict(self.footprint), "seconds": self.seconds}
        return values if self.metric == "top1" else {**values, "metric": self.metric}

    @classmethod
    def from_report(cls, step: str, report: dict[str, Any]) -> "Row":
        """The row of a step that an earlier command finished."""
        footprint = Footprint(**report["footprint"])
        return cls(step, report["accuracy"], footprint, report["seconds"], resumed=True, metric=report.get("metric", "top1"))


def over_budget(flash: int | None, ram: int | None, budget: Budget) -> list[str]:
    """What does not fit: ['flash 12.3 kB over']; empty if all that is known fits."""
    lines = []
    for kind, used, limit in (("flash", flash, budget.flash), ("RAM", ram, budget.ram)):
        if used is not None and limit is not None and used > limit:
            lines.append(f"{kind} {format_size(used - limit)} over")
    return lines


def budget_met(flash: int | None, ram: int | None, budget: Budget) -> bool | None:
    """Whether both sizes fit; None where there is no budget or a size that it limits is not known."""
    return all_within((flash, budget.flash), (ram, budget.ram))


def all_within(*amounts: tuple[int | None, int | None]) -> bool | None:
    """Whether every amount is within its limit: (used, limit), None for what is unknown or not limited; None where it cannot be said."""
    pairs = [(used, limit) for used, limit in amounts if limit is not None]
    if any(used is not None and used > limit for used, limit in pairs):
        return False
    if not pairs or any(used is None for used, _ in pairs):
        return None
    return True


def verdict(footprint: Footprint, budget: Budget) -> str:
    """'fits', what is over, or '-' where that cannot be said."""
    met = budget_met(footprint.tflite_bytes, footprint.ram_bytes, budget)
    if met is None:
        return "-"
    return "fits" if met else ", ".join(over_budget(footprint.tflite_bytes, footprint.ram_bytes, budget))


def format_macs(macs: int | None) -> str:
    """'0.41 M' for 410000."""
    return "-" if macs is None else f"{macs / 1e6:.2f} M"


def format_accuracy(accuracy: float | None, metric: str = "top1") -> str:
    """'98.67 %' for 0.98667; with the metric 'auc' '0.9867'."""
    if accuracy is None:
        return "-"
    return f"{accuracy:.4f}" if metric == "auc" else f"{100 * accuracy:.2f} %"


def metric_name(metric: str) -> str:
    """How a metric is called in what a run prints."""
    return "AUC" if metric == "auc" else "accuracy"


HEADINGS = ("step", "test accuracy", "int8 .tflite", "RAM (est.)", "MACs", "seconds", "budget (est.)")


def headings(rows: Sequence[Row]) -> tuple[str, ...]:
    """HEADINGS, with the name of the rows' metric."""
    name = metric_name(rows[0].metric) if rows else "accuracy"
    return (HEADINGS[0], f"test {name}", *HEADINGS[2:])


def cells(rows: Sequence[Row], budget: Budget) -> list[tuple[str, ...]]:
    """The ledger's cells, under `headings`."""
    return [
        (
            f"{number} {row.step}" + (" (done before)" if row.resumed else ""),
            format_accuracy(row.accuracy, row.metric),
            format_size(row.footprint.tflite_bytes),
            format_size(row.footprint.ram_bytes),
            format_macs(row.footprint.macs),
            f"{row.seconds:.1f}",
            verdict(row.footprint, budget),
        )
        for number, row in enumerate(rows, 1)
    ]


def plain(rows: Sequence[Row], budget: Budget) -> list[str]:
    """The ledger as aligned lines of plain text."""
    table = [headings(rows), *cells(rows, budget)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
