"""The parameters of a tuner: as keras-tuner proposes them, as the configuration takes them, and as a number from 0 to 1 for NSGA-II."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinykit.config.loading import ResolvedConfig, with_values
from tinykit.config.tune import Parameter
from tinykit.errors import ConfigError, collected
from tinykit.recipe.registry import step_class

if TYPE_CHECKING:
    import keras_tuner

Values = dict[str, Any]
"""Key of the configuration -> value."""
_DIGITS = 6
"""Significant digits of a real value: as many as can be read, and the same after a ledger as before."""


def key_of(values: Mapping[str, Any], **more: Any) -> str:
    """Short name of a trial, equal for equal values.

    Args:
        more: what else makes it another trial.
    """
    return hashlib.sha256(json.dumps([dict(values), more], sort_keys=True).encode()).hexdigest()[:12]


class TuneSpace:
    """What may be tried.

    Lists of values are proposed by their index, so that they may hold anything; only lists of rising or falling numbers have an order.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = dict(parameters)

    @property
    def size(self) -> float:
        """How many different trials there are; infinity where a range is of real numbers."""
        return math.prod(parameter.size for parameter in self.parameters.values())

    def ordered(self, key: str) -> bool:
        """Whether neighbouring values of a parameter are alike."""
        values = self.parameters[key].values
        if values is None:
            return True
        if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
            return False
        return values in (sorted(values), sorted(values, reverse=True))

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """The space for keras-tuner, declared up front: an oracle's first answer must not come from an empty space."""
        import keras_tuner

        found = keras_tuner.HyperParameters()
        for key, parameter in self.parameters.items():
            if parameter.values is not None:
                found.Choice(key, list(range(len(parameter.values))), ordered=self.ordered(key))
            elif parameter.whole:
                found.Int(key, parameter.least, parameter.most, step=parameter.step, sampling=parameter.scale)
            else:
                found.Float(key, float(parameter.least or 0), float(parameter.most or 0), step=parameter.step, sampling=parameter.scale)
        return found

    def decoded(self, proposed: Mapping[str, Any]) -> Values:
        """What the configuration takes, for keras-tuner's values."""
        return {key: self._value(parameter, proposed[key]) for key, parameter in self.parameters.items()}

    def encoded(self, values: Mapping[str, Any]) -> Values:
        """keras-tuner's values for the configuration's; `decoded` gives the same again.

        Raises:
            ConfigError: values of another space.
        """
        if set(values) != set(self.parameters):
            raise ConfigError(f"expected values of {', '.join(self.parameters)}, got those of {', '.join(values) or 'none'}")
        return {key: self._proposal(key, parameter, values[key]) for key, parameter in self.parameters.items()}

    @staticmethod
    def _value(parameter: Parameter, proposed: Any) -> Any:
        if parameter.values is not None:
            return parameter.values[int(proposed)]
        if parameter.whole:
            return int(proposed)
        value = float(f"{float(proposed):.{_DIGITS}g}")
        return min(max(value, float(parameter.least or 0)), float(parameter.most or 0))

    @staticmethod
    def _proposal(key: str, parameter: Parameter, value: Any) -> Any:
        if parameter.values is None:
            return int(value) if parameter.whole else float(value)
        texts = [json.dumps(each, sort_keys=True) for each in parameter.values]
        text = json.dumps(value, sort_keys=True)
        if text not in texts:
            raise ConfigError(f"{key}: {text} is none of its values")
        return texts.index(text)


def check_parameters(config: ResolvedConfig) -> None:
    """Tries every value of every list and both ends of every range, one at a time, on the configuration.

    Raises:
        ConfigError: what the schema refuses, each problem once, with the line of its parameter.
    """
    tune = config.config.tune
    if tune is None:
        raise ConfigError(f"{config.source}: has no section `tune`; docs/tuning.md describes it, configs/tune_digits.yaml shows it")
    first = {key: parameter.examples()[0] for key, parameter in tune.parameters.items()}
    problems: list[str] = []
    for key, parameter in tune.parameters.items():
        for value in parameter.examples():
            with collected(ConfigError, problems):
                tried = with_values(config, {**first, key: value}, without=("tune", "search"))
                if not getattr(step_class(tried.steps[-1].name), "makes_integers", False):
                    problems.append(
                        f"{config.source}: recipe: ends with a float network; a search needs one that fits a board: add `quantize`"
                    )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
