"""What a step has to leave true of the weights: promises of steps before it, and what its own options ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinykit.errors import ConfigError
from tinykit.recipe.registry import step_class
from tinykit.recipe.step import StepContext

if TYPE_CHECKING:
    import keras

    from tinykit.quant.kept import Kept
    from tinykit.steps.integers import CalibrationOptions

MOST_CLUSTERS = 256


def promised_clusters(context: StepContext) -> int | None:
    """The most values that weights share by the promise of a step before; None where none promises it."""
    counts = [step_class(spec.name).Options.model_validate(spec.options) for spec in context.promising("clusters")]
    return max((getattr(options, "clusters", MOST_CLUSTERS) for options in counts), default=None)


def to_keep(options: CalibrationOptions, context: StepContext) -> Kept:
    """What the integer network keeps of the float weights."""
    from tinykit.quant.kept import Kept

    own = MOST_CLUSTERS if "clusters" in options.preserve else None
    return Kept("sparsity" in options.preserve or bool(context.promising("sparsity")), promised_clusters(context) or own)


def check_kept(options: CalibrationOptions, context: StepContext) -> None:
    """Raises ConfigError where options leave no way to keep what is to be kept; before any step runs."""
    kept, problems = to_keep(options, context), []
    where = f"steps.{context.label}"
    two = _two_bits(options.bits)
    if kept.zeros and options.codebook == "four_levels" and two:
        problems.append(
            f"{where}.bits: {two}, whose four levels -3, -1, 1, 3 have no 0 for weights that are to stay 0: set "
            f"{where}.codebook=ternary, or bits by hand without 2"
        )
    if kept.clusters is not None and options.equalize:
        problems.append(
            f"{where}.equalize: a factor for each row and column of dense weights leaves no two of them equal, and they are to share "
            "values: leave equalize out"
        )
    if problems:
        raise ConfigError(problems)


def _two_bits(bits: str | dict[str, int] | None) -> str:
    """How the option gives weights 2 bits; "" where it cannot."""
    if isinstance(bits, dict):
        return "gives weights 2 bits" if any(width == 2 for name, width in bits.items() if not name.endswith("/output")) else ""
    return f"({bits}) may choose 2 bits" if bits else ""


def held_callbacks(model: keras.Model, context: StepContext) -> list[keras.callbacks.Callback]:
    """Keras callbacks that hold, while a float model is trained, what steps before promise of its weights."""
    from tinykit.shrink.clusters import mirrored
    from tinykit.shrink.held import Held

    zeros, clusters = bool(context.promising("sparsity")), promised_clusters(context)
    if not zeros and clusters is None:
        return []
    gains = mirrored(model)[0] if clusters is not None else []
    return [Held(model, zeros, clusters, gains).callback()]
