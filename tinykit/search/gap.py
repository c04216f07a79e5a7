"""How far what is counted, and what is planned, is from a linked image and its run."""

from __future__ import annotations

from dataclasses import dataclass

from tinykit.search.costs import CostModel
from tinykit.search.predict import Target, estimate, predict
from tinykit.search.space import Space


@dataclass(frozen=True)
class Gap:
    """What one architecture takes on the board, flash and ram in bytes, beyond what is known without an image.

    Attributes:
        counted: beyond what the search counts.
        planned: beyond what is planned and generated.
    """

    counted: dict[str, int]
    planned: dict[str, int]


def measured(space: Space, target: Target) -> Gap:
    """The gap of the architecture in the middle of a space, or of its first choices where that is too large for the board; zeros where
    these are too.

    Raises:
        ConfigError: there is no compiler.
    """
    costs = CostModel(space, target.weight_bits)
    for indices in (space.middle(), {decision.name: 0 for decision in space.decisions}):
        network = space.architecture(indices).options(), space.input_shape, space.classes, target
        linked = predict(*network)
        if linked.flash is not None and linked.ram is not None:
            real = {"flash": linked.flash, "ram": linked.ram}
            known = costs.counted(indices), estimate(*network)
            return Gap(*({kind: real[kind] - sizes[kind] for kind in real} for sizes in known))
    return Gap({"flash": 0, "ram": 0}, {"flash": 0, "ram": 0})
