"""The limits of a run, and whether its result keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinykit.boards.table import Budget, board
from tinykit.config.loading import ResolvedConfig
from tinykit.config.sizes import format_size
from tinykit.recipe import ledger

if TYPE_CHECKING:
    from tinykit.config.schema import EngineConfig
    from tinykit.engine.storage import StorageWish


def resolve_budget(config: ResolvedConfig) -> Budget:
    """The limits: as configured; a size that is not is the board's (capacity minus reserve), or None."""
    wanted = config.config.budget
    default = board(wanted.board).budget() if wanted.board is not None else Budget(None, None)
    notes = default.notes if wanted.ram is None or wanted.flash is None else ()
    return Budget(
        wanted.flash if wanted.flash is not None else default.flash,
        wanted.ram if wanted.ram is not None else default.ram,
        notes,
        wanted.instructions,
    )


def storage_wish(wanted: EngineConfig, budget: Budget) -> StorageWish:
    """How weights may lie in flash, under a run's budget."""
    from tinykit.engine.estimate import STACK_BYTES
    from tinykit.engine.storage import StorageWish

    room = None if budget.ram is None else max(1, budget.ram - STACK_BYTES)
    return StorageWish(wanted.storage, wanted.storage_limit).within(budget.flash, room)


def judge(metrics: dict[str, Any], footprint: ledger.Footprint, budget: Budget) -> tuple[bool | None, str]:
    """Whether a result fits, by measured sizes where there are any, and the line that says so.

    Args:
        metrics: content of metrics.json; `flash` and `ram` are the measured sizes.
        footprint: of the network after the last step, for what was not measured.

    Returns:
        (None where that cannot be said, "" where there is no budget).
    """
    parts = []
    sizes: list[int | None] = []
    for kind, measured, estimate, limit in (
        ("flash", metrics["flash"]["total"], metrics["tflite_bytes"], budget.flash),
        ("RAM", metrics["ram"]["total"], footprint.ram_bytes, budget.ram),
    ):
        used = measured if measured is not None else estimate
        sizes.append(used)
        if limit is not None:
            how = "" if measured is not None else " (the .tflite alone)" if kind == "flash" else " (estimated)"
            parts.append(f"{kind} {format_size(used)}{how if used is not None else ' (unknown)'} of {format_size(limit)}")
    executed = metrics["instructions"]
    if budget.instructions is not None:
        parts.append(f"{'unknown' if executed is None else format(executed, ',')} of {budget.instructions:,} instructions")
    met = ledger.all_within((sizes[0], budget.flash), (sizes[1], budget.ram), (executed, budget.instructions))
    word = {True: "met", False: "NOT met", None: "not judged"}[met]
    return met, f"budget {word}: {', '.join(parts)}" if parts else ""
