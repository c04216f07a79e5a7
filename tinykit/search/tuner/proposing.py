"""Who says what is tried next. A proposal follows from the seed, its number and the trials so far, and from nothing else: a search that
was killed goes on as it would have gone on, without any state but the list of its trials."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tinykit.search.trials import Trial
from tinykit.search.tuner.space import TuneSpace, Values, key_of

if TYPE_CHECKING:
    import keras_tuner

_DRAWS = 2000
"""Draws without a new setting after which a space counts as used up."""


@dataclass(frozen=True)
class Proposal:
    """What is to be tried: values of the configuration and, of Hyperband, their stage (see tinykit.search.trials.Trial)."""

    values: Values
    stage: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """Name of the trial."""
        return key_of(self.values, epochs=self.stage["epochs"]) if self.stage else key_of(self.values)


@dataclass(frozen=True)
class Past:
    """A trial that was proposed before; `row` None: it is being tried."""

    number: int
    proposal: Proposal
    row: Trial | None


class Nothing(Enum):
    """Why there is no proposal."""

    YET = "others must finish first"
    LEFT = "all has been tried that will be"


class Proposer(Protocol):
    """A method of searching."""

    def propose(self, number: int, past: Sequence[Past]) -> Proposal | Nothing:
        """Trial `number`, none of `past`; a pure function.

        Args:
            past: all others, by number.
        """
        ...


def score(row: Trial) -> float:
    """What is made best: accuracy on val, 0 to 1; below 0 what breaks limits, down to -1 for what could not be tried."""
    if row.status == "trained" and row.accuracy is not None:
        return row.accuracy
    return -row.excess / (1 + row.excess) if row.excess else -1.0


def seed_of(seed: int, number: int) -> int:
    """Seed of one proposal."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big")


class Drawing:
    """Random settings of a space, none of them twice.

    Args:
        space: what may be tried.
        hyperparameters: the same for keras-tuner, whose scales are used.
    """

    def __init__(self, space: TuneSpace, hyperparameters: keras_tuner.HyperParameters) -> None:
        self.space, self.hyperparameters = space, hyperparameters

    def new(self, seed: int, tried: Callable[[Values], bool], most: int) -> Values | None:
        """Values of the configuration; None where nothing new is found.

        Args:
            tried: whether values are known already.
            most: how many are known.
        """
        if most >= self.space.size:
            return None
        rng = np.random.default_rng(seed)
        for _ in range(_DRAWS):
            values = self.space.decoded({hp.name: hp.prob_to_value(rng.random()) for hp in self.hyperparameters.space})
            if not tried(values):
                return values
        return None


def known(past: Sequence[Past]) -> set[str]:
    """Names of the settings that were proposed, whatever their stage."""
    return {key_of(each.proposal.values) for each in past}
