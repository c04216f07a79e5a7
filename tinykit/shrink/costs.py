"""What a network costs with some of its channels gone: counted where that is exact, else measured on its engine and scaled in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeGuard

import numpy as np

from tinykit.models.macs import count_macs
from tinykit.shrink.channels import ChannelMap, Group, layers_by_name
from tinykit.shrink.shapes import Shape, ShapeCosts
from tinykit.shrink.surgery import shrink

Timed = Literal["instructions", "cycles"]
Measure = Literal["macs", "flash", "ram", "instructions", "cycles"]
TIMED: tuple[Timed, ...] = ("instructions", "cycles")
"""What only an emulated board tells."""
MEASURES: tuple[Measure, ...] = ("macs", "flash", "ram", *TIMED)
ENGINE: frozenset[Measure] = frozenset(("flash", "ram", *TIMED))
"""What only an engine tells."""
_PROBES = 6
"""Engines that are measured so that estimates of time know shapes: as many numbers as a shape has parts, and some against chance."""
_PROBE_MULTIPLE = 4
_CHANNEL_BYTES = 9  # of constants that the engine keeps for an output channel: docs/engine.md


@dataclass(frozen=True)
class Sizes:
    """An engine.

    Attributes:
        flash: bytes of weights, tables and (estimated) code.
        ram: bytes of the planned arena and an estimated stack.
        live: tensor -> bytes, of the tensors alive where the arena is fullest; by the names of the layers that make them.
        cycles: operation -> cycles of its call on the emulated board; empty where they were not asked for.
        instructions: operation -> instructions of its call, likewise.
    """

    flash: int
    ram: int
    live: Mapping[str, int]
    cycles: Mapping[str, int] = field(default_factory=dict)
    instructions: Mapping[str, int] = field(default_factory=dict)

    def timed(self, measure: Timed) -> Mapping[str, int]:
        """Operation -> what it takes."""
        return self.cycles if measure == "cycles" else self.instructions


def is_timed(measure: Measure) -> TypeGuard[Timed]:
    """Whether only an emulated board tells."""
    return measure in TIMED


@dataclass(frozen=True)
class _Part:
    """A layer with weights: multiply-accumulates are positions * each * reads * writes, of a depthwise one without the last."""

    kind: str
    reads: np.ndarray
    writes: np.ndarray
    positions: int
    each: int
    multiplier: int

    def macs(self, alive: np.ndarray) -> int:
        return self.positions * self.weights(alive)

    def weights(self, alive: np.ndarray) -> int:
        reads, writes = int(alive[self.reads].sum()), int(alive[self.writes].sum())
        if self.kind == "mix":
            return self.each * reads * writes
        if self.kind == "depthwise":
            return self.each * writes
        return reads * self.multiplier * (self.each + writes)


class Costs:
    """Costs of one network by which channels are alive.

    Args:
        found: its channels.
        engine: network -> sizes of its engine; called only for measures that need it.
    """

    def __init__(self, found: ChannelMap, engine: Callable[..., Sizes] | None = None) -> None:
        self.found, self.engine = found, engine
        self._learned = {measure: ShapeCosts() for measure in TIMED}
        layers = layers_by_name(found.model)
        self._parts: dict[str, _Part] = {}
        for name, use in found.uses.items():
            if use.kind not in ("mix", "depthwise", "separable"):
                continue
            shape = tuple(layers[name].get_weights()[0].shape)
            multiplier = shape[-1] if use.kind == "separable" else 1
            self._parts[name] = _Part(use.kind, use.reads, use.writes, found.positions[name], math.prod(shape[:-2]), multiplier)
        everything = found.everything()
        self._other_macs = count_macs(found.model) - sum(part.macs(everything) for part in self._parts.values())
        self._measured: tuple[np.ndarray, Sizes] | None = None

    def macs(self, alive: np.ndarray) -> int:
        """Multiply-accumulates of one sample; exact."""
        return self._other_macs + sum(part.macs(alive) for part in self._parts.values())

    def constants(self, alive: np.ndarray) -> int:
        """Bytes of 8-bit weights and tables of channels."""
        return sum(part.weights(alive) + _CHANNEL_BYTES * int(alive[part.writes].sum()) for part in self._parts.values())

    def measure(self, alive: np.ndarray) -> Sizes:
        """The engine of the network with these channels, planned; what is estimated between two measurements goes on from here."""
        if self.engine is None:
            raise ValueError("no engine to measure")
        if self._measured is None or not np.array_equal(self._measured[0], alive):
            self._measured = alive.copy(), self.engine(shrink(self.found, alive))
            self._learn(*self._measured)
        return self._measured[1]

    def _learn(self, alive: np.ndarray, sizes: Sizes) -> None:
        for measure in TIMED:
            taken = sizes.timed(measure)
            self._learned[measure].learn({name: self._shape(name, alive) for name in taken}, taken)

    def probe(self, fewest: Callable[[Group], int]) -> None:
        """Measures some engines of random widths between all channels and the fewest that are allowed, so that estimates know what each
        operation takes by its shape."""
        rng = np.random.default_rng(0)
        for _ in range(_PROBES):
            alive = self.found.everything()
            for group in self.found.removable():
                size, least = len(group.channels), fewest(group)
                kept = least + round(rng.uniform() * (size - least) / _PROBE_MULTIPLE) * _PROBE_MULTIPLE
                alive[group.channels[kept:]] = False
            self.measure(alive)

    def exact(self, measure: Measure, alive: np.ndarray) -> int:
        """A cost; of the engine measured."""
        if measure == "macs":
            return self.macs(alive)
        sizes = self.measure(alive)
        return sum(sizes.timed(measure).values()) if is_timed(measure) else int(getattr(sizes, measure))

    def estimate(self, measure: Measure, alive: np.ndarray) -> float:
        """The cost by the last measurement and what is gone since; exact for `macs`. RAM: less what is gone where the arena was fullest."""
        if measure == "macs":
            return self.macs(alive)
        before, sizes = self._last()
        if measure == "flash":
            return sizes.flash + self.constants(alive) - self.constants(before)
        if measure == "ram":
            return sizes.ram - sum(size * self._gone(name, before, alive) for name, size in sizes.live.items())
        if not is_timed(measure):
            raise ValueError(f"no measure {measure!r}")
        costs = self._learned[measure]
        return sum(
            taken * costs.cost(name, self._shape(name, alive)) / max(costs.cost(name, self._shape(name, before)), 1e-12)
            for name, taken in sizes.timed(measure).items()
        )

    def _last(self) -> tuple[np.ndarray, Sizes]:
        if self._measured is None:
            raise ValueError("nothing was measured yet")
        return self._measured

    def _layer(self, name: str) -> str | None:
        """The layer that an operation of the engine, such as conv_relu, comes from."""
        known = [layer for layer in self.found.outputs if name == layer or name.startswith(f"{layer}_")]
        return max(known, key=len, default=None)

    def _gone(self, name: str, before: np.ndarray, alive: np.ndarray) -> float:
        """Share of a tensor's elements that are gone."""
        layer = self._layer(name)
        channels = self.found.outputs[layer] if layer else self._input()
        return 1.0 - float(alive[channels].sum()) / max(float(before[channels].sum()), 1.0)

    def _input(self) -> np.ndarray:
        return next(group.channels for group in self.found.groups if not group.layers)

    def _shape(self, name: str, alive: np.ndarray) -> Shape:
        """Of an operation; one without weights writes as many channels as it reads."""
        layer = self._layer(name)
        part = self._parts.get(layer or "")
        if part is None:
            channels = self.found.outputs[layer] if layer else self._input()
            return 0.0, 0.0, float(alive[channels].sum())
        return float(part.macs(alive)), float(alive[part.reads].sum()), float(alive[part.writes].sum())
