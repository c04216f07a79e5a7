"""The table of steps. A new one costs a file in tinykit/steps, one line here and its tests."""

import importlib
from typing import TYPE_CHECKING

from tinykit.config.catalogue import check_name
from tinykit.errors import ConfigError

if TYPE_CHECKING:
    from tinykit.recipe.step import Step

STEPS: dict[str, str] = {
    "cluster": "tinykit.steps.cluster:Cluster",
    "decompose": "tinykit.steps.decompose:Decompose",
    "distill": "tinykit.steps.distill:Distill",
    "prune": "tinykit.steps.prune:Prune",
    "ptq": "tinykit.steps.ptq:Ptq",
    "quantize": "tinykit.steps.quantize:Quantize",
    "sparsify": "tinykit.steps.sparsify:Sparsify",
    "train": "tinykit.steps.train:Train",
}
"""Step name -> 'module:Class'. Imported when first used; such a module must not import TensorFlow at its top."""


def step_names() -> list[str]:
    """Names of all steps, sorted."""
    return sorted(STEPS)


def step_class(name: str) -> "type[Step]":
    """The class of the step called `name`.

    Raises:
        ConfigError: there is no such step, or its module is not installed.
    """
    check_name("step", name, step_names())
    module_name, _, class_name = STEPS[name].partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"step {name!r} ({STEPS[name]}) cannot be loaded: {error}") from error
    found: type[Step] = getattr(module, class_name)
    return found
