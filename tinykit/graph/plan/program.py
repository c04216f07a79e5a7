"""Placement by integer programming: which of two items lies above, and in which direction the steps run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse

from tinykit.graph.plan.layout import Layout, Relation

_NODES = 100_000  # of branch and bound, times binaries; not a time limit, so that the result does not depend on how busy the machine is
_CHOICES = 500  # binary variables at most; larger programs take too long even at one node


@dataclass(frozen=True)
class _Option:
    """One way to satisfy a relation: a - b >= up, b - a >= down (in units); `flip`: the direction of the step that it takes."""

    up: int | None
    down: int | None
    flip: int | None = None


def _options(layout: Layout, r: Relation) -> list[_Option]:
    unit = layout.unit
    equal = [_Option(0, 0)] if r.equal else []
    if r.position not in layout.coupled:
        up, down = (least // unit for least in r.either)
        return [] if up + down <= 0 else [_Option(up, None), _Option(None, down), *equal]
    (up, above), (below, down) = ([least // unit for least in pair] for pair in (r.forward, r.reverse))
    options = [_Option(below, None), _Option(None, above)]
    options += [_Option(up, None, 0)] if up < below else []
    options += [_Option(None, down, 1)] if down < above else []
    return options + equal


class _Program:
    """The program of a layout. Variables: the items' offsets, the arena, then binaries; offsets in units."""

    def __init__(self, layout: Layout, ceiling: int) -> None:
        self.ceiling = ceiling
        self.sizes = [item.size // layout.unit for item in layout.items]
        self.arena = len(self.sizes)
        self.columns = self.arena + 1
        self.rows: list[tuple[dict[int, int], int]] = []  # (coefficients, lower bound)
        self.links: list[tuple[int, bool, int, int, int]] = []  # (binary, its value, upper item, lower item, least difference)
        self.flips = {p: self._binary() for p in layout.coupled}
        for i, size in enumerate(self.sizes):
            self.rows.append(({self.arena: 1, i: -1}, size))
        for r in layout.relations:
            self._relation(r, _options(layout, r))

    def _binary(self) -> int:
        self.columns += 1
        return self.columns - 1

    def _relation(self, r: Relation, options: list[_Option]) -> None:
        if not options:
            return
        if len(options) == 2:
            binary = self._binary()
            choices = [(binary, True), (binary, False)]
        else:
            choices = [(self._binary(), True) for _ in options]
            self.rows.append(({binary: 1 for binary, _ in choices}, 1))
        for option, (binary, value) in zip(options, choices):
            if option.up is not None:
                self._link(binary, value, r.a, r.b, option.up)
            if option.down is not None:
                self._link(binary, value, r.b, r.a, option.down)
            if option.flip is not None:  # binary <= flip, or binary <= 1 - flip
                flip = self.flips[r.position]
                self.rows.append(({binary: -1, flip: 1}, 0) if option.flip else ({binary: -1, flip: -1}, -1))

    def _link(self, binary: int, value: bool, upper: int, lower: int, least: int) -> None:
        """upper - lower >= least where the binary has the value; nothing else where it has not."""
        self.links.append((binary, value, upper, lower, least))
        slack = max(0, least + self.ceiling - self.sizes[lower])  # upper - lower is never below -(ceiling - size of lower)
        if value:
            self.rows.append(({upper: 1, lower: -1, binary: -slack}, least - slack))
        else:
            self.rows.append(({upper: 1, lower: -1, binary: slack}, least))

    @property
    def choices(self) -> int:
        """Number of binaries."""
        return self.columns - self.arena - 1

    def solve(self, bound: int, nodes: int) -> np.ndarray | None:
        """Values of the variables with the smallest arena found, None for none. HiGHS is deterministic for a given node limit."""
        low, high = np.zeros(self.columns), np.ones(self.columns)
        high[: self.arena] = [self.ceiling - size for size in self.sizes]
        low[self.arena], high[self.arena] = bound, self.ceiling
        entries = [(row, column, value) for row, (coefficients, _) in enumerate(self.rows) for column, value in coefficients.items()]
        rows, columns, values = (np.array(part) for part in zip(*entries))
        matrix = sparse.csr_array((values.astype(float), (rows, columns)), shape=(len(self.rows), self.columns))
        matrix.eliminate_zeros()
        cost = np.zeros(self.columns)
        cost[self.arena] = 1
        result = optimize.milp(
            cost,
            integrality=np.ones(self.columns),  # offsets too, although they follow: some releases of HiGHS fail on the mixed program
            bounds=optimize.Bounds(low, high),
            constraints=optimize.LinearConstraint(matrix, np.array([least for _, least in self.rows]), np.inf),
            options={"node_limit": nodes, "mip_rel_gap": 1e-6},
        )
        return result.x


def solve(layout: Layout, bound: int, ceiling: int, work: int = _NODES, choices: int = _CHOICES) -> list[int] | None:
    """Offsets with an arena of at most `ceiling` bytes, the smallest found; at least `bound` are known to be needed.

    Returns:
        None where there are none, none was found within `work` / binaries nodes, or the program has more than `choices` binaries.
    """
    program = _Program(layout, ceiling // layout.unit)
    if bound > ceiling or program.choices > choices or not program.choices:
        return None
    x = program.solve(bound // layout.unit, max(1, work // program.choices))
    if x is None:
        return None
    offsets = _settle(program, x)
    if offsets is None:
        return None
    placed = [o * layout.unit for o in offsets]
    return placed if layout.directions(placed) is not None and layout.arena(placed) <= ceiling else None


def _settle(program: _Program, x: np.ndarray) -> list[int] | None:
    """The lowest offsets (units) with the solution's choices: exact integers, free of the solver's tolerances."""
    links = [link[2:] for link in program.links if (x[link[0]] > 0.5) == link[1]]
    offsets = [0] * len(program.sizes)
    for _ in range(len(offsets) + 1):
        changed = False
        for upper, lower, least in links:
            if offsets[upper] < offsets[lower] + least:
                offsets[upper], changed = offsets[lower] + least, True
        if not changed:
            return offsets
    return None  # a circle: the tolerances admitted choices that contradict each other
