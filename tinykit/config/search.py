"""The section `search:` of a configuration: the space of architectures, what limits them, and how one is found."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tinykit.config.section import Section

Block = Literal["conv", "separable", "inverted"]
Extent = int | list[int]
STEP = 4
"""Widths are multiples of it: the engine's kernels read four channels at once, and packed weights end on whole bytes."""
_LARGEST = 64


def extent(value: Extent) -> tuple[int, int]:
    """[height, width] of a kernel or a stride."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class Widths(Section):
    """Numbers of channels to choose from: least, least + step, ..., most."""

    least: int = Field(ge=STEP, le=4096, multiple_of=STEP, description="the fewest channels")
    most: int = Field(ge=STEP, le=4096, multiple_of=STEP, description="the most channels")
    step: int = Field(default=STEP, ge=STEP, le=4096, multiple_of=STEP, description="from one choice to the next")

    @model_validator(mode="after")
    def _reached(self) -> "Widths":
        if self.most < self.least or (self.most - self.least) % self.step:
            raise ValueError(f"expected `most` to be `least` and some steps: {self.least} + n * {self.step}, got {self.most}")
        if len(self.choices()) > _LARGEST:
            raise ValueError(f"{len(self.choices())} widths; expected at most {_LARGEST}: choose a larger step")
        return self

    def choices(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.least, self.most + 1, self.step))


class Repeats(Section):
    """Numbers of blocks to choose from."""

    least: int = Field(default=1, ge=1, le=16, description="the fewest blocks")
    most: int = Field(default=1, ge=1, le=16, description="the most blocks")

    @model_validator(mode="after")
    def _ordered(self) -> "Repeats":
        if self.most < self.least:
            raise ValueError(f"expected `most` to be {self.least} or more, got {self.most}")
        return self

    def choices(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.least, self.most + 1))


class StageSpace(Section):
    """One stage of the supernet: what its blocks may be."""

    blocks: list[Block] = Field(min_length=1, max_length=3, description="kinds of blocks to choose from: conv, separable, inverted")
    filters: Widths = Field(description="output channels of the stage's blocks")
    expanded: Widths | None = Field(default=None, description="channels inside inverted blocks")
    kernels: list[Extent] = Field(
        default=[3], min_length=1, max_length=4, description="kernels to choose from, each a number or [height, width]"
    )
    stride: Extent = Field(default=1, description="of the first block, a number or [height, width]")
    repeats: Repeats = Field(default=Repeats(), description="blocks in the stage")

    @field_validator("blocks")
    @classmethod
    def _different(cls, value: list[Block]) -> list[Block]:
        if len(set(value)) < len(value):
            raise ValueError(f"a kind is there twice: {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "StageSpace":
        if ("inverted" in self.blocks) != (self.expanded is not None):
            raise ValueError("`expanded` belongs to inverted blocks, and they need it")
        for each in [*self.kernels, self.stride]:
            numbers = [each] if isinstance(each, int) else each
            if len(numbers) != (1 if isinstance(each, int) else 2) or any(not 1 <= number <= _LARGEST for number in numbers):
                raise ValueError(f"expected numbers from 1 to {_LARGEST}, or [height, width], for kernels and stride, got {each}")
        stride = extent(self.stride)
        if stride[0] != stride[1] and set(self.blocks) != {"conv"}:
            raise ValueError("depthwise convolutions have one stride for height and width")
        sizes = [extent(kernel) for kernel in self.kernels]
        odd = any((a - b) % 2 for size in sizes for a, b in zip(size, sizes[0], strict=True))
        short = any(a < s for size in sizes for a, s in zip(size, stride, strict=True))
        if len(sizes) > 1 and (odd or short or len(set(sizes)) < len(sizes)):
            raise ValueError(
                "kernels of one stage share their centre: expected different ones, all odd or all even, none smaller than the stride"
            )
        return self


class Penalty(Section):
    """Weight of each cost in the loss: weight * max(0, cost / limit - 1)."""

    macs: float = Field(default=1.0, ge=0, le=1e6)
    flash: float = Field(default=1.0, ge=0, le=1e6)
    ram: float = Field(default=1.0, ge=0, le=1e6)


class TwoStage(Section):
    """With `method: two_stage`: the spaces to choose from, and how the chosen one is searched."""

    resolutions: list[Extent] = Field(
        default=[],
        max_length=32,
        description="sizes of images to choose from, each a side or [height, width]; none: as they are preprocessed",
    )
    widths: list[float] = Field(
        default=[1.0], min_length=1, max_length=32, description="multipliers of `filters` and `expanded` to choose from"
    )
    draws: int = Field(default=40, ge=1, le=100_000, description="random architectures of each space that are counted and planned")
    rank: Literal["mean", "p80"] = Field(
        default="mean", description="the best space is that whose drawn architectures that fit have the most multiply-accumulates: "
        "on average, or at 80 % of their distribution",
    )  # fmt: skip
    population: int = Field(default=16, ge=2, le=10_000, description="architectures that a generation begins with, and children it makes")
    generations: int = Field(default=8, ge=0, le=10_000, description="of the evolution, beside the first, random population")
    tournament: int = Field(default=3, ge=1, le=1000, description="architectures of which the best one becomes a parent")
    mutation: float = Field(default=0.1, gt=0, le=1, description="chance of each decision of a mutated child to be drawn again")
    crossover: float = Field(default=0.5, ge=0, le=1, description="share of children that have two parents; the others are mutated")
    recalibration: int = Field(default=16, ge=1, le=10_000, description="batches for an architecture's own batch statistics")

    @field_validator("resolutions")
    @classmethod
    def _sizes(cls, value: list[Extent]) -> list[Extent]:
        for each in value:
            numbers = [each] if isinstance(each, int) else each
            if len(numbers) != (1 if isinstance(each, int) else 2) or any(not 1 <= number <= 4096 for number in numbers):
                raise ValueError(f"expected sides from 1 to 4096, or [height, width], got {each}")
        if len({extent(each) for each in value}) < len(value):
            raise ValueError("a resolution is there twice")
        return value

    @field_validator("widths")
    @classmethod
    def _multipliers(cls, value: list[float]) -> list[float]:
        if any(not 0 < each <= 16 for each in value) or len(set(value)) < len(value):
            raise ValueError(f"expected different multipliers above 0, up to 16, got {value}")
        return value


class SearchConfig(Section):
    """Search for an architecture under the budget: `python -m tinykit.search`."""

    method: Literal["dnas", "two_stage"] = Field(
        default="dnas", description="dnas: decisions are learned with a supernet's weights; two_stage: the space is chosen first, then "
        "architectures evolve whose weights one supernet shares",
    )  # fmt: skip
    two_stage: TwoStage = Field(default=TwoStage(), description="options of that method")
    stages: list[StageSpace] = Field(min_length=1, max_length=32, description="the space, stage by stage")
    macs: int | None = Field(default=None, ge=1, le=10**12, description="multiply-accumulates of an inference, the proxy of its time")
    weight_bits: Literal[8, 4, 2] = Field(default=8, description="bits of all weights; with 8 the recipe may choose fewer")
    epochs: int = Field(default=20, ge=1, le=100_000, description="passes over the training split with the supernet")
    warmup_epochs: int = Field(default=4, ge=0, le=100_000, description="of these, passes before decisions are learned")
    learning_rate: float = Field(default=3e-3, gt=0, le=100, description="of the weights (Adam), the highest of a cosine schedule")
    decision_rate: float = Field(default=0.02, gt=0, le=100, description="of the decisions (Adam)")
    gates: Literal["gumbel", "straight_through"] = Field(
        default="gumbel", description="gumbel: choices are mixed by their probabilities and noise; straight_through: one is drawn"
    )
    temperature: float = Field(default=5.0, gt=0, le=100, description="of the gates in the first epoch")
    last_temperature: float = Field(default=0.5, gt=0, le=100, description="in the last epoch; each epoch takes the same factor")
    penalty: Penalty = Field(default=Penalty(), description="weights of the costs in the loss")
    tightening: float = Field(
        default=0.7, ge=0, le=1, description="share of the epochs with decisions in which limits tighten, from what the undecided network "
        "costs to what is allowed; 0: at once",
    )  # fmt: skip
    candidates: int = Field(default=6, ge=1, le=1000, description="architectures that fit and are compared, the likeliest one first")
    trial_epochs: int = Field(default=1, ge=0, le=100_000, description="passes of training before candidates are compared on val")
    start: Literal["scratch", "inherited"] = Field(
        default="scratch", description="final training: from scratch, or from the weights of the winner's trial"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="rate before the logits of a candidate and of the final network")

    @model_validator(mode="after")
    def _schedule(self) -> "SearchConfig":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: expected fewer than the {self.epochs} epochs, got {self.warmup_epochs}")
        return self
