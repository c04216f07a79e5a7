"""The first stage: of several spaces the one whose architectures that fit do the most work.

Random architectures of each space are counted, and planned by the engine's own planner. Accuracy grows with what a network computes, so
that the better space is the one where the distribution of multiply-accumulates among networks that fit lies higher, before anything is
trained. Source: MCUNet, arXiv:2007.10319, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tinykit import atomic
from tinykit.config.search import SearchConfig
from tinykit.errors import BudgetError
from tinykit.report.spaces import spaces_page
from tinykit.report.trials import table_csv
from tinykit.search.candidates import over
from tinykit.search.costs import CostModel
from tinykit.search.gap import measured
from tinykit.search.lines import append_line, damaged, read_lines
from tinykit.search.predict import Target, estimate
from tinykit.search.twostage.spaces import Candidate

DRAWS = "draws.jsonl"
CORRECTIONS = "corrections.jsonl"
_ENOUGH = 0.05
"""Share of a space's draws that must fit, if any space has as many: evolution does not find its way where nearly nothing does."""
_QUICK_DRAWS = 3


@dataclass(frozen=True)
class Draw:
    """A random architecture of a space.

    Attributes:
        space: name of the space.
        number: of the draw, from 0.
        key: of the architecture.
        macs: multiply-accumulates.
        flash, ram: estimated bytes, see `tinykit.search.predict.estimate`; None: refused by count alone.
        violations: what it breaks, one line each.
    """

    space: str
    number: int
    key: str
    macs: int
    flash: int | None
    ram: int | None
    violations: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether it breaks nothing."""
        return not self.violations


@dataclass(frozen=True)
class Standing:
    """How a space did.

    Attributes:
        space: its name.
        draws, fit: architectures that were drawn, and that fit.
        mean, p80: multiply-accumulates of those that fit: their mean, and the value that 80 % of them do not exceed; None: none fits.
        chosen: whether this is the space that is searched.
    """

    space: str
    draws: int
    fit: int
    mean: float | None
    p80: float | None
    chosen: bool = False


def standings(draws: Sequence[Draw], names: Sequence[str], rank: Literal["mean", "p80"]) -> list[Standing]:
    """How every space did, the best first: by `rank` among spaces of which enough draws fit, then the others."""
    found = []
    for name in names:
        own = [draw for draw in draws if draw.space == name]
        macs = sorted(draw.macs for draw in own if draw.fits)
        p80 = float(macs[math.ceil(0.8 * len(macs)) - 1]) if macs else None
        found.append(Standing(name, len(own), len(macs), float(np.mean(macs)) if macs else None, p80))

    def merit(standing: Standing) -> tuple[bool, float, int]:
        value = standing.mean if rank == "mean" else standing.p80
        enough = standing.fit >= _ENOUGH * standing.draws
        return enough and value is not None, value or 0.0, -names.index(standing.space)

    ordered = sorted(found, key=merit, reverse=True)
    return [Standing(**{**asdict(each), "chosen": i == 0 and each.fit > 0}) for i, each in enumerate(ordered)]


class Choice:
    """The choice of a space; goes on after the last finished draw.

    Args:
        spaces: to choose from.
        target: what networks are built for.
        folder: keeps the draws.
        quicktest: a few draws of each.
        progress: called with (done, total); a safe point.
    """

    def __init__(
        self, spaces: Sequence[Candidate], options: SearchConfig, target: Target, folder: Path, seed: int, quicktest: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None, log: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.spaces, self.options, self.target, self.folder, self.seed = spaces, options, target, folder, seed
        self.progress, self.log = progress, log
        self.count = min(_QUICK_DRAWS, options.two_stage.draws) if quicktest else options.two_stage.draws
        folder.mkdir(parents=True, exist_ok=True)
        self.draws: dict[tuple[str, int], Draw] = {}
        for place, values in read_lines(folder / DRAWS, "draw"):
            try:
                draw = Draw(**{**values, "violations": tuple(values["violations"])})
                self.draws[draw.space, draw.number] = draw
            except (TypeError, KeyError) as error:
                raise damaged(place, "draw", error) from None
        self._corrections: dict[str, dict[str, int]] = {}
        for place, values in read_lines(folder / CORRECTIONS, "correction"):
            try:
                self._corrections[values["space"]] = {kind: int(values[kind]) for kind in ("flash", "ram")}
            except (TypeError, KeyError, ValueError) as error:
                raise damaged(place, "correction", error) from None

    def run(self) -> tuple[Candidate, list[Standing]]:
        """The best space, and how all of them did.

        Raises:
            BudgetError: no architecture of any space fits.
        """
        done, total = 0, len(self.spaces) * self.count
        for number, space in enumerate(self.spaces):
            rng = np.random.default_rng([self.seed, 2, number])
            drawn = [space.space.drawn(rng) for _ in range(self.count)]
            for index, indices in enumerate(drawn):
                if (space.name, index) not in self.draws:
                    self._add(self._draw(space, index, indices))
                done += 1
                self.progress(done, total)
        found = self.standings()
        for each in found:
            work = "" if each.mean is None else f", {each.mean:,.0f} multiply-accumulates on average, {each.p80:,.0f} at 80 %"
            self.log(
                f"space {each.space}: {each.fit} of {each.draws} random architectures fit{work}{' <- searched' if each.chosen else ''}"
            )
        if not found[0].chosen:
            raise BudgetError(self._refusal())
        return next(space for space in self.spaces if space.name == found[0].space), found

    def standings(self) -> list[Standing]:
        """How every space did so far, the best first."""
        return standings(list(self.draws.values()), [space.name for space in self.spaces], self.options.two_stage.rank)

    def rows(self) -> list[dict[str, Any]]:
        """One row a space for spaces.csv and its page, the best first."""
        by_name = {space.name: space for space in self.spaces}
        return [
            {
                "space": each.space,
                "resolution": "" if (size := by_name[each.space].resolution) is None else "x".join(map(str, size)),
                "width": by_name[each.space].width, "choices": by_name[each.space].space.size, "draws": each.draws, "fit": each.fit,
                "mean_macs": None if each.mean is None else round(each.mean), "p80_macs": None if each.p80 is None else round(each.p80),
                "chosen": each.chosen,
            }
            for each in self.standings()
        ]  # fmt: skip

    def distributions(self) -> dict[str, list[int]]:
        """Space -> multiply-accumulates of its draws that fit, ascending; the best space first."""
        draws = list(self.draws.values())
        return {each.space: sorted(d.macs for d in draws if d.space == each.space and d.fits) for each in self.standings()}

    def _add(self, draw: Draw) -> None:
        append_line(self.folder / DRAWS, asdict(draw))
        self.draws[draw.space, draw.number] = draw

    def _draw(self, candidate: Candidate, number: int, indices: Mapping[str, int]) -> Draw:
        space = candidate.space
        architecture = space.architecture(indices)
        counted = CostModel(space, self.options.weight_bits).counted(indices)
        limits: dict[str, float | None] = {
            "macs": self.options.macs,
            "flash": self.target.budget.flash,
        }  # activations overlap: what they take only a plan can say
        lines = [f"{kind}: {counted[kind]:,} counted of {limits[kind]:,}" for kind in over(counted, limits)]
        if lines:
            return Draw(candidate.name, number, architecture.key, counted["macs"], None, None, tuple(lines))
        beside = self._correction(candidate)
        planned = estimate(architecture.options(), space.input_shape, space.classes, self.target)
        sizes = {kind: planned[kind] + beside[kind] for kind in ("flash", "ram")}
        budget: dict[str, float | None] = {"flash": self.target.budget.flash, "ram": self.target.budget.ram}
        lines = [f"{kind}: {sizes[kind]:,} estimated of {budget[kind]:,}" for kind in over(sizes, budget)]
        return Draw(candidate.name, number, architecture.key, counted["macs"], sizes["flash"], sizes["ram"], tuple(lines))

    def _correction(self, candidate: Candidate) -> dict[str, int]:
        """What an image takes beyond its estimate, flash and ram: of the architecture in the middle of the space, linked and run."""
        if candidate.name not in self._corrections:
            found = measured(candidate.space, self.target).planned
            append_line(self.folder / CORRECTIONS, {"space": candidate.name, **found})
            self._corrections[candidate.name] = found
        return self._corrections[candidate.name]

    def _refusal(self) -> list[str]:
        lines = [f"search: none of the {len(self.draws)} architectures that were drawn from {len(self.spaces)} spaces fits: choose smaller "
                 "search.two_stage.resolutions or widths, smaller stages, or a larger budget"]  # fmt: skip
        for space in self.spaces[:8]:
            least = min((draw for draw in self.draws.values() if draw.space == space.name), key=lambda draw: draw.macs)
            lines.append(f"  {space.name}: the smallest drawn: {'; '.join(least.violations)}")
        return lines


def write_spaces(choice: Choice, folder: Path, title: str, quicktest: bool) -> None:
    """spaces.csv and spaces.html: what was drawn so far."""
    rows = choice.rows()
    atomic.write_text(folder / "spaces.csv", table_csv(rows))
    page = spaces_page(rows, choice.distributions(), title, choice.target.board.name, quicktest)
    atomic.write_text(folder / "spaces.html", page)
