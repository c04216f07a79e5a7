"""The second stage as a whole: shared weights are trained, architectures evolve, the best one that fits wins."""

from __future__ import annotations

from collections.abc import Mapping

from tinykit.boards.table import Budget
from tinykit.search.candidates import over
from tinykit.search.space import from_options
from tinykit.search.trials import Trial
from tinykit.search.twostage.evolution import Evolution, Merit
from tinykit.search.winner import Contest

_UNLINKED = 10.0
"""Excess of what cannot be linked into the board's memory at all: more than of whatever can."""


def evolved(contest: Contest) -> list[Trial]:
    """The best trials, the best first; their networks with the shared weights are kept as model files.

    Raises:
        BudgetError: no architecture was found that fits.
    """
    from tinykit.search.twostage.oneshot import Inherited, OneShot

    net, options, context = contest.net, contest.options, contest.context
    OneShot(net, options, context).run()
    shared = Inherited(net, options, context)
    contest.judge = shared.accuracy
    context.log("evolution")

    def look(indices: dict[str, int]) -> Merit:
        limits = contest.limits()
        return merit(contest.look(indices, ""), contest.target.budget, limits)

    Evolution(net.space, options.two_stage, context.seed, look, context.quicktest, context.log).run()
    best = contest.finalists()
    for trial in best:
        shared.keep(from_options(trial.architecture))
    return best


def merit(trial: Trial, budget: Budget, limits: Mapping[str, float | None]) -> Merit:
    """How good a trial is.

    Args:
        limits: what it might count when it was looked at.
    """
    predicted = trial.predicted
    if trial.status == "trained" and predicted is not None:
        return Merit(True, trial.accuracy or 0.0, -float(predicted["cycles"] or 0))
    if predicted is None:
        return Merit(False, -sum(over(trial.counted, limits).values()), considered=False)
    if predicted["flash"] is None:
        return Merit(False, -_UNLINKED)
    allowed: dict[str, float | None] = {"flash": budget.flash, "ram": budget.ram, "instructions": budget.instructions}
    return Merit(False, -sum(over({kind: predicted[kind] or 0 for kind in allowed}, allowed).values()))
