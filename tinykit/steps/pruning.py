"""One pruning: what it starts from, what it wants to reach, and its rounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit import atomic
from tinykit.errors import BudgetError, ConfigError, ModelError
from tinykit.recipe.step import CHECKPOINT, StepContext
from tinykit.shrink.budget import UNITS, Limits, cut, rounded_up, towards
from tinykit.shrink.channels import ChannelMap, channel_map, matching
from tinykit.shrink.costs import ENGINE, TIMED, Costs, Measure, Sizes
from tinykit.shrink.criteria import Batch, scores
from tinykit.shrink.surgery import shrink
from tinykit.steps.allocation import drawn_numbers
from tinykit.steps.fitting import rebuilds
from tinykit.steps.floats import ends_in_softmax, float_loss
from tinykit.steps.probing import OutputProbe
from tinykit.steps.teaching import fit_taught

if TYPE_CHECKING:
    import keras

    from tinykit.steps.prune import PruneOptions

_BATCH = 16
"""Samples of one gradient: the mean over many would hide what single samples need."""
_RECONSTRUCTION = 512
"""Samples that layers are reconstructed on."""
_TRIED_ON = 128
"""The same for networks that are only looked at."""


class Pruning:
    """One pruning: what it starts from, and what it wants to reach."""

    def __init__(self, model: keras.Model, options: PruneOptions, context: StepContext) -> None:
        self.options, self.context = options, context
        self.found = channel_map(model)
        self.costs = self._costs(self.found)
        everything = self.found.everything()
        wanted = options.wanted()
        self.start: dict[Measure, float] = {m: float(self.costs.exact(m, everything)) for m in wanted}
        self.goal = {m: value * self.start[m] if value < 1 else float(value) for m, value in wanted.items()}
        self.sizes = {group.layers: len(group.channels) for group in self.found.removable()}
        self.shares = self._named_shares()

    def _costs(self, found: ChannelMap) -> Costs:
        wanted = self.options.wanted()
        if not ENGINE & set(wanted):
            return Costs(found)
        from tinykit.boards.table import emulated_board
        from tinykit.engine.goal import GOALS
        from tinykit.recipe.budget import resolve_budget, storage_wish
        from tinykit.shrink.engine import engine_sizes

        config = self.context.config.config
        board = emulated_board(config.budget.board) if set(TIMED) & set(wanted) else None
        wish = storage_wish(config.engine, resolve_budget(self.context.config))
        measure = engine_sizes(board, GOALS[config.engine.optimize], wish)

        def sizes(model: keras.Model) -> Sizes:
            self.context.stop.check()
            return measure(model)

        return Costs(found, sizes)

    def _named_shares(self) -> dict[tuple[str, ...], float]:
        """Group -> the share of its channels to keep by hand; the last pattern that fits counts."""
        found: dict[tuple[str, ...], float] = {}
        problems = []
        for pattern, share in self.options.layers.items():
            groups = list(matching(self.found.groups, pattern))
            kept = [f"{group.name} ({group.kept})" for group in groups if group.kept and share < 1]
            if not groups:
                names = ", ".join(group.name for group in self.found.removable())
                problems.append(
                    f"step {self.context.label}: layers: no layer with channels of its own is called {pattern!r}; there are {names}"
                )
            if kept and not any(not group.kept for group in groups):
                problems.append(f"step {self.context.label}: layers: {pattern!r} cannot lose channels: {'; '.join(kept)}")
            found |= {group.layers: share for group in groups if not group.kept}
        if problems:
            raise ConfigError(problems)
        return found

    def check(self) -> None:
        """Raises ModelError where nothing can go, BudgetError where a target is out of reach."""
        if not self.found.removable():
            kept = "; ".join(f"{name}: {reason}" for name, reason in self.found.kept())
            raise ModelError(f"step {self.context.label}: model {self.found.model.name!r} has no channels that may go: {kept}")
        limits, alive = self._limits(self.options.rounds), self.found.everything()
        for group in self.found.removable():
            alive[group.channels[limits.fewest(group) :]] = False
        problems = []
        for measure, target in self.goal.items():
            least = self.costs.exact(measure, alive)
            if least > target:
                problems.append(
                    f"step {self.context.label}: {target:,.0f} {UNITS[measure]} are wanted, {least:,.0f} are the fewest that pruning can "
                    f"reach: raise {measure}, or lower least ({self.options.least:g}) or multiple ({self.options.multiple})"
                )
        if problems:
            raise BudgetError(problems)

    def _limits(self, number: int) -> Limits:
        """How far groups may be cut in a round."""
        done, multiple = number / self.options.rounds, self.options.multiple
        floors = {layers: math.ceil(self.options.least * size) for layers, size in self.sizes.items()}
        shares = {
            layers: min(self.sizes[layers], rounded_up(max(1, round(share**done * self.sizes[layers])), multiple))
            for layers, share in self.shares.items()
        }
        return Limits(multiple, floors, shares)

    def smaller(self, model: keras.Model, number: int) -> keras.Model:
        """The network after the cut of a round (from 1). An interrupted run makes the cut that it had made."""
        found = channel_map(model)
        file = self.context.folder / CHECKPOINT / f"cut_{number}.json"
        alive = found.everything()
        if file.is_file():
            alive[_stored(file, found)] = False
        else:
            alive = self._chosen(found, number)
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(file, {"removed": np.flatnonzero(~alive).tolist(), "channels": found.count})
        costs, everything = Costs(found), found.everything()
        gone = [f"{g.name} {len(g.channels)} -> {int(alive[g.channels].sum())}" for g in found.removable() if not alive[g.channels].all()]
        self.context.log(
            f"round {number}/{self.options.rounds}: {costs.macs(everything):,} -> {costs.macs(alive):,} MACs; channels: "
            f"{', '.join(gone) or 'none removed'}"
        )
        return self._rebuilt(found, alive)

    def _rebuilt(self, found: ChannelMap, alive: np.ndarray) -> keras.Model:
        smaller = shrink(found, alive)
        if self.options.reconstruct:
            from tinykit.shrink.reconstruct import reconstruct

            samples = (x for x, _ in self._batches(_RECONSTRUCTION))
            layers = reconstruct(found, alive, smaller, samples, self.context.seed)
            self.context.log(f"layers that make up for inputs that they lost: {layers}")
        return smaller

    def _chosen(self, found: ChannelMap, number: int) -> np.ndarray:
        costs = Costs(found, self.costs.engine)  # nothing of earlier rounds: a resumed run has not measured them
        targets = towards(self.start, self.goal, number, self.options.rounds)
        self.context.log(f"scores channels by {self.options.criterion}")
        limits = self._limits(number)
        return cut(found, self._scores(found, limits), costs, targets, limits)

    def _scores(self, found: ChannelMap, limits: Limits) -> np.ndarray:
        if self.options.criterion == "harm":
            return self._harms(found, limits)
        from keras import ops

        loss = float_loss(self.options, self.context, ends_in_softmax(found.model))
        return scores(found, self.options.criterion, self._batches(), lambda y, output: ops.mean(loss(y, output)))

    def _harms(self, found: ChannelMap, limits: Limits) -> np.ndarray:
        from tinykit.shrink.harms import harms

        probe = OutputProbe(found.model, self.context, rebuilds(self.options, self.context))
        samples = [np.concatenate([x for x, _ in self._batches(_TRIED_ON)])]
        order = scores(found, "l2", (), lambda y, output: output)
        return harms(found, order, limits, probe.harm, samples, self.context.seed, self.context.progress)

    def _batches(self, most: int | None = None) -> Iterator[Batch]:
        """Samples of the training split, drawn by the step's seed, with their targets; at most so many."""
        train = self.context.dataset.train
        chosen = drawn_numbers(self.context, min(self.options.samples, most or len(train)))
        size = min(_BATCH, len(chosen))
        for i in range(0, len(chosen) - size + 1, size):
            self.context.stop.check()
            part = chosen[i : i + size]
            x = np.asarray(self.context.chain.apply(train.x[part]), np.float32)
            yield x, x if rebuilds(self.options, self.context) else train.y[part]

    def trained(self, model: keras.Model, number: int, teachers: list[tuple[keras.Model, bool]]) -> dict[str, Any]:
        """Trains the network of a round in place."""
        last = number == self.options.rounds
        changes: dict[str, Any] = {} if last else {"schedule": "constant", "keep": "last", "patience": None, "warmup_epochs": 0.0}
        options = self.options.model_copy(update={"epochs": self.options.epochs if last else self.options.round_epochs, **changes})
        if not options.epochs:
            return {}
        own = replace(self.context, folder=self.context.folder / CHECKPOINT / f"round_{number}", seed=self.context.seed + number)
        return fit_taught(model, options, own, teachers)

    def report(self, model: keras.Model) -> dict[str, Any]:
        """Channels and costs before and after."""
        found = channel_map(model)
        now = {group.layers: len(group.channels) for group in found.removable()}
        groups = [{"layers": list(layers), "before": size, "after": now.get(layers, size)} for layers, size in self.sizes.items()]
        kept = [{"layers": name, "reason": reason} for name, reason in self.found.kept()]
        macs = {"before": Costs(self.found).macs(self.found.everything()), "after": Costs(found).macs(found.everything())}
        for row in kept:
            self.context.log(f"kept whole: {row['layers']}: {row['reason']}")
        return {"groups": groups, "kept": kept, "macs": macs}


def _stored(file: Path, found: ChannelMap) -> list[int]:
    """The channels that an interrupted run removed."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        removed, count = [int(i) for i in stored["removed"]], stored["channels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; delete {file.parent} to run the step from its beginning") from error
    if count != found.count or any(not 0 <= i < count for i in removed):
        raise ModelError(f"{file}: does not fit the model; delete {file.parent} to run the step from its beginning")
    return removed
