"""The section `tune:` of a configuration: which of its values are searched, between which bounds, and by which method."""

import json
import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tinykit.config.section import Section

Objective = Literal["accuracy", "flash", "ram", "cycles", "instructions", "macs"]
METHODS_WITHOUT_TRIALS = ("hyperband",)
"""Methods whose schedule says how many trials there are."""
FIXED = ("tune", "search", "budget", "seed", "task", "data.name", "data.options")
"""What no parameter can be: limits and data decide what trials are compared by."""


def _finite(value: Any) -> bool:
    """Whether plain data holds neither NaN nor infinity."""
    if isinstance(value, dict):
        return all(_finite(each) for each in value.values())
    if isinstance(value, list):
        return all(_finite(each) for each in value)
    return not isinstance(value, float) or math.isfinite(value)


class Parameter(Section):
    """What one value of the configuration may be: one of `values`, or from `least` to `most`."""

    values: list[Any] | None = Field(default=None, min_length=1, max_length=256, description="all that it may be, of any kind")
    least: int | float | None = Field(default=None, description="the least; least and most both whole: so are all values")
    most: int | float | None = Field(default=None, description="the most, which it may be too")
    scale: Literal["linear", "log"] = Field(default="linear", description="log: as many values from 0.001 to 0.01 as from 0.01 to 0.1")
    step: int | float | None = Field(default=None, gt=0, description="from one value to the next, with scale: linear; null: none")

    @model_validator(mode="after")
    def _either(self) -> "Parameter":
        given = [name for name in ("least", "most", "step") if getattr(self, name) is not None]
        if self.values is not None:
            if given or self.scale != "linear":
                raise ValueError(f"`values` say all; expected no {', '.join(given) or 'scale'} beside them")
            if not _finite(self.values):
                raise ValueError("values: expected finite numbers, got NaN or infinity")
            texts = [json.dumps(value, sort_keys=True) for value in self.values]
            twice = [text for index, text in enumerate(texts) if text in texts[:index]]
            if twice:
                raise ValueError(f"a value is there twice: {twice[0]}")
            return self
        if self.least is None or self.most is None:
            raise ValueError("expected `values`, or `least` and `most`")
        if not self.least < self.most:
            raise ValueError(f"an empty range: expected `most` to be more than {self.least}, got {self.most}")
        if self.scale == "log" and self.least <= 0:
            raise ValueError(f"expected `least` to be more than 0 with scale: log, got {self.least}")
        if self.scale == "log" and self.step is not None:
            raise ValueError("`step` belongs to scale: linear")
        if self.step is not None and self.step > self.most - self.least:
            raise ValueError(f"expected `step` to be at most {self.most - self.least}, got {self.step}")
        if self.whole and self.step is not None and not isinstance(self.step, int):
            raise ValueError(f"expected `step` to be whole as least and most are, got {self.step}")
        return self

    @property
    def whole(self) -> bool:
        """Whether a range is one of whole numbers."""
        return isinstance(self.least, int) and isinstance(self.most, int)

    @property
    def size(self) -> float:
        """How many values there are; infinity for a range of real numbers."""
        if self.values is not None:
            return len(self.values)
        if self.least is None or self.most is None or not (self.whole or self.step):
            return math.inf
        return math.floor((self.most - self.least) / (self.step or 1) + 1e-9) + 1

    def examples(self) -> list[Any]:
        """All values of a list, both ends of a range: what is checked before anything is trained."""
        return list(self.values) if self.values is not None else [self.least, self.most]


class TuneLimits(Section):
    """What a trial may take beside flash and RAM, which `budget` limits."""

    macs: int | None = Field(default=None, ge=1, le=10**12, description="multiply-accumulates of an inference")
    instructions: int | None = Field(default=None, ge=1, le=10**12, description="instructions of an inference, emulated")
    cycles: int | None = Field(default=None, ge=1, le=10**12, description="cycles of an inference, emulated")


class TuneConfig(Section):
    """Search for values of this configuration under its budget: `python -m tinykit.search`."""

    method: Literal["random", "bayesian", "hyperband", "nsga2"] = Field(default="random", description="who proposes what is tried next")
    trials: int | None = Field(default=None, ge=1, le=100_000, description="how many; null with hyperband: its whole schedule")
    seconds: float | None = Field(
        default=None, gt=0, le=1e9, description="no trial begins once all before it took so long together; null: no limit"
    )
    parameters: dict[str, Parameter] = Field(
        min_length=1, max_length=32, description="key of this configuration, as --set takes it -> what it may be"
    )
    objective: Literal["accuracy"] = Field(default="accuracy", description="what is made best: accuracy on val")
    objectives: list[Objective] | None = Field(
        default=None, min_length=2, max_length=6, description="of nsga2: what a front is made of; null: accuracy, flash and cycles"
    )
    limits: TuneLimits = Field(default=TuneLimits(), description="limits beside the budget's")
    population: int = Field(default=12, ge=4, le=1000, description="of nsga2: trials of a generation")
    factor: int = Field(default=3, ge=2, le=10, description="of hyperband: one of so many trials goes on, with so many times the epochs")

    @field_validator("parameters")
    @classmethod
    def _keys(cls, value: dict[str, Parameter]) -> dict[str, Parameter]:
        for key in value:
            parts = key.split(".")
            if not all(parts):
                raise ValueError(f"{key!r}: expected a key as --set takes it, such as steps.train.learning_rate")
            if key in FIXED or any(key.startswith(f"{fixed}.") for fixed in FIXED):
                raise ValueError(f"{key!r}: is no parameter: limits, data and seed are the same for all trials")
            inside = [other for other in value if other.startswith(f"{key}.")]
            if inside:
                raise ValueError(f"{inside[0]!r} is a part of {key!r}: give one of them")
        return value

    @model_validator(mode="after")
    def _method(self) -> "TuneConfig":
        if self.trials is None and self.method not in METHODS_WITHOUT_TRIALS:
            raise ValueError(f"`trials` is missing: how many are tried by method: {self.method}")
        if self.objectives is not None and self.method != "nsga2":
            raise ValueError(f"`objectives` belong to method: nsga2; {self.method} makes `objective` best")
        if self.objectives is not None and len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives: one is there twice")
        if self.method == "hyperband" and "steps.train.epochs" in self.parameters:
            raise ValueError("'steps.train.epochs': is what hyperband gives to trials; its most is the configuration's own")
        return self

    def aims(self) -> tuple[Objective, ...]:
        """What nsga2 makes good at once."""
        return tuple(self.objectives or ("accuracy", "flash", "cycles"))
