"""Whether zeros and shared values pay: the image with them is linked before anything is trained for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinykit.recipe.step import StepContext, StepResult

if TYPE_CHECKING:
    import keras

    from tinykit.quant.kept import Kept


@dataclass(frozen=True)
class Trial:
    """What a change of the weights does to the engine at 8 bits.

    Attributes:
        before, after: bytes of flash, of the linked image where one can be linked.
        coded: layers whose weights are stored coded afterwards; in all others the change saves nothing.
    """

    before: int
    after: int
    coded: frozenset[str]

    @property
    def pays(self) -> bool:
        """Whether the image becomes smaller."""
        return self.after < self.before and bool(self.coded)

    def report(self) -> dict[str, Any]:
        """For a step's report."""
        return {"flash_before": self.before, "flash_after": self.after, "coded": sorted(self.coded), "skipped": not self.pays}

    def skipped(self, context: StepContext) -> StepResult:
        """What a step hands back that does not pay."""
        context.log(f"skipped: it does not pay: {self.before:,} bytes of flash without it, {self.after:,} with it")
        return StepResult(None, {"trial": self.report()})


def tried(model: keras.Model, change: Callable[[keras.Model], object], kept: Kept, context: StepContext) -> Trial:
    """Links the engine of a float network as it is and with its weights changed.

    Args:
        change: changes the weights of the copy that it is given.
        kept: what the integer network keeps of the changed weights.

    Raises:
        ModelError: a layer has no exact integer counterpart.
    """
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    before, _ = _linked(model, kept, context)
    change(copy)
    context.stop.check()
    after, coded = _linked(copy, kept, context)
    return Trial(before, after, coded)


def _linked(model: keras.Model, kept: Kept, context: StepContext) -> tuple[int, frozenset[str]]:
    """(flash of the int8 engine, layers whose weights are coded)."""
    from tinykit.boards.storage import coded_layers
    from tinykit.boards.table import emulated_board
    from tinykit.engine.goal import GOALS
    from tinykit.fit.meter import EngineMeter
    from tinykit.fit.preview import preview
    from tinykit.quant.allocation.network import eight_bits
    from tinykit.quant.fuse import fuse
    from tinykit.recipe.budget import resolve_budget, storage_wish

    config = context.config.config
    found, wish = preview(fuse(model), kept=kept), storage_wish(config.engine, resolve_budget(context.config))
    meter = EngineMeter(found, emulated_board(config.budget.board), context.log, GOALS[config.engine.optimize], wish)
    bits = eight_bits(found.network)
    flash = meter.linked(bits).flash
    return flash, frozenset(call.op for call in coded_layers(meter.engine(bits)))
