"""What an engine is made best for: speed, little flash, or a balance of both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """How far code and memory are spent on speed.

    Attributes:
        name: as users say it.
        fast: kernels that need more code than the portable ones may run.
        spare: bytes of the arena that they may take beyond what the portable ones need; None: whatever room there is.
        flash_per_ram: bytes of tables in flash that must be saved for each byte by which the arena grows; None: tables are never compact.
    """

    name: str
    fast: bool
    spare: int | None
    flash_per_ram: float | None


SPEED = Goal("speed", True, None, None)
BALANCED = Goal("balanced", True, 1000, 4)  # boards have four times as much flash as RAM, or more
SIZE = Goal("size", False, 0, 4)
GOALS = {goal.name: goal for goal in (SPEED, BALANCED, SIZE)}
