"""A space of architectures as a list of decisions, and one choice of each as an architecture. Pure data: no TensorFlow.

Positions are given to a decision by an index vector: one-hot for an architecture, probabilities for a supernet.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from tinykit.config.search import Block, StageSpace, extent
from tinykit.errors import ConfigError, ModelError

ASPECTS = ("block", "kernel", "filters", "expanded", "repeats")
"""What is decided of a stage, in order; `expanded` only where a block may be inverted."""


@dataclass(frozen=True)
class Decision:
    """One choice.

    Attributes:
        name: 'stage2.filters'.
        values: numbers that choices stand for: widths, areas of kernels, numbers of blocks; for kinds of blocks their indices.
    """

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class ChosenStage:
    """One stage of an architecture; see tinykit.models.staged.Stage."""

    block: Block
    filters: int
    kernel: int | tuple[int, int]
    stride: int | tuple[int, int]
    repeats: int
    expanded: int | None = None


@dataclass(frozen=True)
class Architecture:
    """One choice of every decision."""

    stages: tuple[ChosenStage, ...]

    def options(self) -> dict[str, Any]:
        """Options of the model family `staged`; plain values."""
        plain = json.loads(json.dumps([asdict(stage) for stage in self.stages]))
        return {"stages": [{key: value for key, value in stage.items() if value is not None} for stage in plain]}

    @property
    def key(self) -> str:
        """Short name, equal for equal architectures."""
        return hashlib.sha256(json.dumps(self.options(), sort_keys=True).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return " ".join(
            f"{s.block}{'x'.join(map(str, np.atleast_1d(s.kernel)))}:{s.filters}{f'/{s.expanded}' if s.expanded else ''}*{s.repeats}"
            for s in self.stages
        )


@dataclass(frozen=True)
class Plane:
    """Resolution of a tensor between stages: [height, width]; a series has height 1."""

    height: int
    width: int

    @property
    def positions(self) -> int:
        return self.height * self.width

    def after(self, stride: tuple[int, int]) -> Plane:
        """Behind a convolution with same padding."""
        return Plane(-(-self.height // stride[0]), -(-self.width // stride[1]))


class Space:
    """Stages with what each may be.

    Args:
        stages: from the configuration.
        input_shape: of one preprocessed sample, [height, width, channels] or [time, channels].
        classes: number of classes.

    Raises:
        ModelError: an input that stages cannot take.
    """

    def __init__(self, stages: Sequence[StageSpace], input_shape: Sequence[int], classes: int) -> None:
        if len(input_shape) not in (2, 3):
            raise ModelError(f"search.stages: need an input [height, width, channels] or [time, channels], received {list(input_shape)}")
        self.stages, self.classes = tuple(stages), classes
        self.input_shape = tuple(int(size) for size in input_shape)
        self.series = len(input_shape) == 2
        height, width = (1, input_shape[0]) if self.series else input_shape[:2]
        planes = [Plane(int(height), int(width))]
        problems = []
        for number, stage in enumerate(self.stages, 1):
            if self.series and any(not isinstance(each, int) for each in [*stage.kernels, stage.stride]):
                problems.append(f"search.stages[{number - 1}]: an input [time, channels] has kernels and strides of one number")
            planes.append(planes[-1].after(self.stride(number)))
        if problems:
            raise ModelError(problems)
        self.planes = tuple(planes)
        self.decisions = tuple(self._decisions())
        self.by_name: Mapping[str, Decision] = {decision.name: decision for decision in self.decisions}

    def _decisions(self) -> Iterator[Decision]:
        for number, stage in enumerate(self.stages, 1):
            yield Decision(f"stage{number}.block", tuple(range(len(stage.blocks))))
            yield Decision(f"stage{number}.kernel", tuple(math.prod(kernel) for kernel in self.kernels(number)))
            yield Decision(f"stage{number}.filters", stage.filters.choices())
            if stage.expanded is not None:
                yield Decision(f"stage{number}.expanded", stage.expanded.choices())
            yield Decision(f"stage{number}.repeats", stage.repeats.choices())

    def kernels(self, number: int) -> list[tuple[int, int]]:
        """Kernels of stage `number` (from 1) as [height, width]."""
        return [(1, kernel) if self.series and isinstance(kernel, int) else extent(kernel) for kernel in self.stages[number - 1].kernels]

    def stride(self, number: int) -> tuple[int, int]:
        """Stride of stage `number` as [height, width]."""
        stride = self.stages[number - 1].stride
        return (1, stride) if self.series and isinstance(stride, int) else extent(stride)

    @property
    def size(self) -> int:
        """Number of choices, those that lead to one architecture counted apart."""
        return math.prod(len(decision.values) for decision in self.decisions)

    def architecture(self, indices: Mapping[str, int]) -> Architecture:
        """The architecture of one choice: decision -> index."""
        return Architecture(tuple(self._chosen(number, indices) for number in range(1, len(self.stages) + 1)))

    def _chosen(self, number: int, indices: Mapping[str, int]) -> ChosenStage:
        stage = self.stages[number - 1]

        def chosen(aspect: str) -> int:
            return indices[f"stage{number}.{aspect}"]

        block = stage.blocks[chosen("block")]
        widths = stage.expanded.choices() if stage.expanded is not None and block == "inverted" else None
        return ChosenStage(
            block=block,
            filters=stage.filters.choices()[chosen("filters")],
            kernel=_plain(stage.kernels[chosen("kernel")]),
            stride=_plain(stage.stride),
            repeats=stage.repeats.choices()[chosen("repeats")],
            expanded=None if widths is None else widths[chosen("expanded")],
        )

    def indices(self, architecture: Architecture) -> dict[str, int]:
        """Decision -> index of an architecture of this space; 0 for what it does not have.

        Raises:
            ConfigError: it is not of this space.
        """
        found = {decision.name: 0 for decision in self.decisions}
        try:
            for number, (chosen, stage) in enumerate(zip(architecture.stages, self.stages, strict=True), 1):
                found[f"stage{number}.block"] = stage.blocks.index(chosen.block)
                found[f"stage{number}.kernel"] = [_plain(kernel) for kernel in stage.kernels].index(chosen.kernel)
                found[f"stage{number}.filters"] = stage.filters.choices().index(chosen.filters)
                found[f"stage{number}.repeats"] = stage.repeats.choices().index(chosen.repeats)
                if chosen.expanded is not None and stage.expanded is not None:
                    found[f"stage{number}.expanded"] = stage.expanded.choices().index(chosen.expanded)
        except ValueError:
            raise ConfigError(f"architecture {architecture}: is not of this space; delete the search's folder to begin again") from None
        return found

    def one_hot(self, indices: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Decision -> one-hot vector, float64."""
        return {d.name: np.eye(len(d.values))[indices[d.name]] for d in self.decisions}

    def middle(self) -> dict[str, int]:
        """The choice in the middle of every decision."""
        return {decision.name: len(decision.values) // 2 for decision in self.decisions}

    def drawn(self, rng: np.random.Generator, probabilities: Mapping[str, np.ndarray] | None = None) -> dict[str, int]:
        """A random choice; uniform where no probabilities are given."""
        chances = probabilities or {}
        return {d.name: int(rng.choice(len(d.values), p=chances.get(d.name))) for d in self.decisions}


def from_options(options: Mapping[str, Any]) -> Architecture:
    """The architecture whose `options` these are.

    Raises:
        ConfigError: they are not.
    """
    try:
        stages = [{**stage, **{key: _plain(stage[key]) for key in ("kernel", "stride")}} for stage in options["stages"]]
        return Architecture(tuple(ChosenStage(**stage) for stage in stages))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"no architecture of a search: {error}") from None


def _plain(value: Any) -> int | tuple[int, int]:
    return value if isinstance(value, int) else cast(tuple[int, int], tuple(value))
