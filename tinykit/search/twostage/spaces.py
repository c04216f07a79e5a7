"""The spaces that the first stage chooses from: a configuration's stages at several resolutions and widths. Pure data: no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pydantic

from tinykit.config.loading import ResolvedConfig
from tinykit.config.search import STEP, SearchConfig, StageSpace, Widths, extent
from tinykit.data.preprocess import Chain
from tinykit.errors import ConfigError, DataError
from tinykit.search.space import Space


@dataclass(frozen=True)
class Candidate:
    """One space.

    Attributes:
        name: '64x64 w0.5', or 'w0.5' where samples stay as they are preprocessed.
        resolution: [height, width] that images are resized to; None: they are not.
        width: multiplier of the stages' channels.
        config: the configuration with this space in the place of its own.
        chain: its preprocessing.
        space: its architectures.
    """

    name: str
    resolution: tuple[int, int] | None
    width: float
    config: ResolvedConfig
    chain: Chain
    space: Space

    @property
    def options(self) -> SearchConfig:
        """Section `search` of its configuration."""
        if self.config.config.search is None:
            raise ConfigError(f"{self.config.source}: has no section `search`")
        return self.config.config.search


def candidates(config: ResolvedConfig, options: SearchConfig, sample: Sequence[int], classes: int) -> list[Candidate]:
    """Every resolution with every width of a configuration.

    Args:
        sample: shape of a raw sample, without the batch.

    Raises:
        ConfigError: resolutions for what is no image, or widths that leave no space; every problem at once.
        ModelError: an input that stages cannot take.
    """
    wanted = options.two_stage
    resolutions: list[tuple[int, int] | None] = [*map(extent, wanted.resolutions)] or [None]
    found: list[Candidate] = []
    problems: list[str] = []
    chains: dict[tuple[int, int] | None, tuple[list[Any], Chain]] = {}
    for resolution in resolutions:
        try:
            chains[resolution] = _chain(config.config.data.preprocess, resolution, sample)
        except (ConfigError, DataError) as error:
            problems += [f"search.two_stage.resolutions: {'x'.join(map(str, resolution or ()))}: {line}" for line in error.problems]
    for width in wanted.widths:
        try:
            stages = [scaled(stage, width) for stage in options.stages]
        except pydantic.ValidationError as error:
            problems += [f"search.two_stage.widths: {width:g}: {each['msg']}" for each in error.errors()]
            continue
        for resolution, (declared, chain) in chains.items():
            name = f"{'x'.join(map(str, resolution))} w{width:g}" if resolution else f"w{width:g}"
            own = _with(config, options, declared, stages)
            found.append(Candidate(name, resolution, width, own, chain, Space(stages, chain.output_shape(sample), classes)))
    if problems:
        raise ConfigError(problems)
    return found


def scaled(stage: StageSpace, factor: float) -> StageSpace:
    """A stage with its channels times a factor: the least and the step to multiples of STEP, the most to a whole number of steps.

    Raises:
        pydantic.ValidationError: more channels, or more choices of them, than a stage may have.
    """
    expanded = None if stage.expanded is None else _scaled(stage.expanded, factor)
    return stage.model_copy(update={"filters": _scaled(stage.filters, factor), "expanded": expanded})


def _scaled(widths: Widths, factor: float) -> Widths:
    least, step = (max(STEP, STEP * round(value * factor / STEP)) for value in (widths.least, widths.step))
    steps = max(0, round((widths.most * factor - least) / step))
    return Widths(least=least, most=least + steps * step, step=step)


def _chain(declared: Sequence[Any], resolution: tuple[int, int] | None, sample: Sequence[int]) -> tuple[list[Any], Chain]:
    """The preprocessing with images of another size: a `resize` that is there is changed, otherwise raw images are resized first.

    Raises:
        DataError: samples cannot be resized.
        ConfigError: they have another size in the end.
    """
    operations = list(declared)
    if resolution is not None:
        at = [i for i, each in enumerate(operations) if isinstance(each, dict) and "resize" in each]
        old = dict(operations.pop(at[-1])["resize"] or {}) if at else {}
        operations.insert(at[-1] if at else 0, {"resize": {**old, "size": list(resolution)}})
    chain = Chain.parse(operations, "data.preprocess")
    shape = chain.output_shape(sample)
    if resolution is not None and shape[:2] != resolution:
        raise ConfigError(f"data.preprocess: gives samples {list(shape)} all the same; no operation behind `resize` may change the size")
    return operations, chain


def _with(config: ResolvedConfig, options: SearchConfig, preprocess: list[Any], stages: list[StageSpace]) -> ResolvedConfig:
    run = config.config
    data = run.data.model_copy(update={"preprocess": preprocess})
    return replace(config, config=run.model_copy(update={"data": data, "search": options.model_copy(update={"stages": stages})}))
