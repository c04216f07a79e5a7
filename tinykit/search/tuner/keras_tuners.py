"""keras-tuner's methods as pure functions: its oracles propose, and are told everything they know before each proposal."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle
from threadpoolctl import threadpool_limits

from tinykit.config.tune import TuneConfig
from tinykit.errors import ConfigError
from tinykit.search.tuner.proposing import Drawing, Nothing, Past, Proposal, Proposer, known, score, seed_of
from tinykit.search.tuner.space import TuneSpace, Values, key_of

_OBJECTIVE = keras_tuner.Objective("score", "max")


class _Restored(keras_tuner.Oracle):
    """What the oracles below have in common: they forget everything and are told it again, and draw by the number of the proposal."""

    space: TuneSpace
    base_seed: int
    number = 0
    settings: set[str]

    def tell(self, number: int, past: Sequence[Past]) -> None:
        """All that is known when trial `number` is proposed."""
        self.number, self.settings = number, known(past)
        self.trials, self.ongoing_trials = {}, {}
        for each in past:
            found = self.hyperparameters.copy()
            found.values = {**self.space.encoded(each.proposal.values), **self.remembered(each)}
            trial = keras_tuner.engine.trial.Trial(found, trial_id=str(each.number))
            self.trials[trial.trial_id] = trial
            if each.row is None:
                self.ongoing_trials[trial.trial_id] = trial
            else:
                trial.status, trial.score = "COMPLETED", score(each.row)

    def remembered(self, past: Past) -> Values:
        """What else a method notes among the values of a trial."""
        return {}

    def drawn(self) -> Values | None:
        """New values of the configuration."""
        drawing = Drawing(self.space, self.hyperparameters)
        seed = seed_of(self.base_seed, self.number)
        return drawing.new(seed, lambda values: key_of(values) in self.settings, len(self.settings))

    def _random_values(self) -> Values | None:
        """keras-tuner's own draws by a state that is counted up, and takes what it has drawn in vain for the end of the space."""
        values = self.drawn()
        return None if values is None else self.space.encoded(values)


class _Random(_Restored, RandomSearchOracle):
    """Random search."""


class _Bayesian(_Restored, BayesianOptimizationOracle):
    """Bayesian optimisation with a Gaussian process."""

    def tell(self, number: int, past: Sequence[Past]) -> None:
        super().tell(number, past)
        self._random_state = np.random.RandomState(seed_of(self.base_seed, number))
        self.gpr = self._make_gpr()


class _Hyperband(_Restored, HyperbandOracle):
    """Hyperband: brackets are told from the stages of the trials."""

    def tell(self, number: int, past: Sequence[Past]) -> None:
        super().tell(number, past)
        stages = [dict(each.proposal.stage or {}) for each in past]
        numbers = {each.proposal.key: str(each.number) for each in past}
        first = self._get_num_brackets() - 1
        self._current_iteration = 0
        self._current_bracket = min((stage["bracket"] for stage in stages), default=first)
        self._brackets = []
        for bracket in range(first, self._current_bracket - 1, -1):
            rounds: list[list[dict[str, Any]]] = [[] for _ in range(self._get_num_rounds(bracket))]
            for each, stage in zip(past, stages):
                if stage["bracket"] == bracket:
                    rounds[stage["round"]].append({"past_id": numbers.get(stage["after"]), "id": str(each.number)})
            self._brackets.append({"bracket_num": bracket, "rounds": rounds})

    def schedule(self) -> tuple[int, int]:
        """(different settings, trials) of the whole schedule."""
        brackets = range(self._get_num_brackets())
        sizes = [[self._get_size(bracket, number) for number in range(self._get_num_rounds(bracket))] for bracket in brackets]
        return sum(rounds[0] for rounds in sizes), sum(map(sum, sizes))


class KerasTuner:
    """A method of keras-tuner as a Proposer.

    Args:
        oracle: one of the above, made by `proposer`.
    """

    def __init__(self, oracle: _Restored) -> None:
        self.oracle = oracle

    def propose(self, number: int, past: Sequence[Past]) -> Proposal | Nothing:
        """See Proposer."""
        self.oracle.tell(number, past)
        with warnings.catch_warnings(), threadpool_limits(1):  # matrices of a few trials: more threads only cost, and change last bits
            warnings.simplefilter("ignore")  # scikit-learn's, about bounds of a kernel that few points do not determine
            answer = self.oracle.populate_space(str(number))
        if answer["status"] == "IDLE":
            return Nothing.YET
        if answer["status"] != "RUNNING":
            return Nothing.LEFT
        proposed = answer["values"]
        proposal = Proposal(self.oracle.space.decoded(proposed), _stage(proposed, past))
        if proposal.key not in {each.proposal.key for each in past}:
            return proposal
        values = self.oracle.drawn()  # a Gaussian process may ask again for what it knows
        return Nothing.LEFT if values is None else Proposal(values)


def _stage(proposed: Values, past: Sequence[Past]) -> dict[str, Any] | None:
    """The stage of a trial of Hyperband. keras-tuner's own note of a promoted trial's bracket is that of the newest one."""
    if "tuner/epochs" not in proposed:
        return None
    parent = next((each.proposal for each in past if str(each.number) == proposed.get("tuner/trial_id")), None)
    return {
        "bracket": proposed["tuner/bracket"] if parent is None else (parent.stage or {})["bracket"],
        "round": proposed["tuner/round"],
        "epochs": proposed["tuner/epochs"],
        "first_epoch": proposed["tuner/initial_epoch"],
        "after": None if parent is None else parent.key,
    }


def proposer(tune: TuneConfig, space: TuneSpace, seed: int, epochs: int | None) -> Proposer:
    """The method that a configuration asks for.

    Args:
        seed: of the run.
        epochs: of hyperband: the most that a trial gets.

    Raises:
        ConfigError: hyperband cannot work with these parameters.
    """
    common: dict[str, Any] = {"objective": _OBJECTIVE, "hyperparameters": space.hyperparameters(), "seed": 1 + seed}  # 0 means: any
    oracle: _Restored
    if tune.method == "nsga2":
        from tinykit.search.tuner.nsga2 import Nsga2

        return Nsga2(space, tune.aims(), tune.population, seed)
    if tune.method == "random":
        oracle = _Random(max_trials=tune.trials, **common)
    elif tune.method == "bayesian":
        initial = min(3 * len(space.parameters), max(3, (tune.trials or 0) // 3))
        oracle = _Bayesian(max_trials=tune.trials, num_initial_points=initial, **common)
    else:
        if epochs is None:
            raise ConfigError(
                "tune.method: hyperband shares out the epochs of a step `train`, and the recipe has none; choose another method"
            )
        oracle = _Hyperband(max_epochs=epochs, factor=tune.factor, **common)
        settings, _ = oracle.schedule()
        if settings > space.size:
            raise ConfigError(
                f"tune.method: hyperband with {epochs} epochs and factor {tune.factor} compares {settings} different settings, and the "
                f"parameters have {space.size:.0f}: give them more values, or choose a larger factor, fewer epochs or another method"
            )
    oracle.space, oracle.base_seed = space, seed
    return KerasTuner(oracle)


def trials_of(tune: TuneConfig, made: Proposer) -> int:
    """How many trials a search has at most: as many as are asked for, the schedule of hyperband has, or are different."""
    if isinstance(made, KerasTuner) and isinstance(made.oracle, _Hyperband):
        planned = made.oracle.schedule()[1]
        return min(tune.trials or planned, planned)
    return int(min(tune.trials or 1, TuneSpace(tune.parameters).size))
