"""Names in a step's options that a step before it takes away: told before any step runs."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import filter as fitting
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tinykit.errors import ConfigError
from tinykit.recipe.step import StepContext

if TYPE_CHECKING:
    import keras


def check_lasting(patterns: Iterable[str], names: Iterable[str], model: keras.Model, where: str, context: StepContext) -> None:
    """Raises ConfigError for patterns of layers that a `decompose` before the step may replace by chains, whose layers have other names.

    Args:
        patterns: of names, as the step's options give them.
        names: what they can stand for now.
        model: as it is before any step runs.
        where: the option, for messages.
    """
    from tinykit.shrink.chained import sites

    allowed = [
        pattern
        for spec in context.config.steps[: len(context.before())]
        if spec.name == "decompose"
        for pattern in spec.options.get("layers", ("*",))
    ]
    if not allowed:
        return
    replaceable = {site.name for site in sites(model)[0] if any(fnmatchcase(site.name, pattern) for pattern in allowed)}
    problems = []
    for pattern in patterns:
        found = fitting(list(names), pattern)
        lost = [name for name in found if name in replaceable and not fnmatchcase(f"{name}_1", pattern)]
        if found and len(lost) == len(found):
            problems.append(
                f"{where}: {pattern!r} fits only {', '.join(map(repr, lost))}, which `decompose` before this step may replace by "
                f"{lost[0]}_1, {lost[0]}_2 ...: write '{lost[0]}*', or leave the layer out of decompose's `layers`"
            )
    if problems:
        raise ConfigError(problems)
